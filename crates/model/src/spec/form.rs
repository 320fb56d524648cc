//! The written form of a task.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    ArrayRange, Container, Dependency, EnvValue, FileSpec, Function, Retry, Service, TaskSpec, Wasm, Work,
    is_default,
};
use crate::size::PARTS;
use crate::{Blob, Constraint, Resources};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CpuLimit {
    Soft,
    Hard,
}

/// The written form of a task: flat, with exactly one kind of work.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    script: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    noop: bool,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::optional_duration")]
    sleep: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    function: Option<Function>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    container: Option<Container>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wasm: Option<Wasm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<Service>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resources: Option<Resources>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cpu_limit: Option<CpuLimit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    array: Option<ArrayRange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    each_line: Option<Box<Blob>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    after: Vec<Dependency>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    after_each: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, EnvValue>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<FileSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stdin: Option<Box<Blob>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    workdir: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    retry: Retry,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::optional_duration")]
    timeout: Option<Duration>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    constraints: Vec<Constraint>,
}

impl Form {
    fn take_work(&mut self) -> Result<Work, String> {
        let mut given: Vec<Work> = [
            self.run.take().map(Work::Run),
            self.script.take().map(Work::Script),
            std::mem::take(&mut self.noop).then_some(Work::Noop),
            self.sleep.take().map(Work::Sleep),
            self.function.take().map(Work::Function),
            self.container.take().map(Work::Container),
            self.wasm.take().map(Work::Wasm),
            self.service.take().map(Work::Service),
        ]
        .into_iter()
        .flatten()
        .collect();
        match (given.pop(), given.is_empty()) {
            (Some(work), true) => Ok(work),
            _ => Err(format!(
                "task `{}`: give exactly one of run, script, noop, sleep, function, container, wasm, service",
                self.name
            )),
        }
    }

    fn put_work(&mut self, work: Work) {
        match work {
            Work::Run(argv) => self.run = Some(argv),
            Work::Script(body) => self.script = Some(body),
            Work::Noop => self.noop = true,
            Work::Sleep(duration) => self.sleep = Some(duration),
            Work::Function(function) => self.function = Some(function),
            Work::Container(container) => self.container = Some(container),
            Work::Wasm(wasm) => self.wasm = Some(wasm),
            Work::Service(service) => self.service = Some(service),
        }
    }
}

impl TryFrom<Form> for TaskSpec {
    type Error = String;
    fn try_from(mut form: Form) -> Result<TaskSpec, String> {
        let work = form.take_work()?;
        let mut resources = form.resources.unwrap_or_default();
        if resources.cpu == 0 {
            resources.cpu = PARTS;
        }
        Ok(TaskSpec {
            name: form.name,
            work,
            resources,
            cpu_limit_hard: form.cpu_limit == Some(CpuLimit::Hard),
            array: form.array,
            each_line: form.each_line,
            after: form.after,
            after_each: form.after_each,
            env: form.env,
            files: form.files,
            stdin: form.stdin,
            workdir: form.workdir,
            retry: form.retry,
            timeout: form.timeout,
            constraints: form.constraints,
        })
    }
}

impl From<TaskSpec> for Form {
    fn from(task: TaskSpec) -> Form {
        let mut form = Form {
            name: task.name,
            resources: (task.resources != Resources::cores(1)).then_some(task.resources),
            cpu_limit: task.cpu_limit_hard.then_some(CpuLimit::Hard),
            array: task.array,
            each_line: task.each_line,
            after: task.after,
            after_each: task.after_each,
            env: task.env,
            files: task.files,
            stdin: task.stdin,
            workdir: task.workdir,
            retry: task.retry,
            timeout: task.timeout,
            constraints: task.constraints,
            ..Form::default()
        };
        form.put_work(task.work);
        form
    }
}
