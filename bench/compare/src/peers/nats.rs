//! NATS JetStream: three servers, a stream and a consumer of three replicas in files. A message is published and that
//! acknowledged, pulled by one of two workers, and acknowledged with confirmation. NATS does not sync each write: by
//! default every two minutes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context, Message};
use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::{Load, READY_MAX, READY_POLL, Turn, VALUE_BYTES, first_line, program};
use crate::child::{Child, Farewell};
use crate::clock::Stopwatch;
use crate::fault::Fault;
use crate::{lanes, ports};

const SERVERS: usize = 3;
const CONSUMER: &str = "workers";
const MESSAGES: u64 = 40_000;
const WORKERS: usize = 2;
/// Messages of one pull. With fewer it was slower.
const PULLED_AT_ONCE: usize = 2_048;
/// For a pull that finds less than that.
const PULL_WAIT: Duration = Duration::from_millis(200);
/// Messages that may be with the workers. With the default of 1,000 it was slower.
const DELIVERED_MAX: i64 = 8_192;
/// For an answer while the cluster is still looking for a leader, when it gives none.
const ANSWER_WHILE_STARTING: Duration = Duration::from_secs(1);

pub async fn version() -> Result<String, Fault> {
    let line = first_line(&program("nats-server", "nats-server")?, "--version").await?;
    Ok(line.trim_start_matches("nats-server:").trim().trim_start_matches('v').to_owned())
}

/// Messages per second, from the first publish to the last confirmed acknowledgement.
pub async fn measure(turn: &Turn, loads: &[Load]) -> Result<Vec<f64>, Fault> {
    let mut cluster = Cluster::start(&turn.dir)?;
    let mut rates = Vec::new();
    for load in loads {
        let Load::Messages(in_flight) = *load else { continue };
        let count = turn.scaled(MESSAGES);
        let name = format!("jobs{in_flight}");
        cluster.create_stream(&name).await?;
        through(&cluster, &name, (count / 4).max(1), in_flight).await?;
        rates.push(through(&cluster, &name, count, in_flight).await?);
    }
    Ok(rates)
}

struct Cluster {
    servers: Vec<Child>,
    ports: Vec<u16>,
}

impl Cluster {
    fn start(dir: &Path) -> Result<Cluster, Fault> {
        let program = program("nats-server", "nats-server")?;
        let all = ports::free(2 * SERVERS)?;
        let (ports, route_ports) = all.split_at(SERVERS);
        let routes: Vec<String> = route_ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let mut servers = Vec::new();
        for (at, (port, route)) in ports.iter().zip(&routes).enumerate() {
            let name = format!("n{at}");
            let mut command = Command::new(&program);
            command.args(["--name", &name, "--addr", "127.0.0.1", "--port", &port.to_string()]);
            command.args(["--jetstream", "--store_dir"]).arg(store(dir, &name));
            command.args(["--cluster_name", "compare", "--cluster", route, "--routes", &routes.join(",")]);
            servers.push(Child::start(&format!("nats-{name}"), command, dir, Farewell::Killed)?);
        }
        Ok(Cluster { servers, ports: ports.to_vec() })
    }

    /// Creates it as soon as the cluster can: a stream needs a leader among the servers.
    async fn create_stream(&mut self, name: &str) -> Result<(), Fault> {
        let watch = Stopwatch::start();
        loop {
            self.servers.iter_mut().try_for_each(Child::check_alive)?;
            let Err(fault) = self.try_create_stream(name).await else { return Ok(()) };
            if watch.elapsed() > READY_MAX {
                return Err(fault);
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    async fn try_create_stream(&self, name: &str) -> Result<(), Fault> {
        let stream = Config {
            name: name.to_owned(),
            subjects: vec![format!("{name}.>")],
            // The default. A work queue, which deletes what is acknowledged, was slower.
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            num_replicas: SERVERS,
            ..Config::default()
        };
        let cannot = "cannot create a stream of NATS";
        let mut context = jetstream::new(self.connect(0).await?);
        context.set_timeout(ANSWER_WHILE_STARTING);
        let stream = context.create_stream(stream).await.map_err(Fault::of(cannot))?;
        let consumer = pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            ack_policy: AckPolicy::Explicit,
            max_ack_pending: DELIVERED_MAX,
            ..pull::Config::default()
        };
        stream.create_consumer(consumer).await.map(drop).map_err(Fault::of(cannot))
    }

    async fn connect(&self, server: usize) -> Result<Client, Fault> {
        let address = format!("127.0.0.1:{}", self.ports[server % self.ports.len()]);
        let options = ConnectOptions::new().request_timeout(Some(Duration::from_secs(30)));
        options.connect(address).await.map_err(Fault::of("cannot connect to NATS"))
    }

    /// The number of the server that leads the stream.
    async fn leader(&self, name: &str) -> Result<usize, Fault> {
        let context = jetstream::new(self.connect(0).await?);
        let cannot = "cannot find the leader of a stream of NATS";
        let mut stream = context.get_stream(name).await.map_err(Fault::of(cannot))?;
        let info = stream.info().await.map_err(Fault::of(cannot))?;
        let leader = info.cluster.as_ref().and_then(|cluster| cluster.leader.as_deref());
        Ok(leader.and_then(|leader| leader.trim_start_matches('n').parse().ok()).unwrap_or(0))
    }
}

fn store(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("nats-{name}"))
}

/// Messages per second through the queue, published and pulled at the same time.
async fn through(cluster: &Cluster, name: &str, count: u64, in_flight: usize) -> Result<f64, Fault> {
    let leader = cluster.leader(name).await?;
    let context = jetstream::new(cluster.connect(leader).await?);
    let finish = Arc::new(Finish { missing: AtomicU64::new(count), reached: Notify::new() });
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(Worker::new(cluster.connect(leader).await?, name, in_flight, &finish).await?);
    }
    let mut working = JoinSet::new();
    let subject = format!("{name}.job");
    let watch = Stopwatch::start();
    workers.into_iter().for_each(|worker| drop(working.spawn(worker.work())));
    let publisher = context.clone();
    let publish = move |_: u64, _: usize| publish(publisher.clone(), subject.clone());
    lanes::run(count, in_flight, publish).await?;
    tokio::select! {
        () = finish.reached.notified() => {}
        Some(ended) = working.join_next() => {
            ended.map_err(Fault::of("a worker of the generator has died"))??;
        }
    }
    let rate = watch.rate(count);
    check_drained(&context, name).await?;
    Ok(rate)
}

