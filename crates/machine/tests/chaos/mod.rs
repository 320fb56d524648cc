//! Random entries for the properties: sensible ones, late ones, nonsense. What is drawn depends only on the seed and
//! the state, so equal seeds make equal logs.

mod draw;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use draw::Draw;
use machine::state::State;
use machine::state::jobs::On;
use machine::{
    BookingSpec, Bootstrap, Command, Edge, Ended, Entry, JobChange, News, Op, OpenSession, PeriodicSpec,
    PeriodicTaskSpec, Placement, Plan, Preemption, Promise, Promised, QueueSpec, Report, ReportBatch,
    Reservation, Stamp, Switch, Target, Write,
};
use model::policy::{Adaptation, Backfill, Mode, Order, QueuePolicy};
use model::spec::Backoff;
use model::{
    Actor, ArrayRange, Blob, Capacity, Dependency, Elapsed, JobId, JobSpec, Kind, Offer, Pace, Reason,
    RequestId, Resources, Run, RunSet, Seq, SessionId, Settings, TaskSpec, Timestamp, Timing, Token, Verdict,
    Work,
};

pub struct Chaos {
    draw: Draw,
    elapsed: Duration,
    wall: Timestamp,
    requests: Vec<Write>,
    /// Every allocation ever seen: session, seq, token, tasks.
    seen: BTreeMap<(SessionId, Seq), (Token, Run)>,
    pub settings: Settings,
    patient: bool,
}

impl Chaos {
    /// Without limits on waiting: seeds found before there were any go on to mean what they did.
    pub fn patient(self) -> Chaos {
        Chaos { patient: true, ..self }
    }

    /// The same, with so few rows an entry that most of what is begun is left to later ones.
    pub fn cramped(seed: u64) -> Chaos {
        let mut chaos = Chaos::new(seed);
        chaos.settings.limits.rows_per_apply_max = 2 + Draw(!seed).below(12) as u32;
        chaos
    }
}

const BEGIN: Timestamp = Timestamp(1_767_225_600_000_000);

impl Chaos {
    pub fn new(seed: u64) -> Chaos {
        let mut settings = Settings::default();
        let mut draw = Draw(seed);
        settings.limits.finished_jobs_max = draw.below(8);
        settings.limits.finished_age_max_s = 1 + draw.below(400);
        settings.limits.tombstones_max = draw.below(4);
        settings.limits.requests_max = 5 + draw.below(40);
        settings.limits.request_window_s = 1 + draw.below(200);
        settings.limits.unfinished_jobs_max = 5 + draw.below(20);
        settings.limits.outcomes_per_group_max = draw.below(4) as u32;
        settings.limits.earlier_outcomes_max = draw.below(3) as u32;
        settings.limits.results_bytes_per_job_max = 100;
        settings.limits.queues_max = 4;
        Chaos {
            draw,
            elapsed: Duration::ZERO,
            wall: BEGIN,
            requests: Vec::new(),
            seen: BTreeMap::new(),
            settings,
            patient: false,
        }
    }

    pub fn first(&mut self) -> Entry {
        let settings = self.settings.clone();
        self.entry_of(vec![Command::Bootstrap(Bootstrap {
            cluster: "chaos".to_owned(),
            settings,
            epoch: 1,
            next_node: 4,
            level: machine::LEVEL,
        })])
    }

    /// One entry of one or a few commands. `state` is the state before it.
    pub fn entry(&mut self, state: &State) -> Entry {
        for session in state.sessions() {
            for (seq, allocation) in &session.allocations {
                self.seen.insert((session.id, *seq), (allocation.token, allocation.tasks));
            }
        }
        self.elapsed += Duration::from_millis(self.draw.below(4_000));
        self.wall = match self.draw.below(20) {
            0 => self.wall.plus(Duration::from_secs(600)),
            1 => self.wall.minus(Duration::from_secs(600)),
            _ => BEGIN.plus(self.elapsed),
        };
        let count = if self.draw.chance(70) { 1 } else { 2 + self.draw.below(4) };
        let commands = (0..count).map(|nth| self.command(state, nth)).collect();
        self.entry_of(commands)
    }

    fn entry_of(&self, commands: Vec<Command>) -> Entry {
        Entry { stamp: Stamp { elapsed: Elapsed::default().plus(self.elapsed), wall: self.wall }, commands }
    }

