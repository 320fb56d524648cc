//! What clients ask for.

use std::sync::Arc;

use machine::{JobChange, Op, QueueSpec, Target, Write};
use model::{Actor, JobId, JobSpec, RequestId, TaskSpec, Work};
use xxhash_rust::xxh3::xxh3_64;

use crate::history::Acknowledged;
use sim::chance::Chance;

const QUEUES: [&str; 3] = ["default", "fast", "slow"];
/// Jobs that a client leaves open.
const JOBS_OPEN: usize = 3;
/// Some specs carry so many bytes more: small ones make up the state, large ones the log.
const FILLER_BYTES: (u64, u64) = (300, 4_000);
/// More than a chunk of the log takes.
const LARGE_BYTES: (u64, u64) = (8_000, 30_000);

/// What a client has learnt from its answers.
#[derive(Clone, Debug, Default)]
pub struct Known {
    jobs: Vec<JobId>,
}

impl Known {
    pub fn learn(&mut self, op: &Op, done: &Acknowledged) {
        match (op, done.job()) {
            (_, Some(job)) => {
                self.jobs.retain(|known| *known != job);
                self.jobs.push(job);
            }
            (Op::Cancel { targets }, None) => {
                self.jobs.retain(|job| targets.iter().all(|target| target.job != *job));
            }
            _ => {}
        }
    }

    pub fn last_job(&self) -> Option<JobId> {
        self.jobs.last().copied()
    }
}

pub fn op(chance: &mut Chance, known: &Known) -> Op {
    let (Some(job), Some(oldest)) = (chance.pick(&known.jobs), known.jobs.first()) else {
        return submit(chance);
    };
    // As many come to their end as are begun, so that the state stays small.
    if known.jobs.len() >= JOBS_OPEN {
        return Op::Cancel { targets: vec![Target::job(*oldest)] };
    }
    match chance.below(100) {
        0..75 => submit(chance),
        75..80 => Op::Cancel { targets: vec![Target::job(job)] },
        80..84 => Op::Pause { jobs: vec![job] },
        84..88 => Op::Resume { jobs: vec![job] },
        88..92 => {
            let change = JobChange { priority: Some(chance.below(5) as i32), ..JobChange::default() };
            Op::SetJob { job, change }
        }
        92..96 => Op::PutQueue(QueueSpec {
            name: queue(chance),
            weight: Some(chance.between(1, 10) as u32),
            ..QueueSpec::default()
        }),
        _ => Op::Retry { targets: vec![Target::job(job)], failed_only: false },
    }
}

fn queue(chance: &mut Chance) -> String {
    chance.pick(&QUEUES).unwrap_or(QUEUES[0]).to_owned()
}

/// Asked for first: little is kept, so that snapshots stay small and finished jobs come to leave the state.
pub fn settings() -> [Op; 2] {
    let set = |path: &str, value: &str| Op::PutSetting { path: path.into(), value: value.into() };
    [set("limits.finished_jobs_max", "5"), set("limits.requests_max", "40")]
}

/// The same each time.
pub fn submit_one() -> Op {
    let spec = JobSpec::of("last", vec![TaskSpec::new("t", Work::Noop)]);
    Op::Submit { job: JobId(0), spec: Arc::new(spec) }
}

fn submit(chance: &mut Chance) -> Op {
    let task = |n| TaskSpec::new(&format!("t{n}"), Work::Noop);
    let mut spec = JobSpec::of("simulated", (0..chance.between(1, 3)).map(task).collect());
    spec.priority = chance.below(4) as i32;
    let filler = match chance.below(100) {
        0..50 => 0,
        50..98 => chance.between(FILLER_BYTES.0, FILLER_BYTES.1),
        _ => chance.between(LARGE_BYTES.0, LARGE_BYTES.1),
    };
    if filler > 0 {
        spec.labels.insert("filler".to_owned(), "x".repeat(filler as usize));
    }
    Op::Submit { job: JobId(0), spec: Arc::new(spec) }
}

/// The `number`th of its client, asked for the first time now.
pub fn write(client: u64, number: u64, op: Op) -> Write {
    let actor = Actor { tenant: "default".into(), user: "client".into(), via: "api".into(), trace: None };
    let body_hash = xxh3_64(format!("{op:?}").as_bytes());
    Write { request: request_id(client, number), body_hash, actor, op }
}

/// A ULID: when, and what tells it from others.
fn request_id(client: u64, number: u64) -> RequestId {
    let now = turmoil::since_epoch().unwrap_or(crate::EPOCH);
    RequestId((now.as_millis() << 80) | (u128::from(client) << 64) | u128::from(number))
}
