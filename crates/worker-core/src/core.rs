//! The worker's state and its one entry point.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::{Moment, Pace, Reason, Resources, Run, Seq, SessionId, Term, Timestamp, Token, Verdict};

use crate::lanes::Lanes;
use crate::link::{Dial, Heart, Link};
use crate::mutants::Mutant;
use crate::outbox::Outbox;
use crate::{Action, Ended, Event, Leave, Message, Order, Outgoing, Record, Report, Saved, Stop};

/// While draining, what still comes is given back at most so often: each time costs the cluster a commit.
const RECALL_EVERY: Duration = Duration::from_secs(1);
/// After this host could not start something: it would most likely fail again at once.
const REST: Duration = Duration::from_secs(10);
/// From goodbye to the end of the session.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub struct Config {
    pub capacity: Resources,
    /// API addresses of replicas; at least one.
    pub servers: Vec<String>,
    /// The lease that the keeper still counts, after a restart.
    pub lease: Option<Moment>,
    /// For jitter.
    pub seed: u64,
}

#[derive(Clone, Debug)]
pub struct Core {
    saved: Saved,
    actions: Vec<Action>,
    pub(crate) capacity: Resources,
    pub(crate) link: Link,
    pub(crate) dial: Dial,
    pub(crate) heart: Heart,
    pub(crate) outbox: Outbox,
    pub(crate) lanes: Lanes,
    /// Runs until here; `None`: it has ended, or there was none.
    pub(crate) lease: Option<Moment>,
    /// Of a session that has ended: killed, not yet gone.
    clearing: BTreeSet<Seq>,
    drain: Option<Drain>,
    /// Nothing begins before.
    rest_until: Option<Moment>,
    #[cfg(feature = "mutants")]
    pub(crate) mutant: Option<Mutant>,
}

#[derive(Clone, Copy, Debug)]
struct Drain {
    by: By,
    until: Moment,
    recall_at: Moment,
    goodbye: Option<Goodbye>,
}

/// Whose wish it is. What was asked for on this host outweighs the leader's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    Leader,
    Host,
}

/// From here on nothing begins under this session, whatever comes: the leader ends it at once and gives its tasks to
/// others.
#[derive(Clone, Copy, Debug)]
struct Goodbye {
    said: Moment,
    /// The drain was taken back meanwhile: a new session follows.
    comes_back: bool,
}

