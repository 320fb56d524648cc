//! Who a replica is, and what it refuses: wiped disks, second processes, strangers and garbage.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use baton_tests::cluster::{Cluster, free_addresses};
use baton_tests::garbage::{self, Garbage};
use baton_tests::jobs::{command_job, succeeded};
use client::{Client, code};

async fn works(cluster: &Cluster) {
    for place in 0..cluster.replicas.len() {
        let client = cluster.client_of(place);
        let job = client.submit(&command_job("fine", &["true"])).await.expect("accepted").job;
        succeeded(&client, job).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_directory_under_a_members_name_is_refused_with_the_way_out() {
    let mut cluster = Cluster::start(3, 1).await;
    let victim = (cluster.leader().await + 1) % 3;
    let name = cluster.replicas[victim].name.clone();
    cluster.replicas[victim].kill();
    let (data, kept) = (cluster.data_dir(&name), cluster.data_dir("kept"));
    std::fs::rename(&data, &kept).expect("the directory is moved away");
    let (status, said) = cluster.replicas[victim].refused().await;
    assert!(!status.success(), "it started:\n{said}");
    for word in [name.as_str(), "another data directory", "put that directory back"] {
        assert!(said.contains(word), "`{word}` is missing:\n{said}");
    }
    std::fs::remove_dir_all(&data).expect("what the refused start made is removed");
    std::fs::rename(&kept, &data).expect("the directory is put back");
    cluster.replicas[victim].start();
    cluster.wait_agreed().await;
    works(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_a_data_directory_is_refused() {
    let cluster = Cluster::start(3, 1).await;
    let free = free_addresses(2);
    let first = &cluster.replicas[0];
    let (listen, peer) = (free[0].as_str(), free[1].as_str());
    let again = ["--listen", listen, "--peer-listen", peer, "--http", "off"];
    let mut second = cluster.twin(0, &again);
    let (status, said) = second.refused().await;
    assert!(!status.success() && said.contains("in use by another process"), "{said}");
    assert!(first.pid().is_some());
    let data = cluster.data_dir("w1");
    let mut second = cluster.worker("w2", &["--data-dir", data.to_str().expect("a plain path")]);
    let (status, said) = second.refused().await;
    assert!(!status.success() && said.contains("in use by another worker"), "{said}");
    works(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_name_or_cluster_is_refused() {
    let mut cluster = Cluster::start(3, 0).await;
    let victim = (cluster.leader().await + 1) % 3;
    cluster.replicas[victim].kill();
    let mut renamed = cluster.twin(victim, &["--name", "n9"]);
    let (status, said) = renamed.refused().await;
    assert!(!status.success() && said.contains("belongs to replica"), "{said}");
    let mut moved = cluster.twin(victim, &["--cluster", "other"]);
    let (status, said) = moved.refused().await;
    assert!(!status.success() && said.contains("`test`"), "{said}");
    cluster.replicas[victim].start();
    cluster.wait_agreed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_of_a_live_name_is_refused_and_the_first_goes_on() {
    let mut cluster = Cluster::start(3, 1).await;
    let other = cluster.data_dir("other");
    let mut second = cluster.worker("w1", &["--data-dir", other.to_str().expect("a plain path")]);
    let (status, said) = second.refused().await;
    assert!(!status.success(), "it started:\n{said}");
    assert!(said.contains("w1"), "{said}");
    assert!(cluster.workers[0].is_running());
    works(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_port_is_named_with_its_flag() {
    let cluster = Cluster::start(1, 0).await;
    let data = cluster.data_dir("n2");
    let free = free_addresses(1);
    let (data, peer) = (data.to_str().expect("a plain path"), free[0].as_str());
    let peers = format!("n2={peer}");
    let more = ["--name", "n2", "--data-dir", data, "--peer-listen", peer, "--peers", &peers];
    let (status, said) = cluster.twin(0, &more).refused().await;
    assert!(!status.success(), "it started:\n{said}");
    for word in ["--listen", cluster.addresses[0].as_str(), "taken"] {
        assert!(said.contains(word), "`{word}` is missing:\n{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_any_port_never_ends_a_replica() {
    let mut cluster = Cluster::start(3, 1).await;
    let mut garbage = Garbage::new(7);
    for place in 0..3 {
        for address in [&cluster.addresses[place], &cluster.peers[place], &cluster.http[place]] {
            for bytes in garbage.streams() {
                throw(address, &bytes);
            }
        }
    }
    for (service, address) in
        [("baton/v1/baton.proto", &cluster.addresses), ("baton/raft/v1/raft.proto", &cluster.peers)]
    {
        let methods = garbage::methods(service);
        assert!(methods.len() > 3, "{methods:?}");
        for address in address {
            garbage.call(address, &methods).await;
        }
    }
    for replica in &mut cluster.replicas {
        assert!(replica.is_running(), "{} has ended:\n{}", replica.name, replica.log_tail());
        let log = replica.log();
        assert!(!log.contains("panicked"), "{}", replica.log_tail());
        for port in ["api", "peer"] {
            let warning = format!("what came is not HTTP/2; the connection is closed port=\"{port}\"");
            let count = log.lines().filter(|line| line.contains(&warning)).count();
            assert!(count >= 1, "{port}: {count} times\n{}", replica.log_tail());
        }
    }
    works(&cluster).await;
    let views = cluster.wait_agreed().await;
    assert!(views.iter().all(|view| view.digest == views[0].digest && view.alarms.is_empty()), "{views:#?}");
}

/// Sends the bytes, listens a moment for an answer, and hangs up.
fn throw(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket has timeouts");
    stream.set_write_timeout(Some(Duration::from_secs(5))).expect("a socket has timeouts");
    // It may be hung up on at any byte.
    let _ = stream.write_all(bytes);
    let _ = stream.read(&mut [0; 1024]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_giant_job_is_refused_by_the_name_of_the_limit() {
    let cluster = Cluster::start(3, 0).await;
    let client = cluster.client();
    let mut spec = command_job("giant", &["true"]);
    spec.tasks[0].stdin = Some(Box::new(model::Blob::inline(vec![7; 300 << 10])));
    let error = client.submit(&spec).await.expect_err("refused");
    assert_eq!(error.code(), code::INVALID_SPEC);
    assert!(error.failure.message.contains("inline_bytes_per_job_max"), "{error:?}");
    let mut spec = command_job("huge", &["true"]);
    spec.tasks[0].stdin = Some(Box::new(model::Blob::inline(vec![7; 40 << 20])));
    let error = client.submit(&spec).await.expect_err("refused");
    assert!(!error.is_unavailable(), "{error:?}");
    let mut spec = command_job("many", &["true"]);
    spec.tasks[0].array = Some("0-10000000".parse().expect("a range"));
    let error = client.submit(&spec).await.expect_err("refused");
    assert!(error.failure.message.contains("tasks_per_job_max"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_probes_and_metrics_are_served_by_every_replica() {
    let cluster = Cluster::start(3, 1).await;
    works(&cluster).await;
    for address in &cluster.http {
        assert!(get(address, "/healthz").starts_with("HTTP/1.1 200"));
        assert!(get(address, "/readyz").starts_with("HTTP/1.1 200"));
        let metrics = get(address, "/metrics");
        assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("# TYPE baton_"), "{metrics}");
        let page = get(address, "/");
        assert!(page.contains("<html") && page.contains("w1"), "{page}");
        assert!(get(address, "/nothing").starts_with("HTTP/1.1 404"));
    }
    let lonely = Client::connect([cluster.addresses[0].clone()]);
    lonely.cluster_status().await.expect("it still answers");
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in text");
    answer
}
