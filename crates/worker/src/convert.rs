//! Between the generated messages of the worker's stream and worker-core's plain types.

use std::sync::Arc;
use std::time::Duration;

use model::settings::Lease;
use model::time::micros;
use model::{JobId, Kind, OnDisconnect, Pace, Reason, Run, SessionId, TaskSpec, Token, Verdict};
use wire::v1;
use wire::v1::leader_message::Message as Said;
use wire::v1::worker_message::Message as Word;
use worker_core::{
    Batch, Ended, Event, Fetch, Gang, Hello, Hold, Message, News, Order, Outgoing, Refusal, Report, Welcome,
};

use crate::clock;
use crate::finish::Bounds;

/// What the leader said, and the limits that came with it.
#[derive(Debug)]
pub struct Heard {
    pub event: Event,
    pub bounds: Option<Bounds>,
}

/// What a later version may add is nothing.
pub fn heard(said: v1::LeaderMessage) -> Option<Heard> {
    let message = said.message?;
    let mut bounds = None;
    let message = match message {
        Said::Welcome(said) => {
            bounds =
                Some(Bounds { result_bytes_max: said.result_bytes_max, tail_bytes_max: said.tail_bytes_max });
            Message::Welcome(welcome(said))
        }
        Said::Renewed(said) => {
            let told = Some(said.heartbeat_us).filter(|us| *us > 0);
            Message::Renewed { number: said.number, heartbeat: told.map(Duration::from_micros) }
        }
        Said::Run(said) => run(said),
        Said::Stop(said) => Message::Stop { seq: said.seq, token: Token(said.token) },
        Said::Switch(said) => {
            let to = if said.runs { Pace::Runs } else { Pace::StandsStill };
            Message::Switch { seq: said.seq, token: Token(said.token), to }
        }
        Said::Recall(said) => Message::Recall { seq: said.seq, token: Token(said.token) },
        Said::Acked(said) => Message::Acked { number: said.number, fenced: said.fenced },
        Said::FetchLog(said) => Message::FetchLog(fetch(&said)),
        Said::CloseFetch(said) => Message::CloseFetch { fetch: said.fetch },
        Said::NotLeader(said) => {
            Message::NotLeader { leader: Some(said.leader).filter(|leader| !leader.is_empty()) }
        }
        Said::Refused(said) => {
            Message::Refused(Refusal { code: said.code, message: said.message, fix: said.fix })
        }
        Said::SessionEnded(_) => Message::SessionEnded,
        Said::Drain(_) => Message::Drain,
        Said::Resume(_) => Message::Resume,
    };
    let event = Event::Said { term: said.term, applied: said.applied, message };
    Some(Heard { event, bounds })
}

/// An order that cannot be read, say of a later version, is answered: nobody else would ever report its end.
fn run(said: v1::Order) -> Message {
    let (seq, token, job) = (said.seq, Token(said.token), JobId(said.job));
    let tasks = said.tasks.and_then(|tasks| Run::try_from(tasks).ok()).unwrap_or(Run::new(0, u32::MAX));
    match order(said) {
        Ok(order) => Message::Run(Arc::new(order)),
        Err(why) => {
            tracing::error!(why, "the leader sent an order that cannot be read");
            let message = format!("this worker cannot read its order: {why}");
            let mut ended = Ended::new(Verdict::Failed, Reason::Unsupported, &message, clock::wall());
            Bounds::default().apply(&mut ended);
            let news = News::Ended(Box::new(ended));
            Message::Unreadable(Box::new(Report { seq, token, job, tasks, news }))
        }
    }
}

fn welcome(said: v1::Welcome) -> Welcome {
    let lease = Lease {
        heartbeat: Duration::from_micros(said.heartbeat_us.max(1_000)),
        ttl: Duration::from_micros(said.lease_us),
        margin: Duration::from_micros(said.margin_us),
    };
    Welcome { session: SessionId(said.session), lease, replicas: said.replicas }
}

