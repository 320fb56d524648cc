//! From what waits to entries. The leader is the one ordered proposer of its term: it chooses every id, stamps every
//! entry and keeps a few proposals in flight; what arrives meanwhile becomes the next entry. No timer batches.
//!
//! Order within an entry: workers (reports, sessions), control, submits, tick, plan.

use std::collections::BTreeMap;
use std::time::Duration;

use machine::state::State;
use machine::{Bootstrap, Command, Entry, News, Op, Rejection, Reply, Stamp, Write};
use model::{JobId, JobSpec, LogIndex, Moment, SessionId, Verdict};
use scheduler::Over;

use crate::lanes::{
    CONTROLS_QUEUED_BYTES_MAX, CONTROLS_QUEUED_MAX, DrainRate, ENTRY_BYTES_MAX, Lane,
    REPORTS_QUEUED_BYTES_MAX, REPORTS_QUEUED_MAX, Room, SUBMITS_QUEUED_BYTES_MAX, SUBMITS_QUEUED_MAX,
};
use crate::{Action, Answer, Config, Leader, Now, ProposalId, Queued, Standing, StreamId, Ticket};

pub const PROPOSALS_IN_FLIGHT_MAX: usize = 8;
/// Of these at most so many with submits, so that a report never waits for a free one behind submits alone.
pub const SUBMIT_PROPOSALS_MAX: usize = 6;
/// Bytes of submits in flight, but for a single one that is larger: a report waits behind no more than these.
pub const SUBMIT_BYTES_IN_FLIGHT_MAX: usize = 512 << 10;
/// Bytes of one write.
pub const WRITE_BYTES_MAX: usize = 2 << 20;
/// Releases of periodic tasks in one entry.
const RELEASES_MAX: usize = 64;
/// The log's wall clock leaps when it is further behind than this.
pub(crate) const LAG_MAX: Duration = Duration::from_millis(500);

/// What an applied command's reply is for.
#[derive(Debug)]
pub(crate) enum Item {
    Client {
        ticket: Ticket,
    },
    /// A client's, which has been told that nobody knows.
    Told,
    Reports {
        stream: StreamId,
        session: SessionId,
        number: u64,
    },
    /// Reports whose reply nobody waits for: made here, on behalf of a worker that knows nothing of these attempts, or the
    /// first part of a worker's batch.
    Unanswered {
        session: SessionId,
    },
    Open {
        worker: String,
    },
    End {
        session: SessionId,
    },
    Plan {
        id: u64,
    },
    Tick,
    Release,
    Clock,
    Bootstrap,
}

pub(crate) struct ClientWrite {
    ticket: Ticket,
    write: Write,
    arrived: Moment,
}

pub(crate) struct Lanes {
    pub workers: Lane<(Command, Item)>,
    pub controls: Lane<ClientWrite>,
    pub submits: Lane<ClientWrite>,
    submits_rate: DrainRate,
    controls_rate: DrainRate,
}

impl Default for Lanes {
    fn default() -> Lanes {
        Lanes {
            workers: Lane::new(REPORTS_QUEUED_MAX, REPORTS_QUEUED_BYTES_MAX),
            controls: Lane::new(CONTROLS_QUEUED_MAX, CONTROLS_QUEUED_BYTES_MAX),
            submits: Lane::new(SUBMITS_QUEUED_MAX, SUBMITS_QUEUED_BYTES_MAX),
            submits_rate: DrainRate::default(),
            controls_rate: DrainRate::default(),
        }
    }
}

impl Lanes {
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty() && !self.has_clients()
    }

    pub fn has_clients(&self) -> bool {
        !self.controls.is_empty() || !self.submits.is_empty()
    }

    pub fn drain_clients(&mut self) -> Vec<Ticket> {
        self.controls.drain().chain(self.submits.drain()).map(|waiting| waiting.ticket).collect()
    }

    pub fn queued(&self) -> Queued {
        Queued { workers: self.workers.len(), controls: self.controls.len(), submits: self.submits.len() }
    }
}

