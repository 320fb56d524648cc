//! Time to write and to read the entry of 64 submits, as it lies in the log.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use micro::{Step, World};
use replica::{decode_entry, encode_entry};

fn entry_of_submits(criterion: &mut Criterion) {
    let entry = World::waiting(1_000, 2).come_to(Step::Submit);
    let bytes = encode_entry(&entry);
    assert_eq!(decode_entry(&bytes).unwrap(), entry);
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode", |bencher| bencher.iter(|| encode_entry(&entry)));
    group.bench_function("decode", |bencher| bencher.iter(|| decode_entry(&bytes).unwrap()));
    group.finish();
}

criterion_group!(benches, entry_of_submits);
criterion_main!(benches);
