//! The API while replicas come and go.

mod cluster;

use std::time::Duration;

use cluster::{Cluster, get, noop_job, submit_of, within};
use wire::error::{Failure, Happened, code};
use wire::v1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_through_a_follower_outlives_the_leader() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader(0).await;
    let follower = (leader + 1) % 3;
    let mut client = cluster.client(follower);
    let submits = tokio::task::JoinSet::from_iter((0..20).map(|n| {
        let mut client = client.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(10 * n)).await;
            client.submit(submit_of(&noop_job(&format!("f{n}")), "")).await.unwrap().into_inner().job
        }
    }));
    cluster.stop(leader).await;
    let jobs = submits.join_all().await;
    assert_ne!(cluster.leader(follower).await, leader);
    for job in jobs {
        client.get_job(v1::GetJobRequest { job, ..Default::default() }).await.unwrap();
    }
    // One job each, whatever was sent twice on the way.
    let all = client.list_jobs(v1::ListJobsRequest { limit: 1000, ..Default::default() }).await.unwrap();
    assert_eq!(all.into_inner().jobs.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_writes_and_fresh_reads_are_refused_and_stale_ones_answered() {
    let mut cluster = Cluster::start(3).await;
    let job = cluster.client(0).submit(submit_of(&noop_job("kept"), "")).await.unwrap().into_inner().job;
    let get_job = |stale| v1::GetJobRequest { job, stale, with_spec: false };
    cluster.client(0).get_job(get_job(false)).await.unwrap();
    cluster.stop(1).await;
    cluster.stop(2).await;
    let mut client = cluster.client(0);
    let wait = Duration::from_millis(900);
    let refused = client.submit(within(wait, submit_of(&noop_job("lost"), ""))).await.unwrap_err();
    let refused = Failure::from(&refused);
    assert_eq!(refused.code, code::NO_LEADER, "{refused:?}");
    assert!(refused.request_id.is_some());
    let refused = client.get_job(within(wait, get_job(false))).await.unwrap_err();
    assert_eq!(Failure::from(&refused).code, code::NO_LEADER);
    let stale = client.get_job(get_job(true)).await.unwrap().into_inner();
    assert_eq!(stale.job.unwrap().name, "kept");
    let status = cluster.status(0).await;
    let silent = status.members.iter().filter(|member| member.role == "unreachable").count();
    assert_eq!((status.members.len(), silent), (3, 2));
    let (alive, _) = get(cluster.nodes[0].http, "/healthz").await;
    assert!(alive.contains("200 OK"), "{alive}");
    loop {
        let (ready, why) = get(cluster.nodes[0].http, "/readyz").await;
        if ready.contains("503") {
            assert!(why.contains("not ready"), "{why}");
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A second one comes back, and with it the majority.
    cluster.restart(1).await;
    cluster.client(0).submit(submit_of(&noop_job("after"), "")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_before_any_leader_did_not_happen() {
    let mut cluster = Cluster::start(3).await;
    for place in 0..3 {
        cluster.stop(place).await;
    }
    cluster.restart(0).await;
    let request = within(Duration::from_secs(4), submit_of(&noop_job("early"), ""));
    let refused = Failure::from(&cluster.client(0).submit(request).await.unwrap_err());
    assert_eq!((refused.code.as_str(), refused.happened), (code::NO_LEADER, Happened::No), "{refused:?}");
    cluster.restart(1).await;
    cluster.client(1).submit(submit_of(&noop_job("later"), "")).await.unwrap();
    let jobs = cluster.client(0).list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!(jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(), ["later"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_by_name() {
    let cluster = Cluster::start(3).await;
    for _ in 0..2 {
        let leader = cluster.leader(0).await;
        let to = (leader + 1) % 3;
        let name = cluster.nodes[to].config.name.clone();
        // Asked of a replica that has nothing to do with it.
        let asked = v1::TransferLeaderRequest { to: name.clone() };
        let reply = cluster.client((leader + 2) % 3).transfer_leader(asked).await.unwrap().into_inner();
        assert_eq!(reply.leader, name);
        cluster.client(leader).submit(submit_of(&noop_job("x"), "")).await.unwrap();
        assert_eq!(cluster.leader(to).await, to);
    }
    let nobody = v1::TransferLeaderRequest { to: "n9".to_owned() };
    let refused = Failure::from(&cluster.client(0).transfer_leader(nobody).await.unwrap_err());
    assert_eq!(refused.code, code::NOT_FOUND);
    assert!(refused.fix.contains("n1, n2, n3"), "{}", refused.fix);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_is_there_after_all_were_restarted() {
    let mut cluster = Cluster::start(3).await;
    let job = cluster.client(1).submit(submit_of(&noop_job("kept"), "")).await.unwrap().into_inner().job;
    for place in 0..3 {
        cluster.stop(place).await;
    }
    for place in 0..3 {
        cluster.restart(place).await;
    }
    let asked = v1::GetJobRequest { job, ..Default::default() };
    for place in 0..3 {
        let got = cluster.client(place).get_job(asked).await.unwrap().into_inner();
        assert_eq!(got.job.unwrap().name, "kept");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_replica_shows_nothing_before_a_quorum_has_spoken() {
    let mut cluster = Cluster::start(3).await;
    let job = cluster.client(1).submit(submit_of(&noop_job("kept"), "")).await.unwrap().into_inner().job;
    for place in 0..3 {
        cluster.stop(place).await;
    }
    cluster.restart(0).await;
    let asked = v1::GetJobRequest { job, stale: true, with_spec: false };
    // It may have applied less by now than it showed before it was stopped.
    let refused = cluster.client(0).get_job(within(Duration::from_secs(4), asked)).await.unwrap_err();
    assert_eq!(Failure::from(&refused).code, code::NO_LEADER);
    cluster.restart(1).await;
    let got = cluster.client(0).get_job(asked).await.unwrap().into_inner();
    assert_eq!(got.job.unwrap().name, "kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_replica_that_lost_its_cluster_end_and_say_why() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader(0).await;
    let mut client = cluster.client(leader);
    let job = client.submit(submit_of(&noop_job("waits"), "")).await.unwrap().into_inner().job;
    let mut events = client.watch(v1::WatchRequest::default()).await.unwrap().into_inner();
    events.message().await.unwrap();
    let asked = v1::LogsRequest { job, follow: true, ..Default::default() };
    let mut output = client.logs(asked).await.unwrap().into_inner();
    cluster.stop((leader + 1) % 3).await;
    cluster.stop((leader + 2) % 3).await;
    let ended = output.message().await.unwrap_err();
    assert!(matches!(Failure::from(&ended).code.as_str(), code::NO_LEADER | code::NOT_LEADER), "{ended:?}");
    let ended = loop {
        match events.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a word"),
            Err(status) => break Failure::from(&status),
        }
    };
    assert_eq!(ended.code, code::NO_LEADER, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_without_its_leader_and_quorum_is_not_ready() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader(0).await;
    let (follower, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let is_ready = |address| async move { get(address, "/readyz").await.0.contains("200 OK") };
    let http = cluster.nodes[follower].http;
    while !is_ready(http).await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.stop(other).await;
    cluster.stop(leader).await;
    while is_ready(http).await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (_, metrics) = get(http, "/metrics").await;
    assert!(metrics.lines().any(|line| line == "baton_ready 0"), "{metrics}");
}
