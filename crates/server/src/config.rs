//! What a replica process is told at its start, and why a start can be refused.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;

use model::settings::Failover;
use replica::{Cut, SnapshotThresholds};

/// A founding replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    /// `host:port` of its peer port.
    pub address: String,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub cluster: String,
    pub name: String,
    pub data_dir: PathBuf,
    /// gRPC: `host:port`. Port 0 lets the kernel choose. Without a host: loopback, or with `insecure` every interface.
    pub listen: String,
    /// Where the other replicas reach this one.
    pub peer_listen: String,
    /// Status page, metrics and probes; `None` for none.
    pub http: Option<String>,
    /// The host under which others reach this process; `None`: its own entry in `peers`, or what it listens on.
    pub advertise: Option<String>,
    /// All founding replicas, this one included; read only while the data directory is empty.
    pub peers: Vec<Peer>,
    pub failover: Failover,
    /// After so many bytes of log it is folded into a snapshot; half of them stay behind that.
    pub snapshot_log_bytes: u64,
    /// Whether addresses other than loopback may be listened on without TLS.
    pub insecure: bool,
    /// The highest behaviour level that this replica knows, and that it founds a cluster with; less than the code's in a test.
    pub level_max: u32,
    /// Takes this replica off its peers' network; `None` in production.
    pub cut: Option<Cut>,
    pub limits: Limits,
    #[cfg(feature = "chaos")]
    pub chaos: Chaos,
}

/// Faults and bugs that this process was asked for.
#[cfg(feature = "chaos")]
#[derive(Clone, Debug, Default)]
pub struct Chaos {
    pub replica: replica::chaos::Chaos,
    pub leader: Option<leader_core::leases::Mutant>,
}

impl Config {
    /// On loopback, on ports of the kernel's choice.
    pub fn new(cluster: &str, name: &str, data_dir: PathBuf) -> Config {
        let loopback = || "127.0.0.1:0".to_owned();
        Config {
            cluster: cluster.to_owned(),
            name: name.to_owned(),
            data_dir,
            listen: loopback(),
            peer_listen: loopback(),
            http: Some(loopback()),
            advertise: None,
            peers: Vec::new(),
            failover: Failover::default(),
            snapshot_log_bytes: SnapshotThresholds::LOG_BYTES_DEFAULT,
            insecure: false,
            level_max: machine::LEVEL,
            cut: None,
            limits: Limits::default(),
            #[cfg(feature = "chaos")]
            chaos: Chaos::default(),
        }
    }
}

/// Named maxima of one process; what the cluster shares is in the replicated settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one gRPC message.
    pub message_bytes_max: usize,
    /// Calls that one connection may have open.
    pub calls_per_connection_max: u32,
    /// Writes of clients between arrival and answer; above it they are refused at once.
    pub writes_in_flight_max: usize,
    /// Bytes of these together.
    pub write_bytes_in_flight_max: usize,
    /// Submits of one stream between arrival and answer; above it the stream is not read on.
    pub submits_per_stream_max: usize,
    /// Events kept for watchers.
    pub events_max: usize,
    /// Watches at once.
    pub watches_max: usize,
    /// Followed outputs at once.
    pub logs_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            message_bytes_max: 16 << 20,
            calls_per_connection_max: 4_096,
            writes_in_flight_max: 16_384,
            write_bytes_in_flight_max: 256 << 20,
            submits_per_stream_max: 2_048,
            events_max: 65_536,
            watches_max: 1_024,
            logs_max: 1_024,
        }
    }
}

/// The sockets of a replica, bound and not yet served: so that ports of the kernel's choice can be told to others.
#[derive(Debug)]
pub struct Listeners {
    pub api: TcpListener,
    pub peer: TcpListener,
    pub http: Option<TcpListener>,
}

/// Where a replica listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub api: SocketAddr,
    pub peer: SocketAddr,
    pub http: Option<SocketAddr>,
}

