//! The backend on sled alone: what it keeps, what it takes over, and what it makes sled write.

use std::path::Path;

use sled::Db;
use tempfile::TempDir;

use super::backend::{ChunkKey, LogBackend};
use super::chunk::{self, CHUNK_BYTES_MAX};
use super::sled::SledBackend;
use crate::codec::Record;

type Chunks = Vec<(ChunkKey, Vec<u8>)>;

fn chunks(indexes: std::ops::Range<u64>, bytes: usize) -> Chunks {
    let record = |index| Record { term: 1, index, kind: 1, payload: vec![index as u8; bytes].into() };
    let packed = indexes.flat_map(|index| chunk::pack(&[record(index)]));
    packed.flat_map(|packed| packed.extent.keys().zip(packed.values).collect::<Vec<_>>()).collect()
}

fn loaded(backend: &mut SledBackend) -> Chunks {
    backend.load().unwrap().chunks.into_iter().map(|(key, value)| (key, value.into())).collect()
}

fn put(backend: &mut SledBackend, chunks: &Chunks) {
    chunks.iter().for_each(|(key, value)| backend.put_chunk(*key, value).unwrap());
}

/// sled's threads let go of the directory a moment after the last of its handles is gone.
fn unlocked<T, E: ToString>(mut open: impl FnMut() -> Result<T, E>) -> T {
    loop {
        match open() {
            Ok(opened) => return opened,
            Err(error) if error.to_string().contains("could not acquire lock") => std::thread::yield_now(),
            Err(error) => panic!("{}", error.to_string()),
        }
    }
}

fn open(dir: &Path) -> SledBackend {
    unlocked(|| SledBackend::open(dir))
}

fn plain(dir: &Path) -> Db {
    unlocked(|| sled::open(dir))
}

/// As the version before wrote them.
fn put_old(dir: &Path, chunks: &Chunks) {
    let db = plain(dir);
    let tree = db.open_tree("log").unwrap();
    chunks.iter().for_each(|(key, value)| drop(tree.insert(key.to_bytes(), value.as_slice()).unwrap()));
    db.flush().unwrap();
}

#[test]
fn chunks_of_any_size_come_and_go_over_restarts() {
    let dir = TempDir::new().unwrap();
    let mut there = Chunks::new();
    for life in 0..6 {
        let mut backend = open(dir.path());
        assert_eq!(loaded(&mut backend), there, "life {life}");
        let from = 40 * life;
        let new = [chunks(from..from + 30, 10), chunks(from + 30..from + 40, 30_000)].concat();
        put(&mut backend, &new);
        there.extend(new);
        // From the front, as a purge does, and from the back, as a truncation does.
        for (key, _) in there.drain(..there.len() / 3) {
            backend.remove_chunk(key).unwrap();
            assert_eq!(backend.chunk(key).unwrap(), None);
        }
        let behind: Vec<ChunkKey> = there.drain(there.len() - 4..).map(|(key, _)| key).collect();
        let rewritten = chunks(1_000 + life..1_001 + life, 100);
        backend.replace_chunks(&behind, &rewritten).unwrap();
        backend.replace_chunks(&[rewritten[0].0], &[]).unwrap();
        let (key, value) = &mut there[3];
        value.reverse();
        backend.put_chunk(*key, value).unwrap();
        for (key, value) in &there {
            assert_eq!(backend.chunk(*key).unwrap().as_ref(), Some(value));
        }
        backend.sync().unwrap();
    }
}

#[test]
fn entries_without_a_chunk_do_not_gather() {
    let dir = TempDir::new().unwrap();
    for life in 0..4 {
        let mut backend = open(dir.path());
        let new = chunks(100 * life..100 * (life + 1), 10);
        put(&mut backend, &new);
        new.iter().for_each(|(key, _)| backend.remove_chunk(*key).unwrap());
        backend.sync().unwrap();
    }
    let entries = plain(dir.path()).open_tree("chunks").unwrap().len();
    assert!(entries <= 4 * 9, "{entries}");
}

