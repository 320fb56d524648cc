//! `/metrics`: base units, totals end in `_total`, no ids as labels.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use machine::State;
use machine::views::unmet_demand;
use model::size::PARTS;
use model::views::{Counts, QueueView, WorkerState, WorkerView};
use replica::{Held, RaftState};

use crate::api::{Api, Running};
use crate::http::exposition::Exposition;
use crate::lead;
use crate::metrics::{HistogramPicture, Metrics};

pub fn page(api: &Api) -> String {
    let mut page = Exposition::default();
    let shared = api.shared();
    let version = env!("CARGO_PKG_VERSION");
    page.gauge("baton_build_info", "Constant 1, with the version of this process.")
        .with(&[("version", version), ("replica", &shared.config.name)], 1.0);
    let ready = api.readiness().is_ok();
    page.gauge("baton_ready", "Whether this replica can serve.").value(truth(ready));
    own_counters(&mut page, &shared.metrics);
    if let Ok(running) = api.running() {
        raft(&mut page, running);
        held(&mut page, running.replica.held());
        leading(&mut page, running.lead.metrics());
        work(&mut page, running, demand_of(api, running));
    }
    page.into_text()
}

/// By queue and resource.
pub type Demand = BTreeMap<(String, String), u64>;

/// Counting it goes through the ready lists while apply waits: once for all who scrape within this time.
const DEMAND_EVERY: Duration = Duration::from_secs(1);

fn demand_of(api: &Api, running: &Running) -> Demand {
    let (now, mut last) = (api.shared().clock.moment(), api.shared().demand.lock());
    match &*last {
        Some((at, demand)) if now.since(*at) < DEMAND_EVERY => demand.clone(),
        _ => last.insert((now, running.replica.read(unmet_demand))).1.clone(),
    }
}

