//! A Raft log (Ongaro, Ousterhout 2014) in its plainest form: elections, replication, commit. It stands in for openraft:
//! what is proposed may be committed late, by another leader, or never.
//!
//! What a snapshot covers is purged from the log, but for a tail; a follower that needs it gets the snapshot.
//!
//! As openraft, a leader does not step down by itself when it has lost its quorum; it only says when one last answered.

use std::collections::BTreeSet;
use std::sync::Arc;

use machine::{Entry, Row};
use model::settings::Election;
use model::time::micros;
use model::{LogIndex, Term};

use crate::chance::Chance;
use crate::queue::{Micros, NEVER};

#[derive(Clone, Debug)]
pub struct Record {
    pub term: Term,
    /// `None`: the blank entry that begins a term.
    pub entry: Option<Arc<Entry>>,
}

#[derive(Debug)]
pub struct Snapshot {
    /// The last entry that it covers.
    pub last: (Term, LogIndex),
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug)]
pub enum Message {
    Vote {
        term: Term,
        last: (Term, LogIndex),
    },
    Voted {
        term: Term,
        granted: bool,
    },
    Append {
        term: Term,
        previous: (Term, LogIndex),
        records: Vec<Record>,
        commit: LogIndex,
        sent: Micros,
    },
    Install {
        term: Term,
        snapshot: Arc<Snapshot>,
        sent: Micros,
    },
    /// `matched`: up to here the logs are alike, or (not `ok`) may be.
    Appended {
        term: Term,
        ok: bool,
        matched: LogIndex,
        sent: Micros,
    },
}

impl Message {
    pub fn code(&self) -> u64 {
        match self {
            Message::Vote { .. } => 0,
            Message::Voted { .. } => 1,
            Message::Append { records, .. } => 4 + records.len() as u64,
            Message::Appended { ok, .. } => 2 + u64::from(*ok),
            Message::Install { snapshot, .. } => 1_000 + snapshot.last.1,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Follower,
    Candidate,
    Leader,
}

#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    next: LogIndex,
    matched: LogIndex,
    /// When the newest message that it answered was sent.
    acked: Option<Micros>,
}

const RECORDS_PER_APPEND_MAX: usize = 32;
/// Entries kept below the last snapshot, for followers that are but a little behind.
const TAIL: u64 = 20;

pub struct Raft {
    pub id: usize,
    size: usize,
    timing: Election,
    // On disk.
    pub term: Term,
    voted: Option<usize>,
    /// The entries after `purged`.
    log: Vec<Record>,
    /// The last one that was purged.
    purged: (Term, LogIndex),
    pub snapshot: Option<Arc<Snapshot>>,
    // In memory.
    pub role: Role,
    pub leader: Option<usize>,
    pub commit: LogIndex,
    votes: BTreeSet<usize>,
    peers: Vec<Peer>,
    election_at: Micros,
    heartbeat_at: Micros,
    outbox: Vec<(usize, Message)>,
}

impl Raft {
    pub fn new(id: usize, size: usize, timing: Election, now: Micros, chance: &mut Chance) -> Raft {
        let mut raft = Raft {
            id,
            size,
            timing,
            term: 0,
            voted: None,
            log: Vec::new(),
            purged: (0, 0),
            snapshot: None,
            role: Role::Follower,
            leader: None,
            commit: 0,
            votes: BTreeSet::new(),
            peers: vec![Peer::default(); size],
            election_at: 0,
            heartbeat_at: NEVER,
            outbox: Vec::new(),
        };
        raft.restart(now, chance);
        raft
    }

    /// Forgets what is not on disk.
    pub fn restart(&mut self, now: Micros, chance: &mut Chance) {
        (self.role, self.leader, self.commit) = (Role::Follower, None, 0);
        self.outbox.clear();
        self.heartbeat_at = NEVER;
        self.put_off(now, chance);
    }

    fn put_off(&mut self, now: Micros, chance: &mut Chance) {
        self.election_at =
            now + chance.between(micros(self.timing.timeout_min), micros(self.timing.timeout_max));
    }

    pub fn last(&self) -> LogIndex {
        self.purged.1 + self.log.len() as u64
    }

    /// In the log, if it is not purged.
    fn place(&self, index: LogIndex) -> Option<usize> {
        Some(index.checked_sub(self.purged.1 + 1)? as usize)
    }

    /// 0 where there is none, or it is purged.
    pub fn term_at(&self, index: LogIndex) -> Term {
        if index == self.purged.1 {
            return self.purged.0;
        }
        self.place(index).and_then(|place| self.log.get(place)).map_or(0, |record| record.term)
    }

    pub fn record(&self, index: LogIndex) -> &Record {
        let place = self.place(index).expect("what is to be applied is not purged");
        &self.log[place]
    }

