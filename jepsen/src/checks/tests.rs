//! A checker that never says no proves nothing: each is given a run that is right and one that is wrong.

use std::collections::BTreeMap;

use model::{RequestId, TaskId};

use super::*;
use crate::history::{Answer, Call, Kind};
use crate::ledger::{Key, Stay};
use crate::nemesis::{Done, Fault, Isolation, Outage, Outcome};
use crate::observe::{Reign, Sample};
use crate::watcher::Told;

mod gangs;

fn view(id: u64, state: JobState) -> FinalJob {
    let succeeded = u64::from(state == JobState::Succeeded);
    let shape = Some("one".to_owned());
    FinalJob { id: JobId(id), key: Some(id), shape, state, succeeded, finished: 1 }
}

fn op(at: u64, node: usize, call: Call, kind: Kind, answer: Answer) -> Operation {
    Operation { process: at, node, call, invoked: at, completed: at + 1, kind, answer: Some(answer) }
}

fn submit(at: u64, key: u64, body: u8, answer: Option<u64>) -> Operation {
    let call = Call::Submit { key, id: RequestId(key.into()), body, shape: Shape::One };
    match answer {
        Some(job) => op(at, 0, call, Kind::Ok, Answer::Submitted { job: JobId(job), index: at }),
        None => {
            let code = if body > 0 { "conflict" } else { "no-leader" };
            op(at, 0, call, Kind::Fail, Answer::Failed { code: code.to_owned(), message: String::new() })
        }
    }
}

fn read(at: u64, node: usize, job: u64, state: JobState, index: u64) -> Operation {
    op(at, node, Call::Read { job: JobId(job) }, Kind::Ok, Answer::Read { state, index })
}

fn set(at: u64, value: u32) -> Operation {
    op(at, 0, Call::Set { register: 1, value }, Kind::Ok, Answer::Changed { changed: 0, index: at })
}

fn get(at: u64, value: Option<u32>) -> Operation {
    op(at, 0, Call::Get { register: 1 }, Kind::Ok, Answer::Got { value, index: at })
}

fn key(job: u64, number: u32, attempt: u32, token: u64) -> Key {
    Key { task: TaskId { job: JobId(job), number }, token, attempt }
}

fn stay(start: u64, end: Option<u64>) -> Stay {
    Stay { pid: 7, worker: "w1".to_owned(), cpu: 500, start, end, place: None }
}

const S: u64 = 1_000_000_000;

/// Two jobs, one succeeded and one cancelled, a graph and a register, and nothing wrong.
fn right() -> Evidence {
    let mut graph = view(3, JobState::Succeeded);
    graph.shape = Some("graph".to_owned());
    (graph.succeeded, graph.finished) = (10, 10);
    let jobs = vec![view(1, JobState::Succeeded), view(2, JobState::Cancelled), graph];
    let cancel = Answer::Changed { changed: 1, index: 40 };
    let mut ledger = Ledger::from([(key(1, 0, 1, 9), vec![stay(S, Some(2 * S))])]);
    // Column after column.
    for (number, column) in (0..10).zip([1, 2, 2, 2, 2, 3, 3, 3, 3, 4]) {
        ledger.insert(
            key(3, number, 1, 20 + u64::from(number)),
            vec![stay(column * S, Some((column + 1) * S))],
        );
    }
    let event = |index, words: &str| Told::Event(index, 0, words.to_owned());
    let told = vec![event(11, "job j1 running"), event(12, "job j1 succeeded"), event(13, "worker w1 live")];
    Evidence {
        operations: vec![
            submit(10, 1, 0, Some(1)),
            submit(20, 2, 0, Some(2)),
            submit(25, 3, 0, Some(3)),
            submit(30, 1, 0, Some(1)),
            submit(35, 1, 1, None),
            op(40, 0, Call::Cancel { job: JobId(2) }, Kind::Ok, cancel),
            read(50, 1, 1, JobState::Succeeded, 50),
            set(60, 5),
            get(62, Some(5)),
        ],
        ledger,
        fence: vec![Fencing { task: TaskId { job: JobId(9), number: 0 }, token: 4, accepted: true }],
        streams: vec![
            Stream { begin: Some((10, 0)), told: told.clone() },
            Stream { begin: Some((11, 0)), told: told[1..].to_vec() },
        ],
        kept: Kept {
            jobs: vec![jobs.clone(), jobs],
            lease: 10 * S,
            end: End {
                settled: true,
                drained: true,
                views: Vec::new(),
                fresh: vec![Ok(())],
                unread: Vec::new(),
            },
            ..Kept::default()
        },
        ..Evidence::default()
    }
}

