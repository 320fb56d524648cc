use std::sync::Arc;

use machine::{Bootstrap, Command, Entry, Op, OpenSession, QueueSpec, Stamp, Write};
use model::{
    Actor, Capacity, Elapsed, JobId, JobSpec, RequestId, Resources, SessionId, Settings, TaskId, TaskSpec,
    Work,
};
use proptest::prelude::*;

use super::*;

/// A state that is driven by commands, as on a replica.
struct World {
    state: State,
    now: u64,
    jobs: u64,
    sessions: u64,
    requests: u128,
}

impl World {
    fn new() -> World {
        let mut world = World { state: State::default(), now: 0, jobs: 0, sessions: 0, requests: 1 << 80 };
        let settings = Settings::default();
        let bootstrap = Bootstrap { cluster: "test".to_owned(), settings, epoch: 0, next_node: 4 };
        world.apply(Command::Bootstrap(bootstrap));
        world
    }

    fn apply(&mut self, command: Command) -> machine::Reply {
        let stamp = Stamp { elapsed: Elapsed(self.now), wall: model::Timestamp(self.now) };
        let index = self.state.index() + 1;
        let mut applied = self.state.apply(index, &Entry { stamp, commands: vec![command] });
        assert_eq!(machine::check::broken(&self.state), Vec::<String>::new());
        applied.replies.remove(0)
    }

    fn write(&mut self, op: Op) -> machine::Reply {
        self.requests += 1 << 80;
        let request = RequestId(self.requests);
        self.apply(Command::Write(Write { request, body_hash: 0, actor: Actor::new("u", "test"), op }))
    }

    fn session(&mut self, name: &str, cores: u64) -> SessionId {
        self.session_with(name, Capacity::of(Resources::cores(cores)))
    }

    fn session_with(&mut self, name: &str, capacity: Capacity) -> SessionId {
        self.session_of(name, capacity, &[("name", name)])
    }

    fn session_of(&mut self, name: &str, capacity: Capacity, labels: &[(&str, &str)]) -> SessionId {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        let reply = self.apply(Command::OpenSession(OpenSession {
            session,
            worker: name.to_owned(),
            secret_hash: 1,
            capacity,
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            kinds: vec![model::Kind::Process, model::Kind::Noop],
            functions: Vec::new(),
            isolation: String::new(),
        }));
        assert!(matches!(reply, machine::Reply::SessionOpened { .. }), "{reply:?}");
        session
    }

    fn submit(&mut self, spec: JobSpec) -> JobId {
        self.jobs += 1;
        let job = JobId(self.jobs);
        let reply = self.write(Op::Submit { job, spec: Arc::new(spec) });
        assert_eq!(reply, machine::Reply::Submitted { job });
        job
    }

    /// The task that the worker drains for.
    fn reserved(&self, worker: &str) -> Option<(JobId, u32)> {
        let session = self.state.worker(worker)?.session?;
        self.state.session(session)?.reserved
    }

    fn plan(&self) -> Plan {
        plan(&self.state, &mut Scratch::default(), &Overlay::default(), Budget::default())
    }

    /// Plans, applies, and returns what was placed, as `task@worker`.
    fn round(&mut self) -> Vec<String> {
        let plan = self.plan();
        let name = |session| self.state.session(session).unwrap().worker.clone();
        let placed = plan
            .placements
            .iter()
            .map(|p| format!("{}.{}@{}", p.job, p.tasks.first, name(p.session)))
            .collect();
        let reply = self.apply(Command::Place(plan.clone()));
        let taken = plan.placements.len() as u32;
        assert_eq!(reply, machine::Reply::Placed { taken, dropped: 0 });
        placed
    }
}

fn task(cores: u64) -> TaskSpec {
    let mut task = TaskSpec::new("t", Work::Run(vec!["true".to_owned()]));
    task.resources = Resources::cores(cores);
    task
}

fn job(cores: u64) -> JobSpec {
    JobSpec::of("", vec![task(cores)])
}

