//! What a cluster has run, as text: a first line that says which form it is, then a job a line, as JSON. Times are wall times,
//! durations and amounts as job files have them. Within a version the form only grows: what is not known is passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::size::{PARTS, format_parts, parse_parts};
use model::views::{EstimateFrom, JobState, TaskState};
use model::{Dependency, JobId, Timestamp};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::workload::Malformed;

/// Of the form that is written, and the newest that is read.
pub const VERSION: u32 = 1;
const FORMAT: &str = "baton-history";
/// Tasks of one job that are believed; the highest that a cluster can be set to.
const TASKS_MAX: u64 = 1_000_000_000;
/// Cores of one task that are believed.
const CORES_MAX: u64 = 1_000_000;

/// Jobs in any order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    pub jobs: Vec<PastJob>,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PastJob {
    pub job: JobId,
    #[serde(default)]
    pub name: String,
    pub queue: String,
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub priority: i32,
    pub submitted: Timestamp,
    /// Nothing of it was to start before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    pub state: JobState,
    /// Earlier jobs that all of it waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<JobId>,
    /// By number.
    pub tasks: Vec<PastTask>,
}

/// An entry of a job's `tasks`: one task, or an array.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PastTask {
    pub name: String,
    /// Number of its first task in the job, and how many there are.
    pub first: u32,
    pub count: u32,
    /// In ten-thousandths; written as cores.
    #[serde(rename = "cores", with = "cores")]
    pub parts: u64,
    /// Its members start together or not at all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gang: bool,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "model::time::optional_duration")]
    pub estimate: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate_from: Option<EstimateFrom>,
    /// From the submit of the job.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "model::time::optional_duration")]
    pub deadline: Option<Duration>,
    /// Tasks of the job, all of whose members it waited for, and earlier jobs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Dependency>,
    /// Tasks of the job whose members its own waited for one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after_each: Vec<String>,
    /// Members by what became of them: those next to each other that are alike are one run.
    pub runs: Vec<PastRun>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PastRun {
    pub first: u32,
    pub count: u32,
    pub state: TaskState,
    pub attempts: u32,
    /// Of the last attempt, where the state is final and it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

impl PastRun {
    /// How long its last attempt took, if it is over and did start.
    pub fn took(&self) -> Option<Duration> {
        // Workers have clocks of their own, and one may have been set back.
        self.state.is_final().then(|| Some(self.ended?.since(self.started?))).flatten()
    }
}

impl PastTask {
    /// Adds what became of the next task.
    pub fn push(&mut self, run: PastRun) {
        if let Some(last) = self.runs.last_mut()
            && last.first + last.count == run.first
            && (PastRun { first: run.first, count: run.count, ..*last }) == run
        {
            last.count += run.count;
            return;
        }
        self.runs.push(run);
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
}

/// The first line.
pub fn history_head() -> String {
    line(&Head { format: FORMAT.to_owned(), version: VERSION })
}

/// The line of a job.
pub fn history_line(job: &PastJob) -> String {
    line(job)
}

fn line(of: &impl Serialize) -> String {
    let text = serde_json::to_string(of).expect("what has only names for keys can be written");
    text + "\n"
}

/// # Errors
/// The first line that is none, with its column.
pub fn read_history(text: &str) -> Result<History, Malformed> {
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    head(lines.next())?;
    let mut seen: BTreeMap<JobId, usize> = BTreeMap::new();
    let mut jobs = Vec::new();
    for (number, text) in lines {
        let job: PastJob = parse(number, text)?;
        let refuse = |word: &str, message: String| {
            // Where it stands is told by the word itself, as it is written.
            let column = text.find(word).map_or(0, |at| at + 1);
            Malformed { line: number, column, message }
        };
        if let Some(other) = seen.insert(job.job, number) {
            let id = job.job;
            return Err(refuse(&quoted(&id.to_string()), format!("job {id} stands in line {other} too")));
        }
        check(&job).map_err(|(word, message)| refuse(&word, message))?;
        jobs.push(job);
    }
    Ok(History { jobs })
}

fn head(first: Option<(usize, &str)>) -> Result<(), Malformed> {
    let wanted = history_head();
    let Some((number, text)) = first else {
        let message = format!("is empty; a history begins with {}", wanted.trim_end());
        return Err(Malformed { line: 0, column: 0, message });
    };
    let Head { format, version } = parse(number, text).map_err(|error| Malformed {
        message: format!("{}, not {}", error.message, wanted.trim_end()),
        ..error
    })?;
    let refuse = |word: &str, message: String| {
        let column = text.find(word).map_or(0, |at| at + 1);
        Err(Malformed { line: number, column, message })
    };
    if format != FORMAT {
        return refuse(&quoted(&format), format!("`{format}` is another format than `{FORMAT}`"));
    }
    if version == 0 || version > VERSION {
        let message = format!("is version {version} of the format; versions up to {VERSION} are read");
        return refuse("\"version\"", message);
    }
    Ok(())
}

fn parse<T: for<'de> Deserialize<'de>>(number: usize, text: &str) -> Result<T, Malformed> {
    serde_json::from_str(text).map_err(|error| {
        let (column, message) = (error.column(), error.to_string());
        // The place within the line follows in its own words.
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
        Malformed { line: number, column: begin(text, column, message), message: message.to_owned() }
    })
}

/// Where the text begins that the message refuses; the reader says where it ends.
fn begin(text: &str, column: usize, message: &str) -> usize {
    let refused = message.split('`').nth(1).filter(|_| message.starts_with('`'));
    let read = text.get(..column.min(text.len())).unwrap_or_default();
    refused.and_then(|refused| read.rfind(&quoted(refused))).map_or(column, |at| at + 1)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What does not fit together, with the word that stands where it is.
fn check(job: &PastJob) -> Result<(), (String, String)> {
    let names: BTreeMap<&str, u32> = job.tasks.iter().map(|task| (task.name.as_str(), task.count)).collect();
    if let Some(after) = job.after.iter().find(|after| **after >= job.job) {
        return Err((quoted(&after.to_string()), format!("{} cannot wait for the later {after}", job.job)));
    }
    let mut seen = BTreeSet::new();
    let mut tasks = 0u64;
    for task in &job.tasks {
        let refuse = |message: String| Err((quoted(&task.name), format!("task `{}` {message}", task.name)));
        if !seen.insert(&task.name) {
            return refuse("stands twice in the job".to_owned());
        }
        tasks += u64::from(task.count);
        if tasks > TASKS_MAX {
            return refuse(format!("makes more than {TASKS_MAX} tasks of one job"));
        }
        check_runs(task).or_else(refuse)?;
        for after in &task.after {
            match after {
                Dependency::Task(name) => known(&names, name)?,
                Dependency::Job(id) if *id >= job.job => {
                    return Err((
                        quoted(&id.to_string()),
                        format!("{} cannot wait for the later {id}", job.job),
                    ));
                }
                Dependency::Job(_) => {}
            }
        }
        for name in &task.after_each {
            known(&names, name)?;
            if names[name.as_str()] != task.count {
                return refuse(format!("waits for `{name}` one by one, which has another count"));
            }
        }
    }
    let edges: Vec<Vec<usize>> = job.tasks.iter().map(|task| edges(job, task)).collect();
    match model::validate::find_cycle(&edges) {
        Some(cycle) => {
            let names: Vec<&str> = cycle.iter().map(|place| job.tasks[*place].name.as_str()).collect();
            Err((quoted(names[0]), format!("tasks wait for each other: {}", names.join(" -> "))))
        }
        None => Ok(()),
    }
}

/// Places of the tasks that a task waits for.
fn edges(job: &PastJob, task: &PastTask) -> Vec<usize> {
    let whole = task.after.iter().filter_map(|after| match after {
        Dependency::Task(name) => Some(name),
        Dependency::Job(_) => None,
    });
    let places = whole.chain(&task.after_each);
    places.filter_map(|name| job.tasks.iter().position(|task| task.name == *name)).collect()
}

fn known(names: &BTreeMap<&str, u32>, name: &str) -> Result<(), (String, String)> {
    let unknown = || (quoted(name), format!("the job has no task `{name}` to wait for"));
    names.get(name).map(|_| ()).ok_or_else(unknown)
}

/// Runs follow each other through all of the numbers.
fn check_runs(task: &PastTask) -> Result<(), String> {
    let mut next = u64::from(task.first);
    for run in &task.runs {
        if u64::from(run.first) != next || run.count == 0 {
            return Err(format!("has a run of {} from {}, and {next} is next", run.count, run.first));
        }
        next += u64::from(run.count);
    }
    let end = u64::from(task.first) + u64::from(task.count);
    if next != end {
        return Err(format!("has runs up to {next}, and it has tasks up to {end}"));
    }
    Ok(())
}

/// `1` or `0.5`, of ten-thousandths.
mod cores {
    use super::*;

    pub fn serialize<S: Serializer>(parts: &u64, s: S) -> Result<S::Ok, S::Error> {
        if parts.is_multiple_of(PARTS) {
            s.serialize_u64(parts / PARTS)
        } else {
            s.serialize_f64(cores(*parts))
        }
    }

    fn cores(parts: u64) -> f64 {
        // Four decimals, so that the nearest number is written as they are.
        format_parts(parts).parse().unwrap_or(0.0)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
        let number = f64::deserialize(d)?;
        let parts = parse_parts(&number.to_string()).map_err(D::Error::custom)?;
        let fits = parts <= CORES_MAX * PARTS;
        fits.then_some(parts)
            .ok_or_else(|| D::Error::custom(format!("`{number}` is above {CORES_MAX} cores")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u32, count: u32, state: TaskState, times: Option<(u64, u64)>) -> PastRun {
        let at = |seconds: u64| Timestamp(seconds * 1_000_000);
        let (started, ended) = (times.map(|(start, _)| at(start)), times.map(|(_, end)| at(end)));
        PastRun { first, count, state, attempts: 1, started, ended }
    }

    fn task(name: &str, first: u32, count: u32, runs: Vec<PastRun>) -> PastTask {
        PastTask {
            name: name.to_owned(),
            first,
            count,
            parts: 5_000,
            gang: false,
            estimate: Some(Duration::from_secs(90)),
            estimate_from: Some(EstimateFrom::Learnt),
            deadline: None,
            after: Vec::new(),
            after_each: Vec::new(),
            runs,
        }
    }

    fn job(id: u64) -> PastJob {
        let fetch = task("fetch", 0, 1, vec![run(0, 1, TaskState::Succeeded, Some((20, 80)))]);
        let runs = vec![run(1, 2, TaskState::Failed, Some((81, 90))), run(3, 1, TaskState::Ready, None)];
        let after = vec![Dependency::Task("fetch".to_owned()), Dependency::Job(JobId(1))];
        PastJob {
            job: JobId(id),
            name: "nightly \"é\"".to_owned(),
            queue: "default".to_owned(),
            user: "ann".to_owned(),
            priority: -3,
            submitted: Timestamp(10_000_001),
            not_before: Some(Timestamp(11_000_000)),
            state: JobState::Running,
            after: vec![JobId(2)],
            tasks: vec![fetch, PastTask { after, parts: 20_000, ..task("shard", 1, 3, runs) }],
        }
    }

    fn text(jobs: &[PastJob]) -> String {
        history_head() + &jobs.iter().map(history_line).collect::<String>()
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let bare = PastJob { not_before: None, after: Vec::new(), tasks: Vec::new(), ..job(7) };
        let history = History { jobs: vec![job(9), bare] };
        let text = text(&history.jobs);
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("\"cores\":0.5") && text.contains("\"cores\":2,"), "{text}");
        assert!(text.contains("\"estimate\":\"1m30s\",\"estimate_from\":\"learnt\""), "{text}");
        assert_eq!(read_history(&text).unwrap(), history);
        assert_eq!(read_history(&history_head()).unwrap(), History::default());
    }

    #[test]
    fn every_amount_of_cores_reads_back() {
        for parts in [0, 1, 1_000, 3_333, 9_999, 10_000, 12_345, 640_000] {
            let one = PastTask { parts, ..task("a", 0, 0, Vec::new()) };
            let text = serde_json::to_string(&one).unwrap();
            assert_eq!(serde_json::from_str::<PastTask>(&text).unwrap(), one, "{text}");
        }
    }

    #[test]
    fn what_a_later_writer_adds_is_passed_over() {
        let grown = text(&[job(9)]).replace("\"user\"", "\"colour\":[1],\"user\"");
        assert_eq!(read_history(&grown).unwrap().jobs, [job(9)]);
    }

    #[test]
    fn tasks_that_are_alike_become_one_run() {
        let mut array = task("a", 4, 4, Vec::new());
        for number in 4..7 {
            array.push(run(number, 1, TaskState::Ready, None));
        }
        array.push(PastRun { attempts: 2, ..run(7, 1, TaskState::Ready, None) });
        assert_eq!(array.runs.iter().map(|run| (run.first, run.count)).collect::<Vec<_>>(), [(4, 3), (7, 1)]);
    }

    #[test]
    fn a_line_that_is_none_is_told_with_its_place() {
        let sound = text(&[job(9)]);
        let told = |text: &str| read_history(text).unwrap_err().to_string();
        let instead = |old: &str, new: &str| told(&sound.replacen(old, new, 1));
        assert!(told("").starts_with("is empty; a history begins with {\"format\""));
        assert!(told("1 0 0 5\n").starts_with("line 1, column "));
        assert_eq!(
            instead("\"version\":1", "\"version\":2"),
            "line 1, column 27: is version 2 of the format; versions up to 1 are read"
        );
        assert_eq!(
            instead("baton-history", "csv"),
            "line 1, column 11: `csv` is another format than `baton-history`"
        );
        assert!(instead("\"j9\"", "9.5").starts_with("line 2, column "));
        let late = sound.replace("1970-01-01T00:00:10.000001Z", "yesterday");
        let column = late.lines().nth(1).unwrap().find("\"yesterday\"").unwrap() + 1;
        let told_time = told(&late);
        assert!(
            told_time.starts_with(&format!("line 2, column {column}: `yesterday` is not a time")),
            "{told_time}"
        );
        assert!(instead("\"cores\":0.5", "\"cores\":-1").contains("column 2"));
        assert!(instead("\"cores\":0.5", "\"cores\":1e300").contains("is not an amount"));
        assert!(instead("\"cores\":2", "\"cores\":2000000").contains("above 1000000 cores"));
        assert!(instead("\"state\":\"running\"", "\"state\":\"resting\"").contains("unknown variant"));
        let unknown = instead("[\"fetch\"", "[\"fetsh\"");
        assert!(unknown.ends_with("the job has no task `fetsh` to wait for"), "{unknown}");
        assert!(unknown.starts_with("line 2, column "), "{unknown}");
        assert!(instead("[\"j2\"]", "[\"j9\"]").contains("j9 cannot wait for the later j9"));
        assert!(
            instead("\"count\":2", "\"count\":1")
                .contains("task `shard` has a run of 1 from 3, and 2 is next")
        );
        assert!(instead("\"name\":\"shard\"", "\"name\":\"fetch\"").contains("stands twice"));
        assert_eq!(told(&text(&[job(9), job(9)])), "line 3, column 8: job j9 stands in line 2 too");
        let cut = sound.trim_end().trim_end_matches('}').to_owned();
        assert!(told(&cut).starts_with("line 2, column "), "{}", told(&cut));
    }
}
