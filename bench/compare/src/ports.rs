//! Ports for peers that must be told theirs before they start.

use std::net::TcpListener;

use crate::fault::Fault;

/// So many free ports of loopback, all different. They are free when this returns; nothing holds them afterwards.
pub fn free(count: usize) -> Result<Vec<u16>, Fault> {
    let cannot = || Fault::of("cannot get a free port");
    let bound: Result<Vec<TcpListener>, Fault> =
        (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0)).map_err(cannot())).collect();
    bound?.iter().map(|socket| socket.local_addr().map(|address| address.port()).map_err(cannot())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn ports_differ() {
        let ports: BTreeSet<u16> = super::free(6).unwrap().into_iter().collect();
        assert_eq!(ports.len(), 6);
    }
}
