//! Values in EDN, as Jepsen writes its histories, and back.

use std::borrow::Cow;
use std::fmt;

type Word = Cow<'static, str>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edn {
    Nil,
    Bool(bool),
    Int(i64),
    Text(String),
    Keyword(Word),
    Vector(Vec<Edn>),
    /// Keys are keywords, in the order in which they were written.
    Map(Vec<(Word, Edn)>),
}

impl Edn {
    pub fn text(value: impl fmt::Display) -> Edn {
        Edn::Text(value.to_string())
    }

    pub fn int(value: u64) -> Edn {
        Edn::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }

    pub fn key(word: impl Into<Word>) -> Edn {
        Edn::Keyword(word.into())
    }

    pub fn map(pairs: Vec<(&'static str, Edn)>) -> Edn {
        Edn::Map(pairs.into_iter().map(|(key, value)| (Word::Borrowed(key), value)).collect())
    }

    /// What a map has under this key.
    pub fn get(&self, key: &str) -> Option<&Edn> {
        let Edn::Map(pairs) = self else { return None };
        pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    pub fn as_u64(&self) -> Option<u64> {
        let Edn::Int(value) = self else { return None };
        u64::try_from(*value).ok()
    }

    /// The text, or the keyword without its colon.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Edn::Text(text) => Some(text),
            Edn::Keyword(word) => Some(word),
            Edn::Nil | Edn::Bool(_) | Edn::Int(_) | Edn::Vector(_) | Edn::Map(_) => None,
        }
    }

    pub fn items(&self) -> &[Edn] {
        if let Edn::Vector(items) = self { items } else { &[] }
    }
}

impl fmt::Display for Edn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Edn::Nil => f.write_str("nil"),
            Edn::Bool(value) => write!(f, "{value}"),
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

/// Reads one value. An error says at which byte it cannot be read on.
pub fn parse(text: &str) -> Result<Edn, String> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value()?;
    reader.skip();
    if reader.at < text.len() { Err(reader.error("the end")) } else { Ok(value) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn error(&self, expected: &str) -> String {
        format!("at byte {}: expected {expected}", self.at)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    /// Commas are white space in EDN.
    fn skip(&mut self) {
        while let Some(c) = self.peek().filter(|c| c.is_whitespace() || *c == ',') {
            self.at += c.len_utf8();
        }
    }

    fn value(&mut self) -> Result<Edn, String> {
        self.skip();
        match self.peek() {
            Some('"') => self.quoted(),
            Some('[') => Ok(Edn::Vector(self.list(']')?)),
            Some('{') => self.pairs(),
            Some(_) => self.word(),
            None => Err(self.error("a value")),
        }
    }

    fn list(&mut self, end: char) -> Result<Vec<Edn>, String> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.skip();
            match self.peek() {
                Some(c) if c == end => {
                    self.at += 1;
                    return Ok(items);
                }
                Some(_) => items.push(self.value()?),
                None => return Err(self.error(&end.to_string())),
            }
        }
    }

    fn pairs(&mut self) -> Result<Edn, String> {
        let mut items = self.list('}')?.into_iter();
        let mut pairs = Vec::new();
        while let Some(key) = items.next() {
            let (Edn::Keyword(key), Some(value)) = (key, items.next()) else {
                return Err(self.error("pairs of a keyword and a value before here"));
            };
            pairs.push((key, value));
        }
        Ok(Edn::Map(pairs))
    }

    fn word(&mut self) -> Result<Edn, String> {
        let is_end = |c: char| c.is_whitespace() || "[]{}\",".contains(c);
        let rest = &self.text[self.at..];
        let word = &rest[..rest.find(is_end).unwrap_or(rest.len())];
        let value = match word {
            "nil" => Edn::Nil,
            "true" => Edn::Bool(true),
            "false" => Edn::Bool(false),
            _ => match (word.strip_prefix(':'), word.parse()) {
                (Some(word), _) if !word.is_empty() => Edn::key(word.to_owned()),
                (None, Ok(number)) => Edn::Int(number),
                _ => return Err(self.error("a value")),
            },
        };
        self.at += word.len();
        Ok(value)
    }

    fn quoted(&mut self) -> Result<Edn, String> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let c = self.next("the end of a text")?;
            match c {
                '"' => return Ok(Edn::Text(text)),
                '\\' => {
                    let escaped = self.escaped()?;
                    text.push(escaped);
                }
                c => text.push(c),
            }
        }
    }

    fn next(&mut self, expected: &str) -> Result<char, String> {
        let c = self.peek().ok_or_else(|| self.error(expected))?;
        self.at += c.len_utf8();
        Ok(c)
    }

    fn escaped(&mut self) -> Result<char, String> {
        Ok(match self.next("an escape")? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'u' => {
                let digits = self.text.get(self.at..self.at + 4).ok_or_else(|| self.error("four digits"))?;
                let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                self.at += 4;
                code.ok_or_else(|| self.error("the number of a character before here"))?
            }
            c => c,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_one_line_that_a_reader_of_edn_takes() {
        let value = Edn::Vector(vec![Edn::text("a \"b\"\n"), Edn::Int(-1), Edn::Nil]);
        let map = Edn::map(vec![("type", Edn::key("ok")), ("value", value)]);
        assert_eq!(map.to_string(), "{:type :ok :value [\"a \\\"b\\\"\\n\" -1 nil]}");
    }

    #[test]
    fn what_was_written_is_read_back() {
        let inner = Edn::Vector(vec![Edn::text("ä \\ \"x\"\t\u{1}"), Edn::Bool(true), Edn::Map(Vec::new())]);
        let map =
            Edn::map(vec![("a-b", inner), ("n", Edn::Int(-7)), ("k", Edn::key("word")), ("z", Edn::Nil)]);
        assert_eq!(parse(&map.to_string()), Ok(map.clone()));
        assert_eq!(map.get("k").and_then(Edn::as_str), Some("word"));
        assert_eq!(parse(" [1, 2] "), Ok(Edn::Vector(vec![Edn::Int(1), Edn::Int(2)])));
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        for (text, at) in [("[1 2", 4), ("{:a}", 4), ("\"ab", 3), ("nix", 0), ("1 2", 2), ("", 0), (":", 0)] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(&format!("at byte {at}:")), "{text}: {error}");
        }
    }
}
