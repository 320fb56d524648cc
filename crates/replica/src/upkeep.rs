//! What a replica does beside Raft: tells its shell who leads, folds its log into snapshots, and compares its state
//! with that of the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use model::Term;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::Request;
use wire::raft as pb;

use crate::Hooks;
use crate::config::SnapshotThresholds;
use crate::env::Env;
use crate::identity::{DataDir, Identity};
use crate::log::LogStore;
use crate::network::{self, Transport};
use crate::snapshot::SnapshotStore;
use crate::state_machine::Shared;
use crate::status::{self, Leadership, RaftState, Status};
use crate::types::{Metrics, NodeId, Raft, seeded};

/// Between two publications of mere progress.
const STATUS_EVERY: Duration = Duration::from_millis(20);
const FOLD_EVERY: Duration = Duration::from_millis(250);
const COMPARE_EVERY: Duration = Duration::from_secs(3);
const COMPARE_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two handovers because of the clock: clocks that jump about must not keep the leadership moving.
const HAND_OVER_EVERY: Duration = Duration::from_secs(30);

/// What the tasks of a replica share.
pub(crate) struct Upkeep {
    pub env: Arc<dyn Env>,
    pub own: Arc<Identity>,
    pub raft: Raft,
    pub shared: Arc<Shared>,
    pub log: LogStore,
    pub snapshots: Arc<SnapshotStore>,
    pub transport: Arc<Transport>,
    pub data_dir: Arc<DataDir>,
    pub thresholds: SnapshotThresholds,
    pub compared: Mutex<Compared>,
    pub hooks: Hooks,
}

#[derive(Default)]
pub(crate) struct Compared {
    pub alarm: Option<String>,
    pub clock_offsets: BTreeMap<NodeId, i64>,
}

