//! What reads return.

use std::time::Duration;

use model::policy::Adaptation;
use model::time::micros;
use model::views::{
    ClusterView, Counts, Explanation, GroupView, JobState, JobView, MemberView, QueueView, ReasonView,
    TaskState, TaskView, UserView, WorkerState, WorkerView,
};
use model::{Actor, JobId, QueuePolicy, SessionId, TaskId, Timestamp};
use serde::de::DeserializeOwned;

use super::{Errors, Malformed, duration_us, kinds, none_if_empty, outcome, word};
use crate::v1;

impl From<&Counts> for v1::Counts {
    fn from(counts: &Counts) -> v1::Counts {
        v1::Counts {
            blocked: counts.blocked,
            delayed: counts.delayed,
            ready: counts.ready,
            running: counts.running,
            succeeded: counts.succeeded,
            failed: counts.failed,
            cancelled: counts.cancelled,
            skipped: counts.skipped,
        }
    }
}

impl From<v1::Counts> for Counts {
    fn from(counts: v1::Counts) -> Counts {
        Counts {
            blocked: counts.blocked,
            delayed: counts.delayed,
            ready: counts.ready,
            running: counts.running,
            succeeded: counts.succeeded,
            failed: counts.failed,
            cancelled: counts.cancelled,
            skipped: counts.skipped,
        }
    }
}

fn counts(counts: Option<v1::Counts>) -> Counts {
    counts.unwrap_or_default().into()
}

/// The states of a filter, by name.
pub fn read_filter_states<T: DeserializeOwned>(states: &[String], what: &str) -> Result<Vec<T>, Malformed> {
    let mut errors = Errors::default();
    let mut read = Vec::with_capacity(states.len());
    for (place, state) in states.iter().enumerate() {
        match word::read(state, what) {
            Ok(state) => read.push(state),
            Err(error) => errors.refuse(format!("states[{place}]"), error),
        }
    }
    errors.finish(read)
}

impl From<&JobView> for v1::Job {
    fn from(job: &JobView) -> v1::Job {
        v1::Job {
            id: job.id.0,
            name: job.name.clone(),
            state: job.state.name().to_owned(),
            queue: job.queue.clone(),
            priority: job.priority,
            labels: job.labels.clone(),
            tenant: job.actor.tenant.clone(),
            user: job.actor.user.clone(),
            via: job.actor.via.clone(),
            submitted_unix_us: job.submitted.0,
            finished_unix_us: job.finished.map(|at| at.0),
            counts: Some((&job.counts).into()),
            groups: job.groups.iter().map(v1::Group::from).collect(),
            after: job.after.iter().map(|id| id.0).collect(),
            asked: Vec::new(),
            not_before_unix_us: None,
        }
    }
}

impl TryFrom<v1::Job> for JobView {
    type Error = Malformed;
    fn try_from(job: v1::Job) -> Result<JobView, Malformed> {
        let mut errors = Errors::default();
        let state = errors.take("state", word::read(&job.state, "job state"), JobState::Waiting);
        errors.finish(JobView {
            id: JobId(job.id),
            name: job.name,
            state,
            queue: job.queue,
            priority: job.priority,
            labels: job.labels,
            actor: Actor { tenant: job.tenant, user: job.user, via: job.via, trace: None },
            submitted: Timestamp(job.submitted_unix_us),
            finished: job.finished_unix_us.map(Timestamp),
            counts: counts(job.counts),
            groups: job.groups.into_iter().map(GroupView::from).collect(),
            after: job.after.into_iter().map(JobId).collect(),
        })
    }
}

impl From<&GroupView> for v1::Group {
    fn from(group: &GroupView) -> v1::Group {
        v1::Group {
            name: group.name.clone(),
            first: group.first,
            len: group.len,
            is_array: group.is_array,
            counts: Some((&group.counts).into()),
            after: group.after.clone(),
        }
    }
}

impl From<v1::Group> for GroupView {
    fn from(group: v1::Group) -> GroupView {
        GroupView {
            name: group.name,
            first: group.first,
            len: group.len,
            is_array: group.is_array,
            counts: counts(group.counts),
            after: group.after,
        }
    }
}

