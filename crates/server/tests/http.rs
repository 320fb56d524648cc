//! Probes, metrics, the status page, and the two gRPC services that every tool expects.

mod cluster;

use cluster::{Cluster, get, noop_job, submit_of};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_on_the_leader_and_describe_on_all() {
    let cluster = Cluster::start(3).await;
    for n in 0..3 {
        cluster.client(n).submit(submit_of(&noop_job("m"), "")).await.unwrap();
    }
    let leader = cluster.leader(0).await;
    let (mut submitted, mut leading) = (0, 0);
    for node in &cluster.nodes {
        let (head, body) = get(node.http, "/metrics").await;
        assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
        submitted += value(&body, "baton_jobs_submitted_total");
        leading += value(&body, "baton_raft_is_leader");
        assert!(value(&body, "baton_raft_applied_index") > 0);
        for name in [
            "baton_commit_seconds_count",
            "baton_queue_wait_seconds_count",
            "baton_placement_seconds_count",
            "baton_apply_seconds_count",
            "baton_apply_wait_seconds_count",
            "baton_snapshot_freeze_seconds_count",
        ] {
            value(&body, name);
        }
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let (name, number) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("baton_") && number.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert_eq!((submitted, leading), (3, 1));
    let (_, body) = get(cluster.nodes[leader].http, "/metrics").await;
    assert!(body.contains("baton_queue_depth{queue=\"default\"} 3"), "{body}");
    assert!(body.contains("baton_unmet_demand{queue=\"default\",resource=\"cpu\"} 3"), "{body}");
}

fn value(body: &str, name: &str) -> u64 {
    let line = body.lines().find(|line| line.split([' ', '{']).next() == Some(name));
    let text = line.unwrap_or_else(|| panic!("no {name} in {body}")).rsplit(' ').next().unwrap();
    text.parse::<f64>().unwrap() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_page_shows_the_cluster_and_lets_no_markup_in() {
    let cluster = Cluster::start(1).await;
    cluster.client(0).submit(submit_of(&noop_job("<img src=x onerror=alert(1)>"), "")).await.unwrap();
    let (head, page) = get(cluster.nodes[0].http, "/").await;
    assert!(head.contains("200 OK") && head.to_lowercase().contains("content-security-policy"), "{head}");
    assert!(!page.contains("<img") && page.contains("&lt;img src=x onerror=alert(1)&gt;"), "{page}");
    assert!(page.contains("● n1") && page.contains("default") && page.contains(">j1<"), "{page}");
    for elsewhere in ["http://", "https://", "src="] {
        assert!(!page.replace("src=x", "").contains(elsewhere), "{elsewhere}");
    }
    let (missing, _) = get(cluster.nodes[0].http, "/etc/passwd").await;
    assert!(missing.contains("404"), "{missing}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_reflection_are_served() {
    let cluster = Cluster::start(1).await;
    let channel = Channel::from_shared(format!("http://{}", cluster.nodes[0].api)).unwrap().connect_lazy();
    let mut health = HealthClient::new(channel.clone());
    let asked = HealthCheckRequest { service: "baton.v1.Baton".to_owned() };
    let mut told = health.watch(asked).await.unwrap().into_inner();
    // 1: serving. It may take a moment to be noticed.
    while told.message().await.unwrap().unwrap().status != 1 {}
    let ready = get(cluster.nodes[0].http, "/readyz").await;
    assert!(ready.0.contains("200 OK"), "{ready:?}");

    let asked = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let mut answers =
        reflection.server_reflection_info(futures::stream::iter([asked])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("not a list of services")
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"baton.v1.Baton") && names.contains(&"baton.v1.Workers"), "{names:?}");
}
