//! Brings whatever is left to its end: no pauses, no ceilings, one very large worker on which everything succeeds.

use std::time::Duration;

use machine::state::State;
use machine::{
    Applied, Command, Ended, Entry, News, Op, OpenSession, Placement, Plan, QueueSpec, Report, ReportBatch,
    Stamp, Write,
};
use model::{Actor, Capacity, Kind, Offer, Reason, RequestId, Resources, Run, SessionId, Verdict};

const ROUNDS_MAX: usize = 4_000;
const PLACEMENT_MAX: u32 = 1_024;

pub fn everything(state: &mut State) {
    let sessions: Vec<SessionId> = state.sessions().map(|session| session.id).collect();
    sessions.iter().for_each(|session| drop(apply(state, vec![Command::EndSession { session: *session }])));
    unpause(state);
    let session = open(state);
    for _ in 0..ROUNDS_MAX {
        if state.unfinished_jobs() == 0
            && state.next_due().is_none_or(|due| due.elapsed != Some(Default::default()))
        {
            return;
        }
        apply(state, vec![Command::SetClock, Command::Tick]);
        place_all(state, session);
        end_all(state, session);
    }
}

fn apply(state: &mut State, commands: Vec<Command>) -> Applied {
    let before = state.stamp();
    let hour = Duration::from_secs(3_600);
    let stamp = Stamp { elapsed: before.elapsed.plus(hour), wall: before.wall.plus(hour) };
    state.apply(state.index() + 1, &Entry { stamp, commands })
}

fn write(state: &mut State, op: Op) {
    let request = RequestId(u128::from(state.stamp().wall.0 / 1000) << 80 | u128::from(state.index()));
    let write = Write { request, body_hash: 0, actor: Actor::new("ann", "cli"), op };
    apply(state, vec![Command::Write(write)]);
}

fn unpause(state: &mut State) {
    let names: Vec<String> = state.queues().filter(|q| !q.deleted).map(|queue| queue.name.clone()).collect();
    for name in names {
        write(
            state,
            Op::PutQueue(QueueSpec { name: name.clone(), no_running_max: true, ..QueueSpec::default() }),
        );
        write(state, Op::ResumeQueue { name });
    }
    let paused: Vec<_> =
        state.jobs().filter(|job| job.paused && !job.is_finished()).map(|job| job.id).collect();
    paused.into_iter().for_each(|job| write(state, Op::Resume { jobs: vec![job] }));
}

pub fn open(state: &mut State) -> SessionId {
    let session = SessionId(state.last_session().0 + 1);
    let mut capacity = Capacity::of(Resources::cores(1_000_000));
    capacity.offer("gpu", Offer::Indexed(1_000));
    apply(
        state,
        vec![Command::OpenSession(OpenSession {
            session,
            worker: "large".to_owned(),
            secret_hash: 1,
            capacity,
            labels: Default::default(),
            kinds: vec![Kind::Noop, Kind::Process],
            functions: Vec::new(),
            isolation: String::new(),
        })],
    );
    session
}

fn place_all(state: &mut State, session: SessionId) {
    let mut placements = Vec::new();
    for job in state.jobs().filter(|job| !job.is_finished()) {
        for group in &job.groups {
            // Those with a history go one by one.
            for run in group.ready.runs() {
                let apart =
                    state.class(group.class).is_some_and(|row| row.key.tasks_per_placement_max() == 1);
                let whole = !group.gang && !apart && group.rows.range(run.first..run.end()).next().is_none();
                let step = if whole { PLACEMENT_MAX } else { 1 };
                let mut first = run.first;
                while first < run.end() {
                    let len = step.min(run.end() - first);
                    let tasks = group.numbers_of(Run::new(first, len));
                    placements.push(Placement { job: job.id, tasks, session, held: false, alternative: 0 });
                    first += len;
                }
            }
        }
    }
    apply(state, vec![Command::Place(Plan { placements, ..Plan::default() })]);
}

pub fn end_all(state: &mut State, session: SessionId) {
    end_all_with(state, session, Verdict::Succeeded);
}

/// Everything that the session runs ends so.
pub fn end_all_with(state: &mut State, session: SessionId, verdict: Verdict) {
    let at = state.stamp().wall;
    let Some(row) = state.session(session) else { return };
    let ended = Ended {
        verdict,
        reason: Reason::Exited,
        exit_code: Some(0),
        signal: None,
        message: String::new(),
        result: None,
        started: Some(at),
        ended: at,
        cpu_time: Duration::ZERO,
        memory_peak: 0,
    };
    let report = |allocation: &machine::Allocation| Report {
        seq: allocation.seq,
        token: allocation.token,
        tasks: allocation.tasks,
        news: News::Ended(Box::new(ended.clone())),
    };
    let reports = row.allocations.values().map(report).collect();
    apply(state, vec![Command::Report(ReportBatch { session, reports })]);
}
