//! What the leader decides. Pure: it hears events, reads the committed state, and says what is to be done; the shell
//! around it has the clock, the sockets and the log.
//!
//! A [`Leader`] lives for one term. Everything it remembers is a cache of the state or of what is in flight: the next
//! leader reads the state and lets the workers say what they have.
//!
//! One step is: [`Leader::handle`] for each event, [`Leader::plan`] once, [`Leader::advance`] once.

mod dispatch;
pub mod event;
pub mod lanes;
pub mod leases;
mod planning;
mod propose;
mod reports;
mod sessions;
pub mod stamp;
mod tally;

use std::collections::BTreeMap;
use std::time::Duration;

use machine::state::State;
use model::{JobId, Moment, NodeId, SessionId, Settings, Term};

pub use event::{
    Action, Answer, Event, FromWorker, Gang, Held, Hello, Now, Offer, Order, ProposalId, Reports, StreamId,
    Ticket, ToWorker,
};
pub use sessions::secret_hash;
pub use tally::Tally;

use crate::dispatch::LineIndex;
use crate::leases::Leases;
use crate::planning::Planning;
use crate::propose::{Flight, LAG_MAX, Lanes};
use crate::sessions::{Registration, Stage};
use crate::stamp::Stamper;

/// What only the first leader of a cluster uses, and the election timing of the Raft group.
#[derive(Clone, Debug)]
pub struct Config {
    pub cluster: String,
    pub settings: Settings,
    /// The first node id that no replica has.
    pub next_node: NodeId,
    /// The behaviour level that a cluster is founded with.
    pub level: u32,
    pub election_timeout_max: Duration,
}

/// While something waits for a quorum.
const LOOK_FOR_QUORUM_EVERY: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Leads, but has no fresh read index yet.
    Starting,
    Ready,
    /// Only what is in flight is still of interest.
    Over,
}

pub struct Leader {
    config: Config,
    term: Term,
    standing: Standing,
    stamper: Stamper,
    leases: Leases,
    lanes: Lanes,
    flight: Flight,
    planning: Planning,
    streams: BTreeMap<StreamId, Stage>,
    /// The newest stream of each session.
    attached: BTreeMap<SessionId, StreamId>,
    /// By worker: whose `OpenSession` is queued or in flight.
    registering: BTreeMap<String, Registration>,
    lines: LineIndex,
    last_job: JobId,
    last_session: SessionId,
    clocks_agree: bool,
    tally: Tally,
}

impl Leader {
    /// To be made once the leader's own blank entry is applied: `state` then has everything of earlier terms.
    pub fn new(config: Config, term: Term, state: &State, now: Now) -> Leader {
        let leases = Leases::new(config.election_timeout_max, now.moment);
        let mut leader = Leader {
            config,
            term,
            standing: Standing::Starting,
            stamper: Stamper::new(state.stamp(), now.moment),
            leases,
            lanes: Lanes::default(),
            flight: Flight::default(),
            planning: Planning::default(),
            streams: BTreeMap::new(),
            attached: BTreeMap::new(),
            registering: BTreeMap::new(),
            lines: LineIndex::default(),
            last_job: state.last_job(),
            last_session: state.last_session(),
            clocks_agree: false,
            tally: Tally::default(),
        };
        for session in state.sessions().filter(|session| !session.ended) {
            leader.leases.inherit(session.id, session.lease, now.moment);
        }
        leader
    }

    /// Plants a bug.
    #[cfg(feature = "mutants")]
    pub fn mutate(&mut self, mutant: leases::Mutant) {
        self.leases.mutate(mutant);
    }

    pub fn term(&self) -> Term {
        self.term
    }

    pub fn is_ready(&self) -> bool {
        self.standing == Standing::Ready
    }

    /// One event, and everything that follows from it.
    pub fn step(&mut self, event: Event, state: &State, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        self.handle(event, state, now, &mut out);
        self.plan(state);
        self.advance(state, now, &mut out);
        out
    }

    /// Takes one event in. Proposals follow with [`Leader::advance`].
    pub fn handle(&mut self, event: Event, state: &State, now: Now, out: &mut Vec<Action>) {
        if let Event::QuorumAcked { at } = event {
            self.leases.quorum_acked(at);
        }
        self.leases.beat(now.moment);
        match event {
            Event::Ready => self.begin(state, now, out),
            Event::ClocksAgree => self.clocks_agree = true,
            Event::Write { ticket, write, bytes } => self.admit(ticket, *write, bytes, now, out),
            Event::Worker { stream, message } => self.hear(stream, message, state, now, out),
            Event::StreamClosed { stream } => self.detach(stream),
            Event::Applied { applied, .. } => self.follow(&applied, state, now, out),
            Event::Resync => self.resync(state, now, out),
            Event::Committed { proposal, index, replies } => {
                self.settle(proposal, index, replies, state, now, out);
            }
            Event::Failed { proposal, maybe } => self.give_up(proposal, maybe, out),
            Event::QuorumAcked { .. } | Event::Timer => {}
        }
    }

    fn begin(&mut self, state: &State, now: Now, out: &mut Vec<Action>) {
        if self.standing != Standing::Starting {
            return;
        }
        self.standing = Standing::Ready;
        self.planning.wake();
        self.greet_waiting(state, now, out);
    }

    /// The leadership is over. What was never proposed is answered; what is in flight is answered as it ends.
    pub fn resign(&mut self, out: &mut Vec<Action>) {
        self.standing = Standing::Over;
        self.planning.clear();
        for ticket in self.lanes.drain_clients() {
            out.push(Action::Answer { ticket, answer: Answer::NotLeader });
        }
        for stream in std::mem::take(&mut self.streams).into_keys() {
            out.push(Action::Send { stream, message: ToWorker::NotLeader });
            out.push(Action::Close { stream });
        }
        self.attached.clear();
        self.registering.clear();
    }

    /// Nothing is in flight any more: after [`Leader::resign`] this value may go.
    pub fn is_settled(&self) -> bool {
        self.flight.is_empty()
    }

    /// When to call again at the latest, if no event comes before.
    pub fn next_wake(&self, state: &State, now: Now) -> Option<Moment> {
        let refusal = self.lanes.has_clients().then(|| self.refusal_at());
        if self.standing != Standing::Ready {
            return refusal;
        }
        let is_held_up =
            !self.leases.has_quorum(now.moment) && (!self.lanes.is_empty() || self.flight.has_clients());
        let look_again = is_held_up.then(|| now.moment.plus(LOOK_FOR_QUORUM_EVERY));
        let wakes = [self.leases.next_wake(now.moment), self.tick_at(state, now), refusal, look_again];
        wakes.into_iter().flatten().min()
    }

    /// What was counted since the last call.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Where the worker of this session is heard.
    pub fn stream_of(&self, session: SessionId) -> Option<StreamId> {
        self.attached.get(&session).copied()
    }

    /// Whether it wants to know if the voters' clocks agree.
    pub fn wants_clocks(&self, now: Now) -> bool {
        self.standing == Standing::Ready && !self.clocks_agree && self.stamper.lag(now) > LAG_MAX
    }

    pub fn in_flight(&self) -> usize {
        self.flight.len()
    }

    pub fn queued(&self) -> Queued {
        self.lanes.queued()
    }
}

/// What waits in the lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    pub workers: usize,
    pub controls: usize,
    pub submits: usize,
}