/// How many acknowledgements are still missing.
struct Finish {
    missing: AtomicU64,
    reached: Notify,
}

async fn publish(context: Context, subject: String) -> Result<(), Fault> {
    let refused = "NATS has refused a message";
    let payload = Bytes::from_static(&[b'x'; VALUE_BYTES]);
    let sent = context.publish(subject, payload).await.map_err(Fault::of(refused))?;
    sent.await.map(drop).map_err(Fault::of(refused))
}

struct Worker {
    client: Client,
    consumer: PullConsumer,
    room: Arc<Semaphore>,
    finish: Arc<Finish>,
}

impl Worker {
    /// Its acknowledgements are in flight as many as the publisher's messages.
    async fn new(
        client: Client,
        stream: &str,
        in_flight: usize,
        finish: &Arc<Finish>,
    ) -> Result<Worker, Fault> {
        let context = jetstream::new(client.clone());
        let consumer = context.get_consumer_from_stream(CONSUMER, stream).await;
        let consumer = consumer.map_err(Fault::of("cannot find a consumer of NATS"))?;
        let room = Arc::new(Semaphore::new(in_flight));
        Ok(Worker { client, consumer, room, finish: Arc::clone(finish) })
    }

    /// Pulls and acknowledges until it is dropped or fails.
    async fn work(self) -> Result<(), Fault> {
        let cannot = "cannot pull from NATS";
        let mut acks: JoinSet<Result<(), Fault>> = JoinSet::new();
        loop {
            let pull = self.consumer.fetch().max_messages(PULLED_AT_ONCE).expires(PULL_WAIT).messages();
            let mut batch = pull.await.map_err(Fault::of(cannot))?;
            while let Some(message) = batch.next().await {
                let message = message.map_err(Fault::of(cannot))?;
                let place = Arc::clone(&self.room).acquire_owned().await;
                let place = place.map_err(Fault::of(cannot))?;
                acks.spawn(acknowledge(self.client.clone(), message, Arc::clone(&self.finish), place));
                check_ended(&mut acks)?;
            }
            check_ended(&mut acks)?;
        }
    }
}

/// The first fault of those that have ended.
fn check_ended(acks: &mut JoinSet<Result<(), Fault>>) -> Result<(), Fault> {
    while let Some(ended) = acks.try_join_next() {
        ended.map_err(Fault::of("an acknowledgement has died"))??;
    }
    Ok(())
}

/// The client's own `double_ack` subscribes anew for each message; a request asks the same by one shared subscription.
async fn acknowledge(
    client: Client,
    message: Message,
    finish: Arc<Finish>,
    place: OwnedSemaphorePermit,
) -> Result<(), Fault> {
    let Some(reply) = message.message.reply else {
        return Err(Fault::new("NATS has delivered a message that cannot be acknowledged"));
    };
    let confirmed = client.request(reply, Bytes::from_static(b"+ACK")).await;
    confirmed.map_err(Fault::of("NATS has not confirmed an acknowledgement"))?;
    drop(place);
    if finish.missing.fetch_sub(1, Ordering::Relaxed) == 1 {
        finish.reached.notify_one();
    }
    Ok(())
}

/// After a round nothing may be left that was not acknowledged.
async fn check_drained(context: &Context, stream: &str) -> Result<(), Fault> {
    let cannot = "cannot ask what is left in a stream of NATS";
    let consumer = context.get_consumer_from_stream(CONSUMER, stream).await;
    let mut consumer: PullConsumer = consumer.map_err(Fault::of(cannot))?;
    let info = consumer.info().await.map_err(Fault::of(cannot))?;
    let left = info.num_pending + info.num_ack_pending as u64;
    if left == 0 {
        return Ok(());
    }
    Err(Fault::new(format!("NATS confirmed every message and still has {left}: no figure")))
}
