//! A write is acknowledged under an index above all that were acknowledged before it was asked for.

use std::collections::BTreeMap;

use super::{Found, Invariant};
use crate::history::Event;

#[derive(Default)]
pub struct AcknowledgedInOrder {
    highest: u64,
    /// By call under way.
    floors: BTreeMap<u64, u64>,
}

impl Invariant for AcknowledgedInOrder {
    fn name(&self) -> &'static str {
        "acknowledged in order"
    }

    fn hear(&mut self, event: &Event, found: &mut Found) {
        match event {
            Event::WriteAsked { call } => drop(self.floors.insert(*call, self.highest)),
            Event::WriteDone { call, write } => {
                let floor = self.floors.remove(call).unwrap_or_default();
                if write.index <= floor {
                    found.push(format!(
                        "{} is acknowledged at {}, not above {floor}",
                        write.request, write.index
                    ));
                }
                self.highest = self.highest.max(write.index);
            }
            Event::ReadAsked { .. } | Event::ReadDone { .. } => {}
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
    fn an_index_that_is_not_above_an_earlier_one_is_found() {
        let mut invariant = AcknowledgedInOrder::default();
        let asked = |call| Event::WriteAsked { call };
        let done = |call, index| {
            let write = Acknowledged { request: RequestId(1), index, reply: Reply::Done };
            Event::WriteDone { call, write }
        };
        let good = [asked(1), asked(2), done(2, 8), asked(3), done(1, 7), done(3, 9), asked(4)];
        good.into_iter().for_each(|event| assert_eq!(heard(&mut invariant, event), Found::new()));
        assert_eq!(heard(&mut invariant, done(4, 9)).len(), 1);
    }
}
