//! Values in EDN, as Jepsen writes its histories.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edn {
    Nil,
    Int(i64),
    Text(String),
    Keyword(&'static str),
    Vector(Vec<Edn>),
    Map(Vec<(&'static str, Edn)>),
}

impl Edn {
    pub fn text(value: impl fmt::Display) -> Edn {
        Edn::Text(value.to_string())
    }

    pub fn int(value: u64) -> Edn {
        Edn::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Edn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Edn::Nil => f.write_str("nil"),
            Edn::Int(value) => write!(f, "{value}"),
            Edn::Text(text) => quote(text, f),
            Edn::Keyword(word) => write!(f, ":{word}"),
            Edn::Vector(items) => {
                f.write_str("[")?;
                for (place, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if place > 0 { " " } else { "" })?;
                }
                f.write_str("]")
            }
            Edn::Map(pairs) => {
                f.write_str("{")?;
                for (place, (key, value)) in pairs.iter().enumerate() {
                    write!(f, "{}:{key} {value}", if place > 0 { " " } else { "" })?;
                }
                f.write_str("}")
            }
        }
    }
}

fn quote(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_one_line_that_a_reader_of_edn_takes() {
        let value = Edn::Vector(vec![Edn::text("a \"b\"\n"), Edn::Int(-1), Edn::Nil]);
        let map = Edn::Map(vec![("type", Edn::Keyword("ok")), ("value", value)]);
        assert_eq!(map.to_string(), r#"{:type :ok :value ["a \"b\"\n" -1 nil]}"#);
    }
}