    fn command(&mut self, state: &State, nth: u64) -> Command {
        match self.draw.below(100) {
            0..20 => self.plan(state),
            20..50 => self.reports(state),
            50..58 => self.open(state),
            58..61 => Command::EndSession { session: self.session(state) },
            61..66 => Command::Tick,
            66..68 => {
                let above = if self.draw.chance(95) { 1 + nth } else { 0 };
                Command::Release {
                    first: JobId(state.last_job().0 + above),
                    count: self.draw.below(4) as u32,
                }
            }
            68..69 => Command::SetClock,
            _ => self.write(state, nth),
        }
    }

    fn session(&mut self, state: &State) -> SessionId {
        let live: Vec<SessionId> = state.sessions().map(|session| session.id).collect();
        match self.draw.pick(&live) {
            Some(id) if self.draw.chance(95) => id,
            _ => SessionId(self.draw.below(9)),
        }
    }

    fn job(&mut self, state: &State) -> JobId {
        let all: Vec<JobId> = state.jobs().map(|job| job.id).collect();
        match self.draw.pick(&all) {
            Some(id) if self.draw.chance(95) => id,
            _ => JobId(self.draw.below(state.last_job().0 + 3)),
        }
    }

    fn plan(&mut self, state: &State) -> Command {
        let mut plan = Plan::default();
        for _ in 0..1 + self.draw.below(4) {
            if let Some(placement) = self.placement(state) {
                let members = self.members(state, placement);
                plan.placements.extend(members);
            }
        }
        if self.draw.chance(15)
            && let Some(placement) = self.placement(state)
        {
            let Placement { session, job, tasks, .. } = placement;
            plan.reservations.push(Reservation { session, job, task: tasks.first });
        }
        if self.draw.chance(25)
            && let Some(preemption) = self.preemption(state)
        {
            plan.preemptions.push(preemption);
        }
        for _ in 0..self.draw.below(3) {
            let switch = self.switch(state);
            plan.switches.extend(switch);
        }
        for _ in 0..self.draw.below(3) {
            plan.promises.push(self.promised(state));
        }
        Command::Place(plan)
    }

    fn placement(&mut self, state: &State) -> Option<Placement> {
        let (job, session) = (self.job(state), self.session(state));
        let held = self.draw.chance(15);
        let groups = state.job(job)?.groups.clone();
        let group = self.draw.pick(&groups)?;
        let ready: Vec<Run> = group.ready.runs().collect();
        let run = match self.draw.pick(&ready) {
            Some(run) if self.draw.chance(90) => {
                let from = self.draw.below(run.len.into()) as u32;
                let len = 1 + self.draw.below((run.len - from).into()) as u32;
                group.numbers_of(Run::new(run.first + from, len))
            }
            // What is not ready, or beyond the group.
            _ => Run::new(self.draw.below(30) as u32, self.draw.below(5) as u32),
        };
        let choices = state.class(group.class).map_or(0, |row| row.alternatives.len()) as u32 + 1;
        let alternative = (run.first % choices) as u8;
        Some(Placement { job, tasks: run, session, held, alternative })
    }

    /// Of anything for anybody, as it comes.
    fn preemption(&mut self, state: &State) -> Option<Preemption> {
        let of = self.placement(state)?;
        let session = self.session(state);
        let all: Vec<Seq> = state.session(session)?.allocations.keys().copied().collect();
        Some(Preemption { session, seq: self.draw.pick(&all)?, job: of.job, task: of.tasks.first })
    }

    /// Of anything, to whatever.
    fn switch(&mut self, state: &State) -> Option<Switch> {
        let session = self.session(state);
        let all: Vec<Seq> = state.session(session)?.allocations.keys().copied().collect();
        let to = if self.draw.chance(60) { Pace::StandsStill } else { Pace::Runs };
        Some(Switch { session, seq: self.draw.pick(&all)?, to })
    }

    /// Mostly the whole gang, where it is of one: on any sessions.
    fn members(&mut self, state: &State, of: Placement) -> Vec<Placement> {
        let group = state.job(of.job).and_then(|job| job.group_of(of.tasks.first)).map(|(_, group)| group);
        let Some(group) = group.filter(|group| group.gang && self.draw.chance(90)) else { return vec![of] };
        let numbers = group.numbers();
        (numbers.first..numbers.end())
            .map(|number| Placement {
                tasks: Run::new(number, 1),
                session: self.session(state),
                held: false,
                alternative: 0,
                ..of
            })
            .collect()
    }

