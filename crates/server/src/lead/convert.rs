//! Between the wire and the leader's own words.

use leader_core::{FromWorker, Held, Hello, Offer, Order, Reports, ToWorker};
use machine::{News, Op, Report, Write};
use model::time::micros;
use model::{Blob, JobSpec, SessionId, SpecError, TaskSpec, Token, Work};
use wire::convert::open_session;
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
    let open = open_session(hello, SessionId(0), 0);
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
        ToWorker::Renewed { number } => ToWire::Renewed(v1::Renewed { number }),
        ToWorker::Run(order) => ToWire::Run(write_order(*order)),
        ToWorker::Stop { seq, token } => ToWire::Stop(v1::Stop { seq, token: token.0 }),
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
    }
}

/// Without the text of `each_line`, which may be large: the order carries the lines it is about.
fn write_task(task: &TaskSpec) -> v1::TaskSpec {
    if task.each_line.is_none() {
        return task.into();
    }
    let lean = TaskSpec {
        cpu_limit_hard: task.cpu_limit_hard,
        resources: task.resources.clone(),
        env: task.env.clone(),
        files: task.files.clone(),
        stdin: task.stdin.clone(),
        workdir: task.workdir.clone(),
        retry: task.retry.clone(),
        timeout: task.timeout,
        ..TaskSpec::new(&task.name, task.work.clone())
    };
    (&lean).into()
}

/// Approximate bytes of a write in the log.
pub fn bytes_of(write: &Write) -> usize {
    const WRITE: usize = 160;
    match &write.op {
        Op::Submit { spec, .. } => WRITE + bytes_of_job(spec),
        Op::Cancel { targets } | Op::Retry { targets, .. } => {
            let runs = |target: &machine::Target| target.tasks.as_ref().map_or(0, |tasks| tasks.runs_len());
            WRITE + targets.iter().map(|target| 32 + 12 * runs(target)).sum::<usize>()
        }
        Op::Pause { jobs } | Op::Resume { jobs } => WRITE + 9 * jobs.len(),
        Op::SetJob { change, .. } => WRITE + 64 * (change.add_after.len() + change.remove_after.len()),
        Op::PutSettings(_) => WRITE + 2_048,
        Op::PutQueue(_)
        | Op::PauseQueue { .. }
        | Op::ResumeQueue { .. }
        | Op::DeleteQueue { .. }
        | Op::Cordon { .. }
        | Op::Uncordon { .. }
        | Op::Drain { .. }
        | Op::ForgetWorker { .. } => WRITE + 128,
    }
}

fn bytes_of_job(spec: &JobSpec) -> usize {
    let labels: usize = spec.labels.iter().map(|(label, value)| label.len() + value.len() + 4).sum();
    64 + spec.name.len() + labels + 9 * spec.after.len() + spec.tasks.iter().map(bytes_of_task).sum::<usize>()
}

fn bytes_of_task(task: &TaskSpec) -> usize {
    let blob = |blob: &Blob| 48 + blob.inline_bytes().map_or(64, |bytes| bytes.len() * 4 / 3);
    let work = match &task.work {
        Work::Run(argv) => argv.iter().map(|word| word.len() + 2).sum(),
        Work::Script(body) => body.len(),
        Work::Function(function) => {
            function.name.len() + function.input.as_ref().map_or(0, |input| blob(input))
        }
        Work::Container(container) => {
            container.image.len() + container.args.iter().map(|word| word.len() + 2).sum::<usize>()
        }
        Work::Wasm(wasm) => blob(&wasm.module),
        Work::Service(service) => service.run.iter().map(|word| word.len() + 2).sum(),
        Work::Noop | Work::Sleep(_) => 8,
    };
    let files: usize = task.files.iter().map(|file| file.to.len() + 24 + blob(&file.content)).sum();
    let env: usize = task.env.keys().map(|name| name.len() + 64).sum();
    let optional: usize = [&task.stdin, &task.each_line].into_iter().flatten().map(|text| blob(text)).sum();
    let names = 16 * (task.after.len() + task.after_each.len() + task.constraints.len());
    // A plain task is logged without what is at its default.
    24 + task.name.len() + work + files + env + optional + names
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Actor, JobId, RequestId, Run};

    use super::*;

    fn submit(spec: JobSpec) -> Write {
        let op = Op::Submit { job: JobId(1), spec: Arc::new(spec) };
        Write { request: RequestId(1), body_hash: 1, actor: Actor::new("u", "api"), op }
    }

    #[test]
    fn the_estimate_of_a_write_is_near_its_logged_form() {
        let mut script = TaskSpec::new("a", Work::Script("x".repeat(3_000)));
        script.each_line = Some(Box::new(Blob::inline(b"a\nb\n".to_vec())));
        let run = TaskSpec::new("b", Work::Run(vec!["sh".to_owned(), "-c".to_owned(), "exit 0".to_owned()]));
        for tasks in [vec![TaskSpec::new("n", Work::Noop)], vec![run.clone(); 50], vec![script, run]] {
            let write = submit(JobSpec::of("job", tasks));
            let (real, estimate) = (rmp_serde::to_vec_named(&write).unwrap().len(), bytes_of(&write));
            assert!(estimate >= real / 2 && estimate <= real * 2 + 200, "{estimate} for {real}");
        }
    }

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
    }
}
