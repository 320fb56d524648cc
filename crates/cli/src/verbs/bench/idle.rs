//! What a cluster costs that has nothing to do.

use std::time::Duration;

use super::figure::Figure;
use super::harness::{Bench, cannot};
use super::usage::Span;
use crate::fault::Fault;

/// After whatever came before.
const SETTLE: Duration = Duration::from_secs(3);
const WATCHED_SECONDS: u64 = 20;

impl Bench<'_> {
    /// The share of a core that each replica takes, and what its log grows by.
    pub async fn idle(&self) -> Result<Vec<Figure>, Fault> {
        let cluster = self.own()?;
        let watched = Duration::from_secs(self.scaled(WATCHED_SECONDS));
        self.progress.begin("idle", 1);
        tokio::time::sleep(SETTLE).await;
        self.progress.next();
        let spans = cluster.replicas.iter().map(Span::begin).collect::<Result<Vec<_>, _>>()?;
        let log = self.client.cluster_status().await.map_err(cannot)?.last_log;
        tokio::time::sleep(watched).await;
        let grown = self.client.cluster_status().await.map_err(cannot)?.last_log - log;
        let shares = spans.iter().zip(&cluster.replicas).map(|(span, replica)| span.percent(replica));
        let shares = shares.collect::<Result<Vec<_>, _>>()?;
        let name = "idle: share of a core, a value for each replica";
        let figure = Figure::of_rounds("idle", name, "%", 0, shares);
        Ok(vec![figure.set("seconds", watched.as_secs()).set("log_entries", grown)])
    }
}