impl Core {
    /// Goes on from what was saved. The shell then tells of what runs and what has ended meanwhile.
    pub fn new(config: Config, saved: Saved) -> Core {
        let mut lanes = Lanes::default();
        for taken in saved.orders.values() {
            lanes.restore(taken);
        }
        Core {
            saved,
            actions: Vec::new(),
            capacity: config.capacity,
            link: Link::Waiting { until: Moment(0) },
            dial: Dial::new(config.servers, config.seed),
            heart: Heart::default(),
            outbox: Outbox::default(),
            lanes,
            lease: config.lease,
            clearing: BTreeSet::new(),
            drain: None,
            rest_until: None,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }

    pub fn saved(&self) -> &Saved {
        &self.saved
    }

    /// The session for which it may claim tasks by itself, and the replicas through which.
    pub fn may_claim(&self) -> Option<(SessionId, &[String])> {
        let session = self.saved.session.filter(|_| self.is_attached() && self.drain.is_none())?;
        self.rest_until.is_none().then(|| (session.id, self.dial.servers()))
    }

    pub fn lease_until(&self) -> Option<Moment> {
        self.lease
    }

    pub fn step(&mut self, event: Event, now: Moment) -> Vec<Action> {
        // First, so that nothing that was late in coming is taken for an order under a living lease.
        self.watch_lease(now);
        self.rest_until = self.rest_until.filter(|until| now < *until);
        match event {
            Event::Up if matches!(self.link, Link::Opening { .. }) => self.greet(now),
            Event::Up => {}
            Event::Down => self.lost(now),
            Event::Said { term, applied: _, message } => self.hear(term, message, now),
            Event::Started { seq, task, at } => self.started(seq, task, at, now),
            Event::Ended { seq, tasks, ended } => self.ended(seq, tasks, ended, now),
            Event::HostFailed => self.rest_until = Some(now.plus(REST)),
            Event::Drain { until } => self.start_drain(By::Host, until, now),
            Event::Tick => {
                self.tend_link(now);
                self.flush(now);
            }
        }
        self.begin_waiting(None, now);
        self.tend_drain(now);
        std::mem::take(&mut self.actions)
    }

    /// When a tick has something to do.
    pub fn next_due(&self) -> Option<Moment> {
        let flush = self.outbox.due().filter(|_| self.is_attached());
        let drain = self.drain.map(|drain| self.drain_due(drain));
        [self.link_due(), flush, self.lease, drain, self.rest_until].into_iter().flatten().min()
    }

    pub(crate) fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// The only way in which what lasts changes.
    pub(crate) fn save(&mut self, record: Record) {
        self.saved.apply(&record);
        self.actions.push(Action::Save(record));
    }

    fn hear(&mut self, term: Term, message: Message, now: Moment) {
        if !matches!(self.link, Link::Greeted { .. } | Link::Attached) {
            return;
        }
        if term < self.saved.term {
            // Whoever does not lead has no term of its own; whom it names is worth a try.
            if let Message::NotLeader { leader: Some(leader) } = message {
                return self.redirected(Some(leader), now);
            }
            // A leader of the past: it will hear of it from its peers, but not from us.
            return self.give_up(now);
        }
        if term > self.saved.term {
            self.save(Record::Term(term));
        }
        self.heart.heard = now;
        self.obey(message, now);
    }

    fn obey(&mut self, message: Message, now: Moment) {
        match message {
            Message::Welcome(welcome) => self.welcome(welcome, now),
            Message::Renewed { number, heartbeat } => self.renewed(number, heartbeat),
            Message::Run(order) => self.take(order),
            Message::Unreadable(report) => self.decline(*report, now),
            Message::Stop { seq, token } => self.stop(seq, token, now),
            Message::Recall { seq, token } => self.recall(seq, token, now),
            Message::Switch { seq, token, to } => self.switch(seq, token, to),
            Message::Acked { number, fenced: _ } => self.acknowledge(number, now),
            Message::FetchLog(fetch) => self.push(Action::FetchLog(fetch)),
            Message::CloseFetch { fetch } => self.push(Action::CloseFetch { fetch }),
            Message::NotLeader { leader } => self.redirected(leader, now),
            Message::Refused(refusal) => self.leave(Leave::Refused(refusal)),
            Message::SessionEnded => self.session_ended(now),
            Message::Drain => self.start_drain(By::Leader, Moment::MAX, now),
            Message::Resume => self.resume(),
        }
    }

    fn take(&mut self, order: Arc<Order>) {
        let is_empty = order.tasks.len == 0;
        let is_known = self.saved.has(order.seq) && !self.has_bug(Mutant::StartTwice);
        if !self.is_attached() || is_known || is_empty {
            return;
        }
        self.lanes.wait(&order);
        self.save(Record::Taken(order));
    }

    /// Its number counts as received: a leader that sends it again gets no second answer.
    fn decline(&mut self, report: Report, now: Moment) {
        if self.is_attached() && !self.saved.has(report.seq) {
            self.save(Record::Void(report.seq));
            self.report_declined(report, now);
        }
    }

    pub(crate) fn may_begin(&self, now: Moment) -> bool {
        self.drain.is_none() && self.may_go_on(now)
    }

    /// With the next tasks of orders that have begun.
    pub(crate) fn may_go_on(&self, now: Moment) -> bool {
        self.rest_until.is_none() && self.has_lease(now)
    }

    pub(crate) fn has_lease(&self, now: Moment) -> bool {
        self.lease.is_some_and(|until| now < until)
    }

    fn stop(&mut self, seq: Seq, token: Token, now: Moment) {
        self.recall(seq, token, now);
        let begun = self.saved.orders.get(&seq).filter(|taken| taken.order.token == token);
        if begun.is_some_and(|taken| taken.stop.is_none()) {
            self.save(Record::Stopping { seq, stop: Stop::Ordered });
            self.push(Action::Stop { seq });
        }
    }

    /// What has not begun does so once it may go on.
    fn switch(&mut self, seq: Seq, token: Token, to: Pace) {
        let suspends = to == Pace::StandsStill;
        let taken = self.saved.orders.get(&seq).filter(|taken| taken.order.token == token);
        let Some(taken) = taken.filter(|taken| taken.suspended != suspends) else { return };
        let (order, has_begun) = (taken.order.clone(), taken.running.is_some());
        self.lanes.switch(&order, to);
        self.save(Record::Switched { seq, to });
        if has_begun {
            self.push(Action::Switch { seq, to });
        }
    }

    /// Gives the order back unless it has begun. One that comes after its recall never begins.
    fn recall(&mut self, seq: Seq, token: Token, now: Moment) {
        let Some(taken) = self.saved.orders.get(&seq) else {
            if !self.saved.has(seq) {
                self.report_void(seq, token, now);
            }
            return;
        };
        if taken.order.token == token && !taken.has_begun() {
            self.give_back(seq, now);
        }
    }

    fn give_back(&mut self, seq: Seq, now: Moment) {
        let Some(taken) = self.saved.orders.get(&seq) else { return };
        let order = taken.order.clone();
        self.lanes.leave(&order);
        self.report_recalled(seq, now);
    }

    fn started(&mut self, seq: Seq, task: u32, at: Timestamp, now: Moment) {
        let runs = |run: Run| run.contains(task);
        let is_running = self.saved.orders.get(&seq).is_some_and(|taken| taken.running.is_some_and(runs));
        if is_running && !self.lanes.was_announced(seq) {
            self.report_started(seq, task, at, now);
        }
    }

    fn ended(&mut self, seq: Seq, tasks: Run, ended: Box<Ended>, now: Moment) {
        if self.clearing.remove(&seq) {
            return self.cleared(now);
        }
        let Some(taken) = self.saved.orders.get(&seq) else { return };
        if taken.running != Some(tasks) {
            return;
        }
        let (order, stop, at) = (taken.order.clone(), taken.stop, ended.ended);
        self.report_ended(seq, tasks, stopped(ended, stop), now);
        if let Some(taken) = self.saved.orders.get(&seq) {
            match stop {
                None => return self.lanes.pause(seq),
                Some(stop) => {
                    let rest = Box::new(unstarted(stop, at));
                    let tasks = taken.left();
                    self.report_ended(seq, tasks, rest, now);
                }
            }
        }
        self.lanes.leave(&order);
        self.begin_waiting(Some(at), now);
    }

    /// Self-stop: what runs under the lease dies with it.
    fn watch_lease(&mut self, now: Moment) {
        if self.lease.is_none_or(|until| now < until) {
            return;
        }
        self.lease = None;
        let runs_on = |order: &Order| order.on_disconnect == model::OnDisconnect::Keep;
        let doomed: Vec<(Seq, bool)> = self
            .saved
            .orders
            .values()
            .filter(|taken| taken.running.is_some() && !runs_on(&taken.order))
            .map(|taken| (taken.order.seq, taken.stop.is_none()))
            .collect();
        for (seq, unstopped) in doomed {
            if unstopped {
                self.save(Record::Stopping { seq, stop: Stop::LeaseEnded });
            }
            self.push(Action::Kill { seq });
        }
    }

    /// Kills what the session held; hello without it once all of that is gone.
    pub(crate) fn session_ended(&mut self, now: Moment) {
        self.push(Action::Disconnect);
        let running = self.saved.orders.values().filter(|taken| taken.running.is_some());
        let running: Vec<Seq> = running.map(|taken| taken.order.seq).collect();
        for seq in running {
            self.clearing.insert(seq);
            self.push(Action::Kill { seq });
        }
        self.save(Record::SessionEnded);
        (self.lease, self.lanes, self.link) = (None, Lanes::default(), Link::Off);
        self.forget_outbox();
        self.cleared(now);
    }

    fn cleared(&mut self, now: Moment) {
        if !self.clearing.is_empty() {
            return;
        }
        let comes_back = |drain: Drain| drain.goodbye.is_some_and(|goodbye| goodbye.comes_back);
        if self.drain.is_some_and(|drain| !comes_back(drain)) {
            return self.leave(Leave::Drained);
        }
        self.drain = None;
        self.greet_again(now);
    }

    fn leave(&mut self, why: Leave) {
        self.push(Action::Disconnect);
        self.push(Action::Leave(why));
        self.link = Link::Off;
        self.drain = None;
        self.lease = None;
    }
}

// Drain and goodbye.
impl Core {
    fn start_drain(&mut self, by: By, until: Moment, now: Moment) {
        let Some(drain) = &mut self.drain else {
            self.drain = Some(Drain { by, until, recall_at: now, goodbye: None });
            return;
        };
        (drain.by, drain.until) = (drain.by.max(by), drain.until.min(until));
        if let Some(goodbye) = &mut drain.goodbye {
            goodbye.comes_back = false;
        }
    }

