//! One life of a host: a replica, bare or within a real server, from its start until the host goes down.

use std::net::SocketAddr;
use std::sync::Arc;

use replica::{Config, Env, Listen, Peer, Replica, Seams};
use server::{Addresses, Place, Server};

use crate::env::Simulated;
use crate::gate;
use crate::world::{API_PORT, PEER_PORT, World};

/// Runs the bare replica.
pub async fn live_bare(world: Arc<World>, host: usize) {
    let (_, seams) = begin(&world, host);
    let replica = Replica::start_with(config(&world, host), seams).await;
    let name = world.hosts[host].name;
    let replica = replica.unwrap_or_else(|error| panic!("replica {name} cannot start: {error}"));
    gate::serve(world, host, Arc::new(replica)).await;
}

/// Runs a whole server: the leader's loop, the API and what else is in one.
pub async fn live_server(world: Arc<World>, host: usize) {
    let (env, seams) = begin(&world, host);
    let name = world.hosts[host].name;
    let listener = env.listen(Listen::Address(format!("0.0.0.0:{API_PORT}"))).await;
    let listener = listener.unwrap_or_else(|error| panic!("the API of {name} cannot be bound: {error}"));
    let anywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let place = Place {
        addresses: Addresses { api: anywhere, peer: anywhere, http: None },
        api: listener,
        http: None,
        env,
        replica: config(&world, host),
        seams,
    };
    let failover = world.options.failover;
    let own =
        server::Config { failover, ..server::Config::new("simulated", name, world.hosts[host].dir.clone()) };
    let started = Server::start_at(own, place).await;
    let mut server = started.unwrap_or_else(|error| panic!("server {name} cannot start: {error}"));
    if let Err(error) = server.started().await {
        panic!("server {name} cannot start: {error}");
    }
    let replica = server.replica().expect("it has started");
    tokio::select! {
        biased;
        error = server.failed() => panic!("server {name} has failed: {error}"),
        () = gate::serve(world, host, replica) => {}
    }
}

fn begin(world: &Arc<World>, host: usize) -> (Arc<dyn Env>, Seams) {
    let life = world.hosts[host].begin_life();
    let env = Arc::new(Simulated::new(world.clone(), host, life));
    (env.clone(), seams(world, host, env))
}

fn config(world: &World, host: usize) -> Config {
    let address = |name, port| format!("{name}:{port}");
    let peer = |name: &'static str| Peer { name: name.into(), raft_addr: address(name, PEER_PORT) };
    let own = &world.hosts[host];
    Config {
        peer_listen: Listen::Address(format!("0.0.0.0:{PEER_PORT}")),
        advertise_raft: address(own.name, PEER_PORT),
        advertise_api: address(own.name, API_PORT),
        peers: world.hosts.iter().map(|host| peer(host.name)).collect(),
        failover: world.options.failover,
        snapshots: world.options.snapshots.clone(),
        ..Config::new("simulated", own.name, own.dir.clone())
    }
}

fn seams(world: &World, host: usize, env: Arc<Simulated>) -> Seams {
    let (disk, pace) = (world.hosts[host].disk.clone(), env.clone());
    let open_log = Box::new(move |_: &std::path::Path| {
        Ok(Box::new(disk.open_paced(move || pace.sync_takes())) as Box<dyn replica::LogBackend>)
    });
    planted(world, Seams { env, open_log, ..Seams::default() })
}

/// With the seeded bug that was asked for.
#[cfg(feature = "chaos")]
fn planted(world: &World, seams: Seams) -> Seams {
    let mutant = world.options.mutant.map(|mutant| mutant.0);
    let chaos = replica::chaos::Chaos { mutant, ..Default::default() };
    Seams { hooks: chaos.hooks(), ..seams }
}

#[cfg(not(feature = "chaos"))]
fn planted(_: &World, seams: Seams) -> Seams {
    seams
}
