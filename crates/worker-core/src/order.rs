//! What the leader asks for: start these tasks, one after the other.

use std::sync::Arc;

use model::{AttemptId, JobId, Kind, OnDisconnect, Run, Seq, TaskId, TaskSpec, Token, UnitShare};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub seq: Seq,
    pub token: Token,
    pub job: JobId,
    /// Numbers of the tasks; they take the resources of one.
    pub tasks: Run,
    pub attempt: u32,
    /// Sent ahead: start when there is room.
    pub held: bool,
    pub job_name: String,
    pub spec: Arc<TaskSpec>,
    /// Of the first task; the others follow by `array_step`.
    pub array_index: Option<u32>,
    pub array_step: u32,
    /// `BATON_LINE` of each task, or none at all.
    pub lines: Vec<String>,
    pub units: Vec<UnitShare>,
    pub on_disconnect: OnDisconnect,
    pub traceparent: String,
    /// Of a member of a gang.
    #[serde(default)]
    pub gang: Option<Gang>,
}

/// What a member of a gang is told of the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gang {
    pub rank: u32,
    /// Where each runs, by rank; empty where its worker did not say.
    pub addresses: Vec<String>,
    /// Which of the members at this worker it is, and how many they are.
    pub local_rank: u32,
    pub local_size: u32,
    /// For the first to listen at.
    pub port: u16,
}

impl Order {
    pub fn attempt_of(&self, task: u32) -> AttemptId {
        AttemptId { task: TaskId { job: self.job, number: task }, attempt: self.attempt }
    }

    pub fn array_index_of(&self, task: u32) -> Option<u32> {
        let place = task.saturating_sub(self.tasks.first);
        self.array_index.map(|first| first.saturating_add(place.saturating_mul(self.array_step)))
    }

    pub fn line_of(&self, task: u32) -> Option<&str> {
        let place = task.checked_sub(self.tasks.first)? as usize;
        self.lines.get(place).map(String::as_str)
    }

    /// What is begun at once when `from` is the next task: noops all together, anything else one by one.
    pub(crate) fn portion(&self, from: u32) -> Run {
        let len = if self.spec.work.kind() == Kind::Noop { self.tasks.end() - from } else { 1 };
        Run::new(from, len)
    }
}
