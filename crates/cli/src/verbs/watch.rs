//! `--watch`: shows something again whenever an event says that it may have changed.

use std::time::Duration;

use client::{Event, Watched};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use crate::app::App;
use crate::fault::Fault;
use crate::output::Face;

/// At most five pictures a second, and none while nothing happens.
const REDRAW: Duration = Duration::from_millis(200);

/// Flags of what can be watched.
#[derive(Debug, Default, clap::Args)]
pub struct WatchArgs {
    /// Show again whenever something changes
    #[arg(short, long)]
    pub watch: bool,
}

pub struct Watch<'a> {
    app: &'a App,
    events: BoxStream<'static, Result<Watched, client::Error>>,
    is_relevant: fn(&Event) -> bool,
    has_drawn: bool,
}

impl<'a> Watch<'a> {
    pub fn new(app: &'a App, is_relevant: fn(&Event) -> bool) -> Watch<'a> {
        Watch { app, events: app.client.watch(None, None).boxed(), is_relevant, has_drawn: false }
    }

    /// Until there may be something new, which the begin of the events is too.
    pub async fn changed(&mut self) -> Result<(), Fault> {
        if self.has_drawn {
            tokio::time::sleep(REDRAW).await;
        }
        let mut is_due = false;
        while !is_due {
            let watched = self.events.next().await;
            is_due = self.take(watched)?;
        }
        // What has come meanwhile needs no picture of its own.
        while let Some(watched) = self.events.next().now_or_never() {
            self.take(watched)?;
        }
        Ok(())
    }

    fn take(&mut self, watched: Option<Result<Watched, client::Error>>) -> Result<bool, Fault> {
        let watched = watched.transpose().map_err(|error| Fault::reading("cannot watch", error))?;
        Ok(match watched {
            Some(Watched::Begin { .. }) => true,
            Some(Watched::Event { event, .. }) => (self.is_relevant)(&event),
            // What was missed is in the next picture, which the new stream's begin asks for.
            Some(Watched::Compacted { .. }) | None => {
                self.events = self.app.client.watch(None, None).boxed();
                false
            }
        })
    }

    pub fn draw(&mut self, text: &str) -> Result<(), Fault> {
        let is_first = !std::mem::replace(&mut self.has_drawn, true);
        draw(&self.app.face, text, is_first)
    }
}

/// On a terminal over the last picture; elsewhere, and for machines, one after the other.
pub fn draw(face: &Face, text: &str, is_first: bool) -> Result<(), Fault> {
    if face.is_terminal && !face.format.is_machine() {
        face.print(&over(text, is_first))
    } else {
        face.print(text)
    }
}

/// Home, draw over, clear the rest of each line and what is left below: nothing flickers and nothing old stays.
fn over(text: &str, is_first: bool) -> String {
    let begin = if is_first { "\x1b[2J\x1b[H" } else { "\x1b[H" };
    format!("{begin}{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_line_leaves_nothing_of_a_longer_one() {
        assert_eq!(over("a\nb\n", true), "\x1b[2J\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(over("a\n", false), "\x1b[Ha\x1b[K\n\x1b[J");
    }
}
