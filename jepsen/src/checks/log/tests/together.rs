//! Gangs, preemptions, and users who share a queue.

use super::*;
use crate::checks::Verdict;

/// What the events of an entry say of tasks of one job.
fn told(job: u64, events: &[(u64, &str, u64)]) -> Vec<Value> {
    events.iter().map(|(number, state, attempt)| task(job, *number, state, *attempt)).collect()
}

impl Log {
    /// A worker with two cores, and a gang of three, each half a core, as `j2`.
    fn with_gang() -> Log {
        let mut log = Log::new();
        let tasks = json!([{"name": "g", "gang": 3, "resources": {"cpu": 0.5}}]);
        log.submit_of("ann", 2, json!({ "tasks": tasks }), 3);
        log
    }

    /// Places those members of it, all as one attempt.
    fn seat(&mut self, members: &[u64], attempt: u64) -> &mut Log {
        let members: Vec<(u64, u64)> = members.iter().map(|number| (*number, attempt)).collect();
        self.seat_as(&members)
    }

    fn seat_as(&mut self, members: &[(u64, u64)]) -> &mut Log {
        self.1 += members.len() as u64;
        let placement =
            |number: u64| json!({"job": "j2", "tasks": {"first": number, "len": 1}, "session": "s1"});
        let placements: Vec<Value> = members.iter().map(|(number, _)| placement(*number)).collect();
        let events: Vec<Value> =
            members.iter().map(|(number, attempt)| on_w1(2, *number, *attempt)).collect();
        let reply = json!({"placed": {"taken": members.len(), "dropped": 0}});
        self.entry(json!({"place": {"placements": placements}}), reply, json!(events))
    }

    /// One has ended well, another fails; the third is stopped.
    fn fail_gang(&mut self) -> &mut Log {
        self.report(1, 4, 0, "succeeded", Vec::new());
        let events = [(1, "delayed", 1), (0, "blocked", 1), (2, "blocked", 1), (0, "ready", 1)];
        self.report(2, 4, 1, "failed", told(2, &events))
    }
}

#[test]
fn a_gang_that_begins_anew_and_succeeds_is_right() {
    let mut log = Log::with_gang();
    log.seat(&[0, 1, 2], 1).fail_gang();
    log.report(3, 4, 2, "cancelled", told(2, &[(2, "ready", 1)]));
    log.entry(json!("tick"), json!("done"), json!(told(2, &[(1, "ready", 1)])));
    log.seat(&[0, 1, 2], 2).report(4, 9, 0, "succeeded", Vec::new()).report(5, 9, 1, "succeeded", Vec::new());
    let all = told(2, &[(0, "succeeded", 2), (1, "succeeded", 2), (2, "succeeded", 2)]);
    log.report(6, 9, 2, "succeeded", all);
    assert_eq!(kinds(&log.found()), [0; 9], "{:?}", log.found());
    let seen = log.world().seen;
    assert_eq!((seen.gangs, seen.gangs_anew, seen.placements), (2, 1, 6));
}

#[test]
fn a_part_of_a_gang_that_is_placed_is_found() {
    assert_eq!(kinds(&Log::with_gang().seat(&[0, 1], 1).found())[6], 1);
    let mut log = Log::with_gang();
    log.seat(&[0, 1], 1).seat(&[2], 1);
    assert_eq!(kinds(&log.found())[6], 2, "nor is it whole when the rest comes later: {:?}", log.found());
    let mut log = Log::with_gang();
    log.seat_as(&[(0, 1), (1, 1), (2, 2)]);
    assert_eq!(kinds(&log.found())[6], 1, "as two attempts");
}

