//! The log against openraft's own suite, and against what that suite does not test: durability and damage.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use model::{Moment, Timestamp};
use openraft::alias::OneshotReceiverOf;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, RaftLogReader, StorageError};
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::chunk::CorruptChunk;
use super::{ChunkKey, Faults, LogBackend, LogError, LogStore, MemoryDisk, Operation, Owner, SledBackend};
use crate::Hooks;
use crate::env::{Connection, Env, Listen, Listener, Real};
use crate::snapshot::SnapshotStore;
use crate::state_machine::{Shared, StateMachine};
use crate::types::{self, Entry, Proposal, TypeConfig, Vote};

pub(super) fn real() -> Arc<dyn Env> {
    Arc::new(Real::with_stop_hook(|reason| eprintln!("stopped: {reason}")))
}

/// The process, but for threads of its own.
struct Threadless(Real);

impl Env for Threadless {
    fn now(&self) -> Moment {
        self.0.now()
    }
    fn wall(&self) -> Timestamp {
        self.0.wall()
    }
    fn random(&self) -> u64 {
        self.0.random()
    }
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Connection>> {
        self.0.connect(address)
    }
    fn listen(&self, listen: Listen) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        self.0.listen(listen)
    }
    fn spawn(&self, runtime: &Handle, task: BoxFuture<'static, ()>) -> JoinHandle<()> {
        self.0.spawn(runtime, task)
    }
    fn has_threads(&self) -> bool {
        false
    }
    fn block(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.0.block(work)
    }
    fn stop(&self, reason: &str) {
        self.0.stop(reason);
    }
}

/// Of what was applied.
const CACHED_BYTES: u64 = 100 << 10;

pub(super) fn open(backend: impl LogBackend) -> Result<LogStore, LogError> {
    open_with(backend, &Hooks::default())
}

pub(super) fn open_with(backend: impl LogBackend, hooks: &Hooks) -> Result<LogStore, LogError> {
    LogStore::open(Box::new(backend), CACHED_BYTES, &real(), &Handle::current(), hooks)
}

fn machine(dir: &Path, log: &LogStore) -> StateMachine {
    let snapshots = SnapshotStore::open(dir.join("snapshots")).unwrap();
    StateMachine::new(
        Arc::new(Shared::default()),
        Arc::new(snapshots),
        log.clone(),
        real(),
        (Hooks::default(), machine::LEVEL),
    )
}

struct OnSled;
struct OnMemory;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for OnSled {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let log = open(SledBackend::open(&dir.path().join("log")).unwrap()).unwrap();
        let machine = machine(dir.path(), &log);
        Ok((dir, log, machine))
    }
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for OnMemory {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let log = open(MemoryDisk::default().open()).unwrap();
        let machine = machine(dir.path(), &log);
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_on_sled_passes_the_suite_of_openraft() {
    Suite::test_all(OnSled).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_in_memory_passes_the_suite_of_openraft() {
    Suite::test_all(OnMemory).await.unwrap();
}

pub(super) fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let payload = EntryPayload::Normal(Proposal::from_bytes(vec![index as u8; bytes].into()));
    Entry { log_id: types::log_id(term, index), payload }
}

type Acknowledged = OneshotReceiverOf<TypeConfig, Result<(), io::Error>>;

pub(super) async fn append(log: &mut LogStore, entries: Vec<Entry>) -> Acknowledged {
    let (sender, receiver) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(sender)).await.unwrap();
    receiver
}