#[test]
fn higher_priority_first_then_submit_order() {
    let mut w = World::new();
    w.submit(job(1));
    w.submit(JobSpec { priority: 5, ..job(1) });
    w.submit(job(1));
    w.session("a", 2);
    assert_eq!(w.round(), ["j2.0@a", "j1.0@a"]);
}

#[test]
fn packing_fills_the_fullest_worker_and_spreading_the_emptiest() {
    let mut w = World::new();
    w.session("a", 4);
    w.session("b", 2);
    for _ in 0..3 {
        w.submit(job(1));
    }
    assert_eq!(w.round(), ["j1.0@b", "j2.0@b", "j3.0@a"]);
    let spread = JobSpec { placement: model::Placement::Spread, ..JobSpec::of("", vec![task(1)]) };
    w.session("c", 4);
    w.submit(spread.clone());
    w.submit(spread);
    assert_eq!(w.round(), ["j4.0@c", "j5.0@a"]);
}

#[test]
fn what_does_not_fit_is_passed_over_until_a_worker_drains_for_it() {
    let mut w = World::new();
    w.session("a", 2);
    w.submit(job(1));
    assert_eq!(w.round(), ["j1.0@a"]);
    w.submit(job(2));
    w.submit(job(1));
    assert_eq!(w.round(), ["j3.0@a"]);
    w.now += 61_000_000;
    w.apply(Command::Tick);
    let reservation = machine::Reservation { session: SessionId(1), job: JobId(2), task: 0 };
    assert_eq!(w.plan().reservations, [reservation]);
    w.round();
    assert_eq!(w.state.session(SessionId(1)).unwrap().reserved, Some((JobId(2), 0)));
    // One slot is free again: the small job that comes later may not have it.
    w.write(Op::Cancel { targets: vec![machine::Target::job(JobId(3))] });
    w.submit(job(1));
    let why = explain(&w.state, TaskId { job: JobId(4), number: 0 }).unwrap();
    assert_eq!(w.round(), Vec::<String>::new());
    assert_eq!(why.reasons[0].code, "reserved");
}

#[test]
fn a_reserved_worker_is_used_although_others_stand_ahead() {
    let mut w = World::new();
    w.session("a", 2);
    let small = w.submit(job(1));
    w.round();
    w.submit(job(2));
    w.now += 61_000_000;
    w.apply(Command::Tick);
    w.round();
    assert_eq!(w.state.session(SessionId(1)).unwrap().reserved, Some((JobId(2), 0)));
    // Of the same class, with a higher priority, and too late for this worker.
    w.submit(JobSpec { priority: 9, ..job(2) });
    w.write(Op::Cancel { targets: vec![machine::Target::job(small)] });
    let allocation = w.state.session(SessionId(1)).unwrap().allocations[&1].clone();
    let ended = machine::Ended {
        verdict: model::Verdict::Cancelled,
        reason: model::Reason::Cancelled,
        exit_code: None,
        signal: None,
        message: String::new(),
        result: None,
        started: None,
        ended: model::Timestamp(0),
        cpu_time: std::time::Duration::ZERO,
        memory_peak: 0,
    };
    let (tasks, news) = (allocation.tasks, machine::News::Ended(Box::new(ended)));
    let report = machine::Report { seq: 1, token: allocation.token, tasks, news };
    w.apply(Command::Report(machine::ReportBatch { session: SessionId(1), reports: vec![report] }));
    assert_eq!(w.round(), ["j2.0@a"]);
}

#[test]
fn a_reservation_leaves_a_worker_that_takes_no_more_work() {
    for stop in [Op::Cordon { worker: "a".to_owned() }, Op::Drain { worker: "a".to_owned() }] {
        let mut w = World::new();
        w.session("a", 2);
        w.submit(job(1));
        w.round();
        w.submit(job(2));
        w.now += 61_000_000;
        w.apply(Command::Tick);
        w.round();
        assert_eq!(w.reserved("a"), Some((JobId(2), 0)));
        w.write(stop);
        assert_eq!(w.reserved("a"), None);
        w.session("b", 2);
        assert_eq!(w.round(), ["j2.0@b"]);
    }
}

