//! The API on a healthy cluster: every replica takes every call.

mod cluster;

use cluster::{Cluster, client, noop_job, submit_of};
use futures::StreamExt;
use model::{JobSpec, RequestId, TaskSpec, Work};
use server::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;
use wire::error::{Failure, Happened, code};
use wire::v1;
use wire::v1::submit_result::Outcome;
use wire::v1::watch_reply::Event;

fn failure<T: std::fmt::Debug>(result: Result<tonic::Response<T>, tonic::Status>) -> Failure {
    Failure::from(&result.unwrap_err())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_submitted_through_any_replica_is_read_through_each() {
    let cluster = Cluster::start(3).await;
    for through in 0..3 {
        let spec = noop_job(&format!("job-{through}"));
        let reply = cluster.client(through).submit(submit_of(&spec, "")).await.unwrap();
        assert!(reply.metadata().contains_key("baton-clock"));
        let reply = reply.into_inner();
        assert!(reply.request_id.parse::<RequestId>().is_ok(), "a minted id is returned");
        for at in 0..3 {
            let asked = v1::GetJobRequest { job: reply.job, with_spec: true, ..Default::default() };
            let got = cluster.client(at).get_job(asked).await.unwrap().into_inner();
            assert!(got.index >= reply.index, "{} {}", got.index, reply.index);
            assert_eq!(JobSpec::try_from(got.spec.unwrap()).unwrap(), spec);
            assert_eq!(got.job.unwrap().name, spec.name);
        }
    }
    let listed = cluster.client(1).list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner();
    let names: Vec<&str> = listed.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names, ["job-2", "job-1", "job-0"]);
    let page = v1::ListJobsRequest { limit: 2, ..Default::default() };
    let page = cluster.client(2).list_jobs(page).await.unwrap().into_inner();
    let rest = v1::ListJobsRequest { before: page.next, ..Default::default() };
    let rest = cluster.client(2).list_jobs(rest).await.unwrap().into_inner();
    assert_eq!((page.jobs.len(), rest.jobs.len(), rest.next), (2, 1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_id_is_done_once_and_for_one_thing() {
    let cluster = Cluster::start(3).await;
    let id = RequestId(u128::from(model::Timestamp(now_us()).0 / 1_000) << 80 | 7).to_string();
    let first = cluster.client(0).submit(submit_of(&noop_job("one"), &id)).await.unwrap().into_inner();
    assert_eq!(first.request_id, id);
    for through in 0..3 {
        let again =
            cluster.client(through).submit(submit_of(&noop_job("one"), &id)).await.unwrap().into_inner();
        assert_eq!(again.job, first.job);
        let other = failure(cluster.client(through).submit(submit_of(&noop_job("two"), &id)).await);
        assert_eq!((other.code.as_str(), other.happened), (code::CONFLICT, Happened::No));
        assert_eq!(other.request_id.map(|id| id.to_string()).as_deref(), Some(id.as_str()));
    }
    let malformed = failure(cluster.client(1).submit(submit_of(&noop_job("one"), "no-ulid")).await);
    assert_eq!((malformed.code.as_str(), malformed.happened), (code::INVALID_SPEC, Happened::No));
    assert!(malformed.message.contains("header.request_id"), "{}", malformed.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_clock_is_ahead_learns_so_from_the_refusal() {
    let cluster = Cluster::start(1).await;
    let ahead = RequestId(u128::from(now_us() / 1_000 + 3_600_000) << 80).to_string();
    let refused = cluster.client(0).submit(submit_of(&noop_job("x"), &ahead)).await.unwrap_err();
    assert_eq!(Failure::from(&refused).code, code::REQUEST_EXPIRED);
    let told: u64 = refused.metadata().get("baton-clock").unwrap().to_str().unwrap().parse().unwrap();
    assert!(now_us().abs_diff(told) < 60_000_000, "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_none_are_refused_before_they_are_written() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let long = "x".repeat(1 << 20);
    let worker = v1::WorkerRequest { header: None, name: long.clone() };
    assert_eq!(failure(client.cordon(worker).await).code, code::INVALID_SPEC);
    let queue = v1::QueueRequest { header: None, name: long.clone() };
    assert_eq!(failure(client.pause_queue(queue).await).code, code::INVALID_SPEC);
    let header = v1::WriteHeader { user: long, ..Default::default() };
    let submit = v1::SubmitRequest { header: Some(header), spec: Some((&noop_job("x")).into()) };
    let refused = failure(client.submit(submit).await);
    assert!(refused.message.starts_with("header.user"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_writes_at_once_are_cut_into_entries_that_the_log_takes() {
    let cluster = Cluster::start(1).await;
    let mut spec = JobSpec::of("large", vec![TaskSpec::new("a", Work::Run(vec!["true".to_owned()]))]);
    spec.tasks[0].env.insert("A".to_owned(), model::EnvValue::Plain("x".repeat(300 << 10)));
    let requests: Vec<v1::SubmitRequest> = (0..80).map(|_| submit_of(&spec, "")).collect();
    let mut client = cluster.client(0);
    let answers = client.submit_stream(futures::stream::iter(requests)).await.unwrap().into_inner();
    let answers: Vec<v1::SubmitResult> = answers.map(Result::unwrap).collect().await;
    let accepted = |answer: &v1::SubmitResult| matches!(answer.outcome, Some(Outcome::Accepted(_)));
    assert_eq!(answers.iter().filter(|answer| accepted(answer)).count(), 80);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_errors_of_a_spec_come_at_once() {
    let cluster = Cluster::start(1).await;
    let mut spec = JobSpec::of("bad", vec![TaskSpec::new("a b", Work::Run(vec!["x".to_owned()]))]);
    spec.tasks[0].after.push("nobody".into());
    spec.queue = "q q".to_owned();
    let refused = failure(cluster.client(0).submit(submit_of(&spec, "")).await);
    assert_eq!((refused.code.as_str(), refused.status), (code::INVALID_SPEC, Code::InvalidArgument));
    for path in ["queue: ", "tasks[0].name: ", "tasks[0].after[0]: "] {
        assert!(refused.message.contains(path), "{}", refused.message);
    }
    let elsewhere = failure(cluster.client(0).submit(submit_of(&queued(), "")).await);
    assert_eq!((elsewhere.code.as_str(), elsewhere.status), (code::UNKNOWN_QUEUE, Code::NotFound));
}

fn queued() -> JobSpec {
    noop_job("queued").with(|job| job.queue = "nowhere".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_carries_many_submits_at_once_through_a_follower() {
    let cluster = Cluster::start(3).await;
    let follower = (cluster.leader(0).await + 1) % 3;
    let requests: Vec<v1::SubmitRequest> = (0..300u128)
        .map(|n| {
            let id = RequestId(u128::from(now_us() / 1_000) << 80 | n);
            let spec = if n == 7 { JobSpec::of("none", vec![]) } else { noop_job(&format!("s{n}")) };
            submit_of(&spec, &id.to_string())
        })
        .collect();
    let sent: std::collections::BTreeSet<String> =
        requests.iter().map(|request| request.header.as_ref().unwrap().request_id.clone()).collect();
    let mut client = cluster.client(follower);
    let answers = client.submit_stream(futures::stream::iter(requests)).await.unwrap().into_inner();
    let answers: Vec<v1::SubmitResult> = answers.map(Result::unwrap).collect().await;
    let answered: std::collections::BTreeSet<String> =
        answers.iter().map(|answer| answer.request_id.clone()).collect();
    assert_eq!((answers.len(), answered), (300, sent));
    let mut jobs = std::collections::BTreeSet::new();
    for answer in &answers {
        match answer.outcome.as_ref().unwrap() {
            Outcome::Accepted(reply) => assert!(jobs.insert(reply.job)),
            Outcome::Refused(error) => {
                assert_eq!((error.code.as_str(), error.happened.as_str()), (code::INVALID_SPEC, "no"))
            }
        }
    }
    assert_eq!(jobs.len(), 299);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_every_kind_go_through_a_follower() {
    let cluster = Cluster::start(3).await;
    let mut client = cluster.client((cluster.leader(0).await + 1) % 3);
    let job = client.submit(submit_of(&noop_job("j"), "")).await.unwrap().into_inner().job;
    let jobs = v1::JobsRequest { header: None, jobs: vec![job] };
    client.pause(jobs.clone()).await.unwrap();
    let get = v1::GetJobRequest { job, ..Default::default() };
    assert_eq!(client.get_job(get).await.unwrap().into_inner().job.unwrap().state, "paused");
    client.resume(jobs).await.unwrap();
    let change = v1::SetJobRequest { job, priority: Some(7), ..Default::default() };
    client.set_job(change).await.unwrap();
    assert_eq!(client.get_job(get).await.unwrap().into_inner().job.unwrap().priority, 7);
    let explained =
        client.explain(v1::ExplainRequest { job, ..Default::default() }).await.unwrap().into_inner();
    assert_eq!((explained.job, explained.task), (job, 0));
    assert!(!explained.summary.is_empty());
    let targets = vec![v1::Target { job, tasks: vec![] }];
    let cancelled =
        client.cancel(v1::CancelRequest { header: None, targets: targets.clone() }).await.unwrap();
    assert_eq!(cancelled.into_inner().changed, 1);
    let retried = v1::RetryRequest { header: None, targets, failed_only: false };
    client.retry(retried).await.unwrap();
    let tasks =
        client.list_tasks(v1::ListTasksRequest { job, ..Default::default() }).await.unwrap().into_inner();
    assert_eq!((tasks.tasks.len(), tasks.tasks[0].round), (1, 2));

    let name = "q".to_owned();
    let queue = v1::PutQueueRequest { name, weight: Some(5), running_max: Some(1), ..Default::default() };
    client.put_queue(queue).await.unwrap();
    let named = || v1::QueueRequest { header: None, name: "q".to_owned() };
    client.pause_queue(named()).await.unwrap();
    let queues = client.list_queues(v1::ReadRequest::default()).await.unwrap().into_inner().queues;
    let queue = queues.iter().find(|queue| queue.name == "q").unwrap();
    assert_eq!((queue.weight, queue.running_max, queue.paused), (5, Some(1), true));
    client.resume_queue(named()).await.unwrap();
    client.delete_queue(named()).await.unwrap();
    assert_eq!(failure(client.pause_queue(named()).await).code, code::UNKNOWN_QUEUE);

    let worker = || v1::WorkerRequest { header: None, name: "ghost".to_owned() };
    assert_eq!(failure(client.cordon(worker()).await).code, code::UNKNOWN_WORKER);
    assert_eq!(failure(client.drain(worker()).await).code, code::UNKNOWN_WORKER);

    let settings = client.get_settings(v1::ReadRequest::default()).await.unwrap().into_inner().settings_json;
    let raised = settings.replace("\"queues_max\":1000", "\"queues_max\":1001");
    assert_ne!(raised, settings);
    client
        .put_settings(v1::PutSettingsRequest { header: None, settings_json: raised.clone() })
        .await
        .unwrap();
    let read = client.get_settings(v1::ReadRequest::default()).await.unwrap().into_inner().settings_json;
    assert_eq!(read, raised);
    let put = |path: &str, value: &str| v1::PutSettingRequest {
        header: None,
        path: path.to_owned(),
        value: value.to_owned(),
    };
    client.put_setting(put("limits.queues_max", "1002")).await.unwrap();
    let read = client.get_settings(v1::ReadRequest::default()).await.unwrap().into_inner().settings_json;
    assert_eq!(read, raised.replace("\"queues_max\":1001", "\"queues_max\":1002"));
    assert_eq!(failure(client.put_setting(put("limits.queues", "1")).await).code, code::INVALID_SPEC);
    assert_eq!(failure(client.put_setting(put("lease.ttl", "1ms")).await).code, code::INVALID_SPEC);
    let broken = v1::PutSettingsRequest { header: None, settings_json: "{\"limitz\":1}".to_owned() };
    assert_eq!(failure(client.put_settings(broken).await).code, code::INVALID_SPEC);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_at_another_replica_without_gap_or_repeat() {
    let cluster = Cluster::start(3).await;
    let mut first = cluster.client(0).watch(v1::WatchRequest::default()).await.unwrap().into_inner();
    let begin = first.message().await.unwrap().unwrap();
    assert!(matches!(begin.event, Some(Event::Begin(_))));
    let submitted = cluster.client(1).submit(submit_of(&noop_job("w"), "")).await.unwrap().into_inner();
    let targets = vec![v1::Target { job: submitted.job, tasks: vec![] }];
    cluster.client(2).cancel(v1::CancelRequest { header: None, targets }).await.unwrap();
    let mut seen = Vec::new();
    while !matches!(seen.last(), Some((_, Event::Job(event))) if event.state == "cancelled") {
        let reply = first.message().await.unwrap().unwrap();
        seen.push((reply.at.unwrap(), reply.event.unwrap()));
    }
    // From in between, elsewhere: the same rest.
    let (after, _) = seen[0];
    let resumed = v1::WatchRequest { job: submitted.job, after: Some(after) };
    let mut second = cluster.client(2).watch(resumed).await.unwrap().into_inner();
    assert!(matches!(second.message().await.unwrap().unwrap().event, Some(Event::Begin(_))));
    for expected in &seen[1..] {
        let reply = second.message().await.unwrap().unwrap();
        assert_eq!((reply.at.unwrap(), reply.event.unwrap()), *expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_below_the_ring_is_told_so() {
    let cluster = Cluster::start_with(1, |config: &mut Config| config.limits.events_max = 2).await;
    let mut client = cluster.client(0);
    for n in 0..4 {
        let job = client.submit(submit_of(&noop_job(&format!("{n}")), "")).await.unwrap().into_inner().job;
        let targets = vec![v1::Target { job, tasks: vec![] }];
        client.cancel(v1::CancelRequest { header: None, targets }).await.unwrap();
    }
    let after = Some(v1::Position { index: 1, place: 0 });
    let mut old = client.watch(v1::WatchRequest { job: 0, after }).await.unwrap().into_inner();
    old.message().await.unwrap();
    let Some(Event::Compacted(compacted)) = old.message().await.unwrap().unwrap().event else {
        panic!("events at index 1 are long gone")
    };
    assert!(old.message().await.unwrap().is_none(), "the stream ends");
    let again = v1::WatchRequest { job: 0, after: compacted.oldest };
    let mut fresh = client.watch(again).await.unwrap().into_inner();
    fresh.message().await.unwrap();
    let reply = fresh.message().await.unwrap().unwrap();
    assert!(matches!(reply.event, Some(Event::Job(_) | Event::Tasks(_))), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn above_its_limit_a_replica_refuses_at_once_and_says_when_to_come_back() {
    let full = |config: &mut Config| (config.limits.writes_in_flight_max, config.limits.watches_max) = (0, 0);
    let mut cluster = Cluster::found(1, full).await;
    cluster.nodes[0].server.as_mut().unwrap().started().await.unwrap();
    let mut client = cluster.client(0);
    let refused = failure(client.submit(submit_of(&noop_job("x"), "")).await);
    assert_eq!((refused.code.as_str(), refused.happened), (code::OVERLOADED, Happened::No));
    assert!(refused.retry_after.is_some_and(|wait| !wait.is_zero()), "{refused:?}");
    assert!(refused.message.contains("writes_in_flight_max"), "{}", refused.message);
    let watch = failure(client.watch(v1::WatchRequest::default()).await);
    assert_eq!(watch.code, code::LIMIT);
    // Reads are not writes.
    client.list_jobs(v1::ListJobsRequest::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_said_to_be_unknown() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let job = client.submit(submit_of(&noop_job("j"), "")).await.unwrap().into_inner().job;
    let unknown = failure(client.get_job(v1::GetJobRequest { job: 99, ..Default::default() }).await);
    assert_eq!((unknown.code.as_str(), unknown.status), (code::UNKNOWN_JOB, Code::NotFound));
    let unknown = failure(client.explain(v1::ExplainRequest { job, task: Some(5), stale: true }).await);
    assert_eq!(unknown.code, code::UNKNOWN_TASK);
    let unknown = failure(client.logs(v1::LogsRequest { job, task: 5, ..Default::default() }).await);
    assert_eq!(unknown.code, code::UNKNOWN_TASK);
    let unknown = failure(client.pause(v1::JobsRequest { header: None, jobs: vec![99] }).await);
    assert_eq!(unknown.code, code::UNKNOWN_JOB);
    let states = vec!["sleepy".to_owned()];
    let invalid = failure(client.list_jobs(v1::ListJobsRequest { states, ..Default::default() }).await);
    assert!(invalid.message.contains("states[0]"), "{}", invalid.message);
    let tenant = v1::WriteHeader { tenant: "other".to_owned(), ..Default::default() };
    let foreign = v1::SubmitRequest { header: Some(tenant), spec: Some((&noop_job("t")).into()) };
    assert_eq!(failure(client.submit(foreign).await).code, code::NOT_ALLOWED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_output_of_what_never_ran_is_a_note() {
    let cluster = Cluster::start(3).await;
    let follower = (cluster.leader(0).await + 1) % 3;
    let mut client = cluster.client(follower);
    let job = client.submit(submit_of(&noop_job("j"), "")).await.unwrap().into_inner().job;
    let asked = v1::LogsRequest { job, ..Default::default() };
    let mut logs = client.logs(asked).await.unwrap().into_inner();
    let note = logs.message().await.unwrap().unwrap();
    assert!(note.end && note.note.contains("has not started"), "{note:?}");
    assert!(logs.message().await.unwrap().is_none());
    // Followed, it waits for the start, or for what ends the waiting.
    let mut followed = client.logs(v1::LogsRequest { follow: true, ..asked }).await.unwrap().into_inner();
    let targets = vec![v1::Target { job, tasks: vec![] }];
    client.cancel(v1::CancelRequest { header: None, targets }).await.unwrap();
    let note = followed.message().await.unwrap().unwrap();
    assert!(note.end && note.note.contains("cancelled and never ran"), "{note:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_ports_harms_nobody() {
    let cluster = Cluster::start(1).await;
    let node = &cluster.nodes[0];
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let garbage: [Vec<u8>; 4] = [
        vec![0xff; 4096],
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        [preface.clone(), vec![0xff; 512]].concat(),
        // A header block that no table explains.
        [preface, vec![0, 0, 4, 4, 0, 0, 0, 0, 0], vec![0, 0, 3, 1, 5, 0, 0, 0, 1, 0xfe, 0xff, 0xff]]
            .concat(),
    ];
    for address in [node.api, node.http, node.server.as_ref().unwrap().addresses().peer] {
        for bytes in &garbage {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
        }
    }
    client(node.api).submit(submit_of(&noop_job("still"), "")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_the_size_that_was_asked_for_is_folded_into_a_snapshot() {
    let cluster = Cluster::start_with(1, |config: &mut Config| config.snapshot_log_bytes = 64 << 10).await;
    let large = JobSpec::of("large", vec![TaskSpec::new("a", Work::Run(vec!["x".repeat(20_000)]))]);
    // Far less than the default takes.
    let mut submitted = 0;
    while cluster.status(0).await.snapshot == 0 {
        cluster.client(0).submit(submit_of(&large, "")).await.unwrap();
        submitted += 1;
        assert!(submitted < 500, "no snapshot is made");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(submitted >= 3, "{submitted} jobs are not 64 KiB");
}

fn now_us() -> u64 {
    server::clock::Clock::new().wall().0
}

/// It held the process up until calls under way were cut off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_waits_for_something_to_claim_is_sent_on_when_the_replica_stops() {
    let mut cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(async move { client.offer(v1::OfferRequest { session: 1, after: 0 }).await });
    // So that it is on its way.
    cluster.status(0).await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    cluster.stop(0).await;
    let told = failure(waiting.join_next().await.unwrap().unwrap());
    assert_eq!(told.code, code::NO_LEADER, "{told:?}");
    assert!(told.message.contains("about to stop"), "{told:?}");
}
