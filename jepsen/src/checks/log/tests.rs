//! The model is given logs that are right and logs that are wrong.

use serde_json::{Value, json};

use super::order::PLANNED_BEFORE_ENTRIES;
use super::world::World;
use super::*;
use crate::trace::Applied;

const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// A log in the making.
struct Log(Vec<Applied>);

impl Log {
    /// A worker with two cores, and a job of `a` and `b`, which waits for `a`.
    fn new() -> Log {
        let mut log = Log(Vec::new());
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
        let id = format!("{ID}{job}");
        let op = json!({"submit": {"job": format!("j{job}"), "spec": {"tasks": tasks}}});
        let write = json!({"write": {"request": id, "body_hash": job, "op": op}});
        self.entry(write, json!({"submitted": {"job": format!("j{job}")}}), json!([task(job, 0, "ready", 0)]))
    }

    fn place(&mut self, job: u64, number: u64, attempt: u64) -> &mut Log {
        let placement =
            json!({"job": format!("j{job}"), "tasks": {"first": number, "len": 1}, "session": "s1"});
        let plan = json!({"place": {"placements": [placement]}});
        self.entry(plan, json!({"placed": {"taken": 1, "dropped": 0}}), json!([on_w1(job, number, attempt)]))
    }

    /// The end of what the entry at `token` has placed.
    fn end(&mut self, job: u64, number: u64, token: u64, more: Option<Value>) -> &mut Log {
        let report =
            json!({"seq": 1, "token": token.to_string(), "tasks": {"first": number, "len": 1}, "news": {}});
        let batch = json!({"report": {"session": "s1", "reports": [report]}});
        let events: Vec<Value> = [task(job, number, "succeeded", 1)].into_iter().chain(more).collect();
        self.entry(batch, json!({"reported": {"fenced": []}}), json!(events))
    }

    fn found(&self) -> Found {
        let mut world = World::default();
        self.0.iter().for_each(|entry| world.apply(entry));
        world.found
    }
}

fn task(job: u64, number: u64, state: &str, attempt: u64) -> Value {
    json!({"Tasks": {"job": format!("j{job}"), "tasks": {"first": number, "len": 1}, "state": state,
                     "attempt": attempt, "worker": null}})
}

fn on_w1(job: u64, number: u64, attempt: u64) -> Value {
    json!({"Tasks": {"job": format!("j{job}"), "tasks": {"first": number, "len": 1}, "state": "placed",
                     "attempt": attempt, "worker": "w1"}})
}

fn kinds(found: &Found) -> [usize; 6] {
    [&found.replies, &found.rounds, &found.owners, &found.dependencies, &found.capacity, &found.order]
        .map(Vec::len)
}

#[test]
fn a_log_that_is_right_is_found_right() {
    let mut log = Log::new();
    log.place(1, 0, 1).end(1, 0, 3, Some(task(1, 1, "ready", 0))).place(1, 1, 1).end(1, 1, 5, None);
    assert_eq!(kinds(&log.found()), [0; 6], "{:?}", log.found());
}

#[test]
fn a_dependent_that_begins_too_early_is_found() {
    let mut log = Log::new();
    log.place(1, 0, 1).entry(json!("tick"), json!("done"), json!([task(1, 1, "ready", 0)]));
    assert_eq!(kinds(&log.found()), [0, 0, 0, 1, 0, 0]);
}

#[test]
fn a_second_owner_and_an_end_by_a_stranger_are_found() {
    let mut log = Log::new();
    log.place(1, 0, 1).place(1, 0, 2);
    assert_eq!(kinds(&log.found())[2], 1);
    let mut log = Log::new();
    log.place(1, 0, 1).end(1, 0, 77, None);
    assert_eq!(kinds(&log.found())[2], 1, "a report under another token counts for nothing");
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
