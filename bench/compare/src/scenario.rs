//! Reads what `baton bench WHAT -o json` prints: JSON values, each a figure or an array of figures. Pure.

use serde::Deserialize;

use crate::fault::Fault;

/// One figure of Baton's. What it has beside this is not needed here.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Scenario {
    pub scenario: String,
    pub unit: String,
    pub median: f64,
    /// Tasks that were accepted and did not end well.
    #[serde(default)]
    pub lost: u64,
    #[serde(default)]
    pub settings: Settings,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Settings {
    pub in_flight: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Printed {
    One(Scenario),
    Many(Vec<Scenario>),
}

/// All figures of one output.
pub fn parse(text: &str) -> Result<Vec<Scenario>, Fault> {
    let mut figures = Vec::new();
    for printed in serde_json::Deserializer::from_str(text).into_iter::<Printed>() {
        let printed = printed.map_err(|error| {
            Fault::new("cannot read what `baton bench` printed").because(error).fix(
                "this harness reads objects with scenario, unit, median, lost and settings; use the baton built from \
                 the same commit",
            )
        })?;
        match printed {
            Printed::One(figure) => figures.push(figure),
            Printed::Many(many) => figures.extend(many),
        }
    }
    Ok(figures)
}

/// The median of the figure that is asked for. One that lost a task is none.
pub fn median(figures: &[Scenario], scenario: &str, in_flight: Option<u64>) -> Result<f64, Fault> {
    let is_asked = |figure: &&Scenario| {
        figure.scenario == scenario && (in_flight.is_none() || figure.settings.in_flight == in_flight)
    };
    let named =
        in_flight.map_or_else(|| scenario.to_owned(), |flight| format!("{scenario}, {flight} in flight"));
    let Some(figure) = figures.iter().find(is_asked) else {
        return Err(Fault::new(format!("`baton bench {scenario}` gave no figure for {named}")));
    };
    if figure.lost > 0 {
        let text =
            format!("`baton bench {scenario}` lost {} tasks of {named}: it gives no figure", figure.lost);
        return Err(Fault::new(text).fix("read what it says on standard error; a lost task is a bug"));
    }
    if !(figure.median.is_finite() && figure.median > 0.0) {
        return Err(Fault::new(format!("`baton bench {scenario}` says {} {}", figure.median, figure.unit)));
    }
    Ok(figure.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(flight: u64, median: f64, lost: u64) -> String {
        format!(
            r#"{{"scenario":"submit","unit":"jobs/s","median":{median},"min":1.0,"max":2,"p50_ms":0.1,"p99_ms":null,
            "tasks":20000,"lost":{lost},"settings":{{"in_flight":{flight},"replicas":3}}}}"#
        )
    }

    #[test]
    fn lines_and_arrays_are_read_alike() {
        let (a, b) = (one(1, 645.0, 0), one(64, 13_600.5, 0));
        let lines = parse(&format!("{a}\n{b}\n")).unwrap();
        let array = parse(&format!("[{a},{b}]")).unwrap();
        assert_eq!(lines, array);
        assert_eq!(median(&lines, "submit", Some(64)), Ok(13_600.5));
        assert_eq!(median(&lines, "submit", None), Ok(645.0));
    }

    #[test]
    fn a_figure_without_settings_is_read() {
        let figures = parse(r#"{"scenario":"noop","unit":"tasks/s","median":9.7e6}"#).unwrap();
        assert_eq!(median(&figures, "noop", None), Ok(9.7e6));
    }

    #[test]
    fn a_lost_task_is_no_figure() {
        let figures = parse(&one(64, 13_600.0, 1)).unwrap();
        let fault = median(&figures, "submit", Some(64)).unwrap_err().to_string();
        assert!(fault.contains("lost 1 tasks"), "{fault}");
    }

    #[test]
    fn what_is_missing_is_said() {
        let figures = parse(&one(1, 645.0, 0)).unwrap();
        let fault = median(&figures, "submit", Some(64)).unwrap_err().to_string();
        assert!(fault.contains("no figure for submit, 64 in flight"), "{fault}");
        assert!(median(&figures, "noop", None).is_err());
        assert!(parse(r#"{"figures":[]}"#).unwrap_err().to_string().contains("same commit"));
        assert!(parse("warming up").is_err());
        assert!(median(&parse(&one(1, 0.0, 0)).unwrap(), "submit", None).is_err());
    }
}
