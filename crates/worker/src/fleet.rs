//! Many workers in one process, to measure a cluster under them. Each has a core, a stream and a connection of its own;
//! they run noops only, hold no processes and forget everything when they end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::{Capacity, Kind, Reason, Run, Term, Verdict};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use worker_core::{Action, Core, Ended, Event, Message, Order, Record, Saved};

use crate::clock;
use crate::convert::{Heard, Introduction, word};
use crate::link::{self, News, Speaker, speech};
use crate::sys;

/// Until the next look, where the core waits for news only.
const NOTHING_DUE: Duration = Duration::from_secs(1);

/// What each of them is like.
#[derive(Clone, Debug)]
pub struct Config {
    pub workers: usize,
    /// API addresses of replicas, `host:port`.
    pub servers: Vec<String>,
    pub capacity: Capacity,
}

/// They end when it is dropped, without a word.
pub struct Fleet {
    counts: Arc<Counts>,
    _members: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Counts {
    /// By worker: the term of the leader that it is attached to; 0: it is attached to none.
    terms: Vec<AtomicU64>,
    sessions_lost: AtomicU64,
    refused: AtomicU64,
    renewals: AtomicU64,
    connects: AtomicU64,
}

impl Fleet {
    /// Within a runtime. Fails where the kernel gives no chance.
    pub fn start(config: &Config) -> io::Result<Fleet> {
        sys::raise_open_files();
        let terms = (0..config.workers).map(|_| AtomicU64::new(0)).collect();
        let counts = Arc::new(Counts { terms, ..Counts::default() });
        let mut members = JoinSet::new();
        for place in 0..config.workers {
            members.spawn(Member::new(place, config, counts.clone())?.run());
        }
        Ok(Fleet { counts, _members: members })
    }

    /// How many are attached to a leader of this term or a later one. Terms begin at 1.
    pub fn attached(&self, term_min: Term) -> usize {
        let terms = self.counts.terms.iter().map(|term| term.load(Ordering::Relaxed));
        terms.filter(|term| *term >= term_min.max(1)).count()
    }

    /// Sessions that the leader ended, or did not know any more.
    pub fn sessions_lost(&self) -> u64 {
        self.counts.sessions_lost.load(Ordering::Relaxed)
    }

    /// Workers that the cluster would not have; these have ended.
    pub fn refused(&self) -> u64 {
        self.counts.refused.load(Ordering::Relaxed)
    }

    /// Connections that were tried.
    pub fn connects(&self) -> u64 {
        self.counts.connects.load(Ordering::Relaxed)
    }

    /// Heartbeats that were answered.
    pub fn renewals(&self) -> u64 {
        self.counts.renewals.load(Ordering::Relaxed)
    }
}

struct Member {
    place: usize,
    core: Core,
    introduction: Introduction,
    counts: Arc<Counts>,
    news: mpsc::UnboundedReceiver<(u64, News)>,
    tell: mpsc::UnboundedSender<(u64, News)>,
    /// Of the stream: what an older one still says counts for nothing.
    generation: u64,
    link: Option<(Speaker, AbortHandle)>,
    streams: JoinSet<()>,
    actions: Vec<Action>,
    has_left: bool,
}

impl Member {
    fn new(place: usize, config: &Config, counts: Arc<Counts>) -> io::Result<Member> {
        let secret: [u8; 32] = sys::random()?;
        let seed = u64::from_le_bytes(std::array::from_fn(|byte| secret[byte]));
        let core = worker_core::Config {
            capacity: config.capacity.total.clone(),
            servers: config.servers.clone(),
            lease: None,
            seed,
        };
        let introduction = Introduction {
            worker: format!("fleet-{:05}", place + 1),
            secret: secret.to_vec(),
            capacity: config.capacity.clone(),
            labels: Default::default(),
            kinds: vec![Kind::Noop],
            functions: Vec::new(),
            isolation: "none: it runs noops only".to_owned(),
        };
        let (tell, news) = mpsc::unbounded_channel();
        Ok(Member {
            place,
            core: Core::new(core, Saved::default()),
            introduction,
            counts,
            news,
            tell,
            generation: 0,
            link: None,
            streams: JoinSet::new(),
            actions: Vec::new(),
            has_left: false,
        })
    }

