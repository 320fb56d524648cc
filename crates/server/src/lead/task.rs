//! The task that owns the leader: wait for what happens, let the leader decide under one reading of the state, do what
//! it says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use futures::StreamExt;
use futures::future::{BoxFuture, OptionFuture};
use futures::stream::FuturesUnordered;
use leader_core::{Action, Event, Leader, Now, ProposalId, StreamId, Ticket};
use model::{Moment, Term};
use replica::{Feed, Happened, Leadership, ProposeError, Proposed, ReadError, Replica, Subscription};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;
use tracing::{debug, info, warn};
use wire::v1;
use wire::v1::leader_message::Message;
use wire::v1::worker_message::Message as FromWire;

use crate::clock::Clock;
use crate::lead::convert::{self, Heard};
use crate::lead::held::Held;
use crate::lead::logs::{self, Fetches};
use crate::lead::{Arrival, Config, Control, FetchError, Metrics, WriteError, WriteRequest, Written};

/// Events that one reading of the state takes in: it is short, because apply waits meanwhile.
const EVENTS_PER_STEP_MAX: usize = 256;
/// What one step takes in, whether it makes an event or not.
const MESSAGES_PER_STEP_MAX: usize = 1_024;
/// After a leadership that ended by itself although Raft still says that this replica leads.
const REST: Duration = Duration::from_millis(20);

pub(super) struct Inbox {
    pub writes: mpsc::Receiver<WriteRequest>,
    pub messages: mpsc::Receiver<Arrival>,
    pub control: mpsc::UnboundedReceiver<Control>,
}

/// What ended a wait. One lives at a time.
#[allow(clippy::large_enum_variant)]
enum Woken {
    Leadership(Leadership),
    /// A read index was confirmed, or not.
    Read(Result<u64, ReadError>),
    Proposal(Ended),
    Feed(Feed),
    Control(Control),
    Message(Arrival),
    /// Messages that were held wait to be taken in.
    Released,
    Write(WriteRequest),
    Timer,
    Stopped,
}

/// A proposal has come to its end.
pub(super) struct Ended {
    pub term: Term,
    pub proposal: ProposalId,
    pub began: Moment,
    pub result: Result<Proposed, ProposeError>,
}

/// Whether another replica leads.
enum Elsewhere {
    Known,
    /// There may be a leader soon, here or elsewhere: to go from one replica to the next would not find it sooner, and
    /// thousands of workers that do take the processor from the election.
    Unknown,
    Lost,
}

pub(super) type Outgoing = mpsc::Sender<Result<v1::LeaderMessage, Status>>;

pub(super) struct Task {
    pub(super) replica: Arc<Replica>,
    pub(super) config: Config,
    pub(super) clock: Clock,
    pub(super) counts: Arc<crate::metrics::Metrics>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) inbox: Inbox,
    pub(super) leadership: watch::Receiver<Leadership>,
    /// While this replica leads.
    pub(super) feed: Option<Subscription>,
    pub(super) reading: Option<BoxFuture<'static, Result<u64, ReadError>>>,
    pub(super) leader: Option<Leader>,
    /// Leaders whose proposals have not all come to their end.
    pub(super) retired: Vec<Leader>,
    pub(super) in_flight: FuturesUnordered<BoxFuture<'static, Ended>>,
    pub(super) streams: BTreeMap<u64, Outgoing>,
    /// While nobody is known to lead.
    held: Held,
    pub(super) fetches: Fetches,
    pub(super) waiting: BTreeMap<Ticket, oneshot::Sender<Result<Written, WriteError>>>,
    pub(super) last_ticket: u64,
    pub(super) events: Vec<Event>,
    /// Empty between two steps. Kept, as the events are, because under load a new one would grow to a megabyte each time.
    pub(super) actions: Vec<Action>,
    pub(super) wake: Option<Moment>,
    pub(super) quorum_at: Option<Moment>,
    pub(super) clocks_at: Moment,
    /// Not to lead again before.
    pub(super) rest_until: Moment,
}

impl Task {
    pub fn new(
        replica: Arc<Replica>,
        config: Config,
        clock: Clock,
        counts: Arc<crate::metrics::Metrics>,
        metrics: Arc<Metrics>,
        inbox: Inbox,
    ) -> Task {
        let mut leadership = replica.leadership();
        leadership.mark_changed();
        Task {
            replica,
            config,
            clock,
            counts,
            metrics,
            inbox,
            leadership,
            feed: None,
            reading: None,
            leader: None,
            retired: Vec::new(),
            in_flight: FuturesUnordered::new(),
            streams: BTreeMap::new(),
            held: Held::default(),
            fetches: Fetches::default(),
            waiting: BTreeMap::new(),
            last_ticket: 0,
            events: Vec::new(),
            actions: Vec::new(),
            wake: None,
            quorum_at: None,
            clocks_at: Moment(0),
            rest_until: Moment(0),
        }
    }

