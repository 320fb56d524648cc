use std::sync::Arc;
use std::time::Duration;

use machine::{
    Bootstrap, Command, Ended, Entry, News, Op, OpenSession, QueueSpec, Report, ReportBatch, Stamp, Write,
};
use model::{
    Actor, Capacity, Elapsed, JobId, JobSpec, Reason, RequestId, Resources, SessionId, Settings, TaskId,
    TaskSpec, Verdict, Work,
};
use proptest::prelude::*;

use super::*;

/// So many cases, or as many as `PROPTEST_CASES` asks for. What is found becomes a test with a name, not a file of seeds.
fn config(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let cases = asked.unwrap_or(cases);
    let max_global_rejects = cases.saturating_mul(16).max(1_024);
    ProptestConfig { cases, max_global_rejects, failure_persistence: None, ..ProptestConfig::default() }
}

/// A state that is driven by commands, as on a replica.
struct World {
    state: State,
    now: u64,
    jobs: u64,
    sessions: u64,
    requests: u128,
    /// Who writes.
    user: String,
}

impl World {
    fn new() -> World {
        World::with(Settings::default())
    }

    fn with(settings: Settings) -> World {
        World::founded(settings, machine::LEVEL)
    }

    fn founded(settings: Settings, level: u32) -> World {
        let mut world = World {
            state: State::default(),
            now: 0,
            jobs: 0,
            sessions: 0,
            requests: 1 << 80,
            user: "u".to_owned(),
        };
        let bootstrap = Bootstrap { cluster: "test".to_owned(), settings, epoch: 0, next_node: 4, level };
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
        self.apply(Command::Write(Write { request, body_hash: 0, actor: Actor::new(&self.user, "test"), op }))
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
        assert!(matches!(reply, machine::Reply::SessionOpened(_)), "{reply:?}");
        session
    }

    fn submit(&mut self, spec: JobSpec) -> JobId {
        self.jobs += 1;
        let job = JobId(self.jobs);
        let reply = self.write(Op::Submit { job, spec: Arc::new(spec) });
        assert_eq!(reply, machine::Reply::Submitted { job });
        job
    }

    /// A gang that is larger than the cluster is refused.
    fn submit_if_it_fits(&mut self, spec: JobSpec) {
        let job = JobId(self.jobs + 1);
        let reply = self.write(Op::Submit { job, spec: Arc::new(spec) });
        self.jobs += u64::from(reply == machine::Reply::Submitted { job });
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
        let taken = (plan.placements.len() + plan.switches.len()) as u32;
        assert_eq!(reply, machine::Reply::Placed { taken, dropped: 0 });
        placed
    }
}

/// Says that an attempt began at 0 and ended after so many milliseconds.
fn end(w: &mut World, session: SessionId, seq: u64, verdict: Verdict, ms: u64) {
    let allocation = w.state.session(session).unwrap().allocations[&seq].clone();
    let ended = Ended {
        verdict,
        reason: Reason::Exited,
        exit_code: Some(i32::from(verdict == Verdict::Failed)),
        signal: None,
        message: String::new(),
        result: None,
        started: Some(model::Timestamp(0)),
        ended: model::Timestamp(ms * 1_000),
        cpu_time: Duration::ZERO,
        memory_peak: 0,
    };
    let (token, tasks) = (allocation.token, allocation.tasks);
    let report = Report { seq, token, tasks, news: News::Ended(Box::new(ended)) };
    w.apply(Command::Report(ReportBatch { session, reports: vec![report] }));
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
    w.submit(job(1).with(|job| job.priority = 5));
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
    let spread = JobSpec::of("", vec![task(1)]).with(|job| job.placement = model::Placement::Spread);
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
    w.submit(job(2).with(|job| job.priority = 9));
    w.write(Op::Cancel { targets: vec![machine::Target::job(small)] });
    end(&mut w, SessionId(1), 1, Verdict::Cancelled, 0);
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
    let queued = |queue: &str| job(1).with(|job| job.queue = queue.to_owned());
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
            w.submit(job(1).with(|job| job.queue = name.to_owned()));
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
    w.submit(JobSpec::of("", vec![array]).with(|job| job.queue = "q".to_owned()));
    let first = w.plan();
    assert_eq!(first.placements.len(), 3);
    let mut overlay = Overlay::default();
    overlay.add(1, &first);
    assert!(plan(&w.state, &mut Scratch::default(), &overlay, Budget::default()).is_empty());
}

fn offers(cores: u64, memory: u64) -> Capacity {
    Capacity::of(Resources { memory, ..Resources::cores(cores) })
}

fn wants(cores: u64, memory: u64) -> TaskSpec {
    task(cores).with(|task| task.resources = Resources { memory, ..Resources::cores(cores) })
}

/// Only for the worker of this name.
fn only_on(name: &str, task: TaskSpec) -> TaskSpec {
    let constraint = model::Constraint::Equals { label: "name".to_owned(), value: name.to_owned() };
    task.with(|task| task.constraints = vec![constraint].into())
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

mod ageing;
mod ahead;
mod alternatives;
mod apart;
mod booking;
mod claiming;
mod explaining;
mod fair;
mod first_tasks;
mod gang_promises;
mod gangs;
mod giving_way;
mod held;
mod owners;
mod preempting;
mod random;
mod ratio;
mod rest;
mod several_queues;
mod sharing;
mod slicing;

/// Nobody asked for an entry, so nobody looked: it drained until something else happened.
#[test]
fn a_worker_that_drains_in_vain_is_given_up_in_time() {
    let mut w = full_of_endless(&["a", "b"], 4);
    w.submit(job(4));
    wait(&mut w, 61);
    w.round();
    let since = w.state.stamp().elapsed;
    let due = w.state.next_due().and_then(|due| due.elapsed);
    assert_eq!(due, Some(since.plus(Duration::from_secs(8 * 60))));
    w.now = due.unwrap().0;
    w.apply(Command::Tick);
    assert_eq!(machine::eligible::drains_for(&w.state, w.state.session(SessionId(1)).unwrap()), None);
    w.round();
    assert_eq!((w.reserved("a"), w.reserved("b").is_some()), (None, true));
}
mod backfill;