    /// The leader takes its drain back.
    fn resume(&mut self) {
        let Some(drain) = self.drain.as_mut().filter(|drain| drain.by == By::Leader) else { return };
        match &mut drain.goodbye {
            Some(goodbye) => goodbye.comes_back = true,
            None => self.drain = None,
        }
    }

    fn drain_due(&self, drain: Drain) -> Moment {
        let recall = if self.lanes.waiting().is_empty() { Moment::MAX } else { drain.recall_at };
        let goodbye = drain.goodbye.map_or(Moment::MAX, |goodbye| goodbye.said.plus(GOODBYE_MAX));
        drain.until.min(recall).min(goodbye)
    }

    fn tend_drain(&mut self, now: Moment) {
        let Some(drain) = self.drain else { return };
        if now >= drain.until {
            return self.leave(Leave::DrainTimeout);
        }
        if now >= drain.recall_at {
            self.recall_waiting(now);
        }
        match drain.goodbye {
            Some(goodbye) if now >= goodbye.said.plus(GOODBYE_MAX) => self.unanswered(goodbye, now),
            Some(_) => {}
            None => self.part(drain, now),
        }
    }

    /// The leader may or may not have heard the goodbye.
    fn unanswered(&mut self, goodbye: Goodbye, now: Moment) {
        if goodbye.comes_back {
            return self.session_ended(now);
        }
        self.leave(Leave::Drained);
    }

