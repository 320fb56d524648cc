//! Walks a job file's tree along the schema: collects every problem with its place, reads the files that `from`
//! names, and builds the JSON that the model reads.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::resources::parse_amount;
use model::validate::nearest;
use model::{Blob, TaskSpec};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::schema::{BLOB, FILE, Field, JOB, KINDS, SOURCES, Shape, TASK};
use super::tree::{Key, Node, Position, Value};

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

/// A job file after the walk. What was wrong is left out of the JSON, or stood in for where the model needs it, so
/// that the checks behind this one can still look at the rest.
pub struct Checked {
    pub json: Json,
    pub problems: Vec<Problem>,
    /// Paths whose value in the JSON is not the file's.
    guessed: Vec<String>,
    /// Lists that lost items: for each item that is left, its place in the file.
    kept: BTreeMap<String, Vec<usize>>,
}

impl Checked {
    /// Whether the JSON holds something else here than the file says.
    pub fn is_guessed(&self, path: &str) -> bool {
        let is_within = |guess: &String| {
            path.strip_prefix(guess.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let is_emptied = self.kept.get(path).is_some_and(Vec::is_empty);
        is_emptied || self.guessed.iter().any(is_within)
    }

    /// A path in the JSON as a path in the file.
    pub fn path_in_file(&self, path: &str) -> String {
        let mut parts = path.split('[');
        let mut whole = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (place, rest) = part.split_once(']').unwrap_or((part, ""));
            let kept = self.kept.get(&whole).zip(place.parse::<usize>().ok());
            let place =
                kept.and_then(|(kept, place)| kept.get(place)).map_or(place.to_owned(), usize::to_string);
            whole += &format!("[{place}]{rest}");
        }
        whole
    }
}

pub fn check(root: &Node, read: ReadFile<'_>) -> Checked {
    let mut walk = Walk { problems: Vec::new(), guessed: Vec::new(), kept: BTreeMap::new(), read };
    let json = walk.table(root, "", JOB).unwrap_or(Json::Null);
    Checked { json, problems: walk.problems, guessed: walk.guessed, kept: walk.kept }
}

struct Walk<'a> {
    problems: Vec<Problem>,
    guessed: Vec<String>,
    kept: BTreeMap<String, Vec<usize>>,
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
        let (mut values, mut kept) = (Vec::new(), Vec::new());
        for (place, node) in list.iter().enumerate() {
            if let Some(value) = self.value(node, &format!("{path}[{place}]"), item) {
                values.push(value);
                kept.push(place);
            }
        }
        if kept.len() < list.len() {
            self.kept.insert(path.to_owned(), kept);
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
        let mut given: Vec<&str> = Vec::new();
        for (key, value) in table {
            let Some(field) = self.field(key, path, fields, table) else { continue };
            given.push(field.name);
            if matches!(value.value, Value::Null) && !field.required {
                continue;
            }
            let path = join(path, field.name);
            match self.value(value, &path, &field.shape) {
                Some(json) => drop(map.insert(field.name.to_owned(), json)),
                None => self.guessed.push(path),
            }
        }
        for field in fields.iter().filter(|field| field.required) {
            if map.contains_key(field.name) {
                continue;
            }
            if !given.contains(&field.name) {
                self.refuse(node.at, path, format!("the field `{}` is missing", field.name));
                self.guessed.push(join(path, field.name));
            }
            map.insert(field.name.to_owned(), self.stand_in(&field.shape));
        }
        if std::ptr::eq(fields, TASK) {
            self.one_kind(node, path, &given, &mut map);
        }
        let is_blob = std::ptr::eq(fields, BLOB);
        let has_source = is_blob || std::ptr::eq(fields, FILE);
        // What a file has beside its contents is its own, and is checked.
        if has_source && !self.one_source(node, path, &given, &mut map) && is_blob {
            self.guessed.push(path.to_owned());
        }
        if std::ptr::eq(fields, TASK)
            && let Err(error) = TaskSpec::deserialize(&Json::from(map.clone()))
        {
            self.refuse(node.at, path, error.to_string());
            map.retain(|name, _| name == "name");
            map.insert("noop".to_owned(), true.into());
        }
        Some(map.into())
    }