/// The verdict of one checker on the right evidence, changed; `None`: it has nothing to say.
fn said(id: &str, change: impl FnOnce(&mut Evidence)) -> Option<Verdict> {
    let mut evidence = right();
    change(&mut evidence);
    let findings = all(&evidence);
    findings.into_iter().find(|finding| finding.id == id).map(|finding| finding.verdict)
}

fn verdict(id: &str, change: impl FnOnce(&mut Evidence)) -> Verdict {
    said(id, change).expect("the checker has something to say")
}

fn done(fault: Fault, outcome: Outcome) -> Done {
    Done { fault, node: "n1".to_owned(), from: 0, to: 1, outcome, probe: None }
}

#[test]
fn nothing_is_wrong_with_what_is_right() {
    let all = [
        "W1.index",
        "W1.register",
        "W3",
        "W4",
        "W5",
        "W6",
        "W6.leases",
        "W6.fence",
        "W7",
        "W9",
        "W11",
        "W12",
        "W14",
        "W16",
    ];
    for id in all {
        assert_eq!(verdict(id, |_| {}), Verdict::True, "{id}");
    }
    assert!(ALL.iter().all(|(id, _)| !id.is_empty()));
}

#[test]
fn too_little_is_unknown_and_what_was_not_tried_is_not_judged() {
    assert_eq!(verdict("W0", |_| {}), Verdict::Unknown);
    assert_eq!(verdict("W2", |run| run.asked.traced = true), Verdict::Unknown, "nobody wrote down the log");
    assert_eq!(said("W2", |_| {}), None, "nobody was asked to");
    assert_eq!(said("W15", |_| {}), None);
    assert_eq!(said("growth", |_| {}), None);
    assert_eq!(said("W7", |run| run.asked.workload = Workload::Register), None);
    assert_eq!(said("W16", |run| run.asked.workload = Workload::Register), None);
    assert_eq!(verdict("W16", |run| run.asked.workload = Workload::Gang), Verdict::Unknown, "no gang ran");
    assert_eq!(verdict("W11", |run| run.operations.retain(|op| op.invoked < 30)), Verdict::Unknown);
    assert_eq!(verdict("W12", |run| run.streams.clear()), Verdict::Unknown);
}

#[test]
fn a_fault_that_was_skipped_is_not_counted() {
    let run = |outcome: Outcome| {
        verdict("W0", |run| {
            run.operations = (0..30).map(|n| submit(n, n, 0, Some(n))).collect();
            run.operations.extend((0..30).map(|n| read(n, 0, n, JobState::Running, 99)));
            run.operations.extend((0..30).flat_map(|n| [set(n, 1), get(n, Some(1))]));
            let changed = || Answer::Changed { changed: 0, index: 1 };
            run.operations.push(op(1, 0, Call::Cancel { job: JobId(1) }, Kind::Ok, changed()));
            run.operations.push(op(1, 0, Call::Retry { job: JobId(1) }, Kind::Ok, changed()));
            run.asked.faults = vec![Fault::KillLeader];
            run.kept.deeds.done = vec![done(Fault::KillLeader, outcome)];
            let reign = |term| Reign { node: "n1".to_owned(), term, from: 0, to: 1 };
            run.kept.observed.reigns = vec![reign(1), reign(2)];
        })
    };
    assert_eq!(run(Outcome::Installed), Verdict::True);
    assert_eq!(run(Outcome::Skipped("no".to_owned())), Verdict::Unknown);
    assert_eq!(run(Outcome::Indeterminate("no".to_owned())), Verdict::Unknown);
}

