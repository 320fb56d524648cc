//! What a queue that is `auto` becomes: the advice, as far as it overrules nothing that people have asked for.

use std::time::Duration;

use machine::State;
use machine::eligible::standing;
use model::Timestamp;
use model::policy::{Adaptation, Order, QueuePolicy};

use crate::advice::{Advice, TASKS_MIN, advise, candidates};
use crate::figures::{Figures, figures};
use crate::history::History;
use crate::policy::Policy;
use crate::replay::replay;
use crate::run::run;
use crate::workload::Workload;

/// Tasks that are looked at: the newest of the queue.
pub const ADAPT_TASKS_MAX: usize = 2_000;

/// Cores of the workers that take work, in ten-thousandths.
pub fn cores(state: &State) -> u64 {
    let live = state.sessions().filter(|session| standing(state, session).is_none());
    live.map(|session| session.capacity.total.cpu).fold(0, u64::saturating_add)
}

/// What is better for the queue by its history on so many ten-thousandths of a core; `None`: nothing by enough. `home` is the
/// policy that was set by hand, and `last` when the present one was set since, if it was. By then as many tasks of later jobs
/// must have ended as make up a history. It takes a while, and ends without a word once `go_on` says no.
pub fn adapt(
    present: &QueuePolicy,
    home: &QueuePolicy,
    last: Option<Timestamp>,
    history: &History,
    parts: u64,
    go_on: impl Fn() -> bool,
) -> Option<Adaptation> {
    let replay = replay(history, Some(parts));
    let workload = &replay.workload;
    let is_asked = is_asked_for(home, workload);
    let policies: Vec<Policy> = candidates(present, workload)
        .into_iter()
        .filter(|policy| policy.queue == *present || may_be(policy, home, is_asked))
        .collect();
    let is_astray = is_asked && present.order != home.order;
    let newer = history.jobs.iter().filter(|job| last.is_none_or(|last| job.submitted >= last));
    if !is_astray && newer.map(ended).sum::<u64>() < TASKS_MIN {
        return None;
    }
    // A run that is broken says nothing for any change.
    let try_out =
        |policy: &Policy| Some(figures(workload, &run(workload, replay.cores(parts), policy).ok()?));
    if is_astray {
        let home_policy = Policy { name: "home".to_owned(), queue: *home };
        return Some(found(present, home, home, &try_out(&policies[0])?, &try_out(&home_policy)?));
    }
    let figures: Option<Vec<Figures>> = policies.iter().take_while(|_| go_on()).map(try_out).collect();
    let figures = figures?;
    if figures.len() < policies.len() {
        return None;
    }
    match advise(&figures) {
        Advice::Change { to, .. } | Advice::Shorten { to, .. } => {
            Some(found(present, home, &policies[to].queue, &figures[0], &figures[to]))
        }
        Advice::Keep { .. } | Advice::TooFew => None,
    }
}

fn found(
    from: &QueuePolicy,
    home: &QueuePolicy,
    to: &QueuePolicy,
    before: &Figures,
    after: &Figures,
) -> Adaptation {
    let wait = |figures: &Figures| Duration::from_millis((figures.mean_wait_s * 1e3).round() as u64);
    Adaptation {
        at: Timestamp::default(),
        home: *home,
        from: *from,
        to: *to,
        tasks: before.tasks,
        wait_from: wait(before),
        wait_to: wait(after),
    }
}

/// Whether the order tells tasks apart by something that those who submit them asked for, so that no other may take its place.
fn is_asked_for(home: &QueuePolicy, workload: &Workload) -> bool {
    match home.order {
        Order::Priority => workload.has_priorities(),
        Order::Fair => workload.has_users(),
        Order::Edf | Order::Dms => workload.has_deadlines(),
        // A history has no periods, and what has slices is not replayed.
        Order::Rms | Order::RoundRobin => true,
        Order::Fifo | Order::Sjf | Order::Hrrn | Order::CriticalPath => false,
    }
}

fn may_be(policy: &Policy, home: &QueuePolicy, is_asked: bool) -> bool {
    policy.queue.auto_refusal().is_none() && (!is_asked || policy.queue.order == home.order)
}

fn ended(job: &crate::PastJob) -> u64 {
    let runs = job.tasks.iter().flat_map(|task| &task.runs).filter(|run| run.took().is_some());
    runs.map(|run| u64::from(run.count)).sum()
}

#[cfg(test)]
mod tests {
    use model::JobId;
    use model::policy::Backfill;
    use model::size::PARTS;
    use model::views::{EstimateFrom, JobState, TaskState};

    use super::*;
    use crate::{PastJob, PastRun, PastTask};

    fn at(seconds: u64) -> Timestamp {
        Timestamp((1_000 + seconds) * 1_000_000)
    }

