//! A bar on stderr while tasks finish; only where stderr is a terminal.

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

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
