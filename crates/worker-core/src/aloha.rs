//! When a worker that may take tasks itself does so: slotted ALOHA with exponential backoff (Roberts 1975; Metcalfe & Boggs
//! 1976).
//!
//! In each slot a station transmits with the chance `min(1, channels / stations)`, so that there is one of them for each channel:
//! the rate at which most gets through. Who was beaten sits out `0` to `2^losses - 1` slots, so that stations that think
//! themselves fewer than they are find out.

use std::time::Duration;

use crate::chance::Chance;

/// By when whoever claimed knows whether it has won: a commit on a network of one place.
pub const SLOT: Duration = Duration::from_millis(5);

/// 128 slots.
const LOSSES_MAX: u32 = 7;

#[derive(Clone, Debug)]
pub struct Aloha {
    chance: Chance,
    /// In a row.
    losses: u32,
}

impl Aloha {
    pub fn new(seed: u64) -> Aloha {
        Aloha { chance: Chance(seed), losses: 0 }
    }

    /// Whether to claim in this slot, among so many stations. Without a station there is still this one.
    pub fn transmits(&mut self, channels: u32, stations: u32) -> bool {
        self.chance.bits() % u64::from(stations.max(1)) < u64::from(channels)
    }

    /// By which the channel is chosen.
    pub fn draw(&mut self) -> u64 {
        self.chance.bits()
    }

    pub fn won(&mut self) {
        self.losses = 0;
    }

    /// Somebody else was first. Returns how many slots to sit out.
    pub fn lost(&mut self) -> u32 {
        self.losses = (self.losses + 1).min(LOSSES_MAX);
        self.chance.bits() as u32 % (1 << self.losses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATIONS: u32 = 64;

    fn stations() -> Vec<Aloha> {
        (0..STATIONS).map(|id| Aloha::new(u64::from(id) << 32 | 5)).collect()
    }

    /// How many of 64 stations transmit in each slot, at `quarters / 4` attempts a slot.
    fn slots(quarters: u32, count: u32) -> impl Iterator<Item = usize> {
        let mut stations = stations();
        // The same rate, in whole numbers: quarters of 64 stations of four times as many.
        (0..count).map(move |_| {
            stations
                .iter_mut()
                .map(|station| station.transmits(quarters, 4 * STATIONS))
                .filter(|on| *on)
                .count()
        })
    }

    /// The throughput of slotted ALOHA with a finite number of stations: G (1 - G/N)^(N-1), near `G e^-G`.
    #[test]
    fn what_gets_through_is_what_theory_says() {
        for (quarters, expected) in [(1, 0.196), (2, 0.305), (4, 0.371), (8, 0.269), (16, 0.068)] {
            let count = 200_000;
            let alone = slots(quarters, count).filter(|on| *on == 1).count();
            let through = alone as f64 / f64::from(count);
            assert!((through - expected).abs() < 0.006, "G = {quarters}/4: {through}, not {expected}");
        }
    }

    /// Where the first of several wins, as in a log, a collision costs the others only: `1 - e^-G`.
    #[test]
    fn the_log_serves_a_slot_in_which_several_collide() {
        for (quarters, expected) in [(1, 0.222), (4, 0.635), (16, 0.984)] {
            let count = 200_000;
            let served = slots(quarters, count).filter(|on| *on > 0).count();
            let share = served as f64 / f64::from(count);
            assert!((share - expected).abs() < 0.006, "G = {quarters}/4: {share}, not {expected}");
        }
    }

    /// 64 stations and 640 tasks, one claim each time: everybody gets some, and nobody is kept waiting by its losses for ever.
    #[test]
    fn stations_share_what_there_is() {
        let mut stations = stations();
        let (mut wins, mut rest) = (vec![0; stations.len()], vec![0; stations.len()]);
        let (mut left, mut slots, mut lost) = (640, 0_usize, 0);
        while left > 0 {
            slots += 1;
            let channels = left.min(STATIONS);
            let mut winners = std::collections::BTreeMap::new();
            // Who comes first in the log is the network's affair: another one each time.
            for nth in 0..stations.len() {
                let id = (nth + 7 * slots) % stations.len();
                let station = &mut stations[id];
                if rest[id] > 0 {
                    rest[id] -= 1;
                } else if station.transmits(channels, STATIONS) {
                    let channel = station.draw() % u64::from(channels);
                    if *winners.entry(channel).or_insert(id) == id {
                        station.won();
                    } else {
                        rest[id] = station.lost();
                        lost += 1;
                    }
                }
            }
            left -= winners.len() as u32;
            winners.into_values().for_each(|id: usize| wins[id] += 1);
        }
        assert!(slots < 100, "{slots} slots, {lost} lost");
        assert!(wins.iter().all(|wins| (1..40).contains(wins)), "{wins:?}");
    }

    #[test]
    fn whoever_is_alone_always_transmits() {
        let mut alone = Aloha::new(1);
        assert!((0..100).all(|_| alone.transmits(1, 1) && alone.transmits(3, 0)));
        assert!((0..100).all(|_| !alone.transmits(0, 1)));
    }

    #[test]
    fn who_loses_waits_longer_and_not_for_ever() {
        let mut station = Aloha::new(9);
        let waits: Vec<u32> = (0..200).map(|_| station.lost()).collect();
        assert!(waits.iter().enumerate().all(|(nth, wait)| *wait < 1 << (nth + 1).min(7)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait > 100));
        station.won();
        assert!(station.lost() < 2);
    }
}