fn truth(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

fn own_counters(page: &mut Exposition, metrics: &Metrics) {
    page.counter("baton_jobs_submitted_total", "Jobs accepted while this replica led.")
        .value(metrics.jobs_submitted.get() as f64);
    let mut finished = page.counter("baton_jobs_finished_total", "Jobs that ended while this replica led.");
    for (state, count) in metrics.jobs_finished.all() {
        finished.with(&[("state", &state)], count as f64);
    }
    page.counter("baton_tasks_placed_total", "Attempts given to workers while this replica led.")
        .value(metrics.tasks_placed.get() as f64);
    let mut finished =
        page.counter("baton_tasks_finished_total", "Tasks that became final while this replica led.");
    for (state, count) in metrics.tasks_finished.all() {
        finished.with(&[("state", &state)], count as f64);
    }
    let mut refused = page.counter("baton_calls_refused_total", "Calls answered by an error, by its code.");
    for (code, count) in metrics.calls_refused.all() {
        refused.with(&[("code", &code)], count as f64);
    }
    page.counter("baton_writes_forwarded_total", "Tries to have a write done by another replica.")
        .value(metrics.writes_forwarded.get() as f64);
    let histograms = [
        (
            "baton_commit_seconds",
            "From a write's arrival at the leader to its being applied.",
            &metrics.commit,
        ),
        ("baton_placement_seconds", "One round of the planner.", &metrics.placement),
        ("baton_queue_wait_seconds", "From ready to placed, per task.", &metrics.ready_wait),
        (
            "baton_first_placement_seconds",
            "From a job's acceptance to the first placement of each run of its tasks.",
            &metrics.queue_wait,
        ),
    ];
    for (name, help, histogram) in histograms {
        page.histogram(name, help, &histogram.picture());
    }
}

fn raft(page: &mut Exposition, running: &Running) {
    let status = running.replica.status();
    let leads = status.state == RaftState::Leader;
    let gauges = [
        ("baton_raft_term", "Raft term.", status.term as f64),
        ("baton_raft_is_leader", "Whether this replica leads.", truth(leads)),
        ("baton_raft_has_leader", "Whether this replica knows a leader.", truth(status.leader.is_some())),
        ("baton_raft_last_log_index", "Last entry in the log.", status.last_log as f64),
        ("baton_raft_committed_index", "Last entry known to be committed.", status.committed as f64),
        ("baton_raft_applied_index", "Last entry applied.", status.applied as f64),
        ("baton_raft_snapshot_index", "Last entry in the snapshot.", status.snapshot as f64),
        ("baton_raft_purged_index", "Last entry that left the log.", status.purged as f64),
        ("baton_raft_log_bytes", "Size of the log.", status.log_bytes as f64),
        ("baton_raft_snapshot_bytes", "Size of the snapshot.", status.snapshot_bytes as f64),
        ("baton_members", "Replicas of the cluster.", status.members.len() as f64),
        (
            "baton_state_diverged",
            "Whether replicas differ in their state.",
            truth(status.digest_alarm.is_some()),
        ),
    ];
    for (name, help, value) in gauges {
        page.gauge(name, help).value(value);
    }
    if let Some(skew) = status.clock_skew() {
        page.gauge("baton_clock_skew_seconds", "This wall clock against the voters' median.")
            .value(skew as f64 / 1e6);
    }
    if let Some(silence) = status.quorum_acked {
        page.gauge("baton_raft_quorum_silence_seconds", "Since a quorum last acknowledged this leader.")
            .value(silence.as_secs_f64());
    }
}

/// What applying has held up.
fn held(page: &mut Exposition, held: &Held) {
    let histograms = [
        ("baton_apply_seconds", "How long the state is held for one entry.", &held.apply),
        ("baton_apply_wait_seconds", "How long an entry waits for readers of the state.", &held.apply_wait),
        ("baton_snapshot_freeze_seconds", "How long apply waits for a snapshot to begin.", &held.freeze),
    ];
    for (name, help, pauses) in histograms {
        page.histogram(name, help, &HistogramPicture::from(pauses));
    }
}

/// What the leader's task has done, on the replica where it did it.
fn leading(page: &mut Exposition, metrics: &lead::Metrics) {
    let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed) as f64;
    let mut refused =
        page.counter("baton_lane_refused_total", "Writes refused because too many waited, by lane.");
    refused.with(&[("lane", "submit")], read(&metrics.submits_refused));
    refused.with(&[("lane", "control")], read(&metrics.controls_refused));
    let counters = [
        ("baton_leaderships_total", "Times that this replica began to lead.", &metrics.leaderships),
        (
            "baton_placements_dropped_total",
            "Placements that were no longer eligible.",
            &metrics.placements_dropped,
        ),
        ("baton_lease_renewals_total", "Heartbeats of workers that were answered.", &metrics.lease_renewals),
        ("baton_sessions_expired_total", "Sessions whose lease ended.", &metrics.sessions_expired),
        ("baton_reports_total", "Reports of workers.", &metrics.reports),
        ("baton_proposals_total", "Entries proposed.", &metrics.proposals),
        (
            "baton_proposals_failed_total",
            "Entries that came to nothing as far as is known.",
            &metrics.proposals_failed,
        ),
    ];
    for (name, help, figure) in counters {
        page.counter(name, help).value(read(figure));
    }
    let mut ended = page.counter(
        "baton_attempts_ended_total",
        "Attempts that workers said have ended, by verdict: those that are tried again, too.",
    );
    for (verdict, count) in metrics.attempts_ended.all() {
        ended.with(&[("verdict", &verdict)], count as f64);
    }
    page.histograms(
        "baton_lane_wait_seconds",
        "Of a client's write until it is proposed, of a worker's message until the leader takes it in.",
        &[
            (&[("lane", "client")], &metrics.client_waits.picture()),
            (&[("lane", "worker")], &metrics.worker_waits.picture()),
        ],
    );
    let mut queued = page.gauge("baton_lane_queued", "What waits to be proposed, by lane.");
    queued.with(&[("lane", "submit")], read(&metrics.submits_queued));
    queued.with(&[("lane", "control")], read(&metrics.controls_queued));
    queued.with(&[("lane", "worker")], read(&metrics.worker_commands_queued));
    page.gauge("baton_proposals_in_flight", "Entries proposed and not yet applied.")
        .value(read(&metrics.proposals_in_flight));
    page.gauge("baton_worker_streams", "Workers attached to this replica.")
        .value(read(&metrics.worker_streams));
}

/// What the state says: the same on every replica that has applied as much.
fn work(page: &mut Exposition, running: &Running, demand_now: Demand) {
    let queues = running.replica.read(State::queue_views);
    let workers = running.replica.read(State::worker_views);
    let (unfinished, requests) =
        running.replica.read(|state| (state.unfinished_jobs(), state.requests_len()));
    page.gauge("baton_jobs_unfinished", "Jobs that are not finished.").value(unfinished as f64);
    page.gauge("baton_request_ids", "Request ids remembered.").value(requests as f64);
    queue_gauges(page, &queues);
    worker_gauges(page, &workers);
    let mut demand = page.gauge(
        "baton_unmet_demand",
        "What ready tasks ask for: cores, units, bytes (memory, disk) or bytes per second (network).",
    );
    for ((queue, resource), amount) in demand_now {
        demand.with(&[("queue", &queue), ("resource", &resource)], in_base_units(&resource, amount));
    }
}

