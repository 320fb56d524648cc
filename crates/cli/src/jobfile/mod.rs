//! Job files: YAML, TOML or JSON in, a valid `JobSpec` or every problem with file, line and column out.

mod check;
mod schema;
mod tree;

use std::fmt;
use std::path::{Path, PathBuf};

use model::settings::Limits;
use model::validate::validate;
use model::{JobSpec, SpecError};
use serde::Deserialize;

use check::Checked;
pub use check::Problem;
pub use tree::Position;

/// Bytes of a job file that are read at most; more than any valid spec has.
pub const FILE_BYTES_MAX: u64 = 8 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Yaml,
    Toml,
    Json,
}

/// What is wrong with a job file: everything at once, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFile {
    pub file: String,
    pub problems: Vec<Problem>,
}

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.problems.iter().enumerate() {
            let Problem { at, path, message } = problem;
            let colon = if path.is_empty() { "" } else { ": " };
            let line_end = if place + 1 == self.problems.len() { "" } else { "\n" };
            write!(f, "{}:{}:{}: {path}{colon}{message}{line_end}", self.file, at.line, at.column)?;
        }
        Ok(())
    }
}

impl std::error::Error for BadFile {}

impl BadFile {
    fn whole(file: &str, message: impl Into<String>) -> BadFile {
        let at = Position { line: 1, column: 1 };
        let problem = Problem { at, path: String::new(), message: message.into() };
        BadFile { file: file.to_owned(), problems: vec![problem] }
    }
}

/// Reads a job file; `-` is standard input.
pub fn read(path: &Path, limits: &Limits) -> Result<JobSpec, BadFile> {
    let name = path.display().to_string();
    let text = read_text(path).map_err(|message| BadFile::whole(&name, message))?;
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    parse(&name, &text, &folder, limits)
}

/// The text of a file that somebody writes by hand; `-` is standard input.
pub fn read_text(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let mut source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?)
    };
    source
        .by_ref()
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is larger than {FILE_BYTES_MAX} bytes, which no valid file is"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}

/// Reads a job from text. `folder` is where relative `from` paths begin.
pub fn parse(file: &str, text: &str, folder: &Path, limits: &Limits) -> Result<JobSpec, BadFile> {
    let root = tree::parse(text, format_of(file, text)).map_err(|error| BadFile {
        file: file.to_owned(),
        problems: vec![Problem { at: error.at, path: String::new(), message: error.message }],
    })?;
    let mut checked = check::check(&root, &|name| read_source(folder, name, limits));
    let mut problems = std::mem::take(&mut checked.problems);
    match JobSpec::deserialize(&checked.json) {
        Ok(spec) => {
            let errors = validate(&spec, limits).into_iter();
            let own = errors.filter(|error| !checked.is_guessed(&checked.path_in_file(&error.path)));
            let own = own.filter(|error| !compares_guesses(&spec, &checked, error));
            problems.extend(own.map(|error| placed(&root, &checked, error)));
            if problems.is_empty() {
                return Ok(spec);
            }
        }
        // Only when the tree and the schema found nothing does this say something new.
        Err(error) if problems.is_empty() => {
            problems.push(Problem { at: root.at, path: String::new(), message: error.to_string() });
        }
        Err(_) => {}
    }
    problems.sort();
    problems.dedup();
    Err(BadFile { file: file.to_owned(), problems })
}

/// Whether an error is that two tasks are not as many, where it is not known how many one of them is to be.
fn compares_guesses(spec: &JobSpec, checked: &Checked, error: &SpecError) -> bool {
    let place_of = |text: &str| text.split_once(']').and_then(|(place, _)| place.parse::<usize>().ok());
    let Some((task, each)) = error.path.split_once(".after_each[") else { return false };
    let Some(place) = task.strip_prefix("tasks[").and_then(place_of) else { return false };
    let named = place_of(each).and_then(|nth| spec.tasks[place].after_each.get(nth));
    let other = named.and_then(|name| spec.tasks.iter().position(|task| task.name == *name));
    let is_uncounted = |place: usize| {
        let path = |field| checked.path_in_file(&format!("tasks[{place}].{field}"));
        ["array", "each_line"].into_iter().any(|field| checked.is_guessed(&path(field)))
    };
    other.is_some_and(|other| other != place && (is_uncounted(place) || is_uncounted(other)))
}

fn placed(root: &tree::Node, checked: &Checked, error: SpecError) -> Problem {
    let path = checked.path_in_file(&error.path);
    Problem { at: tree::find(root, &path).at, path, message: error.message }
}

fn read_source(folder: &Path, name: &str, limits: &Limits) -> Result<Vec<u8>, String> {
    let path: PathBuf = folder.join(name);
    let max = limits.inline_bytes_per_job_max;
    let size = std::fs::metadata(&path).map_err(|error| format!("`{}`: {error}", path.display()))?.len();
    if size > max {
        let hint = "larger data goes by `url` or shared storage";
        return Err(format!(
            "`{}` has {size} bytes, above inline_bytes_per_job_max = {max}; {hint}",
            path.display()
        ));
    }
    std::fs::read(&path).map_err(|error| format!("`{}`: {error}", path.display()))
}

/// By the extension, else by how the text looks.
fn format_of(file: &str, text: &str) -> Format {
    match Path::new(file).extension().and_then(|extension| extension.to_str()) {
        Some("yaml" | "yml") => Format::Yaml,
        Some("toml") => Format::Toml,
        Some("json") => Format::Json,
        _ => sniff(text),
    }
}

fn sniff(text: &str) -> Format {
    let meaningful = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let first = text.lines().find(meaningful).unwrap_or_default().trim_start();
    let is_assignment = first.split_once('=').is_some_and(|(left, _)| !left.contains([':', '{', '"']));
    if first.starts_with('{') {
        Format::Json
    } else if first.starts_with("[[") || is_assignment {
        Format::Toml
    } else {
        Format::Yaml
    }
}

#[cfg(test)]
mod tests;
