//! What clients ask for.

use std::sync::Arc;
use std::time::Duration;

use machine::state::periodic::queue_of;
use machine::{BookingSpec, JobChange, Op, PeriodicSpec, PeriodicTaskSpec, QueueSpec, Target};
use model::policy::{Backfill, Mode, Order};
use model::spec::Backoff;
use model::{
    ArrayRange, Dependency, JobId, JobSpec, OnDisconnect, Resources, Run, RunSet, TaskSpec, Timing, Work,
};

use crate::chance::Chance;
use crate::worker::CORES;

pub const QUEUES: [&str; 3] = ["default", "fast", "slow"];

/// A write. `known`: jobs that this client has submitted.
pub fn op(chance: &mut Chance, known: &[JobId], workers: usize) -> Op {
    // Mostly one of the last few: the others are finished.
    let recent = &known[known.len().saturating_sub(4)..];
    let from = if chance.in_thousand(700) { recent } else { known };
    let Some(job) = chance.pick(from) else { return submit(chance, known) };
    match chance.below(100) {
        0..55 => submit(chance, known),
        55..66 => Op::Cancel { targets: vec![target(chance, job)] },
        66..78 => Op::Retry { targets: vec![target(chance, job)], failed_only: chance.in_thousand(500) },
        78..82 => Op::Pause { jobs: vec![job] },
        82..86 => Op::Resume { jobs: vec![job] },
        86..91 => Op::SetJob { job, change: change(chance) },
        91..94 => {
            let (name, weight) = (queue(chance), chance.between(1, 10) as u32);
            let running_max = chance.in_thousand(400).then(|| chance.between(1, 12) as u32);
            if let 9 | 10 = weight {
                return booking(name, running_max);
            }
            let policy = policy(chance);
            if weight == 8 {
                return periodic(name, running_max);
            }
            let (weight, mode) = (Some(weight), mode(weight));
            claimed(QueueSpec { name, weight, running_max, mode, ..policy })
        }
        94 => Op::PauseQueue { name: queue(chance) },
        95 | 96 => Op::ResumeQueue { name: queue(chance) },
        97 => Op::Cordon { worker: worker(chance, workers) },
        98 => Op::Uncordon { worker: worker(chance, workers) },
        _ => Op::Drain { worker: worker(chance, workers) },
    }
}

/// For the queue, or for nobody, soon and for some seconds.
fn booking(name: String, drawn: Option<u32>) -> Op {
    let some = u64::from(drawn.unwrap_or(7));
    let length = Duration::from_secs(2 + some);
    let (queue, cores) = ((some % 3 > 0).then(|| name.clone()), 1 + some % CORES);
    let resources = Resources::cores(cores);
    Op::PutBooking(BookingSpec { name, queue, length, count: 2, resources, ..BookingSpec::default() })
}

/// Of some hundred milliseconds, on one slot or two; sometimes the end of it.
fn periodic(name: String, drawn: Option<u32>) -> Op {
    let some = drawn.unwrap_or(7);
    if some < 3 {
        return Op::DeletePeriodic { name };
    }
    let (slots, order) = (1 + some % 2, [Order::Rms, Order::Dms, Order::Edf][some as usize % 3]);
    let task = |number: u32| {
        let period = Duration::from_millis(u64::from(200 + 150 * some + 700 * number));
        let (run_time, deadline, slot) = (period / 8, period / 2, number % slots);
        let work = if number == 0 { Work::Noop } else { Work::Sleep(run_time) };
        let mut task = TaskSpec::new("t", work);
        let timing = Timing::periodic(run_time, deadline, period);
        (task.resources, task.timing) = (Resources::cores(1), timing.boxed());
        let job = JobSpec::of("periodic", vec![task]).with(|job| job.queue = queue_of(&name, slot));
        PeriodicTaskSpec { name: format!("t{number}"), run_time, period, deadline, slot, job: Arc::new(job) }
    };
    let tasks = (0..3).map(task).collect();
    Op::PutPeriodic(Box::new(PeriodicSpec {
        name,
        order,
        slots,
        preemptive: false,
        admitted: Vec::new(),
        tasks,
    }))
}

fn mode(weight: u32) -> Option<Mode> {
    match weight {
        1..4 => Some(Mode::Claim),
        4..6 => Some(Mode::Hybrid),
        6..9 => Some(Mode::Push),
        _ => None,
    }
}

/// With nothing that workers who claim could not keep to, mostly.
fn claimed(spec: QueueSpec) -> Op {
    let is_claimed =
        spec.mode.is_some_and(|mode| mode != Mode::Push) && spec.order != Some(Order::RoundRobin);
    let plain = (Some(Backfill::FirstFit), Some(false));
    let (backfill, preempt) = if is_claimed { plain } else { (spec.backfill, spec.preempt) };
    Op::PutQueue(QueueSpec { backfill, preempt, ..spec })
}

