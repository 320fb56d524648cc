//! Time of one round of planning.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use micro::{World, classes, load::round};

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

criterion_group!(benches, one_class, many_classes);
criterion_main!(benches);
