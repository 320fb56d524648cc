//! Raising the behaviour level of the cluster, once every replica knows it.

use machine::Op;
use model::SpecError;
use model::views::{ClusterView, MemberView};
use tonic::{Code, Request, Response, Status};
use wire::error::{Failure, code};
use wire::v1;

use crate::api::Api;
use crate::api::call::Call;
use crate::api::write::SendOn;

impl Api {
    /// Every replica that the call comes by asks all of them, so that the leader, which writes it, has seen each answer.
    pub async fn upgrade(
        &self,
        request: Request<v1::UpgradeRequest>,
        send: SendOn<v1::UpgradeRequest, v1::ChangeReply>,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        let call = Call::of(self, request.metadata());
        if let Err(failure) = self.check_replicas(&call, request.get_ref().level).await {
            return self.answer(Err(failure));
        }
        self.change(request, |asked| Ok(Op::Upgrade { level: asked.level }), send).await
    }

    async fn check_replicas(&self, call: &Call, level: u32) -> Result<(), Failure> {
        if level == 0 {
            let message = "levels are counted from 1".to_owned();
            return Err(Failure::invalid(&[SpecError { path: "level".to_owned(), message }]));
        }
        let running = self.running_by(&call.deadline).await?;
        if level <= running.replica.read(machine::State::level) {
            // The state answers that, without a word of the others.
            return Ok(());
        }
        let answers = self.ask_members(running).await;
        too_old(&self.cluster_view(running, &answers), level).map_or(Ok(()), Err)
    }
}

/// Why the level cannot be had yet: the replicas of which nobody can say that they know it.
fn too_old(view: &ClusterView, level: u32) -> Option<Failure> {
    let lacks = |member: &&MemberView| member.level_max.is_none_or(|max| max < level);
    let what = |member: &MemberView| match member.level_max {
        _ if member.role == "unreachable" => format!("{} does not answer", member.name),
        Some(max) => format!("{} knows {max} at the most", member.name),
        None => format!("{} is of a version that does not say", member.name),
    };
    let lacking: Vec<&MemberView> = view.members.iter().filter(lacks).collect();
    if lacking.is_empty() {
        return None;
    }
    let said: Vec<String> = lacking.iter().map(|member| what(member)).collect();
    let names: Vec<&str> = lacking.iter().map(|member| member.name.as_str()).collect();
    let message = format!("behaviour level {level} needs every replica to know it: {}", said.join(", "));
    let fix = format!("start {} with a version that knows level {level}, and try again", names.join(", "));
    Some(Failure::new(code::REPLICAS, Code::FailedPrecondition, message).fix(fix))
}
