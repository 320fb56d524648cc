//! What the command line prints. Standard output is data in the chosen format; everything else goes to stderr.

pub mod log;
pub mod paint;
pub mod progress;
pub mod rows;
pub mod svg;
pub mod table;
pub mod times;

use std::io::{IsTerminal, Write};

use model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock;
use crate::config::Config;
use crate::fault::Fault;
use paint::Paint;
use rows::Row;

/// `1 task`, `2 tasks`.
pub fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    #[default]
    Table,
    /// A table with more columns.
    Wide,
    Json,
    /// One JSON object per line.
    Jsonl,
    /// Only the names.
    Name,
    /// One page for a browser; `simulate` makes one.
    Html,
    /// One picture; `simulate` draws one of one policy.
    Svg,
}

impl Format {
    pub fn is_machine(self) -> bool {
        matches!(self, Format::Json | Format::Jsonl)
    }
}

/// How this process talks to whoever called it.
#[derive(Clone, Copy, Debug)]
pub struct Face {
    pub format: Format,
    pub paint: Paint,
    pub paint_err: Paint,
    /// Whether standard output is a terminal: times are relative there.
    pub is_terminal: bool,
    /// Whether stderr is one: progress is drawn there.
    pub is_terminal_err: bool,
}

impl Face {
    pub fn of(config: &Config) -> Face {
        Face {
            format: config.output,
            paint: Paint::stdout(config.color),
            paint_err: Paint::stderr(config.color),
            is_terminal: std::io::stdout().is_terminal(),
            is_terminal_err: std::io::stderr().is_terminal(),
        }
    }

    /// For errors before the configuration is read.
    pub fn plain(format: Format) -> Face {
        Face {
            format,
            paint: Paint::plain(),
            paint_err: Paint::plain(),
            is_terminal: false,
            is_terminal_err: false,
        }
    }

    /// Data, as it is.
    pub fn print(&self, text: &str) -> Result<(), Fault> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// A remark for people, on stderr. That it cannot be written is nobody's business.
    pub fn note(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    pub fn fault(&self, fault: &Fault) {
        if fault.is_silent {
            return;
        }
        let text = if self.format.is_machine() { fault.json() } else { fault.text(self.paint_err) };
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// A list with where the rest of it begins.
    pub fn list<T: Row + Serialize>(&self, items: &[T], next: Option<String>) -> Result<(), Fault> {
        self.print(&self.list_text(items, next)?)
    }

    pub fn list_text<T: Row + Serialize>(&self, items: &[T], next: Option<String>) -> Result<String, Fault> {
        match self.format {
            Format::Table | Format::Wide | Format::Html | Format::Svg => Ok(self.table(items)),
            Format::Name => Ok(items.iter().map(|item| item.name() + "\n").collect()),
            Format::Json => {
                let mut list = Map::new();
                list.insert("items".to_owned(), json(&items)?);
                list.insert("next".to_owned(), json(&next)?);
                Ok(pretty(&Value::Object(list)))
            }
            Format::Jsonl => items.iter().map(|item| Ok(format!("{}\n", json(item)?))).collect(),
        }
    }

    pub fn table<T: Row>(&self, items: &[T]) -> String {
        let view = rows::View { is_wide: self.format == Format::Wide, now: self.now() };
        let rows: Vec<Vec<table::Cell>> = items.iter().map(|item| item.cells(view)).collect();
        table::render(&T::columns(view.is_wide), &rows, self.paint)
    }

    /// One thing: `text` for people, the value for machines.
    pub fn one<T: Serialize>(
        &self,
        value: &T,
        name: &str,
        text: impl FnOnce() -> String,
    ) -> Result<(), Fault> {
        self.print(&self.one_text(value, name, text)?)
    }

    pub fn one_text<T: Serialize>(
        &self,
        value: &T,
        name: &str,
        text: impl FnOnce() -> String,
    ) -> Result<String, Fault> {
        Ok(match self.format {
            Format::Table | Format::Wide | Format::Html | Format::Svg => text(),
            Format::Name => format!("{name}\n"),
            Format::Json => pretty(&json(value)?),
            Format::Jsonl => format!("{}\n", json(value)?),
        })
    }

    /// The time that relative times count from, where they are relative at all.
    pub fn now(&self) -> Option<Timestamp> {
        self.is_terminal.then(clock::now)
    }
}

fn json<T: Serialize>(value: &T) -> Result<Value, Fault> {
    serde_json::to_value(value).map_err(|error| Fault::failed(format!("cannot write JSON: {error}")))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
