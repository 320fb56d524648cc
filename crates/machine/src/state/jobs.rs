//! Jobs and their tasks. An entry of a job's `tasks` is one `Group`, whose tasks are kept as runs of positions:
//! an array of a million costs as much as the runs its history has broken it into.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::views::{Counts, JobState};
use model::{
    Actor, ClassId, Elapsed, JobId, JobSpec, Lean, Outcome, Run, RunSet, Seq, SessionId, TaskSpec, Timestamp,
    Token,
};
use serde::{Deserialize, Serialize};

use crate::Stamp;
use crate::state::queues::QueueId;
use crate::state::rare::{GroupRare, JobCounts, JobRare};
use crate::state::users::UserId;

/// A row of a million waiting jobs is paid for a million times, so that what few jobs have is apart: [`JobRare`].
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub id: JobId,
    pub spec: Arc<JobSpec>,
    pub actor: Arc<Actor>,
    pub submitted: Stamp,
    pub queue: QueueId,
    /// Whose share of the queue it counts for.
    pub user: UserId,
    pub priority: i32,
    pub paused: bool,
    /// Cancelled as a whole, and not retried since.
    pub cancelled: bool,
    /// Nothing of the whole job's holds its tasks back any more.
    pub open: bool,
    pub state: JobState,
    pub groups: Box<[Group]>,
    /// Groups that are wholly final.
    pub settled: u32,
    pub counts: JobCounts,
    pub finished: Option<Stamp>,
    pub rare: Lean<JobRare>,
}

/// Until when the whole job waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    #[default]
    None,
    Elapsed(Elapsed),
    Wall(Timestamp),
}

/// What waits for a job: another job, or one group of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependent {
    pub job: JobId,
    pub group: Option<u32>,
}

/// What a group waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    Group(u32),
    Job(JobId),
}

/// Why tasks were skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Group(u32),
    Job(JobId),
}

/// The tasks of one entry of `tasks`. Sets hold positions, 0 to `len`; each position is in exactly one of `blocked`,
/// `ready`, `delayed`, `live`, `arrived`, `succeeded`, `failed`, `cancelled` and `skipped`.
///
/// What few groups have is apart: [`GroupRare`].
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Number of its first task in the job.
    pub first: u32,
    pub len: u32,
    pub class: ClassId,
    /// Its tasks start together or not at all.
    pub gang: bool,
    pub settled: bool,
    /// How many of `after` have not succeeded yet.
    pub waiting: u32,
    pub live_len: u32,
    pub blocked: RunSet,
    pub ready: RunSet,
    /// Placed, by first position.
    pub live: Lean<BTreeMap<u32, Live>>,
    pub succeeded: RunSet,
    /// Where it comes in the order of its queue; the lower first.
    pub rank: i64,
    /// Since when it has had something ready; with a `start_within`, since it last had more.
    pub ready_since: Elapsed,
    /// Since when it has had something ready and got nothing.
    pub passed_since: Elapsed,
    /// The last outcomes, by first position.
    pub outcomes: Lean<BTreeMap<u32, OutcomeRun>>,
    pub rare: Lean<GroupRare>,
}

/// A run of positions in one allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    pub len: u32,
    pub session: SessionId,
    pub seq: Seq,
    pub token: Token,
    pub attempt: u32,
}

/// What a task's earlier attempts left.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskRow {
    /// Ended or running attempts, through all rounds.
    pub attempts: u32,
    /// Its own failures in this round.
    pub failures: u32,
    /// Lost workers in this round.
    pub lost: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Arc<Outcome>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeRun {
    pub len: u32,
    pub outcome: Arc<Outcome>,
}

impl Job {
    /// Of all its tasks.
    pub fn counts(&self) -> Counts {
        self.counts.into()
    }

    /// The group that has the task of this number.
    pub fn group_of(&self, number: u32) -> Option<(usize, &Group)> {
        let place = self.groups.partition_point(|group| group.first <= number).checked_sub(1)?;
        let group = &self.groups[place];
        group.numbers().contains(number).then_some((place, group))
    }

    /// The groups that have any of these tasks, in order; `None` is all tasks.
    pub(crate) fn groups_of(&self, tasks: Option<&RunSet>) -> Vec<u32> {
        let Some(tasks) = tasks else { return self.places().collect() };
        let (mut places, mut from) = (Vec::new(), 0);
        while let Some(run) = tasks.first_from(from)
            && let Some((place, group)) = self.group_of(run.first)
        {
            places.push(place as u32);
            from = group.numbers().end();
        }
        places
    }

    /// All of its groups.
    pub(crate) fn places(&self) -> std::ops::Range<u32> {
        0..self.groups.len() as u32
    }