    /// The field that a key names. A misspelt one is refused, and read as the one that was meant: what is wrong with
    /// its value is told at once, and nothing is called missing that is there.
    fn field<'f>(
        &mut self,
        key: &Key,
        path: &str,
        fields: &'f [Field],
        table: &[(Key, Node)],
    ) -> Option<&'f Field> {
        if let Some(field) = fields.iter().find(|field| field.name == key.name) {
            return Some(field);
        }
        self.refuse(key.at, &join(path, &key.name), unknown_field(&key.name, fields));
        let near = nearest(&key.name, fields.iter().map(|field| field.name))?;
        let means = |other: &Key| {
            other.name == near || nearest(&other.name, fields.iter().map(|field| field.name)) == Some(near)
        };
        let is_alone = table.iter().filter(|(other, _)| means(other)).count() == 1;
        fields.iter().find(|field| is_alone && field.name == near)
    }

    /// What the model reads in place of a required field; nothing that it finds wrong with it is told.
    fn stand_in(&self, shape: &Shape) -> Json {
        match shape {
            // No name that a task has, nor near to one, so that it is never proposed.
            Shape::Text => format!("__.{}.__", self.guessed.len()).into(),
            Shape::List(_) => Json::Array(Vec::new()),
            // Contents are the only tables that are required.
            Shape::Table(_) => serde_json::json!({"text": ""}),
            Shape::Checked(_)
            | Shape::OneOf(_)
            | Shape::Integer { .. }
            | Shape::Flag
            | Shape::Map(_)
            | Shape::Resources
            | Shape::TextOr(_) => Json::Null,
        }
    }

    fn one_kind(&mut self, node: &Node, path: &str, given: &[&str], map: &mut Map<String, Json>) {
        let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| given.contains(kind)).collect();
        if kinds.len() != 1 {
            let found = if kinds.is_empty() { "none".to_owned() } else { kinds.join(" and ") };
            let all = KINDS.join(", ");
            self.refuse(node.at, path, format!("a task has exactly one of {all}; found {found}"));
        }
        // So that the checks behind this one can still look at the rest of the task.
        if KINDS.into_iter().filter(|kind| map.contains_key(*kind)).count() != 1 {
            map.retain(|name, _| !KINDS.contains(&name.as_str()));
            map.insert("noop".to_owned(), true.into());
        }
    }

    /// Whether the contents are those that the file names.
    fn one_source(&mut self, node: &Node, path: &str, given: &[&str], map: &mut Map<String, Json>) -> bool {
        let sources: Vec<&str> = SOURCES.into_iter().filter(|source| given.contains(source)).collect();
        if sources.len() != 1 {
            let found = if sources.is_empty() { "none".to_owned() } else { sources.join(" and ") };
            let all = SOURCES.join(", ");
            self.refuse(node.at, path, format!("give exactly one of {all}; found {found}"));
        }
        let is_blob_field = |name: &String| BLOB.iter().any(|field| field.name == *name);
        let mut is_whole = sources.len() == 1 && map.contains_key(sources[0]);
        if is_whole && sources[0] == "from" {
            is_whole = self.read_source(node, path, map);
        }
        if is_whole {
            let blob: Map<String, Json> = map
                .iter()
                .filter(|(name, _)| is_blob_field(name))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            if let Err(error) = Blob::deserialize(Json::from(blob)) {
                self.refuse(node.at, path, error.to_string());
                is_whole = false;
            }
        }
        if !is_whole {
            map.retain(|name, _| !is_blob_field(name));
            map.insert("text".to_owned(), "".into());
        }
        is_whole
    }

    fn read_source(&mut self, node: &Node, path: &str, map: &mut Map<String, Json>) -> bool {
        let Some(Json::String(name)) = map.remove("from") else { return false };
        let read = (self.read)(&name);
        let is_read = read.is_ok();
        let bytes = read.unwrap_or_else(|message| {
            let from = join(path, "from");
            self.refuse(super::tree::find(node, "from").at, &from, message);
            Vec::new()
        });
        match String::from_utf8(bytes) {
            Ok(text) => map.insert("text".to_owned(), text.into()),
            Err(error) => map.insert("base64".to_owned(), STANDARD.encode(error.as_bytes()).into()),
        };
        is_read
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
