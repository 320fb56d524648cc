//! From a configuration to a running worker: the data directory, the keeper, what an earlier process left.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use model::constraint::LABEL_ADDRESS;
use model::{Kind, Moment, Run};
use tokio::sync::mpsc;
use worker_core::{Core, Ended, Event, Saved, Taken};

use crate::address;
use crate::cgroup;
use crate::claims;
use crate::clock;
use crate::config::Config;
use crate::convert::Introduction;
use crate::executor::{Context, Executor, Functions, Sleep};
use crate::home::{Home, HomeError};
use crate::journal::Journal;
use crate::keeper::protocol::{Held, Key, Notice};
use crate::prepare::Site;
use crate::processes::{News, Processes, Told};
use crate::shell::{Input, Left, Shell, State, WorkerError};
use crate::sys;

/// For the keeper to answer, and for what a former session left to be gone.
const KEEPER_MAX: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error("a worker needs the address of at least one replica")]
    NoServers,
    #[error("what the worker must remember cannot be read")]
    Journal(#[source] io::Error),
    #[error("the keeper cannot be used; see keeper.log in the data directory")]
    Keeper,
    #[error("this host does not let the worker adopt what its keeper leaves")]
    Subreaper(#[source] io::Error),
}

/// Collects what a worker can do.
pub struct WorkerBuilder {
    config: Config,
    functions: Functions,
    executors: BTreeMap<Kind, Arc<dyn Executor>>,
}

impl WorkerBuilder {
    pub(crate) fn new(config: Config) -> WorkerBuilder {
        let sleep: Arc<dyn Executor> = Arc::new(Sleep);
        let executors = BTreeMap::from([(Kind::Sleep, sleep)]);
        WorkerBuilder { config, functions: Functions::default(), executors }
    }

    /// Makes an async function a task of kind function: bytes in, bytes out or the reason why not.
    pub fn register<F, R>(mut self, name: &str, function: F) -> WorkerBuilder
    where
        F: Fn(Vec<u8>, Context) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Vec<u8>, String>> + Send + 'static,
    {
        self.functions.register(name, function);
        self
    }

    /// The same for a function that blocks. It cannot be ended from outside: it should look at `Context::stopping`.
    pub fn register_blocking<F>(mut self, name: &str, function: F) -> WorkerBuilder
    where
        F: Fn(Vec<u8>, Context) -> Result<Vec<u8>, String> + Send + Sync + 'static,
    {
        self.functions.register_blocking(name, function);
        self
    }

    /// Runs a kind of work inside the worker. Noops and processes are the worker's own.
    pub fn executor(mut self, kind: Kind, executor: impl Executor) -> WorkerBuilder {
        self.executors.insert(kind, Arc::new(executor));
        self
    }

    /// Takes the data directory, finds or starts the keeper and takes over what it holds.
    pub async fn start(mut self) -> Result<Worker, StartError> {
        if self.config.servers.is_empty() {
            return Err(StartError::NoServers);
        }
        sys::raise_open_files();
        let home = Arc::new(Home::open(&self.config.data_dir)?);
        let (journal, saved) = Journal::open(home.path(), &self.config.name).map_err(StartError::Journal)?;
        sys::become_subreaper().map_err(StartError::Subreaper)?;
        let cgroup = cgroup::Parent::detect().filter(|_| self.config.cgroups);
        let introduction = self.introduce(&home, cgroup.as_ref());
        if !self.functions.is_empty() {
            self.executors.insert(Kind::Function, Arc::new(self.functions));
        }
        let site = Site {
            spares: home.spares().clone(),
            secrets_dir: self.config.secrets_dir.clone(),
            cgroup,
            stream_bytes_max: self.config.logs.stream_bytes_max,
            grace: self.config.stop_grace,
        };
        let (tell, inputs) = mpsc::unbounded_channel();
        let (news, from_processes) = mpsc::unbounded_channel();
        let mut processes = Processes::new(home.clone(), site, self.config.keeper.clone(), news);
        let mut adoption = Adoption { news: from_processes, later: Vec::new() };
        let (lease, held) = adoption.take(&mut processes, &saved).await?;
        #[cfg_attr(
            not(feature = "chaos"),
            expect(unused_mut, reason = "only the chaos build has bugs to plant")
        )]
        let mut core = Core::new(
            worker_core::Config {
                capacity: self.config.capacity.total.clone(),
                servers: self.config.servers.clone(),
                lease,
                seed: seed(home.secret()),
            },
            saved,
        );
        #[cfg(feature = "chaos")]
        core.mutate(self.config.mutant);
        let mut state = State::default();
        state.tasks.spawn(claims::run(state.claimant.subscribe(), seed(home.secret())));
        // One queue from here on.
        let (to_shell, mut news) = (tell.clone(), adoption.news);
        state.tasks.spawn(async move {
            for news in adoption.later {
                let _ = to_shell.send(Input::Processes(news));
            }
            while let Some(news) = news.recv().await {
                let _ = to_shell.send(Input::Processes(news));
            }
        });
        let mut shell = Shell {
            config: self.config,
            home,
            journal,
            core,
            introduction,
            executors: self.executors,
            processes,
            inputs,
            tell,
            state,
        };
        shell.resume(&held);
        Ok(Worker { handle: Handle(shell.tell.clone()), shell })
    }

    fn introduce(&self, home: &Home, cgroup: Option<&cgroup::Parent>) -> Introduction {
        let mut kinds = vec![Kind::Process, Kind::Noop];
        kinds.extend(self.executors.keys());
        if !self.functions.is_empty() {
            kinds.push(Kind::Function);
        }
        kinds.sort();
        kinds.dedup();
        let mut labels = self.config.labels.clone();
        if !labels.contains_key(LABEL_ADDRESS) {
            let own = address::towards(&self.config.servers);
            labels.extend(own.map(|address| (LABEL_ADDRESS.to_owned(), address)));
        }
        Introduction {
            worker: self.config.name.clone(),
            secret: home.secret().to_vec(),
            capacity: self.config.capacity.clone(),
            labels,
            kinds,
            functions: self.functions.names(),
            isolation: isolation(cgroup).to_owned(),
        }
    }
}

