//! Which faults come when: drawn from the seed before the run begins.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use super::{Fault, Needs};

/// For how long a window of faults lasts, and how long the quiet after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub fault: Duration,
    pub quiet: Duration,
}

/// Above this a run has windows of several faults, and time for them.
const LONG: Duration = Duration::from_secs(150);
/// Faults of one window.
const TOGETHER_MAX: usize = 3;

impl Pace {
    /// For a run of this length.
    pub fn of(time: Duration) -> Pace {
        let (fault, quiet) = if time > LONG { (14, 8) } else { (5, 3) };
        Pace { fault: Duration::from_secs(fault), quiet: Duration::from_secs(quiet) }
    }

    /// What strikes workers lasts longer than a lease, or nothing comes of it.
    pub fn lasting(self, faults: &[Fault], lease: Duration) -> Duration {
        let strikes =
            |fault: &Fault| matches!(fault, Fault::KillWorker | Fault::PauseWorker | Fault::WorkerIsland);
        if faults.iter().any(strikes) { self.fault.max(lease + lease / 2) } else { self.fault }
    }
}

/// Windows for a run of this length: first each fault once in an order by chance, then draws. A quarter of the windows of a
/// long run has none.
pub fn schedule(faults: &[Fault], seed: u64, time: Duration) -> Vec<Vec<Fault>> {
    let pace = Pace::of(time);
    let windows = (time.as_secs_f64() / (pace.fault + pace.quiet).as_secs_f64()).ceil() as usize;
    if faults.is_empty() {
        return vec![Vec::new(); windows.max(1)];
    }
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut deck = Vec::new();
    let mut drawn = Vec::new();
    let is_long = time > LONG;
    while drawn.len() < windows.max(1) {
        if is_long && chance.random_range(0..4) == 0 {
            drawn.push(Vec::new());
            continue;
        }
        let count = if is_long { chance.random_range(1..=TOGETHER_MAX) } else { 1 };
        let mut window = vec![draw(&mut deck, faults, &mut chance)];
        while window.len() < count
            && let Some(place) = deck.iter().rposition(|fault| fits(&window, *fault))
        {
            window.push(deck.swap_remove(place));
        }
        drawn.push(window);
    }
    drawn
}

/// Each of a round once. What cannot be tried anywhere comes in the first round only, to be told as skipped.
fn draw(deck: &mut Vec<Fault>, faults: &[Fault], chance: &mut SmallRng) -> Fault {
    if let Some(fault) = deck.pop() {
        return fault;
    }
    let possible = |fault: &&Fault| !matches!(fault.needs(), Needs::Impossible(_));
    deck.extend(faults.iter().filter(possible));
    deck.shuffle(chance);
    deck.pop().or_else(|| faults.choose(chance).copied()).expect("there is at least one fault")
}

/// One of each family at a time.
fn fits(window: &[Fault], fault: Fault) -> bool {
    !is_alone(fault) && window.iter().all(|other| other.family() != fault.family() && !is_alone(*other))
}

/// What leaves room for nothing beside it.
fn is_alone(fault: Fault) -> bool {
    matches!(fault.family(), "script" | "disk" | "roll")
        || matches!(fault, Fault::KillAll | Fault::PauseMajority)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_seed_decides_and_every_fault_comes_once_before_any_comes_again() {
        let faults = super::super::chosen("kill").unwrap();
        for seed in 0..20 {
            let windows = schedule(&faults, seed, MINUTE);
            assert_eq!(windows, schedule(&faults, seed, MINUTE));
            let first: BTreeSet<Fault> = windows.iter().take(faults.len()).flatten().copied().collect();
            assert_eq!(first.len(), faults.len());
            assert!(windows.iter().all(|window| window.len() == 1));
        }
        assert_ne!(schedule(&faults, 1, MINUTE), schedule(&faults, 2, MINUTE));
    }

    #[test]
    fn a_long_run_has_quiet_windows_and_full_ones() {
        let faults = super::super::chosen("all").unwrap();
        let windows = schedule(&faults, 3, 30 * MINUTE);
        let share = |is: fn(&Vec<Fault>) -> bool| {
            windows.iter().filter(|window| is(window)).count() * 100 / windows.len()
        };
        assert!((10..45).contains(&share(Vec::is_empty)), "{}", share(Vec::is_empty));
        assert!(share(|window| window.len() > 1) > 15);
        let possible = |fault: &&Fault| !matches!(fault.needs(), Needs::Impossible(_));
        let seen: BTreeSet<Fault> = windows.iter().flatten().copied().collect();
        assert_eq!(seen.len(), Fault::ALL.iter().filter(possible).count());
        let families =
            |window: &Vec<Fault>| window.iter().map(|fault| fault.family()).collect::<BTreeSet<_>>().len();
        assert!(
            windows.iter().all(|window| families(window) == window.len()),
            "one of each family at a time"
        );
    }

    #[test]
    fn no_fault_is_a_schedule_too() {
        assert!(schedule(&[], 1, MINUTE).iter().all(Vec::is_empty));
    }
}
