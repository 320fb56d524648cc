//! The log alone: three replicas in this process, each with its log on disk, and entries that change nothing. What the
//! scheduler makes of the same log is measured against this.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use machine::{Command, Entry, Stamp};
use model::SessionId;
use replica::{Config, Leadership, Listen, Peer, Replica};

use super::Args;
use super::figure::{Figure, Times};
use crate::clock::Stopwatch;
use crate::fault::Fault;
use crate::output::progress::Rounds;

const ENTRIES: [(usize, u64); 3] = [(1, 500), (64, 10_000), (1_024, 40_000)];
/// Makes an entry of about 256 bytes: it ends sessions that never were.
const COMMANDS: usize = 8;
const LEADS_WITHIN: Duration = Duration::from_secs(30);

pub async fn measure(args: &Args, progress: &Rounds) -> Result<Vec<Figure>, Fault> {
    let folder = Folder::new(args)?;
    let replicas = found(args, &folder.0).await?;
    let (leader, term) = leader(&replicas).await?;
    let mut figures = Vec::new();
    for (in_flight, count) in ENTRIES {
        let count = ((count as f64 * args.scale) as u64).max(1);
        let name = format!("entries of the bare log, {in_flight} in flight");
        progress.begin(&name, args.rounds.into());
        round(leader, term, count / 4, in_flight).await?;
        let (mut rates, mut times) = (Vec::new(), Times::default());
        for _ in 0..args.rounds {
            progress.next();
            let watch = Stopwatch::start();
            times.add(&round(leader, term, count, in_flight).await?);
            rates.push(count as f64 / watch.elapsed().as_secs_f64());
        }
        let figure = Figure::of_rounds("raft", name, "entries/s", count, rates).with_times(&times);
        figures.push(figure.set("in_flight", in_flight).set("replicas", replicas.len()));
    }
    for replica in &replicas {
        replica.shutdown().await;
    }
    Ok(figures)
}

/// Goes with what is in it.
struct Folder(PathBuf);

impl Folder {
    fn new(args: &Args) -> Result<Folder, Fault> {
        let parent = args.data_dir.clone().unwrap_or_else(std::env::temp_dir);
        let path = parent.join(format!("baton-bench-raft-{:x}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| Fault::of_file("cannot keep data", &path, &error))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn found(args: &Args, folder: &std::path::Path) -> Result<Vec<Arc<Replica>>, Fault> {
    let names = ["n1", "n2", "n3"];
    let bound: Vec<_> =
        names.iter().map(|_| std::net::TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let addresses: Vec<String> =
        bound.iter().map(|one| Ok(one.local_addr()?.to_string())).collect::<Result<_, Fault>>()?;
    let peer =
        |(name, address): (&&str, &String)| Peer { name: (*name).to_owned(), raft_addr: address.clone() };
    let peers: Vec<Peer> = names.iter().zip(&addresses).map(peer).collect();
    let starts = names.iter().zip(bound).map(|(name, bound)| {
        let config = Config::new("bench-raft", name, folder.join(name));
        let config = Config {
            peer_listen: Listen::Bound(bound),
            peers: peers.clone(),
            failover: args.failover,
            ..config
        };
        Replica::start(config)
    });
    let started = futures::future::try_join_all(starts).await;
    let started = started.map_err(|error| Fault::failed(format!("the log cannot be founded: {error}")))?;
    Ok(started.into_iter().map(Arc::new).collect())
}

async fn leader(replicas: &[Arc<Replica>]) -> Result<(&Replica, u64), Fault> {
    let watch = Stopwatch::start();
    while watch.elapsed() < LEADS_WITHIN {
        for replica in replicas {
            if let Leadership::Leading { term, .. } = *replica.leadership().borrow() {
                return Ok((replica, term));
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(Fault::failed("nobody leads the bare log"))
}

/// Proposes `count` entries, so many unanswered at a time; each is committed and applied when it is answered.
async fn round(leader: &Replica, term: u64, count: u64, in_flight: usize) -> Result<Times, Fault> {
    let (mut waiting, mut times, mut sent) = (FuturesUnordered::new(), Times::default(), 0);
    loop {
        while sent < count && waiting.len() < in_flight {
            let (watch, written) = (Stopwatch::start(), leader.propose(term, entry()));
            waiting.push(async move { (watch, written.await) });
            sent += 1;
        }
        let Some((watch, written)) = waiting.next().await else { return Ok(times) };
        written.map_err(|error| Fault::failed(format!("an entry came to nothing: {error}")))?;
        times.record(watch.elapsed());
    }
}

fn entry() -> Entry {
    let command = |n: usize| Command::EndSession { session: SessionId(u64::MAX - n as u64) };
    Entry { stamp: Stamp::default(), commands: (0..COMMANDS).map(command).collect() }
}