/// Proposals whose end is not known yet.
#[derive(Default)]
pub(crate) struct Flight {
    proposals: BTreeMap<ProposalId, Proposed>,
    last: u64,
    with_submits: usize,
    submit_bytes: usize,
    /// Proposals that submit or free what could run at once and was not placed in the same entry.
    leaving_unplaced: usize,
    ticks: usize,
    bootstrapping: bool,
}

struct Proposed {
    items: Vec<Item>,
    /// Bytes of the submits in it.
    submits: Option<usize>,
    leaves_unplaced: bool,
}

impl Flight {
    pub fn len(&self) -> usize {
        self.proposals.len()
    }

    pub fn is_empty(&self) -> bool {
        self.proposals.is_empty()
    }

    fn add(&mut self, batch: Batch) -> (ProposalId, Vec<Command>) {
        self.last += 1;
        let id = ProposalId(self.last);
        self.with_submits += usize::from(batch.submits.is_some());
        self.submit_bytes += batch.submits.unwrap_or(0);
        self.leaving_unplaced += usize::from(batch.leaves_unplaced);
        self.ticks += usize::from(batch.items.iter().any(|item| matches!(item, Item::Tick)));
        self.bootstrapping |= batch.items.iter().any(|item| matches!(item, Item::Bootstrap));
        let Batch { items, submits, leaves_unplaced, .. } = batch;
        self.proposals.insert(id, Proposed { items, submits, leaves_unplaced });
        (id, batch.commands)
    }

    /// Whether a client waits for one of them.
    pub fn has_clients(&self) -> bool {
        let mut items = self.proposals.values().flat_map(|proposed| &proposed.items);
        items.any(|item| matches!(item, Item::Client { .. }))
    }

    /// Those who wait for one of them, who are not to be answered again.
    fn let_clients_go(&mut self) -> Vec<Ticket> {
        let items = self.proposals.values_mut().flat_map(|proposed| &mut proposed.items);
        let clients = items.filter_map(|item| {
            let Item::Client { ticket } = *item else { return None };
            *item = Item::Told;
            Some(ticket)
        });
        clients.collect()
    }

    fn remove(&mut self, id: ProposalId) -> Vec<Item> {
        let Some(proposed) = self.proposals.remove(&id) else { return Vec::new() };
        self.with_submits -= usize::from(proposed.submits.is_some());
        self.submit_bytes -= proposed.submits.unwrap_or(0);
        self.leaving_unplaced -= usize::from(proposed.leaves_unplaced);
        self.ticks -= usize::from(proposed.items.iter().any(|item| matches!(item, Item::Tick)));
        proposed.items
    }
}

/// An entry in the making.
#[derive(Default)]
struct Batch {
    commands: Vec<Command>,
    items: Vec<Item>,
    submits: Option<usize>,
    leaves_unplaced: bool,
    leaps: bool,
}

impl Batch {
    fn reserve(&mut self, more: usize) {
        self.commands.reserve(more);
        self.items.reserve(more);
    }

    fn push(&mut self, command: Command, item: Item) {
        self.commands.push(command);
        self.items.push(item);
    }
}

impl Leader {
    /// A client's write: queued, or refused at once.
    pub(crate) fn admit(
        &mut self,
        ticket: Ticket,
        write: Write,
        bytes: usize,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if let Some(answer) = self.refusal(&write, bytes, now) {
            out.push(Action::Answer { ticket, answer });
            return;
        }
        let lane = if is_submit(&write) { &mut self.lanes.submits } else { &mut self.lanes.controls };
        lane.push(ClientWrite { ticket, write, arrived: now.moment }, bytes);
    }

    fn refusal(&mut self, write: &Write, bytes: usize, now: Now) -> Option<Answer> {
        if self.standing == Standing::Over {
            return Some(Answer::NotLeader);
        }
        if bytes > WRITE_BYTES_MAX {
            return Some(Answer::TooLarge { bytes, max: WRITE_BYTES_MAX });
        }
        if self.is_cut_off(now.moment) {
            return Some(Answer::NoQuorum);
        }
        let (lane, rate, refused) = match is_submit(write) {
            true => (&self.lanes.submits, &self.lanes.submits_rate, &mut self.tally.refused_submits),
            false => (&self.lanes.controls, &self.lanes.controls_rate, &mut self.tally.refused_controls),
        };
        if lane.has_room(bytes) {
            return None;
        }
        *refused += 1;
        Some(Answer::Overloaded { retry_after: rate.retry_after(lane.len()) })
    }

