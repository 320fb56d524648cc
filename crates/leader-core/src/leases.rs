//! When a worker is dead. A session's lease is renewed only while a quorum has acknowledged this leader within one
//! maximal election timeout; it ends when nothing renewed it for ttl + margin. Nobody is expired because there was an
//! election: a new leader counts from its own start, and a leader that was itself away re-arms everyone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::settings::Lease;
use model::{Moment, SessionId};

/// What a leader answers in the time between two heartbeats of one worker, as leases have it; each costs it some 25
/// microseconds.
const HEARTBEATS_PER_INTERVAL_MAX: usize = 2_500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The worker's next heartbeats may be so far apart, where that is not what its lease says.
    Granted {
        heartbeat: Option<Duration>,
    },
    /// No quorum has acknowledged this leader lately: there may be another one.
    NotLeader,
    /// Its end is proposed: no renewal is granted any more.
    Ending,
    Unknown,
}

#[derive(Debug)]
struct Armed {
    ends: Moment,
    lease: Lease,
}

#[derive(Debug)]
pub struct Leases {
    election_timeout_max: Duration,
    armed: BTreeMap<SessionId, Armed>,
    by_end: BTreeSet<(Moment, SessionId)>,
    ending: BTreeSet<SessionId>,
    /// How many armed sessions have this ttl: the first is the shortest.
    ttls: BTreeMap<Duration, usize>,
    quorum_acked: Moment,
    quorum_lost: bool,
    awake: Moment,
    #[cfg(feature = "mutants")]
    renews_without_quorum: bool,
}

/// Bugs that a simulation must catch.
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Renews leases although another leader may have ended the session.
    RenewWithoutQuorum,
    /// A new leader takes every session for silent since long ago.
    ExpireOnElection,
}

#[cfg(feature = "mutants")]
impl Mutant {
    pub const ALL: [(&'static str, Mutant); 2] = [
        ("renew-without-quorum", Mutant::RenewWithoutQuorum),
        ("expire-on-election", Mutant::ExpireOnElection),
    ];
}

#[cfg(feature = "mutants")]
impl Leases {
    pub(crate) fn mutate(&mut self, mutant: Mutant) {
        match mutant {
            Mutant::RenewWithoutQuorum => self.renews_without_quorum = true,
            Mutant::ExpireOnElection => {
                let all = std::mem::take(&mut self.by_end);
                self.by_end = all.into_iter().map(|(_, session)| (Moment(0), session)).collect();
                self.armed.values_mut().for_each(|armed| armed.ends = Moment(0));
            }
        }
    }
}

impl Leases {
    /// `start`: when this leadership began; a quorum has just voted for it.
    pub fn new(election_timeout_max: Duration, start: Moment) -> Leases {
        Leases {
            election_timeout_max,
            armed: BTreeMap::new(),
            by_end: BTreeSet::new(),
            ending: BTreeSet::new(),
            ttls: BTreeMap::new(),
            quorum_acked: start,
            quorum_lost: false,
            awake: start,
            #[cfg(feature = "mutants")]
            renews_without_quorum: false,
        }
    }

    pub fn quorum_acked(&mut self, at: Moment) {
        self.quorum_acked = self.quorum_acked.max(at);
    }

    pub fn last_quorum(&self) -> Moment {
        self.quorum_acked
    }

    pub fn has_quorum(&self, now: Moment) -> bool {
        now.since(self.quorum_acked) <= self.election_timeout_max
    }

    /// How long no quorum has answered, beyond what is usual.
    pub fn without_quorum(&self, now: Moment) -> Duration {
        now.since(self.quorum_acked).saturating_sub(self.election_timeout_max)
    }

    /// To be called first in every step: notices that this leader was away, or without a quorum, and re-arms all.
    pub fn beat(&mut self, now: Moment) {
        let was_away = self.beat_every().is_some_and(|quarter| now.since(self.awake) > quarter);
        self.awake = now;
        if !self.has_quorum(now) {
            self.quorum_lost = true;
        } else if self.quorum_lost || was_away {
            self.quorum_lost = false;
            self.rearm_all(now);
        }
    }

    /// A quarter of the shortest lease: a silence longer than this is a gap.
    fn beat_every(&self) -> Option<Duration> {
        self.ttls.keys().next().map(|ttl| *ttl / 4)
    }

