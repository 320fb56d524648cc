//! The ways in to a replica: through the gate of a host that runs the bare replica, or as clients come, over gRPC to
//! the API of a real server.

use std::sync::Arc;
use std::time::Duration;

use machine::Write;
use model::JobId;
use tokio::sync::oneshot;
use tokio::time;

use crate::Stack;
use crate::api::Channels;
use crate::gate::Call;
use crate::history::Acknowledged;
use crate::world::World;

/// For one try.
const PATIENCE: Duration = Duration::from_secs(4);
/// After knocking at a host that is down.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Clone, Debug)]
pub enum WriteAnswer {
    Done(Acknowledged),
    /// Nothing happened; perhaps that node leads.
    NotHere(Option<u64>),
    /// The state says no, and so will every replica.
    Refused,
    Unknown,
}

#[derive(Clone, Copy, Debug)]
pub struct ReadAnswer {
    pub index: u64,
    /// Whether the job that was asked for is there.
    pub found: bool,
}

pub struct Door {
    world: Arc<World>,
    channels: Option<Channels>,
}

impl Door {
    pub fn new(world: Arc<World>) -> Door {
        let channels = (world.options.stack == Stack::Server).then(|| Channels::new(world.hosts.len()));
        Door { world, channels }
    }

    /// Whether any replica takes a write, and not the leader alone.
    pub fn is_any(&self) -> bool {
        self.channels.is_some()
    }

    /// One try through one replica.
    pub async fn write(&mut self, host: usize, write: &Write) -> WriteAnswer {
        if let Some(channels) = &mut self.channels {
            return channels.write(host, write, PATIENCE).await;
        }
        let (answer, answered) = oneshot::channel();
        if !self.put(host, Call::Write { write: Box::new(write.clone()), answer }) {
            time::sleep(PAUSE).await;
            return WriteAnswer::NotHere(None);
        }
        match time::timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => WriteAnswer::Unknown,
        }
    }

    /// A linearizable one.
    pub async fn read(&mut self, host: usize, job: Option<JobId>) -> Option<ReadAnswer> {
        if let Some(channels) = &mut self.channels {
            return channels.read(host, PATIENCE).await;
        }
        let (answer, answered) = oneshot::channel();
        if !self.put(host, Call::Read { job, answer }) {
            time::sleep(PAUSE).await;
            return None;
        }
        time::timeout(PATIENCE, answered).await.ok()?.ok()?
    }

    /// Whether the host is there to take it.
    fn put(&self, host: usize, call: Call) -> bool {
        self.world.hosts[host].gate().is_some_and(|gate| gate.send(call).is_ok())
    }
}
