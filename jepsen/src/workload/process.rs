//! One client process: it asks one replica, one thing at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::{Client, Options, Target};
use model::JobId;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::{Op, Shape, Shared, Submit, USERS, client_as, lock, register_name, spec};
use crate::history::{Answer, Call, Kind, failed, kind_of};

/// The deadline of one that is in a hurry.
const HASTE: Duration = Duration::from_millis(500);
/// The deadline of one that may ask every replica.
const PATIENT: Duration = Duration::from_secs(10);
/// The highest weight that a queue may have.
const VALUE_MAX: u32 = 10_000;

/// One client process, and those that take its place when it is retired.
pub struct Process {
    shared: Arc<Shared>,
    node: usize,
    client: Client,
    number: u64,
    chance: SmallRng,
    /// From one question to the next, on average.
    pause: Duration,
}

impl Process {
    pub fn new(shared: &Arc<Shared>, node: usize, seed: u64) -> Process {
        let number = shared.fresh_process();
        let chance = SmallRng::seed_from_u64(seed ^ (number << 32));
        let (user, _) = USERS[number as usize % USERS.len()];
        let client = client_as(&shared.addresses[node], user);
        Process { shared: shared.clone(), node, client, number, chance, pause: Duration::from_millis(100) }
    }

    /// One that goes on with another replica when one does not answer.
    pub fn anywhere(shared: &Arc<Shared>, seed: u64) -> Process {
        let user = USERS[0].0.to_owned();
        let options = Options { deadline: PATIENT, user, ..Options::new(shared.addresses.clone()) };
        let client = Client::with(options);
        Process { client, node: shared.anywhere(), ..Process::new(shared, 0, seed) }
    }

    pub fn with_pause(self, pause: Duration) -> Process {
        Process { pause, ..self }
    }

    /// One that gives up sooner than others: it asks more of a replica that cannot answer.
    pub fn hasty(shared: &Arc<Shared>, node: usize, seed: u64) -> Process {
        let process = Process::new(shared, node, seed);
        Process { client: process.client.with_deadline(HASTE), ..process }
    }

    /// Until it is told to stop, by either word.
    pub async fn drive(mut self, stop: Arc<AtomicBool>) {
        while !self.shared.is_stopped() && !stop.load(Ordering::Relaxed) {
            let share = self.chance.random_range(0.5..1.5);
            tokio::time::sleep(self.pause.mul_f64(share)).await;
            self.step().await;
        }
    }

    async fn step(&mut self) {
        let waiting = lock(&self.shared.pending).pop_front();
        if let Some(submit) = waiting {
            return self.submit(submit, 0).await;
        }
        match self.shared.workload.draw(&mut self.chance) {
            Op::Submit(shape) => self.submit(self.shared.fresh_submit(&self.client, shape), 0).await,
            Op::Again => self.again(0).await,
            Op::Conflict => self.again(1).await,
            Op::Cancel => self.cancel().await,
            Op::Retry => self.retry().await,
            Op::Read => self.read().await,
            Op::Set => self.set().await,
            Op::Get => self.get().await,
        }
    }

    pub async fn submit_fresh(&mut self, shape: Shape) {
        self.submit(self.shared.fresh_submit(&self.client, shape), 0).await;
    }

    pub async fn submit(&mut self, submit: Submit, body: u8) {
        let call = Call::Submit { key: submit.key, id: submit.id, body, shape: submit.shape };
        let open = self.shared.history.invoke(self.number, self.node, call);
        let queue = self.shared.workload.queue_of(submit.key);
        let spec = spec(&self.shared.desk, submit.shape, queue, submit.key, body);
        let answer = self.client.with_request_id(submit.id).submit(&spec).await;
        let (kind, answer) = match answer {
            Ok(done) => {
                lock(&self.shared.accepted).push((submit, done.job));
                (Kind::Ok, Answer::Submitted { job: done.job, index: done.index })
            }
            Err(error) => (kind_of(&error, true), failed(&error)),
        };
        let is_open = kind == Kind::Info || (kind == Kind::Fail && body == 0 && self.chance.random_bool(0.5));
        self.shared.history.complete(open, kind, answer);
        if is_open && body == 0 {
            lock(&self.shared.pending).push_back(submit);
        }
        self.retire_after(kind);
    }

