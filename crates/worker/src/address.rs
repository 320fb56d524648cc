//! Where others reach this host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};

/// The address that this host has towards the first of the servers that has a known one; nothing is sent. Of the older
/// protocol only, for a label holds no colons.
pub fn towards(servers: &[String]) -> Option<String> {
    servers.iter().flat_map(|server| resolve(server)).find_map(local).map(|address| address.to_string())
}

fn resolve(server: &str) -> Vec<SocketAddr> {
    let server = server.split_once("://").map_or(server, |(_, rest)| rest).trim_end_matches('/');
    server.to_socket_addrs().map(Iterator::collect).unwrap_or_default()
}

fn local(server: SocketAddr) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(server).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) if !address.is_unspecified() => Some(address),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_one_that_leads_to_a_server() {
        let of = |servers: &[&str]| towards(&servers.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["127.0.0.1:1"]).as_deref(), Some("127.0.0.1"));
        assert_eq!(of(&["no port", "http://127.0.0.1:7070/"]).as_deref(), Some("127.0.0.1"));
        assert_eq!(of(&[]), None);
    }
}