    fn rearm_all(&mut self, now: Moment) {
        for (id, armed) in &mut self.armed {
            let ends = now.plus(armed.lease.ttl).plus(armed.lease.margin).max(armed.ends);
            self.by_end.remove(&(armed.ends, *id));
            self.by_end.insert((ends, *id));
            armed.ends = ends;
        }
    }

    /// A session found in the state by a new leader: it may have been renewed by the old one up to an election timeout
    /// after this one began.
    pub fn inherit(&mut self, session: SessionId, lease: Lease, start: Moment) {
        self.arm(session, lease, start.plus(self.election_timeout_max));
    }

    /// Counts the whole lease from `from`.
    pub fn arm(&mut self, session: SessionId, lease: Lease, from: Moment) {
        let ends =
            from.plus(lease.ttl).plus(lease.margin).max(self.armed.get(&session).map_or(from, |a| a.ends));
        self.disarm(session);
        *self.ttls.entry(lease.ttl).or_insert(0) += 1;
        self.by_end.insert((ends, session));
        self.armed.insert(session, Armed { ends, lease });
    }

    pub fn renew(&mut self, session: SessionId, now: Moment) -> Renewal {
        if !self.has_quorum(now) && !self.renews_anyway() {
            return Renewal::NotLeader;
        }
        if self.ending.contains(&session) {
            return Renewal::Ending;
        }
        let Some(lease) = self.armed.get(&session).map(|armed| armed.lease) else { return Renewal::Unknown };
        self.arm(session, lease, now);
        let heartbeat = self.heartbeat(lease);
        Renewal::Granted { heartbeat: Some(heartbeat).filter(|heartbeat| *heartbeat != lease.heartbeat) }
    }

    /// A leader of many sessions has each renew less often, but never so rarely that a failover would not leave it time to
    /// renew twice.
    fn heartbeat(&self, lease: Lease) -> Duration {
        let times = self.armed.len().div_ceil(HEARTBEATS_PER_INTERVAL_MAX).max(1);
        let wanted = lease.heartbeat.saturating_mul(times as u32);
        let max = lease.heartbeat_max(self.election_timeout_max).unwrap_or_default();
        wanted.min(max).max(lease.heartbeat)
    }

    #[cfg(feature = "mutants")]
    fn renews_anyway(&self) -> bool {
        self.renews_without_quorum
    }

    #[cfg(not(feature = "mutants"))]
    fn renews_anyway(&self) -> bool {
        false
    }

    /// The end of this session is about to be proposed. False if it was before.
    pub fn end(&mut self, session: SessionId) -> bool {
        self.disarm(session);
        self.ending.insert(session)
    }

    pub fn is_armed(&self, session: SessionId) -> bool {
        self.armed.contains_key(&session)
    }

    pub fn is_ending(&self, session: SessionId) -> bool {
        self.ending.contains(&session)
    }

    /// The session has ended in the state.
    pub fn forget(&mut self, session: SessionId) {
        self.disarm(session);
        self.ending.remove(&session);
    }

    fn disarm(&mut self, session: SessionId) {
        let Some(armed) = self.armed.remove(&session) else { return };
        self.by_end.remove(&(armed.ends, session));
        let left = self.ttls.get_mut(&armed.lease.ttl).expect("every armed session is counted");
        *left -= 1;
        if *left == 0 {
            self.ttls.remove(&armed.lease.ttl);
        }
    }

    /// Sessions whose lease is over. None without a quorum: then this leader decides nothing.
    pub fn expired(&self, now: Moment) -> Vec<SessionId> {
        if !self.has_quorum(now) {
            return Vec::new();
        }
        self.by_end.iter().take_while(|(ends, _)| *ends <= now).map(|(_, session)| *session).collect()
    }