    /// A submit that was accepted, once more: the same is answered alike, another body is a conflict.
    pub async fn again(&mut self, body: u8) {
        if let Some((submit, _)) = self.pick() {
            self.submit(submit, body).await;
        }
    }

    pub async fn read(&mut self) {
        let Some((_, job)) = self.pick() else { return };
        let client = self.client.clone();
        let asked = async { client.get_job(job).await };
        self.ask(Call::Read { job }, asked, |read| Answer::Read {
            state: read.value.state,
            index: read.index,
        })
        .await;
    }

    async fn cancel(&mut self) {
        let Some((_, job)) = self.pick() else { return };
        let client = self.client.clone();
        let asked = async { client.cancel(&[Target::job(job)]).await };
        self.ask(Call::Cancel { job }, asked, changed).await;
    }

    /// Mostly of what has failed for certain: of the rest there is seldom anything to retry.
    async fn retry(&mut self) {
        let doomed =
            if self.chance.random_bool(0.7) { self.pick_of(|submit| submit.shape.is_doomed()) } else { None };
        let Some((_, job)) = doomed.or_else(|| self.pick()) else { return };
        let client = self.client.clone();
        let asked = async { client.retry(&[Target::job(job)], false).await };
        self.ask(Call::Retry { job }, asked, changed).await;
    }

    async fn set(&mut self) {
        let register = self.shared.register(self.chance.random());
        let value = self.chance.random_range(1..=VALUE_MAX);
        let client = self.client.clone();
        let asked = async { client.put_queue(&register_name(register), Some(value), None).await };
        self.ask(Call::Set { register, value }, asked, changed).await;
    }

    async fn get(&mut self) {
        let register = self.shared.register(self.chance.random());
        let name = register_name(register);
        let client = self.client.clone();
        let asked = async { client.queues().await };
        self.ask(Call::Get { register }, asked, |read| {
            let queue = read.value.iter().find(|queue| queue.name == name);
            Answer::Got { value: queue.map(|queue| queue.weight), index: read.index }
        })
        .await;
    }

    async fn ask<A>(
        &mut self,
        call: Call,
        asked: impl Future<Output = Result<A, client::Error>>,
        heard: impl FnOnce(A) -> Answer,
    ) {
        let writes = call.writes();
        let open = self.shared.history.invoke(self.number, self.node, call);
        let (kind, answer) = match asked.await {
            Ok(answer) => (Kind::Ok, heard(answer)),
            Err(error) => (kind_of(&error, writes), failed(&error)),
        };
        self.shared.history.complete(open, kind, answer);
        self.retire_after(kind);
    }

    /// One of the jobs known to be accepted, mostly a late one.
    fn pick(&mut self) -> Option<(Submit, JobId)> {
        let accepted = lock(&self.shared.accepted);
        let late = accepted.len().saturating_sub(20);
        let from = if self.chance.random_bool(0.8) { late } else { 0 };
        let count = accepted.len() - from;
        (count > 0).then(|| accepted[from + self.chance.random_range(0..count)])
    }

    fn pick_of(&mut self, is: fn(&Submit) -> bool) -> Option<(Submit, JobId)> {
        let accepted = lock(&self.shared.accepted);
        let those: Vec<&(Submit, JobId)> =
            accepted.iter().rev().filter(|(submit, _)| is(submit)).take(10).collect();
        those.choose(&mut self.chance).map(|one| **one)
    }

    // Nobody may ask on under the name of one whose last question is still open.
    fn retire_after(&mut self, kind: Kind) {
        if kind == Kind::Info {
            self.number = self.shared.fresh_process();
        }
    }
}

fn changed(done: client::Changed) -> Answer {
    Answer::Changed { changed: done.changed, index: done.index }
}
