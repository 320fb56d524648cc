//! A bar on stderr while tasks finish or rounds are measured; only where stderr is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use model::views::Counts;

use super::Face;
use super::rows::counts_text;

pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn new(face: &Face, total: u64) -> Progress {
        if !face.is_terminal_err || total < 2 {
            return Progress { bar: None };
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress { bar: Some(bar) }
    }

    /// No bar at all.
    pub fn none() -> Progress {
        Progress { bar: None }
    }

    pub fn is_shown(&self) -> bool {
        self.bar.is_some()
    }

    pub fn show(&self, counts: &Counts) {
        if let Some(bar) = &self.bar {
            bar.set_length(counts.total());
            bar.set_position(counts.finished());
            bar.set_message(counts_text(counts));
        }
    }

    /// Runs `print` with the bar out of the way.
    pub fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Takes the bar away for good.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Which round of what is measured, and for how long already. Copies show the same.
#[derive(Clone)]
pub struct Rounds {
    bar: Option<ProgressBar>,
}

/// So often the time is drawn anew.
const TICK: Duration = Duration::from_millis(500);

impl Rounds {
    /// Nothing is drawn before the first [`begin`](Rounds::begin).
    pub fn new(face: &Face) -> Rounds {
        if !face.is_terminal_err {
            return Rounds { bar: None };
        }
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::hidden());
        Rounds { bar: Some(bar) }
    }

    /// Something else is measured from now on, in so many rounds; the time counts from here.
    pub fn begin(&self, what: &str, rounds: u64) {
        let Some(bar) = &self.bar else { return };
        let style = match rounds {
            0 | 1 => "{spinner} {msg}, {elapsed}",
            _ => "{bar:20} {msg}: round {pos} of {len}, {elapsed}",
        };
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what.to_owned());
        bar.set_length(rounds);
        bar.reset();
        if bar.is_hidden() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TICK);
        }
    }

    /// The next round begins; before the first it warms up.
    pub fn next(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// Runs `print` with the bar out of the way.
    pub fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Takes the bar away for good.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.disable_steady_tick();
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
