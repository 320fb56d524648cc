//! The worker's loop: takes what happened, steps the core, does what it says.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use model::{Kind, Reason, Run, Seq, Verdict};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tracing::Instrument;
use worker_core::{Action, Core, Ended, Event, Fetch, Leave, Order, Refusal};

use crate::claims::Claimant;
use crate::clock;
use crate::config::Config;
use crate::convert::{Introduction, word};
use crate::executor::{self, Attempt, Control, Executor};
use crate::home::Home;
use crate::journal::Journal;
use crate::keeper::protocol::Key;
use crate::link::{self, Speaker, speech};
use crate::logs::{self, FETCHES_MAX, Sweep};
use crate::processes::{self, Processes, Told};
use crate::span::span;

/// Taken in one turn, so that what they cause is saved and sent together.
const INPUTS_PER_TURN: usize = 1_024;

#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("the cluster refused this worker: {}", .0.message)]
    Refused(Refusal),
    #[error("what the worker must remember cannot be written")]
    Journal(#[source] io::Error),
}

/// Why a worker ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing ran any more, and the leader knows.
    Drained,
    /// What still ran stays with the keeper until its lease ends: a worker started meanwhile takes it over.
    LeftRunning,
}

pub(crate) enum Input {
    Link {
        generation: u64,
        news: link::News,
    },
    Processes(processes::News),
    /// Of work inside the worker.
    Ended {
        seq: Seq,
        task: u32,
        ended: Box<Ended>,
    },
    Drain,
    Leave,
}

pub(crate) struct Shell {
    pub config: Config,
    pub home: Arc<Home>,
    pub journal: Journal,
    pub core: Core,
    pub introduction: Introduction,
    pub executors: BTreeMap<Kind, Arc<dyn Executor>>,
    pub processes: Processes,
    pub inputs: mpsc::UnboundedReceiver<Input>,
    pub tell: mpsc::UnboundedSender<Input>,
    pub state: State,
}

/// What only the loop knows.
#[derive(Default)]
pub(crate) struct State {
    pub actions: Vec<Action>,
    pub generation: u64,
    pub link: Option<Link>,
    /// Of attempts inside the worker.
    pub controls: BTreeMap<Seq, Arc<Control>>,
    pub fetches: BTreeMap<u64, AbortHandle>,
    pub tasks: JoinSet<()>,
    /// Ends that the keeper may forget once they are saved.
    pub forget: Vec<Key>,
    pub left: Option<Leave>,
    /// Who claims, as last told.
    pub claimant: watch::Sender<Claimant>,
}

pub(crate) struct Link {
    speaker: Speaker,
    task: AbortHandle,
    address: String,
}

impl Shell {
    pub async fn run(mut self) -> Result<Left, WorkerError> {
        let mut sweep = Sweep::new();
        loop {
            self.settle()?;
            self.tell_claimant();
            if let Some(leave) = self.state.left.take() {
                return self.part(leave).await;
            }
            if sweep.take_turn(clock::moment()) {
                self.remove_old_output();
            }
            let now = clock::moment();
            let due = self.core.next_due().map_or(sweep.due(), |due| due.min(sweep.due()));
            let input = tokio::select! {
                biased;
                input = self.inputs.recv() => input,
                () = tokio::time::sleep(due.since(now)) => None,
            };
            input.into_iter().for_each(|input| self.take(input));
            for _ in 1..INPUTS_PER_TURN {
                let Ok(input) = self.inputs.try_recv() else { break };
                self.take(input);
            }
            while self.state.tasks.try_join_next().is_some() {}
        }
    }

