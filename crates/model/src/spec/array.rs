//! The indexes of an array.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The indexes of an array, written `0-99` or `0-99:5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ArrayRange {
    pub first: u32,
    pub last: u32,
    pub step: u32,
}

impl ArrayRange {
    pub fn len(self) -> u32 {
        // 0-4294967295 has one more than a u32 holds; limits refuse it long before that matters.
        ((self.last - self.first) / self.step).saturating_add(1)
    }

    pub fn is_empty(self) -> bool {
        false
    }

    pub fn index(self, position: u32) -> u32 {
        self.first + position * self.step
    }

    /// The position of an index, if the array has it.
    pub fn position(self, index: u32) -> Option<u32> {
        let inside =
            self.first <= index && index <= self.last && (index - self.first).is_multiple_of(self.step);
        inside.then(|| (index - self.first) / self.step)
    }
}

impl fmt::Display for ArrayRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)?;
        if self.step == 1 { Ok(()) } else { write!(f, ":{}", self.step) }
    }
}

impl FromStr for ArrayRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (range, step) = text.split_once(':').unwrap_or((text, "1"));
            let (first, last) = range.split_once('-')?;
            let range =
                ArrayRange { first: first.parse().ok()?, last: last.parse().ok()?, step: step.parse().ok()? };
            (range.first <= range.last && range.step > 0).then_some(range)
        };
        parse().ok_or_else(|| format!("`{text}` is not an array range such as 0-99 or 0-99:5"))
    }
}

read_from_text!(ArrayRange);

impl Serialize for ArrayRange {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
