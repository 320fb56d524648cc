//! Walks a job file's tree along the schema: collects every problem with its place, reads the files that `from`
//! names, and builds the JSON that the model reads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::resources::parse_amount;
use model::validate::nearest;
use serde_json::{Map, Value as Json};

use super::schema::{BLOB, FILE, Field, JOB, KINDS, SOURCES, Shape, TASK};
use super::tree::{Node, Position, Value};

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub at: Position,
    /// `tasks[2].retry.max`; empty for the whole file.
    pub path: String,
    pub message: String,
}

/// Reads a file that `from` names; an error says why not.
pub type ReadFile<'a> = &'a dyn Fn(&str) -> Result<Vec<u8>, String>;

/// The job as JSON, without what is wrong in it, and all problems.
pub fn check(root: &Node, read: ReadFile<'_>) -> (Json, Vec<Problem>) {
    let mut walk = Walk { problems: Vec::new(), read };
    let json = walk.table(root, "", JOB);
    (json.unwrap_or(Json::Null), walk.problems)
}

struct Walk<'a> {
    problems: Vec<Problem>,
    read: ReadFile<'a>,
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl Walk<'_> {
    fn refuse(&mut self, at: Position, path: &str, message: impl Into<String>) {
        self.problems.push(Problem { at, path: path.to_owned(), message: message.into() });
    }

    fn expected(&mut self, node: &Node, path: &str, what: &str) -> Option<Json> {
        self.refuse(node.at, path, format!("expected {what}, found {}", node.value.noun()));
        None
    }

    /// `None` where it is wrong; the problem has been noted.
    fn value(&mut self, node: &Node, path: &str, shape: &Shape) -> Option<Json> {
        match shape {
            Shape::Text => self.text(node, path).map(Json::from),
            Shape::Checked(check) => self.checked(node, path, *check),
            Shape::OneOf(words) => self.one_of(node, path, words),
            Shape::Integer { min, max } => self.integer(node, path, *min, *max),
            Shape::Flag => match &node.value {
                Value::Plain { json: json @ Json::Bool(_), .. } => Some(json.clone()),
                _ => self.expected(node, path, "true or false"),
            },
            Shape::List(item) => self.list(node, path, item),
            Shape::Map(item) => self.map(node, path, item),
            Shape::Table(fields) => self.table(node, path, fields),
            Shape::Resources => self.resources(node, path),
            Shape::TextOr(fields) => match &node.value {
                Value::Table(_) => self.table(node, path, fields),
                _ => self.text(node, path).map(Json::from),
            },
        }
    }

    fn text(&mut self, node: &Node, path: &str) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Plain { word: Some(word), .. } => Some(word.clone()),
            Value::Null | Value::Plain { word: None, .. } | Value::List(_) | Value::Table(_) => {
                self.expected(node, path, "a text");
                None
            }
        }
    }

    fn checked(&mut self, node: &Node, path: &str, check: fn(&str) -> Result<(), String>) -> Option<Json> {
        let text = self.text(node, path)?;
        match check(&text) {
            Ok(()) => Some(text.into()),
            Err(message) => {
                self.refuse(node.at, path, message);
                None
            }
        }
    }

    fn one_of(&mut self, node: &Node, path: &str, words: &[&str]) -> Option<Json> {
        let text = self.text(node, path)?;
        if words.contains(&text.as_str()) {
            return Some(text.into());
        }
        self.refuse(node.at, path, format!("`{text}` is not one of {}", words.join(", ")));
        None
    }

    fn integer(&mut self, node: &Node, path: &str, min: i64, max: i64) -> Option<Json> {
        let Value::Plain { json: Json::Number(number), .. } = &node.value else {
            return self.expected(node, path, "a whole number");
        };
        match number.as_i64().filter(|number| (min..=max).contains(number)) {
            Some(number) => Some(number.into()),
            None => {
                self.refuse(node.at, path, format!("{number} is not a whole number from {min} to {max}"));
                None
            }
        }
    }

    fn list(&mut self, node: &Node, path: &str, item: &Shape) -> Option<Json> {
        let Value::List(list) = &node.value else {
            let hint = if path.ends_with("run") { "a list such as [\"echo\", \"hello\"]" } else { "a list" };
            return self.expected(node, path, hint);
        };
        let mut values = Vec::new();
        for (place, node) in list.iter().enumerate() {
            // A null keeps the places of those behind it.
            values.push(self.value(node, &format!("{path}[{place}]"), item).unwrap_or(Json::Null));
        }
        Some(values.into())
    }

    fn map(&mut self, node: &Node, path: &str, item: &Shape) -> Option<Json> {
        let Value::Table(table) = &node.value else { return self.expected(node, path, "a table") };
        let mut map = Map::new();
        for (key, node) in table {
            if let Some(value) = self.value(node, &join(path, &key.name), item) {
                map.insert(key.name.clone(), value);
            }
        }
        Some(map.into())
    }

    fn table(&mut self, node: &Node, path: &str, fields: &[Field]) -> Option<Json> {
        let Value::Table(table) = &node.value else { return self.expected(node, path, "a table") };
        let mut map = Map::new();
        for (key, value) in table {
            let Some(field) = fields.iter().find(|field| field.name == key.name) else {
                self.refuse(key.at, &join(path, &key.name), unknown_field(&key.name, fields));
                continue;
            };
            if matches!(value.value, Value::Null) && !field.required {
                continue;
            }
            if let Some(json) = self.value(value, &join(path, field.name), &field.shape) {
                map.insert(field.name.to_owned(), json);
            }
        }
        let given = |name: &str| table.iter().any(|(key, _)| key.name == name);
        for field in fields.iter().filter(|field| field.required && !given(field.name)) {
            self.refuse(node.at, path, format!("the field `{}` is missing", field.name));
        }
        if std::ptr::eq(fields, TASK) {
            self.one_kind(node, path, &mut map);
        }
        if std::ptr::eq(fields, BLOB) || std::ptr::eq(fields, FILE) {
            self.one_source(node, path, &mut map);
        }
        Some(map.into())
    }

    fn one_kind(&mut self, node: &Node, path: &str, map: &mut Map<String, Json>) {
        let Value::Table(table) = &node.value else { return };
        let given: Vec<&str> =
            KINDS.into_iter().filter(|kind| table.iter().any(|(key, _)| key.name == *kind)).collect();
        if given.len() != 1 {
            let found = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
            let all = KINDS.join(", ");
            self.refuse(node.at, path, format!("a task has exactly one of {all}; found {found}"));
        }
        // So that the checks behind this one can still look at the rest of the task.
        if KINDS.into_iter().filter(|kind| map.contains_key(*kind)).count() != 1 {
            map.retain(|name, _| !KINDS.contains(&name.as_str()));
            map.insert("noop".to_owned(), true.into());
        }
    }

    fn one_source(&mut self, node: &Node, path: &str, map: &mut Map<String, Json>) {
        let given: Vec<&str> = SOURCES.into_iter().filter(|source| map.contains_key(*source)).collect();
        match given[..] {
            ["from"] => self.read_source(node, path, map),
            [_] => {}
            _ => {
                let found = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
                let all = SOURCES.join(", ");
                self.refuse(node.at, path, format!("give exactly one of {all}; found {found}"));
                map.retain(|name, _| !SOURCES.contains(&name.as_str()));
                map.insert("text".to_owned(), "".into());
            }
        }
    }

    fn read_source(&mut self, node: &Node, path: &str, map: &mut Map<String, Json>) {
        let Some(Json::String(name)) = map.remove("from") else { return };
        let bytes = (self.read)(&name).unwrap_or_else(|message| {
            let from = join(path, "from");
            self.refuse(super::tree::find(node, "from").at, &from, message);
            Vec::new()
        });
        match String::from_utf8(bytes) {
            Ok(text) => map.insert("text".to_owned(), text.into()),
            Err(error) => map.insert("base64".to_owned(), STANDARD.encode(error.as_bytes()).into()),
        };
    }

    fn resources(&mut self, node: &Node, path: &str) -> Option<Json> {
        let Value::Table(table) = &node.value else {
            return self.expected(node, path, "a table such as {cpu: 1, memory: 512MiB}");
        };
        let mut map = Map::new();
        for (key, node) in table {
            let path = join(path, &key.name);
            let text = match &node.value {
                Value::Text(text) => text.clone(),
                Value::Plain { json: Json::Number(number), word } => {
                    word.clone().unwrap_or_else(|| number.to_string())
                }
                _ => {
                    self.expected(node, &path, "an amount");
                    continue;
                }
            };
            match parse_amount(&key.name, &text) {
                Ok(_) => drop(map.insert(key.name.clone(), text.into())),
                Err(message) => self.refuse(node.at, &path, message),
            }
        }
        Some(map.into())
    }
}

fn unknown_field(name: &str, fields: &[Field]) -> String {
    match nearest(name, fields.iter().map(|field| field.name)) {
        Some(near) => format!("unknown field; did you mean `{near}`?"),
        None => {
            let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
            format!("unknown field; known are {}", known.join(", "))
        }
    }
}