    /// No quorum for so long that what has not been proposed never will be.
    fn is_cut_off(&self, now: Moment) -> bool {
        self.leases.without_quorum(now) > self.config.election_timeout_max
    }

    pub(crate) fn refusal_at(&self) -> Moment {
        self.leases.last_quorum().plus(2 * self.config.election_timeout_max).plus(Duration::from_millis(1))
    }

    /// Proposes what can be proposed now.
    pub fn advance(&mut self, state: &State, now: Now, out: &mut Vec<Action>) {
        if self.standing == Standing::Over {
            return;
        }
        if self.is_cut_off(now.moment) {
            let tickets = self.lanes.drain_clients().into_iter();
            out.extend(tickets.map(|ticket| Action::Answer { ticket, answer: Answer::NoQuorum }));
            // Another replica leads by now, as likely as not: a client that asks there under the same id is answered sooner.
            let tickets = self.flight.let_clients_go().into_iter();
            out.extend(tickets.map(|ticket| Action::Answer { ticket, answer: Answer::Unknown }));
        }
        // Without a quorum nothing is proposed: what waits can still be refused as not done.
        if self.standing != Standing::Ready || !self.leases.has_quorum(now.moment) {
            return;
        }
        self.expire(now);
        for (session, seq) in self.planning.recalls(state) {
            if self.send_recall(session, seq, state, out) {
                self.planning.recalled(session, seq);
            }
        }
        while self.flight.len() < PROPOSALS_IN_FLIGHT_MAX {
            let batch = self.next_batch(state, now);
            if batch.commands.is_empty() {
                return;
            }
            out.push(self.propose(batch, now));
        }
    }

    fn propose(&mut self, batch: Batch, now: Now) -> Action {
        let stamp: Stamp = if batch.leaps { self.stamper.leap(now) } else { self.stamper.stamp(now) };
        let (proposal, commands) = self.flight.add(batch);
        Action::Propose { proposal, entry: Entry { stamp, commands } }
    }

    fn next_batch(&mut self, state: &State, now: Now) -> Batch {
        let mut batch = Batch::default();
        if !state.is_bootstrapped() {
            self.add_bootstrap(&mut batch);
            return batch;
        }
        let mut room = Room::default();
        self.add_clock(&mut batch, now);
        // What was passed over once is not passed over again, whatever else there is to say.
        let kept = self.planning.bytes().filter(|_| self.planning.overdue);
        kept.into_iter().for_each(|bytes| room.reserve(bytes));
        while let Some((command, item)) = self.lanes.workers.pop_within(&mut room) {
            batch.push(command, item);
        }
        self.add_controls(&mut batch, &mut room, now.moment);
        self.add_submits(&mut batch, &mut room, state, now.moment);
        if self.flight.ticks == 0 && self.is_due(state, now) {
            batch.push(Command::Tick, Item::Tick);
            self.add_releases(&mut batch, state, now);
        }
        match kept {
            Some(_) => self.push_plan(&mut batch),
            None => self.add_plan(&mut batch, &mut room),
        }
        self.place_ahead(&mut batch, &mut room, state);
        batch.leaves_unplaced |= batch.items.iter().any(|item| matches!(item, Item::Release));
        batch
    }

    fn add_bootstrap(&mut self, batch: &mut Batch) {
        if self.flight.bootstrapping {
            return;
        }
        batch.leaps = true;
        let Config { cluster, settings, next_node, level, .. } = self.config.clone();
        batch.push(
            Command::Bootstrap(Bootstrap { cluster, settings, epoch: 0, next_node, level }),
            Item::Bootstrap,
        );
    }

    /// After an outage the log's wall clock is behind: it leaps once the voters agree what time it is.
    fn add_clock(&mut self, batch: &mut Batch, now: Now) {
        if !std::mem::take(&mut self.clocks_agree) || self.stamper.lag(now) <= LAG_MAX {
            return;
        }
        batch.leaps = true;
        batch.push(Command::SetClock, Item::Clock);
    }