/// Workers that are full, each with one task that never ends.
fn full_of_endless(names: &[&str], cores: u64) -> World {
    let mut w = World::new();
    for name in names {
        w.session(name, cores);
        w.submit(JobSpec::of("", vec![only_on(name, task(cores))]));
    }
    assert_eq!(w.round().len(), names.len());
    w
}

fn wait(w: &mut World, seconds: u64) {
    w.now += seconds * 1_000_000;
    w.apply(Command::Tick);
}

#[test]
fn an_ordinary_backlog_reserves_for_its_first_alone() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let mut w = full_of_endless(&names, 4);
    let first = w.submit(job(4));
    for cores in 1..4 {
        w.submit(job(cores));
    }
    wait(&mut w, 61);
    let plan = w.plan();
    assert_eq!(plan.reservations.iter().map(|r| (r.job, r.task)).collect::<Vec<_>>(), [(first, 0)]);
    w.round();
    assert!(w.plan().is_empty());
}

#[test]
fn few_workers_drain_at_a_time() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let mut w = full_of_endless(&names, 5);
    for cores in 2..6 {
        w.submit(job(cores));
    }
    wait(&mut w, 61);
    // It is behind all of them, and goes before them.
    w.session("small", 1);
    w.submit(job(1));
    assert_eq!(w.plan().reservations.len(), 2);
    w.round();
    assert!(w.plan().is_empty());
}

#[test]
fn what_stood_still_was_not_passed_over() {
    for by_queue in [true, false] {
        let mut w = full_of_endless(&["a"], 4);
        let id = w.submit(job(4));
        let queue = "default".to_owned();
        let (pause, resume) = match by_queue {
            true => (Op::PauseQueue { name: queue.clone() }, Op::ResumeQueue { name: queue }),
            false => (Op::Pause { jobs: vec![id] }, Op::Resume { jobs: vec![id] }),
        };
        w.write(pause);
        wait(&mut w, 61);
        w.write(resume);
        assert!(w.plan().is_empty());
        wait(&mut w, 61);
        assert_eq!(w.plan().reservations.len(), 1);
    }
}

#[test]
fn a_reservation_leaves_a_worker_that_nothing_ends_on() {
    let mut w = full_of_endless(&["a", "b"], 4);
    w.submit(job(4));
    wait(&mut w, 61);
    w.round();
    let task = w.reserved("a");
    assert!(task.is_some() && w.reserved("b").is_none());
    wait(&mut w, 7 * 60);
    assert!(w.plan().is_empty());
    wait(&mut w, 61);
    w.round();
    assert_eq!((w.reserved("a"), w.reserved("b")), (None, task));
}

/// The reservation was made for the very task that the plan placed, and so came to nothing.
#[test]
fn what_gets_a_worker_in_a_round_does_not_starve_in_it() {
    let mut w = full_of_endless(&["a"], 1);
    let mut array = task(1);
    array.array = Some("0-2".parse().unwrap());
    let id = w.submit(JobSpec::of("", vec![array]));
    wait(&mut w, 61);
    w.round();
    assert_eq!(w.reserved("a"), Some((id, 0)));
    random::finish(&mut w, 0);
    assert_eq!(w.round(), [format!("{id}.0@a")]);
    assert!(w.plan().is_empty());
}

