//! A plan is checked again, placement by placement; what is no longer eligible is dropped.

use model::views::TaskState;
use model::{Elapsed, Resources, Run, RunSet, SessionId, Token};

use crate::apply::{gang, preempt, slices};
use crate::eligible::{
    Ineligible, accepts, drains_for, gate, goes_before, has_credit, has_room, unbooked, unreserved,
};
use crate::mutants;
use crate::state::State;
use crate::state::index::is_ready;
use crate::state::jobs::{Job, Live};
use crate::state::queues::QueueId;
use crate::state::sessions::{Allocation, Phase, Slice};
use crate::state::users::{EVERYBODY, Moment, UserId};
use crate::{Effect, Event, Placement, Plan, Promised, Reply, Reservation};

/// Tasks of one placement, so that taking one back is bounded.
pub const TASKS_PER_PLACEMENT_MAX: u32 = 1_024;

pub(crate) fn apply(state: &mut State, plan: &Plan) -> Reply {
    let (mut taken, mut dropped) = (0, 0);
    for switch in &plan.switches {
        if slices::apply(state, switch) {
            taken += 1
        } else {
            dropped += 1
        };
    }
    let reordered = mutants::reordered(state, &plan.placements);
    let mut rest = reordered.as_deref().unwrap_or(&plan.placements);
    while let Some(placement) = rest.first() {
        let mut these = std::slice::from_ref(placement);
        let mut found = eligible(state, placement);
        // Members of a gang stand together, and are one decision.
        if let Err(Ineligible::NotWhole { .. }) = found {
            these = &rest[..gang::decision(state, rest)];
            found = gang::eligible(state, these);
        }
        let count = these.len() as u32;
        rest = &rest[these.len()..];
        match found {
            Ok(()) => {
                these.iter().for_each(|placement| take(state, placement));
                taken += count;
                if count > 1 {
                    gang::placed(state, these);
                }
            }
            Err(_) => dropped += count,
        }
    }
    for reservation in &plan.reservations {
        reserve(state, reservation);
    }
    for preemption in &plan.preemptions {
        preempt::apply(state, preemption);
    }
    for queue in &plan.compressed {
        state.queues.get_mut(queue).into_iter().for_each(|queue| queue.loosened = false);
    }
    for promised in &plan.promises {
        promise(state, promised);
    }
    // A round that was cut short has more of them.
    if !plan.promises.is_empty() {
        state.wake();
    }
    Reply::Placed { taken, dropped }
}

/// Whether these tasks may go to this session now. Of a gang none may alone, unless it is all of it.
pub fn eligible(state: &State, placement: &Placement) -> Result<(), Ineligible> {
    let job = state.job(placement.job).ok_or(Ineligible::UnknownJob)?;
    let (place, group) = job.group_of(placement.tasks.first).ok_or(Ineligible::NotReady)?;
    if group.gang {
        return gang::eligible(state, std::slice::from_ref(placement));
    }
    gate(state, job, group)?;
    let positions = group.positions_of(placement.tasks).filter(|run| run.len == placement.tasks.len);
    let positions = positions.ok_or(Ineligible::NotReady)?;
    let class = &state.class_as(group.class, placement.alternative).ok_or(Ineligible::NotReady)?.key;
    let few = positions.len <= class.tasks_per_placement_max();
    if !few || !group.ready.parts_of(positions).eq([positions]) || !alike(group, positions) {
        return Err(Ineligible::NotReady);
    }
    let queue = state.queue(job.queue).ok_or(Ineligible::QueuePaused)?;
    if state.room_in(queue) < u64::from(positions.len) {
        return Err(Ineligible::QueueFull { running_max: queue.running_max.unwrap_or(0) });
    }
    let session = state.session(placement.session).ok_or(Ineligible::SessionEnded)?;
    accepts(state, session, class)?;
    unreserved(state, session, placement.job, placement.tasks)?;
    if placement.held {
        return has_credit(state, session, class);
    }
    let room = session.room();
    has_room(&room, class)?;
    unbooked(state, session, &room.free, class, (job, place))
}