    pub fn step(&mut self, event: Event) {
        let actions = self.core.step(event, clock::moment());
        self.state.actions.extend(actions);
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Link { generation, news } if generation == self.state.generation => self.linked(news),
            Input::Link { .. } => {}
            Input::Processes(news) => {
                let told = self.processes.hear(news);
                told.into_iter().for_each(|told| self.told(told));
            }
            Input::Ended { seq, task, ended } => {
                self.state.controls.remove(&seq);
                self.ended(seq, Run::new(task, 1), ended);
            }
            Input::Drain => {
                let until = clock::moment().plus(self.config.drain_timeout);
                tracing::info!(timeout = ?self.config.drain_timeout, "draining");
                self.step(Event::Drain { until });
            }
            Input::Leave => self.step(Event::Drain { until: clock::moment() }),
        }
    }

    fn linked(&mut self, news: link::News) {
        match news {
            link::News::Up => self.step(Event::Up),
            link::News::Heard(heard) => {
                if let Some(bounds) = heard.bounds {
                    self.processes.bounds = bounds;
                    let address = self.state.link.as_ref().map_or("", |link| &link.address);
                    tracing::info!(address, "attached to the leader");
                }
                self.step(heard.event);
            }
            link::News::Down { why } => {
                let address = self.state.link.take().map_or(String::new(), |link| link.address);
                tracing::debug!(address, why, "no stream");
                self.step(Event::Down);
            }
        }
    }

    pub fn told(&mut self, told: Told) {
        match told {
            Told::Started { seq, task, at } => self.step(Event::Started { seq, task, at }),
            Told::Ended { key, ended } => {
                self.ended(key.seq, Run::new(key.task, 1), ended);
                self.state.forget.push(key);
            }
            Told::HostFailed { why } => {
                tracing::warn!(why, "this host cannot start work: none begins for a while");
                self.step(Event::HostFailed);
            }
        }
    }

    fn ended(&mut self, seq: Seq, tasks: Run, mut ended: Box<Ended>) {
        self.processes.bounds.apply(&mut ended);
        if let Some(taken) = self.core.saved().orders.get(&seq) {
            let (verdict, reason, exit_code) = (ended.verdict, ended.reason, ended.exit_code);
            span(&taken.order, tasks.first)
                .in_scope(|| tracing::debug!(?verdict, ?reason, exit_code, "ended"));
        }
        self.step(Event::Ended { seq, tasks, ended });
    }

    fn tell_claimant(&self) {
        let now = self.core.may_claim();
        let is_same = |claimant: &Claimant| match now {
            Some((session, servers)) => claimant.session == Some(session) && claimant.servers == servers,
            None => claimant.session.is_none(),
        };
        self.state.claimant.send_if_modified(|claimant| {
            let changes = !is_same(claimant);
            if changes {
                *claimant = now.map_or_else(Claimant::default, |(session, servers)| Claimant {
                    session: Some(session),
                    servers: servers.to_vec(),
                });
            }
            changes
        });
    }

    /// Does everything that the steps so far ask for, and what follows from it at once.
    fn settle(&mut self) -> Result<(), WorkerError> {
        self.step(Event::Tick);
        while !self.state.actions.is_empty() {
            let actions = std::mem::take(&mut self.state.actions);
            for action in &actions {
                if let Action::Save(record) = action {
                    self.journal.add(record);
                }
            }
            self.journal.write(self.core.saved()).map_err(WorkerError::Journal)?;
            actions.into_iter().for_each(|action| self.perform(action));
            self.step(Event::Tick);
        }
        for key in std::mem::take(&mut self.state.forget) {
            self.processes.forget(key);
        }
        Ok(())
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Save(_) => {}
            Action::Connect { address } => self.connect(address),
            Action::Disconnect => self.disconnect(),
            Action::Send(outgoing) => {
                if let Some(link) = &self.state.link {
                    let _ = link.speaker.words.send(word(outgoing, &self.introduction));
                }
            }
            Action::Start { order, tasks } => self.start(order, tasks),
            Action::Stop { seq } => self.stop(seq),
            Action::Kill { seq } => self.kill(seq),
            Action::Switch { seq, to } => self.processes.switch(seq, to),
            Action::Lease { until } => self.processes.lease(until),
            Action::FetchLog(fetch) => self.fetch(fetch),
            Action::CloseFetch { fetch } => {
                if let Some(task) = self.state.fetches.remove(&fetch) {
                    task.abort();
                }
            }
            Action::Leave(leave) => self.state.left = Some(leave),
        }
    }

    fn connect(&mut self, address: String) {
        self.disconnect();
        self.state.generation += 1;
        let (generation, tell) = (self.state.generation, self.tell.clone());
        let (speaker, speech) = speech();
        let news = move |news| drop(tell.send(Input::Link { generation, news }));
        let task = self.state.tasks.spawn(link::attach(address.clone(), speech, news));
        self.state.link = Some(Link { speaker, task, address });
    }

    fn disconnect(&mut self) {
        // What an older stream still says counts for nothing.
        self.state.generation += 1;
        if let Some(link) = self.state.link.take() {
            link.task.abort();
        }
        std::mem::take(&mut self.state.fetches).into_values().for_each(|task| task.abort());
    }

    fn remove_old_output(&mut self) {
        let (attempts, limits) = (self.home.attempts(), self.config.logs.clone());
        self.state.tasks.spawn_blocking(move || logs::remove_old(&attempts, &limits, clock::wall()));
    }

    fn fetch(&mut self, fetch: Fetch) {
        let Some(link) = &self.state.link else { return };
        self.state.fetches.retain(|_, task| !task.is_finished());
        if self.state.fetches.len() >= FETCHES_MAX {
            tracing::warn!(fetch = fetch.fetch, "too much output is being read at once");
            let _ = link.speaker.chunks.try_send(logs::refusal(fetch));
            return;
        }
        let is_due = self.core.saved().orders.values().any(|taken| {
            let order = &taken.order;
            order.job == fetch.job
                && order.tasks.contains(fetch.task)
                && order.spec.work.kind() == Kind::Process
                && (fetch.attempt == 0 || fetch.attempt == order.attempt)
        });
        let (attempts, limits) = (self.home.attempts(), self.config.logs.clone());
        let send = logs::send(fetch, is_due, attempts, limits, link.speaker.chunks.clone());
        self.state.fetches.insert(fetch.fetch, self.state.tasks.spawn(send));
    }

    async fn part(mut self, leave: Leave) -> Result<Left, WorkerError> {
        self.disconnect();
        self.processes.part().await;
        match leave {
            Leave::Drained => Ok(Left::Drained),
            Leave::DrainTimeout => Ok(Left::LeftRunning),
            Leave::Refused(refusal) => Err(WorkerError::Refused(refusal)),
        }
    }
}

