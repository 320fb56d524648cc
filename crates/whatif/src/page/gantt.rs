//! Tasks as bars on the cores that they take: in a page, and as a picture of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::{BARS_MAX, COLOURS, LEFT, RIGHT, WIDTH, escape, round_step, span};
use crate::run::{Ran, Run};
use crate::workload::Workload;

const HIGH: f64 = 300.0;
const AXIS: f64 = 20.0;
/// Above the bars of a picture: what it shows, and of what is more than it can show how much.
const HEAD: f64 = 46.0;
/// A name is written into a bar of this height, and that much width for a letter.
const NAME_HIGH: f64 = 12.0;
const LETTER: f64 = 7.0;

/// The first bars, of which there may be more than anybody could tell apart.
pub(super) struct Chart<'a> {
    workload: &'a Workload,
    cores: u64,
    bars: Vec<Bar<'a>>,
    /// How many there are.
    all: usize,
}

/// A time in which a task ran, on these cores.
struct Bar<'a> {
    ran: &'a Ran,
    from: Duration,
    to: Duration,
    pieces: Vec<Piece>,
}

/// A core, and how many from it on.
type Piece = (u64, u64);

/// A picture of its own, that needs no page around it.
pub fn gantt(title: &str, workload: &Workload, run: &Run) -> String {
    let chart = Chart::of(workload, run);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {:.0}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"18\" font-size=\"14\">{}</text>\n",
        HEAD + HIGH + AXIS,
        escape(title)
    );
    let caption = chart.caption().unwrap_or_default();
    let _ = writeln!(
        svg,
        "<text x=\"8\" y=\"36\">{}</text>\n<g transform=\"translate(0 {HEAD})\">",
        escape(&caption)
    );
    chart.draw(&mut svg, COLOURS[0], "#fff");
    svg + "</g>\n</svg>\n"
}

impl Chart<'_> {
    pub fn of<'a>(workload: &'a Workload, run: &'a Run) -> Chart<'a> {
        let (bars, all) = bars(run);
        Chart { workload, cores: run.cores.max(1), bars, all }
    }

    /// What is not drawn, if anything is not.
    pub fn caption(&self) -> Option<String> {
        let (drawn, all) = (self.bars.len(), self.all);
        (drawn < all).then(|| {
            format!("Drawn are the first {drawn} of {all} bars, one for each time in which a task ran.")
        })
    }

    pub fn in_page(&self, colour: &str) -> String {
        let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\">\n", HIGH + AXIS);
        self.draw(&mut svg, colour, "var(--paper)");
        svg + "</svg>\n"
    }

    fn draw(&self, svg: &mut String, colour: &str, paper: &str) {
        let first = self.bars.iter().map(|bar| bar.from).min().unwrap_or_default();
        let last = self.bars.iter().map(|bar| bar.to).max().unwrap_or_default();
        let length = (last - first).as_secs_f64().max(1.0);
        let x = |seconds: f64| LEFT + seconds / length * (WIDTH - LEFT - RIGHT);
        let y = |core: u64| core as f64 / self.cores as f64 * HIGH;
        for bar in &self.bars {
            let (name, title) = self.told(bar.ran);
            let (left, right) = (x((bar.from - first).as_secs_f64()), x((bar.to - first).as_secs_f64()));
            let wide = (right - left).max(0.5);
            for (from, len) in &bar.pieces {
                let (top, high) = (y(*from), y(*len));
                let _ = writeln!(
                    svg,
                    "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{wide:.1}\" height=\"{high:.1}\" fill=\"{colour}\" \
                     fill-opacity=\"0.75\" stroke=\"{paper}\" stroke-width=\"0.5\"><title>{title}</title></rect>"
                );
                let is_told = high >= NAME_HIGH && wide >= LETTER * (name.chars().count() + 1) as f64;
                if is_told {
                    let (x, y) = (left + wide / 2.0, top + high / 2.0 + 4.0);
                    let _ = writeln!(
                        svg,
                        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
                        escape(name)
                    );
                }
            }
        }
        let step = round_step(length / 8.0);
        for nth in 0..=(length / step) as u32 {
            let at = f64::from(nth) * step;
            let (left, under) = (x(at), HIGH + 14.0);
            let _ = writeln!(
                svg,
                "<text x=\"{left:.1}\" y=\"{under:.1}\" text-anchor=\"middle\">{}</text>",
                span(at)
            );
        }
    }

    /// The name of a task, and what is shown of it when it is pointed at.
    fn told(&self, ran: &Ran) -> (&str, String) {
        let name = &self.workload.jobs[ran.job].tasks[ran.task].name;
        let (waited, took) = (span(ran.wait().as_secs_f64()), span(ran.took().as_secs_f64()));
        (name, escape(&format!("{name}: {} cores, waited {waited}, ran {took}", ran.cores)))
    }
}

/// The first bars by when they begin, with their cores, and how many there are in all.
fn bars(run: &Run) -> (Vec<Bar<'_>>, usize) {
    let of = |ran| move |(from, to)| Bar { ran, from, to, pieces: Vec::new() };
    let mut bars: Vec<Bar<'_>> = run.tasks.iter().flat_map(|ran| ran.times().map(of(ran))).collect();
    let all = bars.len();
    bars.sort_by_key(|bar| (bar.from, bar.ran.job, bar.ran.task));
    bars.truncate(BARS_MAX);
    let mut free: BTreeMap<u64, u64> = BTreeMap::from([(0, run.cores)]);
    let mut running: Vec<(Duration, Vec<Piece>)> = Vec::new();
    for bar in &mut bars {
        for (_, pieces) in running.extract_if(.., |(end, _)| *end <= bar.from) {
            pieces.into_iter().for_each(|piece| give_back(&mut free, piece));
        }
        bar.pieces = take(&mut free, bar.ran.cores);
        running.push((bar.to, bar.pieces.clone()));
    }
    (bars, all)
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
    fn a_picture_stands_alone_and_names_its_tasks() {
        let task = |name: &str, cores| crate::Task::new(name, cores, Duration::from_secs(60));
        let tasks = vec![task("a<b", 2), task("c", 1)];
        let job = crate::Job { submit: Duration::ZERO, user: String::new(), priority: 0, tasks };
        let workload = Workload { jobs: vec![job], ..Workload::default() };
        let ran = crate::run(&workload, 3, &"fcfs".parse().unwrap()).unwrap();
        let svg = gantt("x & y", &workload, &ran);
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && svg.ends_with("</svg>\n"));
        assert!(svg.contains(">x &amp; y</text>") && !svg.contains("var(") && !svg.contains("Drawn are"));
        assert_eq!(svg.matches("<title>").count(), 2);
        assert!(svg.contains(">a&lt;b</text>") && svg.contains("a&lt;b: 2 cores, waited 0 s, ran 1 min"));
    }

    #[test]
    fn of_many_bars_the_first_are_drawn_and_it_is_said() {
        let how = crate::Generator { jobs: BARS_MAX + 1, cores: 64, load: 0.9, seed: 1 };
        let workload = crate::generate(&how);
        let ran = crate::run(&workload, 64, &"fcfs".parse().unwrap()).unwrap();
        let told = format!("Drawn are the first {BARS_MAX} of {} bars", BARS_MAX + 1);
        assert!(gantt("", &workload, &ran).contains(&told));
        assert_eq!(Chart::of(&workload, &ran).bars.len(), BARS_MAX);
    }

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
