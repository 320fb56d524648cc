//! What stands where the chaos build has its hooks: nothing.

use model::Moment;

use crate::types::Entry;

#[derive(Clone, Default)]
pub struct Hooks(());

impl Hooks {
    pub(crate) fn arm(&self, _: &mut machine::State) {}

    pub(crate) fn applied(
        &self,
        _: crate::types::LogId,
        _: &machine::State,
        _: &machine::Entry,
        _: &machine::Applied,
    ) {
    }

    pub(crate) fn passed(&self, _: &Entry) {}

    pub(crate) fn loaded(&self, _index: u64, _: &machine::State) {}

    pub(crate) fn built(&self, _index: u64) {}

    pub(crate) fn led(&self, _term: u64) {}

    pub(crate) fn puts_sync_off(&self, _: impl FnOnce() -> Moment) -> bool {
        false
    }

    pub(crate) fn skips_vote_sync(&self) -> bool {
        false
    }

    pub(crate) fn reads_at_once(&self) -> bool {
        false
    }

    pub(crate) fn accepts_lost_tail(&self) -> bool {
        false
    }
}