#[test]
fn a_member_that_goes_back_alone_is_found() {
    let mut log = Log::with_gang();
    log.seat(&[0, 1, 2], 1).report(2, 4, 1, "failed", told(2, &[(1, "delayed", 1)]));
    assert_eq!(kinds(&log.found()), [0, 0, 0, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn a_gang_that_begins_anew_while_a_member_may_still_run_is_found() {
    let mut log = Log::with_gang();
    log.seat(&[0, 1, 2], 1).fail_gang();
    log.entry(json!("tick"), json!("done"), json!(told(2, &[(1, "ready", 1), (2, "ready", 1)])));
    log.seat(&[0, 1, 2], 2);
    let found = log.found();
    assert_eq!(found.gangs.len(), 1, "{found:?}");
    assert!(found.gangs[0].contains("j2.2 is placed, and may still run"), "{found:?}");
    // The lease of a worker that is gone has ended, and with it whatever it ran.
    let place = log.0.len() - 1;
    log.entry(json!({"end_session": {"session": "s1"}}), json!("done"), json!([]));
    log.0.swap(place, place + 1);
    assert_eq!(kinds(&log.found())[6], 0, "{:?}", log.found());
}

#[test]
fn a_member_that_succeeds_before_the_others_have_ended_is_found() {
    let mut log = Log::with_gang();
    log.seat(&[0, 1, 2], 1).report(1, 4, 0, "succeeded", told(2, &[(0, "succeeded", 1)]));
    let found = log.found();
    assert_eq!((found.gangs.len(), found.owners.len()), (1, 1), "{found:?}");
    let mut log = Log::with_gang();
    let all = told(2, &[(0, "succeeded", 1), (1, "succeeded", 1), (2, "succeeded", 1)]);
    log.seat(&[0, 1, 2], 1).report(1, 4, 0, "succeeded", Vec::new()).report(3, 4, 2, "succeeded", all);
    assert_ne!(kinds(&log.found())[2], 0, "nobody said that the second has ended");
}

#[test]
fn who_has_ended_well_gives_its_room_back_before_the_others_have() {
    let with = |arrived: u64| {
        let mut log = Log::with_gang();
        log.submit(3, json!([{"name": "c"}])).seat(&[0, 1, 2], 1);
        (0..arrived).for_each(|number| {
            log.report(number + 1, 5, number, "succeeded", Vec::new());
        });
        log.place(3, 0, 1);
        kinds(&log.found())[4]
    };
    assert_eq!((with(0), with(1)), (1, 0), "1.5 and 1 of 2 cores; 1 and 1");
}

#[test]
fn one_gang_is_passed_over_only_if_all_of_it_waits() {
    let told_of = |of_better: &str| {
        let mut log = Log::with_gang();
        let tasks = json!([{"name": "g", "gang": 3, "resources": {"cpu": 0.5}}]);
        log.submit_of("ann", 3, json!({"priority": 5, "tasks": tasks}), 2);
        log.entry(json!("tick"), json!("done"), json!(told(3, &[(2, of_better, 0)])));
        (0..PLANNED_BEFORE_ENTRIES).for_each(|_| _ = log.entry(json!("tick"), json!("done"), json!([])));
        log.seat(&[0, 1, 2], 1);
        kinds(&log.found())[5]
    };
    assert_eq!((told_of("ready"), told_of("delayed")), (3, 0));
}

/// Two jobs of one task each that together are too much, and their queue.
struct Pair {
    queues: [&'static str; 2],
    priorities: [i64; 2],
    order: &'static str,
    preempt: bool,
    /// Whether a plan names who gives way.
    is_named: bool,
    is_gang: bool,
}

const RIGHT: Pair = Pair {
    queues: ["urgent", "urgent"],
    priorities: [1, 5],
    order: "priority",
    preempt: true,
    is_named: true,
    is_gang: false,
};

impl Pair {
    /// `j2` is placed, and gives way to `j3`.
    fn log(&self) -> Log {
        let mut log = Log::new();
        let queue = json!({"name": "urgent", "order": self.order, "preempt": self.preempt});
        let put = json!({"write": {"request": "q", "body_hash": 3, "op": {"put_queue": queue}}});
        log.entry(put, json!("done"), json!([]));
        for (job, queue, priority) in [(2, 0, 0), (3, 1, 1)] {
            let (queue, priority) = (self.queues[queue], self.priorities[priority]);
            let mut tasks = json!([{"name": "c", "resources": {"cpu": 1.5}}]);
            if self.is_gang {
                tasks[0]["gang"] = json!(1);
            }
            log.submit_of("ann", job, json!({"queue": queue, "priority": priority, "tasks": tasks}), 1);
        }
        log.place(2, 0, 1);
        let preemption = json!({"session": "s1", "seq": 1, "job": "j3", "task": 0});
        let named = if self.is_named { vec![preemption] } else { Vec::new() };
        let plan = json!({"place": {"placements": [], "preemptions": named}});
        log.entry(plan, json!({"placed": {"taken": 0, "dropped": 0}}), json!([task(2, 0, "blocked", 1)]));
        log
    }
}

#[test]
fn who_gives_way_to_a_higher_priority_is_right() {
    let mut log = RIGHT.log();
    log.report(1, 6, 0, "cancelled", told(2, &[(0, "ready", 1)])).place(3, 0, 1).end(3, 0, 9, None);
    log.place(2, 0, 2);
    assert_eq!(kinds(&log.found()), [0; 9], "{:?}", log.found());
    assert_eq!(log.world().gave_way, GaveWay::from([((2, 0), [1].into())]));
}

#[test]
fn who_gives_way_without_having_to_is_found() {
    let wrong = [
        Pair { priorities: [5, 5], ..RIGHT },
        Pair { priorities: [6, 5], ..RIGHT },
        Pair { queues: ["default", "urgent"], ..RIGHT },
        Pair { queues: ["default", "default"], ..RIGHT },
        Pair { preempt: false, ..RIGHT },
        Pair { is_named: false, ..RIGHT },
        Pair { is_gang: true, ..RIGHT },
    ];
    for (number, pair) in wrong.iter().enumerate() {
        let log = pair.log();
        assert_eq!(kinds(&log.found()), [0, 0, 0, 0, 0, 0, 0, 1, 0], "{number}: {:?}", log.found());
    }
    let mut log = RIGHT.log();
    let last = log.0.len() - 1;
    log.place(3, 0, 1);
    log.0.swap(last, last + 1);
    assert_eq!(kinds(&log.found())[7], 1, "whom it makes way for has its place already");
}

#[test]
fn who_takes_the_room_of_one_that_gave_way_before_it_has_ended_is_found() {
    let mut log = RIGHT.log();
    log.place(3, 0, 1);
    assert_eq!(kinds(&log.found()), [0, 0, 0, 0, 1, 0, 0, 0, 0]);
    let mut log = RIGHT.log();
    log.entry(json!("tick"), json!("done"), json!(told(2, &[(0, "ready", 1)]))).place(2, 0, 2);
    assert_ne!(kinds(&log.found())[2], 0, "it is placed again while it may still run");
}

#[test]
fn of_several_users_nobody_is_passed_over_for_another_but_each_has_an_order() {
    let second = |user: &str, order: &str| {
        let mut log = Log::new();
        let queue = json!({"name": "shared", "order": order});
        let put = json!({"write": {"request": "q", "body_hash": 3, "op": {"put_queue": queue}}});
        log.entry(put, json!("done"), json!([]));
        let spec = |priority: i64| json!({"queue": "shared", "priority": priority, "tasks": [{"name": "c"}]});
        log.submit_of("ann", 2, spec(5), 1).submit_of(user, 3, spec(1), 1);
        (0..PLANNED_BEFORE_ENTRIES).for_each(|_| _ = log.entry(json!("tick"), json!("done"), json!([])));
        log.place(3, 0, 1);
        kinds(&log.found())[5]
    };
    assert_eq!((second("bob", "fair"), second("ann", "fair")), (0, 1));
    assert_eq!(second("bob", "priority"), 1);
}

#[test]
fn what_is_claimed_is_of_a_queue_from_which_workers_claim() {
    let claimed = |mode: &str, is_gang: bool| {
        let mut log = Log::new();
        let queue = json!({"name": "pool", "mode": mode});
        let put = json!({"write": {"request": "q", "body_hash": 3, "op": {"put_queue": queue}}});
        log.entry(put, json!("done"), json!([]));
        let mut tasks = json!([{"name": "c"}]);
        if is_gang {
            tasks[0]["gang"] = json!(1);
        }
        log.submit_of("ann", 2, json!({"queue": "pool", "tasks": tasks}), 1);
        let placement = json!({"job": "j2", "tasks": {"first": 0, "len": 1}, "session": "s1"});
        let claim = json!({"claim": {"session": "s1", "placements": [placement]}});
        let write = json!({"write": {"request": "c", "body_hash": 4, "op": claim}});
        let won = json!({"placed": {"taken": 1, "dropped": 0}});
        log.entry(write.clone(), won.clone(), json!([on_w1(2, 0, 1)]));
        let found = log.found();
        // Sent again it is another claim, and answered as such.
        let lost = json!({"placed": {"taken": 0, "dropped": 1}});
        log.entry(write, lost, json!([]));
        assert_eq!(kinds(&log.found()), kinds(&found));
        found
    };
    assert_eq!(kinds(&claimed("claim", false)), [0; 9]);
    assert_eq!(kinds(&claimed("hybrid", false)), [0; 9]);
    assert_eq!(claimed("push", false).claims.len(), 1);
    assert_eq!(claimed("claim", true).claims.len(), 1);
}

#[test]
fn who_takes_what_was_kept_free_for_it_passes_over_nobody() {
    let reserved = |is_reserved: bool| {
        let mut log = Log::new();
        let spec = |priority: i64| json!({"priority": priority, "tasks": [{"name": "c"}]});
        log.submit_of("ann", 2, spec(1), 1).submit_of("ann", 3, spec(5), 1);
        let kept = json!([{"session": "s1", "job": "j2", "task": 0}]);
        let plan =
            json!({"place": {"placements": [], "reservations": if is_reserved { kept } else { json!([]) }}});
        log.entry(plan, json!({"placed": {"taken": 0, "dropped": 0}}), json!([]));
        (0..PLANNED_BEFORE_ENTRIES).for_each(|_| _ = log.entry(json!("tick"), json!("done"), json!([])));
        log.place(2, 0, 1);
        kinds(&log.found())[5]
    };
    assert_eq!((reserved(true), reserved(false)), (0, 1));
}

#[test]
fn a_workload_in_which_what_it_is_about_did_not_happen_says_nothing() {
    let verdicts = |log: &Log, workload: Workload| {
        let mut run = Evidence::default();
        run.asked.workload = workload;
        let entries = log.0.iter().map(|entry| (entry.index, entry.clone())).collect();
        run.trace = Some(Trace { entries, ..Trace::default() });
        let findings = check(&run, replay(&run).as_ref());
        let of = |id: &str| findings.iter().find(|finding| finding.id == id).map(|finding| finding.verdict);
        [of("W16.log"), of("W17")]
    };
    let (happened, missed) = (Some(Verdict::True), Some(Verdict::Unknown));
    let mut log = Log::with_gang();
    log.seat(&[0, 1, 2], 1);
    assert_eq!(verdicts(&log, Workload::Mixed), [happened, happened]);
    assert_eq!(verdicts(&log, Workload::Gang), [happened, happened]);
    assert_eq!(verdicts(&log, Workload::Preempt), [happened, missed]);
    assert_eq!(verdicts(&RIGHT.log(), Workload::Preempt), [happened, happened]);
    assert_eq!(verdicts(&RIGHT.log(), Workload::Gang), [missed, happened]);
}
