//! What is decided, and done: the leader takes in what has been heard under one reading of the state, and what it says
//! is carried out in its order.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use leader_core::{Action, Event, Leader, ProposalId, ToWorker};
use model::{LogIndex, Term};
use replica::RaftState;
use tracing::{debug, warn};
use wire::v1;
use wire::v1::leader_message::Message;

use crate::lead::error::answer;
use crate::lead::task::{Ended, Task};
use crate::lead::{clocks, convert};

/// How old the knowledge of the quorum may be.
const QUORUM_EVERY: Duration = Duration::from_millis(20);
/// How often the voters' clocks are looked at while the log's wall clock is behind.
const CLOCKS_EVERY: Duration = Duration::from_millis(500);

impl Task {
    pub(super) fn step(&mut self) {
        if self.leader.is_none() {
            self.events.clear();
            return;
        }
        self.look_at_quorum();
        self.look_at_clocks();
        let now = self.now();
        let (clock, counts) = (&self.clock, &self.counts);
        let Some(leader) = &mut self.leader else { return };
        let mut actions = std::mem::take(&mut self.actions);
        let (applied, wake) = self.replica.read(|state| {
            for event in self.events.drain(..) {
                leader.handle(event, state, now, &mut actions);
            }
            if leader.wants_plan(state) {
                let began = clock.moment();
                leader.plan(state);
                counts.placement.observe(clock.moment().since(began));
            }
            leader.advance(state, now, &mut actions);
            (state.index(), leader.next_wake(state, now))
        });
        let term = leader.term();
        let wants_clocks = leader.wants_clocks(now).then(|| self.clocks_at.plus(CLOCKS_EVERY));
        self.wake = wake.into_iter().chain(wants_clocks).min();
        self.count();
        self.perform(term, applied, &mut actions);
        self.actions = actions;
        self.show();
    }

    fn look_at_quorum(&mut self) {
        let now = self.clock.moment();
        if self.quorum_at.is_some_and(|at| now.since(at) < QUORUM_EVERY) {
            return;
        }
        self.quorum_at = Some(now);
        if let Some(age) = self.quorum_age() {
            // First: whether there is a quorum decides what the other events come to.
            self.events.insert(0, Event::QuorumAcked { at: now.minus(age) });
        }
    }

    /// How long ago a quorum acknowledged this leader.
    pub(super) fn quorum_age(&self) -> Option<Duration> {
        let age = self.replica.quorum_acked();
        if age.is_some_and(|age| age <= self.config.failover.election().heartbeat * 2) {
            return age;
        }
        // Nobody acknowledges the only voter: it is a quorum by itself, as long as it leads.
        let status = self.replica.status();
        let is_alone = status.voters().all(|voter| voter.id == status.id);
        let leads = status.state == RaftState::Leader;
        if is_alone && leads { Some(Duration::ZERO) } else { age }
    }

    fn look_at_clocks(&mut self) {
        let now = self.now();
        let is_time = now.moment.since(self.clocks_at) >= CLOCKS_EVERY;
        let wants = self.leader.as_ref().is_some_and(|leader| leader.wants_clocks(now));
        if is_time && wants {
            self.clocks_at = now.moment;
            if clocks::agree(&self.replica, &self.clock) {
                self.events.push(Event::ClocksAgree);
            }
        }
    }

    fn count(&mut self) {
        let Some(leader) = &mut self.leader else { return };
        let tally = leader.take_tally();
        tally.queue_waits.iter().for_each(|(wait, tasks)| self.counts.queue_wait.observe_many(*wait, *tasks));
        if tally.sessions_expired > 0 {
            warn!(
                sessions = tally.sessions_expired,
                "workers were silent beyond their lease: their tasks are lost"
            );
        }
        self.metrics.add(&tally);
    }

    pub(super) fn show(&self) {
        self.metrics.show(self.leader.as_ref(), self.streams.len());
    }

    pub(super) fn perform(&mut self, term: Term, applied: LogIndex, actions: &mut Vec<Action>) {
        for action in actions.drain(..) {
            match action {
                Action::Propose { proposal, entry } => self.propose(term, proposal, entry),
                Action::Send { stream, message } => self.tell(term, applied, stream.0, message),
                Action::Close { stream } => drop(self.streams.remove(&stream.0)),
                Action::Answer { ticket, answer: given } => {
                    let Some(waiting) = self.waiting.remove(&ticket) else { continue };
                    // Whoever asked may have gone.
                    drop(waiting.send(answer(given, None)));
                }
            }
        }
    }

    fn propose(&mut self, term: Term, proposal: ProposalId, entry: machine::Entry) {
        let began = self.clock.moment();
        self.metrics.proposals.fetch_add(1, Ordering::Relaxed);
        // Queued here and now, in the leader's order; only the waiting is left to the future.
        let written = self.replica.propose(term, entry);
        self.in_flight.push(written.map(move |result| Ended { term, proposal, began, result }).boxed());
    }

    fn tell(&mut self, term: Term, applied: LogIndex, stream: u64, message: ToWorker) {
        let members = || self.replica.status().members;
        let replicas =
            || members().into_iter().map(|member| member.api_addr).filter(|it| !it.is_empty()).collect();
        let message = convert::said(message, replicas, || self.leader_address());
        self.send_as(term, applied, stream, message);
    }

    pub(super) fn send(&mut self, stream: u64, message: Message) {
        let term = self.leader.as_ref().map_or(0, Leader::term);
        let applied = self.replica.read(machine::State::index);
        self.send_as(term, applied, stream, message);
    }

    /// A worker that does not read is disconnected; nothing waits for it.
    fn send_as(&mut self, term: Term, applied: LogIndex, stream: u64, message: Message) {
        let Some(outgoing) = self.streams.get(&stream) else { return };
        let message = v1::LeaderMessage { term, applied, message: Some(message) };
        if outgoing.try_send(Ok(message)).is_err() {
            debug!(stream, "a worker does not read what it is sent; it is disconnected");
            self.closed(stream);
        }
    }
}
