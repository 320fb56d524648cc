//! What goes in through any replica, and what comes out through any other.

use std::collections::BTreeSet;
use std::time::Duration;

use baton_tests::cluster::{Cluster, wait_until};
use baton_tests::jobs::{command_job, finished, ledger_job, succeeded, task_in, tasks};
use baton_tests::ledger::Ledger;
use client::{Client, Happened, JobChange, JobFilter, LogStream, LogsOf, Target, Watched, code};
use futures::StreamExt;
use model::views::{JobState, TaskState};
use model::{ArrayRange, Dependency, JobId, JobSpec, Reason, Resources, TaskId, TaskSpec, Verdict, Work};

fn clients(cluster: &Cluster) -> Vec<Client> {
    (0..cluster.replicas.len()).map(|place| cluster.client_of(place)).collect()
}

/// Everything that an attempt wrote to its standard output.
async fn output(client: &Client, task: TaskId) -> String {
    let mut logs = client.logs(LogsOf { follow: true, ..LogsOf::task(task) });
    let mut bytes = Vec::new();
    while let Some(chunk) = logs.next().await.expect("output") {
        if chunk.stream == LogStream::Stdout && !chunk.data.is_empty() {
            assert_eq!(chunk.offset as usize, bytes.len(), "bytes come once and in order");
            bytes.extend(chunk.data);
        }
    }
    String::from_utf8(bytes).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_acknowledged_through_one_replica_is_seen_at_once_through_every_other() {
    let cluster = Cluster::start(3, 1).await;
    let clients = clients(&cluster);
    for round in 0..5 {
        for (place, client) in clients.iter().enumerate() {
            let name = format!("job-{round}-{place}");
            let job = client.submit(&command_job(&name, &["true"])).await.expect("accepted").job;
            for reader in &clients {
                let seen = reader.get_job(job).await.expect("a linearizable read sees it").value;
                assert_eq!((seen.id, seen.name.as_str()), (job, name.as_str()));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_read_says_as_of_when_and_catches_up() {
    let cluster = Cluster::start(3, 1).await;
    let submitted = cluster.client().submit(&command_job("x", &["true"])).await.expect("accepted");
    for client in clients(&cluster) {
        wait_until("a stale read has caught up", async || match client.stale().queues().await {
            Ok(read) => read.index >= submitted.index,
            Err(_) => false,
        })
        .await;
        assert_eq!(client.stale().get_job(submitted.job).await.expect("there").value.id, submitted.job);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_gives_one_job_through_any_replica_and_refuses_another_body() {
    let cluster = Cluster::start(3, 1).await;
    let clients = clients(&cluster);
    let id = clients[0].mint();
    let spec = command_job("once", &["true"]);
    let mut answers = BTreeSet::new();
    for client in &clients {
        let submitted = client.with_request_id(id).submit(&spec).await.expect("accepted");
        assert_eq!(submitted.request_id, id);
        answers.insert(submitted.job);
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    let other = command_job("twice", &["true"]);
    let error = clients[2].with_request_id(id).submit(&other).await.expect_err("another body");
    assert_eq!((error.code(), error.happened()), (code::CONFLICT, Happened::No), "{error:?}");
    let all = clients[1].list_jobs(&JobFilter::default(), 10, None).await.expect("a list").value.items;
    assert_eq!(all.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_spec_is_refused_with_all_its_errors_and_nothing_is_submitted() {
    let cluster = Cluster::start(3, 0).await;
    let task = |name: &str, after: &[&str]| {
        let mut task = TaskSpec::new(name, Work::Noop);
        task.after = after.iter().map(|name| Dependency::from(*name)).collect();
        task
    };
    let mut spec =
        JobSpec::of("bad", vec![task("a", &["b"]), task("b", &["a"]), task("c d", &[]), task("e", &["x"])]);
    spec.queue = "no such".to_owned();
    for client in clients(&cluster) {
        let error = client.submit(&spec).await.expect_err("refused");
        assert_eq!((error.code(), error.happened()), (code::INVALID_SPEC, Happened::No));
        let text = &error.failure.message;
        for (what, part) in [
            ("the cycle", "a"),
            ("the bad name", "tasks[2].name"),
            ("the unknown task", "tasks[3].after[0]"),
            ("the bad queue", "queue"),
        ] {
            assert!(text.contains(part), "{what} is missing: {text}");
        }
        assert!(text.contains("cycle"), "{text}");
    }
    let missing = command_job("x", &["true"]).with(|job| job.queue = "nowhere".to_owned());
    let error = cluster.client().submit(&missing).await.expect_err("refused");
    assert_eq!((error.code(), error.happened()), (code::UNKNOWN_QUEUE, Happened::No));
    let all = cluster.client().list_jobs(&JobFilter::default(), 10, None).await.expect("a list").value.items;
    assert!(all.is_empty(), "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fits_nowhere_is_accepted_and_explained_by_how_much() {
    let mut cluster = Cluster::start(3, 1).await;
    let client = cluster.client();
    let mut spec = command_job("big", &["true"]);
    spec.tasks[0].resources = Resources::cores(6);
    let job = client.submit(&spec).await.expect("accepted").job;
    for reader in clients(&cluster) {
        let explained = reader.explain(job, None).await.expect("explained").value;
        assert_eq!(explained.state, TaskState::Ready);
        let words = format!("{} {:?}", explained.summary, explained.reasons);
        for part in ["cpu", "6", "4", "w1"] {
            assert!(words.contains(part), "`{part}` is missing: {explained:#?}");
        }
    }
    cluster.add_worker("big", &["--cpu", "8"]);
    succeeded(&client, job).await;
    assert_eq!(tasks(&client, job).await[0].worker.as_deref(), Some("big"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_binary_fails_with_the_reason_on_the_tasks_own_budget() {
    let cluster = Cluster::start(3, 1).await;
    let client = cluster.client();
    let mut spec = command_job("missing", &["/no/such/binary"]);
    spec.tasks[0].retry.max = 2;
    spec.tasks[0].retry.backoff = "10ms".parse().expect("a backoff");
    let job = client.submit(&spec).await.expect("accepted").job;
    let view = finished(&client, job).await;
    assert_eq!(view.state, JobState::Failed);
    let task = tasks(&client, job).await.remove(0);
    assert_eq!((task.attempt, task.earlier.len()), (3, 2), "{task:#?}");
    for outcome in task.earlier.iter().chain(&task.outcome) {
        assert_eq!((outcome.verdict, outcome.reason), (Verdict::Failed, Reason::NotStarted));
        assert!(outcome.message.contains("/no/such/binary"), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_task_says_how_it_failed_and_shows_the_end_of_its_output() {
    let cluster = Cluster::start(3, 1).await;
    let client = cluster.client();
    let job = client
        .submit(&command_job("sad", &["sh", "-c", "echo so sad >&2; exit 7"]))
        .await
        .expect("accepted")
        .job;
    finished(&client, job).await;
    let outcome = tasks(&client, job).await.remove(0).outcome.expect("it has ended");
    assert_eq!((outcome.verdict, outcome.exit_code), (Verdict::Failed, Some(7)));
    assert!(outcome.message.contains("so sad"), "{outcome:?}");
    let killed =
        client.submit(&command_job("killed", &["sh", "-c", "kill -9 $$"])).await.expect("accepted").job;
    finished(&client, killed).await;
    let outcome = tasks(&client, killed).await.remove(0).outcome.expect("it has ended");
    assert_eq!((outcome.exit_code, outcome.signal), (None, Some(9)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_takes_too_long_is_ended_and_counts_as_its_own_failure() {
    let cluster = Cluster::start(3, 1).await;
    let client = cluster.client();
    let mut spec = command_job("slow", &["sleep", "600"]);
    spec.tasks[0].timeout = Some(Duration::from_millis(300));
    let job = client.submit(&spec).await.expect("accepted").job;
    finished(&client, job).await;
    let outcome = tasks(&client, job).await.remove(0).outcome.expect("it has ended");
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::Failed, Reason::TimedOut));
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_run_in_the_order_of_their_edges_and_a_failure_skips_what_waits_for_it() {
    let cluster = Cluster::start(3, 2).await;
    let client = cluster.client();
    let path = cluster.folder().join("order");
    let step = |name: &str, after: &[&str]| {
        let line = format!("echo {name} >> {}", path.display());
        let mut task = TaskSpec::new(name, Work::Run(vec!["sh".into(), "-c".into(), line]));
        task.after = after.iter().map(|name| Dependency::from(*name)).collect();
        task
    };
    let mut shard = step("shard", &["fetch"]);
    shard.array = Some(ArrayRange { first: 0, last: 3, step: 1 });
    let spec = JobSpec::of("pipeline", vec![step("fetch", &[]), shard, step("sum", &["shard"])]);
    let job = client.submit(&spec).await.expect("accepted").job;
    succeeded(&client, job).await;
    let order = std::fs::read_to_string(&path).expect("written");
    assert_eq!(order, "fetch\nshard\nshard\nshard\nshard\nsum\n");

    let mut bad = step("bad", &[]);
    bad.work = Work::Run(vec!["false".into()]);
    let spec = JobSpec::of("broken", vec![bad, step("next", &["bad"]), step("last", &["next"])]);
    let job = client.submit(&spec).await.expect("accepted").job;
    assert_eq!(finished(&client, job).await.state, JobState::Failed);
    let states: Vec<TaskState> = tasks(&client, job).await.iter().map(|task| task.state).collect();
    assert_eq!(states, [TaskState::Failed, TaskState::Skipped, TaskState::Skipped]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_for_an_earlier_job() {
    let cluster = Cluster::start(3, 1).await;
    let client = cluster.client();
    let path = cluster.folder().join("ledger");
    let first = client.submit(&ledger_job(&path, 2, "0.3")).await.expect("accepted").job;
    let mut spec = ledger_job(&path, 1, "0");
    spec.after = vec![first].into();
    let second = client.submit(&spec).await.expect("accepted").job;
    succeeded(&client, second).await;
    assert_eq!(client.get_job(first).await.expect("read").value.state, JobState::Succeeded);
    let mut nowhere = spec.clone();
    nowhere.after = vec![JobId(1 << 40)].into();
    let error = client.submit(&nowhere).await.expect_err("no such job");
    assert_eq!(error.happened(), Happened::No);
    assert_eq!(Ledger::read(&path).tasks_ended().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_can_be_followed_through_every_replica() {
    let cluster = Cluster::start(3, 1).await;
    let script = "for i in 1 2 3; do echo line $i; sleep 0.1; done; echo done $BATON_TASK";
    let job =
        cluster.client().submit(&command_job("talks", &["sh", "-c", script])).await.expect("accepted").job;
    let task = TaskId { job, number: 0 };
    let expected = format!("line 1\nline 2\nline 3\ndone {task}\n");
    for client in clients(&cluster) {
        assert_eq!(output(&client, task).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_file_becomes_part_of_the_outcome() {
    let cluster = Cluster::start(3, 1).await;
    let client = cluster.client();
    let spec = command_job("result", &["sh", "-c", "printf 42 > $BATON_RESULT"]);
    let job = client.submit(&spec).await.expect("accepted").job;
    succeeded(&client, job).await;
    let outcome = tasks(&client, job).await.remove(0).outcome.expect("it has ended");
    let result = outcome.result.expect("a result");
    assert_eq!(result.inline_bytes(), Some(b"42".as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_order_through_any_replica_and_tell_the_whole_story() {
    let cluster = Cluster::start(3, 1).await;
    for (place, client) in clients(&cluster).iter().enumerate() {
        let mut events = client.watch(None, None);
        let begun = events.next().await.expect("a stream").expect("an event");
        assert!(matches!(begun, Watched::Begin { .. }), "{begun:?}");
        let writer = cluster.client_of((place + 1) % 3);
        let job = writer.submit(&command_job("watched", &["true"])).await.expect("accepted").job;
        let (mut last, mut states) = (None, Vec::new());
        while states.last() != Some(&JobState::Succeeded) {
            let next = tokio::time::timeout(baton_tests::cluster::PATIENCE, events.next()).await;
            let Watched::Event { at, event } =
                next.expect("events come").expect("a stream").expect("an event")
            else {
                panic!("neither a beginning nor a gap belongs here");
            };
            assert!(last < Some(at), "{last:?} then {at:?}");
            last = Some(at);
            if let client::Event::Job { job: whose, state } = event
                && whose == job
            {
                states.push(state);
            }
        }
        assert!(states.len() >= 2, "{states:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_job_places_nothing_and_goes_on_when_it_is_resumed() {
    let cluster = Cluster::start(3, 1).await;
    let client = cluster.client();
    let path = cluster.folder().join("ledger");
    let mut spec = ledger_job(&path, 3, "0");
    spec.delay = Some(Duration::from_secs(1));
    let job = client.submit(&spec).await.expect("accepted").job;
    client.pause(&[job]).await.expect("paused");
    task_in(&client, job, 0, TaskState::Ready).await;
    // Another job passes by: the worker had room and the planner looked.
    let other = client.submit(&command_job("other", &["true"])).await.expect("accepted").job;
    succeeded(&client, other).await;
    assert_eq!(client.get_job(job).await.expect("read").value.state, JobState::Paused);
    assert!(Ledger::read(&path).starts.is_empty());
    client.resume(&[job]).await.expect("resumed");
    succeeded(&client, job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_overtakes_when_its_priority_is_raised() {
    let cluster = Cluster::start(3, 1).await;
    let client = cluster.client();
    let (path, gate) = (cluster.folder().join("ledger"), cluster.folder().join("gate"));
    let blocker = baton_tests::jobs::gated_job(&path, &gate, 4);
    let blocker = client.submit(&blocker).await.expect("accepted").job;
    baton_tests::jobs::running(&path, 4).await;
    let mut whole = ledger_job(&path, 1, "0");
    whole.tasks[0].resources = Resources::cores(4);
    let early = client.submit(&whole).await.expect("accepted").job;
    let late = client.submit(&whole).await.expect("accepted").job;
    let change = JobChange { priority: Some(10), ..JobChange::default() };
    client.set_job(late, &change).await.expect("changed");
    std::fs::write(&gate, "").expect("the gate opens");
    for job in [blocker, early, late] {
        succeeded(&client, job).await;
    }
    let ledger = Ledger::read(&path);
    let token = |job: JobId| ledger.attempts(&format!("{job}.0"))[0].token;
    assert!(token(late) < token(early), "the raised job was placed after the other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_opens_a_new_round_of_what_failed_only() {
    let cluster = Cluster::start(3, 1).await;
    let client = cluster.client();
    let flag = cluster.folder().join("flag");
    let script = format!("[ $BATON_ARRAY_INDEX != 1 ] || [ -e {} ]", flag.display());
    let mut spec = command_job("flaky", &["sh", "-c", &script]);
    spec.tasks[0].array = Some(ArrayRange { first: 0, last: 2, step: 1 });
    let job = client.submit(&spec).await.expect("accepted").job;
    assert_eq!(finished(&client, job).await.state, JobState::Failed);
    std::fs::write(&flag, "").expect("the flag is set");
    let changed = client.retry(&[Target::job(job)], true).await.expect("retried");
    assert_eq!(changed.changed, 1);
    succeeded(&client, job).await;
    let rounds: Vec<(u32, u32)> =
        tasks(&client, job).await.iter().map(|task| (task.round, task.attempt)).collect();
    assert_eq!(rounds, [(1, 1), (2, 2), (1, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_submits_in_flight_are_each_accepted_once() {
    let cluster = Cluster::start(3, 1).await;
    let specs = (0..300).map(|n| JobSpec::of(&format!("many-{n}"), vec![TaskSpec::new("n", Work::Noop)]));
    let answers: Vec<_> = cluster.client().submit_many(specs, 64).collect().await;
    let mut jobs = BTreeSet::new();
    for (_, answer) in answers {
        assert!(jobs.insert(answer.expect("accepted").job), "one job twice");
    }
    assert_eq!(jobs.len(), 300);
    let client = cluster.client();
    wait_until("all of them are done", async || {
        client.cluster_status().await.is_ok_and(|status| status.counts.succeeded == 300)
    })
    .await;
}

/// Its replies told clients its own clock, by which their ids were refused: nothing could be written through it.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_clock_is_an_hour_off_takes_writes_all_the_same() {
    for offset in ["3600000", "-3600000"] {
        let mut cluster = Cluster::start(3, 1).await;
        let leader = cluster.leader().await;
        let other = (leader + 1) % 3;
        cluster.replicas[other].kill();
        let again = cluster.twin(other, &[]).env("BATON_CLOCK_OFFSET_MS", offset);
        cluster.replicas[other] = again;
        cluster.replicas[other].start();
        cluster.wait_ready(1).await;
        let client = cluster.client_of(other);
        for round in 0..4 {
            let name = format!("job-{round}");
            let submitted = client.submit(&command_job(&name, &["true"])).await;
            finished(&cluster.client_of(leader), submitted.expect("accepted").job).await;
        }
    }
}
