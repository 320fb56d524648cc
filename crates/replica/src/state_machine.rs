//! The replicated state under Raft: in memory, behind a lock that is held for one entry at a time.
//!
//! It knows no scheduling: it hands entries to `machine::State` in the order of the log and hands on what comes back.

use std::collections::VecDeque;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{Stream, StreamExt};
use machine::SharedSpecs;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

use crate::Hooks;
use crate::env::{Env, offload};
use crate::feed::{Feed, Publisher};
use crate::held::Held;
use crate::log::LogStore;
use crate::snapshot::{self, SnapshotFile, SnapshotStore};
use crate::types::{Entry, LogId, Proposal, Response, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};

/// A checkpoint of the digest is kept at every index that this divides.
pub(crate) const CHECKPOINT_EVERY: u64 = 32;
const CHECKPOINTS_MAX: usize = 128;

/// What the rest of the replica sees of the state.
pub(crate) struct Shared {
    pub state: RwLock<machine::State>,
    pub applied: watch::Sender<Option<LogId>>,
    /// The state's, as of the last entry applied: read by what must not wait for the lock. A plan is made under it,
    /// and Raft has two threads only.
    pub digest: AtomicU64,
    pub feed: Publisher,
    /// (index, digest), the oldest first.
    pub checkpoints: Mutex<VecDeque<(u64, u64)>>,
    pub held: Held,
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            state: RwLock::default(),
            applied: watch::Sender::new(None),
            digest: AtomicU64::new(machine::State::default().digest()),
            feed: Publisher::new(),
            checkpoints: Mutex::default(),
            held: Held::default(),
        }
    }
}

pub struct StateMachine {
    shared: Arc<Shared>,
    snapshots: Arc<SnapshotStore>,
    log: LogStore,
    env: Arc<dyn Env>,
    hooks: Hooks,
    /// What is above must not be applied here.
    level_max: u32,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    /// Of what was decoded here.
    specs: SharedSpecs,
}

impl StateMachine {
    pub(crate) fn new(
        shared: Arc<Shared>,
        snapshots: Arc<SnapshotStore>,
        log: LogStore,
        env: Arc<dyn Env>,
        (hooks, level_max): (Hooks, u32),
    ) -> StateMachine {
        if snapshots.current().is_none() {
            let mut state = shared.state.write();
            hooks.arm(&mut state);
            hooks.loaded(0, &state);
        }
        StateMachine {
            shared,
            snapshots,
            log,
            env,
            hooks,
            level_max,
            last_applied: None,
            membership: StoredMembership::default(),
            specs: SharedSpecs::default(),
        }
    }

