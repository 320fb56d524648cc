//! What would do as well is taken where there is no room for the first choice.

use model::policy::{Backfill, Order};
use model::{Offer, TaskSpec};

use super::*;

/// Four cores, or a core and a gpu.
fn either() -> TaskSpec {
    let mut other = Resources::cores(1);
    other.set("gpu", 10_000);
    task(4).with(|task| task.alternatives = vec![other].into())
}

fn with_gpus(cores: u64, gpus: u32) -> Capacity {
    let mut capacity = Capacity::of(Resources::cores(cores));
    capacity.offer("gpu", Offer::Indexed(gpus));
    capacity
}

fn of(task: TaskSpec) -> JobSpec {
    JobSpec::of("", vec![task])
}

fn taken(w: &World, session: SessionId) -> Vec<String> {
    w.state.session(session).unwrap().allocations.values().map(|row| row.resources.to_string()).collect()
}

#[test]
fn the_first_that_finds_room_is_taken() {
    let mut w = World::new();
    let small = w.session_with("small", with_gpus(3, 1));
    let large = w.session("large", 8);
    (0..4).for_each(|_| _ = w.submit(of(either())));
    assert_eq!(w.round(), ["j1.0@large", "j2.0@large", "j3.0@small"]);
    assert_eq!(taken(&w, large), ["cpu 4", "cpu 4"]);
    assert_eq!(taken(&w, small), ["cpu 1, gpu 1"]);
    assert_eq!(w.state.session(small).unwrap().allocations[&1].units.len(), 1, "and it is told which gpu");
    let why = explain(&w.state, TaskId { job: JobId(4), number: 0 }).unwrap();
    let codes: Vec<&str> = why.reasons.iter().map(|reason| reason.code.as_str()).collect();
    assert!(codes.contains(&"no_room") && codes.contains(&"alternatives"), "{codes:?}");
    // What a plan in flight gives counts as what it is.
    end(&mut w, small, 1, Verdict::Succeeded, 1_000);
    let mut overlay = Overlay::default();
    let first = plan(&w.state, &mut Scratch::default(), &overlay, Budget::default());
    assert_eq!(first.placements[0].alternative, 1);
    overlay.add(1, &first);
    w.submit(of(task(2)));
    let second = plan(&w.state, &mut Scratch::default(), &overlay, Budget::default());
    assert_eq!(second.placements.len(), 1, "two cores are left beside it");
}

#[test]
fn where_nothing_of_it_could_ever_run_that_is_told() {
    let mut w = World::new();
    w.session("a", 2);
    let id = w.submit(of(either()));
    let hopeless = |w: &World| explain(&w.state, TaskId { job: id, number: 0 }).unwrap().hopeless;
    assert!(hopeless(&w));
    w.session_with("b", with_gpus(1, 1));
    assert!(!hopeless(&w));
    assert_eq!(w.round(), ["j1.0@b"]);
}

#[test]
fn an_alternative_delays_nobody_who_was_promised_a_start() {
    let mut w = World::new();
    w.session_with("a", with_gpus(4, 2));
    for backfill in [Backfill::Easy, Backfill::Conservative] {
        w.policy(Order::Fifo, backfill);
        let lasts = |seconds: u64, task: TaskSpec| {
            let timing = model::Timing { estimate: Some(Duration::from_secs(seconds)), ..Default::default() };
            of(task.with(|task| task.timing = timing.boxed()))
        };
        let running = w.submit(lasts(10, task(3)));
        let mut first = task(4);
        first.resources.set("gpu", 20_000);
        let waits = w.submit(lasts(10, first));
        let (short, long) = (w.submit(lasts(5, either())), w.submit(lasts(50, either())));
        let mut started = Vec::new();
        for _ in 0..4 {
            started.extend(w.round());
        }
        assert_eq!(started, [format!("{running}.0@a"), format!("{short}.0@a")], "{backfill}");
        let targets = [running, waits, short, long].into_iter().map(machine::Target::job).collect();
        w.write(Op::Cancel { targets });
        let session = SessionId(1);
        let left: Vec<u64> = w.state.session(session).unwrap().allocations.keys().copied().collect();
        left.into_iter().for_each(|seq| end(&mut w, session, seq, Verdict::Failed, 1));
    }
}

#[test]
fn only_one_of_them_is_taken_of_the_users_share() {
    let mut w = World::new();
    w.session_with("a", with_gpus(4, 2));
    w.policy(Order::Fair, Backfill::FirstFit);
    (0..3).for_each(|_| _ = w.submit(of(either())));
    let first = w.round();
    assert_eq!(first, ["j1.0@a"], "with four cores taken there is none for a gpu");
    end(&mut w, SessionId(1), 1, Verdict::Succeeded, 1_000);
    assert_eq!(w.round(), ["j2.0@a"]);
}
