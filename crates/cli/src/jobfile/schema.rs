//! The fields of a job file, as a table: what each may hold. It mirrors the serde form of the model; a test holds
//! the two together.

use model::time::parse_duration;
use model::{ArrayRange, Constraint, JobId, Timestamp};

/// What may stand in a field.
pub enum Shape {
    Text,
    /// A text that must pass a check.
    Checked(fn(&str) -> Result<(), String>),
    OneOf(&'static [&'static str]),
    Integer {
        min: i64,
        max: i64,
    },
    Flag,
    List(&'static Shape),
    /// Any names, each with a value of that shape.
    Map(&'static Shape),
    Table(&'static [Field]),
    /// Any names, each with an amount.
    Resources,
    /// A text, or a table of these fields.
    TextOr(&'static [Field]),
}

pub struct Field {
    pub name: &'static str,
    pub shape: Shape,
    pub required: bool,
}

const fn field(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, required: false }
}

const fn required(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, required: true }
}

/// Exactly one of these in each task.
pub const KINDS: [&str; 8] = ["run", "script", "noop", "sleep", "function", "container", "wasm", "service"];

const DURATION: Shape = Shape::Checked(|text| parse_duration(text).map(drop));
const COUNT: Shape = Shape::Integer { min: 0, max: u32::MAX as i64 };
const WORDS: Shape = Shape::List(&Shape::Text);

pub const JOB: &[Field] = &[
    field("job", Shape::Text),
    field("queue", Shape::Text),
    field("priority", Shape::Integer { min: i32::MIN as i64, max: i32::MAX as i64 }),
    field("labels", Shape::Map(&Shape::Text)),
    field("delay", DURATION),
    field("start_at", Shape::Checked(|text| text.parse::<Timestamp>().map(drop))),
    field("on_disconnect", Shape::OneOf(&["stop", "keep"])),
    field("placement", Shape::OneOf(&["pack", "spread"])),
    field("after", Shape::List(&Shape::Checked(check_job_id))),
    required("tasks", Shape::List(&Shape::Table(TASK))),
];

fn check_job_id(text: &str) -> Result<(), String> {
    text.parse::<JobId>().map(drop).map_err(|error| error.to_string())
}

pub const TASK: &[Field] = &[
    required("name", Shape::Text),
    field("run", WORDS),
    field("script", Shape::Text),
    field("noop", Shape::Flag),
    field("sleep", DURATION),
    field("function", Shape::Table(&[required("name", Shape::Text), field("input", Shape::Table(BLOB))])),
    field("container", Shape::Table(&[required("image", Shape::Text), field("args", WORDS)])),
    field("wasm", Shape::Table(&[required("module", Shape::Table(BLOB)), field("args", WORDS)])),
    field("service", Shape::Table(&[required("run", WORDS)])),
    field("resources", Shape::Resources),
    field("cpu_limit", Shape::OneOf(&["soft", "hard"])),
    field("array", Shape::Checked(|text| text.parse::<ArrayRange>().map(drop))),
    field("gang", Shape::Integer { min: 1, max: model::validate::GANG_MEMBERS_MAX as i64 }),
    field("each_line", Shape::Table(BLOB)),
    field("after", WORDS),
    field("after_each", WORDS),
    field("env", Shape::Map(&Shape::TextOr(&[required("secret", Shape::Text)]))),
    field("files", Shape::List(&Shape::Table(FILE))),
    field("stdin", Shape::Table(BLOB)),
    field("workdir", Shape::Text),
    field("retry", Shape::Table(RETRY)),
    field("timeout", DURATION),
    field("estimate", DURATION),
    field("deadline", DURATION),
    field("period", DURATION),
    field("start_within", DURATION),
    field("constraints", Shape::List(&Shape::Checked(|text| text.parse::<Constraint>().map(drop)))),
    field("anti_affinity", WORDS),
    field("alternatives", Shape::List(&Shape::Resources)),
];

const RETRY: &[Field] = &[
    field("max", COUNT),
    field("backoff", Shape::Checked(|text| text.parse::<model::spec::Backoff>().map(drop))),
    field("lost_max", COUNT),
];

/// Where bytes come from; exactly one of them. `from` is a file that the client reads.
pub const SOURCES: [&str; 5] = ["from", "text", "base64", "url", "ref"];

pub const BLOB: &[Field] = &[
    field("from", Shape::Text),
    field("text", Shape::Text),
    field("base64", Shape::Text),
    field("url", Shape::Text),
    field("ref", Shape::Text),
    field("sha256", Shape::Text),
    field("size", Shape::Integer { min: 0, max: i64::MAX }),
];

pub const FILE: &[Field] = &[
    required("to", Shape::Text),
    field("mode", Shape::Checked(check_mode)),
    field("from", Shape::Text),
    field("text", Shape::Text),
    field("base64", Shape::Text),
    field("url", Shape::Text),
    field("ref", Shape::Text),
    field("sha256", Shape::Text),
    field("size", Shape::Integer { min: 0, max: i64::MAX }),
];

fn check_mode(text: &str) -> Result<(), String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(()),
        _ => Err(format!("`{text}` is not three octal digits such as \"755\"")),
    }
}
