//! `baton server`: one replica.

use std::path::PathBuf;
use std::str::FromStr;

use model::settings::Failover;
use model::size::parse_bytes;
use serde::Deserialize;

use super::worker::Amount;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::logging::LogArgs;
use crate::{signals, tether};

/// Run a replica
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Read settings from this file (TOML); flags and BATON_* come before it
    #[arg(long, env = "BATON_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    /// SIGUSR1 cuts this replica off from its peers, SIGUSR2 heals that: for clusters to play with
    #[arg(long, hide = true)]
    cut_on_signal: bool,
    #[command(flatten)]
    log: LogArgs,
}

/// Each is a flag, a `BATON_*` variable and a key of the file.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Flags {
    /// Name of the cluster; replicas of another are refused
    #[arg(long, env = "BATON_CLUSTER")]
    cluster: Option<String>,
    /// Name of this replica, as in --peers
    #[arg(long, env = "BATON_NAME")]
    name: Option<String>,
    /// Where it keeps its log and its identity
    #[arg(long, env = "BATON_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// gRPC address
    #[arg(long, env = "BATON_LISTEN", value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Address for the other replicas
    #[arg(long, env = "BATON_PEER_LISTEN", value_name = "HOST:PORT")]
    peer_listen: Option<String>,
    /// Address of the status page, metrics and probes; `off` for none
    #[arg(long, env = "BATON_HTTP", value_name = "HOST:PORT")]
    http: Option<String>,
    /// The host under which others reach this replica
    #[arg(long, env = "BATON_ADVERTISE", value_name = "HOST")]
    advertise: Option<String>,
    /// All founding replicas, this one included: n1=host:port,n2=..
    #[arg(long, env = "BATON_PEERS", value_name = "NAME=HOST:PORT,..", value_delimiter = ',')]
    peers: Option<Vec<String>>,
    /// How fast a lost leader is replaced: fast, default or wan; the same for all replicas, and for good
    #[arg(long, env = "BATON_FAILOVER", value_name = "PRESET")]
    failover: Option<Failover>,
    /// Fold the log into a snapshot after so many bytes, and keep half of them; absent: 64MiB, at least 64KiB
    #[arg(long, env = "BATON_SNAPSHOT_LOG_BYTES", value_name = "SIZE")]
    snapshot_log_bytes: Option<Bytes>,
    /// Listen beyond loopback without TLS, where the network itself is private
    #[arg(long, env = "BATON_INSECURE", num_args = 0..=1, default_missing_value = "true")]
    insecure: Option<bool>,
    /// Know no behaviour level above this one: to found a cluster that replicas of an older version join, or to try an upgrade
    #[arg(long, env = "BATON_LEVEL_MAX", value_name = "LEVEL")]
    level_max: Option<u32>,
}

impl Flags {
    fn over(self, file: Flags) -> Flags {
        Flags {
            cluster: self.cluster.or(file.cluster),
            name: self.name.or(file.name),
            data_dir: self.data_dir.or(file.data_dir),
            listen: self.listen.or(file.listen),
            peer_listen: self.peer_listen.or(file.peer_listen),
            http: self.http.or(file.http),
            advertise: self.advertise.or(file.advertise),
            peers: self.peers.or(file.peers),
            failover: self.failover.or(file.failover),
            snapshot_log_bytes: self.snapshot_log_bytes.or(file.snapshot_log_bytes),
            insecure: self.insecure.or(file.insecure),
            level_max: self.level_max.or(file.level_max),
        }
    }

    fn config(self) -> Result<server::Config, Fault> {
        let needed = |what: &str| Fault::usage(format!("baton server needs {what}"));
        let name = self.name.ok_or_else(|| needed("--name"))?;
        let data_dir = self.data_dir.ok_or_else(|| needed("--data-dir"))?;
        let cluster = self.cluster.unwrap_or_else(|| "baton".to_owned());
        let listen = self.listen.unwrap_or_else(|| ":7070".to_owned());
        let http = self.http.unwrap_or_else(|| ":8080".to_owned());
        let peers = self.peers.unwrap_or_default().iter().map(|text| peer(text)).collect::<Result<_, _>>()?;
        let config = server::Config::new(&cluster, &name, data_dir);
        let snapshot_log_bytes = self.snapshot_log_bytes.map_or(config.snapshot_log_bytes, |bytes| bytes.0);
        if snapshot_log_bytes < server::config::SNAPSHOT_LOG_BYTES_MIN {
            let least = "at least 64KiB of log lie between two snapshots";
            return Err(Fault::usage(format!("--snapshot-log-bytes: {snapshot_log_bytes} bytes: {least}")));
        }
        let level_max = self.level_max.unwrap_or(config.level_max);
        if !(1..=config.level_max).contains(&level_max) {
            let known = format!("this version knows levels 1 to {}", config.level_max);
            return Err(Fault::usage(format!("--level-max: {level_max}: {known}")));
        }
        Ok(server::Config {
            listen,
            peer_listen: self.peer_listen.unwrap_or_else(|| ":7170".to_owned()),
            http: (http != "off").then_some(http),
            advertise: self.advertise,
            peers,
            failover: self.failover.unwrap_or_default(),
            snapshot_log_bytes,
            insecure: self.insecure.unwrap_or(false),
            level_max,
            ..config
        })
    }
}