fn policy(chance: &mut Chance) -> QueueSpec {
    let order = chance.pick(Order::ALL).filter(|_| chance.in_thousand(500));
    let by_priority = order.is_none_or(|order| order == Order::Priority);
    let ageing = chance.pick(&[0u64, 1, 10]).filter(|_| order == Some(Order::Priority) && by_priority);
    if order == Some(Order::RoundRobin) {
        // All else that a queue may have goes with another.
        let (ageing, backfill, preempt) = (Some(Duration::ZERO), Some(Backfill::FirstFit), Some(false));
        let quantum = chance.pick(&[10u64, 50, 300]).map(Duration::from_millis);
        return QueueSpec { order, ageing, backfill, preempt, quantum, ..QueueSpec::default() };
    }
    QueueSpec {
        order,
        ageing: ageing.map(Duration::from_secs),
        preempt: by_priority.then(|| chance.in_thousand(500)),
        backfill: chance.pick(Backfill::ALL).filter(|_| chance.in_thousand(500)),
        ..QueueSpec::default()
    }
}

fn queue(chance: &mut Chance) -> String {
    chance.pick(&QUEUES).unwrap_or(QUEUES[0]).to_owned()
}

fn worker(chance: &mut Chance, workers: usize) -> String {
    format!("w{}", chance.below(workers as u64))
}

fn target(chance: &mut Chance, job: JobId) -> Target {
    if chance.in_thousand(600) {
        return Target::job(job);
    }
    let run = Run::new(chance.below(6) as u32, chance.between(1, 4) as u32);
    Target { job, tasks: Some(RunSet::of(run)) }
}

fn change(chance: &mut Chance) -> JobChange {
    let mut change = JobChange { priority: Some(chance.below(5) as i32), ..JobChange::default() };
    if chance.in_thousand(300) {
        change.queue = Some(queue(chance));
    }
    change
}

/// A small job, as large ones are.
pub fn submit(chance: &mut Chance, known: &[JobId]) -> Op {
    let mut tasks: Vec<TaskSpec> = Vec::new();
    for place in 0..chance.between(1, 4) {
        tasks.push(task(chance, place, &tasks));
    }
    let mut spec = JobSpec::of("sim", tasks);
    spec.queue = if chance.in_thousand(700) { QUEUES[0].to_owned() } else { queue(chance) };
    spec.priority = chance.below(4) as i32;
    if chance.in_thousand(100) {
        spec.delay = Some(Duration::from_millis(chance.between(100, 5_000)));
    }
    if chance.in_thousand(150) {
        spec.after.extend(chance.pick(known));
    }
    if chance.in_thousand(100) {
        spec.on_disconnect = OnDisconnect::Keep;
    }
    Op::Submit { job: JobId(0), spec: Arc::new(spec) }
}

fn task(chance: &mut Chance, place: u64, earlier: &[TaskSpec]) -> TaskSpec {
    let work = match chance.below(16) {
        0..4 => Work::Noop,
        4..7 => Work::Sleep(Duration::from_millis(chance.between(1, 3_000))),
        // Longer than a lease, so that somebody may take it over.
        7 | 8 => Work::Sleep(Duration::from_secs(chance.between(6, 18))),
        _ => Work::Run(vec!["true".to_owned()]),
    };
    let is_long = matches!(work, Work::Sleep(duration) if duration >= Duration::from_secs(5));
    let mut task = TaskSpec::new(&format!("t{place}"), work);
    let len = if is_long { 1 } else { chance.pick(&[1u32, 1, 2, 3, 8]).unwrap_or(1) };
    task.array = (len > 1).then(|| ArrayRange { first: 0, last: len - 1, step: 1 });
    task.resources = Resources::cores(if is_long { 1 } else { chance.between(1, CORES - 1) });
    // Few and small enough for the workers that there are.
    task.gang = matches!(len, 2 | 3) && task.resources == Resources::cores(1);
    if len == 8 && place == 0 {
        task.resources.set_apart(["apart".to_owned()]);
    }
    task.retry.max = chance.below(3) as u32;
    task.retry.lost_max = chance.between(1, 5) as u32;
    task.retry.backoff = Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(2) };
    let mut timing = Timing::default();
    for field in [&mut timing.estimate, &mut timing.deadline, &mut timing.period] {
        *field = chance.in_thousand(300).then(|| chance.millis(100, 20_000));
    }
    task.timing = timing.boxed();
    for other in earlier {
        if chance.in_thousand(250) {
            task.after.push(Dependency::Task(other.name.clone()));
        } else if !task.gang && !other.gang && other.count() == task.count() && chance.in_thousand(250) {
            task.after_each.push(other.name.clone());
        }
    }
    task
}