    fn add_controls(&mut self, batch: &mut Batch, room: &mut Room, now: Moment) {
        let mut count = 0;
        while let Some(waiting) = self.lanes.controls.pop_within(room) {
            self.tally.lane_waits.push(now.since(waiting.arrived));
            batch.push(Command::Write(waiting.write), Item::Client { ticket: waiting.ticket });
            count += 1;
        }
        self.lanes.controls_rate.drained(count, self.lanes.controls.len(), now);
    }

    fn add_submits(&mut self, batch: &mut Batch, room: &mut Room, state: &State, now: Moment) {
        if self.flight.with_submits >= SUBMIT_PROPOSALS_MAX || self.planning.overdue {
            return;
        }
        let (mut count, mut bytes) = (0, 0);
        // Room for as many as the first is large: an entry of hundreds would else be copied at each doubling.
        let near = self.lanes.submits.next_bytes().map_or(0, |next| ENTRY_BYTES_MAX / next.max(1) + 1);
        batch.reserve(near.min(self.lanes.submits.len()));
        while let Some(next) = self.next_submit(bytes) {
            let Some(mut waiting) = self.lanes.submits.pop_within(room) else { break };
            bytes += next;
            self.tally.lane_waits.push(now.since(waiting.arrived));
            if let Op::Submit { job, .. } = &mut waiting.write.op {
                *job = self.next_job(state);
            }
            batch.push(Command::Write(waiting.write), Item::Client { ticket: waiting.ticket });
            count += 1;
        }
        batch.submits = (count > 0).then_some(bytes);
        self.lanes.submits_rate.drained(count, self.lanes.submits.len(), now);
    }

    /// With the tick, so that none of them is proposed twice.
    fn add_releases(&mut self, batch: &mut Batch, state: &State, now: Now) {
        let count = state.releases_due(self.stamper.peek(now).elapsed, RELEASES_MAX);
        if count > 0 {
            let first = self.next_job(state);
            self.last_job = JobId(first.0 + u64::from(count) - 1);
            batch.push(Command::Release { first, count }, Item::Release);
        }
    }

    /// Bytes of the next submit, if it may go into the entry that has so many already.
    fn next_submit(&self, bytes: usize) -> Option<usize> {
        let next = self.lanes.submits.next_bytes()?;
        let in_flight = self.flight.submit_bytes + bytes;
        (in_flight == 0 || in_flight + next <= SUBMIT_BYTES_IN_FLIGHT_MAX).then_some(next)
    }

    /// Places the tasks of this entry's own submits, and those that wait for what it reports, where nobody waits who could
    /// be overtaken.
    fn place_ahead(&mut self, batch: &mut Batch, room: &mut Room, state: &State) {
        let over: Vec<Over> = batch.commands.iter().flat_map(succeeded).collect();
        if batch.submits.is_none() && over.is_empty() {
            return;
        }
        batch.leaves_unplaced = true;
        if self.flight.leaving_unplaced > 0 {
            return;
        }
        let jobs: Vec<(JobId, &JobSpec)> = batch.commands.iter().filter_map(submitted).collect();
        let (plan, is_whole) = self.planning.make_ahead(state, &over, &jobs, room);
        batch.leaves_unplaced = !is_whole;
        if let Some((id, plan)) = plan {
            batch.push(Command::Place(plan), Item::Plan { id });
        }
    }

    fn add_plan(&mut self, batch: &mut Batch, room: &mut Room) {
        let Some(bytes) = self.planning.bytes() else { return };
        if !room.take(bytes) {
            self.planning.overdue = true;
            return;
        }
        self.push_plan(batch);
    }

    fn push_plan(&mut self, batch: &mut Batch) {
        if let Some((id, plan)) = self.planning.take() {
            batch.push(Command::Place(plan), Item::Plan { id });
        }
    }

    fn next_job(&mut self, state: &State) -> JobId {
        self.last_job = JobId(self.last_job.max(state.last_job()).0 + 1);
        self.last_job
    }

    pub(crate) fn next_session(&mut self, state: &State) -> SessionId {
        self.last_session = SessionId(self.last_session.max(state.last_session()).0 + 1);
        self.last_session
    }

