//! Between the wire and the leader's own words.

use leader_core::{FromWorker, Held, Hello, Offer, Order, Reports, ToWorker};
use machine::{News, Report};
use model::time::micros;
use model::{Pace, SessionId, SpecError, TaskSpec, Token};
use wire::convert::open_session;
use wire::error::Failure;
use wire::v1;
use wire::v1::leader_message::Message as ToWire;
use wire::v1::worker_message::Message as FromWire;

/// A worker's message that is the leader's business; output of attempts is not.
pub enum Heard {
    Leader(FromWorker),
    Log(v1::LogChunk),
}

pub fn heard(message: v1::WorkerMessage) -> Result<Heard, Vec<SpecError>> {
    let message = match message.message {
        Some(FromWire::Hello(hello)) => FromWorker::Hello(Box::new(read_hello(hello)?)),
        Some(FromWire::Heartbeat(beat)) => FromWorker::Heartbeat { number: beat.number },
        Some(FromWire::Reports(reports)) => FromWorker::Reports(read_reports(reports)?),
        Some(FromWire::Log(chunk)) => return Ok(Heard::Log(chunk)),
        Some(FromWire::Goodbye(_)) => FromWorker::Goodbye,
        None => {
            let message = "a message of a kind that this replica does not know".to_owned();
            return Err(vec![SpecError { path: String::new(), message }]);
        }
    };
    Ok(Heard::Leader(message))
}

fn read_hello(mut hello: v1::Hello) -> Result<Hello, Vec<SpecError>> {
    let holds = hello.holds.iter().map(|held| Held { seq: held.seq, token: Token(held.token) }).collect();
    let reports = hello.reports.take().map(read_reports).transpose()?;
    let (secret, session, term) = (hello.secret.to_vec(), hello.session.map(SessionId), hello.term);
    let (watermark, gaps) = (hello.watermark, std::mem::take(&mut hello.gaps));
    let open = open_session(hello, SessionId(0), 0)?;
    let offer = Offer {
        capacity: open.capacity,
        labels: open.labels,
        kinds: open.kinds,
        functions: open.functions,
        isolation: open.isolation,
    };
    Ok(Hello { worker: open.worker, secret, session, offer, term, watermark, gaps, holds, reports })
}

fn read_reports(reports: v1::Reports) -> Result<Reports, Vec<SpecError>> {
    let list = reports.reports.into_iter().map(Report::try_from).collect::<Result<Vec<Report>, _>>()?;
    let bytes = list.iter().map(bytes_of_report).sum();
    Ok(Reports { number: reports.number, reports: list, bytes })
}

/// Approximate bytes in the log.
fn bytes_of_report(report: &Report) -> usize {
    match &report.news {
        News::Started { .. } | News::Recalled => 70,
        News::Ended(ended) => {
            let result = ended.result.as_ref().and_then(|blob| blob.inline_bytes()).map_or(0, <[u8]>::len);
            220 + ended.message.len() + result * 4 / 3
        }
    }
}

/// What the leader says to a worker. `replicas` are the API addresses of all, `leader` that of another leader.
pub fn said(
    message: ToWorker,
    replicas: impl Fn() -> Vec<String>,
    leader: impl Fn() -> Option<String>,
) -> ToWire {
    match message {
        ToWorker::Welcome { session, lease, result_bytes_max, tail_bytes_max } => {
            ToWire::Welcome(v1::Welcome {
                session: session.0,
                heartbeat_us: micros(lease.heartbeat),
                lease_us: micros(lease.ttl),
                margin_us: micros(lease.margin),
                replicas: replicas(),
                result_bytes_max,
                tail_bytes_max,
            })
        }
        ToWorker::Renewed { number, heartbeat } => {
            ToWire::Renewed(v1::Renewed { number, heartbeat_us: heartbeat.map_or(0, micros) })
        }
        ToWorker::Run(order) => ToWire::Run(write_order(*order)),
        ToWorker::Stop { seq, token } => ToWire::Stop(v1::Stop { seq, token: token.0 }),
        ToWorker::Switch { seq, token, to } => {
            ToWire::Switch(v1::Switch { seq, token: token.0, runs: to == Pace::Runs })
        }
        ToWorker::Recall { seq, token } => ToWire::Recall(v1::Recall { seq, token: token.0 }),
        ToWorker::Acked { number, fenced } => ToWire::Acked(v1::ReportsAcked { number, fenced }),
        ToWorker::NotLeader => ToWire::NotLeader(v1::NotLeader { leader: leader().unwrap_or_default() }),
        ToWorker::Refused { code, message, fix } => {
            ToWire::Refused(v1::Refused { code: code.to_owned(), message, fix: fix.to_owned() })
        }
        ToWorker::SessionEnded => ToWire::SessionEnded(v1::SessionEnded {}),
        ToWorker::Drain => ToWire::Drain(v1::Drain {}),
        ToWorker::Resume => ToWire::Resume(v1::Resume {}),
    }
}