    fn apply_one(&mut self, entry: Entry) -> io::Result<Response> {
        let index = entry.log_id.index;
        let mut replies = Vec::new();
        self.hooks.passed(&entry);
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(proposal) => replies = self.apply_entry(entry.log_id, &proposal)?,
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
        }
        self.last_applied = Some(entry.log_id);
        if index.is_multiple_of(CHECKPOINT_EVERY) {
            self.keep_checkpoint(index);
        }
        self.shared.applied.send_replace(self.last_applied);
        Ok(Response { index, replies })
    }

    fn apply_entry(&mut self, id: LogId, proposal: &Proposal) -> io::Result<Vec<machine::Reply>> {
        let index = id.index;
        let entry = proposal.entry_with(|entry| self.specs.share_entry(entry))?;
        if let Some(level) = machine::level::asked_by(entry) {
            self.check_level(level)?;
        }
        let hash = xxh3_64(proposal.bytes());
        let asked = self.env.now();
        let (applied, began) = {
            let mut state = self.shared.state.write();
            let began = self.env.now();
            // Raft would go on without a state machine that has panicked.
            let applied =
                std::panic::catch_unwind(AssertUnwindSafe(|| state.apply_hashed(index, entry, hash)));
            self.shared.digest.store(state.digest(), Ordering::Release);
            if let Ok(applied) = &applied {
                self.hooks.applied(id, &state, entry, applied);
            }
            (applied, began)
        };
        self.shared.held.apply_wait.record(began.since(asked));
        self.shared.held.apply.record(self.env.now().since(began));
        let Ok(applied) = applied else {
            self.env.stop(&format!("applying entry {index} panicked; the state cannot be trusted"));
            return Err(io::Error::other("apply panicked"));
        };
        let replies = applied.replies.clone();
        self.shared.feed.publish(Feed::Applied { index, applied: Arc::new(applied) });
        Ok(replies)
    }

    /// The others know what this one does not: from there on it would make another state of the same log.
    fn check_level(&self, level: u32) -> io::Result<()> {
        if level <= self.level_max { Ok(()) } else { Err(self.too_high(level)) }
    }

    fn too_high(&self, level: u32) -> io::Error {
        let max = self.level_max;
        let why = format!(
            "the cluster is at behaviour level {level} and this version of baton knows none above {max}; start this replica with the \
             version of the others: its data is as it was"
        );
        self.env.stop(&why);
        io::Error::other(why)
    }

    fn keep_checkpoint(&self, index: u64) {
        let digest = self.shared.digest.load(Ordering::Acquire);
        let mut checkpoints = self.shared.checkpoints.lock();
        if checkpoints.len() == CHECKPOINTS_MAX {
            checkpoints.pop_front();
        }
        checkpoints.push_back((index, digest));
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last_applied, last_membership: self.membership.clone() }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let response = self.apply_one(entry)?;
            if let Some(responder) = responder {
                responder.send(response);
            }
        }
        if let Some(last) = self.last_applied {
            self.log.applied(last.index);
        }
        Ok(())
    }

    /// Quick: it shares the state's pages, which are copied only where they change meanwhile.
    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let began = self.env.now();
        let (digest, frozen) = {
            let state = self.shared.state.read();
            (state.digest(), Arc::new(state.freeze()))
        };
        self.shared.held.freeze.record(self.env.now().since(began));
        SnapshotBuilder {
            meta: self.meta(),
            digest,
            frozen,
            snapshots: self.snapshots.clone(),
            env: self.env.clone(),
            hooks: self.hooks.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, file: SnapshotFile) -> Result<(), io::Error> {
        let (snapshots, covers) = (self.snapshots.clone(), meta.clone());
        let level_max = self.level_max;
        let read = offload(&self.env, move || {
            let level = snapshot::level(&file)?;
            let state = if level <= level_max { Some(snapshot::thaw(&file)?) } else { None };
            match state {
                None => Ok(Err(level)),
                // Up to 2 only the state itself says it.
                Some(state) if state.level() > level_max => Ok(Err(state.level())),
                Some(state) => snapshots.install(&covers, &file).map(|()| Ok(state)),
            }
        })
        .await?;
        let mut state = read.map_err(|level| self.too_high(level))?;
        let index = meta.last_log_id.map_or(0, |id| id.index);
        self.hooks.arm(&mut state);
        self.hooks.loaded(index, &state);
        self.shared.digest.store(state.digest(), Ordering::Release);
        let replaced = std::mem::replace(&mut *self.shared.state.write(), state);
        // The chain begins anew at the snapshot.
        self.shared.checkpoints.lock().clear();
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.shared.applied.send_replace(self.last_applied);
        self.shared.feed.publish(Feed::Installed { index });
        // It may be large, and nobody should wait for its end.
        offload(&self.env, move || drop(replaced)).await;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.snapshots.current().map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

pub struct SnapshotBuilder {
    meta: SnapshotMeta,
    digest: u64,
    frozen: Arc<machine::Frozen>,
    snapshots: Arc<SnapshotStore>,
    env: Arc<dyn Env>,
    hooks: Hooks,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (meta, digest, frozen) = (self.meta.clone(), self.digest, self.frozen.clone());
        let snapshots = self.snapshots.clone();
        let snapshot = offload(&self.env, move || snapshots.write(&meta, digest, &frozen)).await?;
        self.hooks.built(self.meta.last_log_id.map_or(0, |id| id.index));
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::*;
    use crate::env::Real;
    use crate::log::SledBackend;
    use crate::snapshot::tests::{founded, meta};

    /// What a leader of a newer version sends.
    #[tokio::test]
    async fn a_snapshot_above_the_highest_level_is_not_installed_and_stops_the_replica() {
        let (theirs, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = SnapshotStore::open(theirs.path().into()).unwrap();
        let sent = [2, 3].map(|level| {
            let state = founded(level);
            store.write(&meta(level.into()), state.digest(), &state.freeze()).unwrap()
        });
        let log = Box::new(SledBackend::open(&own.path().join("log")).unwrap());
        let (real, handle): (Arc<dyn Env>, _) = (Arc::new(Real::new()), Handle::current());
        let log = LogStore::open(log, 1 << 20, &real, &handle, &Hooks::default()).unwrap();
        for (sent, level, level_max) in [(&sent[0], 2, 1), (&sent[1], 3, 2), (&sent[1], 3, 3)] {
            let is_taken = level <= level_max;
            let (says, said) = std::sync::mpsc::channel();
            let env: Arc<dyn Env> =
                Arc::new(Real::with_stop_hook(move |why| says.send(why.to_owned()).unwrap()));
            let snapshots = Arc::new(SnapshotStore::open(own.path().join("snapshots")).unwrap());
            let shared = Arc::new(Shared::default());
            let mut machine =
                StateMachine::new(shared, snapshots.clone(), log.clone(), env, (Hooks::default(), level_max));
            let mut incoming = snapshots.receive().unwrap();
            incoming.write(&sent.read_at(0, usize::MAX).unwrap()).unwrap();
            let (meta, file) = incoming.finish().unwrap();
            assert_eq!(machine.install_snapshot(&meta, file).await.is_ok(), is_taken);
            assert_eq!(snapshots.current().is_some(), is_taken, "its own is still there, which is none");
            let why = said.try_recv().unwrap_or_default();
            let words = format!("level {level} and this version of baton knows none above {level_max}");
            assert_eq!(why.contains(&words), !is_taken, "{why}");
        }
    }
}