/// Tasks of one allocation share its attempt number, so those with a history are placed one by one.
fn alike(group: &crate::state::jobs::Group, positions: Run) -> bool {
    positions.len == 1 || group.rows.range(positions.first..positions.end()).next().is_none()
}

pub(crate) fn take(state: &mut State, placement: &Placement) {
    let job = state.job(placement.job).expect("eligible");
    let (place, group) = job.group_of(placement.tasks.first).expect("eligible");
    let positions = group.positions_of(placement.tasks).expect("eligible");
    let attempt = group.attempts(positions.first) + 1;
    let round = group.round(positions.first);
    let (queue, user) = (job.queue, job.user);
    let class = state.class_as(group.class, placement.alternative).expect("eligible");
    let resources = class.key.resources.clone();
    let share = resources.dominant_share(state.total());
    let token = Token::new(state.epoch(), state.index());
    let stamp = state.stamp();
    let expected = expected_end(state, job, place);
    let is_sliced = slices::is_sliced(state, job, place);

    let session = state.sessions.get_mut(placement.session.0).expect("eligible");
    let phase = if placement.held { Phase::Held } else { Phase::Running };
    let units = if placement.held { Vec::new() } else { session.room().fit(&resources).expect("eligible") };
    if !placement.held {
        session.take(&resources, &units);
    }
    session.last_seq += 1;
    let (seq, worker, reserved) = (session.last_seq, session.worker.clone(), session.reserved);
    let allocation = Allocation {
        seq,
        token,
        job: placement.job,
        queue,
        user,
        tasks: placement.tasks,
        attempt,
        round,
        phase,
        ahead: placement.held,
        resources,
        units,
        share,
        placed: stamp,
        expected,
        started: None,
        preempted: false,
        slice: (is_sliced && !placement.held).then_some(Slice { since: stamp.elapsed, behind: None }),
        reported: RunSet::new(),
    };
    if !placement.held {
        state.index.set_end(placement.session, &allocation, true);
        state.index.set_slice(placement.session, &allocation, true);
    }
    state.index.set_held(placement.session, seq, placement.held);
    let uses = (!placement.held).then(|| Uses::of(&allocation));
    session.allocations.insert(seq, allocation);
    state.set_promise(queue, (placement.job, place as u32), None, false);
    if reserved.is_some_and(|(job, task)| job == placement.job && placement.tasks.contains(task)) {
        state.set_reserved(placement.session, None);
    }
    uses.into_iter().for_each(|uses| uses.begin(state));
    state.change_group(placement.job, place, |group| {
        group.ready.remove(positions);
        group.passed_since = stamp.elapsed;
        let live = Live { len: positions.len, session: placement.session, seq, token, attempt };
        group.put_live(positions, live);
    });
    mutants::has_begun(state, placement.job, place);
    let (job, tasks) = (placement.job, placement.tasks);
    state.event(Event::Tasks { job, tasks, state: TaskState::Placed, attempt, worker: Some(worker) });
    state.effect(Effect::Run { session: placement.session, seq });
}

/// When what is placed now should end. Only what somebody goes by is looked up.
fn expected_end(state: &State, job: &Job, place: usize) -> Elapsed {
    let given = job.task_spec(place).timing.as_ref().and_then(|timing| timing.estimate);
    let asks = || state.queue(job.queue).is_some_and(|queue| queue.policy.asks_estimates());
    let estimate = given.or_else(|| if asks() { state.estimate_of(job, place) } else { None });
    estimate.map_or(Elapsed::MAX, |estimate| state.now().plus(estimate))
}

/// What an allocation uses of its queue's share, and of its user's share of the queue.
pub(crate) struct Uses {
    queue: QueueId,
    share: u64,
    of_user: Option<(UserId, Resources)>,
}

