//! Which ports the replicas of a local cluster listen on.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::fault::Fault;

/// Peer ports lie so far above the gRPC ports, and HTTP ports so far.
const PEER_OFFSET: u16 = 100;
const HTTP_OFFSET: u16 = 1_010;

/// Of a cluster whose data is kept: its members know each other by them.
const KEPT: &str = "ports.json";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    pub api: u16,
    pub peer: u16,
    pub http: u16,
}

/// Whether the cluster in the folder has its ports already.
pub fn are_kept(folder: &Path) -> bool {
    folder.join(KEPT).exists()
}

/// From now on they are the folder's.
pub fn keep(folder: &Path, ports: &[Ports]) -> Result<(), Fault> {
    let path = folder.join(KEPT);
    let text = serde_json::to_string(ports).map_err(std::io::Error::from);
    text.and_then(|text| std::fs::write(&path, text)).map_err(|error| unusable(&path, &error))
}

fn unusable(path: &Path, error: &std::io::Error) -> Fault {
    Fault::of_file("cannot keep the cluster's ports", path, error)
}

/// Those that the cluster in the folder has had since its first start; else chosen.
pub fn of_folder(folder: &Path, base: u16, replicas: usize) -> Result<Vec<Ports>, Fault> {
    let path = folder.join(KEPT);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return choose(base, replicas),
        Err(error) => return Err(unusable(&path, &error)),
    };
    let ports = serde_json::from_str(&text).map_err(std::io::Error::from);
    let ports: Vec<Ports> = ports.map_err(|error| unusable(&path, &error))?;
    is_same(folder, &ports, base, replicas)?;
    let fix = "end whoever has it: the replicas of this folder know each other by their ports";
    all_of(&ports).try_for_each(check_free).map_err(|fault| fault.fix(fix))?;
    Ok(ports)
}

fn all_of(ports: &[Ports]) -> impl Iterator<Item = u16> + '_ {
    ports.iter().flat_map(|ports| [ports.api, ports.peer, ports.http])
}

/// Whether what is asked for is what the folder is of.
fn is_same(folder: &Path, kept: &[Ports], base: u16, replicas: usize) -> Result<(), Fault> {
    let folder = folder.display();
    if kept.len() != replicas {
        let count = kept.len();
        return Err(Fault::usage(format!("{folder} holds a cluster of {count} replicas, not {replicas}"))
            .fix(format!("give --replicas {count}, or another --data-dir")));
    }
    let first = kept.first().map_or(0, |ports| ports.api);
    if base == 0 || at_base(base, replicas)? == kept {
        return Ok(());
    }
    Err(Fault::usage(format!(
        "the replicas in {folder} know each other by other ports than --port-base {base}"
    ))
    .why(format!("the first of them listens at {first}"))
    .fix("leave out --port-base, which takes those of the folder, or give another --data-dir"))
}

/// `base` 0: of the kernel's choice.
pub fn choose(base: u16, replicas: usize) -> Result<Vec<Ports>, Fault> {
    if base == 0 {
        return free(replicas);
    }
    let all = at_base(base, replicas)?;
    all_of(&all).try_for_each(check_free)?;
    Ok(all)
}

fn at_base(base: u16, replicas: usize) -> Result<Vec<Ports>, Fault> {
    let mut all = Vec::new();
    for n in 0..replicas as u16 {
        let at = |offset: u16| {
            base.checked_add(offset + n).ok_or_else(|| {
                Fault::usage(format!("--port-base {} leaves no room for {offset} more ports", base))
            })
        };
        all.push(Ports { api: at(0)?, peer: at(PEER_OFFSET)?, http: at(HTTP_OFFSET)? });
    }
    Ok(all)
}

fn check_free(port: u16) -> Result<(), Fault> {
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(Fault::new("port-taken", Exit::FAILED, format!("port {port} cannot be used: {error}"))
                .fix("choose others with --port-base PORT, or let the kernel choose with --port-base 0"))
        }
    }
}

/// Ports that are free now; held until all are chosen, so that they differ.
fn free(replicas: usize) -> Result<Vec<Ports>, Fault> {
    let listeners =
        (0..replicas * 3).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port()));
    let ports = ports.collect::<Result<Vec<u16>, std::io::Error>>()?;
    Ok(ports.chunks_exact(3).map(|three| Ports { api: three[0], peer: three[1], http: three[2] }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_an_error_that_names_the_port_and_the_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let fault = check_free(port).unwrap_err();
        assert!(fault.what.contains(&port.to_string()) && fault.fix.contains("--port-base"), "{fault:?}");
    }

    #[test]
    fn a_folder_keeps_its_ports_and_says_so_where_others_are_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let ports = |base, replicas| of_folder(folder.path(), base, replicas);
        let first = ports(0, 3).unwrap();
        assert!(!are_kept(folder.path()));
        keep(folder.path(), &first).unwrap();
        assert_eq!(ports(0, 3).unwrap(), first);
        let fewer = ports(0, 5).unwrap_err();
        assert!(fewer.what.contains("a cluster of 3 replicas, not 5"), "{fewer:?}");
        let moved = ports(1, 3).unwrap_err();
        assert!(
            moved.why[0].contains(&first[0].api.to_string()) && moved.fix.contains("leave out --port-base")
        );
        let _taken = TcpListener::bind(("127.0.0.1", first[2].peer)).unwrap();
        assert!(ports(0, 3).unwrap_err().what.contains(&first[2].peer.to_string()));
        std::fs::write(folder.path().join(KEPT), "{").unwrap();
        assert!(ports(0, 3).unwrap_err().what.contains("ports"));
    }

    #[test]
    fn chosen_ports_differ() {
        let ports = free(3).unwrap();
        let all: std::collections::BTreeSet<u16> =
            ports.iter().flat_map(|ports| [ports.api, ports.peer, ports.http]).collect();
        assert_eq!(all.len(), 9);
    }
}
