//! The leader's task in real processes' place: three replicas on loopback, and workers that are played by the test.

use std::collections::BTreeMap;
use std::time::Duration;

use server::{Config, Listeners, Peer, Server};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use wire::v1;
use wire::v1::baton_client::BatonClient;
use wire::v1::leader_message::Message as Said;
use wire::v1::worker_message::Message as Say;
use wire::v1::workers_client::WorkersClient;

const PATIENCE: Duration = Duration::from_secs(20);
const NAMES: [&str; 3] = ["n1", "n2", "n3"];

struct Cluster {
    dir: TempDir,
    servers: BTreeMap<&'static str, Server>,
    peers: Vec<Peer>,
    apis: BTreeMap<&'static str, String>,
}

impl Cluster {
    async fn start() -> Cluster {
        Cluster::of(&NAMES).await
    }

    async fn of(names: &[&'static str]) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let config = |name: &str| Config::new("lead-test", name, dir.path().join(name));
        let bound: Vec<(Config, Listeners)> = names
            .iter()
            .map(|name| {
                let config = config(name);
                let listeners = Listeners::bind(&config).unwrap();
                (config, listeners)
            })
            .collect();
        let peers: Vec<Peer> = bound
            .iter()
            .map(|(config, listeners)| Peer {
                name: config.name.clone(),
                address: listeners.addresses().unwrap().peer.to_string(),
            })
            .collect();
        let mut cluster =
            Cluster { dir, servers: BTreeMap::new(), peers: peers.clone(), apis: BTreeMap::new() };
        for (name, (config, listeners)) in names.iter().copied().zip(bound) {
            cluster.apis.insert(name, listeners.addresses().unwrap().api.to_string());
            let config = Config { peers: peers.clone(), ..config };
            cluster.servers.insert(name, Server::start_on(config, listeners).await.unwrap());
        }
        for server in cluster.servers.values_mut() {
            server.started().await.unwrap();
        }
        cluster
    }

    fn api(&self, name: &str) -> BatonClient<Channel> {
        BatonClient::new(channel(&self.apis[name]))
    }

    /// Name of a leader that answers a write through each replica that runs.
    async fn leader(&self) -> &'static str {
        let ask = async {
            loop {
                for name in self.servers.keys() {
                    let asked = self.api(name).cluster_status(v1::ReadRequest { stale: true }).await;
                    let Ok(status) = asked else { continue };
                    let leader = status.into_inner().leader;
                    if let Some(leader) = NAMES.into_iter().find(|name| *name == leader)
                        && self.servers.contains_key(leader)
                    {
                        return leader;
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ask).await.expect("a leader is elected")
    }

    /// Stops a replica without handing anything over.
    fn kill(&mut self, name: &str) {
        drop(self.servers.remove(name));
    }
}

fn channel(address: &str) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

async fn submit(api: &mut BatonClient<Channel>, task: v1::TaskSpec) -> u64 {
    let spec = v1::JobSpec { name: "job".to_owned(), tasks: vec![task], ..Default::default() };
    let request = v1::SubmitRequest { header: None, spec: Some(spec) };
    let submitted = tokio::time::timeout(PATIENCE, api.submit(request)).await.expect("an answer");
    submitted.unwrap().into_inner().job
}

fn noop() -> v1::TaskSpec {
    let kind = Some(v1::task_spec::Kind::Noop(v1::Noop {}));
    v1::TaskSpec { name: "t".to_owned(), kind, ..Default::default() }
}

/// A worker without hands: it says what the test tells it to say.
struct Worker {
    say: mpsc::Sender<v1::WorkerMessage>,
    hear: Streaming<v1::LeaderMessage>,
    term: u64,
}

impl Worker {
    /// Goes from replica to replica until one welcomes it.
    async fn attach(cluster: &Cluster, hello: v1::Hello) -> (Worker, v1::Welcome) {
        let find = async {
            loop {
                for name in cluster.servers.keys() {
                    let Some(mut worker) = Worker::open(&cluster.apis[name]).await else { continue };
                    worker.say(Say::Hello(hello.clone())).await;
                    if let Some(Said::Welcome(welcome)) = worker.next().await {
                        return (worker, welcome);
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, find).await.expect("the worker is welcomed")
    }

    async fn open(address: &str) -> Option<Worker> {
        let (say, said) = mpsc::channel(64);
        let mut client = WorkersClient::new(channel(address));
        let hear = client.attach(ReceiverStream::new(said)).await.ok()?.into_inner();
        Some(Worker { say, hear, term: 0 })
    }

    async fn say(&self, message: Say) {
        // A stream that has ended says so when it is read.
        drop(self.say.send(v1::WorkerMessage { message: Some(message) }).await);
    }

    /// The next message; none when the stream has ended. That it does not drain it is told whenever its row changes.
    async fn next(&mut self) -> Option<Said> {
        loop {
            let message =
                tokio::time::timeout(PATIENCE, self.hear.message()).await.expect("a word from the leader");
            let message = message.ok()??;
            assert!(message.term >= self.term);
            self.term = message.term;
            match message.message {
                Some(Said::Resume(_)) => {}
                other => return other,
            }
        }
    }

    async fn order(&mut self) -> v1::Order {
        match self.next().await {
            Some(Said::Run(order)) => order,
            other => panic!("not an order: {other:?}"),
        }
    }
}

fn hello(name: &str, cores: u64) -> v1::Hello {
    let total = v1::Resources { cpu: cores * 10_000, ..Default::default() };
    v1::Hello {
        worker: name.to_owned(),
        secret: name.as_bytes().to_vec().into(),
        capacity: Some(v1::Capacity { total: Some(total), ..Default::default() }),
        kinds: vec!["noop".to_owned(), "process".to_owned()],
        ..Default::default()
    }
}

fn held(order: &v1::Order) -> v1::HeldAttempt {
    v1::HeldAttempt { seq: order.seq, token: order.token, job: order.job, tasks: order.tasks }
}

fn succeeded(number: u64, order: &v1::Order) -> v1::Reports {
    let ended =
        v1::Ended { verdict: "succeeded".to_owned(), reason: "exited".to_owned(), ..Default::default() };
    let news = Some(v1::report::News::Ended(ended));
    v1::Reports {
        number,
        reports: vec![v1::Report { seq: order.seq, token: order.token, tasks: order.tasks, news }],
    }
}

async fn state_of(api: &mut BatonClient<Channel>, job: u64) -> String {
    let request = v1::GetJobRequest { job, ..Default::default() };
    api.get_job(request).await.unwrap().into_inner().job.unwrap().state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_runs_across_the_death_of_the_leader() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let (mut worker, welcome) = Worker::attach(&cluster, hello("w", 1)).await;
    assert_eq!(welcome.replicas.len(), 3);
    let follower = NAMES.into_iter().find(|name| *name != leader).unwrap();
    let mut api = cluster.api(follower);
    let job = submit(&mut api, noop()).await;
    let order = worker.order().await;
    assert_eq!((order.job, order.attempt), (job, 1));

    cluster.kill(leader);
    // The stream ends with its leader; the attempt goes on, and its end is said to the next one.
    while worker.next().await.is_some() {}
    let back = v1::Hello {
        session: Some(welcome.session),
        watermark: order.seq,
        holds: vec![held(&order)],
        term: worker.term,
        ..hello("w", 1)
    };
    let (mut worker, again) = Worker::attach(&cluster, back).await;
    assert_eq!(again.session, welcome.session);
    worker.say(Say::Heartbeat(v1::Heartbeat { number: 7 })).await;
    assert_eq!(worker.next().await, Some(Said::Renewed(v1::Renewed { number: 7, heartbeat_us: 0 })));
    worker.say(Say::Reports(succeeded(1, &order))).await;
    assert_eq!(worker.next().await, Some(Said::Acked(v1::ReportsAcked { number: 1, fenced: vec![] })));
    assert_eq!(state_of(&mut api, job).await, "succeeded");

    // The new leader places too.
    let second = submit(&mut api, noop()).await;
    assert!(second > job);
    assert_eq!(worker.order().await.job, second);
    drop(cluster.dir);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_replica_names_the_leader_and_ends_the_stream() {
    let cluster = Cluster::start().await;
    let (_worker, _) = Worker::attach(&cluster, hello("w", 1)).await;
    let leader = cluster.leader().await;
    let follower = NAMES.into_iter().find(|name| *name != leader).unwrap();
    let mut lost = Worker::open(&cluster.apis[follower]).await.unwrap();
    lost.say(Say::Hello(hello("v", 1))).await;
    let leader = cluster.apis[leader].clone();
    assert_eq!(lost.next().await, Some(Said::NotLeader(v1::NotLeader { leader })));
    assert_eq!(lost.next().await, None);
    assert_eq!(cluster.peers.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_comes_from_the_worker_that_has_it_through_any_replica() {
    let cluster = Cluster::start().await;
    let (mut worker, _) = Worker::attach(&cluster, hello("w", 1)).await;
    let leader = cluster.leader().await;
    let follower = NAMES.into_iter().find(|name| *name != leader).unwrap();
    let mut api = cluster.api(follower);
    let job = submit(&mut api, noop()).await;
    let order = worker.order().await;
    let reading = async {
        let request = v1::LogsRequest { job, task: 0, ..Default::default() };
        let mut output = api.logs(request).await.unwrap().into_inner();
        let mut text = Vec::new();
        while let Some(chunk) = output.message().await.unwrap() {
            text.extend_from_slice(&chunk.data);
            if chunk.end {
                break;
            }
        }
        String::from_utf8(text).unwrap()
    };
    let serving = async {
        let Some(Said::FetchLog(wanted)) = worker.next().await else { panic!("nobody asks for output") };
        assert_eq!((wanted.job, wanted.task), (job, 0));
        for (offset, text, end) in [(0, "hello ", false), (6, "world", true)] {
            let data = text.as_bytes().to_vec().into();
            let chunk = v1::LogsReply { offset, data, end, attempt: order.attempt, ..Default::default() };
            worker.say(Say::Log(v1::LogChunk { fetch: wanted.fetch, chunk: Some(chunk) })).await;
        }
    };
    let (text, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(reading, serving) }).await.unwrap();
    assert_eq!(text, "hello world");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_submits_at_once_are_each_done_once() {
    let cluster = Cluster::start().await;
    cluster.leader().await;
    let requests: Vec<v1::SubmitRequest> = (0..1_000)
        .map(|_| v1::SubmitRequest {
            header: None,
            spec: Some(v1::JobSpec { tasks: vec![noop()], ..Default::default() }),
        })
        .collect();
    let mut api = cluster.api("n2");
    let answers = api.submit_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let collect = tokio_stream::StreamExt::collect::<Vec<_>>(answers);
    let answers = tokio::time::timeout(PATIENCE, collect).await.expect("all are answered");
    let jobs: std::collections::BTreeSet<u64> = answers
        .into_iter()
        .map(|answer| match answer.unwrap().outcome {
            Some(v1::submit_result::Outcome::Accepted(reply)) => reply.job,
            other => panic!("not accepted: {other:?}"),
        })
        .collect();
    assert_eq!(jobs.len(), 1_000);
    let counts = api.cluster_status(v1::ReadRequest::default()).await.unwrap().into_inner();
    assert_eq!(counts.unfinished_jobs, 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_cluster_renews_leases_and_writes_nothing() {
    let cluster = Cluster::start().await;
    let (mut worker, _) = Worker::attach(&cluster, hello("w", 1)).await;
    let mut api = cluster.api(cluster.leader().await);
    let mut last_log =
        async || api.cluster_status(v1::ReadRequest::default()).await.unwrap().into_inner().last_log;
    let before = last_log().await;
    // Longer than every election timeout.
    for number in 1..=30 {
        worker.say(Say::Heartbeat(v1::Heartbeat { number })).await;
        assert_eq!(worker.next().await, Some(Said::Renewed(v1::Renewed { number, heartbeat_us: 0 })));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(last_log().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_majority_gone_nothing_is_renewed_and_writes_are_refused() {
    let mut cluster = Cluster::start().await;
    let (mut worker, _) = Worker::attach(&cluster, hello("w", 1)).await;
    let leader = cluster.leader().await;
    for follower in NAMES.into_iter().filter(|name| *name != leader) {
        cluster.kill(follower);
    }
    let refused = async {
        for number in 1.. {
            worker.say(Say::Heartbeat(v1::Heartbeat { number })).await;
            match worker.next().await {
                Some(Said::Renewed(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                other => return other,
            }
        }
        None
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("renewals end");
    assert!(matches!(refused, Some(Said::NotLeader(_)) | None), "{refused:?}");
    let spec = v1::JobSpec { tasks: vec![noop()], ..Default::default() };
    let mut request = tonic::Request::new(v1::SubmitRequest { header: None, spec: Some(spec) });
    request.set_timeout(Duration::from_secs(3));
    let status = cluster.api(leader).submit(request).await.unwrap_err();
    let failure = wire::error::Failure::from(&status);
    assert_eq!(
        (failure.code.as_str(), failure.happened),
        ("no-leader", wire::error::Happened::No),
        "{failure:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_cannot_be_read_ends_the_stream_and_nothing_else() {
    let cluster = Cluster::start().await;
    let (mut worker, _) = Worker::attach(&cluster, hello("w", 1)).await;
    let bad = v1::Reports { number: 1, reports: vec![v1::Report::default()] };
    worker.say(Say::Reports(bad)).await;
    while worker.next().await.is_some() {}
    Worker::attach(&cluster, hello("v", 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_words_cannot_be_kept_is_told_so() {
    let cluster = Cluster::of(&["n1"]).await;
    Worker::attach(&cluster, hello("good", 1)).await;
    let mut bad = Worker::open(&cluster.apis["n1"]).await.unwrap();
    bad.say(Say::Hello(hello("a name with blanks", 1))).await;
    let Some(Said::Refused(refused)) = bad.next().await else { panic!("it is not told") };
    assert!(refused.code == "invalid-spec" && refused.message.starts_with("worker: "), "{refused:?}");
    assert_eq!(bad.next().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_are_answered_while_submits_flood_in() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let (mut worker, _) = Worker::attach(&cluster, hello("w", 1)).await;
    // Fits nowhere, so that no orders come between.
    let large =
        v1::TaskSpec { resources: Some(v1::Resources { cpu: 990_000, ..Default::default() }), ..noop() };
    let spec = v1::JobSpec { tasks: vec![large], ..Default::default() };
    let submits = std::iter::repeat(v1::SubmitRequest { header: None, spec: Some(spec) });
    let mut api = cluster.api(leader);
    let mut answers = api.submit_stream(tokio_stream::iter(submits)).await.unwrap().into_inner();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let mut flood = tokio::task::JoinSet::new();
    flood.spawn(async move {
        answers.message().await.unwrap();
        begun.send(()).unwrap();
        // It does not end before it is ended.
        while answers.message().await.unwrap().is_some() {}
    });
    has_begun.await.unwrap();
    for number in 1..=20 {
        worker.say(Say::Heartbeat(v1::Heartbeat { number })).await;
        assert_eq!(worker.next().await, Some(Said::Renewed(v1::Renewed { number, heartbeat_us: 0 })));
    }
    flood.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_one_is_its_own_quorum() {
    let cluster = Cluster::of(&["n1"]).await;
    let (mut worker, _) = Worker::attach(&cluster, hello("w", 4)).await;
    let mut api = cluster.api("n1");
    for number in 1..=20 {
        worker.say(Say::Heartbeat(v1::Heartbeat { number })).await;
        assert_eq!(worker.next().await, Some(Said::Renewed(v1::Renewed { number, heartbeat_us: 0 })));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let job = submit(&mut api, noop()).await;
    assert_eq!(worker.order().await.job, job);
}
