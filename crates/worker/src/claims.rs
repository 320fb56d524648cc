//! Claims tasks for a worker with room, through whichever replica answers. It only asks: what was won comes as an order over the
//! worker's stream, as everything does that it runs.

use std::time::Duration;

use model::SessionId;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use wire::v1;
use wire::v1::baton_client::BatonClient;
use worker_core::{Aloha, SLOT};

const CONNECT_MAX: Duration = Duration::from_secs(2);
/// An offer waits so long, if there is nothing.
const OFFER_MAX: Duration = Duration::from_secs(60);
const CLAIM_MAX: Duration = Duration::from_secs(5);
/// After a replica that did not answer, before the next one.
const PAUSE: Duration = Duration::from_millis(200);
/// Where the replicas are too old to be claimed from.
const PAUSE_OLD: Duration = Duration::from_secs(30);
/// On a connection that is silent.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// For whom to claim, and through which replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimant {
    pub session: Option<SessionId>,
    pub servers: Vec<String>,
}

/// Until nobody tells it any more for whom.
pub async fn run(mut claimant: watch::Receiver<Claimant>, seed: u64) {
    let mut claims = Claims { aloha: Aloha::new(seed), replica: None, decided: 0 };
    loop {
        let Ok(of) = claimant.wait_for(|claimant| claimant.session.is_some()).await.map(|of| of.clone())
        else {
            return;
        };
        tokio::select! {
            // Another session, or none any more.
            changed = claimant.changed() => if changed.is_err() { return },
            () = claims.work(&of) => {}
        }
    }
}

struct Claims {
    aloha: Aloha,
    replica: Option<BatonClient<Channel>>,
    /// The index of the last claim: what an older state offers may be gone by it.
    decided: u64,
}

impl Claims {
    /// Until it is stopped.
    async fn work(&mut self, of: &Claimant) {
        let Some(session) = of.session else { return };
        loop {
            if let Err(status) = self.slot(session, &of.servers).await {
                tracing::debug!(code = ?status.code(), message = status.message(), "no claim");
                self.replica = None;
                let is_old = status.code() == Code::Unimplemented;
                tokio::time::sleep(if is_old { PAUSE_OLD } else { PAUSE }).await;
            }
        }
    }

    /// Waits for an offer and claims something of it, or not, as chance will have it.
    async fn slot(&mut self, session: SessionId, servers: &[String]) -> Result<(), Status> {
        let mut replica = self.replica(servers)?;
        let request = timed(v1::OfferRequest { session: session.0, after: self.decided }, OFFER_MAX);
        let offer = replica.offer(request).await?.into_inner();
        if offer.channels == 0 {
            return Ok(());
        }
        if !self.aloha.transmits(offer.channels, offer.stations) {
            return rest(1).await;
        }
        let chance = self.aloha.draw();
        let claim = v1::ClaimRequest { session: session.0, chance, ..v1::ClaimRequest::default() };
        let told = replica.claim(timed(claim, CLAIM_MAX)).await?.into_inner();
        self.decided = told.index;
        tracing::debug!(won = told.changed, channels = offer.channels, stations = offer.stations, "claimed");
        if told.changed > 0 {
            self.aloha.won();
            return Ok(());
        }
        rest(self.aloha.lost()).await
    }

    /// The one that answered last, or another by chance.
    fn replica(&mut self, servers: &[String]) -> Result<BatonClient<Channel>, Status> {
        if let Some(replica) = &self.replica {
            return Ok(replica.clone());
        }
        let place = self.aloha.draw() % servers.len().max(1) as u64;
        let address =
            servers.get(place as usize).ok_or_else(|| Status::unavailable("there are no replicas"))?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_MAX)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        let replica = BatonClient::new(endpoint.connect_lazy());
        self.replica = Some(replica.clone());
        Ok(replica)
    }
}

async fn rest(slots: u32) -> Result<(), Status> {
    tokio::time::sleep(SLOT * slots).await;
    Ok(())
}

fn timed<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}