    /// The next end of a lease, or the next moment at which this leader must show itself that it is awake.
    pub fn next_wake(&self, now: Moment) -> Option<Moment> {
        let (first, _) = self.by_end.first()?;
        let beat = self.awake.plus(self.beat_every()? / 2);
        // Without a quorum nobody expires: there is nothing to wake for but to look again.
        Some(if self.has_quorum(now) { beat.min(*first) } else { beat })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S1: SessionId = SessionId(1);
    const ELECTION: Duration = Duration::from_millis(900);

    fn lease() -> Lease {
        let ms = Duration::from_millis;
        Lease { heartbeat: ms(1_000), ttl: ms(10_000), margin: ms(2_000) }
    }

    fn ms(ms: u64) -> Moment {
        Moment(ms * 1000)
    }

    /// Beats every second with a fresh quorum until `to`.
    fn pass(leases: &mut Leases, from: u64, to: u64) {
        for at in (from..=to).step_by(1_000) {
            leases.quorum_acked(ms(at));
            leases.beat(ms(at));
        }
    }

    #[test]
    fn a_lease_ends_after_ttl_and_margin_without_renewal() {
        let mut leases = Leases::new(ELECTION, ms(0));
        leases.arm(S1, lease(), ms(0));
        pass(&mut leases, 0, 11_000);
        assert_eq!(leases.expired(ms(11_000)), []);
        pass(&mut leases, 12_000, 12_000);
        assert_eq!(leases.expired(ms(12_000)), [S1]);
    }

    #[test]
    fn a_new_leader_gives_everyone_a_whole_lease_and_an_election() {
        let mut leases = Leases::new(ELECTION, ms(0));
        leases.inherit(S1, lease(), ms(0));
        pass(&mut leases, 0, 12_000);
        leases.quorum_acked(ms(12_899));
        assert_eq!(leases.expired(ms(12_899)), []);
        assert_eq!(leases.expired(ms(12_900)), [S1]);
    }

    #[test]
    fn without_a_quorum_nothing_is_renewed_and_nobody_expires() {
        let mut leases = Leases::new(ELECTION, ms(0));
        leases.arm(S1, lease(), ms(0));
        leases.beat(ms(500));
        assert_eq!(leases.renew(S1, ms(900)), Renewal::Granted { heartbeat: None });
        assert_eq!(leases.renew(S1, ms(901)), Renewal::NotLeader);
        for at in (1_000..60_000).step_by(1_000) {
            leases.beat(ms(at));
            assert_eq!(leases.expired(ms(at)), []);
        }
        // The quorum is back: everyone has a whole lease again.
        pass(&mut leases, 60_000, 71_000);
        assert_eq!(leases.expired(ms(71_000)), []);
    }

    #[test]
    fn a_leader_that_was_away_rearms_all() {
        let mut leases = Leases::new(ELECTION, ms(0));
        leases.arm(S1, lease(), ms(0));
        pass(&mut leases, 0, 9_000);
        leases.quorum_acked(ms(30_000));
        leases.beat(ms(30_000));
        assert_eq!(leases.expired(ms(30_000)), []);
        pass(&mut leases, 31_000, 42_000);
        assert_eq!(leases.expired(ms(42_000)), [S1]);
    }

    #[test]
    fn many_renew_less_often_and_never_too_rarely() {
        let mut leases = Leases::new(ELECTION, ms(0));
        let heartbeat = |leases: &mut Leases| match leases.renew(S1, ms(1)) {
            Renewal::Granted { heartbeat } => heartbeat.map(|heartbeat| heartbeat.as_millis()),
            other => panic!("{other:?}"),
        };
        let mut seen = Vec::new();
        for sessions in 1..=20_000 {
            leases.arm(SessionId(sessions), lease(), ms(0));
            if [1, 2_500, 2_501, 5_000, 5_001, 20_000].contains(&sessions) {
                seen.push(heartbeat(&mut leases));
            }
        }
        // 10 s less 2 s of margin and twice 2.7 s of a failover.
        assert_eq!(seen, [None, None, Some(2_000), Some(2_000), Some(2_600), Some(2_600)]);
        let stretched = Lease { heartbeat: Duration::from_millis(2_600), ..lease() };
        assert!(stretched.outlasts(model::settings::Failover::Default.election()));
    }

    #[test]
    fn once_the_end_is_proposed_no_renewal_is_granted() {
        let mut leases = Leases::new(ELECTION, ms(0));
        leases.arm(S1, lease(), ms(0));
        assert!(leases.end(S1));
        assert!(!leases.end(S1));
        assert_eq!(leases.renew(S1, ms(1)), Renewal::Ending);
        leases.forget(S1);
        assert_eq!(leases.renew(S1, ms(1)), Renewal::Unknown);
    }
}