    pub async fn run(mut self) {
        loop {
            match self.next_event().await {
                Woken::Stopped => break,
                woken => self.handle(woken),
            }
            self.drain();
            self.look_at_held();
            self.step();
            // What was done may have cost a stream.
            while !self.events.is_empty() {
                self.step();
            }
        }
        self.abdicate();
    }

    /// What is ready first, in this order: what ends leadership, what was applied, workers, clients.
    async fn next_event(&mut self) -> Woken {
        let wake = self.wake.into_iter().chain(self.held.look_at()).min();
        let wait = wake.map(|at| tokio::time::sleep(at.since(self.clock.moment())));
        let feed = OptionFuture::from(self.feed.as_mut().map(Subscription::next));
        tokio::select! {
            biased;
            changed = self.leadership.changed() => match changed {
                Ok(()) => Woken::Leadership(*self.leadership.borrow_and_update()),
                Err(_) => Woken::Stopped,
            },
            Some(feed) = feed => feed.map_or(Woken::Stopped, Woken::Feed),
            Some(ended) = self.in_flight.next() => Woken::Proposal(ended),
            Some(read) = OptionFuture::from(self.reading.as_mut()) => Woken::Read(read),
            control = self.inbox.control.recv() => control.map_or(Woken::Stopped, Woken::Control),
            () = std::future::ready(()), if self.held.is_released() => Woken::Released,
            Some(arrival) = self.inbox.messages.recv() => Woken::Message(arrival),
            Some(write) = self.inbox.writes.recv() => Woken::Write(write),
            Some(()) = OptionFuture::from(wait) => Woken::Timer,
        }
    }

    /// Takes in what else is there already, so that one step and one entry serve many.
    fn drain(&mut self) {
        // Output of attempts makes no events: without a bound a stream of it would hold up every step.
        for _ in 0..MESSAGES_PER_STEP_MAX {
            if self.events.len() >= EVENTS_PER_STEP_MAX {
                return;
            }
            if let Some(feed) = self.feed.as_mut().and_then(|feed| feed.next().now_or_never()).flatten() {
                self.handle(Woken::Feed(feed));
            } else if let Some(Some(ended)) = self.in_flight.next().now_or_never() {
                self.handle(Woken::Proposal(ended));
            } else if let Ok(control) = self.inbox.control.try_recv() {
                self.handle(Woken::Control(control));
            } else if self.held.is_released() {
                self.handle(Woken::Released);
            } else if let Ok(arrival) = self.inbox.messages.try_recv() {
                self.handle(Woken::Message(arrival));
            } else if let Ok(write) = self.inbox.writes.try_recv() {
                self.handle(Woken::Write(write));
            } else {
                return;
            }
        }
    }

    fn handle(&mut self, woken: Woken) {
        match woken {
            Woken::Leadership(leadership) => self.led(leadership),
            Woken::Read(Ok(_)) => {
                self.reading = None;
                self.events.push(Event::Ready);
            }
            Woken::Read(Err(error)) => {
                debug!(%error, "no read index yet");
                self.reading = self.leader.is_some().then(|| read_index(&self.replica));
            }
            Woken::Proposal(ended) => self.ended(ended),
            Woken::Feed(Feed::Applied { index, applied }) => {
                self.events.push(Event::Applied { index, applied })
            }
            Woken::Feed(Feed::Installed { .. } | Feed::Lagged { .. }) => self.events.push(Event::Resync),
            Woken::Control(control) => self.control(control),
            Woken::Message(arrival) => self.message(arrival),
            Woken::Released => self.take_released(),
            Woken::Write(request) => self.write(request),
            Woken::Timer => self.try_to_lead(),
            Woken::Stopped => {}
        }
    }
}

// Leadership.
impl Task {
    fn led(&mut self, leadership: Leadership) {
        let term = leadership.term();
        if self.leader.as_ref().map(Leader::term) != term {
            self.abdicate();
            self.try_to_lead();
        }
    }

    /// Begins to lead if Raft says so and nothing of an earlier leader of this term is in flight.
    fn try_to_lead(&mut self) {
        if self.leader.is_some() {
            return;
        }
        self.wake = None;
        let Some(term) = self.leadership.borrow().term() else { return };
        // Its entries may still be applied: the ids in them must not be chosen again.
        if self.retired.iter().any(|leader| leader.term() == term) {
            return;
        }
        let now = self.now();
        if now.moment < self.rest_until {
            self.wake = Some(self.rest_until);
            return;
        }
        // Before the state is read, so that nothing falls between.
        self.feed = Some(self.replica.applied());
        let config = self.core_config();
        let mut leader = self.replica.read(|state| Leader::new(config, term, state, now));
        self.arm(&mut leader);
        self.leader = Some(leader);
        self.reading = Some(read_index(&self.replica));
        self.quorum_at = None;
        self.metrics.leaderships.fetch_add(1, Ordering::Relaxed);
        info!(term, "this replica leads");
        self.held.release();
    }

