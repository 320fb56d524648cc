//! Orders for workers, read off the state. Effects only say where to look: what an effect did not bring, re-attaching
//! does.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use machine::state::State;
use machine::state::jobs::Job;
use machine::state::sessions::{Allocation, Phase, Session};
use machine::{Applied, Effect, Event as Change, Group};
use model::blob::{hex, sha256};
use model::constraint::LABEL_ADDRESS;
use model::spec::lines;
use model::{EnvValue, JobId, JobSpec, Lean, Pace, Resources, Run, Seq, SessionId, Token};

use crate::sessions::Stage;
use crate::{Action, Gang, Leader, Now, Order, StreamId, ToWorker};

impl Leader {
    /// An entry was applied: passes on what follows from it.
    pub(crate) fn follow(&mut self, applied: &Applied, state: &State, now: Now, out: &mut Vec<Action>) {
        for effect in &applied.effects {
            match effect {
                Effect::Run { session, seq } => self.send_up_to(*session, *seq, state, out),
                Effect::Stop { session, seq } => self.send_stop(*session, *seq, state, out),
                Effect::Switch { session, seq } => self.send_switch(*session, *seq, state, out),
                Effect::SessionOpened { session } => self.opened(*session, state, now),
                Effect::SessionEnded { session } => self.ended(*session, out),
                Effect::Wake => self.planning.wake(),
            }
        }
        for change in &applied.events {
            if let Change::Worker { worker, .. } = change {
                self.send_standing(worker, state, out);
            }
        }
    }

    /// Some effects were missed: everything is read off the state.
    pub(crate) fn resync(&mut self, state: &State, now: Now, out: &mut Vec<Action>) {
        for session in self.attached.keys().copied().collect::<Vec<_>>() {
            if state.session(session).is_none_or(|row| row.ended) {
                self.ended(session, out);
            }
        }
        for session in state.sessions().filter(|session| !session.ended) {
            self.opened(session.id, state, now);
            self.send_up_to(session.id, session.last_seq, state, out);
            let stopping =
                session.allocations.values().filter(|allocation| allocation.phase == Phase::Stopping);
            stopping.for_each(|allocation| self.send_stop(session.id, allocation.seq, state, out));
            if let Some(stream) = self.attached.get(&session.id) {
                send_paces(*stream, session, |_| true, out);
            }
            self.send_standing(&session.worker, state, out);
        }
        self.planning.wake();
    }

    /// Sends the orders up to this number that its stream has not had.
    pub(crate) fn send_up_to(&mut self, session: SessionId, last: Seq, state: &State, out: &mut Vec<Action>) {
        let Some(stream) = self.attached.get(&session).copied() else { return };
        let Some(Stage::Attached { sent, .. }) = self.streams.get_mut(&stream) else { return };
        let first = *sent + 1;
        *sent = last.max(*sent);
        let Some(row) = state.session(session).filter(|_| first <= last) else { return };
        for allocation in row.allocations.range(first..=last).map(|(_, allocation)| allocation) {
            self.note_wait(allocation, state);
            self.send_order(stream, allocation, row, state, out);
        }
    }

    /// Sends an order that its worker has not had, and that it is to stand still, if it is.
    pub(crate) fn send_order(
        &mut self,
        stream: StreamId,
        allocation: &Allocation,
        session: &Session,
        state: &State,
        out: &mut Vec<Action>,
    ) {
        let order = self.order(allocation, session, state);
        let suspended = allocation.phase == Phase::Running && allocation.is_suspended();
        let pace = suspended.then(|| pace(allocation));
        out.extend(order.into_iter().chain(pace).map(|message| Action::Send { stream, message }));
    }

    fn note_wait(&mut self, allocation: &Allocation, state: &State) {
        let Some(job) = state.job(allocation.job).filter(|_| allocation.attempt == 1) else { return };
        let wait = allocation.placed.elapsed.since(job.submitted.elapsed);
        self.tally.queue_waits.push((wait, allocation.tasks.len.into()));
    }

