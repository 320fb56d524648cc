//! What apply tells this replica's shell. Bounded: a slow reader loses the oldest and is told so; it never holds
//! apply up.

use std::sync::Arc;

use tokio::sync::broadcast::{self, error::RecvError};

/// Entries that a subscriber may be behind.
pub const BEHIND_MAX: usize = 4096;

#[derive(Clone, Debug)]
pub enum Feed {
    Applied {
        index: u64,
        applied: Arc<machine::Applied>,
    },
    /// The state was replaced by a snapshot: read it afresh.
    Installed {
        index: u64,
    },
    /// So many of the above were missed: read the state afresh.
    Lagged {
        missed: u64,
    },
}

/// In the order of the log.
pub struct Subscription(broadcast::Receiver<Feed>);

impl Subscription {
    /// None once the replica has stopped. Safe to cancel.
    pub async fn next(&mut self) -> Option<Feed> {
        match self.0.recv().await {
            Ok(feed) => Some(feed),
            Err(RecvError::Lagged(missed)) => Some(Feed::Lagged { missed }),
            Err(RecvError::Closed) => None,
        }
    }
}

#[derive(Clone)]
pub(crate) struct Publisher(broadcast::Sender<Feed>);

impl Publisher {
    pub fn new() -> Publisher {
        Publisher(broadcast::channel(BEHIND_MAX).0)
    }

    pub fn subscribe(&self) -> Subscription {
        Subscription(self.0.subscribe())
    }

    pub fn publish(&self, feed: Feed) {
        // Nobody may be listening.
        drop(self.0.send(feed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_subscriber_is_told_what_it_missed_and_holds_nobody_up() {
        let publisher = Publisher::new();
        let mut slow = publisher.subscribe();
        let count = BEHIND_MAX as u64 + 100;
        for index in 1..=count {
            publisher.publish(Feed::Applied { index, applied: Arc::default() });
        }
        assert!(matches!(slow.next().await, Some(Feed::Lagged { missed: 100 })));
        assert!(matches!(slow.next().await, Some(Feed::Applied { index: 101, .. })), "then it goes on");
        drop(publisher);
        let mut last = None;
        while let Some(Feed::Applied { index, .. }) = slow.next().await {
            last = Some(index);
        }
        assert_eq!(last, Some(count), "and gets the rest before the end");
    }
}
