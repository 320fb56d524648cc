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
    // A task that is on its way out is placed anew, and the end of the old attempt counts.
    assert!(what.contains("tokens rise") || what.contains("one owner"), "{what}");
}
