//! A replica: its Raft log, the state applied from it, and the shell around the leader's core while it leads.

use std::collections::BTreeMap;
use std::sync::Arc;

use leader_core::{Action, Answer, Config, Event, FromWorker, Leader, Now, ProposalId, StreamId, Ticket};
use machine::Write;
use machine::state::State;
use model::time::micros;
use model::{LogIndex, Moment, Settings, Term, Timestamp};

use crate::convert;
use crate::queue::{Happening, Micros, NEVER, Process, Response};
use crate::raft::{Message, Raft, Role};
use crate::world::{World, address};

/// 2026-01-01T00:00:00Z.
pub const WALL_BEGIN: Timestamp = Timestamp(1_767_225_600_000_000);
/// Entries between two snapshots.
const SNAPSHOT_EVERY: u64 = 150;
/// Approximate bytes of a write.
const WRITE_BYTES: usize = 300;

pub struct Replica {
    pub id: usize,
    pub up: bool,
    pub raft: Raft,
    pub state: State,
    /// Log entries applied, blank ones too.
    pub applied: LogIndex,
    shell: Option<Shell>,
    /// Leaders of the past whose proposals have not all come to their end.
    retired: Vec<Shell>,
    /// Its monotonic clock against the run's, and its wall clock against the true one.
    pub offset: Micros,
    pub skew: i64,
    pub scheduled: Micros,
}

/// One leadership.
struct Shell {
    leader: Leader,
    term: Term,
    proposals: BTreeMap<LogIndex, ProposalId>,
    tickets: BTreeMap<Ticket, (usize, u64)>,
    last_ticket: u64,
    /// When the read index that makes it ready was asked for.
    asked: Micros,
    told_quorum: Option<Micros>,
}

impl Replica {
    pub fn new(id: usize, raft: Raft, offset: Micros, skew: i64) -> Replica {
        Replica {
            id,
            up: true,
            raft,
            state: State::default(),
            applied: 0,
            shell: None,
            retired: Vec::new(),
            offset,
            skew,
            scheduled: NEVER,
        }
    }

    fn moment(&self, at: Micros) -> Moment {
        Moment(at + self.offset)
    }

    fn now(&self, at: Micros) -> Now {
        let wall = (WALL_BEGIN.0 + at).saturating_add_signed(self.skew);
        Now { moment: self.moment(at), wall: Timestamp(wall) }
    }

    fn load_snapshot(&mut self) {
        let Some(snapshot) = &self.raft.snapshot else { return };
        self.state = State::thaw(snapshot.rows.iter().cloned()).expect("a snapshot of our own");
        self.applied = snapshot.last.1;
    }

    pub fn is_leading(&self) -> bool {
        self.up && self.shell.as_ref().is_some_and(|shell| shell.leader.is_ready())
    }
}

// What comes in.
impl World {
    pub fn wake_replica(&mut self, id: usize) {
        let replica = &mut self.replicas[id];
        replica.raft.wake(self.now, &mut self.chance);
        self.settle_replica(id, vec![Event::Timer]);
    }

    pub fn raft_message(&mut self, from: usize, to: usize, message: Message) {
        if !self.replicas[to].up {
            return;
        }
        let cut = self.replicas[to].raft.hear(from, message, self.now, &mut self.chance);
        // First: of what it covers nobody here knows whether it is in it.
        self.take_snapshot(to);
        if let Some(cut) = cut {
            self.discard(to, cut);
        }
        self.settle_replica(to, Vec::new());
    }

    /// One from the leader that is ahead of the state stands for the entries between.
    fn take_snapshot(&mut self, id: usize) {
        let mutants = self.options.mutants;
        let replica = &mut self.replicas[id];
        let last = replica.raft.snapshot.as_ref().map_or(0, |snapshot| snapshot.last.1);
        if last <= replica.applied {
            return;
        }
        self.follow_leadership(id, &mut Vec::new());
        let replica = &mut self.replicas[id];
        replica.load_snapshot();
        mutants.arm_state(&mut replica.state);
        self.stats.count("snapshot installed");
        let unknown: Vec<(Term, ProposalId)> = self.take_proposals(id, |index| index <= last);
        for (term, proposal) in unknown {
            self.bury(id, term, Event::Failed { proposal, maybe: true });
        }
    }

    /// Those in flight of leaderships that are over.
    fn take_proposals(&mut self, id: usize, is_meant: impl Fn(LogIndex) -> bool) -> Vec<(Term, ProposalId)> {
        let mut taken = Vec::new();
        for shell in &mut self.replicas[id].retired {
            let term = shell.term;
            taken.extend(
                shell.proposals.extract_if(.., |index, _| is_meant(*index)).map(|(_, id)| (term, id)),
            );
        }
        taken
    }

