//! A leader as workers see one: a real gRPC server whose words the test chooses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::Stream;
use model::{TaskSpec, Work};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use wire::v1;
use wire::v1::leader_message::Message as Say;
use wire::v1::report::News;
use wire::v1::worker_message::Message as Word;
use wire::v1::workers_server::{Workers, WorkersServer};

type Words = mpsc::UnboundedSender<Result<v1::LeaderMessage, Status>>;

/// How it answers by itself.
#[derive(Clone)]
pub struct Manner {
    pub session: u64,
    pub lease: Duration,
    pub renews: bool,
    pub acks: bool,
    /// Not the leader: says this address.
    pub redirect: Option<String>,
}

struct Shared {
    manner: Manner,
    stream: Option<Words>,
    heard: mpsc::UnboundedSender<Word>,
}

pub struct Leader {
    pub address: String,
    shared: Arc<Mutex<Shared>>,
    heard: mpsc::UnboundedReceiver<Word>,
    /// Heard while something else was waited for.
    pub ends: BTreeMap<(u64, u32), v1::Report>,
    pub starts: Vec<v1::Report>,
    pub recalled: Vec<u64>,
    pub hellos: Vec<v1::Hello>,
    pub logs: Vec<v1::LogChunk>,
    pub batches: u64,
    pub goodbyes: u64,
    _server: JoinSet<()>,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Leader {
    pub async fn start() -> Leader {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let (sender, heard) = mpsc::unbounded_channel();
        let manner =
            Manner { session: 1, lease: Duration::from_secs(60), renews: true, acks: true, redirect: None };
        let shared = Arc::new(Mutex::new(Shared { manner, stream: None, heard: sender }));
        let service = Service(shared.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let service = WorkersServer::new(service);
            let incoming = TcpListenerStream::new(listener);
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Leader {
            address: address.to_string(),
            shared,
            heard,
            ends: BTreeMap::new(),
            starts: Vec::new(),
            recalled: Vec::new(),
            hellos: Vec::new(),
            logs: Vec::new(),
            batches: 0,
            goodbyes: 0,
            _server: server,
        }
    }

    pub fn manner(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut self.shared.lock().unwrap().manner);
    }

    pub fn say(&self, message: Say) {
        let shared = self.shared.lock().unwrap();
        let stream = shared.stream.as_ref().expect("a worker is attached");
        let _ = stream.send(Ok(said(message)));
    }

    /// Cuts the stream, as a leader does that dies.
    pub fn hang_up(&self) {
        self.shared.lock().unwrap().stream = None;
    }

    async fn hear(&mut self) {
        match self.heard.recv().await.expect("the server lives") {
            Word::Hello(hello) => {
                self.note(hello.reports.clone());
                self.hellos.push(hello);
            }
            Word::Reports(reports) => self.note(Some(reports)),
            Word::Heartbeat(_) => {}
            Word::Log(chunk) => self.logs.push(chunk),
            Word::Goodbye(_) => self.goodbyes += 1,
        }
    }

    fn note(&mut self, reports: Option<v1::Reports>) {
        let Some(reports) = reports else { return };
        self.batches += 1;
        for report in reports.reports {
            match report.news {
                Some(News::Started(_)) => self.starts.push(report),
                Some(News::Ended(_)) => {
                    let key = (report.seq, report.tasks.unwrap().first);
                    self.ends.insert(key, report);
                }
                Some(News::Recalled(_)) => self.recalled.push(report.seq),
                None => panic!("a report without news"),
            }
        }
    }

    pub async fn until(&mut self, is_so: impl Fn(&Leader) -> bool) {
        let wait = async {
            while !is_so(self) {
                self.hear().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the worker says it");
    }

    pub async fn attached(&mut self) {
        let before = self.hellos.len();
        self.until(|leader| leader.hellos.len() > before).await;
    }

    pub async fn started(&mut self, seq: u64) {
        self.until(|leader| leader.starts.iter().any(|report| report.seq == seq)).await;
    }

    pub async fn end(&mut self, seq: u64, task: u32) -> v1::Ended {
        self.until(|leader| leader.ends.contains_key(&(seq, task))).await;
        match self.ends.remove(&(seq, task)).and_then(|report| report.news) {
            Some(News::Ended(ended)) => ended,
            other => panic!("{other:?}"),
        }
    }

    /// Runs it as order `seq`, task `seq`, and waits for its end.
    pub async fn run(&mut self, seq: u64, spec: TaskSpec) -> v1::Ended {
        self.say(Say::Run(order(seq, spec)));
        self.end(seq, seq as u32).await
    }

    pub async fn log(&mut self, fetch: u64) -> (String, String, String) {
        let is_end = |log: &v1::LogChunk| log.fetch == fetch && log.chunk.as_ref().unwrap().end;
        self.until(|leader| leader.logs.iter().any(is_end)).await;
        let (mut out, mut err, mut note) = (Vec::new(), Vec::new(), String::new());
        for log in self.logs.iter().filter(|log| log.fetch == fetch) {
            let chunk = log.chunk.as_ref().unwrap();
            note.push_str(&chunk.note);
            let to = if chunk.stream() == v1::logs_reply::Stream::Stdout { &mut out } else { &mut err };
            to.extend_from_slice(&chunk.data);
        }
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), note)
    }
}

fn said(message: Say) -> v1::LeaderMessage {
    v1::LeaderMessage { term: 1, applied: 1, message: Some(message) }
}

struct Service(Arc<Mutex<Shared>>);

#[tonic::async_trait]
impl Workers for Service {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<v1::LeaderMessage, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut inbound = request.into_inner();
        let (words, out) = mpsc::unbounded_channel();
        let weak = words.downgrade();
        self.0.lock().unwrap().stream = Some(words);
        let shared = self.0.clone();
        // Lives as long as its stream: it ends with the runtime of the test.
        #[allow(clippy::disallowed_methods)]
        tokio::spawn(async move {
            while let Some(Ok(word)) = inbound.next().await {
                let Some(word) = word.message else { continue };
                let Some(words) = weak.upgrade() else { return };
                let mut shared = shared.lock().unwrap();
                answer(&word, &shared.manner, &words);
                let is_redirected = shared.manner.redirect.is_some();
                if is_redirected {
                    shared.stream = None;
                }
                let _ = shared.heard.send(word);
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(out))))
    }
}

