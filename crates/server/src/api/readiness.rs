//! Whether this replica can serve. Tried, not guessed: a replica that is cut off may long believe in a leader.

use crate::api::Api;

/// Entries that are committed and not yet applied here, above which this replica counts as behind.
const BEHIND_MAX: u64 = 10_000;

impl Api {
    /// As it was last tried.
    pub fn readiness(&self) -> Result<(), String> {
        self.shared.readiness.lock().clone()
    }

    /// Tries whether a quorum confirms a leader and this replica has applied what that one has.
    pub async fn try_readiness(&self) -> Result<(), String> {
        let result = self.find_readiness().await;
        *self.shared.readiness.lock() = result.clone();
        result
    }

    async fn find_readiness(&self) -> Result<(), String> {
        let replica = &self.running().map_err(|failure| failure.message)?.replica;
        let limit = self.shared.config.failover.election().timeout_max * 2;
        match tokio::time::timeout(limit, replica.read_index()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("no quorum has confirmed a leader within {limit:?}")),
        }
        let behind = replica.status().committed.saturating_sub(replica.applied_index());
        if behind > BEHIND_MAX {
            return Err(format!("{behind} committed entries are not applied yet"));
        }
        Ok(())
    }
}