    /// A snapshot was made of the state after `index`: purges what it covers, but for a tail.
    pub fn keep_snapshot(&mut self, index: LogIndex, rows: Vec<Row>) {
        self.snapshot = Some(Arc::new(Snapshot { last: (self.term_at(index), index), rows }));
        let purged = index.saturating_sub(TAIL);
        if let Some(place) = self.place(purged) {
            self.purged = (self.term_at(purged), purged);
            self.log.drain(..=place);
        }
    }

    pub fn due(&self) -> Micros {
        if self.role == Role::Leader { self.heartbeat_at } else { self.election_at }
    }

    pub fn take_outbox(&mut self) -> Vec<(usize, Message)> {
        std::mem::take(&mut self.outbox)
    }

    fn majority(&self) -> usize {
        self.size / 2 + 1
    }

    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let id = self.id;
        (0..self.size).filter(move |peer| *peer != id)
    }

    pub fn wake(&mut self, now: Micros, chance: &mut Chance) {
        if self.role == Role::Leader {
            if now >= self.heartbeat_at {
                self.heartbeat_at = now + micros(self.timing.heartbeat);
                self.replicate(now);
            }
        } else if now >= self.election_at {
            self.stand(now, chance);
        }
    }

    fn stand(&mut self, now: Micros, chance: &mut Chance) {
        self.term += 1;
        (self.role, self.leader, self.voted) = (Role::Candidate, None, Some(self.id));
        self.votes = BTreeSet::from([self.id]);
        self.put_off(now, chance);
        let last = (self.term_at(self.last()), self.last());
        for peer in self.others() {
            self.outbox.push((peer, Message::Vote { term: self.term, last }));
        }
        self.count_votes(now);
    }

    fn count_votes(&mut self, now: Micros) {
        if self.votes.len() < self.majority() {
            return;
        }
        (self.role, self.leader) = (Role::Leader, Some(self.id));
        self.peers = vec![Peer { next: self.last() + 1, matched: 0, acked: None }; self.size];
        self.log.push(Record { term: self.term, entry: None });
        self.heartbeat_at = now + micros(self.timing.heartbeat);
        self.replicate(now);
    }

    /// Appends to the log if this replica leads.
    pub fn propose(&mut self, entry: Entry, now: Micros) -> LogIndex {
        self.log.push(Record { term: self.term, entry: Some(Arc::new(entry)) });
        self.replicate(now);
        self.last()
    }

    fn replicate(&mut self, now: Micros) {
        for peer in self.others() {
            let next = self.peers[peer].next;
            let Some(place) = self.place(next) else {
                self.send_snapshot(peer, now);
                continue;
            };
            let records: Vec<Record> =
                self.log[place..].iter().take(RECORDS_PER_APPEND_MAX).cloned().collect();
            // Hoping for the best; an answer that says otherwise takes it back.
            self.peers[peer].next += records.len() as u64;
            let previous = (self.term_at(next - 1), next - 1);
            let (term, commit) = (self.term, self.commit);
            self.outbox.push((peer, Message::Append { term, previous, records, commit, sent: now }));
        }
        self.advance_commit();
    }

    fn send_snapshot(&mut self, peer: usize, now: Micros) {
        let snapshot = self.snapshot.clone().expect("what is purged lies in a snapshot");
        self.peers[peer].next = snapshot.last.1 + 1;
        self.outbox.push((peer, Message::Install { term: self.term, snapshot, sent: now }));
    }

    /// What a majority has, if it is of this term.
    fn advance_commit(&mut self) {
        let mut matched: Vec<LogIndex> = self.others().map(|peer| self.peers[peer].matched).collect();
        matched.push(self.last());
        matched.sort_unstable_by(|a, b| b.cmp(a));
        let candidate = matched[self.majority() - 1];
        if candidate > self.commit && self.term_at(candidate) == self.term {
            self.commit = candidate;
        }
    }

    /// The newest moment by which a majority, this replica among them, had answered this leader: when what they answered
    /// was sent.
    pub fn quorum_acked(&self) -> Option<Micros> {
        let mut acked: Vec<Option<Micros>> = self.others().map(|peer| self.peers[peer].acked).collect();
        acked.sort_unstable_by(|a, b| b.cmp(a));
        match self.majority() {
            1 => None,
            majority => acked[majority - 2],
        }
    }

