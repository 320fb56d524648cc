//! A state with jobs that wait, and the entries that take it through submit, placement and end.

use std::sync::Arc;
use std::time::Duration;

use machine::{
    Applied, Bootstrap, Command, Ended, Entry, News, Op, OpenSession, Placement, Plan, Reply, Report,
    ReportBatch, Session, Stamp, State, Write,
};
use model::{
    Actor, Capacity, JobId, JobSpec, Kind, Reason, RequestId, Resources, Run, SessionId, Settings, TaskSpec,
    Timestamp, Verdict, Work,
};

/// Submits, placements and ends per entry.
pub const BATCH: usize = 64;
/// Bytes of a task's argument list.
pub const ARGV_BYTES: usize = 200;

/// 2026-01-01.
const BEGAN: Timestamp = Timestamp(1_767_225_600_000_000);
/// Between two entries.
const PACE: Duration = Duration::from_millis(1);

pub struct World {
    pub state: State,
    /// What becomes of a batch next.
    next: Step,
}

/// What becomes of a batch, one entry each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Submit,
    Place,
    Finish,
}

impl Step {
    fn after(self) -> Step {
        match self {
            Step::Submit => Step::Place,
            Step::Place => Step::Finish,
            Step::Finish => Step::Submit,
        }
    }
}

impl World {
    /// A founded cluster with nothing in it. What it keeps of the past is bounded such that a benchmark that goes on for
    /// long comes to a steady state.
    pub fn new() -> World {
        let mut settings = Settings::default();
        settings.limits.finished_jobs_max = 1_000;
        settings.limits.tombstones_max = 10_000;
        settings.limits.requests_max = 200_000;
        let bootstrap = Bootstrap {
            cluster: "micro".to_owned(),
            settings,
            epoch: 0,
            next_node: 4,
            level: machine::LEVEL,
        };
        let mut world = World { state: State::default(), next: Step::Place };
        world.run(vec![Command::Bootstrap(bootstrap)]);
        world
    }

    /// So many single jobs of one request class wait; all workers together have room for a batch.
    pub fn waiting(jobs: u64, workers: u64) -> World {
        let mut world = World::new();
        world.open_workers(workers, &Resources::cores(BATCH as u64 / workers));
        world.submit_all((0..jobs).map(single));
        world
    }

    /// Adds `count` workers that offer as much each.
    pub fn open_workers(&mut self, count: u64, offer: &Resources) {
        for _ in 0..count {
            let session = SessionId(self.state.last_session().0 + 1);
            self.run(vec![Command::OpenSession(OpenSession {
                session,
                worker: format!("worker-{}", session.0),
                secret_hash: 1,
                capacity: Capacity::of(offer.clone()),
                labels: Default::default(),
                kinds: vec![Kind::Process, Kind::Noop],
                functions: Vec::new(),
                isolation: String::new(),
            })]);
        }
    }

    /// Submits all of them, a batch per entry.
    pub fn submit_all(&mut self, specs: impl Iterator<Item = JobSpec>) {
        let mut specs = specs.peekable();
        while specs.peek().is_some() {
            let entry = self.submits(specs.by_ref().take(BATCH));
            self.apply(&entry);
        }
    }

    /// One entry that submits all of them.
    pub fn submits(&self, specs: impl Iterator<Item = JobSpec>) -> Entry {
        let first = self.state.last_job().0 + 1;
        self.entry((first..).zip(specs).map(|(number, spec)| self.submit(JobId(number), spec)).collect())
    }

    fn submit(&self, job: JobId, spec: JobSpec) -> Command {
        self.write(job.0, Op::Submit { job, spec: Arc::new(spec) })
    }

    /// `number` tells it from other writes of this time.
    pub fn write(&self, number: u64, op: Op) -> Command {
        let now_ms = u128::from(self.state.stamp().wall.0 / 1_000);
        let scattered = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Command::Write(Write {
            request: RequestId(now_ms << 80 | u128::from(scattered)),
            body_hash: !scattered,
            actor: Actor::new("ann", "cli"),
            op,
        })
    }