/// To a worker that offers what cannot be taken: it would only offer the same again.
pub fn unreadable(errors: &[SpecError]) -> ToWire {
    let failure = Failure::invalid(errors);
    let fix = "correct the worker's name, labels or functions and start it again".to_owned();
    ToWire::Refused(v1::Refused { code: failure.code, message: failure.message, fix })
}

fn write_order(order: Order) -> v1::Order {
    let on_disconnect: v1::job_spec::OnDisconnect = order.spec.on_disconnect.into();
    v1::Order {
        seq: order.seq,
        token: order.token.0,
        job: order.job.0,
        tasks: Some(order.tasks.into()),
        attempt: order.attempt,
        held: order.held,
        job_name: order.spec.name.clone(),
        spec: Some(write_task(&order.spec.tasks[order.group])),
        array_index: order.array_index,
        array_step: order.array_step,
        lines: order.lines,
        units: order.units.iter().map(v1::UnitShare::from).collect(),
        on_disconnect: on_disconnect.into(),
        traceparent: order.traceparent,
        gang: order.gang.map(|gang| v1::Gang {
            rank: gang.rank,
            addresses: gang.addresses,
            local_rank: gang.local_rank,
            local_size: gang.local_size,
            port: gang.port.into(),
        }),
    }
}

/// Without the text of `each_line`, which may be large: the order carries the lines it is about.
fn write_task(task: &TaskSpec) -> v1::TaskSpec {
    if task.each_line.is_none() {
        return task.into();
    }
    let lean = TaskSpec::new(&task.name, task.work.clone()).with(|new| {
        new.cpu_limit_hard = task.cpu_limit_hard;
        new.resources = task.resources.clone();
        new.env = task.env.clone();
        new.files = task.files.clone();
        new.stdin = task.stdin.clone();
        new.workdir = task.workdir.clone();
        new.retry = task.retry.clone();
        new.timeout = task.timeout;
    });
    (&lean).into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Blob, JobId, JobSpec, Run, Work};

    use super::*;

    #[test]
    fn an_order_carries_its_lines_and_not_the_whole_text() {
        let mut task = TaskSpec::new("a", Work::Noop);
        task.each_line = Some(Box::new(Blob::inline(b"one\ntwo\n".to_vec())));
        let order = Order {
            seq: 1,
            token: Token(2),
            job: JobId(3),
            tasks: Run::new(1, 1),
            attempt: 1,
            held: false,
            spec: Arc::new(JobSpec::of("j", vec![task])),
            group: 0,
            array_index: Some(1),
            array_step: 1,
            lines: vec!["two".to_owned()],
            units: vec![],
            traceparent: String::new(),
            gang: None,
        };
        let message = said(ToWorker::Run(Box::new(order)), Vec::new, || None);
        let ToWire::Run(order) = message else { panic!("{message:?}") };
        assert_eq!(order.lines, ["two"]);
        assert!(order.spec.unwrap().each_line.is_none());
    }

    #[test]
    fn a_report_that_cannot_be_read_is_refused() {
        let bad = v1::Reports { number: 1, reports: vec![v1::Report::default()] };
        assert!(heard(v1::WorkerMessage { message: Some(FromWire::Reports(bad)) }).is_err());
        assert!(heard(v1::WorkerMessage { message: None }).is_err());
        let nameless = v1::Hello::default();
        assert!(heard(v1::WorkerMessage { message: Some(FromWire::Hello(nameless)) }).is_err());
    }
}