impl From<&TaskView> for v1::Task {
    fn from(task: &TaskView) -> v1::Task {
        v1::Task {
            job: task.id.job.0,
            number: task.id.number,
            name: task.name.clone(),
            array_index: task.array_index,
            state: task.state.name().to_owned(),
            attempt: task.attempt,
            round: task.round,
            worker: task.worker.clone().unwrap_or_default(),
            outcome: task.outcome.as_ref().map(v1::Outcome::from),
            earlier: task.earlier.iter().map(v1::Outcome::from).collect(),
            note: task.note.clone(),
        }
    }
}

impl TryFrom<v1::Task> for TaskView {
    type Error = Malformed;
    fn try_from(task: v1::Task) -> Result<TaskView, Malformed> {
        let mut errors = Errors::default();
        let state = errors.take("state", word::read(&task.state, "task state"), TaskState::Ready);
        let outcome = task.outcome.map(|end| outcome::read(&mut errors, &"outcome", end));
        let mut earlier = Vec::with_capacity(task.earlier.len());
        for (place, end) in task.earlier.into_iter().enumerate() {
            earlier.push(outcome::read(&mut errors, &format_args!("earlier[{place}]"), end));
        }
        errors.finish(TaskView {
            id: TaskId { job: JobId(task.job), number: task.number },
            name: task.name,
            array_index: task.array_index,
            state,
            attempt: task.attempt,
            round: task.round,
            worker: none_if_empty(task.worker),
            outcome,
            earlier,
            note: task.note,
        })
    }
}

impl From<&QueueView> for v1::Queue {
    fn from(queue: &QueueView) -> v1::Queue {
        v1::Queue {
            name: queue.name.clone(),
            weight: queue.weight,
            paused: queue.paused,
            running_max: queue.running_max,
            order: queue.policy.order.to_string(),
            ageing_us: micros(queue.policy.ageing),
            backfill: queue.policy.backfill.to_string(),
            counts: Some((&queue.counts).into()),
            unfinished_jobs: queue.unfinished_jobs,
            usage: queue.usage,
            oldest_wait_us: duration_us(queue.oldest_wait),
            preempt: queue.policy.preempt,
            preempted: queue.preempted,
            quantum_us: micros(queue.policy.quantum),
            mode: queue.policy.mode.to_string(),
            yields: queue.policy.yields,
            suspensions: queue.suspensions,
            suspended: queue.suspended,
            deadlines_met: queue.deadlines_met,
            deadlines_missed: queue.deadlines_missed,
            users: queue.users.iter().map(v1::QueueUser::from).collect(),
            auto: queue.auto,
            adapted: queue.adapted.as_ref().map(v1::Adaptation::from),
            adaptations: queue.adaptations,
        }
    }
}

impl From<v1::Queue> for QueueView {
    fn from(queue: v1::Queue) -> QueueView {
        QueueView {
            name: queue.name,
            weight: queue.weight,
            paused: queue.paused,
            running_max: queue.running_max,
            // A name that this version does not know, or an older replica's silence.
            policy: QueuePolicy {
                order: queue.order.parse().unwrap_or_default(),
                ageing: Duration::from_micros(queue.ageing_us),
                backfill: queue.backfill.parse().unwrap_or_default(),
                preempt: queue.preempt,
                quantum: Duration::from_micros(queue.quantum_us),
                mode: queue.mode.parse().unwrap_or_default(),
                yields: queue.yields,
            },
            counts: counts(queue.counts),
            unfinished_jobs: queue.unfinished_jobs,
            usage: queue.usage,
            oldest_wait: queue.oldest_wait_us.map(Duration::from_micros),
            preempted: queue.preempted,
            suspensions: queue.suspensions,
            suspended: queue.suspended,
            deadlines_met: queue.deadlines_met,
            deadlines_missed: queue.deadlines_missed,
            users: queue.users.into_iter().map(UserView::from).collect(),
            auto: queue.auto,
            adapted: queue.adapted.map(Adaptation::from),
            adaptations: queue.adaptations,
        }
    }
}