    fn reports(&mut self, state: &State) -> Command {
        let session = self.session(state);
        let count = 1 + self.draw.below(3);
        let reports = (0..count).filter_map(|_| self.report(state, session)).collect();
        Command::Report(ReportBatch { session, reports })
    }

    fn report(&mut self, state: &State, session: SessionId) -> Option<Report> {
        let current: Vec<Seq> = state.session(session)?.allocations.keys().copied().collect();
        let ever: Vec<Seq> = self.seen.keys().filter(|(id, _)| *id == session).map(|(_, seq)| *seq).collect();
        let seq = if self.draw.chance(85) { self.draw.pick(&current) } else { self.draw.pick(&ever) }?;
        let (token, tasks) = self.seen.get(&(session, seq)).copied()?;
        let token = if self.draw.chance(95) { token } else { Token(self.draw.below(50)) };
        let tasks = match self.draw.below(4) {
            0 => Run::new(tasks.first, 1),
            1 => {
                let from = self.draw.below(tasks.len.into()) as u32;
                Run::new(tasks.first + from, tasks.len - from)
            }
            2 if self.draw.chance(10) => Run::new(0, u32::MAX),
            _ => tasks,
        };
        Some(Report { seq, token, tasks, news: self.news() })
    }

    fn news(&mut self) -> News {
        let verdict = match self.draw.below(20) {
            0..5 => return News::Started { at: self.wall },
            5 => return News::Recalled,
            6..10 => Verdict::Failed,
            10..12 => Verdict::Lost,
            12 => Verdict::Cancelled,
            _ => Verdict::Succeeded,
        };
        let result = self.draw.chance(10).then(|| Box::new(Blob::inline(vec![7; 40])));
        News::Ended(Box::new(Ended {
            verdict,
            reason: Reason::Exited,
            exit_code: Some(self.draw.below(3) as i32),
            signal: None,
            message: "said".to_owned(),
            result,
            started: Some(self.wall),
            ended: self.wall,
            cpu_time: Duration::from_millis(3),
            memory_peak: 4096,
        }))
    }

    fn open(&mut self, state: &State) -> Command {
        let mut capacity = Capacity::of(Resources::cores(1 + self.draw.below(8)));
        if self.draw.chance(30) {
            capacity.offer("gpu", Offer::Indexed(1 + self.draw.below(3) as u32));
        }
        let above = if self.draw.chance(95) { 1 + self.draw.below(2) } else { 0 };
        Command::OpenSession(OpenSession {
            session: SessionId(state.last_session().0 + above),
            worker: format!("w{}", self.draw.below(4)),
            secret_hash: 7,
            capacity,
            labels: BTreeMap::new(),
            kinds: vec![Kind::Noop, Kind::Process],
            functions: Vec::new(),
            isolation: String::new(),
        })
    }

    fn write(&mut self, state: &State, nth: u64) -> Command {
        // Again: as it was, with another body, or with another id.
        if self.draw.chance(8)
            && let Some(mut write) = self.draw.pick(&self.requests.clone())
        {
            if self.draw.chance(30) {
                write.body_hash += 1;
            }
            return Command::Write(write);
        }
        let op = self.op(state, nth);
        let offset = match self.draw.below(20) {
            0 => Duration::from_secs(self.draw.below(300)),
            _ => Duration::ZERO,
        };
        let minted = if self.draw.chance(50) { self.wall.plus(offset) } else { self.wall.minus(offset) };
        let request = RequestId(u128::from(minted.0 / 1000) << 80 | u128::from(self.draw.next()));
        let user = ["ann", "bob", "cyn"][self.draw.below(3) as usize];
        let write = Write { request, body_hash: self.draw.next(), actor: Actor::new(user, "cli"), op };
        self.requests.push(write.clone());
        Command::Write(write)
    }

