//! Workers without hands: they attach to whoever leads, take orders, wait a little and report, so that the leader has
//! sessions to keep, tasks to place and reports to take.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{self, Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use wire::v1;
use wire::v1::leader_message::Message as Said;
use wire::v1::report::News;
use wire::v1::worker_message::Message as Say;
use wire::v1::workers_client::WorkersClient;

use crate::api::channel;
use crate::world::World;
use sim::chance::Chance;

const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE_MS: (u64, u64) = (20, 300);
const TASK_MS: (u64, u64) = (0, 2_500);
const CORES: u64 = 3;

pub struct Worker {
    world: Arc<World>,
    chance: Chance,
    name: String,
    session: Option<u64>,
    heartbeat: Duration,
    term: u64,
    /// Numbers of orders that were received.
    received: BTreeSet<u64>,
    running: BTreeMap<u64, Running>,
    /// Batches that were not acknowledged, by their number.
    unsettled: BTreeMap<u64, Vec<v1::Report>>,
    last_batch: u64,
}

struct Running {
    order: v1::Order,
    ends: Instant,
}

/// Why a stream was left.
enum Left {
    /// For another replica.
    Lost,
    /// What it held is not its own any more.
    SessionOver,
}

type Outgoing = mpsc::Sender<v1::WorkerMessage>;

// The simulation's clock: tokio's.
#[allow(clippy::disallowed_methods)]
impl Worker {
    pub fn new(world: Arc<World>, number: u64) -> Worker {
        let chance = Chance::of(world.options.seed, 500 + number);
        Worker {
            world,
            chance,
            name: format!("w{number}"),
            session: None,
            heartbeat: Duration::from_millis(500),
            term: 0,
            received: BTreeSet::new(),
            running: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            last_batch: 0,
        }
    }

    /// Never ends.
    pub async fn work(mut self) {
        let hosts = self.world.hosts.len() as u64;
        loop {
            let host = self.chance.below(hosts) as usize;
            if let Left::SessionOver = self.attach(host).await {
                self.session = None;
                self.received.clear();
                self.running.clear();
                self.unsettled.clear();
            }
            let pause = self.chance.millis(PAUSE_MS.0, PAUSE_MS.1);
            time::sleep(pause).await;
        }
    }

    async fn attach(&mut self, host: usize) -> Left {
        let (say, said) = mpsc::channel(256);
        let mut client = WorkersClient::new(channel(host));
        drop(say.try_send(message(Say::Hello(self.hello()))));
        let attaching = time::timeout(PATIENCE, client.attach(ReceiverStream::new(said))).await;
        match attaching {
            Ok(Ok(hear)) => self.serve(say, hear.into_inner()).await,
            Ok(Err(_)) | Err(_) => Left::Lost,
        }
    }

    async fn serve(&mut self, say: Outgoing, mut hear: Streaming<v1::LeaderMessage>) -> Left {
        let (mut beat, mut heard) = (0, Instant::now());
        let mut next_beat = Instant::now() + self.heartbeat;
        loop {
            let ends = self.running.values().map(|running| running.ends).min();
            let wake = ends.unwrap_or(next_beat).min(next_beat);
            tokio::select! {
                biased;
                word = hear.message() => {
                    let Ok(Some(word)) = word else { return Left::Lost };
                    heard = Instant::now();
                    if let Some(left) = self.hear(word, &say) {
                        return left;
                    }
                }
                () = time::sleep_until(wake) => {
                    if Instant::now() >= next_beat {
                        beat += 1;
                        next_beat = Instant::now() + self.heartbeat;
                        drop(say.try_send(message(Say::Heartbeat(v1::Heartbeat { number: beat }))));
                    }
                    self.end_what_is_over(&say);
                    if heard.elapsed() > PATIENCE {
                        return Left::Lost;
                    }
                }
            }
        }
    }