impl From<&Adaptation> for v1::Adaptation {
    fn from(adapted: &Adaptation) -> v1::Adaptation {
        v1::Adaptation {
            at_unix_us: adapted.at.0,
            home: Some((&adapted.home).into()),
            from: Some((&adapted.from).into()),
            to: Some((&adapted.to).into()),
            tasks: adapted.tasks,
            wait_from_us: micros(adapted.wait_from),
            wait_to_us: micros(adapted.wait_to),
        }
    }
}

impl From<v1::Adaptation> for Adaptation {
    fn from(adapted: v1::Adaptation) -> Adaptation {
        Adaptation {
            at: Timestamp(adapted.at_unix_us),
            home: adapted.home.unwrap_or_default().into(),
            from: adapted.from.unwrap_or_default().into(),
            to: adapted.to.unwrap_or_default().into(),
            tasks: adapted.tasks,
            wait_from: Duration::from_micros(adapted.wait_from_us),
            wait_to: Duration::from_micros(adapted.wait_to_us),
        }
    }
}

impl From<&QueuePolicy> for v1::QueuePolicy {
    fn from(policy: &QueuePolicy) -> v1::QueuePolicy {
        let QueuePolicy { order, ageing, backfill, preempt, quantum, mode, yields } = policy;
        v1::QueuePolicy {
            order: order.to_string(),
            ageing_us: micros(*ageing),
            backfill: backfill.to_string(),
            preempt: *preempt,
            quantum_us: micros(*quantum),
            mode: mode.to_string(),
            yields: *yields,
        }
    }
}

impl From<v1::QueuePolicy> for QueuePolicy {
    /// A name that this version does not know, or an older replica's silence, is the default.
    fn from(policy: v1::QueuePolicy) -> QueuePolicy {
        QueuePolicy {
            order: policy.order.parse().unwrap_or_default(),
            ageing: Duration::from_micros(policy.ageing_us),
            backfill: policy.backfill.parse().unwrap_or_default(),
            preempt: policy.preempt,
            quantum: Duration::from_micros(policy.quantum_us),
            mode: policy.mode.parse().unwrap_or_default(),
            yields: policy.yields,
        }
    }
}

impl From<&UserView> for v1::QueueUser {
    fn from(user: &UserView) -> v1::QueueUser {
        let UserView { name, weight, jobs, share, past_share } = user;
        v1::QueueUser {
            name: name.clone(),
            weight: *weight,
            jobs: *jobs,
            share: *share,
            past_share: *past_share,
        }
    }
}

impl From<v1::QueueUser> for UserView {
    fn from(user: v1::QueueUser) -> UserView {
        let v1::QueueUser { name, weight, jobs, share, past_share } = user;
        UserView { name, weight, jobs, share, past_share }
    }
}

impl From<&WorkerView> for v1::Worker {
    fn from(worker: &WorkerView) -> v1::Worker {
        v1::Worker {
            name: worker.name.clone(),
            state: worker.state.to_string(),
            session: worker.session.map(|session| session.0),
            capacity: Some((&worker.capacity).into()),
            used: Some((&worker.used).into()),
            labels: worker.labels.clone(),
            kinds: worker.kinds.iter().map(|kind| kind.to_string()).collect(),
            functions: worker.functions.clone(),
            attempts: worker.attempts,
            isolation: worker.isolation.clone(),
        }
    }
}

impl TryFrom<v1::Worker> for WorkerView {
    type Error = Malformed;
    fn try_from(worker: v1::Worker) -> Result<WorkerView, Malformed> {
        let mut errors = Errors::default();
        let state = errors.take("state", word::read(&worker.state, "worker state"), WorkerState::Gone);
        errors.finish(WorkerView {
            name: worker.name,
            state,
            session: worker.session.map(SessionId),
            capacity: worker.capacity.unwrap_or_default().into(),
            used: worker.used.unwrap_or_default().into(),
            labels: worker.labels,
            kinds: kinds(&worker.kinds),
            functions: worker.functions,
            attempts: worker.attempts,
            isolation: worker.isolation,
        })
    }
}

