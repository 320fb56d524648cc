//! A job as the log has it.

use serde_json::Value;

use super::read::{members, number, texts, thousandths};
use super::task::{State, Task};

#[derive(Default)]
pub struct Job {
    pub state: String,
    pub queue: String,
    /// Who has submitted it, if the queue is one in which users take turns.
    pub user: String,
    pub priority: i64,
    groups: Vec<Group>,
    pub tasks: Vec<Task>,
    pub after: Vec<u64>,
    /// Retries that were accepted.
    pub rounds: u64,
    /// The last entry with some, and how many there were before it.
    pub retried_in: (u64, u64),
    pub is_held_back: bool,
}

pub struct Group {
    pub name: String,
    pub first: u64,
    pub len: u64,
    pub cpu: u64,
    /// Its tasks start together or not at all.
    pub gang: bool,
    /// Groups of the job, and other jobs.
    pub after: Vec<String>,
    pub after_each: Vec<String>,
}

impl Group {
    fn of(task: &Value, first: u64) -> Group {
        let gang = number(&task["gang"]);
        Group {
            name: task["name"].as_str().unwrap_or_default().to_owned(),
            first,
            len: gang.or_else(|| task["array"].as_str().and_then(members)).unwrap_or(1),
            cpu: task["resources"].get("cpu").map_or(1_000, thousandths),
            gang: gang.is_some(),
            after: texts(task.get("after")),
            after_each: texts(task.get("after_each")),
        }
    }

    pub fn numbers(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.len
    }
}

impl Job {
    pub fn of(spec: &Value) -> Job {
        let mut job = Job {
            state: "waiting".to_owned(),
            queue: spec["queue"].as_str().unwrap_or("default").to_owned(),
            priority: spec["priority"].as_i64().unwrap_or(0),
            after: spec["after"].as_array().into_iter().flatten().filter_map(number).collect(),
            ..Job::default()
        };
        let mut first = 0;
        for task in spec["tasks"].as_array().into_iter().flatten() {
            let group = Group::of(task, first);
            first += group.len;
            job.groups.push(group);
        }
        job.tasks = vec![Task::default(); first as usize];
        job
    }

    pub fn group_of(&self, task: u64) -> Option<&Group> {
        self.groups.iter().find(|group| group.numbers().contains(&task))
    }

    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// The gang that the task is a member of.
    pub fn gang_of(&self, task: u64) -> Option<&Group> {
        self.group_of(task).filter(|group| group.gang)
    }

    pub fn cpu_of(&self, task: u64) -> u64 {
        self.group_of(task).map_or(0, |group| group.cpu)
    }

    pub fn state_of(&self, task: u64) -> State {
        self.tasks.get(task as usize).map_or(State::New, |task| task.state)
    }

    /// Those of the group, which is one of this job's.
    pub fn tasks_of(&self, group: &Group) -> &[Task] {
        &self.tasks[group.first as usize..(group.first + group.len) as usize]
    }
}