#[test]
fn a_long_queue_does_not_starve_a_short_one() {
    let mut w = World::new();
    w.session("a", 10);
    for name in ["long", "short"] {
        let spec = QueueSpec { name: name.to_owned(), weight: Some(100), ..QueueSpec::default() };
        w.write(Op::PutQueue(spec));
    }
    let queued = |queue: &str| JobSpec { queue: queue.to_owned(), ..job(1) };
    for _ in 0..100 {
        w.submit(queued("long"));
    }
    for _ in 0..10 {
        w.submit(queued("short"));
    }
    let placed = w.round();
    let short = placed
        .iter()
        .filter(|task| task.trim_start_matches('j').split('.').next().unwrap().parse::<u64>().unwrap() > 100);
    assert_eq!((placed.len(), short.count()), (10, 5));
}

#[test]
fn weights_divide_the_capacity() {
    let mut w = World::new();
    w.session("a", 8);
    for (name, weight) in [("one", 100), ("three", 300)] {
        w.write(Op::PutQueue(QueueSpec {
            name: name.to_owned(),
            weight: Some(weight),
            ..QueueSpec::default()
        }));
        for _ in 0..20 {
            w.submit(JobSpec { queue: name.to_owned(), ..job(1) });
        }
    }
    w.round();
    let running: Vec<u64> = w.state.queues().skip(1).map(|queue| queue.counts.running).collect();
    assert_eq!(running, [2, 6]);
}

#[test]
fn a_queue_keeps_its_ceiling_with_plans_in_flight() {
    let mut w = World::new();
    w.session("a", 8);
    w.write(Op::PutQueue(QueueSpec { name: "q".to_owned(), running_max: Some(3), ..QueueSpec::default() }));
    let mut array = task(1);
    array.array = Some("0-9".parse().unwrap());
    w.submit(JobSpec { queue: "q".to_owned(), ..JobSpec::of("", vec![array]) });
    let first = w.plan();
    assert_eq!(first.placements.len(), 3);
    let mut overlay = Overlay::default();
    overlay.add(1, &first);
    assert!(plan(&w.state, &mut Scratch::default(), &overlay, Budget::default()).is_empty());
}

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

/// Code, message and workers of each reason.
fn told(w: &World, job: JobId) -> Vec<(String, String, String)> {
    let why = explain(&w.state, TaskId { job, number: 0 }).unwrap();
    why.reasons.into_iter().map(|reason| (reason.code, reason.message, reason.workers.join(" "))).collect()
}

fn is_hopeless(w: &World, job: JobId) -> bool {
    explain(&w.state, TaskId { job, number: 0 }).unwrap().hopeless
}

fn offers(cores: u64, memory: u64) -> Capacity {
    Capacity::of(Resources { memory, ..Resources::cores(cores) })
}

fn wants(cores: u64, memory: u64) -> TaskSpec {
    TaskSpec { resources: Resources { memory, ..Resources::cores(cores) }, ..task(cores) }
}

/// Only for the worker of this name.
fn only_on(name: &str, task: TaskSpec) -> TaskSpec {
    let constraint = model::Constraint::Equals { label: "name".to_owned(), value: name.to_owned() };
    TaskSpec { constraints: vec![constraint], ..task }
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
    w.submit(JobSpec { priority: 1, ..JobSpec::of("", vec![only_on("c", task(2))]) });
    w.submit(JobSpec { priority: 1, ..JobSpec::of("", vec![only_on("d", task(2))]) });
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
    let delayed = JobSpec { delay: Some(std::time::Duration::from_secs(3_600)), ..job(16) };
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
    let behind = w.submit(JobSpec { priority: 3, ..job(1) });
    let last = w.submit(job(1));
    assert_eq!(fixes(&w, behind), Vec::<String>::new());
    assert_eq!(fixes(&w, last), [format!("wait, or `baton job set {last} --priority 4`")]);
    let after = w.submit(JobSpec { after: vec![first], ..job(1) });
    let fix = format!(
        "see `baton explain {first}`, or let it go with `baton job set {after} --remove-after {first}`"
    );
    assert_eq!(fixes(&w, after), [fix]);
    w.write(Op::Cordon { worker: "a".to_owned() });
    assert_eq!(fixes(&w, first), ["`baton worker uncordon a`"]);
}