    /// Positions of the group that are named; `None` is all tasks.
    pub(crate) fn positions_in(&self, place: u32, tasks: Option<&RunSet>) -> RunSet {
        let group = &self.groups[place as usize];
        match tasks {
            None => RunSet::of(group.positions()),
            Some(tasks) => group.named(tasks, group.positions()).collect(),
        }
    }

    pub fn group_named(&self, name: &str) -> Option<usize> {
        self.spec.tasks.iter().position(|task| task.name == name)
    }

    pub fn task_spec(&self, group: usize) -> &TaskSpec {
        &self.spec.tasks[group]
    }

    /// Until when what is ready of the group may wait to be placed; `None`: as long as it takes, or nothing is ready.
    pub fn start_by(&self, place: usize) -> Option<Elapsed> {
        let group = self.groups.get(place).filter(|group| group.is_there())?;
        self.start_within(place).map(|within| group.ready_since.plus(within))
    }

    pub(crate) fn start_within(&self, place: usize) -> Option<Duration> {
        self.task_spec(place).timing.as_ref()?.start_within
    }

    pub fn tasks_count(&self) -> u32 {
        self.groups.last().map_or(0, |group| group.first + group.len)
    }

    pub fn is_finished(&self) -> bool {
        self.finished.is_some()
    }

    /// Whether a cancel has been answered of which this group's tasks may have yet to hear.
    pub fn is_cancelling(&self, group: &Group) -> bool {
        self.cancelled || self.cancelling.touches(group.numbers())
    }

    /// Whether what is ready of the group may be placed now, as far as the job goes. A change that concerns many groups
    /// speaks here at once; its chore brings their tasks into line.
    pub fn may_place(&self, group: &Group) -> bool {
        group.waiting == 0 && !self.holds_back(group)
    }

    /// Whether anything but what the group waits for keeps its tasks from being placed.
    pub fn holds_back(&self, group: &Group) -> bool {
        self.paused || !self.open || self.reopening > 0 || self.is_cancelling(group)
    }
}

impl Group {
    pub fn numbers(&self) -> Run {
        Run::new(self.first, self.len)
    }

    pub fn positions(&self) -> Run {
        Run::new(0, self.len)
    }

    /// Whether so much of it is ready as is placed at once: of a gang all members.
    pub(crate) fn is_there(&self) -> bool {
        if self.gang { self.ready.len() == self.len } else { !self.ready.is_empty() }
    }

    /// Positions of these task numbers, as far as they are of this group.
    pub fn positions_of(&self, numbers: Run) -> Option<Run> {
        let run = self.numbers().overlap(numbers)?;
        Some(Run::new(run.first - self.first, run.len))
    }

    /// Those of these positions whose tasks are in the set.
    pub(crate) fn named(&self, tasks: &RunSet, among: Run) -> impl Iterator<Item = Run> {
        tasks.parts_of(self.numbers_of(among)).filter_map(|run| self.positions_of(run))
    }

    pub fn numbers_of(&self, positions: Run) -> Run {
        Run::new(positions.first + self.first, positions.len)
    }

    pub fn counts(&self) -> Counts {
        Counts {
            blocked: self.blocked.len().into(),
            delayed: self.delayed.len() as u64,
            ready: self.ready.len().into(),
            running: (self.live_len + self.arrived.len()).into(),
            succeeded: self.succeeded.len().into(),
            failed: self.failed.len().into(),
            cancelled: self.cancelled.len().into(),
            skipped: self.skipped.len().into(),
        }
    }

    /// How many of these positions are not final.
    pub(crate) fn unfinished(&self, positions: Run) -> u32 {
        let sets = [&self.blocked, &self.ready, &*self.arrived];
        let waiting: u32 = sets.iter().flat_map(|set| set.parts_of(positions)).map(|run| run.len).sum();
        let delayed = self.delayed.range(positions.first..positions.end()).count() as u32;
        let from =
            self.live.range(..=positions.first).next_back().map_or(positions.first, |(first, _)| *first);
        let live = self.live.range(from..positions.end().max(from));
        let live = live.filter_map(|(first, live)| Run::new(*first, live.len).overlap(positions));
        waiting + delayed + live.map(|run| run.len).sum::<u32>()
    }

    pub fn all_succeeded(&self) -> bool {
        self.succeeded.len() == self.len
    }

    /// From 1.
    pub fn round(&self, position: u32) -> u32 {
        1 + self.later.iter().take_while(|set| set.contains(position)).count() as u32
    }

    pub(crate) fn next_round(&mut self, positions: Run) {
        let mut rest = vec![positions];
        for set in 0.. {
            if rest.is_empty() {
                return;
            }
            if self.later.len() == set {
                self.later.push(RunSet::new());
            }
            // Those that are in this set already go on to the next one, the others end here.
            let beyond: Vec<Run> = rest.iter().flat_map(|run| self.later[set].overlap(*run)).collect();
            for run in rest {
                self.later[set].insert(run);
            }
            rest = beyond;
        }
    }