    /// A worker never receives the order of what is to stop: only that it shall.
    fn order(&mut self, allocation: &Allocation, session: &Session, state: &State) -> Option<ToWorker> {
        if allocation.phase == Phase::Stopping {
            return Some(ToWorker::Stop { seq: allocation.seq, token: allocation.token });
        }
        let job = state.job(allocation.job)?;
        let (place, group) = job.group_of(allocation.tasks.first)?;
        let task = job.task_spec(place);
        let positions = group.positions_of(allocation.tasks)?;
        Some(ToWorker::Run(Box::new(Order {
            seq: allocation.seq,
            token: allocation.token,
            job: job.id,
            tasks: allocation.tasks,
            attempt: allocation.attempt,
            held: allocation.phase == Phase::Held,
            spec: spec(job, place, &allocation.resources),
            group: place,
            array_index: task.array_index(positions.first),
            array_step: task.array.map_or(1, |array| array.step),
            lines: self.lines.of(job, place, positions),
            units: allocation.units.clone(),
            traceparent: traceparent(state.cluster(), job, allocation, session.id),
            gang: group.gang.then(|| gang(state, group, positions.first, allocation)),
        })))
    }

    fn send_stop(&mut self, session: SessionId, seq: Seq, state: &State, out: &mut Vec<Action>) {
        // What has not been sent yet will be sent as a stop.
        if let Some((stream, token)) = self.sent(session, seq, state) {
            out.push(Action::Send { stream, message: ToWorker::Stop { seq, token } });
        }
    }

    fn send_switch(&mut self, session: SessionId, seq: Seq, state: &State, out: &mut Vec<Action>) {
        // What has not been sent yet will be sent with it.
        let Some((stream, _)) = self.sent(session, seq, state) else { return };
        let row = state.session(session).and_then(|row| row.allocations.get(&seq));
        out.extend(row.map(|allocation| Action::Send { stream, message: pace(allocation) }));
    }

    /// Whether there was somebody to ask.
    pub(crate) fn send_recall(
        &self,
        session: SessionId,
        seq: Seq,
        state: &State,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some((stream, token)) = self.sent(session, seq, state) else { return false };
        out.push(Action::Send { stream, message: ToWorker::Recall { seq, token } });
        true
    }

    /// Where the order of this number went, if the worker is here and has had it.
    fn sent(&self, session: SessionId, seq: Seq, state: &State) -> Option<(StreamId, Token)> {
        let stream = self.attached.get(&session).copied()?;
        let Some(Stage::Attached { sent, .. }) = self.streams.get(&stream) else { return None };
        let allocation = state.session(session)?.allocations.get(&seq).filter(|_| seq <= *sent)?;
        Some((stream, allocation.token))
    }

    /// Whether the worker drains. Said whenever that may have changed unheard: to hear it twice does no harm.
    pub(crate) fn send_standing(&self, worker: &str, state: &State, out: &mut Vec<Action>) {
        let Some(row) = state.worker(worker) else { return };
        let Some(stream) = row.session.and_then(|session| self.attached.get(&session)) else { return };
        let message = if row.draining { ToWorker::Drain } else { ToWorker::Resume };
        out.push(Action::Send { stream: *stream, message });
    }
}

/// Says of each of these that runs by slices whether it stands still: those that do first, for others have their room.
pub(crate) fn send_paces(
    stream: StreamId,
    session: &Session,
    has: impl Fn(Seq) -> bool,
    out: &mut Vec<Action>,
) {
    let sliced = |allocation: &&Allocation| {
        allocation.phase == Phase::Running && allocation.slice.is_some() && has(allocation.seq)
    };
    let mut all: Vec<&Allocation> = session.allocations.values().filter(sliced).collect();
    all.sort_by_key(|allocation| !allocation.is_suspended());
    out.extend(all.into_iter().map(|allocation| Action::Send { stream, message: pace(allocation) }));
}

fn pace(allocation: &Allocation) -> ToWorker {
    let to = if allocation.is_suspended() { Pace::StandsStill } else { Pace::Runs };
    ToWorker::Switch { seq: allocation.seq, token: allocation.token, to }
}

/// Ports that the first members of gangs listen at: below those that systems give out by themselves.
const GANG_PORTS: Range<u16> = 20_000..30_000;

