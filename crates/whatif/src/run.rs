//! One run: submits, rounds of the planner and ends, in virtual time.

mod broken;
mod order;
mod setup;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use machine::{Command, Effect, Ended, Entry, News, Op, Plan, Reply, Report, ReportBatch, Stamp, Write};
use model::policy::Order;
use model::time::micros;
use model::{Actor, Elapsed, JobId, Reason, RequestId, Seq, SessionId, Timestamp, Verdict};
use scheduler::{Budget, Overlay, Scratch};

pub use broken::Broken;
use order::Standings;

use crate::policy::Policy;
use crate::workload::{Job, Workload};

/// What came of a workload under a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub policy: String,
    pub cores: u64,
    /// In the order in which they first started.
    pub tasks: Vec<Ran>,
    /// Tasks that waited for room, whenever that changed.
    pub queue: Vec<(Duration, u64)>,
}

/// What came of one task. Times count from the begin of the workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// Places in the workload.
    pub job: usize,
    pub task: usize,
    pub cores: u64,
    /// Its job was submitted, and all that it waits for had ended.
    pub ready: Duration,
    /// When the attempt began that it ended with.
    pub start: Duration,
    pub end: Duration,
    /// From when until when it stood still meanwhile, for others to run.
    pub pauses: Vec<(Duration, Duration)>,
    /// From when until when earlier attempts ran, which gave way to a higher priority: each began anew.
    pub lost: Vec<(Duration, Duration)>,
    pub deadline: Option<Duration>,
    /// The first start that it was promised.
    pub promised: Option<Duration>,
    /// An earlier job waited when it started.
    pub overtook: bool,
    /// The round that started it left one waiting that came before it by the order of the queue.
    pub backfilled: bool,
}

impl Ran {
    /// Of the time since it was ready, that in which it did not run, or ran in vain.
    pub fn wait(&self) -> Duration {
        let paused: Duration = self.pauses.iter().map(|(from, to)| *to - *from).sum();
        self.start - self.ready + paused
    }

    /// For how long it ran.
    pub fn took(&self) -> Duration {
        self.end - self.ready - self.wait()
    }

    /// From when until when it ran, each time, in vain or not.
    pub fn times(&self) -> impl Iterator<Item = (Duration, Duration)> + '_ {
        let from = std::iter::once(self.start).chain(self.pauses.iter().map(|(_, to)| *to));
        let to = self.pauses.iter().map(|(from, _)| *from).chain([self.end]);
        self.lost.iter().copied().chain(from.zip(to))
    }
}

/// Who sets the queue up.
const OPERATOR: &str = "what-if";
/// The only worker, with all cores.
const SESSION: SessionId = SessionId(1);
/// Wall time of the begin: within the range of request ids.
const EPOCH_US: u64 = 1_000_000_000_000_000;

/// Runs all of the workload. `cores` is at least what its widest task asks for.
///
/// # Errors
/// What no run may do, or a workload that is beyond all limits.
pub fn run(workload: &Workload, cores: u64, policy: &Policy) -> Result<Run, Broken> {
    let mut world = World::new(workload, cores, policy)?;
    while let Some(now) = world.next() {
        world.step(now)?;
    }
    let tasks: usize = world.left.iter().sum();
    if tasks > 0 {
        return Err(Broken::Unfinished { tasks });
    }
    Ok(Run { policy: policy.name.clone(), cores, tasks: world.done, queue: world.queue })
}

struct World<'a> {
    workload: &'a Workload,
    cores: u64,
    /// Of these in use.
    busy: u64,
    /// A start that was promised must be kept.
    holds_promises: bool,
    state: machine::State,
    scratch: Scratch,
    now: Duration,
    requests: u64,
    /// The next job to submit.
    next: usize,
    /// What runs, by when it ends; then by when it started, with its place in `done`.
    running: BinaryHeap<Reverse<(Duration, Seq, usize)>>,
    /// Of what stands still: since when.
    suspended: BTreeMap<Seq, (Duration, usize)>,
    /// Of every task when it became ready, `None` before.
    ready: Vec<Vec<Option<Duration>>>,
    promised: Vec<Vec<Option<Duration>>>,
    order: Order,
    /// Places in `done` of what the last entry started.
    started: Vec<usize>,
    /// What was told to give way, and has not said that it has ended.
    stopped: Vec<Seq>,
    /// Of what has given way, the place in `done`.
    again: BTreeMap<(usize, usize), usize>,
    /// How many of those that a task waits for have not ended: tasks of its job, and earlier jobs.
    open: Vec<Vec<u32>>,
    /// How many tasks of a job have not ended.
    left: Vec<usize>,
    /// Those whose run times are learnt, numbered as they come.
    users: BTreeMap<&'a str, usize>,
    /// Of a job the later tasks that wait for it.
    dependents: Vec<Vec<(usize, usize)>>,
    /// Jobs of which something is ready and waits.
    waiting: BTreeSet<(usize, usize)>,
    done: Vec<Ran>,
    queue: Vec<(Duration, u64)>,
}