impl Uses {
    pub fn of(allocation: &Allocation) -> Uses {
        let Allocation { queue, share, user, resources, .. } = allocation;
        let of_user = (*user != EVERYBODY).then(|| (*user, resources.clone()));
        Uses { queue: *queue, share: *share, of_user }
    }

    pub fn begin(self, state: &mut State) {
        self.change(state, true);
    }

    pub fn end(self, state: &mut State) {
        self.change(state, false);
    }

    fn change(self, state: &mut State, begins: bool) {
        let turn = state.turn();
        let (now, half_life) = (turn.now, turn.half_life);
        let Some(queue) = state.queues.get_mut(&self.queue) else { return };
        let (plus, minus) = if begins { (self.share, 0) } else { (0, self.share) };
        queue.settle_deficit(turn);
        queue.usage.change_rate(now, half_life, plus, minus);
        if begins {
            state.meta.rounds = turn.round.saturating_add(queue.rounds_passed(turn));
        }
        if let Some((user, resources)) = self.of_user {
            let at = Moment { total: &state.total, now, half_life };
            queue.users.change_use(user, &resources, begins, at);
        }
    }
}

/// The allocation is over: what it took is free again.
pub(crate) fn release(state: &mut State, session: SessionId, allocation: &Allocation) {
    if !allocation.takes_capacity() {
        state.index.set_held(session, allocation.seq, false);
        return;
    }
    let is_suspended = allocation.is_suspended();
    if !is_suspended {
        state.index.set_end(session, allocation, false);
    }
    state.index.set_leaving(session, allocation, false);
    // One that is being stopped is not there any more.
    state.index.set_slice(session, allocation, false);
    let now = state.now();
    // At the very time at which it was expected it frees nothing that nobody counted with.
    if allocation.expected_end(Elapsed(now.0.saturating_sub(1))).is_some_and(|end| end > now) {
        state.loosen();
    }
    let times = mutants::times_released(state, allocation);
    if let Some(session) = state.sessions.get_mut(session.0) {
        (0..times).for_each(|_| session.give_back(&allocation.takes(), &allocation.units));
        session.reserved_since = now;
    }
    if !is_suspended {
        Uses::of(allocation).end(state);
    }
    state.wake();
}

fn promise(state: &mut State, promised: &Promised) {
    let Promised { job: id, group, ref promise } = *promised;
    let ready =
        state.job(id).filter(|job| job.groups.get(group as usize).is_some_and(|group| is_ready(job, group)));
    let Some(id_of_queue) = ready.map(|job| job.queue) else { return };
    let is_live = |id: SessionId| state.session(id).is_some_and(|session| !session.ended);
    let live = promise.clone().filter(|promise| promise.sessions().all(is_live));
    if state.queue(id_of_queue).is_some_and(|queue| queue.policy.promises() && !queue.paused) {
        state.set_promise(id_of_queue, (id, group), live, false);
    }
}

fn reserve(state: &mut State, reservation: &Reservation) {
    let waits = crate::eligible::still_waits(state, reservation.job, reservation.task);
    let Some(session) = state.session(reservation.session).filter(|session| waits && !session.ended) else {
        return;
    };
    let class = state
        .job(reservation.job)
        .and_then(|job| job.group_of(reservation.task))
        .map(|(_, group)| group.class);
    let Some(class) = class.and_then(|class| state.class(class)) else { return };
    let is_kept = |other| !goes_before(state, reservation.job, other);
    if drains_for(state, session).is_some_and(is_kept) || accepts(state, session, &class.key).is_err() {
        return;
    }
    let task = Some((reservation.job, reservation.task));
    // It may come from a worker that nothing ends on.
    let earlier = state.sessions().filter(|session| session.reserved == task).map(|session| session.id);
    earlier.collect::<Vec<SessionId>>().into_iter().for_each(|id| state.set_reserved(id, None));
    state.set_reserved(reservation.session, task);
}
