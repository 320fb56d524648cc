//! Linearizable reads on any replica. A round asks the leader, which asks a quorum whether it still leads, for an
//! index; once this replica has applied that index its state is linearizable. Reads share a round, but a read joins
//! only one that has not been sent yet, and asks afresh whenever it tries again.

use std::sync::Arc;
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::{mpsc, oneshot};

use crate::env::Env;
use crate::identity::Identity;
use crate::network::{self, Transport};
use crate::types::{Raft, seeded};

const WAITING_MAX: usize = 65_536;
const RETRY_AFTER: Duration = Duration::from_millis(10);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("no leader with a quorum was found within {waited:?}: {last}")]
    NoQuorum { waited: Duration, last: String },
    #[error("entry {index}, which the read needs, was not applied here within {waited:?}")]
    Behind { index: u64, waited: Duration },
    #[error("too many reads wait")]
    Busy,
    #[error("this replica is stopping")]
    Stopped,
}

type Answer = Result<u64, String>;

/// Where reads queue up for the next round.
#[derive(Clone)]
pub(crate) struct Reads {
    queue: mpsc::Sender<oneshot::Sender<Answer>>,
}

/// Sends the rounds.
pub(crate) struct Rounds {
    pub raft: Raft,
    pub transport: Arc<Transport>,
    pub own: Arc<Identity>,
    /// For one round.
    pub limit: Duration,
}

impl Reads {
    pub fn new() -> (Reads, mpsc::Receiver<oneshot::Sender<Answer>>) {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        (Reads { queue }, waiting)
    }

    /// Asks until it is answered or `limit` has passed.
    pub async fn read_index(&self, env: &dyn Env, limit: Duration) -> Result<u64, ReadError> {
        let began = env.now();
        loop {
            let (sender, answer) = oneshot::channel();
            self.queue.try_send(sender).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => ReadError::Busy,
                mpsc::error::TrySendError::Closed(_) => ReadError::Stopped,
            })?;
            let last = match answer.await {
                Ok(Ok(index)) => return Ok(index),
                Ok(Err(last)) => last,
                Err(_) => return Err(ReadError::Stopped),
            };
            let waited = env.now().since(began);
            if waited >= limit {
                return Err(ReadError::NoQuorum { waited, last });
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
}

impl Rounds {
    pub async fn run(self, mut waiting: mpsc::Receiver<oneshot::Sender<Answer>>) {
        while let Some(first) = waiting.recv().await {
            let mut joined = vec![first];
            while let Ok(next) = waiting.try_recv() {
                joined.push(next);
            }
            let answer = self.round().await;
            for sender in joined {
                // Whoever asked may have gone.
                drop(sender.send(answer.clone()));
            }
        }
    }

    async fn round(&self) -> Answer {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let leader = metrics.current_leader.ok_or("no leader is known")?;
        if leader == self.own.id {
            let asking = seeded(self.raft.get_read_linearizer(ReadPolicy::ReadIndex));
            let linearizer = tokio::time::timeout(self.limit, asking).await;
            let linearizer =
                linearizer.map_err(|_| "no quorum answers")?.map_err(|error| error.to_string())?;
            return Ok(linearizer.read_log_id().index());
        }
        let member = metrics.membership_config.get_node(&leader).ok_or("the leader's address is unknown")?;
        let read = network::read_index(&self.transport, &self.own, leader, member, self.limit).await;
        read.map(|id| id.index).map_err(|status| status.message().to_owned())
    }
}
