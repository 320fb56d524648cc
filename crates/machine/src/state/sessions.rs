//! Workers, their sessions, and the allocations on them.

use std::collections::BTreeMap;
use std::time::Duration;

use model::resources::choose_units;
use model::settings::Lease;
use model::size::PARTS;
use model::time::micros;
use model::{
    Capacity, ClassId, Constraint, Elapsed, JobId, Kind, Placement, Resources, Run, RunSet, Seq, SessionId,
    TaskSpec, Timestamp, Token, UnitShare,
};
use serde::{Deserialize, Serialize};

use crate::Stamp;
use crate::TASKS_PER_PLACEMENT_MAX;
use crate::state::queues::QueueId;
use crate::state::users::UserId;

/// A worker by its name, live or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    pub name: String,
    pub cordoned: bool,
    pub draining: bool,
    pub session: Option<SessionId>,
    /// What it offered last.
    pub capacity: Capacity,
    pub labels: BTreeMap<String, String>,
    pub kinds: Vec<Kind>,
    pub functions: Vec<String>,
    pub isolation: String,
}

/// One registration of one worker process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    pub id: SessionId,
    pub worker: String,
    pub secret_hash: u64,
    pub lease: Lease,
    /// Marked at once; a chore takes its allocations back.
    pub ended: bool,
    pub capacity: Capacity,
    pub labels: BTreeMap<String, String>,
    pub kinds: Vec<Kind>,
    pub functions: Vec<String>,
    pub isolation: String,
    /// Taken by Running and Stopping allocations.
    pub used: Resources,
    /// What is free of each indexed unit, in ten-thousandths.
    pub units: BTreeMap<String, Vec<u32>>,
    pub last_seq: Seq,
    pub allocations: BTreeMap<Seq, Allocation>,
    /// It drains for this task.
    pub reserved: Option<(JobId, u32)>,
    /// When it was reserved, or when anything last came to an end here since.
    #[serde(default)]
    pub reserved_since: Elapsed,
    /// Nothing has ended here for so long that the task is to be given another worker.
    #[serde(default)]
    pub in_vain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Sent ahead; takes no capacity until the worker says that it started.
    Held,
    Running,
    /// Nothing of it counts any more; frees its capacity when the worker says that it ended.
    Stopping,
}

/// What some tasks of one group have taken of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Allocation {
    pub seq: Seq,
    pub token: Token,
    pub job: JobId,
    pub queue: QueueId,
    /// Whose share of the queue it counts for.
    #[serde(default)]
    pub user: UserId,
    /// Task numbers.
    pub tasks: Run,
    pub attempt: u32,
    /// Of its first task when it was placed; a cancel and a retry may begin the next one before it has ended.
    #[serde(default)]
    pub round: u32,
    pub phase: Phase,
    /// It began as Held: what it takes was not looked for first.
    #[serde(default)]
    pub ahead: bool,
    pub resources: Resources,
    pub units: Vec<UnitShare>,
    /// Dominant share of the cluster when it was placed, in millionths.
    pub share: u64,
    pub placed: Stamp,
    /// When it should have ended, by its estimate; `MAX`: nobody knows.
    pub expected: Elapsed,
    /// By the worker's clock; of the first task.
    pub started: Option<Timestamp>,
    /// It is stopped for somebody of a higher priority.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preempted: bool,
    /// Where it stands, in a queue that slices time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<Slice>,
    /// Task numbers whose end was reported.
    pub reported: RunSet,
}

/// A task that runs for a quantum at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// When it went on last, or has stood still since.
    pub since: Elapsed,
    /// It stands still, and comes after all jobs up to this one: the last that there was by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<JobId>,
}

fn is_none(members: &u32) -> bool {
    *members == 0
}

/// What a class of tasks asks of a worker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClassKey {
    pub resources: Resources,
    /// What would do as well, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Resources>,
    pub constraints: Vec<Constraint>,
    pub kind: Kind,
    pub function: Option<String>,
    /// How many members start together; 0: each starts alone.
    #[serde(default, skip_serializing_if = "is_none")]
    pub gang: u32,
    pub placement: Placement,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Class {
    pub key: ClassKey,
    /// Groups of it in the hot state, and classes that have it as an alternative.
    pub refs: u64,
    /// Its alternatives, each as a class of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<ClassId>,
}

/// What is free on a session, to plan with.
#[derive(Clone, Debug, PartialEq)]
pub struct Room {
    pub free: Resources,
    pub units: BTreeMap<String, Vec<u32>>,
}

impl ClassKey {
    /// Two tasks of one class are the same to a planner.
    pub fn of(task: &TaskSpec, placement: Placement) -> ClassKey {
        let mut constraints = (*task.constraints).clone();
        constraints.sort();
        ClassKey {
            resources: task.resources.clone(),
            alternatives: (*task.alternatives).clone(),
            constraints,
            kind: task.work.kind(),
            function: task.work.function().map(str::to_owned),
            gang: task.gang_size().unwrap_or(0),
            placement,
        }
    }
}