    /// The allocation that has this position.
    pub fn live_at(&self, position: u32) -> Option<(Run, &Live)> {
        let (first, live) = self.live.range(..=position).next_back()?;
        let run = Run::new(*first, live.len);
        run.contains(position).then_some((run, live))
    }

    pub(crate) fn put_live(&mut self, positions: Run, live: Live) {
        self.live.insert(positions.first, Live { len: positions.len, ..live });
        self.live_len += positions.len;
    }

    /// Takes the live parts of `positions` out, or only those of one allocation.
    pub(crate) fn take_live(&mut self, positions: Run, of: Option<(SessionId, Seq)>) -> Vec<(Run, Live)> {
        let from =
            self.live.range(..=positions.first).next_back().map_or(positions.first, |(first, _)| *first);
        let touched: Vec<(u32, Live)> =
            self.live.range(from..positions.end().max(from)).map(|(first, live)| (*first, *live)).collect();
        let mut taken = Vec::new();
        for (first, live) in touched {
            let whole = Run::new(first, live.len);
            let wanted = of.is_none_or(|(session, seq)| live.session == session && live.seq == seq);
            let Some(part) = whole.overlap(positions).filter(|_| wanted) else { continue };
            self.live.remove(&first);
            self.live_len -= whole.len;
            for rest in [Run::new(first, part.first - first), Run::new(part.end(), whole.end() - part.end())]
            {
                if rest.len > 0 {
                    self.put_live(rest, live);
                }
            }
            taken.push((part, live));
        }
        taken
    }

    /// Attempts so far of the task at `position`.
    pub fn attempts(&self, position: u32) -> u32 {
        if let Some((_, live)) = self.live_at(position) {
            return live.attempt;
        }
        match self.rows.get(&position) {
            Some(row) => row.attempts,
            None => {
                let sets = [&self.succeeded, &self.arrived, &self.began];
                u32::from(sets.iter().any(|set| set.contains(position)))
            }
        }
    }

    /// Whether any position of `run` is placed in this allocation.
    pub(crate) fn has_live(&self, run: Run, (session, seq): (SessionId, Seq)) -> bool {
        let from = self.live.range(..=run.first).next_back().map_or(run.first, |(first, _)| *first);
        let mut live = self.live.range(from..run.end().max(from));
        live.any(|(_, live)| live.session == session && live.seq == seq)
    }

    /// A cancel takes this run of an allocation away: its attempt is counted, and on its way out.
    pub(crate) fn note_stopping(&mut self, run: Run, attempt: u32) {
        self.stopping.insert(run);
        self.note_over(run, attempt);
    }

    /// Counts an attempt that is over, or soon will be, and led to nothing.
    pub(crate) fn note_over(&mut self, run: Run, attempt: u32) {
        // An array in its first attempts is a run here too, not a row for each.
        if attempt == 1 && self.rows.range(run.first..run.end()).next().is_none() {
            self.began.insert(run);
            return;
        }
        for position in run.first..run.end() {
            self.rows.entry(position).or_default().attempts = attempt;
        }
    }

    /// Gives those of `run` that began a row of their own: with another attempt they are no longer all alike.
    pub(crate) fn begin_rows(&mut self, run: Run) {
        for position in self.began.take(run).into_iter().flat_map(|run| run.first..run.end()) {
            self.rows.entry(position).or_default().attempts = 1;
        }
    }

    /// Outcomes kept, last and earlier ones.
    pub fn outcomes_kept(&self) -> usize {
        self.outcomes.len() + self.earlier_len as usize
    }

    pub fn outcome_at(&self, position: u32) -> Option<&Arc<Outcome>> {
        let (first, run) = self.outcomes.range(..=position).next_back()?;
        Run::new(*first, run.len).contains(position).then_some(&run.outcome)
    }
}

/// What is left of a job that has left the hot state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    pub state: JobState,
    pub finished: Stamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::requests::RequestRow;

    /// A waiting job of one task is a row, a group and its spec, on each replica: what these grow by, a million jobs grow by
    /// a million times. They end just below a size class of the allocator.
    #[test]
    fn the_rows_of_a_waiting_job_stay_small() {
        // The counts of an `Arc`.
        let shared = 2 * size_of::<usize>();
        assert!(size_of::<Job>() + shared <= 160, "{}", size_of::<Job>());
        assert!(size_of::<Group>() <= 128, "{}", size_of::<Group>());
        assert!(size_of::<JobSpec>() + shared <= 80, "{}", size_of::<JobSpec>());
        assert!(size_of::<TaskSpec>() <= 64, "{}", size_of::<TaskSpec>());
        assert!(size_of::<Option<RequestRow>>() <= 48, "{}", size_of::<Option<RequestRow>>());
        assert!(size_of::<RunSet>() <= 16, "{}", size_of::<RunSet>());
    }
}
