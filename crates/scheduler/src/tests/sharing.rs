//! Queues that share the cluster by weight, with tasks of which nobody knows how long they take.

use std::collections::BTreeMap;

use super::*;

/// A queue that always has work, unless it rests: its weight, and how long its tasks take in seconds.
struct Sharer {
    weight: u32,
    length: u64,
    /// Submits nothing before.
    from: u64,
}

fn sharer((weight, length): (u32, u64)) -> Sharer {
    Sharer { weight, length, from: 0 }
}

/// Of the work of eight cores between two times, in seconds, what each queue gets.
fn divided(queues: &[Sharer], from: u64, to: u64) -> Vec<f64> {
    let mut w = cluster(queues);
    let mut ends: BTreeMap<u64, Vec<(SessionId, u64)>> = BTreeMap::new();
    let mut got = vec![0; queues.len()];
    let mut submitted = vec![None; queues.len()];
    loop {
        let now = w.now / SECOND;
        for nth in (0..queues.len()).filter(|nth| queues[*nth].from <= now) {
            submitted[nth].get_or_insert_with(|| w.submit(many(nth)));
        }
        w.round();
        let running: Vec<(SessionId, machine::Allocation)> = w
            .state
            .sessions()
            .flat_map(|row| row.allocations.values().map(|allocation| (row.id, allocation.clone())))
            .collect();
        let of = |job: JobId| submitted.iter().position(|other| *other == Some(job)).unwrap();
        for (session, allocation) in running.iter().filter(|(_, row)| row.placed.elapsed.0 == w.now) {
            let over = now + queues[of(allocation.job)].length;
            ends.entry(over).or_default().push((*session, allocation.seq));
        }
        let next = *ends.keys().next().expect("something runs");
        let counted = next.min(to).saturating_sub(now.max(from));
        running.iter().for_each(|(_, allocation)| got[of(allocation.job)] += counted);
        if next >= to {
            break;
        }
        wait(&mut w, next - now);
        for (session, seq) in ends.remove(&next).into_iter().flatten() {
            end(&mut w, session, seq, Verdict::Succeeded, 1_000);
        }
    }
    let all: u64 = got.iter().sum();
    assert_eq!(all, 8 * (to - from), "no core is ever idle");
    got.into_iter().map(|one| one as f64 / all as f64).collect()
}

const SECOND: u64 = 1_000_000;

fn cluster(queues: &[Sharer]) -> World {
    let mut settings = Settings::default();
    // What is sent ahead counts from its start only, and starts without a plan.
    settings.limits.credit_per_session_max = 0;
    let mut w = World::with(settings);
    w.session("a", 4);
    w.session("b", 4);
    for (nth, queue) in queues.iter().enumerate() {
        let name = format!("q{nth}");
        w.write(Op::PutQueue(QueueSpec { name, weight: Some(queue.weight), ..QueueSpec::default() }));
    }
    w
}

fn many(nth: usize) -> JobSpec {
    let mut task = task(1);
    task.array = Some(model::ArrayRange { first: 0, last: 39_999, step: 1 });
    JobSpec::of("", vec![task]).with(|job| job.queue = format!("q{nth}"))
}

/// Who has rested goes first for some time, and not for longer than a half-life of the use, which is 300 s.
#[test]
fn who_has_rested_goes_first_for_a_while() {
    let rested = Sharer { from: 2_000, ..sharer((100, 2)) };
    let queues = [sharer((100, 3)), rested];
    assert_eq!(divided(&queues, 1_000, 2_000)[1], 0.0);
    let at_once = divided(&queues, 2_000, 2_250)[1];
    assert!(at_once > 0.95, "{at_once}");
    let later = divided(&queues, 2_400, 3_400)[1];
    assert!((later - 0.5).abs() < 0.01, "{later}");
}

/// Two that have rested both, beside one that has not, share what they catch up by their own weights.
#[test]
fn those_who_catch_up_do_so_by_their_weights() {
    let rested = |weight| Sharer { from: 2_000, ..sharer((weight, 2)) };
    let queues = [sharer((100, 3)), rested(100), rested(300)];
    let at_once = divided(&queues, 2_010, 2_250);
    assert!((at_once[2] / at_once[1] - 3.0).abs() < 0.1, "{at_once:?}");
}

/// As by a deficit round robin that knew beforehand how long each takes: in the long run each has its part.
#[test]
fn weights_divide_the_time_of_the_cluster_whatever_tasks_take() {
    let cases: [&[(u32, u64)]; 6] = [
        &[(100, 1), (300, 1)],
        &[(100, 30), (300, 1)],
        &[(100, 1), (300, 30)],
        &[(100, 7), (200, 20), (400, 3)],
        // Found by chance to be the farthest off.
        &[(100, 23), (100, 17), (400, 17)],
        &[(300, 2), (100, 29), (200, 11), (100, 5)],
    ];
    for case in cases {
        let got = divided(&case.iter().copied().map(sharer).collect::<Vec<_>>(), 600, 3_000);
        let weights: u32 = case.iter().map(|(weight, _)| weight).sum();
        for ((weight, _), got) in case.iter().zip(&got) {
            let due = f64::from(*weight) / f64::from(weights);
            assert!((got - due).abs() < 0.02, "{got} of {due}: {case:?}");
        }
    }
}