    pub fn request(&mut self, to: usize, client: usize, call: u64, write: Write) {
        if !self.replicas[to].up {
            return;
        }
        let leader = self.replicas[to].raft.leader.filter(|leader| *leader != to);
        let Some(shell) = &mut self.replicas[to].shell else {
            return self.respond(to, client, call, Response::NotLeader { leader });
        };
        shell.last_ticket += 1;
        let ticket = Ticket(shell.last_ticket);
        shell.tickets.insert(ticket, (client, call));
        let event = Event::Write { ticket, write: Box::new(write), bytes: WRITE_BYTES };
        self.settle_replica(to, vec![event]);
    }

    /// A worker's stream has arrived.
    pub fn accept(&mut self, id: usize, stream: StreamId) {
        if self.replicas[id].shell.is_none() {
            self.turn_away(id, stream);
        }
    }

    pub fn replica_hears(&mut self, id: usize, stream: StreamId, message: FromWorker) {
        if self.replicas[id].shell.is_some() {
            self.settle_replica(id, vec![Event::Worker { stream, message }]);
        }
    }

    pub fn stream_gone(&mut self, id: usize, stream: StreamId) {
        if self.replicas[id].shell.is_some() {
            self.settle_replica(id, vec![Event::StreamClosed { stream }]);
        }
    }

    fn turn_away(&mut self, id: usize, stream: StreamId) {
        let leader = self.replicas[id].raft.leader.filter(|leader| *leader != id).map(address);
        self.tell_worker(stream, 0, 0, worker_core::Message::NotLeader { leader });
        self.close_stream(stream, false);
    }

    /// The process ends without a word; its disk stays.
    pub fn kill_replica(&mut self, id: usize) {
        let replica = &mut self.replicas[id];
        replica.up = false;
        (replica.shell, replica.state, replica.applied) = (None, State::default(), 0);
        replica.retired.clear();
        replica.scheduled = NEVER;
        for stream in self.streams_at(id) {
            self.close_stream(stream, true);
        }
    }

    pub fn start_replica(&mut self, id: usize) {
        if self.replicas[id].up {
            return;
        }
        let mutants = self.options.mutants;
        let replica = &mut self.replicas[id];
        replica.up = true;
        replica.raft.restart(self.now, &mut self.chance);
        replica.load_snapshot();
        replica.raft.commit = replica.applied;
        mutants.arm_state(&mut replica.state);
        self.settle_replica(id, Vec::new());
    }
}

// What follows from it.
impl World {
    fn settle_replica(&mut self, id: usize, mut events: Vec<Event>) {
        if !self.replicas[id].up {
            return;
        }
        loop {
            self.apply_committed(id, &mut events);
            self.follow_leadership(id, &mut events);
            self.look_around(id, &mut events);
            self.step_leader(id, std::mem::take(&mut events));
            let replica = &mut self.replicas[id];
            let outbox = replica.raft.take_outbox();
            let is_done = outbox.is_empty() && replica.applied == replica.raft.commit;
            for (to, message) in outbox {
                self.send_raft(id, to, message);
            }
            if is_done {
                break;
            }
        }
        self.schedule_replica(id);
    }

    fn send_raft(&mut self, from: usize, to: usize, message: Message) {
        let (a, b) = (Process::Replica(from), Process::Replica(to));
        for delay in self.network.copies(a, b, &mut self.chance) {
            let message = message.clone();
            self.queue.push(self.now + delay, Happening::Raft { from, to, message });
        }
    }

    fn apply_committed(&mut self, id: usize, events: &mut Vec<Event>) {
        while self.replicas[id].applied < self.replicas[id].raft.commit {
            let replica = &mut self.replicas[id];
            replica.applied += 1;
            let index = replica.applied;
            let record = replica.raft.record(index).clone();
            let Some(entry) = record.entry else { continue };
            let applied = Arc::new(replica.state.apply(index, &entry));
            if replica.shell.is_some() {
                // The feed of a real replica runs over at times; the leader then reads the state afresh.
                let is_missed = self.chance.in_thousand(10);
                let heard = Event::Applied { index, applied: applied.clone() };
                events.push(if is_missed { Event::Resync } else { heard });
                is_missed.then(|| self.stats.count("effects missed"));
            }
            self.watch_applied(id, index, &entry, &applied);
            self.committed(id, record.term, index, &applied.replies, events);
            self.maybe_snapshot(id, index);
        }
    }

