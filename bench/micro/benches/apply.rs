//! Time of one entry. The state is in a steady state: what is measured is undone, untimed, by the steps around it.

use std::cell::RefCell;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use machine::Entry;
use micro::world::{BATCH, Step, World, array};

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(BATCH as u64));
    for waiting in [1_000, 100_000] {
        let world = RefCell::new(World::waiting(waiting, 2));
        for (name, step) in [("submit", Step::Submit), ("place", Step::Place), ("finish", Step::Finish)] {
            group.bench_function(BenchmarkId::new(name, waiting), |bencher| {
                let next = || world.borrow_mut().come_to(step);
                let apply = |entry: Entry| (world.borrow_mut().apply(&entry), entry);
                bencher.iter_batched(next, apply, BatchSize::PerIteration);
            });
        }
    }
    group.finish();
}

/// Each time on a state of its own: an array would stay.
fn one_array(criterion: &mut Criterion) {
    criterion.bench_function("apply/array of 1,000,000", |bencher| {
        let prepare = || {
            let world = World::waiting(64, 2);
            let entry = world.submits(std::iter::once(array(1_000_000)));
            (world, entry)
        };
        let apply = |(mut world, entry): (World, Entry)| (world.apply(&entry), world, entry);
        bencher.iter_batched(prepare, apply, BatchSize::PerIteration);
    });
}

criterion_group!(benches, steps, one_array);
criterion_main!(benches);