/// Says what is wrong and which flag mends it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{flag} {address}: the port is taken; stop what listens there, or choose another with {flag}")]
    PortTaken { flag: &'static str, address: String },
    #[error("{flag} {address}: cannot be listened on; correct {flag}")]
    Listen {
        flag: &'static str,
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "{flag} {address} can be reached from other machines and nothing protects it; listen on 127.0.0.1, or say \
             --insecure where the network itself is private"
    )]
    NotLoopback { flag: &'static str, address: String },
    #[error(
        "{flag} {address} is every interface, which others cannot connect to; name this host with --advertise"
    )]
    NoAdvertise { flag: &'static str, address: String },
    #[error(transparent)]
    Replica(#[from] replica::StartError),
    #[error("{what} cannot be served")]
    Serve {
        what: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("replication has stopped: {why}")]
    Stopped { why: String },
}

/// Less than this would be all snapshots and no log.
pub const SNAPSHOT_LOG_BYTES_MIN: u64 = 64 << 10;

pub const LISTEN: &str = "--listen";
pub const PEER_LISTEN: &str = "--peer-listen";
pub const HTTP: &str = "--http";

impl Listeners {
    /// Binds what the configuration names; refuses what must not be listened on.
    pub fn bind(config: &Config) -> Result<Listeners, Error> {
        Ok(Listeners {
            api: bind(LISTEN, &config.listen, config.insecure)?,
            peer: bind(PEER_LISTEN, &config.peer_listen, config.insecure)?,
            http: config.http.as_ref().map(|address| bind(HTTP, address, config.insecure)).transpose()?,
        })
    }

    pub fn addresses(&self) -> std::io::Result<Addresses> {
        Ok(Addresses {
            api: self.api.local_addr()?,
            peer: self.peer.local_addr()?,
            http: self.http.as_ref().map(TcpListener::local_addr).transpose()?,
        })
    }
}

fn bind(flag: &'static str, address: &str, insecure: bool) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen { flag, address: address.to_owned(), source };
    let host = if insecure { "0.0.0.0" } else { "127.0.0.1" };
    let full = if address.starts_with(':') { format!("{host}{address}") } else { address.to_owned() };
    let candidates: Vec<SocketAddr> = full.to_socket_addrs().map_err(failed)?.collect();
    if !insecure && candidates.iter().any(|candidate| !candidate.ip().is_loopback()) {
        return Err(Error::NotLoopback { flag, address: address.to_owned() });
    }
    let listener = TcpListener::bind(candidates.as_slice()).map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => Error::PortTaken { flag, address: full.clone() },
        _ => failed(source),
    })?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// The address that others are told for what listens at `bound`.
pub fn advertised(config: &Config, flag: &'static str, bound: SocketAddr) -> Result<String, Error> {
    let own = config.peers.iter().find(|peer| peer.name == config.name);
    let own_host = own.and_then(|peer| peer.address.rsplit_once(':')).map(|(host, _)| host);
    match config.advertise.as_deref().or(own_host) {
        Some(host) => Ok(format!("{host}:{}", bound.port())),
        None if bound.ip().is_unspecified() => Err(Error::NoAdvertise { flag, address: bound.to_string() }),
        None => Ok(bound.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new("c", "n1", PathBuf::new())
    }

    #[test]
    fn only_loopback_without_insecure_and_the_error_names_the_flag() {
        let open = Config { listen: "0.0.0.0:0".to_owned(), ..config() };
        let error = Listeners::bind(&open).unwrap_err().to_string();
        assert!(error.contains("--listen") && error.contains("--insecure"), "{error}");
        let open = Config { http: Some("0.0.0.0:0".to_owned()), ..config() };
        assert!(Listeners::bind(&open).unwrap_err().to_string().contains("--http"));
        assert!(Listeners::bind(&Config { insecure: true, ..open }).is_ok());
    }

    #[test]
    fn a_bare_port_is_loopback_until_insecure() {
        let bare = Config { listen: ":0".to_owned(), ..config() };
        assert!(Listeners::bind(&bare).unwrap().addresses().unwrap().api.ip().is_loopback());
        let bare = Config { insecure: true, ..bare };
        assert!(Listeners::bind(&bare).unwrap().addresses().unwrap().api.ip().is_unspecified());
    }

    #[test]
    fn a_taken_port_is_named_with_its_flag() {
        let first = Listeners::bind(&config()).unwrap();
        let taken = first.addresses().unwrap().peer.to_string();
        let error =
            Listeners::bind(&Config { peer_listen: taken.clone(), ..config() }).unwrap_err().to_string();
        assert!(error.contains("--peer-listen") && error.contains(&taken), "{error}");
    }

    #[test]
    fn what_is_advertised_can_be_connected_to() {
        let any: SocketAddr = "0.0.0.0:7070".parse().unwrap();
        assert!(matches!(advertised(&config(), LISTEN, any), Err(Error::NoAdvertise { .. })));
        let named = Config { advertise: Some("host".to_owned()), ..config() };
        assert_eq!(advertised(&named, LISTEN, any).unwrap(), "host:7070");
        let own = Peer { name: "n1".to_owned(), address: "replica1:7170".to_owned() };
        let listed = Config { peers: vec![own], ..config() };
        assert_eq!(advertised(&listed, LISTEN, any).unwrap(), "replica1:7070");
    }
}
