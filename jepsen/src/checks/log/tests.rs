//! The model is given logs that are right and logs that are wrong.

use serde_json::{Value, json};

use super::order::PLANNED_BEFORE_ENTRIES;
use super::world::World;
use super::*;
use crate::trace::Applied;

mod together;

const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// A log in the making, and how many allocations `s1` has had.
struct Log(Vec<Applied>, u64);

impl Log {
    /// A worker with two cores, and a job of `a` and `b`, which waits for `a`.
    fn new() -> Log {
        let mut log = Log(Vec::new(), 0);
        let open =
            json!({"open_session": {"session": "s1", "worker": "w1", "capacity": {"total": {"cpu": 2}}}});
        log.entry(open, json!({"session_opened": {"session": "s1"}}), json!([]));
        let tasks = json!([{"name": "a", "resources": {"cpu": 1.5}}, {"name": "b", "after": ["a"]}]);
        log.submit(1, tasks);
        log
    }

    fn entry(&mut self, command: Value, reply: Value, events: Value) -> &mut Log {
        let index = self.0.len() as u64 + 1;
        self.0.push(Applied {
            index,
            term: 1,
            digest: String::new(),
            elapsed: index * 10_000_000,
            commands: vec![command],
            replies: vec![reply],
            events: events.as_array().unwrap().clone(),
        });
        self
    }

    fn submit(&mut self, job: u64, tasks: Value) -> &mut Log {
        self.submit_of("ann", job, json!({"tasks": tasks}), 1)
    }

    /// A user's job, of which so many tasks are ready.
    fn submit_of(&mut self, user: &str, job: u64, spec: Value, ready: u64) -> &mut Log {
        let id = format!("{ID}{job}");
        let op = json!({"submit": {"job": format!("j{job}"), "spec": spec}});
        let write = json!({"write": {"request": id, "body_hash": job, "actor": {"user": user}, "op": op}});
        let events: Vec<Value> = (0..ready).map(|number| task(job, number, "ready", 0)).collect();
        self.entry(write, json!({"submitted": {"job": format!("j{job}")}}), json!(events))
    }

    fn place(&mut self, job: u64, number: u64, attempt: u64) -> &mut Log {
        self.1 += 1;
        let placement =
            json!({"job": format!("j{job}"), "tasks": {"first": number, "len": 1}, "session": "s1"});
        let plan = json!({"place": {"placements": [placement]}});
        self.entry(plan, json!({"placed": {"taken": 1, "dropped": 0}}), json!([on_w1(job, number, attempt)]))
    }

    /// The good end of the last that was placed, under the token of that entry.
    fn end(&mut self, job: u64, number: u64, token: u64, more: Option<Value>) -> &mut Log {
        let events = [task(job, number, "succeeded", 1)].into_iter().chain(more).collect();
        self.report(self.1, token, number, "succeeded", events)
    }

    /// The end of an allocation, and what came of it.
    fn report(&mut self, seq: u64, token: u64, number: u64, verdict: &str, events: Vec<Value>) -> &mut Log {
        let batch = json!({"session": "s1", "reports": [ended(seq, token, number, verdict)]});
        self.entry(json!({"report": batch}), json!({"reported": {"fenced": []}}), json!(events))
    }

    fn found(&self) -> Found {
        self.world().found
    }

    fn world(&self) -> World {
        let mut world = World::default();
        self.0.iter().for_each(|entry| world.apply(entry));
        world
    }
}

fn task(job: u64, number: u64, state: &str, attempt: u64) -> Value {
    json!({"Tasks": {"job": format!("j{job}"), "tasks": {"first": number, "len": 1}, "state": state,
                     "attempt": attempt, "worker": null}})
}

fn ended(seq: u64, token: u64, number: u64, verdict: &str) -> Value {
    json!({"seq": seq, "token": token.to_string(), "tasks": {"first": number, "len": 1},
           "news": {"ended": {"verdict": verdict}}})
}