async fn read_all(log: &LogStore) -> Vec<Entry> {
    log.clone().get_log_reader().await.try_get_log_entries(..).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_append_and_vote_is_synced_before_it_is_acknowledged() {
    let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::default());
    let counter = Arc::new(AtomicU64::new(0));
    let (counted, db) = (counter.clone(), dir.path().join("db"));
    // Of the file itself, for the store's own flush is no sync.
    let sync_data = move |file: &File| {
        assert_eq!(file.metadata()?.ino(), std::fs::metadata(&db)?.ino());
        file.sync_data()?;
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    let backend = SledBackend::open_with(dir.path(), Box::new(sync_data)).unwrap();
    let mut log = open(faults.wrap(backend)).unwrap();
    let mut seen = counter.load(Ordering::SeqCst);
    let mut assert_synced = || {
        let now = counter.load(Ordering::SeqCst);
        assert!(seen < now, "acknowledged without a sync of the data");
        seen = now;
    };
    for index in 0..50 {
        if index % 5 == 0 {
            log.save_vote(&Vote::new(index, 1)).await.unwrap();
            assert_synced();
            let trace = faults.trace();
            assert_eq!(trace[trace.len() - 2..], [Operation::PutMeta("vote".into()), Operation::Sync]);
        }
        append(&mut log, vec![entry(1, index, 100)]).await.await.unwrap().unwrap();
        assert_synced();
        let trace = faults.trace();
        let put = Operation::PutChunk(ChunkKey { first: index, part: 0 });
        assert_eq!(trace[trace.len() - 2..], [put, Operation::Sync]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_while_the_sync_is_held_and_many_appends_share_the_next() {
    let faults = Faults::default();
    let mut log = open(faults.wrap(MemoryDisk::default().open())).unwrap();
    faults.hold_syncs();
    let mut first = append(&mut log, vec![entry(1, 0, 10)]).await;
    let held = faults.clone();
    tokio::task::spawn_blocking(move || held.wait_for_held_sync()).await.unwrap();
    assert!(first.try_recv().is_err(), "acknowledged before it was synced");
    assert_eq!(read_all(&log).await.len(), 1, "readable at once");
    let mut waiting = vec![first];
    for index in 1..100 {
        waiting.push(append(&mut log, vec![entry(1, index, 10)]).await);
    }
    faults.release_syncs();
    for acknowledged in waiting {
        acknowledged.await.unwrap().unwrap();
    }
    let syncs = faults.trace().iter().filter(|operation| **operation == Operation::Sync).count();
    assert_eq!(syncs, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_acknowledges_nothing_then_or_later_and_stops_the_process() {
    let faults = Faults::default();
    let (stop, mut stopped) = tokio::sync::mpsc::unbounded_channel();
    let env: Arc<dyn Env> =
        Arc::new(Real::with_stop_hook(move |reason| stop.send(reason.to_owned()).unwrap()));
    let backend = Box::new(faults.wrap(MemoryDisk::default().open()));
    let mut log = LogStore::open(backend, CACHED_BYTES, &env, &Handle::current(), &Hooks::default()).unwrap();
    faults.fail_syncs(io::ErrorKind::Other);
    assert!(append(&mut log, vec![entry(1, 0, 10)]).await.await.unwrap().is_err());
    assert!(stopped.recv().await.unwrap().contains("cannot be written"));
    assert!(log.save_vote(&Vote::new(1, 1)).await.is_err(), "a failed sync is not tried again");
    assert!(stopped.try_recv().is_err(), "it stops once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_failure_loses_nothing_acknowledged() {
    let disk = MemoryDisk::default();
    for life in 0..20 {
        let faults = Faults::default();
        let mut log = open(faults.wrap(disk.open())).unwrap();
        let next = log.get_log_state().await.unwrap().last_log_id.map_or(0, |id| id.index + 1);
        assert!(next >= life * 2, "{next} in life {life}");
        append(&mut log, vec![entry(1, next, 10), entry(1, next + 1, 30_000)]).await.await.unwrap().unwrap();
        faults.hold_syncs();
        let unsynced = append(&mut log, vec![entry(1, next + 2, 30_000), entry(1, next + 3, 10)]).await;
        let held = faults.clone();
        tokio::task::spawn_blocking(move || held.wait_for_held_sync()).await.unwrap();
        // Any prefix of what was not synced may be left, also one that ends within a large entry.
        disk.crash(life as usize % 5);
        faults.fail_syncs(io::ErrorKind::Other);
        faults.release_syncs();
        assert!(unsynced.await.unwrap().is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn truncation_and_purge_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(SledBackend::open(dir.path()).unwrap()).unwrap();
    let owner = Owner { cluster_id: "c".into(), id: 1, incarnation: 7 };
    log.set_owner(owner.clone()).await.unwrap();
    let entries: Vec<_> =
        (0..200).map(|index| entry(1, index, if index % 50 == 0 { 30_000 } else { 100 })).collect();
    append(&mut log, entries.clone()).await.await.unwrap().unwrap();
    log.truncate_after(Some(types::log_id(1, 149))).await.unwrap();
    log.purge(types::log_id(1, 60)).await.unwrap();
    append(&mut log, vec![entry(2, 150, 5)]).await.await.unwrap().unwrap();
    log.save_committed(Some(types::log_id(1, 149))).await.unwrap();
    let before = read_all(&log).await;
    log.close().await;

    let mut log = open(SledBackend::open(dir.path()).unwrap()).unwrap();
    assert_eq!(read_all(&log).await, before);
    assert_eq!(before.first().unwrap().index(), 61);
    assert_eq!(before[..89], entries[61..150]);
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(types::log_id(1, 60)));
    assert_eq!(state.last_log_id, Some(types::log_id(2, 150)));
    assert_eq!(log.read_committed().await.unwrap(), Some(types::log_id(1, 149)));
    assert_eq!(log.owner(), Some(owner));
}

#[tokio::test(flavor = "multi_thread")]
async fn purged_chunks_leave_the_disk_a_few_at_a_time() {
    let (disk, faults) = (MemoryDisk::default(), Faults::default());
    let removed = || {
        let trace = faults.trace();
        trace.iter().filter(|operation| matches!(operation, Operation::RemoveChunk(_))).count()
    };
    let env: Arc<dyn Env> = Arc::new(Threadless(Real::new()));
    // Without a thread of its own the log deletes only beside what it is asked for.
    let mut log = LogStore::open(
        Box::new(faults.wrap(disk.open())),
        CACHED_BYTES,
        &env,
        &Handle::current(),
        &Hooks::default(),
    )
    .unwrap();
    for index in 0..100 {
        append(&mut log, vec![entry(1, index, 5000)]).await.await.unwrap().unwrap();
    }
    log.purge(types::log_id(1, 89)).await.unwrap();
    append(&mut log, vec![entry(1, 100, 10)]).await.await.unwrap().unwrap();
    assert!(removed() <= 2 * 16, "a purge of many chunks must not hold up the next commit: {}", removed());
    log.close().await;

    // The rest goes after the next start, a few at a time, with the mark saying what counts.
    let mut log = open(faults.wrap(disk.open())).unwrap();
    assert_eq!(read_all(&log).await.first().unwrap().index(), 90);
    while removed() < 90 {
        tokio::task::yield_now().await;
    }
    append(&mut log, vec![entry(1, 101, 10)]).await.await.unwrap().unwrap();
    log.close().await;
    assert_eq!(disk.open().load().unwrap().chunks.len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_past_the_log_leaves_a_gap_that_is_no_damage() {
    let disk = MemoryDisk::default();
    let mut log = open(disk.open()).unwrap();
    let entries = (0..100).map(|index| entry(1, index, 5000)).collect();
    append(&mut log, entries).await.await.unwrap().unwrap();
    log.purge(types::log_id(3, 1000)).await.unwrap();
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(types::log_id(3, 1000)));
    append(&mut log, vec![entry(3, 1001, 10)]).await.await.unwrap().unwrap();
    log.close().await;
    let log = open(disk.open()).unwrap();
    assert_eq!(read_all(&log).await, [entry(3, 1001, 10)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_mark_beyond_log_and_snapshot_is_a_lost_tail() {
    let disk = MemoryDisk::default();
    let mut log = open(disk.open()).unwrap();
    log.check_tail(None).unwrap();
    append(&mut log, vec![entry(1, 0, 10), entry(1, 1, 10)]).await.await.unwrap().unwrap();
    log.save_committed(Some(types::log_id(1, 1))).await.unwrap();
    log.close().await;
    let log = open(disk.open()).unwrap();
    log.check_tail(None).unwrap();
    log.close().await;

    disk.open().remove_chunk(ChunkKey { first: 0, part: 0 }).unwrap();
    let log = open(disk.open()).unwrap();
    let lost = log.check_tail(Some(types::log_id(1, 0)));
    assert!(matches!(lost, Err(LogError::LostTail { committed: 1, last: 0 })), "{lost:?}");
    log.check_tail(Some(types::log_id(1, 1))).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_generating_file_does_not_keep_the_log_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(SledBackend::open(dir.path()).unwrap()).unwrap();
    append(&mut log, vec![entry(1, 0, 10)]).await.await.unwrap().unwrap();
    log.close().await;
    let torn = dir.path().join("snap.7FFFFFFFFFFFFFFF.generating");
    std::fs::write(&torn, b"torn").unwrap();
    assert!(sled::open(dir.path()).is_err(), "sled alone would refuse for ever");
    std::fs::write(&torn, b"torn").unwrap();
    let log = open(SledBackend::open(dir.path()).unwrap()).unwrap();
    assert_eq!(read_all(&log).await.len(), 1);
    assert!(!torn.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_on_the_disk_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(SledBackend::open(dir.path()).unwrap()).unwrap();
    append(&mut log, vec![entry(1, 0, 10)]).await.await.unwrap().unwrap();
    log.close().await;
    {
        let db = sled::open(dir.path()).unwrap();
        let chunks = db.open_tree("chunks").unwrap();
        let (key, value) = chunks.first().unwrap().unwrap();
        let mut value = value.to_vec();
        value[30] ^= 1;
        chunks.insert(key, value).unwrap();
        db.flush().unwrap();
    }
    // sled's threads let go of the directory a moment after the last of its handles is gone.
    let is_held = |error: &std::io::Error| error.to_string().contains("could not acquire lock");
    let backend = loop {
        match SledBackend::open(dir.path()) {
            Err(error) if is_held(&error) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            opened => break opened.unwrap(),
        }
    };
    let refused = open(backend);
    assert!(matches!(refused, Err(LogError::Chunk(CorruptChunk::Checksum { index: 0, part: 0 }))));
}

/// A vote that is another would be given twice; a mark of what is purged or committed would hide what is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_a_mark_is_refused_wherever_it_is() {
    let disk = MemoryDisk::default();
    let mut log = open(disk.open()).unwrap();
    log.set_owner(Owner { cluster_id: "c".into(), id: 1, incarnation: 7 }).await.unwrap();
    append(&mut log, (0..9).map(|index| entry(3, index, 10)).collect()).await.await.unwrap().unwrap();
    log.save_committed(Some(types::log_id(3, 8))).await.unwrap();
    log.purge(types::log_id(3, 5)).await.unwrap();
    log.save_vote(&Vote::new(3, 1)).await.unwrap();
    log.close().await;
    let marks = disk.open().load().unwrap().meta;
    assert_eq!(marks.keys().collect::<Vec<_>>(), ["committed", "owner", "purged", "vote"]);
    for (name, value) in &marks {
        let mut unseen = Vec::new();
        for bit in 0..value.len() * 8 {
            let mut broken = value.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            disk.open().put_meta(name, &broken).unwrap();
            if open(disk.open()).is_ok() {
                unseen.push(bit);
            }
        }
        assert!(unseen.is_empty(), "bits of {name}, {} bytes long: {unseen:?}", value.len());
        disk.open().put_meta(name, value).unwrap();
    }
    // One under another's name.
    disk.open().put_meta("purged", &marks["committed"]).unwrap();
    assert!(open(disk.open()).is_err());
    disk.open().put_meta("purged", &marks["purged"]).unwrap();
    open(disk.open()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_counted_and_the_tail_is_found() {
    let mut log = open(MemoryDisk::default().open()).unwrap();
    assert_eq!((log.bytes(), log.bytes_after(None), log.tail_start(0)), (0, 0, None));
    let entries = (0..10).map(|index| entry(1, index, 68)).collect();
    append(&mut log, entries).await.await.unwrap().unwrap();
    assert_eq!(log.bytes(), 1000);
    assert_eq!(log.bytes_after(Some(3)), 600);
    assert_eq!(log.bytes_after(Some(9)), 0);
    assert_eq!(log.bytes_after(Some(50)), 0);
    assert_eq!(log.tail_start(250), Some(6), "three entries of a hundred bytes stay");
    assert_eq!(log.tail_start(2000), None);
    log.purge(types::log_id(1, 4)).await.unwrap();
    assert_eq!((log.bytes(), log.bytes_after(Some(2)), log.bytes_after(Some(6))), (500, 500, 300));
}

/// A leader that was asked for purged entries answered with later ones, as if they followed.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_begins_in_what_is_purged_gives_nothing() {
    let mut log = open(MemoryDisk::default().open()).unwrap();
    append(&mut log, (0..20).map(|index| entry(1, index, 10)).collect()).await.await.unwrap().unwrap();
    log.purge(types::log_id(1, 9)).await.unwrap();
    let mut reader = log.get_log_reader().await;
    assert_eq!(reader.limited_get_log_entries(2, 15).await.unwrap(), []);
    assert_eq!(reader.limited_get_log_entries(9, 15).await.unwrap(), []);
    assert_eq!(reader.limited_get_log_entries(10, 15).await.unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_would_leave_a_gap_is_not_appended() {
    let mut log = open(MemoryDisk::default().open()).unwrap();
    append(&mut log, vec![entry(1, 0, 10), entry(1, 1, 10)]).await.await.unwrap().unwrap();
    assert!(log.append([entry(1, 3, 10)], IOFlushed::noop()).await.is_err());
    assert_eq!(read_all(&log).await.len(), 2);
}

/// With parts, and with what is written and not synced: the writer is the only one who reads.
#[tokio::test(flavor = "multi_thread")]
async fn what_memory_has_let_go_of_is_read_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let backends: [Box<dyn LogBackend>; 3] = [
        Box::new(SledBackend::open(&dir.path().join("log")).unwrap()),
        Box::new(MemoryDisk::default().open()),
        Box::new(super::volatile::Volatile::new(MemoryDisk::default().open())),
    ];
    for backend in backends {
        let mut log = open(backend).unwrap();
        let sizes = [10, 20_000, 500, 3_000, 0];
        let entries: Vec<Entry> =
            (0..600).zip(sizes.into_iter().cycle()).map(|(index, bytes)| entry(1, index, bytes)).collect();
        append(&mut log, entries.clone()).await.await.unwrap().unwrap();
        let (before, logged) = ((log.bytes(), log.tail_start(200 << 10)), log.logged(0..600));
        log.applied(580);
        let found = log.find(0..600);
        assert!(found.away.start == 0 && found.away.end > 500 && found.away.end < 580, "{:?}", found.away);
        assert_eq!((log.bytes(), log.tail_start(200 << 10)), before, "they count as before");
        assert_eq!(
            (log.logged(0..600), log.bytes_after(Some(9))),
            (logged, before.0 - log_bytes(&entries[..10]))
        );

        assert_eq!(read_all(&log).await, entries);
        let mut reader = log.get_log_reader().await;
        let all = |range: std::ops::Range<u64>| entries[range.start as usize..range.end as usize].to_vec();
        assert_eq!(reader.try_get_log_entries(7..19).await.unwrap(), all(7..19));
        assert_eq!(reader.try_get_log_entries(7..590).await.unwrap(), all(7..590));
        // A follower goes on where the last read ended, and comes to the end.
        let mut next = 3;
        while next < 600 {
            let read = reader.limited_get_log_entries(next, 600).await.unwrap();
            assert!(!read.is_empty() && read.len() < 300, "{} from {next} on", read.len());
            assert_eq!(read, all(next..next + read.len() as u64));
            next += read.len() as u64;
        }

        log.purge(types::log_id(1, 49)).await.unwrap();
        assert_eq!(reader.limited_get_log_entries(49, 60).await.unwrap(), []);
        assert_eq!(reader.limited_get_log_entries(50, 60).await.unwrap(), all(50..60));
        assert_eq!((log.bytes(), log.logged(0..51).len()), (log_bytes(&entries[50..]), 1));
    }
}

fn log_bytes(entries: &[Entry]) -> u64 {
    let bytes = |entry: &Entry| match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.bytes().len() as u64 + 32,
        _ => panic!("none of these is another"),
    };
    entries.iter().map(bytes).sum()
}

/// What is committed and far behind is not in memory after a start either; what may be taken back is.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_lets_go_of_what_is_committed_only() {
    let disk = MemoryDisk::default();
    let entries: Vec<Entry> =
        (0..100).map(|index| entry(1, index, [7_000, 30_000][index as usize % 2])).collect();
    let mut log = open(disk.open()).unwrap();
    append(&mut log, entries.clone()).await.await.unwrap().unwrap();
    log.save_committed(Some(types::log_id(1, 59))).await.unwrap();
    log.close().await;

    let mut log = open(disk.open()).unwrap();
    let away = log.find(0..100).away;
    assert!(away.start == 0 && (50..58).contains(&away.end), "{away:?}");
    assert_eq!(read_all(&log).await, entries);
    log.truncate_after(Some(types::log_id(1, 60))).await.unwrap();
    assert_eq!(read_all(&log).await, entries[..61]);
    log.close().await;
    assert_eq!(read_all(&open(disk.open()).unwrap()).await, entries[..61]);
}

/// Damage that nobody saw at the start, since it came later.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_back_is_checked() {
    let disk = MemoryDisk::default();
    let mut log = open(disk.open()).unwrap();
    append(&mut log, (0..100).map(|index| entry(1, index, 7_000)).collect()).await.await.unwrap().unwrap();
    log.applied(99);
    let key = ChunkKey { first: 7, part: 0 };
    let mut value = disk.open().chunk(key).unwrap().unwrap();
    value[20] ^= 1;
    disk.open().put_chunk(key, &value).unwrap();
    let mut reader = log.get_log_reader().await;
    let error = reader.limited_get_log_entries(5, 20).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    assert_eq!(reader.limited_get_log_entries(8, 20).await.unwrap().len(), 12);
}

/// Small entries, which take less room in a chunk than they count for in memory, and a chunk that is purged in part.
#[tokio::test(flavor = "multi_thread")]
async fn what_shares_a_chunk_with_entries_that_are_taken_back_stays() {
    let disk = MemoryDisk::default();
    let open = || LogStore::open(Box::new(disk.open()), 0, &real(), &Handle::current(), &Hooks::default());
    let mut log = open().unwrap();
    let entries: Vec<Entry> = (0..700).map(|index| entry(1, index, 1)).collect();
    append(&mut log, entries.clone()).await.await.unwrap().unwrap();
    log.applied(553);
    log.truncate_after(Some(types::log_id(1, 555))).await.unwrap();
    assert_eq!(read_all(&log).await, entries[..556]);
    log.close().await;

    let mut log = open().unwrap();
    assert_eq!(read_all(&log).await, entries[..556]);
    log.applied(553);
    log.purge(types::log_id(1, 543)).await.unwrap();
    log.truncate_after(Some(types::log_id(1, 554))).await.unwrap();
    assert_eq!(read_all(&log).await, entries[544..555]);
    log.purge(types::log_id(1, 554)).await.unwrap();
    log.truncate_after(Some(types::log_id(1, 554))).await.unwrap();
    log.close().await;
    let log = open().unwrap();
    assert_eq!(read_all(&log).await, []);
}
