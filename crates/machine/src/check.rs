//! Invariants of the state. Tests and the simulation call this after every entry; it costs O(state).

use std::collections::{BTreeMap, BTreeSet};

use model::views::Counts;
use model::{JobId, Run, RunSet, SessionId};

use crate::apply::deps::is_unsatisfied;
use crate::chores::Chore;
use crate::state::State;
use crate::state::index::{Index, is_ready};
use crate::state::jobs::{Group, Job, On};
use crate::state::periodic::queue_of;
use crate::state::queues::Queue;
use crate::state::sessions::{Allocation, Phase, Session};
use crate::state::users::{EVERYBODY, UserId};

/// Every broken invariant, in words; none is a sound state.
pub fn broken(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    for job in state.jobs() {
        check_job(state, job, &mut found);
        // Chores may still have to bring what happened to those that wait for it.
        if state.chores.is_empty() {
            check_waiting(state, job, &mut found);
        }
    }
    check_stopping(state, &mut found);
    check_marks(state, &mut found);
    for session in state.sessions() {
        check_session(state, session, &mut found);
    }
    let results: u64 = state.jobs().map(|job| job.results_bytes).sum();
    if results != state.meta.results_bytes {
        found.push(format!("{results} bytes of results are kept as {}", state.meta.results_bytes));
    }
    check_queues(state, &mut found);
    check_periodic(state, &mut found);
    check_index(state, &mut found);
    found
}

fn check_job(state: &State, job: &Job, found: &mut Vec<String>) {
    if job.rare.is_idle() {
        found.push(format!("{}: room is kept for what it does not have", job.id));
    }
    let mut counts = Counts::default();
    for (place, group) in job.groups.iter().enumerate() {
        let name = format!("{} group {place}", job.id);
        counts.add(&group.counts());
        if group.rare.is_idle() {
            found.push(format!("{name}: room is kept for what it does not have"));
        }
        check_positions(&name, group, found);
        if group.gang {
            check_gang(&name, group, found);
        }
        check_live(state, job, &name, group, found);
        check_outcomes(&name, group, found);
        if group.settled != (group.counts().unfinished() == 0) {
            found.push(format!("{name}: settled is {} with {:?}", group.settled, group.counts()));
        }
    }
    let kept = |group: &Group| {
        let earlier = group.rows.values().flat_map(|row| &row.earlier);
        let all = group.outcomes.values().map(|run| &run.outcome).chain(earlier);
        all.map(|outcome| crate::apply::outcomes::result_bytes(outcome) as u64).sum::<u64>()
    };
    let results: u64 = job.groups.iter().map(kept).sum();
    if results != job.results_bytes {
        found.push(format!("{}: {results} bytes of results are kept as {}", job.id, job.results_bytes));
    }
    if counts != job.counts() {
        found.push(format!("{}: counts {:?} are kept as {:?}", job.id, counts, job.counts()));
    }
    let settled = job.groups.iter().filter(|group| group.settled).count() as u32;
    if settled != job.settled {
        found.push(format!("{}: {settled} settled groups are kept as {}", job.id, job.settled));
    }
    if job.is_finished() != (counts.unfinished() == 0) {
        found.push(format!("{}: finished is {} with {counts:?}", job.id, job.is_finished()));
    }
}

/// Each position is in exactly one place.
fn check_positions(name: &str, group: &Group, found: &mut Vec<String>) {
    let mut seen = RunSet::new();
    let sets = [
        &group.blocked,
        &group.ready,
        &group.arrived,
        &group.succeeded,
        &group.failed,
        &group.cancelled,
        &group.skipped,
    ];
    let delayed = group.delayed.keys().map(|position| Run::new(*position, 1));
    let live = group.live.iter().map(|(first, live)| Run::new(*first, live.len));
    for run in sets.into_iter().flat_map(RunSet::runs).chain(delayed).chain(live) {
        if seen.touches(run) {
            found.push(format!("{name}: positions {run:?} are in two places"));
        }
        seen.insert(run);
    }
    if seen.len() != group.len || seen.first().is_some_and(|run| run.first != 0) {
        found.push(format!("{name}: has {} of {} positions", seen.len(), group.len));
    }
    let live_len: u32 = group.live.values().map(|live| live.len).sum();
    if live_len != group.live_len {
        found.push(format!("{name}: {live_len} live positions are kept as {}", group.live_len));
    }
}

