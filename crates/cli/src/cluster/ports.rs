//! Which ports the replicas of a local cluster listen on.

use std::net::TcpListener;

use crate::exit::Exit;
use crate::fault::Fault;

/// Peer ports lie so far above the gRPC ports, and HTTP ports so far.
const PEER_OFFSET: u16 = 100;
const HTTP_OFFSET: u16 = 1_010;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub api: u16,
    pub peer: u16,
    pub http: u16,
}

/// `base` 0: of the kernel's choice.
pub fn choose(base: u16, replicas: usize) -> Result<Vec<Ports>, Fault> {
    if base == 0 {
        return free(replicas);
    }
    let mut all = Vec::new();
    for n in 0..replicas as u16 {
        let at = |offset: u16| {
            base.checked_add(offset + n).ok_or_else(|| {
                Fault::usage(format!("--port-base {} leaves no room for {offset} more ports", base))
            })
        };
        let ports = Ports { api: at(0)?, peer: at(PEER_OFFSET)?, http: at(HTTP_OFFSET)? };
        for port in [ports.api, ports.peer, ports.http] {
            check_free(port)?;
        }
        all.push(ports);
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
    fn chosen_ports_differ() {
        let ports = free(3).unwrap();
        let all: std::collections::BTreeSet<u16> =
            ports.iter().flat_map(|ports| [ports.api, ports.peer, ports.http]).collect();
        assert_eq!(all.len(), 9);
    }
}