/// All of a gang are placed by one entry, so that whoever leads says the same of it.
fn gang(state: &State, group: &Group, position: u32, allocation: &Allocation) -> Gang {
    let worker = |position: u32| match group.live_at(position) {
        Some((_, live)) => state.session(live.session).map(|session| session.worker.clone()),
        // It has ended already.
        None => group.outcome_at(position).map(|outcome| outcome.worker.clone()),
    };
    let workers: Vec<Option<String>> = (0..group.len).map(worker).collect();
    let address = |name: &Option<String>| {
        let worker = name.as_ref().and_then(|name| state.worker(name));
        worker.and_then(|worker| worker.labels.get(LABEL_ADDRESS)).cloned().unwrap_or_default()
    };
    let own = &workers[position as usize];
    let local = |among: &[Option<String>]| among.iter().filter(|worker| *worker == own).count() as u32;
    let span = u64::from(GANG_PORTS.end - GANG_PORTS.start);
    Gang {
        rank: position,
        addresses: workers.iter().map(address).collect(),
        local_rank: local(&workers[..position as usize]),
        local_size: local(&workers),
        // The same for all, and another for the next attempt.
        port: GANG_PORTS.start + (allocation.token.0 % span) as u16,
    }
}

/// W3C trace context: the client's trace, else one per job; one span per attempt; the same whoever leads.
fn traceparent(cluster: &str, job: &Job, allocation: &Allocation, session: SessionId) -> String {
    let own = || hex(&sha256(format!("{cluster}/{}", job.id).as_bytes())[..16]);
    let trace = job.actor.trace.as_ref().map_or_else(own, |trace| trace.as_str().to_owned());
    let span = sha256(format!("{cluster}/{session}/{}/{}", allocation.seq, allocation.token).as_bytes());
    format!("00-{trace}-{}-01", hex(&span[..8]))
}

/// Where the lines of the last few texts begin, so that a long `each_line` is not read through for every order.
#[derive(Default)]
pub(crate) struct LineIndex {
    /// By job and group: when it was used last, and the lines.
    texts: BTreeMap<(JobId, usize), (u64, Spans)>,
    uses: u64,
}

/// Where each line begins and ends.
type Spans = Arc<[(usize, usize)]>;

const TEXTS_MAX: usize = 16;

impl LineIndex {
    fn of(&mut self, job: &Job, place: usize, positions: Run) -> Vec<String> {
        let each_line = job.task_spec(place).each_line.as_ref();
        let Some(text) = each_line.and_then(|blob| blob.inline_bytes()) else { return Vec::new() };
        let spans = self.spans((job.id, place), text);
        let wanted = spans.iter().skip(positions.first as usize).take(positions.len as usize);
        wanted.map(|(from, to)| String::from_utf8_lossy(&text[*from..*to]).into_owned()).collect()
    }

    fn spans(&mut self, key: (JobId, usize), text: &[u8]) -> Spans {
        self.uses += 1;
        if let Some((used, spans)) = self.texts.get_mut(&key) {
            *used = self.uses;
            return spans.clone();
        }
        if self.texts.len() >= TEXTS_MAX
            && let Some(oldest) = self.texts.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key)
        {
            self.texts.remove(&oldest);
        }
        let start = text.as_ptr() as usize;
        let span =
            |line: &[u8]| (line.as_ptr() as usize - start, line.as_ptr() as usize - start + line.len());
        let spans: Spans = lines(text).map(span).collect();
        self.texts.insert(key, (self.uses, spans.clone()));
        spans
    }
}

/// Of a task that something else would do for as well: with what it has been given, and which that is.
fn spec(job: &Job, place: usize, given: &Resources) -> Arc<JobSpec> {
    let task = job.task_spec(place);
    if task.alternatives.is_empty() {
        return job.spec.clone();
    }
    let mut all = std::iter::once(&task.resources).chain(task.alternatives.iter());
    let nth = all.position(|asked| asked == given).unwrap_or(0);
    let mut spec = JobSpec::clone(&job.spec);
    let task = &mut spec.tasks[place];
    task.resources = given.clone();
    task.alternatives = Lean::default();
    task.env.insert("BATON_ALTERNATIVE".to_owned(), EnvValue::Plain(nth.to_string()));
    Arc::new(spec)
}
