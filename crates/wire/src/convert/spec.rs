//! Job and task specs.

use std::time::Duration;

use model::size::PARTS;
use model::spec::{Backoff, Container, FILE_MODE_DEFAULT, Function, QUEUE_DEFAULT, Service, Wasm};
use model::time::micros;
use model::{
    ArrayRange, Constraint, Dependency, EnvValue, FileSpec, JobId, JobSpec, JobTemplate, OnDisconnect,
    Placement, Resources, Retry, SpecError, TaskSpec, TaskTemplate, Timestamp, Timing, Work,
};

use super::{Errors, Malformed, Path, at, blob, duration_us, none_if_empty};
use crate::v1;
use crate::v1::task_spec::Kind;

impl From<&JobSpec> for v1::JobSpec {
    fn from(spec: &JobSpec) -> v1::JobSpec {
        v1::JobSpec {
            name: spec.name.clone(),
            queue: spec.queue.clone(),
            priority: spec.priority,
            labels: (*spec.labels).clone(),
            delay_us: duration_us(spec.delay),
            start_at_unix_us: spec.start_at.map(|at| at.0),
            on_disconnect: v1::job_spec::OnDisconnect::from(spec.on_disconnect).into(),
            placement: placement_word(spec.placement).into(),
            after: spec.after.iter().map(|job| job.0).collect(),
            tasks: spec.tasks.iter().map(v1::TaskSpec::from).collect(),
        }
    }
}

impl TryFrom<v1::JobSpec> for JobSpec {
    type Error = Malformed;
    fn try_from(spec: v1::JobSpec) -> Result<JobSpec, Malformed> {
        let (spec, errors) = read_job(spec);
        if errors.is_empty() { Ok(spec) } else { Err(errors) }
    }
}

/// The spec with a stand-in for each field that could not be read, and what is wrong with those: so that
/// validation can go on and name the rest. With errors the spec is of no other use.
pub fn read_job(spec: v1::JobSpec) -> (JobSpec, Vec<SpecError>) {
    let mut errors = Errors::default();
    let (on_disconnect, placement) = (spec.on_disconnect(), spec.placement());
    known_number(&mut errors, &"on_disconnect", spec.on_disconnect, on_disconnect.into());
    known_number(&mut errors, &"placement", spec.placement, placement.into());
    let mut tasks = Vec::with_capacity(spec.tasks.len());
    for (place, task) in spec.tasks.into_iter().enumerate() {
        tasks.push(read_task(&mut errors, &format_args!("tasks[{place}]"), task));
    }
    let template = JobTemplate {
        queue: none_if_empty(spec.queue).unwrap_or_else(|| QUEUE_DEFAULT.to_owned()),
        priority: spec.priority,
        labels: spec.labels.into(),
        delay: spec.delay_us.map(Duration::from_micros),
        start_at: spec.start_at_unix_us.map(Timestamp),
        on_disconnect: on_disconnect.into(),
        placement: match placement {
            v1::job_spec::Placement::Pack => Placement::Pack,
            v1::job_spec::Placement::Spread => Placement::Spread,
        },
        after: spec.after.into_iter().map(JobId).collect(),
    };
    (JobSpec::from_template(spec.name, tasks, template), errors.into_list())
}

// prost reads an unknown number as the default, which would be another meaning than the client's.
fn known_number(errors: &mut Errors, path: Path<'_>, sent: i32, read: i32) {
    if sent != read {
        errors.refuse(path, format!("{sent} is not known to this version"));
    }
}

fn placement_word(placement: Placement) -> v1::job_spec::Placement {
    match placement {
        Placement::Pack => v1::job_spec::Placement::Pack,
        Placement::Spread => v1::job_spec::Placement::Spread,
    }
}

impl From<OnDisconnect> for v1::job_spec::OnDisconnect {
    fn from(on: OnDisconnect) -> Self {
        match on {
            OnDisconnect::Stop => v1::job_spec::OnDisconnect::Stop,
            OnDisconnect::Keep => v1::job_spec::OnDisconnect::Keep,
        }
    }
}

impl From<v1::job_spec::OnDisconnect> for OnDisconnect {
    fn from(on: v1::job_spec::OnDisconnect) -> Self {
        match on {
            v1::job_spec::OnDisconnect::Stop => OnDisconnect::Stop,
            v1::job_spec::OnDisconnect::Keep => OnDisconnect::Keep,
        }
    }
}

