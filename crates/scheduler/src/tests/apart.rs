//! Anti-affinity: two tasks of one name are never on one worker.

use model::policy::{Backfill, Order};

use super::*;

fn apart(name: &str, cores: u64) -> TaskSpec {
    let mut task = task(cores);
    task.resources.set_apart([name.to_owned()]);
    task
}

fn one(name: &str, cores: u64) -> JobSpec {
    JobSpec::of("", vec![apart(name, cores)])
}

fn codes(w: &World, job: JobId) -> Vec<(String, String)> {
    let why = explain(&w.state, TaskId { job, number: 0 }).unwrap();
    why.reasons.into_iter().map(|reason| (reason.code, reason.message)).collect()
}

#[test]
fn a_second_one_goes_elsewhere_or_waits_until_the_first_has_ended() {
    let mut w = World::new();
    let session = w.session("a", 4);
    w.session("b", 4);
    (0..2).for_each(|_| _ = w.submit(one("web", 1)));
    assert_eq!(w.round(), ["j1.0@a", "j2.0@b"]);
    let third = w.submit(one("web", 1));
    w.submit(one("db", 1));
    w.submit(job(1));
    assert_eq!(w.round(), ["j4.0@a", "j5.0@a"]);
    let told =
        ("anti_affinity".to_owned(), "the worker has a task of the same anti-affinity `web`".to_owned());
    assert_eq!(codes(&w, third), [told]);
    end(&mut w, session, 1, Verdict::Succeeded, 1_000);
    assert_eq!(w.round(), ["j3.0@a"]);
}

#[test]
fn tasks_that_cost_nothing_keep_apart_too() {
    let mut w = World::new();
    let session = w.session("a", 4);
    let mut task = apart("web", 1).with(|task| task.work = Work::Noop);
    task.array = Some(model::ArrayRange { first: 0, last: 2, step: 1 });
    w.submit(JobSpec::of("", vec![task]));
    for number in 0..3_u64 {
        assert_eq!(w.round(), [format!("j1.{number}@a")]);
        assert_eq!(w.round(), Vec::<String>::new(), "and nothing is sent ahead");
        end(&mut w, session, number + 1, Verdict::Succeeded, 1);
    }
}

#[test]
fn the_members_of_a_gang_are_each_on_a_worker_of_their_own() {
    let mut w = World::new();
    let mut task = apart("web", 1);
    task.set_gang(3);
    let id = w.submit(JobSpec::of("", vec![task]));
    (0..2).for_each(|n| _ = w.session(&format!("w{n}"), 8));
    assert_eq!(w.round(), Vec::<String>::new());
    assert_eq!(codes(&w, id)[0].0, "gang_too_large");
    w.session("w2", 8);
    assert_eq!(w.round(), ["j1.0@w0", "j1.1@w1", "j1.2@w2"]);
}

#[test]
fn a_promise_counts_with_whom_is_there_and_until_when() {
    let mut w = World::new();
    w.session("a", 4);
    w.policy(Order::Fifo, Backfill::Conservative);
    let lasts = |seconds: u64, mut task: TaskSpec| {
        let estimate = Some(Duration::from_secs(seconds));
        task.timing = model::Timing { estimate, ..Default::default() }.boxed();
        JobSpec::of("", vec![task])
    };
    w.submit(lasts(10, apart("web", 1)));
    let second = w.submit(lasts(10, apart("web", 1)));
    let third = w.submit(lasts(5, apart("web", 1)));
    while !w.round().is_empty() {}
    w.round();
    let starts = |w: &World, job| {
        let why = explain(&w.state, TaskId { job, number: 0 }).unwrap();
        why.expected_start.map(|at| at.0 / 1_000_000)
    };
    assert_eq!((starts(&w, second), starts(&w, third)), (Some(10), Some(20)));
}

#[test]
fn whoever_is_more_important_makes_the_other_one_give_way() {
    let mut w = World::new();
    w.session("a", 4);
    w.write(Op::PutQueue(QueueSpec {
        name: "default".to_owned(),
        preempt: Some(true),
        ..QueueSpec::default()
    }));
    w.submit(one("web", 1));
    w.submit(job(1));
    w.round();
    let high = w.submit(one("web", 1).with(|job| job.priority = 5));
    let plan = w.plan();
    let victims: Vec<u64> = plan.preemptions.iter().map(|preemption| preemption.seq).collect();
    assert_eq!((plan.preemptions[0].job, victims), (high, vec![1]), "the other has room beside it");
}
