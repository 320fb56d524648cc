//! What only the chaos build has: faults that are switched on and off while the process runs, a trace of what is
//! applied, damage to a disk, and seeded bugs. The fault-injection suite uses them.
//!
//! Two variables of the environment name files: [`KNOBS_VARIABLE`] one that the suite writes and this process looks at
//! (see [`knobs`]), [`TRACE_VARIABLE`] one that this process writes and the suite reads (see [`trace`]).

mod backend;
mod damage;
pub mod knobs;
mod mutant;
pub mod trace;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::Moment;

use crate::chaos::backend::Faulty;
use crate::chaos::knobs::Knobs;
use crate::chaos::trace::Trace;
use crate::env::WallOffset;
use crate::log::{LogBackend, Volatile};
use crate::start::Seams;
use crate::types::{Entry, LogId};

pub use damage::{Damage, DamageError, Damaged, damage};
pub use mutant::Mutant;

pub const KNOBS_VARIABLE: &str = "BATON_CHAOS";
pub const TRACE_VARIABLE: &str = "BATON_TRACE";

/// Between two syncs of a log that answers before it syncs.
const SYNC_NOW_AND_THEN: Duration = Duration::from_secs(1);

/// What a process was asked for. By default nothing.
#[derive(Clone, Debug, Default)]
pub struct Chaos {
    pub knobs: Option<PathBuf>,
    pub trace: Option<Arc<File>>,
    /// In this crate.
    pub mutant: Option<Mutant>,
    /// In the state.
    pub state: Option<machine::Mutant>,
}

impl Chaos {
    /// Without bugs: their name is the process's affair, for most of them are elsewhere.
    pub fn from_env() -> io::Result<Chaos> {
        let named = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let trace = named(TRACE_VARIABLE).map(|path| trace::open(&path)).transpose()?.map(Arc::new);
        Ok(Chaos { knobs: named(KNOBS_VARIABLE), trace, ..Chaos::default() })
    }

    /// The hooks alone, for a simulation, whose disks and clocks are its own.
    pub fn hooks(&self) -> Hooks {
        Hooks { trace: None, mutant: self.mutant, state: self.state, synced: Arc::default() }
    }

    /// The same seams with the hooks in them. `offset`: what all wall clocks of this process go by.
    pub fn arm(&self, seams: Seams, offset: &WallOffset) -> Seams {
        let Seams { env, open_log, hooks: _ } = seams;
        let knobs = Knobs::watched(self.knobs.clone(), offset.clone());
        let trace = self.trace.clone().map(|file| Arc::new(Trace::new(file, env.clone())));
        let hooks = Hooks { trace, mutant: self.mutant, state: self.state, synced: Arc::default() };
        // Only at the start: what is in memory by then would otherwise be neither here nor there.
        let is_volatile = knobs.is_volatile();
        let open_log = Box::new(move |dir: &std::path::Path| {
            let inner = open_log(dir)?;
            let inner: Box<dyn LogBackend> = if is_volatile { Box::new(Volatile::new(inner)) } else { inner };
            Ok(Box::new(Faulty::new(inner, knobs)) as Box<dyn LogBackend>)
        });
        Seams { env, open_log, hooks }
    }
}

/// Where the rest of the crate asks and tells.
#[derive(Clone, Default)]
pub struct Hooks {
    trace: Option<Arc<Trace>>,
    mutant: Option<Mutant>,
    state: Option<machine::Mutant>,
    /// When the log was synced last, in microseconds; 0: never.
    synced: Arc<AtomicU64>,
}

// The trace.
impl Hooks {
    /// While the state is held: nobody may see what the trace does not have.
    pub(crate) fn applied(
        &self,
        id: LogId,
        state: &machine::State,
        entry: &machine::Entry,
        applied: &machine::Applied,
    ) {
        if let Some(trace) = &self.trace {
            trace.applied(id, state.digest(), entry, applied);
        }
    }

    /// A blank entry or a membership.
    pub(crate) fn passed(&self, entry: &Entry) {
        if let Some(trace) = &self.trace {
            trace.passed(entry);
        }
    }

    /// A state is in place that no entry has brought about: the one at the start, or a leader's snapshot.
    pub(crate) fn loaded(&self, index: u64, state: &machine::State) {
        if let Some(trace) = &self.trace {
            trace.loaded(index, state.digest());
        }
    }

    pub(crate) fn built(&self, index: u64) {
        if let Some(trace) = &self.trace {
            trace.built(index);
        }
    }

    pub(crate) fn led(&self, term: u64) {
        if let Some(trace) = &self.trace {
            trace.led(term);
        }
    }
}

// Seeded bugs.
impl Hooks {
    /// Plants the state's bug; every state that comes from a snapshot needs it anew.
    pub(crate) fn arm(&self, state: &mut machine::State) {
        state.mutate(self.state);
    }

    pub(crate) fn puts_sync_off(&self, now: impl FnOnce() -> Moment) -> bool {
        if self.mutant != Some(Mutant::AckBeforeSync) {
            return false;
        }
        let (now, synced) = (now(), Moment(self.synced.load(Ordering::Relaxed)));
        let is_due = synced == Moment(0) || now.since(synced) >= SYNC_NOW_AND_THEN;
        if is_due {
            self.synced.store(now.0.max(1), Ordering::Relaxed);
        }
        !is_due
    }

    pub(crate) fn skips_vote_sync(&self) -> bool {
        self.mutant == Some(Mutant::SkipVoteSync)
    }

    pub(crate) fn reads_at_once(&self) -> bool {
        self.mutant == Some(Mutant::ReadWithoutIndex)
    }

    pub(crate) fn accepts_lost_tail(&self) -> bool {
        self.mutant == Some(Mutant::LostTailAccepted)
    }
}