#[test]
fn noops_travel_in_runs() {
    let mut w = World::new();
    w.session("a", 2);
    let mut array = TaskSpec::new("n", Work::Noop);
    array.array = Some("0-2999".parse().unwrap());
    w.submit(JobSpec::of("", vec![array]));
    let plan = w.plan();
    let lens: Vec<u32> = plan.placements.iter().map(|placement| placement.tasks.len).collect();
    assert_eq!(lens, [1024, 1024]);
}

/// An attempt that ran for so many milliseconds and succeeded.
fn ran_for(w: &mut World, session: SessionId, seq: u64, ms: u64) {
    let allocation = w.state.session(session).unwrap().allocations[&seq].clone();
    let ended = machine::Ended {
        verdict: model::Verdict::Succeeded,
        reason: model::Reason::Exited,
        exit_code: Some(0),
        signal: None,
        message: String::new(),
        result: None,
        started: Some(model::Timestamp(0)),
        ended: model::Timestamp(ms * 1_000),
        cpu_time: std::time::Duration::ZERO,
        memory_peak: 0,
    };
    let (tasks, news) = (allocation.tasks, machine::News::Ended(Box::new(ended)));
    let report = machine::Report { seq, token: allocation.token, tasks, news };
    w.apply(Command::Report(machine::ReportBatch { session, reports: vec![report] }));
}

fn array(len: u32) -> JobSpec {
    let mut task = task(1);
    task.array = Some(model::ArrayRange { first: 0, last: len - 1, step: 1 });
    JobSpec::of("", vec![task])
}

fn held(plan: &Plan) -> Vec<bool> {
    plan.placements.iter().map(|placement| placement.held).collect()
}

#[test]
fn a_busy_worker_is_sent_ahead_what_has_shown_to_be_short() {
    let mut w = World::new();
    let a = w.session("a", 1);
    w.submit(array(9));
    assert_eq!(held(&w.plan()), [false], "nobody knows yet how long it takes");
    w.round();
    ran_for(&mut w, a, 1, 5_000);
    assert_eq!(held(&w.plan()), [false]);
    w.round();
    ran_for(&mut w, a, 2, 10);
    assert_eq!(held(&w.plan()), [false, true, true], "credit_per_session_max is 2");
    w.round();
    assert!(w.plan().is_empty());
    // What is in flight counts too.
    ran_for(&mut w, a, 3, 10);
    let plan = w.plan();
    let mut overlay = Overlay::default();
    overlay.add(1, &plan);
    assert!(super::plan(&w.state, &mut Scratch::default(), &overlay, Budget::default()).is_empty());
}

#[test]
fn nothing_is_sent_ahead_of_what_has_found_no_room() {
    let mut w = World::new();
    let a = w.session("a", 2);
    w.submit(array(8));
    w.round();
    // Of another class, longer or not known, and more urgent.
    w.submit(JobSpec { priority: 5, ..job(2) });
    ran_for(&mut w, a, 1, 10);
    let plan = w.plan();
    assert!(plan.placements.iter().all(|placement| !placement.held), "{plan:?}");
}

#[test]
fn nothing_is_sent_ahead_behind_long_work_or_after_a_failure() {
    let mut w = World::new();
    let a = w.session("a", 2);
    w.submit(job(1));
    w.submit(array(8));
    assert_eq!(w.round().len(), 2);
    ran_for(&mut w, a, 2, 10);
    let plan = w.plan();
    assert_eq!(held(&plan), [false], "the other one may take hours");
}

#[test]
fn nothing_is_sent_ahead_while_a_worker_drains() {
    let mut w = World::new();
    let a = w.session("a", 2);
    w.submit(array(6));
    w.round();
    w.submit(JobSpec { priority: 1, ..job(2) });
    w.now += 61_000_000;
    w.apply(Command::Tick);
    w.round();
    assert!(w.state.session(a).unwrap().reserved.is_some());
    ran_for(&mut w, a, 1, 10);
    assert!(w.plan().is_empty(), "{:?}", w.plan());
}

