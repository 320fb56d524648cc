//! The cluster itself: how it stands, as seen from here, and who leads it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::NodeId;
use model::views::{ClusterView, MemberView};
use replica::{Status as Standing, TransferError};
use tonic::{Code, Request, Response, Status};
use wire::error::{Failure, code};
use wire::v1;

use crate::api::call::Call;
use crate::api::forward::{marked, silent, told};
use crate::api::{Api, Running};

/// What the other members said when they were asked; by default nobody was.
#[derive(Default)]
pub struct Answers {
    silent: BTreeSet<NodeId>,
    /// The highest behaviour level that each knows, of those that say.
    levels: BTreeMap<NodeId, u32>,
}

/// Within which a living replica answers what costs nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

impl Api {
    /// Always answered from here, so that it can be asked when nobody leads: the reply says what is applied.
    pub async fn cluster_status(
        &self,
        request: Request<v1::ReadRequest>,
    ) -> Result<Response<v1::ClusterStatusReply>, Status> {
        let call = Call::of(self, request.metadata());
        let result = match self.running() {
            // Who is asked by another replica does not ask the others in turn.
            Ok(running) if call.forwarded => Ok(self.cluster_view(running, &Answers::default())),
            Ok(running) => Ok(self.cluster_view(running, &self.ask_members(running).await)),
            Err(failure) => Err(failure),
        };
        self.answer(result.map(|view| (&view).into()))
    }

    /// Asks all other members at once.
    pub async fn ask_members(&self, running: &Running) -> Answers {
        let status = running.replica.status();
        let others = status.members.iter().filter(|member| member.id != status.id);
        let status = &status;
        let asked = others.map(|member| async move {
            let answers = async {
                let mut there = self.shared.leaders.at(&member.api_addr).ok()?;
                there.cluster_status(marked(v1::ReadRequest { stale: true }, None)).await.ok()
            };
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, answers).await;
            let answer = answer.ok().flatten().map(Response::into_inner);
            // Whoever else listens there by now speaks for himself.
            let own = |reply: &v1::ClusterStatusReply| {
                reply.cluster == status.cluster && reply.answered_by == member.name
            };
            (member.id, answer.filter(own).map(|reply| reply.level_max))
        });
        let mut answers = Answers::default();
        for (id, answer) in futures::future::join_all(asked).await {
            match answer {
                None => drop(answers.silent.insert(id)),
                Some(0) => {}
                Some(level) => drop(answers.levels.insert(id, level)),
            }
        }
        answers.levels.insert(status.id, self.shared.config.level_max);
        answers
    }

    pub async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderReply>, Status> {
        let call = Call::of(self, request.metadata());
        let result = self.hand_over(&call, request.into_inner()).await;
        self.answer(result)
    }

    /// Before this replica stops: the others need no election then. As far as it goes in that time.
    pub async fn step_down(&self, limit: Duration) {
        let Ok(running) = self.running() else { return };
        let status = running.replica.status();
        if !running.leads() {
            return;
        }
        let Ok(to) = successor(&status, "") else { return };
        match tokio::time::timeout(limit, running.replica.transfer_leader(to.id)).await {
            Ok(Ok(())) => tracing::info!(to = %to.name, "leadership handed over"),
            Ok(Err(error)) => tracing::warn!(%error, to = %to.name, "leadership was not handed over"),
            Err(_) => tracing::warn!(to = %to.name, "leadership was not handed over in time"),
        }
    }

    async fn hand_over(
        &self,
        call: &Call,
        asked: v1::TransferLeaderRequest,
    ) -> Result<v1::TransferLeaderReply, Failure> {
        let running = self.running_by(&call.deadline).await?;
        if !running.leads() {
            return self.hand_over_there(running, call, asked).await;
        }
        let status = running.replica.status();
        let to = successor(&status, &asked.to)?;
        if to.id == status.id {
            return Ok(v1::TransferLeaderReply { leader: to.name });
        }
        match call.deadline.run(running.replica.transfer_leader(to.id)).await {
            Some(Ok(())) => Ok(v1::TransferLeaderReply { leader: to.name }),
            Some(Err(error)) => Err(refused(error)),
            None => Err(Failure::new(
                code::UNAVAILABLE,
                Code::Unavailable,
                "leadership was not taken over in time",
            )
            .maybe_happened()),
        }
    }

    async fn hand_over_there(
        &self,
        running: &Running,
        call: &Call,
        asked: v1::TransferLeaderRequest,
    ) -> Result<v1::TransferLeaderReply, Failure> {
        if call.forwarded {
            return Err(Failure::not_leader(running.leader_address()));
        }
        let leader =
            running.leader_address().ok_or_else(|| Failure::no_leader("the cluster has no leader"))?;
        let mut there = self.shared.leaders.at(&leader)?;
        let sent = call.deadline.run(there.transfer_leader(marked(asked, Some(&call.deadline)))).await;
        match sent {
            Some(Ok(reply)) => Ok(reply.into_inner()),
            Some(Err(status)) => Err(told(&leader, &status)),
            None => Err(silent(&leader)),
        }
    }
}