/// Never half a gang: what runs and what has arrived are all of it, and all in the same attempt; and nobody succeeds alone.
fn check_gang(name: &str, group: &Group, found: &mut Vec<String>) {
    let begun = group.live_len + group.arrived.len();
    if begun > 0 && begun != group.len {
        found.push(format!("{name}: {begun} of {} members of a gang run", group.len));
    }
    let tokens: BTreeSet<_> = group.live.values().map(|live| (live.token, live.attempt)).collect();
    if tokens.len() > 1 {
        found.push(format!("{name}: members of a gang run in several attempts: {tokens:?}"));
    }
    if !group.succeeded.is_empty() && !group.all_succeeded() {
        found.push(format!("{name}: {} of {} members of a gang succeeded", group.succeeded.len(), group.len));
    }
}

fn check_outcomes(name: &str, group: &Group, found: &mut Vec<String>) {
    let earlier: usize = group.rows.values().map(|row| row.earlier.len()).sum();
    if earlier != group.earlier_len as usize {
        found.push(format!("{name}: {earlier} earlier outcomes are kept as {}", group.earlier_len));
    }
    let mut end = 0;
    for (first, run) in &group.outcomes {
        if *first < end || run.len == 0 {
            found.push(format!("{name}: the outcomes at {first} overlap those before"));
        }
        end = first + run.len;
    }
}

/// Whatever is placed has an allocation on a session, with the same token.
fn check_live(state: &State, job: &Job, name: &str, group: &Group, found: &mut Vec<String>) {
    for (first, live) in &group.live {
        let allocation = state.session(live.session).and_then(|session| session.allocations.get(&live.seq));
        let holds = allocation.is_some_and(|allocation| {
            let numbers = group.numbers_of(Run::new(*first, live.len));
            allocation.token == live.token
                && allocation.job == job.id
                && allocation.tasks.overlap(numbers) == Some(numbers)
                && allocation.phase != Phase::Stopping
        });
        if !holds {
            found.push(format!(
                "{name}: position {first} is placed on {} without an allocation",
                live.session
            ));
        }
    }
}

/// What an allocation has and its group does not count as its own any more is being stopped, and nothing else is; and
/// until that is over the task has no other attempt, neither begun nor to be begun.
fn check_stopping(state: &State, found: &mut Vec<String>) {
    let mut fresh: BTreeMap<(JobId, usize), RunSet> = BTreeMap::new();
    for (session, row) in state.sessions().flat_map(|s| s.allocations.values().map(|row| (s.id, row))) {
        let Some((place, group)) = state.job(row.job).and_then(|job| job.group_of(row.tasks.first)) else {
            continue;
        };
        let left = row.unreported(row.tasks);
        let gone = left.numbers().map(|number| number - group.first).filter(|position| {
            let live = group.live_at(*position);
            !live.is_some_and(|(_, live)| live.session == session && live.seq == row.seq)
        });
        fresh.entry((row.job, place)).or_default().extend(gone.map(|position| Run::new(position, 1)));
    }
    for job in state.jobs() {
        for (place, group) in job.groups.iter().enumerate() {
            let stopping = fresh.remove(&(job.id, place)).unwrap_or_default();
            if stopping != *group.stopping {
                let kept = &group.stopping;
                found.push(format!(
                    "{} group {place}: {stopping:?} is being stopped, kept as {kept:?}",
                    job.id
                ));
            }
            let busy = |position: &u32| {
                let delayed = group.delayed.contains_key(position);
                delayed || group.ready.contains(*position) || group.live_at(*position).is_some()
            };
            if let Some(position) = group.stopping.numbers().find(busy) {
                found.push(format!("{} group {place}: {position} is being stopped and may begin", job.id));
            }
        }
    }
}

/// A job's marks are those of its chores.
fn check_marks(state: &State, found: &mut Vec<String>) {
    let mut marks: BTreeMap<JobId, (u32, u32)> = BTreeMap::new();
    for chore in &state.chores {
        match chore {
            Chore::Cancel { job, .. } => marks.entry(*job).or_default().0 += 1,
            Chore::Retry { job, .. }
            | Chore::ReopenDependents { job, .. }
            | Chore::ReopenLater { job, .. } => marks.entry(*job).or_default().1 += 1,
            _ => {}
        }
    }
    for job in state.jobs() {
        let (cancels, reopening) = marks.get(&job.id).copied().unwrap_or_default();
        if (cancels, reopening) != (job.cancels, job.reopening) {
            found.push(format!(
                "{}: {cancels} cancels and {reopening} retries are under way, kept as {} and {}",
                job.id, job.cancels, job.reopening
            ));
        }
        if job.cancelled && job.cancels == 0 && job.reopening == 0 && !job.is_finished() {
            found.push(format!("{}: it is cancelled, and no chore makes its tasks final", job.id));
        }
        if job.cancels == 0 && !job.cancelling.is_empty() {
            found.push(format!("{}: {:?} is marked, and no cancel is under way", job.id, job.cancelling));
        }
    }
}

