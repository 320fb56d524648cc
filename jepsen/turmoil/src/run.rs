//! One run: builds the hosts, lets time go tick by tick, looks at everything after each, and judges.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures::future::join_all;
use replica::RaftState;
use turmoil::Sim;

use crate::client::Client;
use crate::history::Event;
use crate::invariants::{Final, Watch, told};
use crate::nemesis::Nemesis;
use crate::observe::{Observer, Seen};
use crate::panics::{self, Heard};
use crate::report::{Report, Verdict};
use crate::worker::Worker;
use crate::world::{OUTSIDERS, World};
use crate::{EPOCH, Options, Stack, calm, host};
use sim::chance::Trace;

const TICK: Duration = Duration::from_millis(1);

/// Connections that all replicas together may try in a second: more, and somebody does not back off.
const CONNECTS_PER_SECOND_MAX: u64 = 300;
/// With fewer answers than this a run says nothing.
const ACKNOWLEDGED_MIN: u64 = 20;

pub fn run(options: Options) -> Report {
    let dir = tempfile::tempdir_in(scratch()).expect("a directory for snapshots");
    let seed = options.seed;
    replica::chance::begin(seed << 32);
    panics::begin(move |heard| last_words(seed, heard));
    let world = Arc::new(World::new(options, dir.path()));
    let mut run = Run::new(world.clone());
    let outcome = catch_unwind(AssertUnwindSafe(|| run.go()));
    run.hear(panics::end());
    if outcome.is_err() && run.harmless {
        // Its runtime went down with it, so the run ends here, and nothing can be said.
        run.watch.found.clear();
        run.acknowledged = 0;
    } else if outcome.is_err() && run.watch.found.is_empty() {
        run.find("no panic", "the simulation itself has panicked");
    }
    run.report()
}

/// Panics within panics end the process, and nobody else will say of which seed.
#[allow(clippy::disallowed_methods)] // Destructors are what it dies of.
fn last_words(seed: u64, heard: Heard) {
    let verdict = if heard.harmless { Verdict::Unknown } else { Verdict::False };
    let broken = if heard.harmless { Vec::new() } else { heard.panics };
    println!("{}", serde_json::json!({ "seed": seed, "verdict": verdict.word(), "broken": broken }));
    std::process::exit(verdict.exit_status().into());
}