    fn op(&mut self, state: &State, nth: u64) -> Op {
        let job = self.job(state);
        match self.draw.below(100) {
            0..40 => {
                let above = if self.draw.chance(97) { 1 + nth } else { 0 };
                Op::Submit { job: JobId(state.last_job().0 + above), spec: Arc::new(self.spec(state)) }
            }
            40..52 => Op::Cancel { targets: vec![self.target(state)] },
            52..66 => Op::Retry { targets: vec![self.target(state)], failed_only: self.draw.chance(50) },
            66..69 => Op::Pause { jobs: vec![job] },
            69..73 => Op::Resume { jobs: vec![job] },
            73..83 => Op::SetJob { job, change: self.change(state, job) },
            83..86 => Op::PutQueue(QueueSpec {
                name: self.queue(),
                weight: self.draw.chance(50).then(|| 1 + self.draw.below(10) as u32),
                running_max: self.draw.chance(30).then(|| self.draw.below(9) as u32),
                no_running_max: self.draw.chance(20),
                auto: self.draw.chance(50).then(|| self.draw.chance(80)),
                ..self.policy()
            }),
            86 => Op::PauseQueue { name: self.queue() },
            87..90 => Op::ResumeQueue { name: self.queue() },
            90 if self.draw.chance(50) => self.adapt(state),
            90 => Op::DeleteQueue { name: self.queue() },
            91 => Op::Cordon { worker: self.worker() },
            92..94 => Op::Uncordon { worker: self.worker() },
            94 => Op::Drain { worker: self.worker() },
            95 => Op::ForgetWorker { worker: self.worker() },
            99 if self.draw.chance(60) => match self.draw.chance(80) {
                true => Op::PutPeriodic(Box::new(self.periodic())),
                false => Op::DeletePeriodic { name: self.queue() },
            },
            98 if self.draw.chance(50) => match self.draw.chance(80) {
                true => Op::PutBooking(self.booking()),
                false => Op::DeleteBooking { name: self.queue() },
            },
            96 | 97 => {
                let session = self.session(state);
                // Mostly its own, as a worker's are.
                let own = |placement| Placement { session, ..placement };
                let drawn: Vec<Placement> = (0..4).filter_map(|_| self.placement(state)).collect();
                let is_own = self.draw.chance(90);
                let placements =
                    drawn.into_iter().map(|drawn| if is_own { own(drawn) } else { drawn }).collect();
                Op::Claim { session, placements }
            }
            _ => {
                self.settings.limits.finished_jobs_max = self.draw.below(8);
                self.settings.limits.earlier_outcomes_max = self.draw.below(3) as u32;
                Op::PutSettings(Box::new(self.settings.clone()))
            }
        }
    }

    fn queue(&mut self) -> String {
        self.draw.pick(&["default", "fast", "slow"]).unwrap_or("default").to_owned()
    }

    fn worker(&mut self) -> String {
        format!("w{}", self.draw.below(5))
    }

    fn target(&mut self, state: &State) -> Target {
        let job = self.job(state);
        if self.draw.chance(50) {
            return Target::job(job);
        }
        let mut tasks = RunSet::new();
        for _ in 0..1 + self.draw.below(3) {
            tasks.insert(Run::new(self.draw.below(12) as u32, 1 + self.draw.below(3) as u32));
        }
        Target { job, tasks: Some(tasks) }
    }