    async fn run(mut self) {
        loop {
            self.settle();
            if self.has_left {
                return;
            }
            let now = clock::moment();
            let wait = self.core.next_due().map_or(NOTHING_DUE, |due| due.since(now));
            tokio::select! {
                biased;
                Some((generation, news)) = self.news.recv() => self.take(generation, news),
                () = tokio::time::sleep(wait) => {}
            }
            while let Ok((generation, news)) = self.news.try_recv() {
                self.take(generation, news);
            }
            while self.streams.try_join_next().is_some() {}
        }
    }

    fn step(&mut self, event: Event) {
        let actions = self.core.step(event, clock::moment());
        self.actions.extend(actions);
    }

    fn take(&mut self, generation: u64, news: News) {
        if generation != self.generation {
            return;
        }
        match news {
            News::Up => self.step(Event::Up),
            News::Heard(heard) => self.hear(heard),
            News::Down { why } => {
                tracing::debug!(worker = self.introduction.worker, why, "no stream");
                self.link = None;
                self.attached_to(0);
                self.step(Event::Down);
            }
        }
    }

    fn hear(&mut self, heard: Heard) {
        if let Event::Said { term, message, .. } = &heard.event {
            match message {
                // Should it be the wrong one, the core hangs up at once.
                Message::Welcome(_) => self.attached_to(*term),
                Message::Renewed { .. } => drop(self.counts.renewals.fetch_add(1, Ordering::Relaxed)),
                _ => {}
            }
        }
        self.step(heard.event);
    }

    fn attached_to(&self, term: Term) {
        self.counts.terms[self.place].store(term, Ordering::Relaxed);
    }

    /// Does what the steps so far ask for, and what follows from it at once.
    fn settle(&mut self) {
        self.step(Event::Tick);
        while !self.actions.is_empty() {
            for action in std::mem::take(&mut self.actions) {
                self.perform(action);
            }
            self.step(Event::Tick);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Save(Record::SessionEnded) => {
                self.counts.sessions_lost.fetch_add(1, Ordering::Relaxed);
            }
            // Nothing of it outlives the process, and what runs has ended already.
            Action::Save(_)
            | Action::Lease { .. }
            | Action::Stop { .. }
            | Action::Kill { .. }
            | Action::Switch { .. } => {}
            Action::Connect { address } => self.connect(address),
            Action::Disconnect => self.disconnect(),
            Action::Send(outgoing) => {
                if let Some((speaker, _)) = &self.link {
                    let _ = speaker.words.send(word(outgoing, &self.introduction));
                }
            }
            Action::Start { order, tasks } => self.start(&order, tasks),
            // Noops have no output that anybody could ask for.
            Action::FetchLog(_) | Action::CloseFetch { .. } => {}
            Action::Leave(why) => {
                tracing::warn!(worker = self.introduction.worker, ?why, "a worker of the fleet leaves");
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                self.has_left = true;
            }
        }
    }

    fn connect(&mut self, address: String) {
        self.disconnect();
        self.counts.connects.fetch_add(1, Ordering::Relaxed);
        let (generation, tell) = (self.generation, self.tell.clone());
        let (speaker, speech) = speech();
        let news = move |news| drop(tell.send((generation, news)));
        let task = self.streams.spawn(link::attach(address, speech, news));
        self.link = Some((speaker, task));
    }

    fn disconnect(&mut self) {
        self.generation += 1;
        self.attached_to(0);
        if let Some((_, task)) = self.link.take() {
            task.abort();
        }
    }

    fn start(&mut self, order: &Order, tasks: Run) {
        let now = clock::wall();
        let ended = match order.spec.work.kind() {
            Kind::Noop => Ended::succeeded(Some(now), now),
            kind => {
                let message = format!("a fleet does not run tasks of kind {kind}");
                Ended::new(Verdict::Failed, Reason::Unsupported, &message, now)
            }
        };
        self.step(Event::Ended { seq: order.seq, tasks, ended: Box::new(ended) });
    }
}
