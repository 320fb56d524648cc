//! A checker that never says no proves nothing: each is given a run that is right and one that is wrong.

use model::views::{Counts, JobState, TaskState};
use model::{Actor, RequestId, TaskId, Timestamp};

use super::*;
use crate::history::{Answer, Call, Kind};
use crate::ledger::{Key, Stay};
use crate::nemesis::{Done, Fault, Isolation, Outcome};

fn view(id: u64, state: JobState) -> JobView {
    let succeeded = u64::from(state == JobState::Succeeded);
    JobView {
        id: JobId(id),
        name: "jepsen".to_owned(),
        state,
        queue: "default".to_owned(),
        priority: 0,
        labels: BTreeMap::from([("key".to_owned(), id.to_string())]),
        actor: Actor::new("tester", "api"),
        submitted: Timestamp(0),
        finished: None,
        counts: Counts { succeeded, cancelled: 1 - succeeded, ..Counts::default() },
        groups: Vec::new(),
        after: Vec::new(),
    }
}

fn op(at: u64, node: usize, call: Call, kind: Kind, answer: Answer) -> Operation {
    Operation { node, call, invoked: at, completed: at + 1, kind, answer: Some(answer) }
}

fn submit(at: u64, key: u64, body: u8, answer: Option<u64>) -> Operation {
    let call = Call::Submit { key, id: RequestId(key.into()), body, tasks: 1 };
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

fn key(job: u64, attempt: u32, token: u64) -> Key {
    Key { task: TaskId { job: JobId(job), number: 0 }, token, attempt }
}

fn stay(start: u64, end: Option<u64>) -> Stay {
    Stay { pid: 7, start, end }
}

/// Two jobs, one succeeded and one cancelled, and nothing wrong.
fn right() -> Evidence {
    let jobs = vec![view(1, JobState::Succeeded), view(2, JobState::Cancelled)];
    let cancel = Answer::Cancelled { changed: 1, index: 40 };
    Evidence {
        operations: vec![
            submit(10, 1, 0, Some(1)),
            submit(20, 2, 0, Some(2)),
            submit(30, 1, 0, Some(1)),
            submit(35, 1, 1, None),
            op(40, 0, Call::Cancel { job: JobId(2) }, Kind::Ok, cancel),
            read(50, 1, 1, JobState::Succeeded, 50),
        ],
        jobs: vec![jobs.clone(), jobs],
        ledger: Ledger::from([(key(1, 1, 9), vec![stay(1, Some(2))])]),
        lease: Duration::from_secs(10),
        end: End { settled: true, drained: true, views: Vec::new(), fresh: vec![Ok(())] },
        ..Evidence::default()
    }
}

/// The verdict of one checker on the right evidence, changed.
fn verdict(id: &str, change: impl FnOnce(&mut Evidence)) -> Verdict {
    let mut evidence = right();
    change(&mut evidence);
    let findings = all(&evidence);
    findings.into_iter().find(|finding| finding.id == id).expect("a checker of that name").verdict
}

#[test]
fn nothing_is_wrong_with_what_is_right() {
    for id in ["W1.index", "W3", "W4", "W5", "W6", "W6.leases", "W11", "W14"] {
        assert_eq!(verdict(id, |_| {}), Verdict::True, "{id}");
    }
}

#[test]
fn too_little_is_unknown() {
    assert_eq!(verdict("W0", |_| {}), Verdict::Unknown);
    assert_eq!(verdict("W15", |_| {}), Verdict::Unknown);
    assert_eq!(verdict("W11", |run| run.operations.retain(|op| op.invoked < 30)), Verdict::Unknown);
}

#[test]
fn a_fault_that_was_skipped_is_not_counted() {
    let run = |outcome: Outcome| {
        verdict("W0", |run| {
            run.operations = (0..30).map(|n| submit(n, n, 0, Some(n))).collect();
            run.operations.extend((0..30).map(|n| read(n, 0, n, JobState::Running, 99)));
            let cancelled = || Answer::Cancelled { changed: 0, index: 1 };
            let cancel = |n| op(n, 0, Call::Cancel { job: JobId(n) }, Kind::Ok, cancelled());
            run.operations.extend((0..3).map(cancel));
            run.deeds.leader_changes = 1;
            let done = |fault| Done { fault, outcome: Outcome::Installed, probe: None };
            run.deeds.done = Fault::ALL.map(done).to_vec();
            run.deeds.done[2].outcome = outcome;
        })
    };
    assert_eq!(run(Outcome::Installed), Verdict::True);
    assert_eq!(run(Outcome::Skipped("no".to_owned())), Verdict::Unknown);
    assert_eq!(run(Outcome::Indeterminate("no".to_owned())), Verdict::Unknown);
}

#[test]
fn a_lost_an_unexpected_and_a_refused_job_are_found() {
    let lose = |run: &mut Evidence| run.jobs.iter_mut().for_each(|jobs| jobs.truncate(1));
    assert_eq!(verdict("W3", lose), Verdict::False);
    let add = |run: &mut Evidence| run.jobs[0].push(view(3, JobState::Succeeded));
    assert_eq!(verdict("W3", add), Verdict::False);
    let refuse = |run: &mut Evidence| {
        run.jobs[0].push(view(3, JobState::Succeeded));
        run.operations.push(submit(60, 3, 0, None));
    };
    assert_eq!(verdict("W3", refuse), Verdict::False);
}

#[test]
fn where_the_lost_ones_lie_is_told() {
    let mut run = right();
    run.operations = (1..=4).map(|n| submit(n * 10, n, 0, Some(n))).collect();
    run.jobs = vec![vec![view(2, JobState::Succeeded), view(4, JobState::Succeeded)]];
    let problems = jobs::check_kept(&run).problems;
    assert_eq!(problems, ["lost (prefix): j1", "lost (middle): j3"]);
}

#[test]
fn a_final_state_that_changes_is_found() {
    let read = |run: &mut Evidence| run.operations.push(read(60, 0, 1, JobState::Failed, 60));
    assert_eq!(verdict("W4", read), Verdict::False);
    let uncancel =
        |run: &mut Evidence| run.jobs.iter_mut().for_each(|jobs| jobs[1] = view(2, JobState::Succeeded));
    assert_eq!(verdict("W4", uncancel), Verdict::False);
    let unlike = |run: &mut Evidence| run.jobs[1][0] = view(1, JobState::Failed);
    assert_eq!(verdict("W4", unlike), Verdict::False);
    let task = TaskId { job: JobId(1), number: 0 };
    let states = vec![TaskState::Succeeded, TaskState::Failed];
    let twice = |run: &mut Evidence| drop(run.seen.tasks.insert(task, states));
    assert_eq!(verdict("W4", twice), Verdict::False);
    let unrun = |run: &mut Evidence| run.ledger.clear();
    assert_eq!(verdict("W4", unrun), Verdict::False);
    let unfinished =
        |run: &mut Evidence| run.jobs.iter_mut().for_each(|jobs| jobs[0].state = JobState::Running);
    assert_eq!(verdict("W4", unfinished), Verdict::False);
}

#[test]
fn a_second_start_and_a_second_owner_are_found() {
    let twice = |run: &mut Evidence| run.ledger.get_mut(&key(1, 1, 9)).expect("there").push(stay(5, None));
    assert_eq!(verdict("W5", twice), Verdict::False);
    let stranger = |run: &mut Evidence| drop(run.ledger.insert(key(8, 1, 9), vec![stay(5, None)]));
    assert_eq!(verdict("W5", stranger), Verdict::False);
    let overlap =
        |start| move |run: &mut Evidence| drop(run.ledger.insert(key(1, 2, 10), vec![stay(start, None)]));
    assert_eq!(verdict("W6", overlap(1)), Verdict::False);
    assert_eq!(verdict("W6", overlap(2)), Verdict::True);
    assert_eq!(verdict("W6.leases", overlap(2)), Verdict::False);
    let stalled = |run: &mut Evidence| {
        overlap(2)(run);
        run.stall = Duration::from_secs(5);
    };
    assert_eq!(verdict("W6.leases", stalled), Verdict::Unknown);
}

#[test]
fn a_request_id_that_is_done_twice_or_takes_another_body_is_found() {
    let twice = |run: &mut Evidence| run.operations.push(submit(60, 1, 0, Some(2)));
    assert_eq!(verdict("W11", twice), Verdict::False);
    let body = |run: &mut Evidence| run.operations.push(submit(60, 1, 1, Some(1)));
    assert_eq!(verdict("W11", body), Verdict::False);
}

#[test]
fn a_cluster_that_does_not_work_after_the_heal_is_found() {
    assert_eq!(verdict("W14", |run| run.end.settled = false), Verdict::False);
    assert_eq!(verdict("W14", |run| run.end.drained = false), Verdict::False);
    assert_eq!(verdict("W14", |run| run.end.views = vec![None]), Verdict::False);
    assert_eq!(verdict("W14", |run| run.end.fresh[0] = Err("no".to_owned())), Verdict::False);
    let stuck = Done {
        fault: Fault::LeaderFromPeers,
        outcome: Outcome::Installed,
        probe: Some(Err("no".to_owned())),
    };
    assert_eq!(verdict("W14", |run| run.deeds.done.push(stuck)), Verdict::False);
}

#[test]
fn an_old_read_and_an_answer_of_a_minority_are_found() {
    let old = |run: &mut Evidence| run.operations.push(read(60, 2, 1, JobState::Succeeded, 39));
    assert_eq!(verdict("W1.index", old), Verdict::False);
    let alone = |from| {
        move |run: &mut Evidence| {
            run.operations.push(read(60, 2, 1, JobState::Succeeded, 60));
            run.deeds.isolations.push(Isolation { node: 2, from, to: 100 });
        }
    };
    assert_eq!(verdict("W15", alone(55)), Verdict::False);
    assert_eq!(verdict("W15", alone(60)), Verdict::Unknown, "what was asked before may be answered");
}
