//! Workers come and go: greeting, registering, re-attaching, what they report, and their end.
//!
//! A worker that says hello with its live session goes on with it: no command, its unacknowledged reports first, then
//! the orders it has not had, stops for what the state does not know, and a report in its name for what it should have
//! and has not.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use machine::state::State;
use machine::state::sessions::Session;
use machine::{Command, OpenSession, Opened, Rejection, Reply};
use model::blob::sha256;
use model::validate::validate_offer;
use model::{Capacity, Seq, SessionId};

use crate::leases::Renewal;
use crate::propose::Item;
use crate::{Action, FromWorker, Hello, Leader, Now, Offer, Standing, StreamId, ToWorker};

/// Approximate bytes in the log; of an `OpenSession` beside what the worker says of itself.
const OPEN_BYTES: usize = 512;
const END_BYTES: usize = 32;

/// How far a worker's stream has come.
#[derive(Debug)]
pub(crate) enum Stage {
    /// It has said hello before this leader was ready.
    Waiting(Box<Hello>),
    /// Its `OpenSession` is queued or in flight.
    Registering,
    /// Welcomed back; its unacknowledged reports are on their way into the log.
    Attaching { session: SessionId, hello: Box<Hello> },
    /// Has had the orders up to `sent`.
    Attached { session: SessionId, sent: Seq },
    /// Has been told that its session is over.
    Ended,
}

impl Stage {
    pub(crate) fn session(&self) -> Option<SessionId> {
        match self {
            Stage::Attaching { session, .. } | Stage::Attached { session, .. } => Some(*session),
            Stage::Waiting(_) | Stage::Registering | Stage::Ended => None,
        }
    }
}

pub(crate) struct Registration {
    stream: StreamId,
    secret_hash: u64,
}

