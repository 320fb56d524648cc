//! etcd: three members with their defaults, each write synced by a majority before it is acknowledged. The client talks
//! to the leader, as Baton's does.

use std::path::Path;
use std::process::Command;

use etcd_client::{Client, GetOptions};

use super::{Load, READY_MAX, READY_POLL, Turn, VALUE_BYTES, first_line, program};
use crate::child::{Child, Farewell};
use crate::clock::Stopwatch;
use crate::fault::Fault;
use crate::{lanes, ports};

const MEMBERS: usize = 3;
/// On two cores that the members share, 4, 8 and 32 were no faster.
const CONNECTIONS: usize = 1;

/// Puts of one round, by how many are in flight: some seconds each.
fn puts(in_flight: usize) -> u64 {
    match in_flight {
        0..=1 => 1_000,
        2..=64 => 20_000,
        _ => 40_000,
    }
}

pub async fn version() -> Result<String, Fault> {
    let line = first_line(&program("etcd", "etcd-server")?, "--version").await?;
    Ok(line.trim_start_matches("etcd Version:").trim().to_owned())
}

/// Acknowledged puts of new keys per second.
pub async fn measure(turn: &Turn, loads: &[Load]) -> Result<Vec<f64>, Fault> {
    let mut cluster = Cluster::start(&turn.dir)?;
    let leader = cluster.leader().await?;
    let mut rates = Vec::new();
    for load in loads {
        let Load::Puts(in_flight) = *load else { continue };
        let count = turn.scaled(puts(in_flight));
        let clients = connect(&leader, in_flight.min(CONNECTIONS)).await?;
        put_all(&clients, &format!("w{in_flight}"), (count / 4).max(1), in_flight).await?;
        rates.push(put_all(&clients, &format!("m{in_flight}"), count, in_flight).await?);
    }
    Ok(rates)
}

struct Cluster {
    members: Vec<Child>,
    clients: Vec<String>,
}

impl Cluster {
    fn start(dir: &Path) -> Result<Cluster, Fault> {
        let program = program("etcd", "etcd-server")?;
        let urls: Vec<String> =
            ports::free(2 * MEMBERS)?.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        let (clients, peers) = urls.split_at(MEMBERS);
        let all: Vec<String> = peers.iter().enumerate().map(|(at, url)| format!("n{at}={url}")).collect();
        let mut members = Vec::new();
        for (at, (client, peer)) in clients.iter().zip(peers).enumerate() {
            let name = format!("n{at}");
            let mut command = Command::new(&program);
            command.args(["--name", &name, "--data-dir"]).arg(dir.join(format!("etcd-{name}")));
            command.args(["--listen-client-urls", client, "--advertise-client-urls", client]);
            command.args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]);
            command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
            command.args(["--logger", "zap", "--log-level", "warn"]);
            members.push(Child::start(&format!("etcd-{name}"), command, dir, Farewell::Killed)?);
        }
        Ok(Cluster { members, clients: clients.to_vec() })
    }

    /// The address of the member that leads, once there is one.
    async fn leader(&mut self) -> Result<String, Fault> {
        let watch = Stopwatch::start();
        while watch.elapsed() < READY_MAX {
            self.members.iter_mut().try_for_each(Child::check_alive)?;
            for address in &self.clients {
                if leads(address).await {
                    return Ok(address.clone());
                }
            }
            tokio::time::sleep(READY_POLL).await;
        }
        Err(Fault::new(format!("etcd has no leader after {} s", READY_MAX.as_secs())))
    }
}

/// Whether the member says that it leads. One that does not answer yet does not.
async fn leads(address: &str) -> bool {
    let Ok(mut client) = Client::connect([address], None).await else { return false };
    let Ok(Ok(status)) = tokio::time::timeout(READY_POLL, client.status()).await else { return false };
    status.header().is_some_and(|header| header.member_id() == status.leader())
}

async fn connect(address: &str, connections: usize) -> Result<Vec<Client>, Fault> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect([address], None).await.map_err(Fault::of("cannot connect to etcd"))?);
    }
    Ok(clients)
}

/// Puts per second. What was acknowledged must be there afterwards.
async fn put_all(clients: &[Client], prefix: &str, count: u64, in_flight: usize) -> Result<f64, Fault> {
    let shared = clients.to_vec();
    let keys = prefix.to_owned();
    let watch = Stopwatch::start();
    let put = move |number: u64, lane: usize| {
        let mut client = shared[lane % shared.len()].clone();
        let key = format!("{keys}/{number:010}");
        async move {
            let put = client.put(key, vec![b'x'; VALUE_BYTES], None).await;
            put.map(drop).map_err(Fault::of("etcd has refused a put"))
        }
    };
    lanes::run(count, in_flight, put).await?;
    let rate = watch.rate(count);
    check_kept(clients, prefix, count).await?;
    Ok(rate)
}

async fn check_kept(clients: &[Client], prefix: &str, count: u64) -> Result<(), Fault> {
    let Some(mut client) = clients.first().cloned() else { return Ok(()) };
    let options = GetOptions::new().with_prefix().with_count_only();
    let kept = client.get(format!("{prefix}/"), Some(options)).await;
    let kept = kept.map_err(Fault::of("cannot count the keys of etcd"))?.count();
    if u64::try_from(kept) == Ok(count) {
        return Ok(());
    }
    Err(Fault::new(format!("etcd acknowledged {count} puts and has {kept} keys: no figure")))
}
