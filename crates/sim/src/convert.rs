//! Between the leader's words and the worker's: what the wire does in real life.

use std::sync::Arc;

use leader_core::{FromWorker, Held, Offer, Reports, ToWorker};
use worker_core::{Batch, Message, Outgoing, Refusal, Welcome};

/// Approximate bytes of a report in the log.
const REPORT_BYTES: usize = 150;

/// What the worker adds to its hello and never changes.
#[derive(Clone, Debug)]
pub struct Introduction {
    pub worker: String,
    pub secret: Vec<u8>,
    pub offer: Offer,
}

pub fn from_worker(outgoing: Outgoing, own: &Introduction) -> FromWorker {
    match outgoing {
        Outgoing::Hello(hello) => FromWorker::Hello(Box::new(leader_core::Hello {
            worker: own.worker.clone(),
            secret: own.secret.clone(),
            session: hello.session,
            offer: own.offer.clone(),
            term: hello.term,
            watermark: hello.watermark,
            gaps: hello.gaps,
            holds: hello.holds.iter().map(|hold| Held { seq: hold.seq, token: hold.token }).collect(),
            reports: hello.reports.map(reports),
        })),
        Outgoing::Heartbeat { number } => FromWorker::Heartbeat { number },
        Outgoing::Reports(batch) => FromWorker::Reports(reports(batch)),
        Outgoing::Goodbye => FromWorker::Goodbye,
    }
}

fn reports(batch: Batch) -> Reports {
    let bytes = REPORT_BYTES * batch.reports.len();
    Reports { number: batch.number, reports: batch.reports.into_iter().map(report).collect(), bytes }
}

fn report(report: worker_core::Report) -> machine::Report {
    let news = match report.news {
        worker_core::News::Started { at } => machine::News::Started { at },
        worker_core::News::Recalled => machine::News::Recalled,
        worker_core::News::Ended(ended) => machine::News::Ended(Box::new(machine::Ended {
            verdict: ended.verdict,
            reason: ended.reason,
            exit_code: ended.exit_code,
            signal: ended.signal,
            message: ended.message,
            result: ended.result,
            started: ended.started,
            ended: ended.ended,
            cpu_time: ended.cpu_time,
            memory_peak: ended.memory_peak,
        })),
    };
    machine::Report { seq: report.seq, token: report.token, tasks: report.tasks, news }
}

/// `leader`: the address that a replica which does not lead names.
pub fn to_worker(message: ToWorker, replicas: Vec<String>, leader: Option<String>) -> Message {
    match message {
        ToWorker::Welcome { session, lease, .. } => Message::Welcome(Welcome { session, lease, replicas }),
        ToWorker::Renewed { number, heartbeat } => Message::Renewed { number, heartbeat },
        ToWorker::Run(order) => Message::Run(Arc::new(worker_order(*order))),
        ToWorker::Stop { seq, token } => Message::Stop { seq, token },
        ToWorker::Switch { seq, token, to } => Message::Switch { seq, token, to },
        ToWorker::Recall { seq, token } => Message::Recall { seq, token },
        ToWorker::Acked { number, fenced } => Message::Acked { number, fenced },
        ToWorker::NotLeader => Message::NotLeader { leader },
        ToWorker::Refused { code, message, fix } => {
            Message::Refused(Refusal { code: code.to_owned(), message, fix: fix.to_owned() })
        }
        ToWorker::SessionEnded => Message::SessionEnded,
        ToWorker::Drain => Message::Drain,
        ToWorker::Resume => Message::Resume,
    }
}

fn worker_order(order: leader_core::Order) -> worker_core::Order {
    worker_core::Order {
        seq: order.seq,
        token: order.token,
        job: order.job,
        tasks: order.tasks,
        attempt: order.attempt,
        held: order.held,
        job_name: order.spec.name.clone(),
        spec: Arc::new(order.spec.tasks[order.group].clone()),
        array_index: order.array_index,
        array_step: order.array_step,
        lines: order.lines,
        units: order.units,
        on_disconnect: order.spec.on_disconnect,
        traceparent: order.traceparent,
        gang: order.gang.map(|gang| worker_core::Gang {
            rank: gang.rank,
            addresses: gang.addresses,
            local_rank: gang.local_rank,
            local_size: gang.local_size,
            port: gang.port,
        }),
    }
}
