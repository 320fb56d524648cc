//! A cluster of real replicas in this process: own data directories, own sockets on loopback, ports of the kernel's
//! choice.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::time::Duration;

use model::settings::Failover;
use model::{JobSpec, TaskSpec, Work};
use server::{Config, Listeners, Peer, Server};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;
use wire::v1;
use wire::v1::baton_client::BatonClient;

pub type Client = BatonClient<Channel>;

pub struct Node {
    pub config: Config,
    pub api: SocketAddr,
    pub http: SocketAddr,
    pub server: Option<Server>,
}

pub struct Cluster {
    pub nodes: Vec<Node>,
    _dirs: TempDir,
}

impl Cluster {
    pub async fn start(replicas: usize) -> Cluster {
        Cluster::start_with(replicas, |_| {}).await
    }

    /// Ready to write.
    pub async fn start_with(replicas: usize, change: impl Fn(&mut Config)) -> Cluster {
        let cluster = Cluster::found(replicas, change).await;
        cluster.wait_until_written().await;
        cluster
    }

    /// Listening; nobody may lead yet.
    pub async fn found(replicas: usize, change: impl Fn(&mut Config)) -> Cluster {
        let dirs = TempDir::new().unwrap();
        let mut bound = Vec::new();
        for number in 1..=replicas {
            let name = format!("n{number}");
            let mut config = Config::new("test", &name, dirs.path().join(&name));
            config.failover = Failover::Fast;
            change(&mut config);
            let listeners = Listeners::bind(&config).unwrap();
            bound.push((config, listeners));
        }
        let address = |listeners: &Listeners| listeners.addresses().unwrap();
        let peers: Vec<Peer> = bound
            .iter()
            .map(|(config, listeners)| Peer {
                name: config.name.clone(),
                address: address(listeners).peer.to_string(),
            })
            .collect();
        let mut nodes = Vec::new();
        for (mut config, listeners) in bound {
            let addresses = address(&listeners);
            config.peers = peers.clone();
            // Another start is to find the same ports.
            config.listen = addresses.api.to_string();
            config.peer_listen = addresses.peer.to_string();
            config.http = Some(addresses.http.unwrap().to_string());
            let server = Server::start_on(config.clone(), listeners).await.unwrap();
            let (api, http) = (addresses.api, addresses.http.unwrap());
            nodes.push(Node { config, api, http, server: Some(server) });
        }
        Cluster { nodes, _dirs: dirs }
    }

    /// A first write: there is a leader, and it has bootstrapped the state.
    async fn wait_until_written(&self) {
        let queue = v1::PutQueueRequest { name: "first".to_owned(), ..Default::default() };
        self.client(0).put_queue(queue).await.expect("the cluster comes to life");
    }

    pub fn client(&self, place: usize) -> Client {
        client(self.nodes[place].api)
    }

    pub async fn status(&self, place: usize) -> v1::ClusterStatusReply {
        self.client(place).cluster_status(v1::ReadRequest::default()).await.unwrap().into_inner()
    }

    /// Place of the replica that leads, by the view of the replica at `asked`.
    pub async fn leader(&self, asked: usize) -> usize {
        loop {
            let leader = self.status(asked).await.leader;
            let place =
                self.nodes.iter().position(|node| node.config.name == leader && node.server.is_some());
            if let Some(place) = place {
                return place;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn stop(&mut self, place: usize) {
        self.nodes[place].server.take().expect("it runs").shutdown().await;
    }

    pub async fn restart(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        node.server = Some(Server::start(node.config.clone()).await.unwrap());
    }
}

pub fn client(address: SocketAddr) -> Client {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    Client::new(channel.tcp_nodelay(true).connect_lazy())
}

pub fn noop_job(name: &str) -> JobSpec {
    JobSpec::of(name, vec![TaskSpec::new("a", Work::Noop)])
}

pub fn submit_of(spec: &JobSpec, request_id: &str) -> v1::SubmitRequest {
    let header = v1::WriteHeader { request_id: request_id.to_owned(), ..Default::default() };
    v1::SubmitRequest { header: Some(header), spec: Some(spec.into()) }
}

/// A call with a deadline.
pub fn within<T>(limit: Duration, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(limit);
    request
}

/// Status line, headers and body of a GET.
pub async fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}