/// Snapshots are real files and are synced: in memory that costs nothing.
fn scratch() -> std::path::PathBuf {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

struct Run {
    world: Arc<World>,
    observer: Observer,
    watch: Watch,
    now: Duration,
    leaders: BTreeMap<u64, u64>,
    term: u64,
    acknowledged: u64,
    reads: u64,
    jobs_finished: u64,
    /// Whether a harmless panic was heard.
    harmless: bool,
    faults: BTreeMap<&'static str, u64>,
    trace: Trace,
}

impl Run {
    fn new(world: Arc<World>) -> Run {
        let observer = Observer::new(world.hosts.len());
        Run {
            world,
            observer,
            watch: Watch::default(),
            now: Duration::ZERO,
            leaders: BTreeMap::new(),
            term: 0,
            acknowledged: 0,
            reads: 0,
            jobs_finished: 0,
            harmless: false,
            faults: BTreeMap::new(),
            trace: Trace::default(),
        }
    }

    fn go(&mut self) {
        let ended = Rc::new(RefCell::new(None));
        let mut sim = build(&self.world, ended.clone());
        let mut nemesis = Nemesis::new(self.world.clone());
        let faults = self.world.options.faults;
        let (mut mended, limit) = (false, faults + calm::LIMIT);
        while ended.borrow().is_none() && self.watch.found.is_empty() {
            if self.now < faults {
                nemesis.step(&mut sim);
            } else if !mended {
                mended = true;
                nemesis.mend_all(&mut sim);
            }
            let stepped = sim.step();
            self.now = sim.elapsed();
            self.faults.clone_from(&nemesis.counts);
            self.look();
            if let Err(error) = stepped {
                self.find("the simulation", &error.to_string());
            }
            if self.now > limit {
                self.find("liveness", &format!("in {:?} of calm not: {}", calm::LIMIT, self.world.awaited()));
            }
        }
        if let Some(states) = ended.take() {
            self.watch.end(self.now, &states);
            let finished = |state: &Final| state.jobs.len() as u64 - state.unfinished;
            self.jobs_finished = states.first().map_or(0, finished);
        }
        let most = CONNECTS_PER_SECOND_MAX * (self.now.as_secs() + 1);
        if self.world.connects() > most {
            self.find("back-off", &format!("{} connections were tried", self.world.connects()));
        }
        // Before the hosts: what they hold would be locked.
        self.world.hosts.iter().for_each(|host| host.close());
    }

    fn find(&mut self, name: &str, what: &str) {
        self.watch.found.push(told(self.now, name, what));
    }

    fn look(&mut self) {
        let events = self.world.told();
        let seen = self.observer.look(&self.world);
        self.watch.look(self.now, &seen, &events);
        let Seen { nodes } = seen;
        for (inside, id) in nodes.iter().filter_map(|node| Some((node.inside?, node.id))) {
            self.term = self.term.max(inside.term);
            if inside.state == RaftState::Leader {
                self.leaders.insert(inside.term, id);
            }
        }
        events.iter().for_each(|event| self.count(event));
        self.hear(panics::take());
    }

    fn hear(&mut self, heard: Heard) {
        self.harmless |= heard.harmless;
        heard.panics.iter().for_each(|panic| self.find("no panic", panic));
    }

    fn count(&mut self, event: &Event) {
        let noted = match event {
            Event::WriteAsked { call } => [1, *call, 0],
            Event::WriteDone { call, write } => {
                self.acknowledged += 1;
                [2, *call, write.index]
            }
            Event::ReadAsked { call } => [3, *call, 0],
            Event::ReadDone { call, index, .. } => {
                self.reads += 1;
                [4, *call, *index]
            }
        };
        self.trace.note_all(&noted);
    }

    fn report(mut self) -> Report {
        self.trace.note_all(&[self.observer.trace.0, self.world.connects()]);
        let counts = self.observer.counts;
        let too_little = self.leaders.len() < 2 || self.acknowledged < ACKNOWLEDGED_MIN || self.reads == 0;
        let verdict = match (self.watch.found.is_empty(), too_little) {
            (false, _) => Verdict::False,
            (true, true) => Verdict::Unknown,
            (true, false) => Verdict::True,
        };
        Report {
            seed: self.world.options.seed,
            verdict,
            stack: self.world.options.stack,
            replicas: self.world.hosts.len(),
            virtual_time: self.now,
            terms: self.term,
            leaders: self.leaders.len(),
            acknowledged: self.acknowledged,
            reads: self.reads,
            jobs_finished: self.jobs_finished,
            snapshots_built: counts.snapshots_built,
            snapshots_installed: counts.snapshots_installed,
            faults: self.faults,
            broken: self.watch.found,
            trace: self.trace.0,
        }
    }
}

type Ended = Rc<RefCell<Option<Vec<Final>>>>;

fn build(world: &Arc<World>, ended: Ended) -> Sim<'static> {
    let options = &world.options;
    let mut sim = turmoil::Builder::new()
        .rng_seed(options.seed)
        .epoch(UNIX_EPOCH + EPOCH)
        // The run has a limit of its own.
        .simulation_duration(Duration::from_secs(1 << 30))
        .tick_duration(TICK)
        .min_message_latency(TICK)
        .max_message_latency(options.latency_max)
        .tcp_capacity(1 << 14)
        .build();
    for (at, host) in world.hosts.iter().enumerate() {
        let world = world.clone();
        sim.host(host.name, move || {
            let world = world.clone();
            async move {
                match world.options.stack {
                    Stack::Replica => host::live_bare(world, at).await,
                    Stack::Server => host::live_server(world, at).await,
                }
                Ok(())
            }
        });
    }
    let [clients, workers] = OUTSIDERS;
    if options.stack == Stack::Server {
        let world = world.clone();
        sim.client(workers, async move {
            join_all((0..world.options.workers).map(|number| Worker::new(world.clone(), number).work()))
                .await;
            Ok(())
        });
    }
    let world = world.clone();
    sim.client(clients, async move {
        let (clients, faults) = (world.options.clients, world.options.faults);
        join_all((0..clients).map(|number| Client::new(world.clone(), number).run(faults))).await;
        let states = calm::come_to_rest(world).await;
        ended.replace(Some(states));
        Ok(())
    });
    sim
}