fn order(said: v1::Order) -> Result<Order, String> {
    let on_disconnect = OnDisconnect::from(said.on_disconnect());
    let unreadable = |why: String| format!("order {} of {}: {why}", said.seq, JobId(said.job));
    let tasks = said.tasks.ok_or_else(|| unreadable("it names no tasks".to_owned()))?;
    let spec = said.spec.ok_or_else(|| unreadable("it has no spec".to_owned()))?;
    let spec = TaskSpec::try_from(spec).map_err(|errors| {
        unreadable(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })?;
    Ok(Order {
        seq: said.seq,
        token: Token(said.token),
        job: JobId(said.job),
        tasks: Run::try_from(tasks)?,
        attempt: said.attempt,
        held: said.held,
        job_name: said.job_name,
        spec: Arc::new(spec),
        array_index: said.array_index,
        array_step: said.array_step,
        lines: said.lines,
        units: said.units.into_iter().map(Into::into).collect(),
        on_disconnect,
        traceparent: said.traceparent,
        gang: said.gang.map(|gang| Gang {
            rank: gang.rank,
            addresses: gang.addresses,
            local_rank: gang.local_rank,
            local_size: gang.local_size,
            port: u16::try_from(gang.port).unwrap_or_default(),
        }),
    })
}

fn fetch(said: &v1::FetchLog) -> Fetch {
    Fetch {
        fetch: said.fetch,
        job: JobId(said.job),
        task: said.task,
        attempt: said.attempt,
        follow: said.follow,
        stdout_offset: said.stdout_offset,
        stderr_offset: said.stderr_offset,
    }
}

/// What does not change while the worker runs.
#[derive(Clone, Debug)]
pub struct Introduction {
    pub worker: String,
    pub secret: Vec<u8>,
    pub capacity: model::Capacity,
    pub labels: std::collections::BTreeMap<String, String>,
    pub kinds: Vec<Kind>,
    pub functions: Vec<String>,
    pub isolation: String,
}

pub fn word(outgoing: Outgoing, introduction: &Introduction) -> v1::WorkerMessage {
    let word = match outgoing {
        Outgoing::Hello(said) => Word::Hello(hello(said, introduction)),
        Outgoing::Heartbeat { number } => Word::Heartbeat(v1::Heartbeat { number }),
        Outgoing::Reports(batch) => Word::Reports(reports(batch)),
        Outgoing::Goodbye => Word::Goodbye(v1::Goodbye {}),
    };
    v1::WorkerMessage { message: Some(word) }
}

fn hello(hello: Hello, own: &Introduction) -> v1::Hello {
    v1::Hello {
        worker: own.worker.clone(),
        secret: own.secret.clone().into(),
        session: hello.session.map(|id| id.0),
        capacity: Some((&own.capacity).into()),
        labels: own.labels.clone(),
        kinds: own.kinds.iter().map(ToString::to_string).collect(),
        functions: own.functions.clone(),
        isolation: own.isolation.clone(),
        term: hello.term,
        watermark: hello.watermark,
        gaps: hello.gaps,
        holds: hello.holds.into_iter().map(hold).collect(),
        reports: hello.reports.map(reports),
    }
}

fn hold(hold: Hold) -> v1::HeldAttempt {
    v1::HeldAttempt { seq: hold.seq, token: hold.token.0, job: hold.job.0, tasks: Some(hold.tasks.into()) }
}

fn reports(batch: Batch) -> v1::Reports {
    v1::Reports { number: batch.number, reports: batch.reports.into_iter().map(report).collect() }
}

fn report(report: Report) -> v1::Report {
    let news = match report.news {
        News::Started { at } => v1::report::News::Started(v1::Started { at_unix_us: at.0 }),
        News::Ended(end) => v1::report::News::Ended(ended(*end)),
        News::Recalled => v1::report::News::Recalled(v1::Recalled {}),
    };
    v1::Report { seq: report.seq, token: report.token.0, tasks: Some(report.tasks.into()), news: Some(news) }
}

fn ended(ended: Ended) -> v1::Ended {
    v1::Ended {
        verdict: verdict(ended.verdict).to_owned(),
        reason: reason(ended.reason).to_owned(),
        exit_code: ended.exit_code,
        signal: ended.signal,
        message: ended.message,
        result: ended.result.as_deref().map(Into::into),
        started_unix_us: ended.started.map(|at| at.0),
        ended_unix_us: ended.ended.0,
        cpu_time_us: micros(ended.cpu_time),
        memory_peak: ended.memory_peak,
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Succeeded => "succeeded",
        Verdict::Failed => "failed",
        Verdict::Lost => "lost",
        Verdict::Cancelled => "cancelled",
    }
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Exited => "exited",
        Reason::TimedOut => "timed_out",
        Reason::Cancelled => "cancelled",
        Reason::NotStarted => "not_started",
        Reason::OutOfMemory => "out_of_memory",
        Reason::LeaseEnded => "lease_ended",
        Reason::WorkerLost => "worker_lost",
        Reason::Unsupported => "unsupported",
        Reason::WaitedTooLong => "waited_too_long",
    }
}