#[test]
fn what_was_sent_ahead_is_asked_back_when_another_worker_has_room() {
    let mut w = World::new();
    let a = w.session("a", 1);
    w.submit(array(4));
    w.round();
    ran_for(&mut w, a, 1, 10);
    w.round();
    assert!(w.state.ready().is_empty());
    assert_eq!(recalls(&w.state, &Overlay::default()), []);
    w.session("b", 1);
    // The last of the two: it would wait longest.
    assert_eq!(recalls(&w.state, &Overlay::default()), [(a, 4)]);
    w.submit(job(1));
    assert_eq!(w.round(), ["j2.0@b"]);
    assert_eq!(recalls(&w.state, &Overlay::default()), []);
}

#[test]
fn a_plan_beside_one_in_flight_takes_what_that_one_left() {
    let ask = [1, 2, 3, 1, 2, 3];
    for early in 0..=ask.len() {
        let mut w = World::new();
        for name in ["a", "b", "c"] {
            w.session(name, 4);
        }
        for cores in ask {
            w.submit(job(cores));
        }
        let mut part = w.plan();
        part.placements.truncate(early);
        let mut overlay = Overlay::default();
        overlay.add(7, &part);
        let rest = plan(&w.state, &mut Scratch::default(), &overlay, Budget::default());
        for plan in [part, rest] {
            let taken = plan.placements.len() as u32;
            assert_eq!(w.apply(Command::Place(plan)), machine::Reply::Placed { taken, dropped: 0 });
        }
        assert!(w.plan().is_empty());
    }
}

mod random;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn what_is_placed_with_its_submit_is_taken_whole(
        workers in prop::collection::vec(1u64..6, 1..6),
        running in 0usize..4,
        jobs in prop::collection::vec((1u64..5, -2i32..3, 1u32..6, any::<bool>()), 1..20),
    ) {
        let mut w = World::new();
        for (place, cores) in workers.iter().enumerate() {
            w.session(&format!("w{place}"), *cores);
        }
        for _ in 0..running {
            w.submit(job(1));
            w.round();
        }
        prop_assume!(w.state.ready().is_empty());
        let specs: Vec<(JobId, JobSpec)> = jobs
            .into_iter()
            .map(|(cores, priority, len, spread)| {
                let mut task = task(cores);
                task.array = Some(model::ArrayRange { first: 0, last: len - 1, step: 1 });
                let placement = if spread { model::Placement::Spread } else { model::Placement::Pack };
                w.jobs += 1;
                (JobId(w.jobs), JobSpec { priority, placement, ..JobSpec::of("", vec![task]) })
            })
            .collect();
        let new: Vec<(JobId, &JobSpec)> = specs.iter().map(|(id, spec)| (*id, spec)).collect();
        let ahead = plan_new(&w.state, &Overlay::default(), &new, 1_000);
        // Until it is applied, a plan beside it takes nothing of the same room.
        let mut overlay = Overlay::default();
        overlay.add_new(1, &ahead.plan, ahead.asked.clone());
        prop_assert!(plan_new(&w.state, &overlay, &[], 1_000).plan.is_empty());
        for (id, spec) in &specs {
            let reply = w.write(Op::Submit { job: *id, spec: Arc::new(spec.clone()) });
            prop_assert_eq!(reply, machine::Reply::Submitted { job: *id });
        }
        // `apply` asserts that nothing is over-committed.
        let reply = w.apply(Command::Place(ahead.plan.clone()));
        prop_assert_eq!(reply, machine::Reply::Placed { taken: ahead.plan.placements.len() as u32, dropped: 0 });
        // What is said to be whole leaves nothing ready, and what is left finds no room.
        prop_assert_eq!(ahead.is_whole, w.state.ready().is_empty());
        prop_assert!(w.plan().placements.is_empty(), "{:?}", w.plan());
    }
}
