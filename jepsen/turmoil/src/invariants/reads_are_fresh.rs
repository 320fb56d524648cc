//! A linearizable read, through whichever replica, is never older than what was acknowledged or read before it was
//! asked for.

use std::collections::BTreeMap;

use super::{Found, Invariant};
use crate::history::Event;

#[derive(Default)]
pub struct ReadsAreFresh {
    /// The highest index that any answer has shown.
    shown: u64,
    /// By call under way.
    floors: BTreeMap<u64, u64>,
}

impl Invariant for ReadsAreFresh {
    fn name(&self) -> &'static str {
        "reads are fresh"
    }

    fn hear(&mut self, event: &Event, found: &mut Found) {
        match event {
            Event::WriteAsked { .. } => {}
            Event::WriteDone { write, .. } => self.shown = self.shown.max(write.index),
            Event::ReadAsked { call } => drop(self.floors.insert(*call, self.shown)),
            Event::ReadDone { call, index, .. } => {
                let floor = self.floors.remove(call).unwrap_or_default();
                if *index < floor {
                    found.push(format!(
                        "a read is as of {index}, and {floor} was shown before it was asked for"
                    ));
                }
                self.shown = self.shown.max(*index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use machine::Reply;
    use model::RequestId;

    use super::super::stage::heard;
    use super::*;
    use crate::history::Acknowledged;

    #[test]
    fn a_read_that_is_older_than_an_answer_before_it_is_found() {
        let mut invariant = ReadsAreFresh::default();
        let asked = |call| Event::ReadAsked { call };
        let done = |call, index| Event::ReadDone { call, index, lacks: None };
        let write = Acknowledged { request: RequestId(1), index: 5, reply: Reply::Done };
        let good =
            [asked(1), Event::WriteDone { call: 9, write }, done(1, 3), asked(2), done(2, 6), asked(3)];
        good.into_iter().for_each(|event| assert_eq!(heard(&mut invariant, event), Found::new()));
        assert_eq!(heard(&mut invariant, done(3, 5)).len(), 1, "another read has shown more");
    }
}
