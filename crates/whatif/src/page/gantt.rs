//! Tasks as bars on the cores that they take.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::{LEFT, RIGHT, WIDTH, escape, round_step, span};
use crate::run::{Ran, Run};
use crate::workload::Workload;

const HIGH: f64 = 300.0;
const AXIS: f64 = 20.0;

pub(super) fn draw(workload: &Workload, run: &Run, colour: &str) -> String {
    let first = run.tasks.iter().map(|ran| ran.start).min().unwrap_or_default();
    let last = run.tasks.iter().map(|ran| ran.end).max().unwrap_or_default();
    let length = (last - first).as_secs_f64().max(1.0);
    let x = |at: Duration| LEFT + (at - first).as_secs_f64() / length * (WIDTH - LEFT - RIGHT);
    let y = |core: u64| core as f64 / run.cores.max(1) as f64 * HIGH;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\">\n", HIGH + AXIS);
    for (ran, (start, end), pieces) in pieces(run) {
        let name = &workload.jobs[ran.job].tasks[ran.task].name;
        let title = format!(
            "{name}: {} cores, waited {}, ran {}",
            ran.cores,
            span(ran.wait().as_secs_f64()),
            span(ran.took().as_secs_f64())
        );
        for (from, len) in pieces {
            let _ = writeln!(
                svg,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\" \
                 fill-opacity=\"0.75\" stroke=\"var(--paper)\" stroke-width=\"0.5\"><title>{}</title></rect>",
                x(start),
                y(from),
                (x(end) - x(start)).max(0.5),
                y(len),
                escape(&title)
            );
        }
    }
    let step = round_step(length / 8.0);
    for nth in 0..=(length / step) as u32 {
        let at = f64::from(nth) * step;
        let left = LEFT + at / length * (WIDTH - LEFT - RIGHT);
        let _ = writeln!(
            svg,
            "<text x=\"{left:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HIGH + 14.0,
            span(at)
        );
    }
    svg + "</svg>\n"
}

/// From when until when.
type Time = (Duration, Duration);
/// A core, and how many from it on.
type Piece = (u64, u64);

/// Runs of cores for each time of each task: from a core on, so many.
fn pieces(run: &Run) -> Vec<(&Ran, Time, Vec<Piece>)> {
    let all = run.tasks.iter().flat_map(|ran| ran.times().map(move |time| (ran, time)));
    let mut order: Vec<(&Ran, Time)> = all.collect();
    order.sort_by_key(|(ran, (start, _))| (*start, ran.job, ran.task));
    let mut free: BTreeMap<u64, u64> = BTreeMap::from([(0, run.cores)]);
    let mut running: Vec<(Duration, Vec<Piece>)> = Vec::new();
    let mut drawn = Vec::new();
    for (ran, (start, until)) in order {
        for (_, pieces) in running.extract_if(.., |(end, _)| *end <= start) {
            pieces.into_iter().for_each(|piece| give_back(&mut free, piece));
        }
        let pieces = take(&mut free, ran.cores);
        running.push((until, pieces.clone()));
        drawn.push((ran, (start, until), pieces));
    }
    drawn
}

/// In one piece where there is one, else the lowest.
fn take(free: &mut BTreeMap<u64, u64>, cores: u64) -> Vec<(u64, u64)> {
    let whole = free.iter().find(|(_, len)| **len >= cores).map(|(from, _)| *from);
    let (mut pieces, mut left) = (Vec::new(), cores);
    while left > 0 {
        let from = whole.or_else(|| free.keys().next().copied());
        let Some((from, len)) = from.and_then(|from| free.remove_entry(&from)) else { break };
        let taken = len.min(left);
        if taken < len {
            free.insert(from + taken, len - taken);
        }
        pieces.push((from, taken));
        left -= taken;
    }
    pieces
}

fn give_back(free: &mut BTreeMap<u64, u64>, (mut from, mut len): (u64, u64)) {
    if let Some(after) = free.remove(&(from + len)) {
        len += after;
    }
    if let Some((before, of)) = free.range(..from).next_back().map(|(before, of)| (*before, *of))
        && before + of == from
    {
        free.remove(&before);
        (from, len) = (before, len + of);
    }
    free.insert(from, len);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_taken_once_and_come_back_whole() {
        let mut free = BTreeMap::from([(0, 8)]);
        let (a, b, c) = (take(&mut free, 3), take(&mut free, 2), take(&mut free, 3));
        assert_eq!((&a[..], &b[..], &c[..]), (&[(0, 3)][..], &[(3, 2)][..], &[(5, 3)][..]));
        give_back(&mut free, a[0]);
        give_back(&mut free, c[0]);
        assert_eq!(take(&mut free, 5), [(0, 3), (5, 2)]);
        give_back(&mut free, b[0]);
        assert_eq!(free, BTreeMap::from([(3, 2), (7, 1)]));
    }
}
