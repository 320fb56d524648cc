//! Workflows as WfCommons writes them (Coleman et al. 2022): its format 1.5, where what ran stands apart from what was asked
//! for, and those before, where it stands together.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::workload::{Job, Malformed, Task, Workload, cycle};

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    name: String,
    workflow: Workflow,
}

#[derive(Deserialize)]
struct Workflow {
    #[serde(default)]
    specification: Option<Specification>,
    #[serde(default)]
    execution: Option<Execution>,
    /// Before 1.5.
    #[serde(default, alias = "jobs")]
    tasks: Vec<Written>,
}

#[derive(Deserialize)]
struct Specification {
    tasks: Vec<Written>,
}

#[derive(Deserialize)]
struct Execution {
    tasks: Vec<Ran>,
}

#[derive(Deserialize)]
struct Written {
    name: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parents: Vec<String>,
    #[serde(default, alias = "runtime")]
    #[serde(rename = "runtimeInSeconds")]
    seconds: Option<f64>,
    #[serde(default, alias = "cores", rename = "coreCount")]
    cores: Option<f64>,
}

#[derive(Deserialize)]
struct Ran {
    id: String,
    #[serde(rename = "runtimeInSeconds")]
    seconds: f64,
    #[serde(default, rename = "coreCount")]
    cores: Option<f64>,
}

/// A hundred years.
const SECONDS_MAX: f64 = 100.0 * 366.0 * 86_400.0;
const CORES_MAX: f64 = 1e9;

/// The workflow as one job, submitted at once.
///
/// # Errors
/// What is not such a file, names a task that is not there, or has a cycle.
pub fn read_wfcommons(text: &str) -> Result<Workload, Malformed> {
    let file: File = serde_json::from_str(text).map_err(|error| Malformed {
        line: error.line(),
        column: error.column(),
        message: format!("not a workflow of WfCommons: {error}"),
    })?;
    let Workflow { specification, execution, tasks } = file.workflow;
    let written = specification.map_or(tasks, |specification| specification.tasks);
    let ran: BTreeMap<String, Ran> =
        execution.into_iter().flat_map(|e| e.tasks).map(|ran| (ran.id.clone(), ran)).collect();
    let places = places(text, &written)?;
    if let Some(stranger) = ran.keys().find(|id| !places.contains_key(id.as_str())) {
        return Err(refusal(
            text,
            stranger,
            &format!("ran, and is no task{}", did_you_mean(stranger, &places)),
        ));
    }
    let tasks = written.iter().map(|task| made(text, task, ran.get(named(task)), &places));
    let tasks: Vec<Task> = tasks.collect::<Result<_, _>>()?;
    if let Some(cycle) = cycle(&tasks) {
        let names: Vec<&str> = cycle.iter().map(|place| tasks[*place].name.as_str()).collect();
        let why = format!("waits for itself, a cycle: {}; leave one of the parents out", names.join(" -> "));
        return Err(refusal(text, names[0], &why));
    }
    let job = Job { submit: Duration::ZERO, user: file.name, priority: 0, tasks };
    let jobs = if job.tasks.is_empty() { Vec::new() } else { vec![job] };
    Ok(Workload { jobs, ..Workload::default() })
}

fn named(task: &Written) -> &str {
    task.id.as_deref().unwrap_or(&task.name)
}

fn places<'a>(text: &str, written: &'a [Written]) -> Result<BTreeMap<&'a str, usize>, Malformed> {
    let mut places = BTreeMap::new();
    for (place, task) in written.iter().enumerate() {
        if places.insert(named(task), place).is_some() {
            return Err(refusal(text, named(task), "is there twice; give each an `id` of its own"));
        }
    }
    Ok(places)
}

fn made(
    text: &str,
    task: &Written,
    ran: Option<&Ran>,
    places: &BTreeMap<&str, usize>,
) -> Result<Task, Malformed> {
    let name = named(task);
    let seconds = ran.map(|ran| ran.seconds).or(task.seconds).unwrap_or(0.0);
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        let nearest = seconds.clamp(0.0, SECONDS_MAX);
        return Err(refusal(text, name, &format!("ran {seconds} s; the nearest is {nearest}")));
    }
    let cores = ran.and_then(|ran| ran.cores).or(task.cores).unwrap_or(1.0);
    if !(0.0..=CORES_MAX).contains(&cores) {
        let nearest = cores.clamp(1.0, CORES_MAX);
        return Err(refusal(text, name, &format!("asks for {cores} cores; the nearest is {nearest}")));
    }
    let after = task.parents.iter().map(|parent| {
        let unknown = || format!("has a parent `{parent}` that is not there{}", did_you_mean(parent, places));
        places.get(parent.as_str()).copied().ok_or_else(|| refusal(text, name, &unknown()))
    });
    let after = after.collect::<Result<_, _>>()?;
    let run = Duration::from_secs_f64(seconds).max(Duration::from_millis(1));
    // A part of a core is one.
    let cores = cores.max(1.0).ceil() as u64;
    Ok(Task { estimate: Some(run), after, ..Task::new(name, cores, run) })
}