    fn maybe_snapshot(&mut self, id: usize, index: LogIndex) {
        let replica = &mut self.replicas[id];
        let last = replica.raft.snapshot.as_ref().map_or(0, |snapshot| snapshot.last.1);
        if index >= last + SNAPSHOT_EVERY {
            replica.raft.keep_snapshot(index, replica.state.freeze().rows().collect());
            self.stats.count("snapshot");
        }
    }

    /// Tells the leadership that proposed the entry, now or in the past.
    fn committed(
        &mut self,
        id: usize,
        term: Term,
        index: LogIndex,
        replies: &[machine::Reply],
        events: &mut Vec<Event>,
    ) {
        let is_of = |shell: &Shell| shell.term == term;
        let replica = &mut self.replicas[id];
        if let Some(shell) = replica.shell.as_mut().filter(|shell| is_of(shell)) {
            if let Some(proposal) = shell.proposals.remove(&index) {
                events.push(Event::Committed { proposal, index, replies: replies.to_vec() });
            }
        } else if let Some(shell) = replica.retired.iter_mut().find(|shell| is_of(shell))
            && let Some(proposal) = shell.proposals.remove(&index)
        {
            self.bury(id, term, Event::Committed { proposal, index, replies: replies.to_vec() });
        }
    }

    /// Entries from `cut` on are gone: another leader's are in their place.
    fn discard(&mut self, id: usize, cut: LogIndex) {
        self.stats.count("entries discarded");
        let mut events = Vec::new();
        self.follow_leadership(id, &mut events);
        for (term, proposal) in self.take_proposals(id, |index| index >= cut) {
            // Whoever finds out may be sure that it is gone, or not.
            let maybe = self.chance.in_thousand(500);
            self.bury(id, term, Event::Failed { proposal, maybe });
        }
    }

    fn bury(&mut self, id: usize, term: Term, event: Event) {
        let replica = &mut self.replicas[id];
        let now = replica.now(self.now);
        let Some(place) = replica.retired.iter().position(|shell| shell.term == term) else { return };
        let mut shell = replica.retired.remove(place);
        let mut actions = Vec::new();
        shell.leader.handle(event, &replica.state, now, &mut actions);
        self.perform(id, &mut shell, actions);
        if !shell.leader.is_settled() {
            self.replicas[id].retired.push(shell);
        }
    }

    fn follow_leadership(&mut self, id: usize, events: &mut Vec<Event>) {
        let replica = &self.replicas[id];
        let term = (replica.raft.role == Role::Leader).then_some(replica.raft.term);
        let current = replica.shell.as_ref().map(|shell| shell.term);
        if current.is_some() && current != term {
            self.abdicate(id, std::mem::take(events));
        }
        let replica = &self.replicas[id];
        let Some(term) = term.filter(|_| replica.shell.is_none()) else { return };
        // Not before its own blank entry is applied.
        let has_blank = replica.applied > 0 && replica.raft.term_at(replica.applied) == term;
        if has_blank && replica.applied == replica.raft.commit {
            self.begin_to_lead(id, term);
        }
    }

    fn begin_to_lead(&mut self, id: usize, term: Term) {
        self.stats.count("leadership");
        let failover = self.options.failover;
        let config = Config {
            cluster: "sim".to_owned(),
            settings: self.settings.clone(),
            next_node: self.replicas.len() as u64 + 1,
            level: machine::LEVEL,
            election_timeout_max: failover.election().timeout_max,
        };
        let mutants = self.options.mutants;
        let replica = &mut self.replicas[id];
        let mut leader = Leader::new(config, term, &replica.state, replica.now(self.now));
        mutants.arm_leader(&mut leader);
        replica.shell = Some(Shell {
            leader,
            term,
            proposals: BTreeMap::new(),
            tickets: BTreeMap::new(),
            last_ticket: 0,
            asked: self.now,
            told_quorum: None,
        });
    }

    fn abdicate(&mut self, id: usize, events: Vec<Event>) {
        let replica = &mut self.replicas[id];
        let Some(mut shell) = replica.shell.take() else { return };
        let now = replica.now(self.now);
        let mut actions = Vec::new();
        events.into_iter().for_each(|event| shell.leader.handle(event, &replica.state, now, &mut actions));
        shell.leader.resign(&mut actions);
        self.perform(id, &mut shell, actions);
        for stream in self.streams_at(id) {
            self.turn_away(id, stream);
        }
        if !shell.leader.is_settled() {
            self.replicas[id].retired.push(shell);
        }
    }

