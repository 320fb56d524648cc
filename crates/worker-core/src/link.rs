//! Whom to talk to: one stream at a time, to the leader; the other replicas say who that is.
//!
//! A replica that does not answer in time is left for the next; after each full round the wait grows, with jitter.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Moment, SessionId};

use crate::chance::Chance;
use crate::core::Core;
use crate::mutants::Mutant;
use crate::{Action, Hello, Hold, Outgoing, Record, Session, Welcome};

/// To open a stream.
const OPEN_MAX: Duration = Duration::from_secs(3);
/// From hello to welcome: a session costs a commit, perhaps of a leader that is just beginning.
const WELCOME_MAX: Duration = Duration::from_secs(6);
/// Without a word from the leader: so many heartbeats of the lease beyond the one that it asked for, and at the least.
const SILENCE_HEARTBEATS: u32 = 2;
const SILENCE_MIN: Duration = Duration::from_secs(1);
const WAIT_FIRST: Duration = Duration::from_millis(25);
const WAIT_CAP: Duration = Duration::from_millis(250);
/// After so many rounds it is no election any more.
const ROUNDS_BRISK: u32 = 40;
const WAIT_LONG: Duration = Duration::from_secs(2);
/// Hints followed in a row before they count as failures: two replicas may each name the other.
const HINTS_MAX: u32 = 3;
/// Addresses learned from hints and welcomes.
const SERVERS_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Link {
    /// No stream is wanted until what the last session left has ended.
    Off,
    Waiting {
        until: Moment,
    },
    Opening {
        since: Moment,
    },
    Greeted {
        since: Moment,
    },
    Attached,
}

/// The replicas and which is next.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    servers: Vec<String>,
    at: usize,
    /// Since the last welcome.
    failures: u32,
    hints: u32,
    chance: Chance,
}

impl Dial {
    /// Those it was told of and those it has heard of.
    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    pub fn new(servers: Vec<String>, seed: u64) -> Dial {
        Dial { servers, at: 0, failures: 0, hints: 0, chance: Chance(seed) }
    }

    fn address(&self) -> Option<String> {
        self.servers.get(self.at).cloned()
    }

    fn learn(&mut self, address: &str) -> usize {
        if let Some(at) = self.servers.iter().position(|known| known == address) {
            return at;
        }
        if self.servers.len() == SERVERS_MAX {
            self.servers.pop();
        }
        self.servers.push(address.to_owned());
        self.servers.len() - 1
    }

    /// Turns to the next replica and says how long to wait first.
    fn fail(&mut self) -> Duration {
        self.hints = 0;
        self.failures = self.failures.saturating_add(1);
        let count = self.servers.len().max(1);
        self.at = (self.at + 1) % count;
        let rounds = self.failures / count as u32;
        if !self.failures.is_multiple_of(count as u32) {
            return Duration::ZERO;
        }
        let cap = if rounds > ROUNDS_BRISK { WAIT_LONG } else { WAIT_CAP };
        self.jitter(WAIT_FIRST.saturating_mul(1 << rounds.min(10)).min(cap))
    }

    fn hint(&mut self, leader: &str) -> Duration {
        self.hints += 1;
        if self.hints > HINTS_MAX {
            return self.fail();
        }
        self.at = self.learn(leader);
        Duration::ZERO
    }

    /// Between half and the whole of it.
    fn jitter(&mut self, wait: Duration) -> Duration {
        let part = (self.chance.bits() >> 33) as u32 % 1_000;
        wait / 2 + wait / 2 * part / 1_000
    }
}

/// Heartbeats of the current stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heart {
    next: Moment,
    number: u64,
    /// Not yet answered.
    sent: BTreeMap<u64, Moment>,
    /// The leader's last word.
    pub heard: Moment,
    /// How far apart they are to be, where the leader wants them otherwise than the lease says.
    told: Option<Duration>,
}

const UNANSWERED_MAX: usize = 64;

impl Core {
    pub(crate) fn is_attached(&self) -> bool {
        self.link == Link::Attached
    }

    pub(crate) fn link_due(&self) -> Option<Moment> {
        match self.link {
            Link::Off => None,
            Link::Waiting { until } => Some(until),
            Link::Opening { since } => Some(since.plus(OPEN_MAX)),
            Link::Greeted { since } => Some(since.plus(WELCOME_MAX)),
            Link::Attached => Some(self.heart.next.min(self.silent_at())),
        }
    }

    fn silent_at(&self) -> Moment {
        let silence = self.heartbeat() + self.lease_heartbeat() * SILENCE_HEARTBEATS;
        self.heart.heard.plus(silence.max(SILENCE_MIN))
    }

    fn heartbeat(&self) -> Duration {
        self.heart.told.unwrap_or_else(|| self.lease_heartbeat())
    }

    fn lease_heartbeat(&self) -> Duration {
        self.saved().session.map_or(Duration::from_secs(1), |session| session.lease.heartbeat)
    }

