//! W2: the committed log, replayed through a small model of its own: what a submit is answered, which way a task may go, who
//! owns it, what it waits for, how much a worker has, what is a gang and who gives way to whom. It shares no code with the
//! product; it reads what was written.

mod allocations;
mod gangs;
mod job;
mod order;
mod preempt;
mod read;
mod task;
mod world;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use model::RequestId;

use crate::checks::{Evidence, Finding};
use crate::history::{Answer, Call};
use crate::trace::Trace;
use crate::workload::Workload;
pub use preempt::GaveWay;
pub use world::World;

/// Problems of one kind that are told one by one.
const TOLD_MAX: usize = 50;

/// What the model found, by the claim that it speaks against.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub replies: Vec<String>,
    pub rounds: Vec<String>,
    pub owners: Vec<String>,
    pub dependencies: Vec<String>,
    pub capacity: Vec<String>,
    pub order: Vec<String>,
    pub gangs: Vec<String>,
    pub preemptions: Vec<String>,
    pub claims: Vec<String>,
}

impl Found {
    fn note(list: &mut Vec<String>, what: String) {
        if list.len() < TOLD_MAX {
            list.push(what);
        }
    }
}

/// The model's state behind the last entry. `None`: nobody wrote the log down.
pub fn replay(evidence: &Evidence) -> Option<World> {
    let trace = evidence.trace.as_ref().filter(|trace| !trace.entries.is_empty())?;
    let mut world = World::default();
    trace.entries.values().for_each(|entry| world.apply(entry));
    Some(world)
}

/// The verdicts that the log can give.
pub fn check(evidence: &Evidence, world: Option<&World>) -> Vec<Finding> {
    let Some((trace, world)) = evidence.trace.as_ref().zip(world) else {
        // What has no hooks was not asked to.
        return match (&evidence.trace, evidence.asked.traced) {
            (None, false) => Vec::new(),
            (None, true) => unknown("no replica wrote down what it applied"),
            (Some(_), _) => unknown("no entry was written down"),
        };
    };
    let mut found = world.found.clone();
    found.replies.extend(trace.contradictions.iter().take(TOLD_MAX).cloned());
    found.replies.extend(against_history(evidence, world));
    found.replies.extend(against_end(evidence, world));
    let holes = (trace.missing > 0).then(|| format!("{} entries were written down by nobody", trace.missing));
    let looked_at = told(trace, world);
    let judge = |id, claim, problems: Vec<String>| {
        Finding::new(id, claim, looked_at.clone(), problems).unless(holes.iter().cloned().collect())
    };
    vec![
        judge(
            "W2",
            "the log, replayed through another model, gives the same answers everywhere",
            found.replies,
        ),
        judge("W4.log", "in the log each task ends once per round", found.rounds),
        judge("W6.log", "in the log a task has one owner, and only the owner ends it", found.owners),
        judge("W7.log", "in the log nothing begins before what it waits for", found.dependencies),
        judge("W9.log", "in the log no worker is given more than it has", found.capacity),
        judge("W10", "what is better and waits is not passed over", found.order),
        judge("W16.log", "in the log a gang is placed, begun anew and ended as a whole", found.gangs)
            .unless(none_of(evidence, Workload::Gang, world.seen.gangs, "gang was placed")),
        judge("W17", "what gives way has a lower priority than what it makes way for", found.preemptions)
            .unless(none_of(evidence, Workload::Preempt, world.gave_way.len() as u64, "task gave way")),
        judge("W18", "what workers take themselves they may take", found.claims).unless(none_of(
            evidence,
            Workload::Claim,
            world.seen.claims,
            "task was claimed",
        )),
    ]
}

/// A workload that is about something, and in which it did not happen, says nothing of it.
fn none_of(evidence: &Evidence, workload: Workload, count: u64, what: &str) -> Vec<String> {
    let is_missed = evidence.asked.workload == workload && count == 0;
    is_missed.then(|| format!("no {what}")).into_iter().collect()
}