fn in_base_units(resource: &str, amount: u64) -> f64 {
    match resource {
        "memory" | "disk" | "network" => amount as f64,
        _ => amount as f64 / PARTS as f64,
    }
}

fn by_state(counts: &Counts) -> [(&'static str, u64); 8] {
    [
        ("blocked", counts.blocked),
        ("delayed", counts.delayed),
        ("ready", counts.ready),
        ("running", counts.running),
        ("succeeded", counts.succeeded),
        ("failed", counts.failed),
        ("cancelled", counts.cancelled),
        ("skipped", counts.skipped),
    ]
}

fn queue_gauges(page: &mut Exposition, queues: &[QueueView]) {
    let mut tasks =
        page.gauge("baton_queue_tasks", "Tasks of the jobs in the hot state, by queue and state.");
    for queue in queues {
        for (state, count) in by_state(&queue.counts) {
            tasks.with(&[("queue", &queue.name), ("state", state)], count as f64);
        }
    }
    type Figure = fn(&QueueView) -> f64;
    let figures: [(&str, &str, Figure); 7] = [
        ("baton_queue_depth", "Tasks that wait for a worker.", |queue| queue.counts.ready as f64),
        ("baton_queue_jobs_unfinished", "Unfinished jobs.", |queue| queue.unfinished_jobs as f64),
        ("baton_queue_weight", "Share of the capacity relative to other queues.", |queue| {
            queue.weight.into()
        }),
        ("baton_queue_paused", "Whether it is paused.", |queue| truth(queue.paused)),
        ("baton_queue_usage_seconds", "Decayed dominant-resource-seconds.", |queue| queue.usage),
        ("baton_queue_suspended", "Running tasks that stand still.", |queue| queue.suspended as f64),
        ("baton_queue_oldest_wait_seconds", "Age of its oldest waiting task; 0 if none waits.", |queue| {
            queue.oldest_wait.unwrap_or_default().as_secs_f64()
        }),
    ];
    for (name, help, figure) in figures {
        let mut samples = page.gauge(name, help);
        for queue in queues {
            samples.with(&[("queue", &queue.name)], figure(queue));
        }
    }
    let counters: [(&str, &str, Figure); 5] = [
        (
            "baton_queue_adaptations_total",
            "Changes of its policy that the cluster made by itself.",
            |queue| queue.adaptations as f64,
        ),
        ("baton_queue_suspensions_total", "Time slices that ended because others waited.", |queue| {
            queue.suspensions as f64
        }),
        ("baton_queue_preempted_total", "Tasks stopped for others of a higher priority.", |queue| {
            queue.preempted as f64
        }),
        ("baton_queue_deadlines_met_total", "Tasks that ended within their deadline.", |queue| {
            queue.deadlines_met as f64
        }),
        ("baton_queue_deadlines_missed_total", "Tasks that ended after their deadline.", |queue| {
            queue.deadlines_missed as f64
        }),
    ];
    for (name, help, figure) in counters {
        let mut samples = page.counter(name, help);
        for queue in queues {
            samples.with(&[("queue", &queue.name)], figure(queue));
        }
    }
}

fn worker_gauges(page: &mut Exposition, workers: &[WorkerView]) {
    let mut states = page.gauge("baton_workers", "Workers by state.");
    for state in [WorkerState::Live, WorkerState::Cordoned, WorkerState::Draining, WorkerState::Gone] {
        let count = workers.iter().filter(|worker| worker.state == state).count();
        states.with(&[("state", &state.to_string())], count as f64);
    }
    let live = || workers.iter().filter(|worker| worker.state != WorkerState::Gone);
    let mut attempts = page.gauge("baton_worker_attempts", "Attempts on a worker.");
    for worker in live() {
        attempts.with(&[("worker", &worker.name)], worker.attempts as f64);
    }
    let mut capacity =
        page.gauge("baton_worker_capacity", "What a worker offers, in the units of unmet demand.");
    for worker in live() {
        for (resource, amount) in worker.capacity.total.iter() {
            let labels = [("worker", worker.name.as_str()), ("resource", resource)];
            capacity.with(&labels, in_base_units(resource, amount));
        }
    }
    let mut used = page.gauge("baton_worker_used", "What is taken of it.");
    for worker in live() {
        for (resource, _) in worker.capacity.total.iter() {
            let labels = [("worker", worker.name.as_str()), ("resource", resource)];
            used.with(&labels, in_base_units(resource, worker.used.get(resource)));
        }
    }
}