impl From<&TaskSpec> for v1::TaskSpec {
    fn from(task: &TaskSpec) -> v1::TaskSpec {
        v1::TaskSpec {
            name: task.name.clone(),
            kind: Some(write_work(&task.work)),
            resources: Some((&task.resources).into()),
            cpu_limit_hard: task.cpu_limit_hard,
            array: task.array.map(v1::ArrayRange::from),
            gang: task.gang,
            each_line: blob::write_optional(&task.each_line),
            after: task.after.iter().map(Dependency::to_string).collect(),
            after_each: (*task.after_each).clone(),
            env: task.env.iter().map(|(name, value)| (name.clone(), write_env(value))).collect(),
            files: task.files.iter().map(write_file).collect(),
            stdin: blob::write_optional(&task.stdin),
            workdir: (*task.workdir).clone(),
            retry: Some(write_retry(&task.retry)),
            timeout_us: duration_us(task.timeout),
            estimate_us: duration_us(task.timing().estimate),
            deadline_us: duration_us(task.timing().deadline),
            period_us: duration_us(task.timing().period),
            start_within_us: duration_us(task.timing().start_within),
            constraints: task.constraints.iter().map(Constraint::to_string).collect(),
            anti_affinity: task.resources.named.apart.keys().cloned().collect(),
            alternatives: task.alternatives.iter().map(v1::Resources::from).collect(),
        }
    }
}

impl TryFrom<v1::TaskSpec> for TaskSpec {
    type Error = Malformed;
    fn try_from(task: v1::TaskSpec) -> Result<TaskSpec, Malformed> {
        let mut errors = Errors::default();
        let task = read_task(&mut errors, &"", task);
        errors.finish(task)
    }
}

pub(super) fn read_task(errors: &mut Errors, path: Path<'_>, task: v1::TaskSpec) -> TaskSpec {
    let work = read_work(errors, path, task.kind);
    let template = TaskTemplate {
        alternatives: task
            .alternatives
            .into_iter()
            .map(|asked| read_asked(Some(asked), task.anti_affinity.clone()))
            .collect(),
        resources: read_asked(task.resources, task.anti_affinity),
        cpu_limit_hard: task.cpu_limit_hard,
        array: task.array.map(|range| {
            let otherwise = ArrayRange { first: 0, last: 0, step: 1 };
            errors.take(at(path, "array"), ArrayRange::try_from(range), otherwise)
        }),
        gang: task.gang,
        each_line: blob::read_optional(errors, &at(path, "each_line"), task.each_line),
        after: task.after.iter().map(|text| Dependency::from(text.as_str())).collect(),
        after_each: task.after_each.into(),
        env: task
            .env
            .into_iter()
            .map(|(name, value)| {
                let value = read_env(errors, &at(path, format_args!("env.{name}")), value);
                (name, value)
            })
            .collect(),
        files: task
            .files
            .into_iter()
            .enumerate()
            .map(|(place, file)| read_file(errors, &at(path, format_args!("files[{place}]")), file))
            .collect(),
        stdin: blob::read_optional(errors, &at(path, "stdin"), task.stdin),
        workdir: task.workdir.into(),
        retry: read_retry(errors, &at(path, "retry"), task.retry),
        timeout: task.timeout_us.map(Duration::from_micros),
        timing: Timing {
            estimate: task.estimate_us.map(Duration::from_micros),
            deadline: task.deadline_us.map(Duration::from_micros),
            period: task.period_us.map(Duration::from_micros),
            start_within: task.start_within_us.map(Duration::from_micros),
        }
        .boxed(),
        constraints: read_constraints(errors, path, &task.constraints).into(),
    };
    TaskSpec::from_template(task.name, work, template)
}

// As in a job file: one core where nothing is said.
fn read_asked(resources: Option<v1::Resources>, anti_affinity: Vec<String>) -> Resources {
    let mut resources = Resources::from(resources.unwrap_or_default());
    if resources.cpu == 0 {
        resources.cpu = PARTS;
    }
    resources.set_apart(anti_affinity);
    resources
}

fn write_work(work: &Work) -> Kind {
    let process = |argv, script| Kind::Process(v1::Process { argv, script });
    match work {
        Work::Run(argv) => process(argv.clone(), String::new()),
        Work::Script(body) => process(Vec::new(), body.clone()),
        Work::Noop => Kind::Noop(v1::Noop {}),
        Work::Sleep(duration) => Kind::Sleep(v1::Sleep { duration_us: micros(*duration) }),
        Work::Function(function) => Kind::Function(v1::Function {
            name: function.name.clone(),
            input: blob::write_optional(&function.input),
        }),
        Work::Container(container) => {
            Kind::Container(v1::Container { image: container.image.clone(), args: container.args.clone() })
        }
        Work::Wasm(wasm) => {
            Kind::Wasm(v1::Wasm { module: Some(wasm.module.as_ref().into()), args: wasm.args.clone() })
        }
        Work::Service(service) => Kind::Service(v1::Service { argv: service.run.clone() }),
    }
}