    #[cfg(feature = "chaos")]
    fn arm(&self, leader: &mut Leader) {
        self.config.mutant.into_iter().for_each(|mutant| leader.mutate(mutant));
    }

    #[cfg(not(feature = "chaos"))]
    fn arm(&self, _: &mut Leader) {}

    fn core_config(&self) -> leader_core::Config {
        // What the cluster was founded with, for as long as it has no settings of its own.
        let founded = self.replica.identity().failover;
        let failover = self
            .replica
            .read(|state| if state.is_bootstrapped() { state.settings().failover } else { founded });
        let members = self.replica.status().members;
        leader_core::Config {
            cluster: self.config.cluster.clone(),
            settings: model::Settings::preset(failover),
            level: self.config.level,
            next_node: members.iter().map(|member| member.id).max().unwrap_or(0) + 1,
            // Never shorter than what Raft itself waits.
            election_timeout_max: failover.election().timeout_max.max(founded.election().timeout_max),
        }
    }

    /// Ends this leadership as far as workers and clients are concerned.
    fn abdicate(&mut self) {
        let Some(mut leader) = self.leader.take() else { return };
        let term = leader.term();
        info!(term, "this replica leads no longer");
        let (events, now) = (std::mem::take(&mut self.events), self.now());
        let mut actions = Vec::new();
        // What has been heard already still counts: an end of a proposal, a client that waits.
        self.replica.read(|state| {
            events.into_iter().for_each(|event| leader.handle(event, state, now, &mut actions))
        });
        leader.resign(&mut actions);
        self.perform(term, 0, &mut actions);
        self.events.clear();
        // Those that the leader did not know yet.
        for stream in self.streams.keys().copied().collect::<Vec<_>>() {
            self.turn_away(stream);
        }
        self.fetches.leadership_ended();
        (self.feed, self.reading, self.wake) = (None, None, None);
        if !leader.is_settled() {
            self.retired.push(leader);
        }
        self.show();
    }

    fn ended(&mut self, ended: Ended) {
        let Ended { term, proposal, began, result } = ended;
        let event = match result {
            Ok(Proposed { index, replies }) => Event::Committed { proposal, index, replies },
            Err(error) => {
                self.metrics.proposals_failed.fetch_add(1, Ordering::Relaxed);
                debug!(term, %error, "a proposal came to nothing");
                Event::Failed { proposal, maybe: error.happened() == Happened::Maybe }
            }
        };
        debug!(took = ?self.clock.moment().since(began), "an entry came to its end");
        let has_failed = matches!(event, Event::Failed { .. });
        if self.leader.as_ref().is_some_and(|leader| leader.term() == term) {
            if !has_failed {
                return self.events.push(event);
            }
            // Workers and clients say again what was in it, to the next leader or to this one anew.
            self.rest_until = self.clock.moment().plus(REST);
            self.abdicate();
        }
        self.bury(term, event);
    }

    /// A proposal of a leader of the past.
    fn bury(&mut self, term: Term, event: Event) {
        let now = self.now();
        let Some(place) = self.retired.iter().position(|leader| leader.term() == term) else { return };
        let leader = &mut self.retired[place];
        let mut actions = Vec::new();
        self.replica.read(|state| leader.handle(event, state, now, &mut actions));
        if leader.is_settled() {
            self.retired.remove(place);
        }
        self.perform(term, 0, &mut actions);
        self.try_to_lead();
    }

    /// Another replica that leads, as far as is known.
    pub(super) fn leader_address(&self) -> Option<String> {
        let status = self.replica.status();
        let leader = status.leader.filter(|leader| leader.id != status.id)?;
        (!leader.api_addr.is_empty()).then_some(leader.api_addr)
    }

    pub(super) fn now(&self) -> Now {
        Now { moment: self.clock.moment(), wall: self.clock.wall() }
    }
}

