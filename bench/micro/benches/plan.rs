//! Time of one round of planning.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use machine::Command;
use micro::world::single;
use micro::{World, classes, load::round, promises};
use model::Resources;
use model::policy::Backfill;

fn one_class(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    for waiting in [1_000, 100_000] {
        for workers in [2, 64] {
            let world = World::waiting(waiting, workers);
            let id = BenchmarkId::new(format!("{workers} workers"), waiting);
            group.bench_function(id, |bencher| bencher.iter(|| round(&world.state)));
        }
    }
    group.finish();
}

fn many_classes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan of 200 classes");
    for (name, world) in [("room for some", classes::waiting()), ("no room", classes::full())] {
        group.bench_function(name, |bencher| bencher.iter(|| round(&world.state)));
    }
    group.finish();
}

/// What a placement costs, by how many wait and how many workers there are; each worker has room for one.
fn large(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("placement");
    group.sample_size(10);
    for waiting in [1_000, 100_000, 1_000_000] {
        let mut world = World::new();
        world.submit_all((0..waiting).map(single));
        for workers in [10, 1_000, 10_000] {
            let more = workers - world.state.sessions().count() as u64;
            world.open_workers(more, &Resources::cores(1));
            let placements = round(&world.state).placements.len() as u64;
            group.throughput(Throughput::Elements(placements));
            let id = BenchmarkId::new(format!("{workers} workers, {placements} placed"), waiting);
            group.bench_function(id, |bencher| bencher.iter(|| round(&world.state)));
        }
    }
    group.finish();
}

/// What a round costs in which gangs are promised starts for the first time, and one in which they have them.
fn gangs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gangs");
    group.sample_size(10);
    for backfill in [Backfill::Easy, Backfill::Conservative] {
        for (workers, gangs) in [(100, 10), (1_000, 100), (10_000, 300)] {
            let mut world = promises::gangs(backfill, workers, gangs);
            let id = |what| BenchmarkId::new(format!("{backfill}, {workers} workers, {what}"), gangs);
            group.bench_function(id("first"), |bencher| bencher.iter(|| round(&world.state)));
            let plan = round(&world.state);
            world.run(vec![Command::Place(plan)]);
            group.bench_function(id("again"), |bencher| bencher.iter(|| round(&world.state)));
        }
    }
    group.finish();
}

criterion_group!(benches, one_class, many_classes, large, gangs);
criterion_main!(benches);