#[test]
fn a_lost_an_unexpected_and_a_refused_job_are_found() {
    let lose = |run: &mut Evidence| run.kept.jobs.iter_mut().for_each(|jobs| jobs.truncate(1));
    assert_eq!(verdict("W3", lose), Verdict::False);
    let add = |run: &mut Evidence| run.kept.jobs[0].push(view(4, JobState::Succeeded));
    assert_eq!(verdict("W3", add), Verdict::False);
    let refuse = |run: &mut Evidence| {
        run.kept.jobs[0].push(view(4, JobState::Succeeded));
        run.operations.push(submit(60, 4, 0, None));
    };
    assert_eq!(verdict("W3", refuse), Verdict::False);
}

#[test]
fn where_the_lost_ones_lie_is_told() {
    let mut run = right();
    run.operations = (1..=4).map(|n| submit(n * 10, n, 0, Some(n))).collect();
    run.kept.jobs = vec![vec![view(2, JobState::Succeeded), view(4, JobState::Succeeded)]];
    let problems = jobs::check_kept(&run).problems;
    assert_eq!(problems, ["lost (prefix): j1", "lost (middle): j3"]);
}

#[test]
fn a_final_state_that_changes_is_found() {
    let read = |run: &mut Evidence| run.operations.push(read(60, 0, 1, JobState::Failed, 60));
    assert_eq!(verdict("W4", read), Verdict::False);
    let uncancel =
        |run: &mut Evidence| run.kept.jobs.iter_mut().for_each(|jobs| jobs[1] = view(2, JobState::Succeeded));
    assert_eq!(verdict("W4", uncancel), Verdict::False);
    let unlike = |run: &mut Evidence| run.kept.jobs[1][0] = view(1, JobState::Failed);
    assert_eq!(verdict("W4", unlike), Verdict::False);
    let twice = |run: &mut Evidence| {
        let ends =
            ["succeeded", "failed"].map(|state| Told::Event(20, 0, format!("tasks j1 0+1 {state} 1 w1")));
        run.streams[0].told.extend(ends);
    };
    assert_eq!(verdict("W4", twice), Verdict::False);
    let retried = |run: &mut Evidence| {
        twice(run);
        let retry = Call::Retry { job: JobId(1) };
        run.operations.push(op(70, 0, retry, Kind::Ok, Answer::Changed { changed: 1, index: 70 }));
    };
    assert_eq!(verdict("W4", retried), Verdict::True, "a retry opens another round");
    let unrun = |run: &mut Evidence| run.ledger.clear();
    assert_eq!(verdict("W4", unrun), Verdict::False);
    let unfinished =
        |run: &mut Evidence| run.kept.jobs.iter_mut().for_each(|jobs| jobs[0].state = JobState::Running);
    assert_eq!(verdict("W4", unfinished), Verdict::False);
}

#[test]
fn a_second_start_and_a_second_owner_are_found() {
    let own = key(1, 0, 1, 9);
    let twice = |run: &mut Evidence| run.ledger.get_mut(&own).expect("there").push(stay(5 * S, None));
    assert_eq!(verdict("W5", twice), Verdict::False);
    let stranger = |run: &mut Evidence| drop(run.ledger.insert(key(8, 0, 1, 9), vec![stay(5, None)]));
    assert_eq!(verdict("W5", stranger), Verdict::False);
    let overlap =
        |start| move |run: &mut Evidence| drop(run.ledger.insert(key(1, 0, 2, 10), vec![stay(start, None)]));
    assert_eq!(verdict("W6", overlap(S)), Verdict::False);
    assert_eq!(verdict("W6", overlap(2 * S)), Verdict::True);
    let away = |run: &mut Evidence| {
        overlap(S)(run);
        run.kept.deeds.outages.push(Outage { worker: "w1".to_owned(), from: S / 2, to: 3 * S });
    };
    assert_eq!(verdict("W6", away), Verdict::True, "its host was away");
    assert_eq!(verdict("W6.leases", overlap(2 * S)), Verdict::False);
    let stalled = |run: &mut Evidence| {
        overlap(2 * S)(run);
        run.kept.stall = 5 * S;
    };
    assert_eq!(verdict("W6.leases", stalled), Verdict::Unknown);
    let frozen = |run: &mut Evidence| {
        overlap(2 * S)(run);
        run.kept.deeds.done.push(done(Fault::PauseWorker, Outcome::Installed));
    };
    assert_eq!(said("W6.leases", frozen), None);
}