    /// Takes a message; returns the first index that was cut off the log, if any was.
    pub fn hear(
        &mut self,
        from: usize,
        message: Message,
        now: Micros,
        chance: &mut Chance,
    ) -> Option<LogIndex> {
        let term = match &message {
            Message::Vote { term, .. }
            | Message::Voted { term, .. }
            | Message::Append { term, .. }
            | Message::Install { term, .. }
            | Message::Appended { term, .. } => *term,
        };
        if term > self.term {
            (self.term, self.voted, self.role, self.leader) = (term, None, Role::Follower, None);
            self.heartbeat_at = NEVER;
            self.put_off(now, chance);
        }
        match message {
            Message::Vote { last, .. } => self.vote(from, term, last, now, chance),
            Message::Voted { granted, .. } => {
                if term == self.term && self.role == Role::Candidate && granted {
                    self.votes.insert(from);
                    self.count_votes(now);
                }
            }
            Message::Append { previous, records, commit, sent, .. } => {
                return self.append(from, term, previous, records, commit, sent, now, chance);
            }
            Message::Install { snapshot, sent, .. } => {
                return self.install(from, term, snapshot, sent, now, chance);
            }
            Message::Appended { ok, matched, sent, .. } => {
                if term == self.term && self.role == Role::Leader {
                    self.appended(from, ok, matched, sent);
                }
            }
        }
        None
    }

    fn vote(&mut self, from: usize, term: Term, last: (Term, LogIndex), now: Micros, chance: &mut Chance) {
        let is_current = last >= (self.term_at(self.last()), self.last());
        let granted = term == self.term && is_current && self.voted.is_none_or(|voted| voted == from);
        if granted {
            self.voted = Some(from);
            self.put_off(now, chance);
        }
        self.outbox.push((from, Message::Voted { term: self.term, granted }));
    }

    #[allow(clippy::too_many_arguments)]
    fn append(
        &mut self,
        from: usize,
        term: Term,
        previous: (Term, LogIndex),
        records: Vec<Record>,
        commit: LogIndex,
        sent: Micros,
        now: Micros,
        chance: &mut Chance,
    ) -> Option<LogIndex> {
        let answer = |term, ok, matched| (from, Message::Appended { term, ok, matched, sent });
        if term < self.term {
            self.outbox.push(answer(self.term, false, 0));
            return None;
        }
        (self.role, self.leader) = (Role::Follower, Some(from));
        self.put_off(now, chance);
        // What is purged is committed, and so alike.
        let is_purged = previous.1 < self.purged.1;
        if !is_purged && (self.last() < previous.1 || self.term_at(previous.1) != previous.0) {
            let hint = self.last().min(previous.1.saturating_sub(1));
            self.outbox.push(answer(term, false, hint));
            return None;
        }
        let (mut cut, end) = (None, previous.1 + records.len() as u64);
        for (record, index) in records.into_iter().zip(previous.1 + 1..) {
            let Some(place) = self.place(index) else { continue };
            if self.last() >= index && self.term_at(index) != record.term {
                assert!(index > self.commit, "a committed entry is cut off");
                cut.get_or_insert(index);
                self.log.truncate(place);
            }
            if self.last() < index {
                self.log.push(record);
            }
        }
        self.commit = self.commit.max(commit.min(end));
        self.outbox.push(answer(term, true, end));
        cut
    }

    /// A follower takes the snapshot in the place of all that it covers. What it has beyond stays if it goes on from there.
    fn install(
        &mut self,
        from: usize,
        term: Term,
        snapshot: Arc<Snapshot>,
        sent: Micros,
        now: Micros,
        chance: &mut Chance,
    ) -> Option<LogIndex> {
        let answer = |term, ok, matched| (from, Message::Appended { term, ok, matched, sent });
        if term < self.term {
            self.outbox.push(answer(self.term, false, 0));
            return None;
        }
        (self.role, self.leader) = (Role::Follower, Some(from));
        self.put_off(now, chance);
        let last = snapshot.last;
        self.outbox.push(answer(term, true, last.1));
        if last.1 <= self.commit {
            return None;
        }
        let goes_on = self.last() >= last.1 && self.term_at(last.1) == last.0;
        let cut = (!goes_on && self.last() > self.commit).then_some(self.commit + 1);
        match self.place(last.1).filter(|_| goes_on) {
            Some(place) => drop(self.log.drain(..=place)),
            None => self.log.clear(),
        }
        (self.purged, self.commit, self.snapshot) = (last, last.1, Some(snapshot));
        cut
    }

    fn appended(&mut self, from: usize, ok: bool, matched: LogIndex, sent: Micros) {
        let last = self.last();
        let peer = &mut self.peers[from];
        peer.acked = peer.acked.max(Some(sent));
        if ok {
            peer.matched = peer.matched.max(matched);
            peer.next = peer.next.max(matched + 1);
        } else {
            peer.next = (matched + 1).clamp(peer.matched + 1, last + 1);
        }
        self.advance_commit();
    }
}
