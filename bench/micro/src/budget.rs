//! Committed instruction counts, and what a new count means beside them.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Percent of its budget above which a count fails.
pub const PERCENT_MAX: u64 = 110;
/// Percent of its budget below which the budget is worth lowering.
pub const PERCENT_MIN: u64 = 90;

/// Instructions by load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budgets(pub BTreeMap<String, u64>);

#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("not TOML")]
    Toml(#[from] toml::de::Error),
    #[error("the budget of {name} is not a number of instructions")]
    Number { name: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Within,
    /// It costs so much less that the budget should follow.
    Loose,
    Exceeded,
    Missing,
}

impl Verdict {
    pub fn is_failure(self) -> bool {
        matches!(self, Verdict::Exceeded | Verdict::Missing)
    }
}

impl Budgets {
    pub fn parse(text: &str) -> Result<Budgets, Unreadable> {
        let table: toml::Table = text.parse()?;
        let number = |(name, value): (String, toml::Value)| {
            let count = value.as_integer().and_then(|count| u64::try_from(count).ok());
            count.map(|count| (name.clone(), count)).ok_or(Unreadable::Number { name })
        };
        Ok(Budgets(table.into_iter().map(number).collect::<Result<_, _>>()?))
    }

    pub fn format(&self) -> String {
        let mut text = String::from(HEADER);
        for (name, count) in &self.0 {
            writeln!(text, "{name} = {}", grouped(*count, '_')).expect("a String takes everything");
        }
        text
    }

    pub fn judge(&self, name: &str, counted: u64) -> Verdict {
        let Some(budget) = self.0.get(name) else { return Verdict::Missing };
        if counted * 100 > budget * PERCENT_MAX {
            Verdict::Exceeded
        } else if counted * 100 < budget * PERCENT_MIN {
            Verdict::Loose
        } else {
            Verdict::Within
        }
    }
}

const HEADER: &str = "\
# Instructions of each load, counted by callgrind on x86-64. Written by `scripts/budgets --update`; 10 % more fails in CI.
";

/// `1234567` as `1_234_567`.
pub fn grouped(number: u64, separator: char) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(separator);
        }
        text.push(digit);
    }
    text
}