#[test]
fn a_second_attempt_is_as_it_should_be_only_where_the_log_has_a_preemption() {
    let judged = |attempts: u32, gave_way: &[u64], key_of_job: u64, is_logged: bool| {
        let mut run = right();
        run.kept.jobs[0][0].key = Some(key_of_job);
        for attempt in 2..=attempts {
            let start = u64::from(attempt) * 10 * S;
            run.ledger.insert(key(1, 0, attempt, 100 + u64::from(attempt)), vec![stay(start, None)]);
        }
        let log = log::GaveWay::from([((1, 0), gave_way.iter().copied().collect())]);
        owners::check_leases(&run, is_logged.then_some(log)).verdict
    };
    assert_eq!(judged(2, &[1], 1, true), Verdict::True);
    assert_eq!(judged(3, &[1, 2], 1, true), Verdict::True);
    assert_eq!(judged(2, &[], 1, true), Verdict::False);
    assert_eq!(judged(3, &[1], 1, true), Verdict::False, "the second was lost otherwise");
    assert_eq!(judged(3, &[2], 1, true), Verdict::False, "so was the first");
    // Where nobody wrote the log down, those are judged that are in no queue with preemption.
    let urgent = (0..).find(|key| Workload::Mixed.queue_of(*key).preempts()).expect("a part of them");
    assert_eq!((judged(2, &[], urgent, false), judged(2, &[], 1, false)), (Verdict::True, Verdict::False));
}

#[test]
fn a_fence_that_takes_an_old_token_is_found() {
    let add = |token, accepted| {
        move |run: &mut Evidence| {
            run.fence.push(Fencing { task: run.fence[0].task, token, accepted });
        }
    };
    assert_eq!(verdict("W6.fence", add(3, true)), Verdict::False);
    assert_eq!(verdict("W6.fence", add(5, false)), Verdict::False);
    assert_eq!(verdict("W6.fence", add(3, false)), Verdict::True);
}

#[test]
fn a_task_before_its_time_and_too_many_at_once_are_found() {
    let early = |run: &mut Evidence| run.ledger.get_mut(&key(3, 9, 1, 29)).expect("there")[0].start = S;
    assert_eq!(verdict("W7", early), Verdict::False);
    let crowded = |run: &mut Evidence| {
        run.ledger.extend((0..9).map(|n| (key(1, n, 2, 50 + u64::from(n)), vec![stay(9 * S, Some(10 * S))])));
    };
    assert_eq!(verdict("W9", crowded), Verdict::False);
    let killed = |start: u64| {
        move |run: &mut Evidence| {
            crowded(run);
            run.ledger.retain(|key, _| key.token != 58);
            run.ledger.insert(key(1, 9, 2, 60), vec![stay(start, None)]);
        }
    };
    assert_eq!(verdict("W9", killed(9 * S + 1)), Verdict::False, "killed in the midst of eight others");
    assert_eq!(verdict("W9", killed(9 * S)), Verdict::True, "the clock is too coarse to tell");
}

#[test]
fn a_register_that_goes_back_is_found() {
    assert_eq!(verdict("W1.register", |run| run.operations.push(get(70, Some(4)))), Verdict::False);
    assert_eq!(verdict("W1.register", |run| run.operations.push(get(70, None))), Verdict::False);
}

#[test]
fn a_request_id_that_is_done_twice_or_takes_another_body_is_found() {
    let twice = |run: &mut Evidence| run.operations.push(submit(60, 1, 0, Some(2)));
    assert_eq!(verdict("W11", twice), Verdict::False);
    let body = |run: &mut Evidence| run.operations.push(submit(60, 1, 1, Some(1)));
    assert_eq!(verdict("W11", body), Verdict::False);
}

