//! What the model needs of a command, a reply or an event, read off their JSON.

use serde_json::Value;

/// The number of an id such as `j12` or `s3`.
pub fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim_start_matches(|c: char| c.is_ascii_alphabetic()).parse().ok(),
        _ => None,
    }
}

/// The one variant that an enum's JSON shows, and what is in it.
pub fn variant(value: &Value) -> (&str, &Value) {
    match value {
        Value::String(name) => (name, &Value::Null),
        Value::Object(map) => {
            map.iter().next().map_or(("", &Value::Null), |(name, value)| (name.as_str(), value))
        }
        _ => ("", &Value::Null),
    }
}

/// A run of task numbers: first and one behind the last.
pub fn run(value: &Value) -> Option<std::ops::Range<u64>> {
    let first = value.get("first")?.as_u64()?;
    Some(first..first + value.get("len")?.as_u64()?)
}

/// An amount of cores in thousandths: `1`, `0.5`, `"0.5"`, `"500m"`.
pub fn thousandths(value: &Value) -> u64 {
    let cores = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.strip_suffix('m') {
            Some(thousandths) => thousandths.parse::<f64>().ok().map(|value| value / 1_000.0),
            None => text.parse().ok(),
        },
        _ => None,
    };
    cores.map_or(0, |cores| (cores * 1_000.0).round() as u64)
}

/// How many members a range such as `0-7` or `0-99:5` has.
pub fn members(text: &str) -> Option<u64> {
    let (range, step) = text.split_once(':').unwrap_or((text, "1"));
    let (first, last) = range.split_once('-')?;
    let (first, last, step): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, step.parse().ok()?);
    (step > 0 && first <= last).then(|| (last - first) / step + 1)
}

pub fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array);
    items.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_forms_of_the_log_are_read() {
        assert_eq!(
            (number(&json!("j12")), number(&json!(7)), number(&json!(null))),
            (Some(12), Some(7), None)
        );
        assert_eq!(variant(&json!("tick")).0, "tick");
        assert_eq!(variant(&json!({"submitted": {"job": "j1"}})), ("submitted", &json!({"job": "j1"})));
        assert_eq!(run(&json!({"first": 2, "len": 3})), Some(2..5));
        assert_eq!(
            [json!(0.5), json!("2"), json!("250m")].map(|value| thousandths(&value)),
            [500, 2_000, 250]
        );
        assert_eq!((members("0-7"), members("0-99:5"), members("x")), (Some(8), Some(20), None));
    }
}