/// `64MiB`; in a file a plain number too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Amount")]
struct Bytes(u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Bytes, String> {
        parse_bytes(text).map(Bytes)
    }
}

impl TryFrom<Amount> for Bytes {
    type Error = String;

    fn try_from(amount: Amount) -> Result<Bytes, String> {
        amount.to_string().parse()
    }
}

fn peer(text: &str) -> Result<server::Peer, Fault> {
    match text.split_once('=') {
        Some((name, address)) if !name.is_empty() && address.contains(':') => {
            Ok(server::Peer { name: name.to_owned(), address: address.to_owned() })
        }
        _ => Err(Fault::usage(format!("--peers: `{text}` is not NAME=HOST:PORT"))),
    }
}

fn read(path: &std::path::Path) -> Result<Flags, Fault> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Fault::of_file("cannot read --config", path, &error))?;
    toml::from_str(&text).map_err(|error| {
        let fault = Fault::usage(format!("{} is not valid", path.display()));
        error.to_string().trim_end().lines().fold(fault, |fault, line| fault.why(line))
    })
}

pub async fn run(args: &Args) -> Result<Exit, Fault> {
    tether::tie()?;
    args.log.start()?;
    worker::raise_open_files();
    let file = args.config.as_deref().map(read).transpose()?.unwrap_or_default();
    let mut config = args.flags.clone().over(file).config()?;
    let name = config.name.clone();
    let cut = server::Cut::default();
    if args.cut_on_signal {
        config.cut = Some(cut.clone());
    }
    #[cfg(feature = "chaos")]
    crate::chaos::arm_server(&mut config);
    let ended = tokio::select! {
        ended = server::run(config, signals::asked_to_end()) => ended,
        () = signals::obey_cuts(&cut), if args.cut_on_signal => unreachable!("it never ends"),
    };
    ended.map_err(|error| Fault::failed(format!("replica {name}: {error}")).because(&error))?;
    Ok(Exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_before_the_file_and_unknown_keys_are_refused() {
        let file: Flags = toml::from_str(
            "name = \"n1\"\ndata_dir = \"/d\"\nlisten = \":1\"\npeers = [\"n1=a:1\"]\nfailover = \"fast\"",
        )
        .unwrap();
        let flags = Flags { listen: Some(":2".to_owned()), ..Flags::default() };
        let config = flags.over(file).config().unwrap();
        assert_eq!((config.listen.as_str(), config.failover), (":2", Failover::Fast));
        assert_eq!(config.peers, [server::Peer { name: "n1".to_owned(), address: "a:1".to_owned() }]);
        assert!(toml::from_str::<Flags>("naem = \"n1\"").is_err());
        assert!(Flags::default().config().unwrap_err().what.contains("--name"));
        assert!(peer("n1").is_err() && peer("=a:1").is_err());
    }

    #[test]
    fn a_size_of_the_log_is_read_as_others_are_and_one_that_is_too_small_is_refused() {
        let of = |text: &str| {
            let file: Flags = toml::from_str(&format!("name = \"n1\"\ndata_dir = \"/d\"\n{text}")).unwrap();
            file.config().map(|config| config.snapshot_log_bytes)
        };
        assert_eq!(of(""), Ok(64 << 20));
        assert_eq!(of("snapshot_log_bytes = \"1MiB\""), Ok(1 << 20));
        assert_eq!(of("snapshot_log_bytes = 65536"), Ok(64 << 10));
        let refused = of("snapshot_log_bytes = \"63KiB\"").unwrap_err();
        assert!(
            refused.what.contains("--snapshot-log-bytes") && refused.what.contains("64KiB"),
            "{refused:?}"
        );
        assert!("64Mib".parse::<Bytes>().unwrap_err().contains("512MiB"));
        assert!(toml::from_str::<Flags>("snapshot_log_bytes = \"much\"").is_err());
    }
}