impl<'a> World<'a> {
    fn new(workload: &'a Workload, cores: u64, policy: &Policy) -> Result<World<'a>, Broken> {
        let mut world = World {
            workload,
            cores,
            busy: 0,
            holds_promises: broken::holds_promises(workload, &policy.queue),
            state: machine::State::default(),
            scratch: Scratch::default(),
            now: Duration::ZERO,
            requests: 0,
            next: 0,
            running: BinaryHeap::new(),
            suspended: BTreeMap::new(),
            ready: workload.jobs.iter().map(|job| vec![None; job.tasks.len()]).collect(),
            promised: workload.jobs.iter().map(|job| vec![None; job.tasks.len()]).collect(),
            open: workload.jobs.iter().map(setup::open).collect(),
            left: workload.jobs.iter().map(|job| job.tasks.len()).collect(),
            dependents: setup::dependents(workload),
            users: BTreeMap::new(),
            order: policy.queue.order,
            started: Vec::new(),
            stopped: Vec::new(),
            again: BTreeMap::new(),
            waiting: BTreeSet::new(),
            done: Vec::new(),
            queue: Vec::new(),
        };
        let put = world.write(OPERATOR, Op::PutQueue(setup::queue(&policy.queue)));
        world.apply(vec![setup::bootstrap(), setup::worker(cores), put])?;
        Ok(world)
    }

    /// When something happens next.
    fn next(&self) -> Option<Duration> {
        let end = self.running.peek().map(|Reverse((at, ..))| *at);
        let submit = self.workload.jobs.get(self.next).map(|job| job.submit.max(self.now));
        // Somebody may have been promised a start at a time at which nothing else happens.
        let start = self.state.next_due().and_then(|due| due.elapsed).map(|at| Duration::from_micros(at.0));
        let waits = !self.waiting.is_empty() || !self.suspended.is_empty();
        let start = start.filter(|at| *at > self.now && waits);
        end.into_iter().chain(submit).chain(start).min()
    }

    /// All that happens at one time, ends before submits, and the rounds that follow from it.
    fn step(&mut self, now: Duration) -> Result<(), Broken> {
        self.now = now;
        let mut commands = Vec::new();
        let mut reports = Vec::new();
        while let Some(Reverse((at, seq, place))) = self.running.peek().copied()
            && at <= now
        {
            self.running.pop();
            reports.push(self.report(seq, Verdict::Succeeded, Reason::Exited));
            self.end(place);
        }
        if !reports.is_empty() {
            commands.push(Command::Report(ReportBatch { session: SESSION, reports }));
        }
        while let Some(job) = self.workload.jobs.get(self.next).filter(|job| job.submit <= now) {
            commands.push(self.submit(job));
        }
        if commands.is_empty() {
            commands.push(Command::Tick);
        }
        self.apply(commands)?;
        self.plan()?;
        let waits = self.waiting.len() as u64;
        if self.queue.last().is_none_or(|(_, before)| *before != waits) {
            self.queue.push((now, waits));
        }
        Ok(())
    }

    fn plan(&mut self) -> Result<(), Broken> {
        let budget = Budget { placements_max: usize::MAX, skips_max: usize::MAX };
        let mut is_settled = false;
        loop {
            let plan = scheduler::plan(&self.state, &mut self.scratch, &Overlay::default(), budget);
            if plan.is_empty() {
                return Ok(());
            }
            if is_settled {
                return Err(Broken::Unsettled { at: self.now });
            }
            // One that was full has not begun to settle, and those who give way leave room for more.
            is_settled = !self.scratch.has_more() && plan.preemptions.is_empty();
            self.note_promises(&plan);
            let standings = Standings::of(&self.state, self.order, &plan);
            self.apply(vec![Command::Place(plan)])?;
            self.note_backfilled(&standings);
            self.end_stopped()?;
        }
    }

    fn note_promises(&mut self, plan: &Plan) {
        for promised in &plan.promises {
            let Some(promise) = &promised.promise else { continue };
            let slot = &mut self.promised[promised.job.0 as usize - 1][promised.group as usize];
            slot.get_or_insert(Duration::from_micros(promise.at.0));
        }
    }

    fn note_backfilled(&mut self, standings: &Standings) {
        let started = std::mem::take(&mut self.started);
        if started.is_empty() {
            return;
        }
        let first = standings.first(&self.state);
        for place in started {
            let ran = &mut self.done[place];
            ran.backfilled |= standings.is_behind(first, (ran.job, ran.task));
        }
    }

    /// Whoever gives way needs no time for it.
    fn end_stopped(&mut self) -> Result<(), Broken> {
        if self.stopped.is_empty() {
            return Ok(());
        }
        let stopped = std::mem::take(&mut self.stopped);
        let ended = |seq| self.report(seq, Verdict::Cancelled, Reason::Cancelled);
        let reports = stopped.into_iter().map(ended).collect();
        self.apply(vec![Command::Report(ReportBatch { session: SESSION, reports })])
    }

    fn apply(&mut self, commands: Vec<Command>) -> Result<(), Broken> {
        let elapsed = micros(self.now);
        let stamp = Stamp { elapsed: Elapsed(elapsed), wall: Timestamp(EPOCH_US + elapsed) };
        let index = self.state.index() + 1;
        // Nobody compares digests here, so the entry is not hashed.
        let applied = self.state.apply_hashed(index, &Entry { stamp, commands }, 0);
        applied.replies.iter().try_for_each(|reply| self.check(reply))?;
        for effect in applied.effects {
            match effect {
                Effect::Run { seq, .. } => self.start(seq)?,
                Effect::Switch { seq, .. } => self.switch(seq),
                Effect::Stop { seq, .. } => self.stop(seq),
                _ => {}
            }
        }
        // What one entry has left to do is done before anything else happens.
        while self.state.next_due().is_some_and(|due| due.elapsed == Some(Elapsed(0))) {
            let index = self.state.index() + 1;
            self.state.apply_hashed(index, &Entry { stamp, commands: vec![Command::Tick] }, 0);
        }
        let (at, busy, cores) = (self.now, self.busy, self.cores);
        if busy > cores { Err(Broken::Capacity { at, busy, cores }) } else { Ok(()) }
    }

    fn check(&self, reply: &Reply) -> Result<(), Broken> {
        let at = self.now;
        match reply {
            Reply::Placed { dropped, .. } if *dropped > 0 => {
                Err(Broken::Dropped { at, placements: *dropped })
            }
            Reply::Rejected(why) => Err(Broken::Refused { at, why: why.to_string() }),
            _ => Ok(()),
        }
    }

    fn write(&mut self, user: &str, op: Op) -> Command {
        self.requests += 1;
        let ms = (EPOCH_US + micros(self.now)) / 1_000;
        let request = RequestId(u128::from(ms) << 80 | u128::from(self.requests));
        Command::Write(Write { request, body_hash: 0, actor: Actor::new(user, "what-if"), op })
    }

    fn submit(&mut self, job: &'a Job) -> Command {
        let place = self.next;
        self.next += 1;
        for task in 0..job.tasks.len() {
            if self.open[place][task] == 0 {
                self.become_ready(place, task);
            }
        }
        let user = self.workload.learns.then(|| {
            let number = self.users.len();
            *self.users.entry(&job.user).or_insert(number)
        });
        let spec = setup::spec(job, &self.left, user);
        self.write(&job.user, Op::Submit { job: JobId(place as u64 + 1), spec: Arc::new(spec) })
    }

    fn become_ready(&mut self, job: usize, task: usize) {
        self.ready[job][task] = Some(self.now);
        self.waiting.insert((job, task));
    }

    fn start(&mut self, seq: Seq) -> Result<(), Broken> {
        let session = self.state.session(SESSION).expect("the worker stays");
        let allocation = &session.allocations[&seq];
        let (job, task) = (allocation.job.0 as usize - 1, allocation.tasks.first as usize);
        self.waiting.remove(&(job, task));
        self.check_promise(job, task)?;
        let place = self.again.remove(&(job, task)).unwrap_or_else(|| self.start_first(job, task));
        let overtook = self.waiting.first().is_some_and(|(other, _)| *other < job);
        let ran = &mut self.done[place];
        (ran.start, ran.end) = (self.now, self.now + self.workload.jobs[job].tasks[task].run);
        ran.overtook |= overtook;
        self.busy += ran.cores;
        self.running.push(Reverse((ran.end, seq, place)));
        self.started.push(place);
        Ok(())
    }

    fn check_promise(&self, job: usize, task: usize) -> Result<(), Broken> {
        let at = self.now;
        let late = |promised: &Duration| self.holds_promises && micros(*promised) < micros(at);
        match self.promised[job][task].filter(late) {
            Some(promised) => Err(Broken::Promise { at, job, task, promised }),
            None => Ok(()),
        }
    }

    /// Its place in `done`.
    fn start_first(&mut self, job: usize, task: usize) -> usize {
        let of = &self.workload.jobs[job];
        self.done.push(Ran {
            job,
            task,
            cores: of.tasks[task].cores,
            ready: self.ready[job][task].unwrap_or(self.now),
            start: self.now,
            end: self.now,
            pauses: Vec::new(),
            lost: Vec::new(),
            deadline: of.tasks[task].deadline.map(|deadline| of.submit + deadline),
            promised: self.promised[job][task],
            overtook: false,
            backfilled: false,
        });
        self.done.len() - 1
    }

    /// It gives way, and waits again.
    fn stop(&mut self, seq: Seq) {
        let Some(place) = self.take_running(seq) else { return };
        let ran = &mut self.done[place];
        ran.end = self.now;
        ran.lost.push((ran.start, ran.end));
        self.waiting.insert((ran.job, ran.task));
        self.again.insert((ran.job, ran.task), place);
        self.stopped.push(seq);
    }

    /// What stands still ends that much later.
    fn switch(&mut self, seq: Seq) {
        let now = self.now;
        if let Some((since, place)) = self.suspended.remove(&seq) {
            let ran = &mut self.done[place];
            ran.end += now - since;
            ran.pauses.push((since, now));
            self.busy += ran.cores;
            self.running.push(Reverse((ran.end, seq, place)));
        } else if let Some(place) = self.take_running(seq) {
            self.suspended.insert(seq, (now, place));
        }
    }

    /// Runs no more; its place in `done`. Looked for among all that runs: few run, of what is sliced or gives way.
    fn take_running(&mut self, seq: Seq) -> Option<usize> {
        let found = self.running.iter().find(|Reverse((_, other, _))| *other == seq);
        let Reverse((.., place)) = *found?;
        self.running.retain(|Reverse((_, other, _))| *other != seq);
        self.busy -= self.done[place].cores;
        Some(place)
    }

    fn end(&mut self, place: usize) {
        let (job, task) = (self.done[place].job, self.done[place].task);
        self.busy -= self.done[place].cores;
        for (other, of) in self.workload.jobs[job].tasks.iter().enumerate() {
            let times = of.after.iter().filter(|after| **after == task).count() as u32;
            if times > 0 {
                self.open[job][other] -= times;
                if self.open[job][other] == 0 {
                    self.become_ready(job, other);
                }
            }
        }
        self.left[job] -= 1;
        if self.left[job] == 0 {
            self.end_job(job);
        }
    }

    fn end_job(&mut self, ended: usize) {
        for (job, task) in std::mem::take(&mut self.dependents[ended]) {
            self.open[job][task] -= 1;
            // Who is not submitted yet sees then that it waits for nothing.
            if self.open[job][task] == 0 && job < self.next {
                self.become_ready(job, task);
            }
        }
    }

    fn report(&self, seq: Seq, verdict: Verdict, reason: Reason) -> Report {
        let session = self.state.session(SESSION).expect("the worker stays");
        let allocation = &session.allocations[&seq];
        let ended = Ended {
            verdict,
            reason,
            exit_code: Some(0),
            signal: None,
            message: String::new(),
            result: None,
            started: Some(allocation.placed.wall),
            ended: Timestamp(EPOCH_US + micros(self.now)),
            cpu_time: Duration::ZERO,
            memory_peak: 0,
        };
        Report { seq, token: allocation.token, tasks: allocation.tasks, news: News::Ended(Box::new(ended)) }
    }
}

#[cfg(test)]
mod tests;