    /// One task, submitted then, that took so long on one core, and whoever submitted it knew.
    fn past(id: u64, submitted: u64, took: u64) -> PastJob {
        let (started, ended) = (Some(at(submitted)), Some(at(submitted + took)));
        let run = PastRun { first: 0, count: 1, state: TaskState::Succeeded, attempts: 1, started, ended };
        let task = PastTask {
            name: "t".to_owned(),
            first: 0,
            count: 1,
            parts: PARTS,
            gang: false,
            estimate: Some(Duration::from_secs(took)),
            estimate_from: Some(EstimateFrom::Given),
            deadline: None,
            after: Vec::new(),
            after_each: Vec::new(),
            runs: vec![run],
        };
        PastJob {
            job: JobId(id),
            name: String::new(),
            queue: "q".to_owned(),
            user: "ann".to_owned(),
            priority: 0,
            submitted: at(submitted),
            not_before: None,
            state: JobState::Succeeded,
            after: Vec::new(),
            tasks: vec![task],
        }
    }

    /// Long ones before short ones, all at once, on one core.
    fn mixed() -> History {
        History { jobs: (0..24).map(|id| past(id + 1, 0, if id < 4 { 50 } else { 1 })).collect() }
    }

    fn of(present: &QueuePolicy, home: &QueuePolicy, history: &History) -> Option<Adaptation> {
        adapt(present, home, None, history, PARTS, || true)
    }

    #[test]
    fn short_ones_go_first_where_nothing_was_asked_for() {
        let present = QueuePolicy::default();
        let found = of(&present, &present, &mixed()).unwrap();
        assert_eq!((found.from, found.home, found.to.order), (present, present, Order::Sjf));
        assert_eq!(found.tasks, 24);
        // Each of the short ones waited for 200 s and more, and now the long ones wait for them and for each other.
        assert!(
            found.wait_from > Duration::from_secs(170) && found.wait_to < Duration::from_secs(30),
            "{found:?}"
        );
        // There it stays.
        assert_eq!(of(&found.to, &present, &mixed()), None);
    }

    #[test]
    fn what_people_asked_for_stays_and_comes_back() {
        let mut history = mixed();
        history.jobs[0].priority = 5;
        let home = QueuePolicy::default();
        let found = of(&home, &home, &history).map(|found| found.to.order);
        assert!(found.is_none_or(|order| order == Order::Priority), "{found:?}");
        // It was another before anybody gave a priority.
        let astray = QueuePolicy { order: Order::Sjf, ..QueuePolicy::default() };
        assert_eq!(of(&astray, &home, &history).unwrap().to, home);
        // Whoever orders by submits asks for nothing.
        let fifo = QueuePolicy { order: Order::Fifo, ..QueuePolicy::default() };
        assert!(of(&fifo, &fifo, &history).is_some());
        // Where users share a queue, they go on to.
        history.jobs[0].user = "bob".to_owned();
        let fair = QueuePolicy { order: Order::Fair, backfill: Backfill::Easy, ..QueuePolicy::default() };
        assert!(of(&fair, &fair, &history).is_none_or(|found| found.to.order == Order::Fair));
    }

    /// One of a low priority behind a stream of higher ones, on one core.
    #[test]
    fn priorities_begin_to_age_where_somebody_starves() {
        let low = PastJob { priority: -5, ..past(1, 0, 60) };
        let high = (0..200).map(|id| PastJob { priority: 5, ..past(id + 2, id * 60, 60) });
        let mut history = History { jobs: std::iter::once(low).chain(high).collect() };
        // By estimates it would be promised a start.
        let tasks = history.jobs.iter_mut().flat_map(|job| &mut job.tasks);
        tasks.for_each(|task| (task.estimate, task.estimate_from) = (None, None));
        let home = QueuePolicy::default();
        let found = of(&home, &home, &history).unwrap();
        assert_eq!((found.to.order, found.to.backfill), (home.order, home.backfill));
        assert_eq!(found.to.ageing, Duration::from_secs(60), "{found:?}");
        assert_eq!(of(&found.to, &home, &history), None, "there it stays");
    }

    #[test]
    fn few_tasks_since_the_last_time_or_a_stop_change_nothing() {
        let present = QueuePolicy::default();
        let few = History { jobs: mixed().jobs.split_off(5) };
        assert_eq!(of(&present, &present, &few), None);
        let since = |seconds| adapt(&present, &present, Some(at(seconds)), &mixed(), PARTS, || true);
        assert!(since(0).is_some());
        assert_eq!(since(1), None);
        assert_eq!(adapt(&present, &present, None, &mixed(), PARTS, || false), None);
        assert_eq!(of(&present, &present, &History::default()), None);
    }
}