fn did_you_mean(name: &str, places: &BTreeMap<&str, usize>) -> String {
    let near = model::validate::nearest(name, places.keys().copied());
    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// What is wrong with a task, with the line where it is named.
fn refusal(text: &str, name: &str, why: &str) -> Malformed {
    Malformed { line: line_of(text, name).unwrap_or(0), column: 0, message: format!("task `{name}` {why}") }
}

/// Where its name, or its id, is given, and not where others name it.
fn line_of(text: &str, name: &str) -> Option<usize> {
    let quoted = serde_json::to_string(name).ok()?;
    let is_given = |before: &str| {
        let key = before.trim_end().strip_suffix(':').map(str::trim_end);
        key.is_some_and(|key| key.ends_with("\"id\"") || key.ends_with("\"name\""))
    };
    let (at, _) = text.match_indices(&quoted).find(|(at, _)| is_given(&text[..*at]))?;
    Some(text[..at].matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let new = r#"{"name":"w","workflow":{
            "specification":{"tasks":[{"name":"a","id":"a1","parents":[]},{"name":"b","id":"b1","parents":["a1"]}]},
            "execution":{"tasks":[{"id":"a1","runtimeInSeconds":2.5,"coreCount":2},{"id":"b1","runtimeInSeconds":1}]}}}"#;
        let old = r#"{"name":"w","workflow":{"tasks":[{"name":"a1","runtime":2.5,"cores":2},
            {"name":"b1","parents":["a1"],"runtime":1}]}}"#;
        for text in [new, old] {
            let found = read_wfcommons(text).unwrap();
            let tasks = &found.jobs[0].tasks;
            assert_eq!((tasks[0].cores, tasks[0].run.as_millis(), tasks[1].cores), (2, 2_500, 1));
            assert_eq!(tasks[1].after, [0]);
        }
    }

    #[test]
    fn what_is_none_is_told() {
        let told = |text: &str| read_wfcommons(text).unwrap_err().to_string();
        assert!(told("{").contains("not a workflow"));
        let lone = r#"{"workflow":{"tasks":[{"name":"a","parents":["b"]}]}}"#;
        assert!(told(lone).contains("`b` that is not there"));
        let near = "{\"workflow\":{\"tasks\":[\n{\"name\":\"first\",\"runtime\":1},\n{\"name\":\"b\",\"parents\":[\"frist\"]}]}}";
        assert_eq!(
            told(near),
            "line 3: task `b` has a parent `frist` that is not there; did you mean `first`?"
        );
        let twice = "{\"workflow\":{\"tasks\":[{\"name\":\"b\"},\n{\"name\":\"a\"},{\"name\":\"a\"}]}}";
        assert_eq!(told(twice), "line 2: task `a` is there twice; give each an `id` of its own");
        let stranger = r#"{"workflow":{"specification":{"tasks":[{"name":"a","id":"a1"}]},
            "execution":{"tasks":[{"id":"a2","runtimeInSeconds":1}]}}}"#;
        assert_eq!(told(stranger), "line 2: task `a2` ran, and is no task; did you mean `a1`?");
        assert!(
            told(r#"{"workflow":{"tasks":[{"name":"a","cores":-4}]}}"#)
                .contains("-4 cores; the nearest is 1")
        );
        let circle = r#"{"workflow":{"tasks":[{"name":"a","parents":["b"]},{"name":"b","parents":["a"]}]}}"#;
        assert!(told(circle).contains("line 1: task `a` waits for itself, a cycle: a -> b -> a"));
        assert!(
            told(r#"{"workflow":{"tasks":[{"name":"a","runtime":-1}]}}"#)
                .contains("ran -1 s; the nearest is 0")
        );
    }
}