    /// Goes through the steps before this one and returns its entry, which is to be applied then. As many jobs wait as at
    /// first, or a batch less.
    pub fn come_to(&mut self, step: Step) -> Entry {
        while self.next != step {
            let entry = self.entry_of(self.next);
            self.apply(&entry);
            self.next = self.next.after();
        }
        self.next = step.after();
        self.entry_of(step)
    }

    fn entry_of(&self, step: Step) -> Entry {
        match step {
            Step::Submit => {
                let first = self.state.last_job().0;
                self.submits((first..first + BATCH as u64).map(single))
            }
            Step::Place => self.places(),
            Step::Finish => self.ends(),
        }
    }

    /// Places the batch that has waited for longest, on all workers alike.
    fn places(&self) -> Entry {
        let sessions: Vec<SessionId> = self.state.sessions().map(|session| session.id).collect();
        let ready = self.state.ready().values().flatten().take(BATCH);
        let placements = ready.zip(sessions.iter().cycle()).map(|(key, session)| Placement {
            job: key.job,
            tasks: Run::new(0, 1),
            session: *session,
            held: false,
            alternative: 0,
        });
        let plan = Plan { placements: placements.collect(), ..Plan::default() };
        self.entry(vec![Command::Place(plan)])
    }

    /// Everything that runs has succeeded.
    fn ends(&self) -> Entry {
        let busy = self.state.sessions().filter(|session| !session.allocations.is_empty());
        self.entry(busy.map(|session| self.report_of(session)).collect())
    }

    fn report_of(&self, session: &Session) -> Command {
        let at = self.state.stamp().wall;
        let reports = session.allocations.values().map(|allocation| Report {
            seq: allocation.seq,
            token: allocation.token,
            tasks: allocation.tasks,
            news: News::Ended(Box::new(succeeded(at))),
        });
        Command::Report(ReportBatch { session: session.id, reports: reports.collect() })
    }

    fn entry(&self, commands: Vec<Command>) -> Entry {
        let before = self.state.stamp();
        let wall = before.wall.max(BEGAN).plus(PACE);
        Entry { stamp: Stamp { elapsed: before.elapsed.plus(PACE), wall }, commands }
    }

    /// Applies one entry of these.
    pub fn run(&mut self, commands: Vec<Command>) {
        let entry = self.entry(commands);
        self.apply(&entry);
    }

    /// Applies what the state cannot refuse.
    pub fn apply(&mut self, entry: &Entry) -> Applied {
        let applied = self.state.apply(self.state.index() + 1, entry);
        assert!(applied.replies.iter().all(is_done), "{:?}", applied.replies);
        applied
    }
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}

/// A reply that says that everything was done.
pub fn is_done(reply: &Reply) -> bool {
    match reply {
        Reply::Rejected(_) => false,
        Reply::Placed { dropped, .. } => *dropped == 0,
        Reply::Reported { fenced } => fenced.is_empty(),
        Reply::Done | Reply::Submitted { .. } | Reply::Changed { .. } | Reply::SessionOpened(_) => true,
    }
}

/// A job of one task that takes one core, with an argument list of its own.
pub fn single(number: u64) -> JobSpec {
    JobSpec::of("micro", vec![TaskSpec::new("main", Work::Run(argv(number)))])
}

fn argv(number: u64) -> Vec<String> {
    let (program, option) = ("/usr/bin/env".to_owned(), "--".to_owned());
    let rest = ARGV_BYTES - program.len() - option.len();
    vec![program, option, format!("{number:0>rest$}")]
}

fn succeeded(at: Timestamp) -> Ended {
    Ended {
        verdict: Verdict::Succeeded,
        reason: Reason::Exited,
        exit_code: Some(0),
        signal: None,
        message: String::new(),
        result: None,
        started: Some(at),
        ended: at.plus(PACE),
        cpu_time: PACE,
        memory_peak: 1 << 20,
    }
}

/// An array of so many noops.
pub fn array(tasks: u32) -> JobSpec {
    let range = format!("0-{}", tasks - 1).parse().expect("a range");
    JobSpec::of("array", vec![TaskSpec::new("main", Work::Noop).with(|task| task.array = Some(range))])
}