impl Upkeep {
    pub fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow_watched().clone()
    }

    pub fn status(&self) -> Status {
        let metrics = self.metrics();
        let members = status::members(&metrics);
        let leader = members.iter().find(|member| Some(member.id) == metrics.current_leader).cloned();
        let compared = self.compared.lock();
        Status {
            id: self.own.id,
            name: self.own.name.clone(),
            cluster: self.own.cluster.clone(),
            cluster_id: self.own.cluster_id.clone(),
            state: status::raft_state(metrics.state),
            term: metrics.current_term,
            leader,
            members,
            last_log: metrics.last_log_index.unwrap_or(0),
            // What a leader has told counts per leadership, and is nothing when one begins.
            committed: status::index(&metrics.cluster_committed.max(metrics.local_committed)),
            applied: status::index(&self.shared.applied.borrow()),
            snapshot: status::index(&metrics.snapshot),
            purged: status::index(&metrics.purged),
            log_bytes: self.log.bytes(),
            snapshot_bytes: self.snapshots.current().map_or(0, |(_, file)| file.bytes()),
            quorum_acked: status::quorum_acked(&metrics),
            matched: status::matched(&metrics),
            digest: self.shared.digest.load(Ordering::Acquire),
            digest_alarm: compared.alarm.clone(),
            clock_offsets: compared.clock_offsets.clone(),
        }
    }

    /// Tells who leads, and that something changed: a role at once, progress now and then. Ends when Raft does; if
    /// that failed, the process must not go on.
    pub async fn watch(
        self: Arc<Self>,
        leadership: watch::Sender<Leadership>,
        changes: watch::Sender<Status>,
    ) {
        let mut metrics_changed = self.raft.metrics();
        let mut applied = self.shared.applied.subscribe();
        let (mut role, mut published) = (None, self.env.now());
        loop {
            let (running, state, term, leader) = {
                // Looked at in place: it changes with every heartbeat, and a copy is of all that is known of the members.
                let metrics = metrics_changed.borrow_watched();
                (metrics.running_state.clone(), metrics.state, metrics.current_term, metrics.current_leader)
            };
            if let Err(fatal) = running {
                leadership.send_replace(Leadership::NotLeading);
                if !matches!(fatal, openraft::errors::Fatal::Stopped) {
                    self.env.stop(&format!("replication has failed: {fatal}"));
                }
                return;
            }
            self.tell(state, term, &leadership);
            let current = Some((state, term, leader));
            let wait = STATUS_EVERY.saturating_sub(self.env.now().since(published));
            let is_due = role != current || wait.is_zero();
            if is_due {
                changes.send_replace(self.status());
                (role, published) = (current, self.env.now());
            }
            // Apply matters only until the first entry of the term is in.
            let waits_for_apply = state == ServerState::Leader && leadership.borrow().term().is_none();
            tokio::select! {
                biased;
                changed = metrics_changed.changed() => if changed.is_err() { return },
                _ = applied.changed(), if waits_for_apply => {}
                () = tokio::time::sleep(wait), if !is_due => {}
            }
        }
    }

    fn tell(&self, state: ServerState, current: Term, leadership: &watch::Sender<Leadership>) {
        let applied_term = self.shared.applied.borrow().map(|id| *id.leader_id);
        let leads = state == ServerState::Leader && applied_term == Some(current);
        let term = leads.then_some(current);
        leadership.send_if_modified(|current| {
            if current.term() == term {
                return false;
            }
            term.into_iter().for_each(|term| self.hooks.led(term));
            *current = match term {
                Some(term) => Leadership::Leading { term, since: self.env.now() },
                None => Leadership::NotLeading,
            };
            true
        });
    }

    /// Takes a snapshot when the log has grown, and purges what it covers but for a tail.
    pub async fn fold(self: Arc<Self>) {
        loop {
            tokio::time::sleep(FOLD_EVERY).await;
            let current = self.snapshots.current();
            let covered = current.as_ref().and_then(|(meta, _)| meta.last_log_id).map(|id| id.index);
            if let Some(covered) = covered
                && let Some(purge) = self.log.tail_start(self.thresholds.tail_bytes)
            {
                let upto = purge.min(covered);
                let purged = self.metrics().purged.map(|id| id.index);
                // Raft may refuse while a follower still reads there; the next round asks again.
                if Some(upto) > purged && seeded(self.raft.trigger().purge_log(upto)).await.is_err() {
                    return;
                }
            }
            let grown = self.log.bytes_after(covered);
            if grown >= self.threshold(current.map_or(0, |(_, file)| file.bytes()))
                && seeded(self.raft.trigger().snapshot()).await.is_err()
            {
                return;
            }
        }
    }

    /// A little more on each replica, so that they do not all write at once.
    fn threshold(&self, last_snapshot_bytes: u64) -> u64 {
        let base = self.thresholds.log_bytes_min.max(last_snapshot_bytes.saturating_mul(2));
        base.saturating_add(base / 8 * (self.own.id % 4))
    }

    /// Compares digests and clocks with the others, every few seconds.
    pub async fn compare(self: Arc<Self>) {
        let mut handed_over = None;
        loop {
            tokio::time::sleep(COMPARE_EVERY).await;
            let metrics = self.metrics();
            let voters: Vec<NodeId> = metrics.membership_config.voter_ids().collect();
            // Only the newest are kept: read and asked for at one time, or under load none would be common to all.
            let own = self.shared.checkpoints.lock().iter().copied().collect();
            let mut digests = BTreeMap::from([(self.own.id, own)]);
            let mut clock_offsets = BTreeMap::new();
            let others = voters.iter().filter(|voter| **voter != self.own.id);
            let asked = others.map(|voter| self.ask(*voter, &metrics).map(|answer| (*voter, answer)));
            for (voter, answer) in join_all(asked).await {
                let Some((answer, offset)) = answer else { continue };
                let checkpoints = answer.digests.iter().map(|digest| (digest.index, digest.value));
                digests.insert(voter, checkpoints.collect());
                clock_offsets.insert(voter, offset);
            }
            self.compared.lock().clock_offsets = clock_offsets;
            if let Some(alarm) = judge(self.own.id, voters.len(), &digests) {
                self.raise(alarm);
            }
            let rests = handed_over.is_some_and(|at| self.env.now().since(at) < HAND_OVER_EVERY);
            if !rests && self.hand_over_for_clock().await {
                handed_over = Some(self.env.now());
            }
        }
    }

    /// A leader whose wall clock is off the voters' median would put wrong times in the log: another one shall lead.
    /// Whether it was asked to.
    async fn hand_over_for_clock(&self) -> bool {
        let status = self.status();
        if status.state != RaftState::Leader {
            return false;
        }
        let tolerated = self.shared.state.read().limits().clock_skew_max_s;
        let tolerated = i64::try_from(tolerated).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let Some(to) = status.better_clock(tolerated) else { return false };
        let skew = status.clock_skew().map(|us| us as f64 / 1e6);
        tracing::warn!(
            to,
            skew_seconds = skew,
            "this clock is off the voters' median; handing leadership over"
        );
        // It fails only when Raft has stopped.
        seeded(self.raft.trigger().transfer_leader(to)).await.is_ok()
    }

    async fn ask(&self, voter: NodeId, metrics: &Metrics) -> Option<(pb::CompareResponse, i64)> {
        let member = metrics.membership_config.get_node(&voter)?;
        let mut request = Request::new(pb::CompareRequest {});
        network::address(&mut request, &self.own, voter, member.incarnation);
        let mut client = self.transport.peer(&member.raft_address);
        let sent = self.env.now();
        let answer =
            tokio::time::timeout(COMPARE_TIMEOUT, client.compare(request)).await.ok()?.ok()?.into_inner();
        // The answer was written about half a round trip ago.
        let theirs = model::Timestamp(answer.wall).plus(self.env.now().since(sent) / 2);
        let offset = i128::from(theirs.0) - i128::from(self.env.wall().0);
        Some((answer, offset.clamp(i64::MIN.into(), i64::MAX.into()) as i64))
    }

    fn raise(&self, alarm: Alarm) {
        let mut compared = self.compared.lock();
        if compared.alarm.is_none() {
            tracing::error!(%alarm, "the replicas' states differ");
        }
        compared.alarm = Some(alarm.to_string());
        if let Alarm::Outvoted { .. } = alarm {
            drop(compared);
            // Should the marker fail to be written, stopping still keeps this state from being read.
            if let Err(error) = self.data_dir.mark_diverged(&alarm.to_string()) {
                tracing::error!(%error, "the data directory cannot be marked as diverged");
            }
            self.env.stop(&alarm.to_string());
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Alarm {
    #[error("at entry {index} a majority of all voters has digest {theirs:016x}, this replica {own:016x}")]
    Outvoted { index: u64, own: u64, theirs: u64 },
    #[error("at entry {index} voters have different digests: {found:016x?}")]
    Differ { index: u64, found: BTreeMap<NodeId, u64> },
}

/// Compares at every index that several have. This replica is wrong only if a majority of all voters agree on
/// another value.
pub(crate) fn judge(
    own: NodeId,
    voters: usize,
    digests: &BTreeMap<NodeId, BTreeMap<u64, u64>>,
) -> Option<Alarm> {
    let mut alarm = None;
    for (index, mine) in digests.get(&own)? {
        let at: BTreeMap<NodeId, u64> =
            digests.iter().filter_map(|(voter, values)| Some((*voter, *values.get(index)?))).collect();
        let others = at.values().filter(|value| *value != mine);
        let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
        others.for_each(|value| *votes.entry(*value).or_default() += 1);
        if let Some((theirs, _)) = votes.iter().find(|(_, count)| **count > voters / 2) {
            return Some(Alarm::Outvoted { index: *index, own: *mine, theirs: *theirs });
        }
        if !votes.is_empty() && alarm.is_none() {
            alarm = Some(Alarm::Differ { index: *index, found: at });
        }
    }
    alarm
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(values: &[(NodeId, u64, u64)]) -> BTreeMap<NodeId, BTreeMap<u64, u64>> {
        let mut digests: BTreeMap<NodeId, BTreeMap<u64, u64>> = BTreeMap::new();
        for (voter, index, value) in values {
            digests.entry(*voter).or_default().insert(*index, *value);
        }
        digests
    }

    #[test]
    fn only_a_majority_of_all_voters_stops_a_replica() {
        let agree = digests(&[(1, 32, 7), (2, 32, 7), (3, 64, 9)]);
        assert_eq!(judge(1, 3, &agree), None, "what only one has applied says nothing");
        let outvoted = digests(&[(1, 32, 7), (2, 32, 8), (3, 32, 8)]);
        assert_eq!(judge(1, 3, &outvoted), Some(Alarm::Outvoted { index: 32, own: 7, theirs: 8 }));
        assert!(matches!(judge(2, 3, &outvoted), Some(Alarm::Differ { .. })), "the majority goes on");
        let of_five = digests(&[(1, 32, 7), (2, 32, 8), (3, 32, 8)]);
        assert!(matches!(judge(1, 5, &of_five), Some(Alarm::Differ { .. })), "two of five are no majority");
    }
}
