//! A leader over a real state, with a log of one replica that commits when told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use leader_core::*;
use machine::{Command, Ended, Entry, News, Op, Reply, Report, State, Write};
use model::{
    Actor, Capacity, JobId, JobSpec, Kind, Moment, Reason, RequestId, Resources, Run, Seq, SessionId,
    Settings, TaskSpec, Timestamp, Token, Verdict, Work,
};

pub const ELECTION: Duration = Duration::from_millis(900);
const WALL_START: u64 = 1_790_000_000_000_000;

pub struct World {
    pub state: State,
    pub leader: Leader,
    pub now: Now,
    pub has_quorum: bool,
    pub pending: VecDeque<(ProposalId, Entry)>,
    /// Every entry that was proposed.
    pub entries: Vec<Entry>,
    pub sent: Vec<(StreamId, ToWorker)>,
    pub closed: Vec<StreamId>,
    pub answers: BTreeMap<u64, Answer>,
    index: u64,
    tickets: u64,
    requests: u128,
    /// Of every write.
    pub actor: Actor,
}

fn config() -> Config {
    let settings = Settings::default();
    Config {
        cluster: "c".to_owned(),
        settings,
        next_node: 4,
        level: machine::LEVEL,
        election_timeout_max: ELECTION,
    }
}

impl World {
    /// A bootstrapped cluster with a ready leader.
    pub fn new() -> World {
        let now = Now { moment: Moment(0), wall: Timestamp(WALL_START) };
        let state = State::default();
        let leader = Leader::new(config(), 1, &state, now);
        let mut world = World {
            state,
            leader,
            now,
            has_quorum: true,
            pending: VecDeque::new(),
            entries: Vec::new(),
            sent: Vec::new(),
            closed: Vec::new(),
            answers: BTreeMap::new(),
            index: 0,
            tickets: 0,
            requests: 0,
            actor: Actor::new("u", "test"),
        };
        world.step(Event::Ready);
        world.commit();
        world.forget();
        world
    }

    /// The leader dies with what it had in flight; the next one begins.
    pub fn next_leader(&mut self) {
        self.pending.clear();
        let term = self.leader.term() + 1;
        self.leader = Leader::new(config(), term, &self.state, self.now);
        self.step(Event::Ready);
    }

    pub fn step(&mut self, event: Event) {
        let mut actions = Vec::new();
        if self.has_quorum {
            let at = self.now.moment;
            self.leader.handle(Event::QuorumAcked { at }, &self.state, self.now, &mut actions);
        }
        actions.extend(self.leader.step(event, &self.state, self.now));
        self.take(actions);
    }