    fn spec(&mut self, state: &State) -> JobSpec {
        let count = 1 + self.draw.below(4) as usize;
        let mut tasks: Vec<TaskSpec> = Vec::new();
        for place in 0..count {
            let work = if self.draw.chance(50) { Work::Noop } else { Work::Run(vec!["true".to_owned()]) };
            let mut task = TaskSpec::new(&format!("t{place}"), work);
            let len = self.draw.pick(&[1u32, 1, 3, 6]).unwrap_or(1);
            task.array = (len > 1).then(|| ArrayRange { first: 0, last: len - 1, step: 1 });
            task.gang = (2..5).contains(&len) && self.draw.chance(60);
            task.resources = Resources::cores(1 + self.draw.below(3));
            if !task.gang && task.resources == Resources::cores(2) {
                task.alternatives.push(Resources::cores(1));
            }
            if !task.gang && task.resources == Resources::cores(3) {
                task.resources.set_apart([format!("a{}", place % 2)]);
            }
            if self.draw.chance(15) {
                task.resources.set("gpu", 5_000 * (1 + self.draw.below(3)));
            }
            task.retry.max = self.draw.below(3) as u32;
            task.retry.lost_max = self.draw.below(3) as u32;
            let first = Duration::from_secs(self.draw.below(3));
            task.retry.backoff = Backoff { first, cap: Duration::from_secs(4) };
            let second =
                |draw: &mut Self| draw.draw.chance(30).then(|| Duration::from_secs(1 + draw.draw.below(20)));
            let (estimate, deadline, period) = (second(self), second(self), second(self));
            let mut aside = Draw(!self.draw.0);
            let is_limited = !self.patient && aside.chance(25);
            let start_within = is_limited.then(|| Duration::from_millis(1 + aside.below(20_000)));
            task.timing = Timing { estimate, deadline, period, start_within }.boxed();
            for earlier in &tasks {
                if self.draw.chance(25) {
                    task.after.push(Dependency::Task(earlier.name.clone()));
                } else if self.draw.chance(25) && earlier.count() == task.count() {
                    task.after_each.push(earlier.name.clone());
                }
            }
            if self.draw.chance(10) {
                task.after.push(Dependency::Job(self.job(state)));
            }
            tasks.push(task);
        }
        let mut spec = JobSpec::of("chaos", tasks);
        spec.queue = if self.draw.chance(80) { "default".to_owned() } else { self.queue() };
        spec.priority = self.draw.below(3) as i32;
        match self.draw.below(12) {
            0 => spec.delay = Some(Duration::from_secs(self.draw.below(20))),
            1 => spec.start_at = Some(self.wall.plus(Duration::from_secs(self.draw.below(20)))),
            _ => {}
        }
        for _ in 0..2 {
            if self.draw.chance(15) {
                spec.after.push(self.job(state));
            }
        }
        spec
    }

    /// Some of them refused.
    fn policy(&mut self) -> QueueSpec {
        let order =
            self.draw.chance(60).then(|| Order::ALL[self.draw.below(Order::ALL.len() as u64) as usize]);
        let backfill =
            self.draw.chance(60).then(|| Backfill::ALL[self.draw.below(Backfill::ALL.len() as u64) as usize]);
        let ageing = self.draw.chance(30).then(|| Duration::from_secs(self.draw.below(20)));
        let preempt = self.draw.chance(40).then(|| self.draw.chance(70));
        // Where it is to have slices, mostly all else fits.
        if order == Some(Order::RoundRobin) && self.draw.chance(80) {
            let quantum = Some(Duration::from_millis(10 + self.draw.below(4_000)));
            let (ageing, backfill) = (Some(Duration::ZERO), Some(Backfill::FirstFit));
            return QueueSpec {
                order,
                ageing,
                backfill,
                preempt: Some(false),
                quantum,
                ..QueueSpec::default()
            };
        }
        let quantum = self.draw.chance(10).then(|| Duration::from_millis(self.draw.below(4_000)));
        if self.draw.chance(30) {
            let mode = self.draw.pick(Mode::ALL);
            let (backfill, preempt) = (Some(Backfill::FirstFit), Some(false));
            let order = order.filter(|order| *order != Order::RoundRobin);
            return QueueSpec { order, backfill, preempt, mode, ..QueueSpec::default() };
        }
        QueueSpec { order, ageing, backfill, preempt, quantum, ..QueueSpec::default() }
    }

    /// Mostly as of now, mostly of a queue that has it.
    fn adapt(&mut self, state: &State) -> Op {
        let queue = self.queue();
        if self.draw.chance(30) {
            return Op::UndoAdapt { queue };
        }
        let auto = state.queues().filter(|queue| queue.auto).map(|queue| queue.name.clone()).next();
        let queue = auto.filter(|_| self.draw.chance(90)).unwrap_or(queue);
        let now = state.queue_named(&queue).map(|queue| queue.policy).unwrap_or_default();
        let from = if self.draw.chance(90) { now } else { QueuePolicy::default() };
        let order = self.draw.pick(Order::ALL).unwrap_or_default();
        let backfill = self.draw.pick(Backfill::ALL).unwrap_or_default();
        let to = QueuePolicy { order, backfill, mode: from.mode, ..QueuePolicy::default() };
        let (wait_from, wait_to) = (Duration::from_secs(self.draw.below(9)), Duration::ZERO);
        let adaptation = Adaptation { at: Timestamp(0), home: to, from, to, tasks: 20, wait_from, wait_to };
        Op::Adapt { queue, adaptation: Box::new(adaptation) }
    }