    /// Why to leave, if so.
    fn hear(&mut self, word: v1::LeaderMessage, say: &Outgoing) -> Option<Left> {
        if word.term < self.term {
            return Some(Left::Lost);
        }
        self.term = word.term;
        match word.message? {
            Said::Welcome(welcome) => {
                self.session = Some(welcome.session);
                self.heartbeat = Duration::from_micros(welcome.heartbeat_us);
                None
            }
            Said::Run(order) => {
                self.begin(order, say);
                None
            }
            Said::Stop(stop) => {
                if let Some(running) = self.running.remove(&stop.seq) {
                    self.report(ended(&running.order, "cancelled", "cancelled"), say);
                }
                None
            }
            Said::Acked(acked) => {
                self.unsettled.remove(&acked.number);
                None
            }
            Said::NotLeader(_) => Some(Left::Lost),
            Said::SessionEnded(_) | Said::Refused(_) => Some(Left::SessionOver),
            Said::Renewed(_)
            | Said::FetchLog(_)
            | Said::CloseFetch(_)
            | Said::Drain(_)
            | Said::Resume(_)
            // Nothing here is worth standing still.
            | Said::Switch(_)
            // What was sent ahead begins at once here, so there is nothing to give back.
            | Said::Recall(_) => None,
        }
    }

    fn begin(&mut self, order: v1::Order, say: &Outgoing) {
        if !self.received.insert(order.seq) {
            return;
        }
        let started = v1::Started { at_unix_us: unix_us() };
        self.report(report(&order, News::Started(started)), say);
        let ends = Instant::now() + self.chance.millis(TASK_MS.0, TASK_MS.1);
        self.running.insert(order.seq, Running { order, ends });
    }

    fn end_what_is_over(&mut self, say: &Outgoing) {
        let now = Instant::now();
        let over: Vec<u64> =
            self.running.iter().filter(|(_, running)| running.ends <= now).map(|(seq, _)| *seq).collect();
        for seq in over {
            let Some(Running { order, .. }) = self.running.remove(&seq) else { continue };
            let verdict = if self.chance.percent(85) { "succeeded" } else { "failed" };
            self.report(ended(&order, verdict, "exited"), say);
        }
    }

    fn report(&mut self, report: v1::Report, say: &Outgoing) {
        self.last_batch += 1;
        self.unsettled.insert(self.last_batch, vec![report.clone()]);
        let reports = v1::Reports { number: self.last_batch, reports: vec![report] };
        drop(say.try_send(message(Say::Reports(reports))));
    }

    fn hello(&mut self) -> v1::Hello {
        // What was not settled is said again, in one batch under the newest number.
        let unsettled: Vec<v1::Report> =
            std::mem::take(&mut self.unsettled).into_values().flatten().collect();
        let reports = (!unsettled.is_empty()).then(|| {
            self.last_batch += 1;
            self.unsettled.insert(self.last_batch, unsettled.clone());
            v1::Reports { number: self.last_batch, reports: unsettled }
        });
        let watermark = self.received.last().copied().unwrap_or(0);
        let held = self.running.values().map(|Running { order, .. }| v1::HeldAttempt {
            seq: order.seq,
            token: order.token,
            job: order.job,
            tasks: order.tasks,
        });
        let total = v1::Resources { cpu: CORES * 10_000, ..v1::Resources::default() };
        v1::Hello {
            worker: self.name.clone(),
            secret: self.name.as_bytes().to_vec().into(),
            session: self.session,
            capacity: Some(v1::Capacity { total: Some(total), ..v1::Capacity::default() }),
            kinds: vec!["noop".to_owned()],
            term: self.term,
            watermark,
            gaps: (1..watermark).filter(|seq| !self.received.contains(seq)).collect(),
            holds: held.collect(),
            reports,
            ..v1::Hello::default()
        }
    }
}

fn message(say: Say) -> v1::WorkerMessage {
    v1::WorkerMessage { message: Some(say) }
}

fn report(order: &v1::Order, news: News) -> v1::Report {
    v1::Report { seq: order.seq, token: order.token, tasks: order.tasks, news: Some(news) }
}

fn ended(order: &v1::Order, verdict: &str, reason: &str) -> v1::Report {
    let ended = v1::Ended {
        verdict: verdict.to_owned(),
        reason: reason.to_owned(),
        ended_unix_us: unix_us(),
        ..v1::Ended::default()
    };
    report(order, News::Ended(ended))
}

fn unix_us() -> u64 {
    turmoil::since_epoch().unwrap_or_default().as_micros() as u64
}
