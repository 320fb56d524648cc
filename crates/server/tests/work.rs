//! The way of a task through a real cluster, with a worker played by the test: registration, order, reports, output.

mod cluster;

use cluster::{Client, Cluster, get, noop_job, submit_of};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use wire::v1;
use wire::v1::leader_message::Message;
use wire::v1::logs_reply::Stream as Which;
use wire::v1::watch_reply::Event;
use wire::v1::worker_message::Message as Said;
use wire::v1::workers_client::WorkersClient;

struct Worker {
    say: mpsc::Sender<v1::WorkerMessage>,
    heard: Streaming<v1::LeaderMessage>,
}

impl Worker {
    /// Registers with the replica at `address`, which leads.
    async fn attach(address: std::net::SocketAddr) -> Worker {
        let (say, said) = mpsc::channel(64);
        let total = v1::Resources { cpu: 40_000, memory: 1 << 30, ..Default::default() };
        let hello = v1::Hello {
            worker: "w1".to_owned(),
            secret: vec![7; 32].into(),
            capacity: Some(v1::Capacity { total: Some(total), indexed: Default::default() }),
            kinds: vec!["noop".to_owned(), "process".to_owned(), "not_built_yet".to_owned()],
            ..Default::default()
        };
        say.send(v1::WorkerMessage { message: Some(Said::Hello(hello)) }).await.unwrap();
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        let heard = WorkersClient::new(channel).attach(ReceiverStream::new(said)).await.unwrap().into_inner();
        let mut worker = Worker { say, heard };
        worker.hear(|message| matches!(message, Message::Welcome(_)).then_some(())).await;
        worker
    }

    async fn hear<T>(&mut self, wanted: impl Fn(Message) -> Option<T>) -> T {
        loop {
            let message = self.heard.message().await.unwrap().expect("the leader goes on speaking");
            if let Some(found) = message.message.and_then(&wanted) {
                return found;
            }
        }
    }

    async fn order(&mut self) -> v1::Order {
        self.hear(|message| if let Message::Run(order) = message { Some(order) } else { None }).await
    }

    async fn report(&mut self, number: u64, order: &v1::Order, news: v1::report::News) {
        let report = v1::Report { seq: order.seq, token: order.token, tasks: order.tasks, news: Some(news) };
        let reports = v1::Reports { number, reports: vec![report] };
        self.say.send(v1::WorkerMessage { message: Some(Said::Reports(reports)) }).await.unwrap();
        self.hear(|message| matches!(message, Message::Acked(acked) if acked.number == number).then_some(()))
            .await;
    }

    async fn log(&mut self, fetch: u64, chunk: v1::LogsReply) {
        let chunk = v1::LogChunk { fetch, chunk: Some(chunk) };
        self.say.send(v1::WorkerMessage { message: Some(Said::Log(chunk)) }).await.unwrap();
    }
}

fn ended() -> v1::report::News {
    v1::report::News::Ended(v1::Ended {
        verdict: "succeeded".to_owned(),
        reason: "exited".to_owned(),
        exit_code: Some(0),
        started_unix_us: Some(1),
        ended_unix_us: 2,
        ..Default::default()
    })
}