/// What waits counts what it waits for, and nothing waits for nothing.
fn check_waiting(state: &State, job: &Job, found: &mut Vec<String>) {
    let open = |on: &On| match on {
        On::Group(place) => Some(!job.groups[*place as usize].all_succeeded()),
        On::Job(id) => is_unsatisfied(state, *id),
    };
    let waiting = count_open(job.after.iter().map(|id| is_unsatisfied(state, *id)));
    if waiting.is_some_and(|waiting| waiting != job.waiting) {
        found.push(format!("{}: waits for {waiting:?} jobs, kept as {}", job.id, job.waiting));
    }
    for (place, group) in job.groups.iter().enumerate() {
        let waiting = count_open(group.after.iter().map(open));
        if waiting.is_some_and(|waiting| waiting != group.waiting) {
            found.push(format!("{} group {place}: waits for {waiting:?}, kept as {}", job.id, group.waiting));
        }
        let held_back = |position: &u32| {
            group.stopping.contains(*position)
                || group.each.iter().any(|other| !job.groups[*other as usize].succeeded.contains(*position))
        };
        if job.open && group.waiting == 0 && group.blocked.numbers().any(|position| !held_back(&position)) {
            found.push(format!("{} group {place}: waits for nothing and is not ready", job.id));
        }
    }
}

fn count_open(each: impl Iterator<Item = Option<bool>>) -> Option<u32> {
    let all: Vec<bool> = each.collect::<Option<_>>()?;
    Some(all.into_iter().filter(|open| *open).count() as u32)
}

/// Nobody is given more than there is.
fn check_session(state: &State, session: &Session, found: &mut Vec<String>) {
    let (mut used, mut granted) = (model::Resources::default(), model::Resources::default());
    for allocation in session.allocations.values() {
        if allocation.takes_capacity() {
            used.add(&allocation.takes());
        }
        // Work sent ahead takes what the worker has by then, which the state hears of later.
        if !allocation.ahead {
            granted.add(&allocation.takes());
        }
        if allocation.seq > session.last_seq {
            found.push(format!("{}: allocation {} is above the last number", session.id, allocation.seq));
        }
    }
    if used != session.used {
        found.push(format!("{}: uses {used}, kept as {}", session.id, session.used));
    }
    if !session.capacity.total.covers(&granted) {
        found.push(format!("{}: {granted} is more than {}", session.id, session.capacity.total));
    }
    let named = state.worker(&session.worker).and_then(|worker| worker.session);
    if !session.ended && named != Some(session.id) {
        found.push(format!("{}: its worker {} is on {named:?}", session.id, session.worker));
    }
}

fn check_queues(state: &State, found: &mut Vec<String>) {
    let mut rates: BTreeMap<u32, u64> = BTreeMap::new();
    let counts = |row: &&Allocation| row.takes_capacity() && !row.is_suspended();
    for allocation in state.sessions().flat_map(|session| session.allocations.values()).filter(counts) {
        *rates.entry(allocation.queue).or_default() += allocation.share;
    }
    let mut unfinished = 0;
    for queue in state.queues() {
        let jobs: Vec<&Job> = state.jobs().filter(|job| job.queue == queue.id).collect();
        let mut counts = Counts::default();
        jobs.iter().for_each(|job| counts.add(&job.counts()));
        let open = jobs.iter().filter(|job| !job.is_finished()).count() as u64;
        unfinished += open;
        if counts != queue.counts || jobs.len() as u64 != queue.jobs || open != queue.unfinished_jobs {
            found.push(format!(
                "queue {}: {counts:?} of {} jobs is kept as {:?}",
                queue.name,
                jobs.len(),
                queue.counts
            ));
        }
        let rate = rates.get(&queue.id).copied().unwrap_or(0);
        for (id, place) in queue.promises.keys() {
            let job = state.job(*id).filter(|job| job.queue == queue.id && queue.policy.promises());
            if !job.is_some_and(|job| is_ready(job, &job.groups[*place as usize])) {
                found
                    .push(format!("queue {}: {id} group {place} has a promise and is not ready", queue.name));
            }
        }
        if queue.is_slot() {
            let rows = state.sessions().flat_map(|session| session.allocations.values());
            // One that was moved away before the queue was a slot counts elsewhere.
            let is_own = |row: &Allocation| state.job(row.job).is_some_and(|job| job.queue == queue.id);
            let runs = |row: &&Allocation| {
                row.queue == queue.id && row.phase == Phase::Running && !row.is_suspended() && is_own(row)
            };
            let running = rows.filter(runs).count();
            if running > 1 {
                found.push(format!("queue {}: a slot on which {running} run", queue.name));
            }
        }
        check_users(state, queue, &jobs, found);
        if rate != queue.usage.rate() {
            found.push(format!("queue {}: takes {rate}, kept as {}", queue.name, queue.usage.rate()));
        }
    }
    if unfinished != state.unfinished_jobs() {
        found.push(format!("{unfinished} unfinished jobs are kept as {}", state.unfinished_jobs()));
    }
}

