//! A job file as a tree whose nodes know where they stand. YAML, TOML and JSON read into the same tree, so that
//! every later check is written once and every error has a line and a column.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use toml::de::{DeTable, DeValue};

use super::Format;

/// Line and column, both from 1; columns count characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub at: Position,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Text(String),
    /// A number or a flag. `word` is how it was written, which in YAML may stand for a text.
    Plain {
        json: serde_json::Value,
        word: Option<String>,
    },
    List(Vec<Node>),
    Table(Vec<(Key, Node)>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    pub at: Position,
    pub name: String,
}

/// Why a text is not YAML, TOML or JSON at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    pub at: Position,
    pub message: String,
}

impl Value {
    /// What it is, in words.
    pub fn noun(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Text(_) => "a text",
            Value::Plain { json: serde_json::Value::Bool(_), .. } => "a flag",
            Value::Plain { .. } => "a number",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

pub fn parse(text: &str, format: Format) -> Result<Node, SyntaxError> {
    match format {
        Format::Yaml => parse_yaml(text, true),
        Format::Json => parse_json(text),
        Format::Toml => parse_toml(text),
    }
}

fn parse_json(text: &str) -> Result<Node, SyntaxError> {
    // JSON is YAML too: the JSON reader judges the syntax, the YAML reader knows the places.
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| {
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        SyntaxError { at: Position { line: error.line(), column: error.column() }, message }
    })?;
    parse_yaml(text, false)
}

fn parse_yaml(text: &str, words: bool) -> Result<Node, SyntaxError> {
    let raw: Raw = serde_saphyr::from_str(text).map_err(|error| {
        let at = error.location().map(position).unwrap_or(Position { line: 1, column: 1 });
        let message = error.without_snippet().to_string();
        let message = message.lines().next().unwrap_or_default();
        let message = message.split(" at line ").next().unwrap_or(message);
        SyntaxError { at, message: message.to_owned() }
    })?;
    Ok(raw.node(text, words))
}

fn position(location: serde_saphyr::Location) -> Position {
    Position { line: location.line().max(1) as usize, column: location.column().max(1) as usize }
}

/// A YAML node with its span, as the reader gives it.
#[derive(Deserialize)]
#[serde(transparent)]
struct Raw(Spanned<RawValue>);

enum RawValue {
    Null,
    Text(String),
    Plain(serde_json::Value),
    List(Vec<Raw>),
    Table(Vec<(Spanned<String>, Raw)>),
}

impl Raw {
    fn node(self, source: &str, words: bool) -> Node {
        let Spanned { value, referenced, defined, .. } = self.0;
        let value = match value {
            RawValue::Null => Value::Null,
            RawValue::Text(text) => Value::Text(text),
            RawValue::Plain(json) => {
                let word = if words { slice(source, defined) } else { None };
                Value::Plain { json, word }
            }
            RawValue::List(list) => {
                Value::List(list.into_iter().map(|raw| raw.node(source, words)).collect())
            }
            RawValue::Table(table) => Value::Table(
                table
                    .into_iter()
                    .map(|(key, raw)| {
                        (Key { at: position(key.referenced), name: key.value }, raw.node(source, words))
                    })
                    .collect(),
            ),
        };
        Node { at: position(referenced), value }
    }
}

fn slice(source: &str, location: serde_saphyr::Location) -> Option<String> {
    let from = usize::try_from(location.span().byte_offset()?).ok()?;
    let len = usize::try_from(location.span().byte_len()?).ok()?;
    source.get(from..from + len).map(|word| word.trim().to_owned())
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_none<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<RawValue, D::Error> {
        d.deserialize_any(RawVisitor)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<RawValue, E> {
        Ok(RawValue::Plain(flag.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<RawValue, E> {
        Ok(RawValue::Plain(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<RawValue, E> {
        Ok(RawValue::Plain(number.into()))
    }

    fn visit_i128<E>(self, number: i128) -> Result<RawValue, E> {
        Ok(RawValue::Plain((number as f64).into()))
    }

    fn visit_u128<E>(self, number: u128) -> Result<RawValue, E> {
        Ok(RawValue::Plain((number as f64).into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<RawValue, E> {
        Ok(RawValue::Plain(number.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawValue, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(RawValue::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawValue, A::Error> {
        let mut table = Vec::new();
        while let Some(entry) = map.next_entry()? {
            table.push(entry);
        }
        Ok(RawValue::Table(table))
    }
}

fn parse_toml(text: &str) -> Result<Node, SyntaxError> {
    let places = Places::of(text);
    let table = DeTable::parse(text).map_err(|error| SyntaxError {
        at: places.at(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    let at = places.at(table.span().start);
    Ok(Node { at, value: toml_table(table.get_ref(), &places) })
}

fn toml_table(table: &DeTable<'_>, places: &Places<'_>) -> Value {
    let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let name = <std::borrow::Cow<'_, str> as AsRef<str>>::as_ref(key.get_ref()).to_owned();
        let node = Node { at: places.at(value.span().start), value: toml_value(value.get_ref(), places) };
        (Key { at: places.at(key.span().start), name }, node)
    };
    Value::Table(table.iter().map(entry).collect())
}

fn toml_value(value: &DeValue<'_>, places: &Places<'_>) -> Value {
    let plain = |json| Value::Plain { json, word: None };
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => plain(number.into()),
            Err(_) => Value::Text(integer.as_str().to_owned()),
        },
        DeValue::Float(float) => plain(float.as_str().parse::<f64>().unwrap_or(f64::NAN).into()),
        DeValue::Boolean(flag) => plain((*flag).into()),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(array) => Value::List(
            array
                .iter()
                .map(|item| Node {
                    at: places.at(item.span().start),
                    value: toml_value(item.get_ref(), places),
                })
                .collect(),
        ),
        DeValue::Table(table) => toml_table(table, places),
    }
}

/// Turns byte offsets into positions.
struct Places<'a> {
    text: &'a str,
    /// Offset of the first byte of each line.
    lines: Vec<usize>,
}

impl<'a> Places<'a> {
    fn of(text: &'a str) -> Places<'a> {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset + 1);
        Places { text, lines: std::iter::once(0).chain(ends).collect() }
    }

    fn at(&self, offset: usize) -> Position {
        let line = self.lines.partition_point(|first| *first <= offset);
        let first = self.lines[line - 1];
        let before = self.text.get(first..offset.min(self.text.len())).unwrap_or_default();
        Position { line, column: before.chars().count() + 1 }
    }
}

/// The node at a path such as `tasks[2].after[0]`, or the nearest above it that exists.
pub fn find<'a>(root: &'a Node, path: &str) -> &'a Node {
    let mut node = root;
    for step in path.split('.').flat_map(|part| part.split('[')).map(|part| part.trim_end_matches(']')) {
        let next = match &node.value {
            Value::Table(table) => table.iter().find(|(key, _)| key.name == step).map(|(_, node)| node),
            Value::List(list) => step.parse::<usize>().ok().and_then(|place| list.get(place)),
            Value::Null | Value::Text(_) | Value::Plain { .. } => None,
        };
        match next {
            Some(next) => node = next,
            None => break,
        }
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize, column: usize) -> Position {
        Position { line, column }
    }

    #[test]
    fn all_three_formats_know_their_places() {
        let yaml = parse("job: a\ntasks:\n  - name: x\n    after: [y]\n", Format::Yaml).unwrap();
        assert_eq!(find(&yaml, "tasks[0].after[0]").at, at(4, 13));
        let json = parse("{\"job\":\"a\",\n\t\"tasks\": [{\"name\": \"x\"}]}", Format::Json).unwrap();
        assert_eq!(find(&json, "tasks[0].name").at, at(2, 21));
        let toml = parse("job = \"a\"\n[[tasks]]\nname = \"x\"\nafter = [\"y\"]\n", Format::Toml).unwrap();
        assert_eq!(find(&toml, "tasks[0].after[0]").at, at(4, 10));
    }

    #[test]
    fn a_path_that_does_not_exist_leads_to_what_is_above_it() {
        let yaml = parse("tasks:\n  - name: x\n", Format::Yaml).unwrap();
        assert_eq!(find(&yaml, "tasks[0].retry.max").at, find(&yaml, "tasks[0]").at);
    }

    #[test]
    fn syntax_errors_have_a_place() {
        assert_eq!(parse("job: a\n- b\n", Format::Yaml).unwrap_err().at.line, 2);
        assert_eq!(parse("{\"job\": }", Format::Json).unwrap_err().at, at(1, 9));
        assert_eq!(parse("job = \nx = 1", Format::Toml).unwrap_err().at.line, 1);
    }

    #[test]
    fn in_yaml_a_plain_word_keeps_its_spelling() {
        let yaml = parse("run: [sleep, 1.50, true]", Format::Yaml).unwrap();
        let Value::Plain { word, .. } = &find(&yaml, "run[1]").value else { panic!("a number") };
        assert_eq!(word.as_deref(), Some("1.50"));
        let Value::Plain { word, .. } = &find(&yaml, "run[2]").value else { panic!("a flag") };
        assert_eq!(word.as_deref(), Some("true"));
    }
}