// What comes in.
impl Task {
    fn write(&mut self, request: WriteRequest) {
        let WriteRequest { write, bytes, answer } = request;
        if self.leader.is_none() {
            let leader = self.leader_address();
            // Whoever asked may have gone.
            drop(answer.send(Err(WriteError::NotLeader { leader })));
            return;
        }
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.waiting.insert(ticket, answer);
        self.events.push(Event::Write { ticket, write, bytes });
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Opened { stream, outgoing } => {
                self.streams.insert(stream, outgoing);
                if self.leader.is_none() {
                    match self.lead_elsewhere() {
                        Elsewhere::Unknown => self.held.hold(stream, self.clock.moment()),
                        Elsewhere::Known | Elsewhere::Lost => self.turn_away(stream),
                    }
                }
            }
            Control::Closed { stream } => self.closed(stream),
            Control::Fetch { wanted, answer } => {
                // Whoever asked may have gone; then it closes the fetch as well.
                drop(answer.send(self.fetch(wanted)));
            }
            Control::CloseFetch { fetch } => {
                if let Some(stream) = self.fetches.close(fetch) {
                    self.send(stream, Message::CloseFetch(v1::CloseFetch { fetch }));
                }
            }
        }
    }

    pub(super) fn closed(&mut self, stream: u64) {
        self.streams.remove(&stream);
        self.held.forget(stream);
        self.fetches.worker_left(stream);
        if self.leader.is_some() {
            self.events.push(Event::StreamClosed { stream: StreamId(stream) });
        }
    }

    fn turn_away(&mut self, stream: u64) {
        let leader = self.leader_address().unwrap_or_default();
        self.send(stream, Message::NotLeader(v1::NotLeader { leader }));
        self.streams.remove(&stream);
    }

    fn take_released(&mut self) {
        if let Some(arrival) = self.held.next_released() {
            // It waited for a leader, not for this task.
            self.message(Arrival { at: self.clock.moment(), ..arrival });
        }
    }

    /// Sends away those that wait for a leader, once another one leads or none has for long.
    fn look_at_held(&mut self) {
        let now = self.clock.moment();
        if self.held.look_at().is_none_or(|at| now < at) {
            return;
        }
        match self.lead_elsewhere() {
            Elsewhere::Unknown => self.held.look_again(now),
            Elsewhere::Known | Elsewhere::Lost => {
                self.held.take_streams().into_iter().for_each(|stream| self.turn_away(stream));
            }
        }
    }

    fn lead_elsewhere(&self) -> Elsewhere {
        let (silence, election) = (self.replica.leader_silence(), self.config.failover.election());
        if silence <= election.heartbeat * 2 && self.leader_address().is_some() {
            return Elsewhere::Known;
        }
        // What a failover takes at the most: the leader's lease and two election timeouts.
        if silence <= election.timeout_max * 3 { Elsewhere::Unknown } else { Elsewhere::Lost }
    }

    fn message(&mut self, arrival: Arrival) {
        let Some(arrival) = self.held.keep(arrival) else { return };
        let Arrival { stream, message, at } = arrival;
        self.metrics.worker_waits.observe(self.clock.moment().since(at));
        if self.leader.is_none() || !self.streams.contains_key(&stream) {
            return;
        }
        let is_hello = matches!(message.message, Some(FromWire::Hello(_)));
        match convert::heard(message) {
            Ok(Heard::Leader(message)) => {
                self.events.push(Event::Worker { stream: StreamId(stream), message });
            }
            Ok(Heard::Log(chunk)) => {
                let fetch = chunk.fetch;
                if self.fetches.take(stream, chunk) {
                    self.send(stream, Message::CloseFetch(v1::CloseFetch { fetch }));
                }
            }
            Err(errors) => {
                warn!(stream, ?errors, "a worker's message cannot be read");
                if is_hello {
                    self.send(stream, convert::unreadable(&errors));
                }
                self.closed(stream);
            }
        }
    }

    fn fetch(&mut self, mut wanted: v1::FetchLog) -> Result<logs::Chunks, FetchError> {
        let Some(leader) = &self.leader else {
            return Err(FetchError::NotLeader { leader: self.leader_address() });
        };
        let (session, worker) = self.replica.read(|state| {
            let session = logs::locate(&wanted, state)?;
            Ok((session, state.session(session).map(|row| row.worker.clone()).unwrap_or_default()))
        })?;
        let stream = leader.stream_of(session).map(|stream| stream.0);
        let stream = stream.filter(|stream| self.streams.contains_key(stream));
        let Some(stream) = stream else {
            // Without a quorum no worker comes back here: they are with another leader, and so are its readers to be.
            return Err(match self.is_cut_off() {
                true => FetchError::NotLeader { leader: None },
                false => FetchError::WorkerAway { worker },
            });
        };
        let chunks = self.fetches.open(stream);
        wanted.fetch = chunks.id();
        self.send(stream, Message::FetchLog(wanted));
        Ok(chunks)
    }
}

impl Task {
    fn is_cut_off(&self) -> bool {
        self.quorum_age().is_none_or(|age| age > self.config.failover.election().timeout_max)
    }
}

fn read_index(replica: &Arc<Replica>) -> BoxFuture<'static, Result<u64, ReadError>> {
    let replica = replica.clone();
    async move { replica.read_index().await }.boxed()
}