struct Successor {
    id: u64,
    name: String,
}

/// The one of that name; without a name the follower that has most of the log.
fn successor(status: &Standing, name: &str) -> Result<Successor, Failure> {
    let matched = |id: u64| status.matched.get(&id).copied().unwrap_or(0);
    let found = if name.is_empty() {
        status.voters().filter(|voter| voter.id != status.id).max_by_key(|voter| matched(voter.id))
    } else {
        status.voters().find(|voter| voter.name == name)
    };
    let found = found.ok_or_else(|| {
        let names: Vec<&str> = status.voters().map(|voter| voter.name.as_str()).collect();
        let wanted = if name.is_empty() { "another replica".to_owned() } else { format!("replica `{name}`") };
        Failure::new(code::NOT_FOUND, Code::NotFound, format!("there is no {wanted}"))
            .fix(format!("name one of {}", names.join(", ")))
    })?;
    Ok(Successor { id: found.id, name: found.name.clone() })
}

fn refused(error: TransferError) -> Failure {
    let message = error.to_string();
    match error {
        TransferError::NotLeader { leader } => Failure::not_leader(leader.map(|leader| leader.api_addr)),
        TransferError::NotAVoter { .. } => Failure::new(code::NOT_FOUND, Code::NotFound, message),
        TransferError::TimedOut { .. } | TransferError::Stopped => {
            Failure::new(code::UNAVAILABLE, Code::Unavailable, message).maybe_happened()
        }
    }
}

impl Api {
    /// The cluster as this replica sees it. A leader that does not answer is none.
    pub fn cluster_view(&self, running: &Running, answers: &Answers) -> ClusterView {
        let status = running.replica.status();
        let (unfinished_jobs, counts, level, known, live) = running.replica.read(|state| {
            let live = state.workers().filter(|worker| worker.session.is_some()).count();
            (state.unfinished_jobs(), state.counts(), state.level(), state.workers().count(), live)
        });
        let skew_max_s = running.replica.read(|state| state.limits().clock_skew_max_s);
        let leader = status.leader.as_ref().filter(|leader| !answers.silent.contains(&leader.id));
        ClusterView {
            cluster: status.cluster.clone(),
            answered_by: status.name.clone(),
            leader: leader.map(|leader| leader.name.clone()),
            term: status.term,
            last_log: status.last_log,
            committed: status.committed,
            applied: status.applied,
            snapshot: status.snapshot,
            level,
            level_max: self.shared.config.level_max,
            digest: format!("{:016x}", status.digest),
            alarms: alarms(&status, skew_max_s, self.readiness().err()),
            members: status.members.iter().map(|member| member_view(&status, member, answers)).collect(),
            workers_live: live as u64,
            workers_known: known as u64,
            unfinished_jobs,
            counts,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// A clock that is more than `skew_max_s` off the voters' median is worth one.
fn alarms(status: &Standing, skew_max_s: u64, unready: Option<String>) -> Vec<String> {
    let skew = status.clock_skew().unwrap_or(0);
    let clock = (skew.unsigned_abs() > skew_max_s.saturating_mul(1_000_000)).then(|| {
        let (seconds, way) = (skew.unsigned_abs() as f64 / 1e6, if skew > 0 { "ahead of" } else { "behind" });
        format!("the clock of {} is {seconds:.1} s {way} the others'", status.name)
    });
    let unready = unready.map(|why| format!("{} cannot serve: {why}", status.name));
    status.digest_alarm.clone().into_iter().chain(clock).chain(unready).collect()
}

fn member_view(status: &Standing, member: &replica::MemberStatus, answers: &Answers) -> MemberView {
    let leads = status.leader.as_ref().is_some_and(|leader| leader.id == member.id);
    let role = match (answers.silent.contains(&member.id), leads, member.voter) {
        (true, ..) => "unreachable",
        (false, true, _) => "leader",
        (false, false, true) => "follower",
        (false, false, false) => "learner",
    };
    MemberView {
        id: member.id,
        name: member.name.clone(),
        raft_address: member.raft_addr.clone(),
        api_address: member.api_addr.clone(),
        role: role.to_owned(),
        matched: status.matched.get(&member.id).copied(),
        level_max: answers.levels.get(&member.id).copied(),
    }
}