    /// What the leader is told of its quorum and of the others' clocks.
    fn look_around(&mut self, id: usize, events: &mut Vec<Event>) {
        let clocks_agree = self.do_clocks_agree(id);
        let replica = &mut self.replicas[id];
        let (acked, now) = (replica.raft.quorum_acked(), replica.now(self.now));
        let at = acked.map(|at| replica.moment(at));
        let Some(shell) = &mut replica.shell else { return };
        if acked > shell.told_quorum
            && let Some(at) = at
        {
            shell.told_quorum = acked;
            events.insert(0, Event::QuorumAcked { at });
        }
        if !shell.leader.is_ready() && acked.is_some_and(|acked| acked >= shell.asked) {
            events.push(Event::Ready);
        }
        if clocks_agree && shell.leader.wants_clocks(now) {
            events.push(Event::ClocksAgree);
        }
    }

    fn do_clocks_agree(&self, id: usize) -> bool {
        let (own, tolerated) = (self.replicas[id].skew, micros(std::time::Duration::from_secs(2)));
        let near = |other: &&Replica| own.abs_diff(other.skew) <= tolerated;
        self.replicas.iter().filter(near).count() * 2 > self.replicas.len()
    }

    fn step_leader(&mut self, id: usize, events: Vec<Event>) {
        let replica = &mut self.replicas[id];
        let Some(mut shell) = replica.shell.take() else { return };
        let now = replica.now(self.now);
        let mut actions = Vec::new();
        events.into_iter().for_each(|event| shell.leader.handle(event, &replica.state, now, &mut actions));
        shell.leader.plan(&replica.state);
        shell.leader.advance(&replica.state, now, &mut actions);
        self.perform(id, &mut shell, actions);
        self.replicas[id].shell = Some(shell);
    }

    fn perform(&mut self, id: usize, shell: &mut Shell, actions: Vec<Action>) {
        let (term, applied) = (shell.term, self.replicas[id].state.index());
        for action in actions {
            match action {
                Action::Propose { proposal, entry } => {
                    let raft = &mut self.replicas[id].raft;
                    assert!(raft.role == Role::Leader && raft.term == term, "a leader of the past proposes");
                    shell.proposals.insert(raft.propose(entry, self.now), proposal);
                    self.stats.count("proposal");
                }
                Action::Send { stream, message } => {
                    let leader = self.replicas[id].raft.leader.filter(|leader| *leader != id).map(address);
                    let replicas = (0..self.replicas.len()).map(address).collect();
                    let message = convert::to_worker(message, replicas, leader);
                    self.tell_worker(stream, term, applied, message);
                }
                Action::Close { stream } => self.close_stream(stream, false),
                Action::Answer { ticket, answer } => {
                    if let Some((client, call)) = shell.tickets.remove(&ticket) {
                        self.respond(id, client, call, response(answer));
                    }
                }
            }
        }
    }

    fn respond(&mut self, from: usize, client: usize, call: u64, response: Response) {
        let (a, b) = (Process::Replica(from), self.caller(client));
        for delay in self.network.copies(a, b, &mut self.chance) {
            let response = response.clone();
            self.queue.push(self.now + delay, Happening::Response { client, call, response });
        }
    }

    fn schedule_replica(&mut self, id: usize) {
        let replica = &mut self.replicas[id];
        let now = replica.now(self.now);
        let wake = replica.shell.as_ref().and_then(|shell| shell.leader.next_wake(&replica.state, now));
        let wake = wake.map_or(NEVER, |at| at.0.saturating_sub(replica.offset));
        let due = replica.raft.due().min(wake).max(self.now + 1);
        if due < replica.scheduled {
            replica.scheduled = due;
            self.queue.push(due, Happening::Wake(Process::Replica(id)));
        }
    }
}

fn response(answer: Answer) -> Response {
    match answer {
        Answer::Written { index, reply } => Response::Written { index, reply },
        Answer::NotLeader => Response::NotLeader { leader: None },
        Answer::NoQuorum => Response::NoQuorum,
        Answer::Overloaded { .. } | Answer::TooLarge { .. } => Response::Overloaded,
        Answer::Unknown => Response::Unknown,
    }
}

/// The settings of the run's cluster.
pub fn settings(failover: model::settings::Failover) -> Settings {
    let mut settings = Settings::preset(failover);
    settings.limits.finished_jobs_max = 25;
    settings.limits.unfinished_jobs_max = 60;
    settings.limits.starve_after_s = 10;
    settings.limits.usage_half_life_s = 30;
    // So few that what an entry begins is often left to later ones, across elections and restarts too.
    settings.limits.rows_per_apply_max = 16;
    settings
}
