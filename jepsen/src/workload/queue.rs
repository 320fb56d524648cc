//! The queues that jobs go to: the one that there always is, one in which running tasks give way to more urgent ones, one
//! that users share, and two from which workers claim.

use client::{Client, Error, QueueChange};
use model::policy::{Mode, Order};

/// Who submits. With a share of the fair queue each.
pub const USERS: [(&str, u32); 2] = [("ann", 300), ("bob", 100)];

/// Where a job waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Queue {
    Default,
    /// It goes by priority, and running tasks of a lower one are preempted.
    Urgent,
    /// Its users take turns.
    Shared,
    /// Workers take its tasks themselves.
    Pool,
    /// They and the leader do.
    Both,
}

impl Queue {
    pub const ALL: [Queue; 5] = [Queue::Default, Queue::Urgent, Queue::Shared, Queue::Pool, Queue::Both];

    pub fn name(self) -> &'static str {
        match self {
            Queue::Default => model::spec::QUEUE_DEFAULT,
            Queue::Urgent => "urgent",
            Queue::Shared => "shared",
            Queue::Pool => "pool",
            Queue::Both => "both",
        }
    }

    /// Whether a task that runs may be begun again without a fault.
    pub fn preempts(self) -> bool {
        self == Queue::Urgent
    }

    /// Makes the queue, or leaves it as it is if it is so already.
    pub async fn put(self, client: &Client) -> Result<(), Error> {
        let change = match self {
            Queue::Default => return Ok(()),
            Queue::Urgent => {
                QueueChange { order: Some(Order::Priority), preempt: Some(true), ..QueueChange::default() }
            }
            Queue::Pool => QueueChange { mode: Some(Mode::Claim), ..QueueChange::default() },
            Queue::Both => QueueChange { mode: Some(Mode::Hybrid), ..QueueChange::default() },
            Queue::Shared => QueueChange {
                order: Some(Order::Fair),
                shares: USERS.map(|(user, share)| (user.to_owned(), share)).to_vec(),
                ..QueueChange::default()
            },
        };
        client.change_queue(self.name(), &change).await.map(|_| ())
    }
}