    /// Time has passed.
    pub(crate) fn tend_link(&mut self, now: Moment) {
        match self.link {
            Link::Off => {}
            Link::Waiting { until } if now >= until => self.connect(now),
            Link::Waiting { .. } => {}
            Link::Opening { since } if now >= since.plus(OPEN_MAX) => self.give_up(now),
            Link::Greeted { since } if now >= since.plus(WELCOME_MAX) => self.give_up(now),
            Link::Opening { .. } | Link::Greeted { .. } => {}
            Link::Attached if now >= self.silent_at() => self.give_up(now),
            Link::Attached => self.beat(now),
        }
    }

    fn connect(&mut self, now: Moment) {
        let Some(address) = self.dial.address() else {
            self.link = Link::Off;
            return;
        };
        self.link = Link::Opening { since: now };
        self.push(Action::Connect { address });
    }

    fn beat(&mut self, now: Moment) {
        if now < self.heart.next {
            return;
        }
        self.heart.number += 1;
        let number = self.heart.number;
        self.heart.sent.insert(number, now);
        if self.heart.sent.len() > UNANSWERED_MAX {
            self.heart.sent.pop_first();
        }
        self.heart.next = now.plus(self.heartbeat());
        self.push(Action::Send(Outgoing::Heartbeat { number }));
    }

    /// Leaves the replica for the next one.
    pub(crate) fn give_up(&mut self, now: Moment) {
        self.push(Action::Disconnect);
        self.lost(now);
    }

    /// The stream is gone.
    pub(crate) fn lost(&mut self, now: Moment) {
        if matches!(self.link, Link::Opening { .. } | Link::Greeted { .. } | Link::Attached) {
            let wait = self.dial.fail();
            self.link = Link::Waiting { until: now.plus(wait) };
        }
    }

    pub(crate) fn redirected(&mut self, leader: Option<String>, now: Moment) {
        self.push(Action::Disconnect);
        let wait = match leader {
            Some(leader) => self.dial.hint(&leader),
            None => self.dial.fail(),
        };
        self.link = Link::Waiting { until: now.plus(wait) };
    }

    /// Greets the same replica anew, on a new stream.
    pub(crate) fn greet_again(&mut self, now: Moment) {
        self.link = Link::Waiting { until: now };
    }

    pub(crate) fn greet(&mut self, now: Moment) {
        self.link = Link::Greeted { since: now };
        self.heart = Heart { heard: now, ..Heart::default() };
        self.outbox.rewind();
        self.gather_started();
        let reports = self.cut_batch();
        let saved = self.saved();
        let hello = Hello {
            session: saved.session.map(|session| session.id),
            term: saved.term,
            watermark: if self.has_bug(Mutant::StartTwice) { 0 } else { saved.watermark },
            gaps: saved.gaps.iter().copied().collect(),
            holds: self.holds(),
            reports,
        };
        self.push(Action::Send(Outgoing::Hello(hello)));
    }

    /// Orders that are not through, and those whose reports follow later: none of these may be taken for lost.
    fn holds(&self) -> Vec<Hold> {
        let mut holds: BTreeMap<_, Hold> = BTreeMap::new();
        for (seq, taken) in &self.saved().orders {
            let order = &taken.order;
            let hold = Hold { seq: *seq, token: order.token, job: order.job, tasks: taken.left() };
            holds.insert(*seq, hold);
        }
        for report in self.unsent() {
            let fresh = Hold { seq: report.seq, token: report.token, job: report.job, tasks: report.tasks };
            let hold = holds.entry(report.seq).or_insert(fresh);
            let first = hold.tasks.first.min(report.tasks.first);
            hold.tasks = model::Run::new(first, hold.tasks.end().max(report.tasks.end()) - first);
        }
        holds.into_values().collect()
    }

    pub(crate) fn welcome(&mut self, welcome: Welcome, now: Moment) {
        let Link::Greeted { since } = self.link else { return };
        if self.is_other_session(welcome.session) {
            // What the old one left must be gone before the new one counts its capacity.
            return self.session_ended(now);
        }
        for replica in &welcome.replicas {
            self.dial.learn(replica);
        }
        (self.dial.failures, self.dial.hints) = (0, 0);
        let session = Session { id: welcome.session, lease: welcome.lease };
        if self.saved().session != Some(session) {
            self.save(Record::Session(session));
        }
        self.link = Link::Attached;
        self.heart.next = now;
        self.renew(since);
        self.beat(now);
    }

    fn is_other_session(&self, id: SessionId) -> bool {
        self.saved().session.is_some_and(|session| session.id != id)
    }

    pub(crate) fn renewed(&mut self, number: u64, heartbeat: Option<Duration>) {
        let Some(sent) = self.heart.sent.remove(&number) else { return };
        self.heart.told = heartbeat;
        self.heart.sent = self.heart.sent.split_off(&number);
        if number == self.heart.number {
            self.heart.next = sent.plus(self.heartbeat());
        }
        self.renew(sent);
    }

    /// The lease counts from when its renewal was sent.
    fn renew(&mut self, sent: Moment) {
        let Some(session) = self.saved().session else { return };
        let until = sent.plus(session.lease.ttl);
        if self.lease.is_none_or(|lease| lease < until) {
            self.lease = Some(until);
            self.push(Action::Lease { until });
        }
    }
}
