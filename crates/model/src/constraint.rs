//! Where a task may run, as tests on the labels of a worker.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The label of a worker that says where others reach what it runs: a name or an IPv4 address.
pub const LABEL_ADDRESS: &str = "address";

/// One test. Written `zone=eu`, `zone!=eu`, `zone in (eu,us)`, `zone notin (eu,us)`, `ssd` (has the label),
/// `!ssd` (has it not). A worker without the label passes `!=` and `notin`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Constraint {
    Equals { label: String, value: String },
    Differs { label: String, value: String },
    OneOf { label: String, values: Vec<String> },
    NoneOf { label: String, values: Vec<String> },
    Has { label: String },
    HasNot { label: String },
}

impl Constraint {
    pub fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Constraint::Equals { label, value } => labels.get(label) == Some(value),
            Constraint::Differs { label, value } => labels.get(label) != Some(value),
            Constraint::OneOf { label, values } => labels.get(label).is_some_and(|v| values.contains(v)),
            Constraint::NoneOf { label, values } => labels.get(label).is_none_or(|v| !values.contains(v)),
            Constraint::Has { label } => labels.contains_key(label),
            Constraint::HasNot { label } => !labels.contains_key(label),
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Constraint::Equals { label, value } => write!(f, "{label}={value}"),
            Constraint::Differs { label, value } => write!(f, "{label}!={value}"),
            Constraint::OneOf { label, values } => write!(f, "{label} in ({})", values.join(",")),
            Constraint::NoneOf { label, values } => write!(f, "{label} notin ({})", values.join(",")),
            Constraint::Has { label } => f.write_str(label),
            Constraint::HasNot { label } => write!(f, "!{label}"),
        }
    }
}

/// Whether a text may name a label or be its value.
pub fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
}

fn label(text: &str) -> Option<String> {
    let text = text.trim();
    is_label(text).then(|| text.to_owned())
}

fn values(text: &str) -> Option<Vec<String>> {
    let list = text.trim().strip_prefix('(')?.strip_suffix(')')?;
    list.split(',').map(label).collect()
}

fn parse(text: &str) -> Option<Constraint> {
    let text = text.trim();
    if let Some((left, right)) = text.split_once("!=") {
        return Some(Constraint::Differs { label: label(left)?, value: label(right)? });
    }
    if let Some((left, right)) = text.split_once('=') {
        return Some(Constraint::Equals { label: label(left)?, value: label(right)? });
    }
    if let Some((left, right)) = text.split_once(" notin ") {
        return Some(Constraint::NoneOf { label: label(left)?, values: values(right)? });
    }
    if let Some((left, right)) = text.split_once(" in ") {
        return Some(Constraint::OneOf { label: label(left)?, values: values(right)? });
    }
    match text.strip_prefix('!') {
        Some(rest) => Some(Constraint::HasNot { label: label(rest)? }),
        None => Some(Constraint::Has { label: label(text)? }),
    }
}

impl FromStr for Constraint {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).ok_or_else(|| {
            format!("`{text}` is not a constraint such as zone=eu, zone!=eu, zone in (eu,us), ssd or !ssd")
        })
    }
}

impl Serialize for Constraint {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Constraint {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_reads_writes_and_decides() {
        let labels = BTreeMap::from([("zone".to_owned(), "eu".to_owned())]);
        let cases = [
            ("zone=eu", true),
            ("zone!=eu", false),
            ("zone in (us,eu)", true),
            ("zone notin (us,eu)", false),
            ("zone", true),
            ("!zone", false),
            ("disk!=hdd", true),
        ];
        for (text, holds) in cases {
            let constraint: Constraint = text.parse().unwrap();
            assert_eq!(constraint.to_string(), text);
            assert_eq!(constraint.holds(&labels), holds, "{text}");
        }
        for bad in ["", "=x", "zone in eu", "a b", "!"] {
            assert!(bad.parse::<Constraint>().is_err(), "{bad}");
        }
    }
}
