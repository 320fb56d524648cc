//! Workers' streams: the leader's shell speaks with them.

use futures::StreamExt;
use tonic::{Request, Response, Status, Streaming};
use wire::v1;

use crate::api::{Api, Replies};

impl Api {
    pub fn attach(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Replies<v1::LeaderMessage>>, Status> {
        let inbound = request.into_inner();
        self.answer(
            self.running().map(|running| running.lead.attach(inbound).take_until(self.stopped()).boxed()),
        )
    }
}