    fn recall_waiting(&mut self, now: Moment) {
        let waiting = self.lanes.waiting();
        for seq in &waiting {
            self.give_back(*seq, now);
        }
        if let Some(drain) = self.drain.as_mut().filter(|_| !waiting.is_empty()) {
            drain.recall_at = now.plus(RECALL_EVERY);
        }
    }

    /// Says goodbye once nothing runs and everything said is committed.
    fn part(&mut self, drain: Drain, now: Moment) {
        let is_idle = self.saved.orders.is_empty() && self.clearing.is_empty();
        if self.saved.session.is_none() && is_idle {
            return self.leave(Leave::Drained);
        }
        if is_idle && self.saved.outbox.is_empty() && self.is_attached() {
            self.push(Action::Send(Outgoing::Goodbye));
            let goodbye = Some(Goodbye { said: now, comes_back: false });
            self.drain = Some(Drain { goodbye, ..drain });
        }
    }
}

/// How an attempt that was stopped counts, whatever its own last words.
fn stopped(mut ended: Box<Ended>, stop: Option<Stop>) -> Box<Ended> {
    match stop {
        Some(Stop::Ordered) => (ended.verdict, ended.reason) = (Verdict::Cancelled, Reason::Cancelled),
        Some(Stop::LeaseEnded) if ended.verdict != Verdict::Succeeded => {
            (ended.verdict, ended.reason) = (Verdict::Lost, Reason::LeaseEnded);
        }
        Some(Stop::LeaseEnded) | None => {}
    }
    ended
}

/// The tasks of a stopped order that never began.
fn unstarted(stop: Stop, at: Timestamp) -> Ended {
    match stop {
        Stop::Ordered => Ended::new(Verdict::Cancelled, Reason::Cancelled, "cancelled before it began", at),
        Stop::LeaseEnded => {
            Ended::new(Verdict::Lost, Reason::LeaseEnded, "the lease ended before it began", at)
        }
    }
}