// Attempts.
impl Shell {
    fn session(&self) -> u64 {
        self.core.saved().session.map_or(0, |session| session.id.0)
    }

    fn start(&mut self, order: Arc<Order>, tasks: Run) {
        let (session, seq, task) = (self.session(), order.seq, tasks.first);
        let _in_attempt = span(&order, task).entered();
        tracing::debug!(tasks = tasks.len, "starting");
        match order.spec.work.kind() {
            Kind::Noop => {
                let now = clock::wall();
                self.ended(seq, tasks, Box::new(Ended::succeeded(Some(now), now)));
            }
            Kind::Process => {
                let key = self.processes.unused(Key { session, seq, task });
                self.processes.start(key, order);
            }
            kind => match self.executors.get(&kind).cloned() {
                Some(executor) => self.start_inside(executor, order, task),
                None => {
                    let message = format!("this worker does not run tasks of kind {kind}");
                    let now = clock::wall();
                    let ended = Ended::new(Verdict::Failed, Reason::Unsupported, &message, now);
                    self.ended(seq, tasks, Box::new(ended));
                }
            },
        }
    }

    fn start_inside(&mut self, executor: Arc<dyn Executor>, order: Arc<Order>, task: u32) {
        let (seq, started) = (order.seq, clock::wall());
        let (control, stopping) = executor::control();
        let control = Arc::new(control);
        self.state.controls.insert(seq, control.clone());
        let result_bytes_max = self.processes.bounds.result_bytes_max;
        let attempt = Attempt { order, task, started, stopping, result_bytes_max };
        let (tell, grace): (_, Duration) = (self.tell.clone(), self.config.stop_grace);
        let run = async move {
            let ended = Box::new(executor::supervise(executor, attempt, control, grace).await);
            let _ = tell.send(Input::Ended { seq, task, ended });
        };
        self.state.tasks.spawn(run.in_current_span());
        self.step(Event::Started { seq, task, at: started });
    }

    fn stop(&mut self, seq: Seq) {
        match self.state.controls.get(&seq) {
            Some(control) => control.stop(),
            None => self.processes.stop(seq),
        }
    }

    fn kill(&mut self, seq: Seq) {
        match self.state.controls.get(&seq) {
            Some(control) => control.kill(),
            None => self.processes.kill(seq),
        }
    }
}