/// How attempts are held to their limits, in words.
fn isolation(cgroup: Option<&cgroup::Parent>) -> &'static str {
    match cgroup {
        Some(cgroup::Parent::V1 { .. }) => "cgroup v1 (memory)",
        Some(cgroup::Parent::V2 { .. }) => "cgroup v2 (memory)",
        None => "rlimits (memory: RLIMIT_DATA, per process)",
    }
}

fn seed(secret: &[u8]) -> u64 {
    let start: [u8; 8] = std::array::from_fn(|place| secret.get(place).copied().unwrap_or(0));
    u64::from_le_bytes(start) ^ clock::moment().0
}

struct Adoption {
    news: mpsc::UnboundedReceiver<News>,
    /// Of attempts that are adopted once the strange ones are gone.
    later: Vec<News>,
}

impl Adoption {
    /// The lease that the keeper counts, and what it holds of the saved orders. Anything else is killed first.
    async fn take(
        &mut self,
        processes: &mut Processes,
        saved: &Saved,
    ) -> Result<(Option<Moment>, Vec<Held>), StartError> {
        processes.connect(Duration::ZERO);
        let adopt = async {
            let (lease, held) = self.state(processes).await?;
            let (known, strange): (Vec<Held>, Vec<Held>) =
                held.into_iter().partition(|held| order_of(saved, held.key).is_some());
            let mut running: Vec<Key> =
                strange.iter().filter_map(|held| processes.dismiss(held).then_some(held.key)).collect();
            while !running.is_empty() {
                let news = self.news.recv().await.ok_or(StartError::Keeper)?;
                match &news {
                    News::Notice { notice: Notice::Exited { key, .. }, .. } if running.contains(key) => {
                        running.retain(|other| other != key);
                        processes.hear(news);
                    }
                    News::Notice { .. } => self.later.push(news),
                    _ => drop(processes.hear(news)),
                }
            }
            Ok((lease, known))
        };
        tokio::time::timeout(KEEPER_MAX, adopt).await.unwrap_or(Err(StartError::Keeper))
    }

    async fn state(&mut self, processes: &mut Processes) -> Result<(Option<Moment>, Vec<Held>), StartError> {
        loop {
            match self.news.recv().await {
                Some(News::Notice { notice: Notice::State { lease_us, attempts }, .. }) => {
                    return Ok((lease_us.map(Moment), attempts));
                }
                Some(News::KeeperGone { .. }) | None => return Err(StartError::Keeper),
                Some(news) => drop(processes.hear(news)),
            }
        }
    }
}

/// The order under which an attempt was begun.
fn order_of(saved: &Saved, key: Key) -> Option<&Taken> {
    let session = saved.session?.id.0;
    let taken = saved.orders.get(&key.seq)?;
    let is_running = taken.running == Some(Run::new(key.task, 1));
    (session == key.session && is_running).then_some(taken)
}

impl Shell {
    /// Tells the core what became of what ran when the former process ended.
    fn resume(&mut self, held: &[Held]) {
        let Some(session) = self.core.saved().session else { return };
        let running: Vec<Taken> =
            self.core.saved().orders.values().filter(|taken| taken.running.is_some()).cloned().collect();
        for taken in running {
            let Some(tasks) = taken.running else { continue };
            let seq = taken.order.seq;
            let told = match taken.order.spec.work.kind() {
                Kind::Process => {
                    let key = Key { session: session.id.0, seq, task: tasks.first };
                    let held = held.iter().find(|held| held.key == key);
                    self.processes.adopt(key, &taken, held)
                }
                Kind::Noop => {
                    let now = clock::wall();
                    self.step(Event::Ended { seq, tasks, ended: Box::new(Ended::succeeded(Some(now), now)) });
                    None
                }
                _ => {
                    let (verdict, reason) = (model::Verdict::Lost, model::Reason::WorkerLost);
                    let message = "the worker that ran it inside itself ended";
                    let ended = Box::new(Ended::new(verdict, reason, message, clock::wall()));
                    self.step(Event::Ended { seq, tasks, ended });
                    None
                }
            };
            told.into_iter().for_each(|told: Told| self.told(told));
        }
    }
}

/// A worker that has its data directory and its keeper.
pub struct Worker {
    shell: Shell,
    handle: Handle,
}

impl Worker {
    pub fn builder(config: Config) -> WorkerBuilder {
        WorkerBuilder::new(config)
    }

    /// How attempts are held to their limits.
    pub fn isolation(&self) -> &str {
        &self.shell.introduction.isolation
    }

    /// To end it from elsewhere.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Works until it is told to leave or refused.
    pub async fn run(self) -> Result<Left, WorkerError> {
        self.shell.run().await
    }
}

/// Ends a running worker.
#[derive(Clone)]
pub struct Handle(mpsc::UnboundedSender<Input>);

impl Handle {
    /// No new work; leaves when idle, or after `Config::drain_timeout`.
    pub fn drain(&self) {
        let _ = self.0.send(Input::Drain);
    }

    /// Leaves at once. What runs stays with the keeper, for a worker that is started within the lease.
    pub fn leave(&self) {
        let _ = self.0.send(Input::Leave);
    }
}
