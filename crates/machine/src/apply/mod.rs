//! Commands become changes. Reads only the state and the entry: no clock, no chance, no order of a hash.

mod adapt;
pub(crate) mod bookings;
pub(crate) mod cancel;
pub(crate) mod change;
pub(crate) mod claim;
pub(crate) mod deps;
pub(crate) mod gang;
pub(crate) mod outcomes;
pub(crate) mod parts;
pub(crate) mod periodic;
pub(crate) mod place;
pub(crate) mod preempt;
pub(crate) mod queues;
pub(crate) mod report;
pub(crate) mod retry;
pub(crate) mod sessions;
pub(crate) mod slices;
pub(crate) mod submit;
pub(crate) mod tick;
pub(crate) mod waits;
pub(crate) mod write;

use std::sync::Arc;
use std::time::Duration;

use model::{Elapsed, JobId, LogIndex};

use crate::chores::Budget;
use crate::state::deficit::Turn;
use crate::state::queues::Queue;
use crate::state::{Out, State};
use crate::{Applied, Bootstrap, Command, Entry, Rejection, Reply, Stamp};

/// How much faster than the cluster's own clock the wall clock may run within one entry.
pub const WALL_SLEW_MAX: Duration = Duration::from_millis(500);

impl State {
    /// Applies the entry at `index`, which is above every one before.
    pub fn apply(&mut self, index: LogIndex, entry: &Entry) -> Applied {
        self.apply_hashed(index, entry, crate::digest::hash(entry))
    }

    /// The same, with the hash of the entry for the digest: of its bytes, where they are at hand. All replicas of a cluster
    /// must take it from the same form.
    pub fn apply_hashed(&mut self, index: LogIndex, entry: &Entry, hash: u64) -> Applied {
        self.advance(index, entry);
        let rows = self.limits().rows_per_apply_max as usize;
        // Timers have their own half, and chores the other: neither waits for the other's end.
        let ticks = entry.commands.iter().any(|command| matches!(command, Command::Tick));
        let mut budget = Budget::new(if ticks { rows - rows / 2 } else { rows });
        let mut replies = Vec::with_capacity(entry.commands.len());
        for command in &entry.commands {
            // So that a submit and the placement of its tasks may share an entry, and a write finds what those before it
            // have brought about.
            if matches!(command, Command::Place(_) | Command::Write(_) | Command::Release { .. }) {
                self.run_chores(&mut budget);
            }
            replies.push(self.apply_command(command, &mut budget));
        }
        self.run_chores(&mut budget);
        tick::evict(self, &mut budget);
        let Out { effects, events, woken: _ } = std::mem::take(&mut self.out);
        let applied = Applied { replies, effects, events };
        self.meta.digest = self.chained(hash, &applied);
        applied
    }

    fn advance(&mut self, index: LogIndex, entry: &Entry) {
        self.meta.index = index;
        let before = self.meta.stamp;
        let elapsed = entry.stamp.elapsed.max(before.elapsed);
        let first = !self.is_bootstrapped();
        let leaps = entry.commands.iter().any(|command| {
            matches!(command, Command::SetClock) || (first && matches!(command, Command::Bootstrap(_)))
        });
        let ceiling = before.wall.plus(elapsed.since(before.elapsed)).plus(WALL_SLEW_MAX);
        let wall = if leaps { entry.stamp.wall } else { entry.stamp.wall.min(ceiling) };
        self.meta.stamp = Stamp { elapsed, wall: wall.max(before.wall) };
        // Somebody's time has come.
        let passed = (Elapsed(before.elapsed.0 + 1), JobId(0), 0)..=(elapsed, JobId(u64::MAX), u32::MAX);
        if elapsed > before.elapsed && self.index.starts.range(passed).next().is_some() {
            self.wake();
        }
        if elapsed > before.elapsed && self.slices_ended(before.elapsed) {
            self.wake();
        }
    }

    fn apply_command(&mut self, command: &Command, budget: &mut Budget) -> Reply {
        if !self.is_bootstrapped() && !matches!(command, Command::Bootstrap(_)) {
            return Rejection::NotBootstrapped.into();
        }
        let result = match command {
            Command::Bootstrap(bootstrap) => self.bootstrap(bootstrap),
            Command::Write(write) => return write::apply(self, write),
            Command::Place(plan) => Ok(place::apply(self, plan)),
            Command::OpenSession(open) => sessions::open(self, open),
            Command::EndSession { session } => sessions::end(self, *session),
            Command::Report(batch) => report::apply(self, batch),
            Command::Tick => Ok(tick::apply(self, budget)),
            Command::Release { first, count } => periodic::release(self, *first, *count),
            Command::SetClock => Ok(Reply::Done),
        };
        result.unwrap_or_else(Reply::from)
    }

    fn bootstrap(&mut self, bootstrap: &Bootstrap) -> Result<Reply, Rejection> {
        if self.is_bootstrapped() {
            return Err(Rejection::Bootstrapped);
        }
        let errors = bootstrap.settings.validate();
        if !errors.is_empty() {
            return Err(Rejection::Invalid { errors });
        }
        self.meta.level = bootstrap.level.max(1);
        self.meta.cluster = bootstrap.cluster.clone();
        self.meta.settings = Arc::new(bootstrap.settings.clone());
        self.meta.epoch = bootstrap.epoch;
        self.meta.next_node = bootstrap.next_node;
        let name = model::spec::QUEUE_DEFAULT;
        let queue = Queue::new(0, name, crate::command::WEIGHT_DEFAULT, Turn::default());
        self.meta.next_queue = 1;
        self.index.queue_names.insert(name.to_owned(), 0);
        self.queues.insert(0, queue);
        Ok(Reply::Done)
    }
}