    fn periodic(&mut self) -> PeriodicSpec {
        let name = self.queue();
        let order = self.draw.pick(&[Order::Rms, Order::Dms, Order::Edf]).unwrap_or_default();
        let slots = 1 + self.draw.below(2) as u32;
        let preemptive = order == Order::Edf && slots == 1;
        let work = if preemptive { Work::Run(vec!["true".to_owned()]) } else { Work::Noop };
        let task = |place: u64, period: u64, slot: u32| {
            let period = Duration::from_millis(period);
            let (run_time, deadline) = (period / 4, period / 2);
            let mut task = TaskSpec::new("t", work.clone());
            let timing = Timing::periodic(run_time, deadline, period).boxed();
            (task.resources, task.timing) = (Resources::cores(1), timing);
            let queue = machine::state::periodic::queue_of(&name, slot);
            let job = Arc::new(JobSpec::of("p", vec![task]).with(|job| job.queue = queue));
            PeriodicTaskSpec { name: format!("t{place}"), run_time, period, deadline, slot, job }
        };
        let count = 1 + self.draw.below(3);
        // Some too short, and some on a slot that is not there.
        let tasks = (0..count)
            .map(|place| {
                task(place, 98 + self.draw.below(4_000), self.draw.below(slots as u64 + 1) as u32 % 2)
            })
            .collect();
        PeriodicSpec { name, order, slots, preemptive, admitted: Vec::new(), tasks }
    }

    fn booking(&mut self) -> BookingSpec {
        let is_whole = self.draw.chance(30);
        let wait = Duration::from_secs(self.draw.below(30));
        BookingSpec {
            name: self.queue(),
            queue: self.draw.chance(70).then(|| self.queue()),
            from: self.draw.chance(70).then(|| self.wall.plus(wait)),
            length: Duration::from_secs(self.draw.below(30)),
            workers: if is_whole { vec![self.worker()] } else { Vec::new() },
            count: if is_whole { 0 } else { 1 + self.draw.below(3) as u32 },
            resources: if is_whole { Resources::default() } else { Resources::cores(1 + self.draw.below(2)) },
            constraints: Vec::new(),
        }
    }

    /// What the next task of some ready group is promised, or no longer.
    fn promised(&mut self, state: &State) -> Promised {
        let group = self.draw.below(3) as u32;
        let session = SessionId(1 + self.draw.below(state.last_session().0.max(1)));
        let at = state.stamp().elapsed.plus(Duration::from_secs(self.draw.below(60)));
        let promise = self.draw.chance(80).then(|| Promise::new(session, at));
        Promised { job: self.job(state), group, promise }
    }

    fn change(&mut self, state: &State, job: JobId) -> JobChange {
        let mut change = JobChange::default();
        if self.draw.chance(30) {
            change.priority = Some(self.draw.below(5) as i32);
        }
        if self.draw.chance(30) {
            change.queue = Some(self.queue());
        }
        if self.draw.chance(60) {
            change.add_after.push(self.edge(state));
        }
        if self.draw.chance(40) {
            let existing = self.existing_edge(state, job);
            change.remove_after.push(existing.unwrap_or_else(|| self.edge(state)));
        }
        change
    }

    fn existing_edge(&mut self, state: &State, id: JobId) -> Option<Edge> {
        let job = state.job(id)?;
        let mut all: Vec<Edge> =
            job.after.iter().map(|on| Edge { task: None, on: Dependency::Job(*on) }).collect();
        for (group, spec) in job.groups.iter().zip(&job.spec.tasks) {
            let on = |on: &On| match on {
                On::Job(id) => Dependency::Job(*id),
                On::Group(place) => Dependency::Task(job.spec.tasks[*place as usize].name.clone()),
            };
            let edge = |after: &On| Edge { task: Some(spec.name.clone()), on: on(after) };
            all.extend(group.after.iter().map(edge));
        }
        self.draw.pick(&all)
    }

    fn edge(&mut self, state: &State) -> Edge {
        let task = self.draw.chance(60).then(|| format!("t{}", self.draw.below(4)));
        let on = if self.draw.chance(50) {
            Dependency::Task(format!("t{}", self.draw.below(4)))
        } else {
            Dependency::Job(self.job(state))
        };
        Edge { task, on }
    }
}
