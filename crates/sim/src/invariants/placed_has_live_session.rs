//! What is placed is on a session that lives, or whose end is being dealt with.

use machine::Phase;
use model::Elapsed;

use super::{Found, Invariant, Step};

#[derive(Default)]
pub struct PlacedHasLiveSession {
    looked: u64,
}

impl Invariant for PlacedHasLiveSession {
    fn name(&self) -> &'static str {
        "placed has a live session"
    }

    fn applied(&mut self, step: &Step, found: &mut Found) {
        let state = step.state;
        let is_busy = state.next_due().is_some_and(|due| due.elapsed == Some(Elapsed(0)));
        for job in state.jobs().filter(|job| job.counts().running > 0) {
            for live in job.groups.iter().flat_map(|group| group.live.values()) {
                self.looked += 1;
                let session = state.session(live.session).filter(|session| !session.ended || is_busy);
                let allocation = session.and_then(|session| session.allocations.get(&live.seq));
                let stands =
                    allocation.is_some_and(|row| row.token == live.token && row.phase != Phase::Stopping);
                if !stands {
                    found.push(format!(
                        "{} has a task on {}#{}, which is gone",
                        job.id, live.session, live.seq
                    ));
                }
            }
        }
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
