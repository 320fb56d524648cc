//! The net catches: each seeded bug is found by some seed, and the same seeds find nothing without it.

use sim::{Mutants, Options, Report};

/// Seeds tried before a bug counts as missed.
const SEEDS_MAX: u64 = 100;

fn run(seed: u64, mutants: Mutants) -> Report {
    // Enough workers that some are on either side of a cut.
    sim::run(seed, Options { workers: 5, mutants, ..Options::default() })
}

/// The first seed that catches the bug, and what broke.
fn caught(mutants: Mutants) -> (u64, String) {
    for seed in 0..SEEDS_MAX {
        let report = run(seed, mutants);
        if let Some(first) = report.broken.first() {
            let sound = run(seed, Mutants::default());
            assert_eq!(sound.broken, Vec::<String>::new(), "seed {seed} breaks without a bug too");
            println!("{mutants:?} is caught by seed {seed}: {first}");
            return (seed, first.clone());
        }
    }
    panic!("{mutants:?} is not caught by {SEEDS_MAX} seeds");
}

#[test]
fn a_renewal_without_a_quorum_is_caught() {
    let (_, what) = caught(Mutants { renew_without_quorum: true, ..Mutants::default() });
    assert!(what.contains("one owner"), "{what}");
}

#[test]
fn expiring_everybody_on_election_is_caught() {
    let (_, what) = caught(Mutants { expire_on_election: true, ..Mutants::default() });
    assert!(what.contains("one owner"), "{what}");
}

#[test]
fn an_end_without_a_fence_is_caught() {
    let (_, what) = caught(Mutants { no_fence_on_finish: true, ..Mutants::default() });
    // A task that is on its way out may be placed anew, and the end of the old attempt counts.
    let is_it =
        ["tokens rise", "one owner", "is being stopped and may begin"].iter().any(|told| what.contains(told));
    assert!(is_it, "{what}");
}

#[test]
fn requests_that_a_snapshot_leaves_out_are_caught() {
    let (_, what) = caught(Mutants { requests_not_in_snapshot: true, ..Mutants::default() });
    assert!(what.contains("replicas agree"), "{what}");
}

#[test]
fn capacity_that_is_not_released_is_caught() {
    let (_, what) = caught(Mutants { capacity_not_released: true, ..Mutants::default() });
    assert!(what.contains("the state is sound"), "{what}");
}

#[test]
fn capacity_that_is_released_twice_is_caught() {
    let (_, what) = caught(Mutants { capacity_released_twice: true, ..Mutants::default() });
    assert!(what.contains("the state is sound") || what.contains("no over-commit"), "{what}");
}

#[test]
fn a_dependent_that_begins_too_soon_is_caught() {
    let (_, what) = caught(Mutants { dependency_on_stale_state: true, ..Mutants::default() });
    assert!(what.contains("dependencies come first") || what.contains("the state is sound"), "{what}");
}

#[test]
fn an_order_of_a_hash_is_caught() {
    let (_, what) = caught(Mutants { hash_order: true, ..Mutants::default() });
    assert!(what.contains("replicas agree"), "{what}");
}

#[test]
fn an_order_that_is_started_again_is_caught() {
    let (_, what) = caught(Mutants { start_twice: true, ..Mutants::default() });
    assert!(what.contains("one start per token") || what.contains("one owner"), "{what}");
}

#[test]
fn a_release_that_is_made_again_is_caught() {
    let (_, what) = caught(Mutants { released_twice: true, ..Mutants::default() });
    assert!(what.contains("released once"), "{what}");
}