fn on_w1(job: u64, number: u64, attempt: u64) -> Value {
    json!({"Tasks": {"job": format!("j{job}"), "tasks": {"first": number, "len": 1}, "state": "placed",
                     "attempt": attempt, "worker": "w1"}})
}

fn kinds(found: &Found) -> [usize; 9] {
    let Found { replies, rounds, owners, dependencies, capacity, order, gangs, preemptions, claims } = found;
    [replies, rounds, owners, dependencies, capacity, order, gangs, preemptions, claims].map(Vec::len)
}

#[test]
fn a_log_that_is_right_is_found_right() {
    let mut log = Log::new();
    log.place(1, 0, 1).end(1, 0, 3, Some(task(1, 1, "ready", 0))).place(1, 1, 1).end(1, 1, 5, None);
    assert_eq!(kinds(&log.found()), [0; 9], "{:?}", log.found());
}

#[test]
fn a_dependent_that_begins_too_early_is_found() {
    let mut log = Log::new();
    log.place(1, 0, 1).entry(json!("tick"), json!("done"), json!([task(1, 1, "ready", 0)]));
    assert_eq!(kinds(&log.found()), [0, 0, 0, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn a_second_owner_and_an_end_by_a_stranger_are_found() {
    let mut log = Log::new();
    log.place(1, 0, 1).place(1, 0, 2);
    assert_eq!(kinds(&log.found())[2], 2, "from one to the other, while the one may still run");
    let mut log = Log::new();
    log.place(1, 0, 1).end(1, 0, 77, None);
    assert_eq!(kinds(&log.found())[2], 2, "a report under another token counts for nothing");
}

#[test]
fn a_report_that_is_refused_without_reason_is_found() {
    let refused = |token: u64| {
        let mut log = Log::new();
        log.place(1, 0, 1);
        let batch = json!({"session": "s1", "reports": [ended(1, token, 0, "succeeded")]});
        log.entry(json!({"report": batch}), json!({"reported": {"fenced": [1]}}), json!([]));
        kinds(&log.found())[2]
    };
    assert_eq!(refused(77), 0);
    assert_eq!(refused(3), 1);
}

#[test]
fn what_is_cancelled_takes_its_room_until_its_worker_says_that_it_is_over() {
    let cancelled = || {
        let mut log = Log::new();
        log.submit(2, json!([{"name": "c"}])).place(1, 0, 1);
        let cancel = json!({"write": {"request": "x", "body_hash": 3, "op": {"cancel": {"targets": [{"job": "j1"}]}}}});
        log.entry(cancel, json!({"changed": {"tasks": 2}}), json!([task(1, 0, "cancelled", 1)]));
        log
    };
    let mut log = cancelled();
    log.place(2, 0, 1);
    assert_eq!(kinds(&log.found())[4], 1, "1.5 and 1 of 2 cores");
    let mut log = cancelled();
    log.report(1, 4, 0, "cancelled", Vec::new()).place(2, 0, 1);
    assert_eq!(kinds(&log.found()), [0; 9], "{:?}", log.found());
}

#[test]
fn a_plan_that_is_told_otherwise_than_it_was_taken_is_found() {
    let mut log = Log::new();
    log.place(1, 0, 1);
    log.0.last_mut().unwrap().replies = vec![json!({"placed": {"taken": 0, "dropped": 1}})];
    assert_eq!(kinds(&log.found())[0], 1);
}

#[test]
fn a_second_end_is_found_and_a_retry_excuses_a_new_round() {
    let mut log = Log::new();
    log.place(1, 0, 1).end(1, 0, 3, None);
    let again = json!([task(1, 0, "ready", 1)]);
    log.entry(json!("tick"), json!("done"), again.clone());
    assert_eq!(kinds(&log.found())[1], 1);
    log.0.pop();
    let retry =
        json!({"write": {"request": "x", "body_hash": 3, "op": {"retry": {"targets": [{"job": "j1"}]}}}});
    log.entry(retry, json!({"changed": {"tasks": 1}}), again);
    assert_eq!(kinds(&log.found())[1], 0, "{:?}", log.found());
    let mut log = Log::new();
    log.place(1, 0, 1).end(1, 0, 3, None).entry(
        json!("tick"),
        json!("done"),
        json!([task(1, 0, "failed", 1)]),
    );
    assert_eq!(kinds(&log.found())[1], 1);
}

#[test]
fn an_end_and_a_retry_may_share_an_entry() {
    let mut log = Log::new();
    log.place(1, 0, 1).end(1, 0, 3, Some(task(1, 0, "ready", 1)));
    let entry = log.0.last_mut().unwrap();
    let retry = json!({"retry": {"targets": [{"job": "j1"}]}});
    entry.commands.push(json!({"write": {"request": "x", "body_hash": 3, "op": retry}}));
    entry.replies.push(json!({"changed": {"tasks": 1}}));
    assert_eq!(kinds(&log.found())[1], 0, "{:?}", log.found());
    // One retry is good for one new round.
    log.place(1, 0, 2).end(1, 0, 5, Some(task(1, 0, "ready", 2)));
    assert_eq!(kinds(&log.found())[1], 1);
}

#[test]
fn a_worker_that_is_given_too_much_is_found() {
    let mut log = Log::new();
    log.submit(2, json!([{"name": "c"}])).place(1, 0, 1).place(2, 0, 1);
    assert_eq!(kinds(&log.found())[4], 1, "1.5 and 1 of 2 cores");
    let mut log = Log::new();
    log.submit(2, json!([{"name": "c"}])).place(1, 0, 1).end(1, 0, 4, None).place(2, 0, 1);
    assert_eq!(kinds(&log.found())[4], 0, "{:?}", log.found());
}

#[test]
fn another_answer_under_a_used_id_is_found() {
    let repeat = |hash: u64, reply: Value| {
        let mut log = Log::new();
        let op = json!({"submit": {"job": "j2", "spec": {"tasks": []}}});
        let write = json!({"write": {"request": format!("{ID}1"), "body_hash": hash, "op": op}});
        log.entry(write, reply, json!([]));
        kinds(&log.found())[0]
    };
    assert_eq!(repeat(1, json!({"submitted": {"job": "j1"}})), 0);
    assert_eq!(repeat(1, json!({"submitted": {"job": "j2"}})), 1);
    assert_eq!(repeat(2, json!({"submitted": {"job": "j2"}})), 1);
    assert_eq!(repeat(2, json!({"rejected": {"request_conflict": {"request": "x"}}})), 0);
}

#[test]
fn one_who_is_passed_over_for_long_is_found() {
    let mut log = Log::new();
    let urgent = json!({"write": {"request": "u", "body_hash": 9, "op": {"submit": {"job": "j2",
        "spec": {"priority": 5, "tasks": [{"name": "c", "resources": {"cpu": 1.5}}]}}}}});
    log.entry(urgent, json!({"submitted": {"job": "j2"}}), json!([task(2, 0, "ready", 0)]));
    let ready = log.0.len();
    (0..PLANNED_BEFORE_ENTRIES).for_each(|_| _ = log.entry(json!("tick"), json!("done"), json!([])));
    log.place(1, 0, 1);
    assert_eq!(kinds(&log.found())[5], 1);
    let soon = log.0[ready - 1].elapsed + 1_000_000;
    log.0.last_mut().unwrap().elapsed = soon;
    assert_eq!(kinds(&log.found())[5], 0, "the plan may be older than its wait");
}

#[test]
fn a_plan_of_before_a_standstill_passes_over_nobody() {
    let mut log = Log::new();
    let urgent = json!({"write": {"request": "u", "body_hash": 9, "op": {"submit": {"job": "j2",
        "spec": {"priority": 5, "tasks": [{"name": "c", "resources": {"cpu": 1.5}}]}}}}});
    log.entry(urgent, json!({"submitted": {"job": "j2"}}), json!([task(2, 0, "ready", 0)]));
    // While a majority stood still both were in flight: whoever made the plan could not know of it.
    log.place(1, 0, 1);
    assert_eq!(kinds(&log.found())[5], 0, "{:?}", log.found());
}
