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
    let named = |task: &Written| task.id.clone().unwrap_or_else(|| task.name.clone());
    let places: BTreeMap<String, usize> =
        written.iter().enumerate().map(|(place, task)| (named(task), place)).collect();
    let refuse = |message: String| Malformed { line: 0, column: 0, message };
    let mut tasks = Vec::with_capacity(written.len());
    for task in &written {
        let name = named(task);
        let ran = ran.get(&name);
        let seconds = ran.map(|ran| ran.seconds).or(task.seconds).unwrap_or(0.0);
        let run = Duration::try_from_secs_f64(seconds)
            .map_err(|error| refuse(format!("task `{name}` ran {seconds} s: {error}")))?;
        let after = task.parents.iter().map(|parent| {
            let place = places.get(parent).copied();
            place.ok_or_else(|| refuse(format!("task `{name}` has a parent `{parent}` that is not there")))
        });
        let cores = ran.and_then(|ran| ran.cores).or(task.cores).unwrap_or(1.0).clamp(1.0, 1e9).ceil() as u64;
        let after = after.collect::<Result<_, _>>()?;
        let run = run.max(Duration::from_millis(1));
        let (estimate, after_jobs) = (Some(run), Vec::new());
        tasks.push(Task { name, cores, run, estimate, deadline: None, after, after_jobs });
    }
    if let Some(cycle) = cycle(&tasks) {
        let names: Vec<&str> = cycle.iter().map(|place| tasks[*place].name.as_str()).collect();
        return Err(refuse(format!("a cycle: {}", names.join(" -> "))));
    }
    let job = Job { submit: Duration::ZERO, user: file.name, priority: 0, tasks };
    let jobs = if job.tasks.is_empty() { Vec::new() } else { vec![job] };
    Ok(Workload { jobs, left_out: 0 })
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
        let circle = r#"{"workflow":{"tasks":[{"name":"a","parents":["b"]},{"name":"b","parents":["a"]}]}}"#;
        assert!(told(circle).contains("a cycle"));
        assert!(told(r#"{"workflow":{"tasks":[{"name":"a","runtime":-1}]}}"#).contains("ran -1 s"));
    }
}