/// What the state keeps of a worker's secret.
pub fn secret_hash(secret: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = sha256(secret);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl Leader {
    pub(crate) fn hear(
        &mut self,
        stream: StreamId,
        message: FromWorker,
        state: &State,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if self.standing == Standing::Over {
            self.turn_away(stream, out);
            return;
        }
        match message {
            FromWorker::Hello(hello) => {
                self.detach(stream);
                self.greet(stream, hello, state, now, out);
            }
            FromWorker::Heartbeat { number } => self.renew(stream, number, now, out),
            FromWorker::Reports(reports) => self.report(stream, reports, out),
            FromWorker::Goodbye => self.goodbye(stream),
        }
    }

    /// Greets those who came too early.
    pub(crate) fn greet_waiting(&mut self, state: &State, now: Now, out: &mut Vec<Action>) {
        for (stream, stage) in std::mem::take(&mut self.streams) {
            match stage {
                Stage::Waiting(hello) => self.greet(stream, hello, state, now, out),
                other => drop(self.streams.insert(stream, other)),
            }
        }
    }

    /// The stream is gone, or starts afresh.
    pub(crate) fn detach(&mut self, stream: StreamId) {
        let session = self.streams.remove(&stream).and_then(|stage| stage.session());
        if let Some(session) = session
            && self.attached.get(&session) == Some(&stream)
        {
            self.attached.remove(&session);
        }
    }

    fn turn_away(&mut self, stream: StreamId, out: &mut Vec<Action>) {
        self.detach(stream);
        out.push(Action::Send { stream, message: ToWorker::NotLeader });
        out.push(Action::Close { stream });
    }

    pub(crate) fn greet(
        &mut self,
        stream: StreamId,
        hello: Box<Hello>,
        state: &State,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if self.standing == Standing::Starting || !state.is_bootstrapped() {
            self.streams.insert(stream, Stage::Waiting(hello));
            return;
        }
        // It has seen a later leader, or there may be one.
        if hello.term > self.term || !self.leases.has_quorum(now.moment) {
            return self.turn_away(stream, out);
        }
        // Not worth an entry: apply would refuse it too.
        let errors = validate_offer(&hello.worker, &hello.offer.capacity, &hello.offer.labels);
        if !errors.is_empty() {
            return self.refuse(stream, &Rejection::Invalid { errors }, out);
        }
        let live = live_session(&hello.worker, state).filter(|session| !self.leases.is_ending(session.id));
        match (live, hello.session) {
            (Some(live), _) if live.secret_hash != secret_hash(&hello.secret) => {
                self.refuse(stream, &Rejection::WorkerLive { worker: hello.worker.clone() }, out);
            }
            (Some(live), Some(own)) if live.id == own => {
                if live.allocations.is_empty() && hello.holds.is_empty() && !is_offer_of(&hello.offer, live) {
                    // It was started anew with other figures and has nothing to lose: it registers with those.
                    self.end(live.id);
                    return self.tell_ended(stream, out);
                }
                self.attach(stream, hello, live, state, now, out);
            }
            (_, Some(_)) => self.tell_ended(stream, out),
            // It does not know of its session: nothing of that can be running.
            (Some(live), None) => {
                self.end(live.id);
                self.open(stream, *hello, state, out);
            }
            (None, None) => self.open(stream, *hello, state, out),
        }
    }

    fn open(&mut self, stream: StreamId, hello: Hello, state: &State, out: &mut Vec<Action>) {
        let secret_hash = secret_hash(&hello.secret);
        match self.registering.entry(hello.worker.clone()) {
            Slot::Vacant(slot) => {
                slot.insert(Registration { stream, secret_hash });
            }
            // The same process again: the newest stream gets the answer.
            Slot::Occupied(mut slot) if slot.get().secret_hash == secret_hash => {
                let old = std::mem::replace(&mut slot.get_mut().stream, stream);
                self.streams.insert(stream, Stage::Registering);
                if old != stream && self.streams.remove(&old).is_some() {
                    out.push(Action::Close { stream: old });
                }
                return;
            }
            Slot::Occupied(_) => {
                return self.refuse(stream, &Rejection::WorkerLive { worker: hello.worker }, out);
            }
        }
        self.streams.insert(stream, Stage::Registering);
        let Hello { worker, offer, .. } = hello;
        let Offer { capacity, labels, kinds, functions, isolation } = offer;
        let session = self.next_session(state);
        let bytes = OPEN_BYTES + worker.len() + said_bytes(&capacity, &labels, &functions) + isolation.len();
        let item = Item::Open { worker: worker.clone() };
        let open =
            OpenSession { session, worker, secret_hash, capacity, labels, kinds, functions, isolation };
        self.lanes.workers.push((Command::OpenSession(open), item), bytes);
    }

    /// The reply to an `OpenSession`.
    pub(crate) fn registered(
        &mut self,
        worker: &str,
        reply: Reply,
        state: &State,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let Some(registration) = self.registering.remove(worker) else { return };
        let stream = registration.stream;
        let is_here = matches!(self.streams.get(&stream), Some(Stage::Registering));
        match reply {
            Reply::SessionOpened(opened) => {
                let Opened { session, lease } = *opened;
                self.leases.arm(session, lease, now.moment);
                let Some(row) = state.session(session).filter(|row| is_here && !row.ended) else { return };
                self.attached.insert(session, stream);
                self.streams.insert(stream, Stage::Attached { session, sent: 0 });
                self.welcome(stream, row, state, out);
                self.send_up_to(session, row.last_seq, state, out);
            }
            Reply::Rejected(rejection) if is_here => self.refuse(stream, &rejection, out),
            _ => {}
        }
    }

    fn welcome(&self, stream: StreamId, session: &Session, state: &State, out: &mut Vec<Action>) {
        let limits = state.limits();
        let message = ToWorker::Welcome {
            session: session.id,
            lease: session.lease,
            result_bytes_max: limits.result_bytes_max,
            tail_bytes_max: limits.tail_bytes_max,
        };
        out.push(Action::Send { stream, message });
        self.send_standing(&session.worker, state, out);
    }

    /// A worker is back with its live session.
    fn attach(
        &mut self,
        stream: StreamId,
        mut hello: Box<Hello>,
        session: &Session,
        state: &State,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        match self.leases.renew(session.id, now.moment) {
            Renewal::Granted { .. } => {}
            Renewal::Unknown => self.leases.arm(session.id, session.lease, now.moment),
            Renewal::NotLeader => return self.turn_away(stream, out),
            Renewal::Ending => return self.tell_ended(stream, out),
        }
        let id = session.id;
        // It says the reports of an earlier stream again in its hello, and what it has lost comes out anew.
        self.lanes.workers.retain(|(_, item)| match item {
            Item::Reports { session, .. } | Item::Unanswered { session } => *session != id,
            _ => true,
        });
        let bytes = hello.reports.as_ref().map_or(0, |reports| reports.bytes);
        if !self.lanes.workers.has_room(bytes) {
            return self.turn_away(stream, out);
        }
        if let Some(old) = self.attached.insert(id, stream) {
            self.streams.remove(&old);
            out.push(Action::Close { stream: old });
        }
        self.welcome(stream, session, state, out);
        let reports = hello.reports.take().filter(|reports| !reports.reports.is_empty());
        let Some(reports) = reports else { return self.reconcile(stream, id, &hello, state, now, out) };
        self.streams.insert(stream, Stage::Attaching { session: id, hello });
        self.queue_reports(stream, id, reports);
    }

    fn renew(&mut self, stream: StreamId, number: u64, now: Now, out: &mut Vec<Action>) {
        let Some(session) = self.streams.get(&stream).and_then(Stage::session) else { return };
        match self.leases.renew(session, now.moment) {
            Renewal::Granted { heartbeat } => {
                self.tally.renewals += 1;
                out.push(Action::Send { stream, message: ToWorker::Renewed { number, heartbeat } });
            }
            Renewal::NotLeader => self.turn_away(stream, out),
            // It learns of the end once that is in the state.
            Renewal::Ending => {}
            Renewal::Unknown => self.tell_ended(stream, out),
        }
    }

    /// It runs nothing and will start nothing: its session need not wait for the end of its lease.
    fn goodbye(&mut self, stream: StreamId) {
        if let Some(session) = self.streams.get(&stream).and_then(Stage::session) {
            self.end(session);
        }
    }

    /// Proposes the ends of the leases that are over.
    pub(crate) fn expire(&mut self, now: Now) {
        for session in self.leases.expired(now.moment) {
            self.tally.sessions_expired += 1;
            self.end(session);
        }
    }

    fn end(&mut self, session: SessionId) {
        if self.leases.end(session) {
            self.lanes.workers.push((Command::EndSession { session }, Item::End { session }), END_BYTES);
        }
    }

    /// A session is live in the state.
    pub(crate) fn opened(&mut self, session: SessionId, state: &State, now: Now) {
        let live = state.session(session).filter(|row| !row.ended && !self.leases.is_ending(session));
        if let Some(row) = live
            && !self.leases.is_armed(session)
        {
            self.leases.arm(session, row.lease, now.moment);
        }
    }

    /// A session has ended in the state.
    pub(crate) fn ended(&mut self, session: SessionId, out: &mut Vec<Action>) {
        self.leases.forget(session);
        if let Some(stream) = self.attached.get(&session).copied() {
            self.tell_ended(stream, out);
        }
    }

    pub(crate) fn tell_ended(&mut self, stream: StreamId, out: &mut Vec<Action>) {
        self.detach(stream);
        self.streams.insert(stream, Stage::Ended);
        out.push(Action::Send { stream, message: ToWorker::SessionEnded });
    }

    fn refuse(&mut self, stream: StreamId, rejection: &Rejection, out: &mut Vec<Action>) {
        self.detach(stream);
        let (code, fix) = match rejection {
            Rejection::WorkerLive { .. } => (
                "worker-live",
                "start it with its own data directory or under another --name, or wait for the old one's lease to end",
            ),
            Rejection::Limit { .. } => (
                "limit",
                "raise it with `baton config set limits.workers_max N`, or `baton worker forget` the gone",
            ),
            Rejection::Invalid { .. } => ("invalid", "correct its name, labels or resources"),
            _ => ("internal", "start it again; if that does not help, report it"),
        };
        let message = ToWorker::Refused { code, message: rejection.to_string(), fix };
        out.push(Action::Send { stream, message });
        out.push(Action::Close { stream });
    }
}

/// Bytes in the log of what a worker says of itself, a few for each length and number included.
fn said_bytes(capacity: &Capacity, labels: &BTreeMap<String, String>, functions: &[String]) -> usize {
    let resources =
        capacity.total.named.custom.keys().chain(capacity.indexed.keys()).map(|name| name.len() + 12);
    let labels = labels.iter().map(|(label, value)| label.len() + value.len() + 8);
    let functions = functions.iter().map(|name| name.len() + 4);
    resources.chain(labels).chain(functions).sum()
}

fn live_session<'a>(worker: &str, state: &'a State) -> Option<&'a Session> {
    let session = state.session(state.worker(worker)?.session?)?;
    (!session.ended).then_some(session)
}

fn is_offer_of(offer: &Offer, session: &Session) -> bool {
    offer.capacity == session.capacity
        && offer.labels == session.labels
        && offer.kinds == session.kinds
        && offer.functions == session.functions
}
