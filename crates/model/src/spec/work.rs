//! What a task does, and the kinds of it that a worker can do.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Blob;

/// What a task does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// An argument list, run as it is.
    Run(Vec<String>),
    /// A body, run by its `#!` line or by `/bin/sh`.
    Script(String),
    Noop,
    Sleep(Duration),
    /// A function that a worker has registered by name.
    Function(Box<Function>),
    Container(Box<Container>),
    Wasm(Wasm),
    Service(Service),
}

impl Work {
    pub fn kind(&self) -> Kind {
        match self {
            Work::Run(_) | Work::Script(_) => Kind::Process,
            Work::Noop => Kind::Noop,
            Work::Sleep(_) => Kind::Sleep,
            Work::Function(_) => Kind::Function,
            Work::Container(_) => Kind::Container,
            Work::Wasm(_) => Kind::Wasm,
            Work::Service(_) => Kind::Service,
        }
    }

    /// The one of them that only workers with that function can run.
    pub fn function(&self) -> Option<&str> {
        match self {
            Work::Function(function) => Some(&function.name),
            _ => None,
        }
    }
}

/// The kinds of work; a worker says which it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Process,
    Noop,
    Sleep,
    Container,
    Function,
    Wasm,
    Service,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Process => "process",
            Kind::Noop => "noop",
            Kind::Sleep => "sleep",
            Kind::Container => "container",
            Kind::Function => "function",
            Kind::Wasm => "wasm",
            Kind::Service => "service",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Box<Blob>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    pub image: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wasm {
    pub module: Box<Blob>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
}

/// A process that is meant to stay up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub run: Vec<String>,
}