/// Without the index, which the view does not have.
impl From<&Explanation> for v1::ExplainReply {
    fn from(explanation: &Explanation) -> v1::ExplainReply {
        v1::ExplainReply {
            index: 0,
            job: explanation.task.job.0,
            task: explanation.task.number,
            name: explanation.name.clone(),
            state: explanation.state.name().to_owned(),
            summary: explanation.summary.clone(),
            reasons: explanation.reasons.iter().map(v1::Reason::from).collect(),
            hopeless: explanation.hopeless,
            expected_start_unix_us: explanation.expected_start.map(|at| at.0),
        }
    }
}

impl TryFrom<v1::ExplainReply> for Explanation {
    type Error = Malformed;
    fn try_from(reply: v1::ExplainReply) -> Result<Explanation, Malformed> {
        let mut errors = Errors::default();
        let state = errors.take("state", word::read(&reply.state, "task state"), TaskState::Ready);
        errors.finish(Explanation {
            task: TaskId { job: JobId(reply.job), number: reply.task },
            name: reply.name,
            state,
            summary: reply.summary,
            hopeless: reply.hopeless,
            reasons: reply.reasons.into_iter().map(ReasonView::from).collect(),
            expected_start: reply.expected_start_unix_us.map(Timestamp),
        })
    }
}

impl From<&ReasonView> for v1::Reason {
    fn from(reason: &ReasonView) -> v1::Reason {
        v1::Reason {
            code: reason.code.clone(),
            message: reason.message.clone(),
            count: reason.count,
            workers: reason.workers.clone(),
            fix: reason.fix.clone(),
        }
    }
}

impl From<v1::Reason> for ReasonView {
    fn from(reason: v1::Reason) -> ReasonView {
        ReasonView {
            code: reason.code,
            message: reason.message,
            count: reason.count,
            workers: reason.workers,
            fix: reason.fix,
        }
    }
}

impl From<&MemberView> for v1::Member {
    fn from(member: &MemberView) -> v1::Member {
        v1::Member {
            id: member.id,
            name: member.name.clone(),
            raft_address: member.raft_address.clone(),
            api_address: member.api_address.clone(),
            role: member.role.clone(),
            matched: member.matched,
            level_max: member.level_max,
        }
    }
}

impl From<v1::Member> for MemberView {
    fn from(member: v1::Member) -> MemberView {
        MemberView {
            id: member.id,
            name: member.name,
            raft_address: member.raft_address,
            api_address: member.api_address,
            role: member.role,
            matched: member.matched,
            level_max: member.level_max,
        }
    }
}

impl From<&ClusterView> for v1::ClusterStatusReply {
    fn from(view: &ClusterView) -> v1::ClusterStatusReply {
        v1::ClusterStatusReply {
            cluster: view.cluster.clone(),
            answered_by: view.answered_by.clone(),
            leader: view.leader.clone().unwrap_or_default(),
            term: view.term,
            last_log: view.last_log,
            committed: view.committed,
            applied: view.applied,
            snapshot: view.snapshot,
            level: view.level,
            digest: view.digest.clone(),
            alarms: view.alarms.clone(),
            members: view.members.iter().map(v1::Member::from).collect(),
            workers_live: view.workers_live,
            workers_known: view.workers_known,
            unfinished_jobs: view.unfinished_jobs,
            counts: Some((&view.counts).into()),
            version: view.version.clone(),
            level_max: view.level_max,
        }
    }
}

impl From<v1::ClusterStatusReply> for ClusterView {
    fn from(reply: v1::ClusterStatusReply) -> ClusterView {
        ClusterView {
            cluster: reply.cluster,
            answered_by: reply.answered_by,
            leader: none_if_empty(reply.leader),
            term: reply.term,
            last_log: reply.last_log,
            committed: reply.committed,
            applied: reply.applied,
            snapshot: reply.snapshot,
            level: reply.level,
            level_max: reply.level_max,
            digest: reply.digest,
            alarms: reply.alarms,
            members: reply.members.into_iter().map(MemberView::from).collect(),
            workers_live: reply.workers_live,
            workers_known: reply.workers_known,
            unfinished_jobs: reply.unfinished_jobs,
            counts: counts(reply.counts),
            version: reply.version,
        }
    }
}