    fn is_due(&self, state: &State, now: Now) -> bool {
        let Some(due) = state.next_due() else { return false };
        let stamp = self.stamper.peek(now);
        due.elapsed.is_some_and(|at| at <= stamp.elapsed) || due.wall.is_some_and(|at| at <= stamp.wall)
    }

    /// When a tick has to be proposed, unless one is in flight or nothing can be proposed before something is settled.
    pub(crate) fn tick_at(&self, state: &State, now: Now) -> Option<Moment> {
        let has_room = self.flight.ticks == 0 && self.flight.len() < PROPOSALS_IN_FLIGHT_MAX;
        let is_free = has_room && self.leases.has_quorum(now.moment);
        let due = state.next_due().filter(|_| is_free)?;
        let stamp = self.stamper.peek(now);
        let elapsed = due.elapsed.map(|at| at.since(stamp.elapsed));
        let wall = due.wall.map(|at| at.since(stamp.wall));
        elapsed.into_iter().chain(wall).min().map(|wait| now.moment.plus(wait))
    }

    /// A proposal was applied at `index`.
    pub(crate) fn settle(
        &mut self,
        proposal: ProposalId,
        index: LogIndex,
        replies: Vec<Reply>,
        state: &State,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        for (item, reply) in self.flight.remove(proposal).into_iter().zip(replies) {
            match item {
                Item::Client { ticket } => {
                    out.push(Action::Answer { ticket, answer: Answer::Written { index, reply } });
                }
                Item::Reports { stream, session, number } => {
                    self.reported(stream, session, number, reply, state, now, out);
                }
                Item::Open { worker } => self.registered(&worker, reply, state, now, out),
                Item::End { session } => {
                    // Already ended: no effect will say so.
                    if let Some(Rejection::SessionEnded { .. }) = reply.rejection() {
                        self.ended(session, out);
                    }
                }
                Item::Plan { id } => self.planned(id, &reply),
                Item::Bootstrap => self.greet_waiting(state, now, out),
                Item::Told | Item::Unanswered { .. } | Item::Tick | Item::Release | Item::Clock => {}
            }
        }
    }

    fn planned(&mut self, id: u64, reply: &Reply) {
        let (taken, dropped) = match reply {
            Reply::Placed { taken, dropped } => (*taken, *dropped),
            _ => (0, 0),
        };
        self.tally.placed += u64::from(taken);
        self.tally.dropped += u64::from(dropped);
        self.planning.settle(id, taken, dropped);
    }

    /// A proposal came to nothing, as far as is known: this leadership is over, or about to be.
    pub(crate) fn give_up(&mut self, proposal: ProposalId, maybe: bool, out: &mut Vec<Action>) {
        for item in self.flight.remove(proposal) {
            match item {
                Item::Client { ticket } => {
                    let answer = if maybe { Answer::Unknown } else { Answer::NotLeader };
                    out.push(Action::Answer { ticket, answer });
                }
                Item::Plan { id } => self.planning.settle(id, 0, 0),
                Item::Bootstrap => self.flight.bootstrapping = false,
                _ => {}
            }
        }
    }
}

fn is_submit(write: &Write) -> bool {
    matches!(write.op, Op::Submit { .. })
}

fn submitted(command: &Command) -> Option<(JobId, &JobSpec)> {
    match command {
        Command::Write(Write { op: Op::Submit { job, spec }, .. }) => Some((*job, spec)),
        _ => None,
    }
}

/// What a batch of reports says has succeeded.
fn succeeded(command: &Command) -> impl Iterator<Item = Over> + '_ {
    let batch = if let Command::Report(batch) = command { Some(batch) } else { None };
    let reports =
        batch.into_iter().flat_map(|batch| batch.reports.iter().map(|report| (batch.session, report)));
    reports.filter_map(|(session, report)| match &report.news {
        News::Ended(ended) if ended.verdict == Verdict::Succeeded => {
            Some(Over { session, seq: report.seq, tasks: report.tasks })
        }
        News::Ended(_) | News::Started { .. } | News::Recalled => None,
    })
}