async fn state(client: &mut Client, job: u64) -> String {
    let asked = v1::GetJobRequest { job, ..Default::default() };
    client.get_job(asked).await.unwrap().into_inner().job.unwrap().state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_placed_run_followed_and_finished_through_a_follower() {
    // The worker of this test sends no heartbeats: its one lease must be long enough.
    let cluster = Cluster::start_with(3, |config| config.failover = model::settings::Failover::Wan).await;
    let leader = cluster.leader(0).await;
    let mut client = cluster.client((leader + 1) % 3);
    let mut worker = Worker::attach(cluster.nodes[leader].api).await;
    let workers = client.list_workers(v1::ReadRequest::default()).await.unwrap().into_inner().workers;
    assert_eq!((workers[0].name.as_str(), workers[0].state.as_str()), ("w1", "live"));
    assert_eq!(workers[0].kinds, ["noop", "process"]);

    let submitted = client.submit(submit_of(&noop_job("work"), "")).await.unwrap().into_inner();
    let order = worker.order().await;
    assert_eq!(
        (order.job, order.tasks, order.attempt),
        (submitted.job, Some(v1::Run { first: 0, len: 1 }), 1)
    );
    worker.report(1, &order, v1::report::News::Started(v1::Started { at_unix_us: 1 })).await;
    assert_eq!(state(&mut client, submitted.job).await, "running");

    let asked = v1::LogsRequest { job: submitted.job, follow: true, ..Default::default() };
    let mut output = client.logs(asked).await.unwrap().into_inner();
    let fetch =
        worker.hear(|message| if let Message::FetchLog(fetch) = message { Some(fetch) } else { None }).await;
    assert_eq!((fetch.job, fetch.task, fetch.attempt, fetch.follow), (submitted.job, 0, 1, true));
    let chunk = v1::LogsReply {
        stream: Which::Stderr.into(),
        data: b"hello".to_vec().into(),
        attempt: 1,
        ..Default::default()
    };
    worker.log(fetch.fetch, chunk.clone()).await;
    assert_eq!(output.message().await.unwrap().unwrap(), chunk);
    let last = v1::LogsReply { end: true, attempt: 1, ..Default::default() };
    worker.log(fetch.fetch, last.clone()).await;
    assert_eq!(output.message().await.unwrap().unwrap(), last);
    assert!(output.message().await.unwrap().is_none());

    worker.report(2, &order, ended()).await;
    assert_eq!(state(&mut client, submitted.job).await, "succeeded");
    let tasks =
        client.list_tasks(v1::ListTasksRequest { job: submitted.job, ..Default::default() }).await.unwrap();
    let task = &tasks.into_inner().tasks[0];
    let outcome = task.outcome.as_ref().unwrap();
    assert_eq!((task.worker.as_str(), outcome.exit_code, outcome.attempt), ("w1", Some(0), 1));

    let after = Some(v1::Position { index: submitted.index - 1, place: u32::MAX });
    let mut events = client.watch(v1::WatchRequest { job: submitted.job, after }).await.unwrap().into_inner();
    let mut awaited = vec!["task placed", "task running", "task succeeded", "job succeeded"];
    while !awaited.is_empty() {
        let state = match events.message().await.unwrap().unwrap().event.unwrap() {
            Event::Job(event) => format!("job {}", event.state),
            Event::Tasks(event) => format!("task {}", event.state),
            _ => continue,
        };
        awaited.retain(|expected| *expected != state);
    }

    let (_, metrics) = get(cluster.nodes[leader].http, "/metrics").await;
    for line in [
        "baton_jobs_finished_total{state=\"succeeded\"} 1",
        "baton_tasks_finished_total{state=\"succeeded\"} 1",
        "baton_tasks_placed_total 1",
        "baton_queue_wait_seconds_count 1",
        "baton_worker_capacity{worker=\"w1\",resource=\"cpu\"} 4",
        "baton_workers{state=\"live\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_sent_on_by_a_replica_that_does_not_lead() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader(0).await;
    let place = (leader + 1) % 3;
    let follower = cluster.nodes[place].api;
    // Before that it has no leader to name.
    cluster.client(place).list_queues(v1::ReadRequest { stale: false }).await.unwrap();
    let (say, said) = mpsc::channel(4);
    let hello = v1::Hello { worker: "w1".to_owned(), secret: vec![7; 32].into(), ..Default::default() };
    say.send(v1::WorkerMessage { message: Some(Said::Hello(hello)) }).await.unwrap();
    let channel = Channel::from_shared(format!("http://{follower}")).unwrap().connect_lazy();
    let mut heard = WorkersClient::new(channel).attach(ReceiverStream::new(said)).await.unwrap().into_inner();
    let Some(Message::NotLeader(told)) = heard.message().await.unwrap().unwrap().message else {
        panic!("a follower takes no workers")
    };
    assert_eq!(told.leader, cluster.nodes[leader].api.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uncordon_takes_a_drain_back_on_the_worker_too() {
    let cluster = Cluster::start_with(1, |config| config.failover = model::settings::Failover::Wan).await;
    let mut client = cluster.client(0);
    let mut worker = Worker::attach(cluster.nodes[0].api).await;
    let named = || v1::WorkerRequest { name: "w1".to_owned(), ..Default::default() };
    client.drain(named()).await.unwrap();
    worker.hear(|message| matches!(message, Message::Drain(_)).then_some(())).await;
    client.uncordon(named()).await.unwrap();
    worker.hear(|message| matches!(message, Message::Resume(_)).then_some(())).await;
    client.submit(submit_of(&noop_job("work"), "")).await.unwrap();
    worker.order().await;
}