fn told(trace: &Trace, world: &World) -> String {
    let replicas = trace.lines.len();
    let world::Seen { placements, ends, gangs, gangs_anew, claims } = world.seen;
    let gave_way: usize = world.gave_way.values().map(std::collections::BTreeSet::len).sum();
    format!(
        "{} entries of {replicas} replicas, {} jobs, {placements} placements, {gangs} of gangs ({gangs_anew} anew), \
         {claims} claims, {gave_way} preempted, {ends} ends",
        trace.entries.len(),
        world.jobs.len(),
    )
}

fn unknown(why: &str) -> Vec<Finding> {
    let finding = Finding::new("W2", "the log, replayed through another model", String::new(), Vec::new());
    vec![finding.unless(vec![why.to_owned()])]
}

/// An event of the log in the words of those who watch.
pub fn words(event: &serde_json::Value) -> String {
    let (kind, event) = read::variant(event);
    let text = |name: &str| event[name].as_str().unwrap_or("-");
    match kind {
        "Job" | "job" => format!("job {} {}", text("job"), text("state")),
        "Tasks" | "tasks" => {
            let tasks = read::run(&event["tasks"]).unwrap_or_default();
            let (len, attempt) = (tasks.end - tasks.start, event["attempt"].as_u64().unwrap_or(0));
            format!(
                "tasks {} {}+{len} {} {attempt} {}",
                text("job"),
                tasks.start,
                text("state"),
                text("worker")
            )
        }
        "Worker" | "worker" => format!("worker {} {}", text("worker"), text("state")),
        _ => format!("queue {}", text("queue")),
    }
}

/// What clients were told against the log, and the order of the log against real time.
fn against_history(evidence: &Evidence, world: &World) -> Vec<String> {
    let mut problems = Vec::new();
    // It was done at some time after it was first asked for, by whomever, and before it was first acknowledged.
    let mut asked: BTreeMap<RequestId, u64> = BTreeMap::new();
    let mut first: BTreeMap<RequestId, (u64, u64, u64)> = BTreeMap::new();
    for operation in &evidence.operations {
        let Call::Submit { id, body: 0, .. } = operation.call else { continue };
        let invoked = asked.entry(id).or_insert(operation.invoked);
        *invoked = (*invoked).min(operation.invoked);
        let Some(Answer::Submitted { job, .. }) = &operation.answer else { continue };
        match world.requests.get(&id.to_string()) {
            None => problems.push(format!("{job} was acknowledged under {id}, which the log does not hold")),
            Some(request) if request.job != Some(job.0) => {
                problems.push(format!("{job} was acknowledged under {id}, the log has {:?}", request.job));
            }
            Some(request) => {
                let entry = first.entry(id).or_insert((*invoked, operation.completed, request.index));
                entry.1 = entry.1.min(operation.completed);
            }
        }
    }
    let mut by_end: Vec<_> = first.values().map(|(_, completed, index)| (*completed, *index)).collect();
    by_end.sort_unstable();
    let mut by_begin: Vec<_> = first.values().copied().collect();
    by_begin.sort_unstable();
    let (mut place, mut newest) = (0, 0);
    for (invoked, _, index) in by_begin {
        while place < by_end.len() && by_end[place].0 < invoked {
            newest = newest.max(by_end[place].1);
            place += 1;
        }
        if index < newest {
            problems.push(format!("entry {index} was asked for after entry {newest} had been acknowledged"));
        }
    }
    problems.truncate(TOLD_MAX);
    problems
}

/// What replicas told at the end against what the model came to.
fn against_end(evidence: &Evidence, world: &World) -> Vec<String> {
    let last = evidence.last();
    let unlike = last.values().filter_map(|job| {
        let Some(own) = world.jobs.get(&job.id.0) else {
            return Some(format!("{} is there at the end and not in the log", job.id));
        };
        let state = job.state.name();
        (own.state != state).then(|| format!("{} is {state} at the end, {} by the log", job.id, own.state))
    });
    unlike.take(TOLD_MAX).collect()
}