impl ClassKey {
    /// The classes that its alternatives are.
    pub fn others(&self) -> impl Iterator<Item = ClassKey> + '_ {
        let of = |resources: &Resources| ClassKey {
            resources: resources.clone(),
            alternatives: Vec::new(),
            ..self.clone()
        };
        self.alternatives.iter().map(of)
    }

    /// Tasks that may stand in one placement.
    pub fn tasks_per_placement_max(&self) -> u32 {
        if self.resources.named.apart.is_empty() { TASKS_PER_PLACEMENT_MAX } else { 1 }
    }
}

impl Room {
    /// The units that would be taken, or nothing if it does not fit.
    pub fn fit(&self, asked: &Resources) -> Option<Vec<UnitShare>> {
        if !self.free.covers(asked) {
            return None;
        }
        let mut chosen = Vec::new();
        for (name, free) in &self.units {
            let parts = asked.get(name);
            if parts > 0 {
                chosen.extend(choose_units(name, free, parts)?);
            }
        }
        Some(chosen)
    }

    pub fn take(&mut self, asked: &Resources, units: &[UnitShare]) {
        self.free.subtract(asked);
        take_units(&mut self.units, units);
    }

    pub fn give_back(&mut self, asked: &Resources, units: &[UnitShare]) {
        self.free.add(asked);
        give_units_back(&mut self.units, units);
    }
}

fn give_units_back(free: &mut BTreeMap<String, Vec<u32>>, units: &[UnitShare]) {
    for share in units {
        if let Some(unit) = free.get_mut(&share.resource).and_then(|all| all.get_mut(share.unit as usize)) {
            *unit = (*unit + share.parts).min(PARTS as u32);
        }
    }
}

fn take_units(free: &mut BTreeMap<String, Vec<u32>>, units: &[UnitShare]) {
    for share in units {
        if let Some(unit) = free.get_mut(&share.resource).and_then(|all| all.get_mut(share.unit as usize)) {
            *unit = unit.saturating_sub(share.parts);
        }
    }
}

impl Session {
    pub fn room(&self) -> Room {
        let mut free = self.capacity.total.clone();
        free.subtract(&self.used);
        Room { free, units: self.units.clone() }
    }

    pub(crate) fn take(&mut self, asked: &Resources, units: &[UnitShare]) {
        self.used.add(asked);
        take_units(&mut self.units, units);
    }

    pub(crate) fn give_back(&mut self, asked: &Resources, units: &[UnitShare]) {
        self.used.subtract(asked);
        give_units_back(&mut self.units, units);
    }

    pub(crate) fn fresh_units(capacity: &Capacity) -> BTreeMap<String, Vec<u32>> {
        let whole = |(name, units): (&String, &u32)| (name.clone(), vec![PARTS as u32; *units as usize]);
        capacity.indexed.iter().map(whole).collect()
    }
}

impl Allocation {
    pub fn takes_capacity(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Stopping)
    }

    /// It runs by slices, and others have theirs now: its processor time is free, all else is not.
    pub fn is_suspended(&self) -> bool {
        self.slice.is_some_and(|slice| slice.behind.is_some())
    }

    /// What a switch gives back, and takes again.
    pub fn processor(&self) -> Resources {
        Resources { cpu: self.resources.cpu, ..Resources::default() }
    }

    /// What it takes of its session now, if it takes anything.
    pub fn takes(&self) -> Resources {
        let mut takes = self.resources.clone();
        if self.is_suspended() {
            takes.cpu = 0;
        }
        takes
    }

    /// When it will have ended, as far as is known at `now`: one that runs over is expected to take twice as long as before.
    pub fn expected_end(&self, now: Elapsed) -> Option<Elapsed> {
        self.end_expected_at(self.expected, now)
    }

    /// The same, if it goes on at `now`.
    pub fn resumed_end(&self, now: Elapsed) -> Option<Elapsed> {
        let stood = self.slice.filter(|_| self.is_suspended()).map(|slice| now.since(slice.since));
        self.end_expected_at(self.expected.plus(stood.unwrap_or_default()), now)
    }

    fn end_expected_at(&self, expected: Elapsed, now: Elapsed) -> Option<Elapsed> {
        if self.expected == Elapsed::MAX {
            return None;
        }
        let (passed, estimate) =
            (now.0.saturating_sub(self.placed.elapsed.0), expected.since(self.placed.elapsed));
        let mut length = micros(estimate).max(1);
        while length <= passed {
            length = length.saturating_mul(2);
        }
        Some(self.placed.elapsed.plus(Duration::from_micros(length)))
    }

    /// Those of `tasks` that it has and whose end was not reported.
    pub fn unreported(&self, tasks: Run) -> RunSet {
        let mut left = RunSet::new();
        left.extend(self.tasks.overlap(tasks));
        self.reported.runs().for_each(|run| left.remove(run));
        left
    }

    pub fn is_reported(&self) -> bool {
        self.reported.len() >= self.tasks.len
    }
}
