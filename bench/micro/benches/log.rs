//! Time to append the entry of 64 submits to the log's store on a disk, alone and with the sync that commits it. The bytes
//! are cut as the log cuts them; its checksums and its queue are not in it.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use micro::{Step, World};
use replica::{ChunkKey, LogBackend, SledBackend, encode_entry};

/// The log's chunks are no larger.
const CHUNK_BYTES: usize = 7 * 1024;
/// Entries that are kept: earlier ones are purged, untimed.
const KEPT: u64 = 256;

struct Log {
    backend: SledBackend,
    next: u64,
    pieces: Vec<Vec<u8>>,
    // Last: it goes when the store is closed.
    _dir: tempfile::TempDir,
}

impl Log {
    fn new(entry: &[u8]) -> Log {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let backend = SledBackend::open(dir.path()).unwrap();
        Log { backend, next: 0, pieces: entry.chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect(), _dir: dir }
    }

    fn append(&mut self) {
        let first = self.next;
        for (part, piece) in (0..).zip(&self.pieces) {
            self.backend.put_chunk(ChunkKey { first, part }, piece).unwrap();
        }
        self.next += 1;
    }

    fn sync(&mut self) {
        self.backend.sync().unwrap();
    }

    fn purge(&mut self) {
        let Some(first) = self.next.checked_sub(KEPT) else { return };
        let keys: Vec<ChunkKey> =
            (0..self.pieces.len() as u16).map(|part| ChunkKey { first, part }).collect();
        self.backend.replace_chunks(&keys, &[]).unwrap();
    }
}

fn append(criterion: &mut Criterion) {
    let entry = encode_entry(&World::waiting(1_000, 2).come_to(Step::Submit));
    let log = std::cell::RefCell::new(Log::new(&entry));
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Bytes(entry.len() as u64));
    let mut measure = |name: &str, work: fn(&mut Log)| {
        group.bench_function(name, |bencher| {
            let purge = || log.borrow_mut().purge();
            bencher.iter_batched(purge, |()| work(&mut log.borrow_mut()), BatchSize::PerIteration);
        });
    };
    measure("append", Log::append);
    measure("append and sync", |log| {
        log.append();
        log.sync();
    });
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