    pub fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Propose { proposal, entry } => {
                    self.entries.push(entry.clone());
                    self.pending.push_back((proposal, entry));
                }
                Action::Send { stream, message } => self.sent.push((stream, message)),
                Action::Close { stream } => self.closed.push(stream),
                Action::Answer { ticket, answer } => drop(self.answers.insert(ticket.0, answer)),
            }
        }
    }

    /// Commits the oldest proposal.
    pub fn commit_one(&mut self) {
        let (proposal, entry) = self.pending.pop_front().expect("something is in flight");
        self.index += 1;
        let index = self.index;
        let applied = self.state.apply(index, &entry);
        let replies = applied.replies.clone();
        self.step(Event::Applied { index, applied: Arc::new(applied) });
        self.step(Event::Committed { proposal, index, replies });
    }

    /// Commits until nothing is in flight.
    pub fn commit(&mut self) {
        while !self.pending.is_empty() {
            self.commit_one();
        }
    }

    pub fn pass(&mut self, ms: u64) {
        let end = self.now.moment.0 + ms * 1000;
        let mut wakes = 0;
        while self.now.moment.0 < end {
            let wake = self.leader.next_wake(&self.state, self.now).map_or(end, |at| at.0);
            self.go_to(wake.clamp(self.now.moment.0 + 1, end));
            self.step(Event::Timer);
            wakes += 1;
            assert!(wakes <= 10 + ms / 100, "the leader wakes for nothing");
        }
    }

    /// Nothing wakes the leader meanwhile.
    pub fn go_to(&mut self, moment: u64) {
        self.now.wall = Timestamp(self.now.wall.0 + moment - self.now.moment.0);
        self.now.moment = Moment(moment);
    }

    pub fn forget(&mut self) {
        self.entries.clear();
        self.sent.clear();
        self.closed.clear();
        self.answers.clear();
    }

    /// What was sent since the last call.
    pub fn heard(&mut self, stream: u64) -> Vec<ToWorker> {
        let (mine, rest) = self.sent.drain(..).partition(|(to, _)| to.0 == stream);
        self.sent = rest;
        mine.into_iter().map(|(_, message): (StreamId, ToWorker)| message).collect()
    }

    pub fn says(&mut self, stream: u64, message: FromWorker) {
        self.step(Event::Worker { stream: StreamId(stream), message });
    }

    /// Registers a worker of so many cores on this stream.
    pub fn worker(&mut self, stream: u64, name: &str, cores: u64) -> SessionId {
        self.says(stream, FromWorker::Hello(Box::new(hello(name, cores))));
        self.commit();
        match &self.heard(stream)[0] {
            ToWorker::Welcome { session, .. } => *session,
            other => panic!("not welcome: {other:?}"),
        }
    }

    pub fn beat(&mut self, stream: u64, number: u64) {
        self.says(stream, FromWorker::Heartbeat { number });
    }

    pub fn reports(&mut self, stream: u64, number: u64, reports: Vec<Report>) {
        self.says(stream, FromWorker::Reports(batch(number, reports)));
    }

    pub fn write(&mut self, op: Op, bytes: usize) -> u64 {
        self.tickets += 1;
        self.requests += 1;
        let time = u128::from(self.now.wall.0 / 1000) << 80;
        let request = RequestId(time + self.requests);
        let write = Write { request, body_hash: 7, actor: self.actor.clone(), op };
        let ticket = Ticket(self.tickets);
        self.step(Event::Write { ticket, write: Box::new(write), bytes });
        self.tickets
    }

    pub fn submit(&mut self, spec: JobSpec) -> u64 {
        self.write(Op::Submit { job: JobId(0), spec: Arc::new(spec) }, 300)
    }

    pub fn job(&mut self, spec: JobSpec) -> JobId {
        let ticket = self.submit(spec);
        self.commit();
        match &self.answers[&ticket] {
            Answer::Written { reply: Reply::Submitted { job }, .. } => *job,
            other => panic!("not submitted: {other:?}"),
        }
    }

    pub fn proposed(&self) -> Vec<&Command> {
        self.entries.iter().flat_map(|entry| &entry.commands).collect()
    }
}

pub fn hello(name: &str, cores: u64) -> Hello {
    let capacity = Capacity::of(Resources::cores(cores));
    let kinds = vec![Kind::Process, Kind::Noop];
    let offer = Offer { capacity, kinds, ..Offer::default() };
    Hello { worker: name.to_owned(), secret: name.as_bytes().to_vec(), offer, ..Hello::default() }
}

/// A worker that comes back with its session.
pub fn back(name: &str, cores: u64, session: SessionId, watermark: Seq, holds: &[Held]) -> Hello {
    Hello { session: Some(session), watermark, holds: holds.to_vec(), ..hello(name, cores) }
}

pub fn batch(number: u64, reports: Vec<Report>) -> Reports {
    let bytes = 150 * reports.len();
    Reports { number, reports, bytes }
}

pub fn noop(name: &str) -> JobSpec {
    JobSpec::of(name, vec![TaskSpec::new("t", Work::Noop)])
}

/// Of processes: noops would go to a worker as one run.
pub fn array(len: u32) -> JobSpec {
    let mut task = TaskSpec::new("t", Work::Run(vec!["true".to_owned()]));
    task.array = Some(format!("0-{}", len - 1).parse().unwrap());
    JobSpec::of("array", vec![task])
}

pub fn succeeded(order: &Order) -> Report {
    ended(order.seq, order.token, order.tasks, Verdict::Succeeded)
}

pub fn ended(seq: Seq, token: Token, tasks: Run, verdict: Verdict) -> Report {
    let ended = Ended {
        verdict,
        reason: Reason::Exited,
        exit_code: Some(0),
        signal: None,
        message: String::new(),
        result: None,
        started: None,
        ended: Timestamp(WALL_START),
        cpu_time: Duration::ZERO,
        memory_peak: 0,
    };
    Report { seq, token, tasks, news: News::Ended(Box::new(ended)) }
}

pub fn orders(messages: &[ToWorker]) -> Vec<Order> {
    let orders = messages.iter().filter_map(|message| match message {
        ToWorker::Run(order) => Some(order.as_ref().clone()),
        _ => None,
    });
    orders.collect()
}

pub fn held(order: &Order) -> Held {
    Held { seq: order.seq, token: order.token }
}