fn read_work(errors: &mut Errors, path: Path<'_>, kind: Option<Kind>) -> Work {
    match kind {
        None => {
            errors.refuse(
                path,
                "give exactly one of process, noop, sleep, container, function, wasm and service",
            );
            Work::Noop
        }
        Some(Kind::Process(process)) => read_process(errors, path, process),
        Some(Kind::Noop(_)) => Work::Noop,
        Some(Kind::Sleep(sleep)) => Work::Sleep(Duration::from_micros(sleep.duration_us)),
        Some(Kind::Container(container)) => {
            Work::Container(Box::new(Container { image: container.image, args: container.args }))
        }
        Some(Kind::Function(function)) => Work::Function(Box::new(Function {
            input: blob::read_optional(errors, &at(path, "function.input"), function.input),
            name: function.name,
        })),
        Some(Kind::Wasm(wasm)) => {
            let module = wasm.module.unwrap_or_default();
            let module = Box::new(blob::read(errors, &at(path, "wasm.module"), module));
            Work::Wasm(Wasm { module, args: wasm.args })
        }
        Some(Kind::Service(service)) => Work::Service(Service { run: service.argv }),
    }
}

fn read_process(errors: &mut Errors, path: Path<'_>, process: v1::Process) -> Work {
    match (process.argv.is_empty(), process.script.is_empty()) {
        (false, true) => Work::Run(process.argv),
        (true, false) => Work::Script(process.script),
        (true, true) | (false, false) => {
            errors.refuse(path, "give exactly one of run and script, and not an empty one");
            Work::Noop
        }
    }
}

impl From<ArrayRange> for v1::ArrayRange {
    fn from(range: ArrayRange) -> v1::ArrayRange {
        v1::ArrayRange { first: range.first, last: range.last, step: range.step }
    }
}

impl TryFrom<v1::ArrayRange> for ArrayRange {
    type Error = String;
    fn try_from(range: v1::ArrayRange) -> Result<ArrayRange, String> {
        if range.first > range.last {
            return Err(format!("{}-{} is empty: the first is above the last", range.first, range.last));
        }
        Ok(ArrayRange { first: range.first, last: range.last, step: range.step.max(1) })
    }
}

fn write_env(value: &EnvValue) -> v1::EnvValue {
    use v1::env_value::Value;
    let value = match value {
        EnvValue::Plain(text) => Value::Plain(text.clone()),
        EnvValue::Secret { secret } => Value::Secret(secret.clone()),
    };
    v1::EnvValue { value: Some(value) }
}

fn read_env(errors: &mut Errors, path: Path<'_>, value: v1::EnvValue) -> EnvValue {
    use v1::env_value::Value;
    match value.value {
        Some(Value::Plain(text)) => EnvValue::Plain(text),
        Some(Value::Secret(secret)) => EnvValue::Secret { secret },
        None => {
            errors.refuse(path, "give a plain value or the name of a secret");
            EnvValue::Plain(String::new())
        }
    }
}

fn write_file(file: &FileSpec) -> v1::File {
    v1::File { to: file.to.clone(), mode: file.mode, content: Some((&file.content).into()) }
}

fn read_file(errors: &mut Errors, path: Path<'_>, file: v1::File) -> FileSpec {
    let mode = if file.mode == 0 { FILE_MODE_DEFAULT } else { file.mode };
    if mode > 0o777 {
        errors.refuse(at(path, "mode"), format!("{mode:o} has more than permission bits"));
    }
    let content = blob::read(errors, &at(path, "content"), file.content.unwrap_or_default());
    FileSpec { to: file.to, mode, content }
}

fn write_retry(retry: &Retry) -> v1::Retry {
    v1::Retry {
        max: retry.max,
        backoff_first_us: micros(retry.backoff.first),
        backoff_cap_us: micros(retry.backoff.cap),
        lost_max: retry.lost_max,
    }
}

fn read_retry(errors: &mut Errors, path: Path<'_>, retry: Option<v1::Retry>) -> Retry {
    let Some(retry) = retry else { return Retry::default() };
    let backoff = Backoff {
        first: Duration::from_micros(retry.backoff_first_us),
        cap: Duration::from_micros(retry.backoff_cap_us),
    };
    if backoff.first > backoff.cap {
        errors.refuse(at(path, "backoff"), "the first wait is longer than the cap");
    }
    Retry { max: retry.max, backoff, lost_max: retry.lost_max }
}

pub(super) fn read_constraints(errors: &mut Errors, path: Path<'_>, texts: &[String]) -> Vec<Constraint> {
    let mut read = Vec::with_capacity(texts.len());
    for (place, text) in texts.iter().enumerate() {
        match text.parse() {
            Ok(constraint) => read.push(constraint),
            Err(error) => {
                let error: String = error;
                errors.refuse(at(path, format_args!("constraints[{place}]")), error);
            }
        }
    }
    read
}
