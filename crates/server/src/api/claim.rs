//! Claims: a worker asks any replica what it may take, and takes it through any replica. What there is, and which of it
//! the draw falls on, is read from the asked replica's own state; the log decides who gets it.

use std::time::Duration;

use model::{LogIndex, SessionId};
use replica::ReadError;
use scheduler::claim::{Offer, offer};
use tonic::{Request, Response, Status};
use wire::error::Failure;
use wire::v1;

use crate::api::call::Call;
use crate::api::{Api, Running};

/// While a worker finds nothing for itself, though there is something for others: entries that follow each other so soon are
/// looked at together.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often a replica that has nothing to offer looks whether it still belongs to its cluster.
const LOOK_UNREADY_EVERY: Duration = Duration::from_secs(2);

/// By when this replica has applied what the worker has heard of.
const BEHIND_MAX: Duration = Duration::from_secs(2);

fn behind(error: &ReadError) -> Failure {
    Failure::no_leader(format!("this replica is behind: {error}"))
}

impl Api {
    pub async fn offer(
        &self,
        request: Request<v1::OfferRequest>,
    ) -> Result<Response<v1::OfferReply>, Status> {
        let call = Call::of(self, request.metadata());
        let v1::OfferRequest { session, after } = request.into_inner();
        let found = async {
            let running = self.running_by(&call.deadline).await?;
            match call.deadline.run(self.wait_for_offer(running, SessionId(session), after)).await {
                Some(found) => found,
                None => Ok((running.replica.applied_index(), Offer::default())),
            }
        };
        let found = tokio::select! {
            found = found => found,
            // Others have something, too; and nobody is to wait for a call that waits.
            () = self.stopped() => Err(Failure::no_leader("this replica is about to stop")),
        };
        let reply = found.map(|(index, offer)| v1::OfferReply {
            index,
            channels: offer.channels(),
            stations: offer.stations,
        });
        self.answer(reply)
    }

    async fn wait_for_offer(
        &self,
        running: &Running,
        id: SessionId,
        after: u64,
    ) -> Result<(u64, Offer), Failure> {
        running.replica.wait_applied(after, BEHIND_MAX).await.map_err(|error| behind(&error))?;
        let (mut claims, mut seen) = (running.claims.clone(), None);
        loop {
            let is_new = |entry: &Option<LogIndex>| entry.is_some() && *entry != seen;
            while tokio::time::timeout(LOOK_UNREADY_EVERY, claims.wait_for(is_new)).await.is_err() {
                // Elsewhere there may be something.
                self.readiness().map_err(Failure::no_leader)?;
            }
            seen = *claims.borrow();
            let found = running.replica.read(|state| (state.index(), offer(state, id)));
            if !found.1.is_empty() {
                return Ok(found);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Writes the tasks of the drawn channel into the request, unless another replica has done so; `Err` is the answer where
    /// there is nothing to claim.
    pub async fn choose_claim(
        &self,
        mut request: Request<v1::ClaimRequest>,
    ) -> Result<Request<v1::ClaimRequest>, Result<v1::ChangeReply, Failure>> {
        let call = Call::of(self, request.metadata());
        if call.forwarded {
            return Ok(request);
        }
        let running = self.running_by(&call.deadline).await.map_err(Err)?;
        let message = request.get_mut();
        let id = SessionId(message.session);
        let (index, found) = running.replica.read(|state| (state.index(), offer(state, id)));
        message.tasks = found.draw(message.chance).iter().map(v1::ClaimedTasks::from).collect();
        if message.tasks.is_empty() {
            return Err(Ok(v1::ChangeReply { index, ..v1::ChangeReply::default() }));
        }
        Ok(request)
    }
}