fn answer(word: &Word, manner: &Manner, words: &Words) {
    let ack = |reports: &v1::Reports| Say::Acked(v1::ReportsAcked { number: reports.number, fenced: vec![] });
    let mut answers = Vec::new();
    match word {
        Word::Hello(_) if manner.redirect.is_some() => {
            let leader = manner.redirect.clone().unwrap();
            answers.push(Say::NotLeader(v1::NotLeader { leader }));
        }
        Word::Hello(hello) => {
            answers.push(Say::Welcome(v1::Welcome {
                session: manner.session,
                heartbeat_us: 100_000,
                lease_us: manner.lease.as_micros() as u64,
                margin_us: 1_000_000,
                replicas: vec![],
                result_bytes_max: 100,
                tail_bytes_max: 2_048,
            }));
            answers.extend(hello.reports.as_ref().filter(|_| manner.acks).map(ack));
        }
        Word::Heartbeat(beat) if manner.renews => {
            answers.push(Say::Renewed(v1::Renewed { number: beat.number, heartbeat_us: 0 }))
        }
        Word::Reports(reports) if manner.acks => answers.push(ack(reports)),
        Word::Goodbye(_) => answers.push(Say::SessionEnded(v1::SessionEnded {})),
        Word::Heartbeat(_) | Word::Reports(_) | Word::Log(_) => {}
    }
    for answer in answers {
        let _ = words.send(Ok(said(answer)));
    }
}

pub fn order(seq: u64, spec: TaskSpec) -> v1::Order {
    v1::Order {
        seq,
        token: 1_000 + seq,
        job: 7,
        tasks: Some(v1::Run { first: seq as u32, len: 1 }),
        attempt: 1,
        job_name: "job".to_owned(),
        spec: Some((&spec).into()),
        array_step: 1,
        ..Default::default()
    }
}

pub fn shell(script: &str) -> TaskSpec {
    argv(&["/bin/sh", "-c", script])
}

pub fn argv(list: &[&str]) -> TaskSpec {
    let mut spec = TaskSpec::new("t", Work::Run(list.iter().map(|word| word.to_string()).collect()));
    // Tests of one host run side by side: none should wait for room.
    spec.resources.cpu = 1;
    spec
}
