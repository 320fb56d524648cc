//! Looks at every replica between two ticks.

use std::sync::Arc;

use futures::FutureExt;
use replica::{Contents, Feed, Inside, Logged, RaftState, Replica, Subscription};

use crate::log::Log;
use crate::world::{Host, World};
use sim::chance::Trace;

/// The cluster as it is now.
pub struct Seen<'a> {
    pub nodes: Vec<Node<'a>>,
}

pub struct Node<'a> {
    /// Raft's, and the place among the nodes plus one.
    pub id: u64,
    /// Which start of it this is.
    pub life: u64,
    /// While it runs.
    pub inside: Option<Inside>,
    /// As it was when it last ran.
    pub log: &'a Log,
    /// What was appended since the last look; after a start all of it.
    pub fresh: &'a [Logged],
    /// What would be left if the power failed now.
    pub disk: Arc<Contents>,
    /// The index that its snapshot on the disk covers at least.
    pub snapshot: u64,
    /// The index up to which a snapshot has made its state: older entries of its log say nothing of that.
    pub covered: u64,
}

impl Node<'_> {
    /// The entries above `after` of which it knows that they are committed.
    pub fn committed(&self, after: u64) -> impl Iterator<Item = &Logged> {
        let upto = self.inside.map_or(0, |inside| match inside.state {
            RaftState::Leader => inside.committed.max(inside.applied),
            // A follower may know of commits beyond its own log, which may hold other entries there.
            RaftState::Follower | RaftState::Candidate | RaftState::Learner | RaftState::Stopping => {
                inside.applied
            }
        });
        (after.max(self.covered) + 1..=upto).filter_map(|index| self.log.at(index))
    }
}

impl Seen<'_> {
    pub fn majority(&self) -> usize {
        self.nodes.len() / 2 + 1
    }

    /// The nodes that run.
    pub fn running(&self) -> impl Iterator<Item = (&Node<'_>, &Inside)> {
        self.nodes.iter().filter_map(|node| Some((node, node.inside.as_ref()?)))
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub snapshots_built: u64,
    pub snapshots_installed: u64,
}

pub struct Observer {
    hosts: Vec<Watched>,
    pub counts: Counts,
    /// Over everything that was seen.
    pub trace: Trace,
}

#[derive(Default)]
struct Watched {
    life: u64,
    inside: Option<Inside>,
    log: Log,
    fresh: Vec<Logged>,
    snapshot: u64,
    covered: u64,
    feed: Option<Subscription>,
}

impl Observer {
    pub fn new(hosts: usize) -> Observer {
        let hosts = (0..hosts).map(|_| Watched::default()).collect();
        Observer { hosts, counts: Counts::default(), trace: Trace::default() }
    }

    pub fn look(&mut self, world: &World) -> Seen<'_> {
        for (watched, host) in self.hosts.iter_mut().zip(&world.hosts) {
            watched.look(host, &mut self.counts, &mut self.trace);
        }
        let nodes = self.hosts.iter().zip(&world.hosts).zip(1..).map(|((watched, host), id)| Node {
            id,
            life: watched.life,
            inside: watched.inside,
            log: &watched.log,
            fresh: &watched.fresh,
            disk: host.disk.durable(),
            snapshot: watched.snapshot,
            covered: watched.covered,
        });
        Seen { nodes: nodes.collect() }
    }
}

impl Watched {
    fn look(&mut self, host: &Host, counts: &mut Counts, trace: &mut Trace) {
        self.fresh.clear();
        let Some(replica) = host.replica() else {
            if self.inside.take().is_some() {
                trace.note_all(&[self.life, u64::MAX]);
            }
            self.feed = None;
            return;
        };
        let now = replica.inside();
        if host.life() != self.life {
            // All of its log is looked at again: it comes from the disk.
            (self.life, self.log, self.covered) = (host.life(), Log::default(), now.snapshot);
        }
        let installed = self.installed(&replica);
        if self.inside.is_some_and(|before| now.snapshot > before.snapshot && !installed) {
            counts.snapshots_built += 1;
        }
        counts.snapshots_installed += u64::from(installed);
        self.snapshot = self.snapshot.max(now.snapshot);
        self.fresh = self.log.follow(&now, |range| replica.logged(range));
        if self.inside != Some(now) {
            note(&now, &self.fresh, trace);
        }
        self.inside = Some(now);
    }

    /// Whether a snapshot has replaced the state since the last look.
    fn installed(&mut self, replica: &Replica) -> bool {
        let feed = self.feed.get_or_insert_with(|| replica.applied());
        let mut installed = false;
        while let Some(Some(news)) = feed.next().now_or_never() {
            if let Feed::Installed { index } = news {
                (installed, self.covered) = (true, index);
            }
        }
        installed
    }
}

fn note(now: &Inside, fresh: &[Logged], trace: &mut Trace) {
    let ballot = &now.ballot;
    trace.note_all(&[now.state as u64, now.term, ballot.term, ballot.node, ballot.elected.into()]);
    trace.note_all(&[now.last, now.purged, now.committed, now.applied, now.digest, now.snapshot]);
    fresh.iter().for_each(|entry| trace.note_all(&[entry.index, entry.term, entry.hash]));
}