/// Full chunks, of which each page holds as many as it ever does: files beside the log would never be synced. And what
/// is written is written about once: where leaves split while they are full, the file is nearly twice as large.
#[test]
fn chunks_lie_in_the_log_of_sled_and_about_once() {
    let dir = TempDir::new().unwrap();
    let mut backend = open(dir.path());
    let all = chunks(0..2_000, CHUNK_BYTES_MAX - 27);
    assert_eq!(all.len(), 2_000);
    for some in all.chunks(8) {
        put(&mut backend, &some.to_vec());
        backend.sync().unwrap();
    }
    let file = std::fs::metadata(dir.path().join("db")).unwrap().len() as f64;
    let data = (all.len() * CHUNK_BYTES_MAX) as f64;
    assert!(file < 1.25 * data, "{file} for {data}");
    for (key, _) in &all {
        backend.remove_chunk(*key).unwrap();
    }
    backend.sync().unwrap();
    let aside = std::fs::read_dir(dir.path().join("blobs")).map_or(0, Iterator::count);
    assert_eq!(aside, 0, "pages lie beside the log");
}

/// A deposed leader takes back what it wrote last and is killed before it writes again: the leaves between went with it.
#[test]
fn chunks_after_those_that_were_taken_back_lie_in_the_log_too() {
    let dir = TempDir::new().unwrap();
    let all = chunks(0..80, CHUNK_BYTES_MAX - 27);
    let mut backend = open(dir.path());
    put(&mut backend, &all[..60].to_vec());
    let back: Vec<ChunkKey> = all[30..60].iter().map(|(key, _)| *key).collect();
    backend.replace_chunks(&back, &[]).unwrap();
    backend.sync().unwrap();
    drop(backend);
    let mut backend = open(dir.path());
    put(&mut backend, &all[30..].to_vec());
    backend.sync().unwrap();
    assert_eq!(loaded(&mut backend), all);
    drop(backend);
    let aside = std::fs::read_dir(dir.path().join("blobs")).map_or(0, Iterator::count);
    assert_eq!(aside, 0, "pages lie beside the log");
}

#[test]
fn what_an_older_version_has_left_is_taken_over_and_it_cannot_come_back() {
    let dir = TempDir::new().unwrap();
    let old = [chunks(5..9, 7_000), chunks(9..11, 30_000)].concat();
    put_old(dir.path(), &old);
    let mut backend = open(dir.path());
    assert_eq!(loaded(&mut backend), old);
    backend.remove_chunk(old[0].0).unwrap();
    backend.sync().unwrap();
    drop(backend);
    assert_eq!(loaded(&mut open(dir.path())), old[1..]);
    let left: Vec<_> =
        plain(dir.path()).open_tree("log").unwrap().iter().keys().map(Result::unwrap).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(ChunkKey::from_bytes(&left[0]), None, "it would take the log for an empty one");
}

#[test]
fn a_take_over_that_was_killed_begins_anew() {
    let dir = TempDir::new().unwrap();
    let old = chunks(0..20, 100);
    put(&mut open(dir.path()), &chunks(0..3, 50));
    let log = plain(dir.path()).open_tree("log").unwrap();
    log.clear().unwrap();
    drop(log);
    put_old(dir.path(), &old);
    assert_eq!(loaded(&mut open(dir.path())), old);
}

#[test]
fn a_chunk_without_its_key_is_refused() {
    let dir = TempDir::new().unwrap();
    put(&mut open(dir.path()), &chunks(0..3, 50));
    let tree = plain(dir.path()).open_tree("chunks").unwrap();
    tree.insert(1_u64.to_be_bytes(), &[7; 4]).unwrap();
    drop(tree);
    let refused = open(dir.path()).put_chunk(ChunkKey { first: 9, part: 0 }, b"a").unwrap_err();
    assert_eq!(refused.to_string(), "a chunk of the log lacks its key");
}
