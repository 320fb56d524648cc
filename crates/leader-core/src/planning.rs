//! When to plan. A plan is made from the committed state and an overlay of the plans in flight; the overlay ends with
//! the reply, with the rejection and with the leadership.

use std::collections::{BTreeMap, BTreeSet};

use machine::state::State;
use machine::{Phase, Plan};
use model::{JobId, JobSpec, Seq, SessionId};
use scheduler::{Ahead, Budget, Over, Overlay, Scratch};

use crate::lanes::Room;
use crate::propose::PROPOSALS_IN_FLIGHT_MAX;
use crate::{Leader, Standing};

pub const PLANS_IN_FLIGHT_MAX: usize = 2;
/// Plans of which nothing was taken, before the planner waits for the state to wake it.
const FRUITLESS_MAX: u32 = 3;
/// Approximate bytes of a placement in the log: a full plan fits into an entry of its own.
const PLACEMENT_BYTES: usize = 48;
/// As many ids of sessions are as large as that.
const SESSIONS_PER_PLACEMENT: usize = 8;
/// Placements that share an entry with the submits or reports that they follow from.
const PLACEMENTS_AHEAD_MAX: usize = 128;

#[derive(Default)]
pub(crate) struct Planning {
    overlay: Overlay,
    scratch: Scratch,
    woken: bool,
    /// Made, but not yet in an entry.
    made: Option<(u64, Plan)>,
    /// By plan: how many plans had been made when it was.
    in_flight: BTreeMap<u64, u64>,
    /// Of these, those that share the entry of the submits or reports that they follow from.
    ahead: BTreeSet<u64>,
    last: u64,
    calls: u64,
    fruitless: u32,
    /// The last plan left nothing waiting: whether work sent ahead is better elsewhere is worth a look.
    has_settled: bool,
    /// Asked back, and not gone yet.
    recalled: BTreeSet<(SessionId, Seq)>,
    /// It did not fit beside the submits once: now they wait.
    pub overdue: bool,
}

impl Planning {
    pub fn wake(&mut self) {
        self.woken = true;
    }

    pub fn clear(&mut self) {
        self.overlay.clear();
        self.made = None;
        self.in_flight.clear();
        self.ahead.clear();
        self.recalled.clear();
        self.woken = false;
    }

    /// Roughly as large as it will be in an entry.
    pub fn bytes(&self) -> Option<usize> {
        let (_, plan) = self.made.as_ref()?;
        // The others are no larger than a placement, but for what is promised to a gang.
        let members = plan.promises.iter().flat_map(|promised| &promised.promise);
        let members: usize = members.map(|promise| promise.others.len()).sum();
        let others = plan.reservations.len()
            + plan.promises.len()
            + members.div_ceil(SESSIONS_PER_PLACEMENT)
            + plan.compressed.len()
            + plan.preemptions.len()
            + plan.switches.len();
        Some(PLACEMENT_BYTES * (1 + plan.placements.len() + others))
    }

    /// Takes the plan into an entry.
    pub fn take(&mut self) -> Option<(u64, Plan)> {
        let (id, plan) = self.made.take()?;
        self.in_flight.insert(id, self.calls);
        self.overdue = false;
        Some((id, plan))
    }

    /// Places what is about to be submitted or to become ready, if nobody waits who could be overtaken. Returns the plan, if
    /// anything was placed, and whether nothing that could run at once was left out.
    pub fn make_ahead(
        &mut self,
        state: &State,
        over: &[Over],
        jobs: &[(JobId, &JobSpec)],
        room: &mut Room,
    ) -> (Option<(u64, Plan)>, bool) {
        let waits = !state.ready().is_empty() || state.with_suspended().next().is_some();
        if self.made.is_some() || waits {
            return (None, jobs.is_empty() && !scheduler::frees_anybody(state, over));
        }
        let placements_max = (room.left() / PLACEMENT_BYTES).saturating_sub(1).min(PLACEMENTS_AHEAD_MAX);
        let Ahead { plan, asked, is_whole } =
            scheduler::plan_new(state, &self.overlay, over, jobs, placements_max);
        if plan.is_empty() {
            return (None, is_whole);
        }
        room.take(PLACEMENT_BYTES * (1 + plan.placements.len()));
        self.last += 1;
        self.overlay.add_new(self.last, &plan, asked);
        self.in_flight.insert(self.last, self.calls);
        self.ahead.insert(self.last);
        (Some((self.last, plan)), is_whole)
    }

    /// The plan's entry was applied.
    pub fn settle(&mut self, id: u64, taken: u32, dropped: u32) {
        self.ahead.remove(&id);
        self.overlay.remove(id);
        let planned_since = self.in_flight.remove(&id).is_some_and(|calls| calls < self.calls);
        self.fruitless = if taken == 0 { self.fruitless + 1 } else { 0 };
        // A plan made meanwhile counted this one twice, once applied and once in flight; and what was dropped may fit
        // elsewhere.
        if (planned_since || dropped > 0) && self.fruitless < FRUITLESS_MAX {
            self.woken = true;
        }
    }

    /// What to ask back from busy workers, because another has room for it by now.
    pub fn recalls(&mut self, state: &State) -> Vec<(SessionId, Seq)> {
        if !std::mem::take(&mut self.has_settled) {
            return Vec::new();
        }
        let is_held = |(session, seq): &(SessionId, Seq)| {
            let allocation = state.session(*session).and_then(|row| row.allocations.get(seq));
            allocation.is_some_and(|allocation| allocation.phase == Phase::Held)
        };
        self.recalled.retain(is_held);
        // One at a time: what comes back is placed first.
        if !self.recalled.is_empty() {
            return Vec::new();
        }
        scheduler::recalls(state, &self.overlay)
    }

    pub fn recalled(&mut self, session: SessionId, seq: Seq) {
        self.recalled.insert((session, seq));
    }

    /// What was asked of this session may not have been heard: it is asked anew when it is back.
    pub fn forget_recalls(&mut self, session: SessionId) {
        self.recalled.retain(|(other, _)| *other != session);
        self.woken = true;
    }

    fn is_wanted(&self) -> bool {
        let in_flight = self.in_flight.len() - self.ahead.len();
        self.woken && self.made.is_none() && in_flight < PLANS_IN_FLIGHT_MAX
    }

    fn make(&mut self, state: &State) {
        let plan = scheduler::plan(state, &mut self.scratch, &self.overlay, Budget::default());
        self.calls += 1;
        self.woken = self.scratch.has_more();
        self.has_settled = plan.is_empty();
        if plan.is_empty() {
            return;
        }
        self.last += 1;
        self.overlay.add(self.last, &plan);
        self.made = Some((self.last, plan));
    }
}

impl Leader {
    /// Whether [`Leader::plan`] would plan now.
    pub fn wants_plan(&self, state: &State) -> bool {
        self.standing == Standing::Ready
            && state.is_bootstrapped()
            && self.planning.is_wanted()
            && self.flight.len() < PROPOSALS_IN_FLIGHT_MAX
    }

    /// Makes a plan if one is due. It is proposed by the next [`Leader::advance`].
    pub fn plan(&mut self, state: &State) {
        if self.wants_plan(state) {
            self.planning.make(state);
        }
    }
}
