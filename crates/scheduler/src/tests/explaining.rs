//! What is told of a task that does not run.

use super::*;

#[test]
fn explain_says_by_how_much_it_does_not_fit() {
    let mut w = World::new();
    let id = w.submit(job(16));
    let task = TaskId { job: id, number: 0 };
    assert_eq!(explain(&w.state, task).unwrap().reasons[0].code, "no_workers");
    w.session("a", 4);
    let why = explain(&w.state, task).unwrap();
    assert_eq!(why.reasons[0].message, "asks for cpu 16, the largest worker has 4: 12 too much");
    w.write(Op::Pause { jobs: vec![id] });
    let codes: Vec<String> =
        explain(&w.state, task).unwrap().reasons.into_iter().map(|reason| reason.code).collect();
    assert!(codes.contains(&"job_paused".to_owned()), "{codes:?}");
}

#[test]
fn explain_says_until_when_a_task_may_wait_and_then_that_it_waited_too_long() {
    let mut w = World::new();
    let limited = task(1).with(|task| {
        let start_within = Some(Duration::from_secs(10));
        task.timing = model::Timing { start_within, ..Default::default() }.boxed();
    });
    let id = w.submit(JobSpec::of("", vec![limited]));
    let summary = |w: &World| explain(&w.state, TaskId { job: id, number: 0 }).unwrap().summary;
    assert!(
        summary(&w).ends_with("; cancelled unless started by 1970-01-01T00:00:10.000000Z"),
        "{}",
        summary(&w)
    );
    w.now = 10_000_000;
    w.apply(Command::Tick);
    assert_eq!(summary(&w), "j1.0 was cancelled: not started within 10s");
}

/// Code, message and workers of each reason.
fn told(w: &World, job: JobId) -> Vec<(String, String, String)> {
    let why = explain(&w.state, TaskId { job, number: 0 }).unwrap();
    why.reasons.into_iter().map(|reason| (reason.code, reason.message, reason.workers.join(" "))).collect()
}

fn is_hopeless(w: &World, job: JobId) -> bool {
    explain(&w.state, TaskId { job, number: 0 }).unwrap().hopeless
}

fn row(code: &str, message: &str, workers: &str) -> (String, String, String) {
    (code.to_owned(), message.to_owned(), workers.to_owned())
}

#[test]
fn explain_says_by_how_much_among_workers_of_other_labels() {
    let mut w = World::new();
    w.session("a", 4);
    w.session("b", 32);
    let id = w.submit(JobSpec::of("", vec![only_on("a", task(16))]));
    let expected = [
        row(
            "fits_no_worker",
            "asks for cpu 16, the largest worker that suits it otherwise has 4: 12 too much",
            "",
        ),
        row("labels", "the worker's labels do not satisfy `name=a`", "b"),
        row("too_large", "asks for cpu 16, the worker has 4 in all: 12 too much", "a"),
    ];
    assert_eq!((told(&w, id), is_hopeless(&w, id)), (expected.to_vec(), true));
}

#[test]
fn explain_names_every_obstacle_of_every_worker() {
    const GIB: u64 = 1 << 30;
    let mut w = World::new();
    w.session_with("a", offers(2, 8 * GIB));
    w.session_with("b", offers(8, GIB));
    let id = w.submit(JobSpec::of("", vec![wants(4, 4 * GIB)]));
    let expected = [
        row(
            "fits_no_worker",
            "no one worker has all that it asks for; the nearest, a, has cpu 2 of 4: 2 too little",
            "",
        ),
        row("too_large", "asks for cpu 4, the worker has 2 in all: 2 too much", "a"),
        row("too_large", "asks for memory 4GiB, the worker has 1GiB in all: 3GiB too much", "b"),
    ];
    assert_eq!((told(&w, id), is_hopeless(&w, id)), (expected.to_vec(), true));

    // Two of a size are one reason, with the range; what is busy and cordoned says both.
    w.session_with("c", offers(4, 8 * GIB));
    w.session_with("d", offers(5, 8 * GIB));
    w.submit(JobSpec::of("", vec![only_on("c", task(2))]).with(|job| job.priority = 1));
    w.submit(JobSpec::of("", vec![only_on("d", task(2))]).with(|job| job.priority = 1));
    w.write(Op::Pause { jobs: vec![id] });
    w.round();
    w.write(Op::Resume { jobs: vec![id] });
    w.write(Op::Cordon { worker: "d".to_owned() });
    let told = told(&w, id);
    assert!(told.contains(&row(
        "no_room",
        "asks for cpu 4, the workers have 2 to 3 free now: 1 to 2 too little",
        "c d"
    )));
    assert!(told.contains(&row("cordoned", "the worker is cordoned", "d")), "{told:?}");
    assert!(!is_hopeless(&w, id));
}

#[test]
fn a_worker_is_too_small_even_when_cordoned_and_even_for_what_still_waits() {
    let mut w = World::new();
    w.session("a", 4);
    w.write(Op::Cordon { worker: "a".to_owned() });
    let big = w.submit(job(16));
    let delayed = job(16).with(|job| job.delay = Some(std::time::Duration::from_secs(3_600)));
    let later = w.submit(delayed);
    assert!(is_hopeless(&w, big) && is_hopeless(&w, later));
    w.now += 1_500_000;
    w.apply(Command::Tick);
    let expected = [
        row("delayed", "its job starts in 59m59s", ""),
        row("fits_no_worker", "asks for cpu 16, the largest worker has 4: 12 too much", ""),
    ];
    assert_eq!(told(&w, later), expected);
    let elsewhere = w.submit(JobSpec::of("", vec![only_on("z", task(1))]));
    assert_eq!(told(&w, elsewhere)[0].1, "no live worker could take it, however idle");
    // One that was here and may come back could take it.
    let large = w.session("big", 16);
    assert!(!is_hopeless(&w, big));
    w.apply(Command::EndSession { session: large });
    assert!(!is_hopeless(&w, big));
    w.write(Op::ForgetWorker { worker: "big".to_owned() });
    assert!(is_hopeless(&w, big));
}

#[test]
fn what_would_mend_it_names_the_ids() {
    let mut w = World::new();
    let fixes = |w: &World, job| -> Vec<String> {
        let why = explain(&w.state, TaskId { job, number: 0 }).unwrap();
        why.reasons.into_iter().map(|reason| reason.fix).collect()
    };
    w.session("a", 4);
    let first = w.submit(job(1));
    let behind = w.submit(job(1).with(|job| job.priority = 3));
    let last = w.submit(job(1));
    assert_eq!(fixes(&w, behind), Vec::<String>::new());
    assert_eq!(fixes(&w, last), [format!("wait, or `baton job set {last} --priority 4`")]);
    let after = w.submit(job(1).with(|job| job.after = vec![first].into()));
    let fix = format!(
        "see `baton explain {first}`, or let it go with `baton job set {after} --remove-after {first}`"
    );
    assert_eq!(fixes(&w, after), [fix]);
    w.write(Op::Cordon { worker: "a".to_owned() });
    assert_eq!(fixes(&w, first), ["`baton worker uncordon a`"]);
}