#[test]
fn an_event_that_is_missed_repeated_or_invented_is_found() {
    assert_eq!(verdict("W12", |run| drop(run.streams[0].told.remove(1))), Verdict::False, "missed");
    let again = |run: &mut Evidence| {
        let first = run.streams[0].told[0].clone();
        run.streams[0].told.push(first);
    };
    assert_eq!(verdict("W12", again), Verdict::False, "repeated");
    let other = |run: &mut Evidence| run.streams[1].told[0] = Told::Event(12, 0, "job j1 failed".to_owned());
    assert_eq!(verdict("W12", other), Verdict::False, "told otherwise");
    let gap = |run: &mut Evidence| run.streams[0].told[1] = Told::Compacted(12, 0);
    assert_eq!(verdict("W12", gap), Verdict::True, "a gap that is told as one");
}

#[test]
fn a_cluster_that_does_not_work_after_the_heal_is_found() {
    assert_eq!(verdict("W14", |run| run.kept.end.settled = false), Verdict::False);
    assert_eq!(verdict("W14", |run| run.kept.end.drained = false), Verdict::False);
    assert_eq!(verdict("W14", |run| run.kept.end.views = vec![None]), Verdict::False);
    assert_eq!(verdict("W14", |run| run.kept.end.fresh[0] = Err("no".to_owned())), Verdict::False);
    assert_eq!(verdict("W14", |run| run.kept.end.unread.push("n2: gone".to_owned())), Verdict::False);
    let stuck = |fault| Done { probe: Some(Err("no".to_owned())), ..done(fault, Outcome::Installed) };
    assert_eq!(verdict("W14", |run| run.kept.deeds.done.push(stuck(Fault::LeaderFromPeers))), Verdict::False);
    assert_eq!(verdict("W3.disk", |run| run.kept.deeds.done.push(stuck(Fault::SyncFails))), Verdict::False);
}

#[test]
fn an_old_read_and_an_answer_of_a_minority_are_found() {
    let old = |run: &mut Evidence| run.operations.push(read(60, 2, 1, JobState::Succeeded, 39));
    assert_eq!(verdict("W1.index", old), Verdict::False);
    let alone = |from| {
        move |run: &mut Evidence| {
            run.operations.push(read(60, 2, 1, JobState::Succeeded, 60));
            run.kept.deeds.isolations.push(Isolation { node: 2, from, to: 100 });
        }
    };
    assert_eq!(verdict("W15", alone(55)), Verdict::False);
    assert_eq!(verdict("W15", alone(60)), Verdict::Unknown, "what was asked before may be answered");
}

#[test]
fn growth_without_bound_is_found_in_a_long_run() {
    let run = |step: u64| {
        move |run: &mut Evidence| {
            run.asked.seconds = 3_600;
            let sample =
                |n| Sample { node: 0, at: n, memory: (100 << 20) + n * step, files: 50, disk: 1 << 20 };
            run.kept.observed.samples = (0..100).map(sample).collect();
        }
    };
    assert_eq!(verdict("growth", run(0)), Verdict::True);
    assert_eq!(verdict("growth", run(8 << 20)), Verdict::False);
    // The same, while as many more jobs came that are all kept.
    let jobs = |run: &mut Evidence| {
        let like = run
            .operations
            .iter()
            .find(|operation| matches!(operation.answer, Some(Answer::Submitted { .. })));
        let like = like.expect("one was accepted").clone();
        run.operations.clear();
        run.operations.extend((0..100).map(|n| Operation {
            completed: n,
            answer: Some(Answer::Submitted { job: model::JobId(n + 1), index: n }),
            ..like.clone()
        }));
    };
    let grown = |evidence: &mut Evidence| {
        run(8 << 20)(evidence);
        jobs(evidence);
    };
    assert_eq!(verdict("growth", grown), Verdict::True);
    let nothing = |run: &mut Evidence| run.asked.seconds = 3_600;
    assert_eq!(verdict("growth", nothing), Verdict::Unknown);
    let counts: BTreeMap<_, _> = crate::nemesis::counted(&[done(Fault::Jam, Outcome::Installed)]);
    assert_eq!(counts[&Fault::Jam], [1, 0, 0]);
}