/// Each slot has its queue, as it was admitted.
fn check_periodic(state: &State, found: &mut Vec<String>) {
    for set in state.periodic_sets() {
        if set.due != set.next_due() {
            found.push(format!("set {}: due at {:?}, kept as {:?}", set.name, set.next_due(), set.due));
        }
        for slot in 0..set.slots {
            let name = queue_of(&set.name, slot);
            let queue = state.queue_named(&name);
            let is_own = |queue: &&Queue| {
                queue.owner.as_ref() == Some(&set.name)
                    && (queue.policy.order, queue.policy.yields) == (set.order, set.preemptive)
            };
            if queue.filter(is_own).is_none_or(|queue| queue.running_max != Some(1)) {
                found.push(format!("set {}: queue {name} is not as it was admitted", set.name));
            }
        }
    }
    let owned = state.queues().filter_map(|queue| Some((queue, queue.owner.as_ref()?)));
    for (queue, owner) in owned.filter(|(_, owner)| !state.periodic_sets().any(|set| set.name == **owner)) {
        found.push(format!("queue {}: is of the set {owner}, which there is not", queue.name));
    }
}

/// Whose jobs they are, and what each of the users takes.
fn check_users(state: &State, queue: &Queue, jobs: &[&Job], found: &mut Vec<String>) {
    let mut used: BTreeMap<UserId, model::Resources> = BTreeMap::new();
    let counts = |row: &Allocation| row.takes_capacity() && !row.is_suspended();
    for allocation in state.sessions().flat_map(|session| session.allocations.values()) {
        if allocation.queue == queue.id && counts(allocation) && allocation.user != EVERYBODY {
            used.entry(allocation.user).or_default().add(&allocation.resources);
        }
    }
    let mut users: BTreeMap<UserId, u64> = BTreeMap::new();
    jobs.iter().filter(|job| job.user != EVERYBODY).for_each(|job| *users.entry(job.user).or_default() += 1);
    for (id, user) in queue.users.iter() {
        let (jobs, used) = (users.remove(&id).unwrap_or(0), used.remove(&id).unwrap_or_default());
        if jobs != user.jobs || used != user.used {
            let (name, queue) = (&user.name, &queue.name);
            found.push(format!(
                "queue {queue}: user {name} has {jobs} jobs and uses {used}, kept as {} and {}",
                user.jobs, user.used
            ));
        }
    }
    used.retain(|_, used| !used.is_empty());
    if !users.is_empty() || !used.is_empty() {
        found.push(format!("queue {}: users {users:?} and {used:?} are not among its rows", queue.name));
    }
}

/// The indexes say what the rows imply, no more and no less.
fn check_index(state: &State, found: &mut Vec<String>) {
    let mut fresh = Index::default();
    state.jobs().for_each(|job| fresh.add_job(job));
    state.sessions().for_each(|session| fresh.add_session(session));
    let promises = state.queues().flat_map(|queue| &queue.promises);
    let starts: BTreeSet<_> = promises.map(|((job, group), promise)| (promise.at, *job, *group)).collect();
    for (what, same) in [
        ("reserved", fresh.reserved == state.index.reserved),
        ("starts", starts == state.index.starts),
        ("held", fresh.held == state.index.held),
        ("ends", fresh.ends == state.index.ends),
        ("ready", fresh.ready == state.index.ready),
        ("timers", fresh.timers == state.index.timers),
        ("wall timers", fresh.wall_timers == state.index.wall_timers),
        ("finished", fresh.finished == state.index.finished),
        ("reopening", fresh.reopening == state.index.reopening),
    ] {
        if !same {
            found.push(format!("the index of {what} is not what the rows imply"));
        }
    }
    let refs = |id: u32| {
        let groups = state.jobs().flat_map(|job| &job.groups).filter(|group| group.class == id).count();
        let others =
            state.classes.values().flat_map(|class| &class.alternatives).filter(|other| **other == id);
        (groups + others.count()) as u64
    };
    for (id, class) in &state.classes {
        if refs(*id) != class.refs {
            found.push(format!("class {id} has {} references, kept as {}", refs(*id), class.refs));
        }
    }
    let live: Vec<SessionId> =
        state.sessions().filter(|session| !session.ended).map(|session| session.id).collect();
    let mut total = model::Resources::default();
    live.iter().filter_map(|id| state.session(*id)).for_each(|session| total.add(&session.capacity.total));
    if total != state.total {
        found.push(format!("live sessions offer {total}, kept as {}", state.total));
    }
}
