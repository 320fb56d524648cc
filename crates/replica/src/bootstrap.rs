//! How a cluster is founded. An empty directory starts no Raft. Under a list of peers each asks all others who they
//! are; when all have answered pristine, and have seen all others pristine with the same incarnations, the one with
//! the lowest name founds the cluster: it picks the cluster id, numbers the members by their sorted names, and writes
//! its own identity down. From then on its answers name the members, and each finds itself there by its incarnation.
//!
//! A directory that is empty although the cluster knows its name under another incarnation was wiped: refused.

use std::collections::BTreeMap;
use std::time::Duration;

use tonic::{Code, Request};
use wire::raft as pb;

use crate::config::{Peer, StartError};
use crate::convert;
use crate::identity::Identity;
use crate::network::Transport;
use crate::service::{Node, Phase};
use crate::types::{Member, NodeId};

const ROUND_EVERY: Duration = Duration::from_millis(100);
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// Rounds between two reports of what is being waited for.
const ROUNDS_PER_REPORT: u32 = 50;

/// Asks until the cluster is founded; returns who this replica is in it.
pub async fn found(node: &Node, transport: &Transport, peers: &[Peer]) -> Result<Identity, StartError> {
    for round in 0u32.. {
        let mut answers = BTreeMap::new();
        for peer in peers.iter().filter(|peer| peer.name != node.name) {
            if let Some(answer) = ask(node, transport, peer).await? {
                answers.insert(peer.name.clone(), answer);
            }
        }
        if let Some(identity) = join(node, &answers)? {
            return Ok(identity);
        }
        let seen = see(node, &answers);
        if seen.len() == peers.len() && is_founder(node) && all_agree(&seen, &answers) {
            return Ok(identity(node, &answers));
        }
        if round % ROUNDS_PER_REPORT == ROUNDS_PER_REPORT - 1 {
            let missing: Vec<_> = node.peers.iter().filter(|name| !seen.contains_key(*name)).collect();
            tracing::info!(?missing, "waiting for all peers before the cluster is founded");
        }
        tokio::time::sleep(ROUND_EVERY).await;
    }
    unreachable!("the rounds do not end")
}

/// The names, in order; each once, and `own` among them.
pub fn names(own: &str, peers: &[Peer]) -> Result<Vec<String>, StartError> {
    let mut names: Vec<String> = peers.iter().map(|peer| peer.name.clone()).collect();
    names.sort();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(StartError::PeerTwice { name: twice[0].clone() });
    }
    if !names.iter().any(|name| name == own) {
        return Err(StartError::NotAPeer { name: own.to_owned(), peers: names });
    }
    Ok(names)
}

async fn ask(
    node: &Node,
    transport: &Transport,
    peer: &Peer,
) -> Result<Option<pb::HelloResponse>, StartError> {
    let hello = pb::HelloRequest { cluster: node.cluster.clone(), name: node.name.clone() };
    let mut client = transport.peer(&peer.raft_addr);
    let answer = match tokio::time::timeout(HELLO_TIMEOUT, client.hello(Request::new(hello))).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) if status.code() == Code::FailedPrecondition => {
            return Err(StartError::Refused {
                address: peer.raft_addr.clone(),
                answer: status.message().into(),
            });
        }
        // Not there yet.
        Ok(Err(_)) | Err(_) => return Ok(None),
    };
    if answer.name != peer.name {
        let (address, expected) = (peer.raft_addr.clone(), peer.name.clone());
        return Err(StartError::OtherPeer { address, expected, found: answer.name });
    }
    if answer.failover != node.failover.to_string() {
        let whose = format!("the peer `{}`'s", answer.name);
        return Err(StartError::OtherFailover { whose, theirs: answer.failover, own: node.failover });
    }
    let is_pristine = answer.cluster_id.is_empty();
    if is_pristine && answer.peers != node.peers {
        return Err(StartError::PeersDiffer {
            peer: answer.name,
            theirs: answer.peers,
            own: node.peers.clone(),
        });
    }
    Ok(Some(answer))
}

/// Takes this replica's place in a cluster that is founded already.
fn join(node: &Node, answers: &BTreeMap<String, pb::HelloResponse>) -> Result<Option<Identity>, StartError> {
    let Some(founded) = answers.values().find(|answer| !answer.cluster_id.is_empty()) else {
        return Ok(None);
    };
    let members: BTreeMap<NodeId, Member> = founded.members.iter().cloned().map(convert::member_in).collect();
    let Some((id, member)) = members.iter().find(|(_, member)| member.name == node.name) else {
        return Err(StartError::NotAMember { name: node.name.clone(), cluster: node.cluster.clone() });
    };
    if member.incarnation != node.incarnation {
        return Err(StartError::NameTaken { name: node.name.clone() });
    }
    Ok(Some(Identity {
        cluster: node.cluster.clone(),
        cluster_id: founded.cluster_id.clone(),
        id: *id,
        name: node.name.clone(),
        incarnation: node.incarnation,
        failover: node.failover,
        founders: members,
    }))
}

/// Notes who is pristine, for the others to ask.
fn see(node: &Node, answers: &BTreeMap<String, pb::HelloResponse>) -> BTreeMap<String, u64> {
    let mut seen: BTreeMap<_, _> =
        answers.values().map(|answer| (answer.name.clone(), answer.incarnation)).collect();
    seen.insert(node.name.clone(), node.incarnation);
    *node.phase.lock() = Phase::Pristine { seen: seen.clone() };
    seen
}

fn is_founder(node: &Node) -> bool {
    node.peers.first() == Some(&node.name)
}

/// Whether all have seen all others pristine, with the incarnations that this replica has seen.
fn all_agree(seen: &BTreeMap<String, u64>, answers: &BTreeMap<String, pb::HelloResponse>) -> bool {
    answers
        .values()
        .all(|answer| seen.iter().eq(answer.seen.clone().into_iter().collect::<BTreeMap<_, _>>().iter()))
}

fn identity(node: &Node, answers: &BTreeMap<String, pb::HelloResponse>) -> Identity {
    let own = Member {
        name: node.name.clone(),
        raft_address: node.raft_address.clone(),
        api_address: node.api_address.clone(),
        incarnation: node.incarnation,
    };
    let others = answers.values().map(|answer| Member {
        name: answer.name.clone(),
        raft_address: answer.raft_address.clone(),
        api_address: answer.api_address.clone(),
        incarnation: answer.incarnation,
    });
    let by_name: BTreeMap<String, Member> =
        others.chain([own]).map(|member| (member.name.clone(), member)).collect();
    let founders: BTreeMap<NodeId, Member> = (1..).zip(by_name.into_values()).collect();
    let id = founders.iter().find(|(_, member)| member.name == node.name).map(|(id, _)| *id);
    Identity {
        cluster: node.cluster.clone(),
        cluster_id: format!("{:016x}{:016x}", node.env.random(), node.env.random()),
        id: id.expect("it is among them"),
        name: node.name.clone(),
        incarnation: node.incarnation,
        failover: node.failover,
        founders,
    }
}
