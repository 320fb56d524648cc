//! How a task is read and written.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    ArrayRange, Container, Dependency, EnvValue, FileSpec, Function, Retry, Service, TaskSpec, TaskTemplate,
    Timing, Wasm, Work, is_default,
};
use crate::size::PARTS;
use crate::{Blob, Constraint, Lean, Resources};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CpuLimit {
    Soft,
    Hard,
}

/// A task as it is read: flat, with exactly one kind of work.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    name: String,
    #[serde(default)]
    run: Option<Vec<String>>,
    #[serde(default)]
    script: Option<String>,
    #[serde(default)]
    noop: bool,
    #[serde(default, with = "crate::time::optional_duration")]
    sleep: Option<Duration>,
    #[serde(default)]
    function: Option<Box<Function>>,
    #[serde(default)]
    container: Option<Box<Container>>,
    #[serde(default)]
    wasm: Option<Wasm>,
    #[serde(default)]
    service: Option<Service>,
    #[serde(default)]
    resources: Option<Resources>,
    #[serde(default)]
    cpu_limit: Option<CpuLimit>,
    #[serde(default)]
    array: Option<ArrayRange>,
    #[serde(default)]
    gang: Option<u32>,
    #[serde(default)]
    each_line: Option<Box<Blob>>,
    #[serde(default)]
    after: Lean<Vec<Dependency>>,
    #[serde(default)]
    after_each: Lean<Vec<String>>,
    #[serde(default)]
    env: Lean<BTreeMap<String, EnvValue>>,
    #[serde(default)]
    files: Lean<Vec<FileSpec>>,
    #[serde(default)]
    stdin: Option<Box<Blob>>,
    #[serde(default)]
    workdir: Option<String>,
    #[serde(default)]
    retry: Retry,
    #[serde(default, with = "crate::time::optional_duration")]
    timeout: Option<Duration>,
    #[serde(default, with = "crate::time::optional_duration")]
    estimate: Option<Duration>,
    #[serde(default, with = "crate::time::optional_duration")]
    deadline: Option<Duration>,
    #[serde(default, with = "crate::time::optional_duration")]
    period: Option<Duration>,
    #[serde(default, with = "crate::time::optional_duration")]
    start_within: Option<Duration>,
    #[serde(default)]
    constraints: Lean<Vec<Constraint>>,
    #[serde(default)]
    anti_affinity: Lean<Vec<String>>,
    #[serde(default)]
    alternatives: Lean<Vec<Resources>>,
}

impl Form {
    /// The members of a gang are those of an array.
    fn take_gang(&mut self) -> Result<(), String> {
        let Some(members) = self.gang else { return Ok(()) };
        if self.array.is_some() || self.each_line.is_some() {
            return Err(format!(
                "task `{}`: a gang has so many members; give no array and no each_line",
                self.name
            ));
        }
        if members == 0 {
            return Err(format!("task `{}`: a gang has 1 member or more", self.name));
        }
        self.array = Some(ArrayRange { first: 0, last: members - 1, step: 1 });
        Ok(())
    }

    fn take_work(&mut self) -> Result<Work, String> {
        let mut given = [
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
        .flatten();
        match (given.next(), given.next()) {
            (Some(work), None) => Ok(work),
            _ => Err(format!(
                "task `{}`: give exactly one of run, script, noop, sleep, function, container, wasm, service",
                self.name
            )),
        }
    }
}

impl TryFrom<Form> for TaskSpec {
    type Error = String;
    fn try_from(mut form: Form) -> Result<TaskSpec, String> {
        let work = form.take_work()?;
        if form.workdir.as_deref() == Some("") {
            return Err(format!(
                "task `{}`: a working directory is absolute, or absent for a fresh one",
                form.name
            ));
        }
        form.take_gang()?;
        let whole = |mut resources: Resources| {
            if resources.cpu == 0 {
                resources.cpu = PARTS;
            }
            resources.set_apart(form.anti_affinity.iter().cloned());
            resources
        };
        let resources = whole(form.resources.unwrap_or_default());
        let alternatives = form.alternatives.iter().cloned().map(whole).collect();
        let template = TaskTemplate {
            resources,
            alternatives,
            cpu_limit_hard: form.cpu_limit == Some(CpuLimit::Hard),
            array: form.array,
            gang: form.gang.is_some(),
            each_line: form.each_line,
            after: form.after,
            after_each: form.after_each,
            env: form.env,
            files: form.files,
            stdin: form.stdin,
            workdir: form.workdir.unwrap_or_default().into(),
            retry: form.retry,
            timeout: form.timeout,
            timing: Timing {
                estimate: form.estimate,
                deadline: form.deadline,
                period: form.period,
                start_within: form.start_within,
            }
            .boxed(),
            constraints: form.constraints,
        };
        Ok(TaskSpec::from_template(form.name, work, template))
    }
}

/// A task as it is written, in the same form. Borrowed: a spec is written at every replica that takes it in.
#[derive(Serialize)]
pub(super) struct Written<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<&'a str>,
    #[serde(skip_serializing_if = "is_default")]
    noop: bool,
    #[serde(skip_serializing_if = "Option::is_none", with = "crate::time::optional_duration")]
    sleep: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<&'a Function>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a Container>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wasm: Option<&'a Wasm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a Service>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<&'a Resources>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_limit: Option<CpuLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    array: Option<ArrayRange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gang: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    each_line: Option<&'a Blob>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    after: &'a [Dependency],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    after_each: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: &'a BTreeMap<String, EnvValue>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    files: &'a [FileSpec],
    #[serde(skip_serializing_if = "Option::is_none")]
    stdin: Option<&'a Blob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workdir: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<&'a Retry>,
    #[serde(skip_serializing_if = "Option::is_none", with = "crate::time::optional_duration")]
    timeout: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none", with = "crate::time::optional_duration")]
    estimate: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none", with = "crate::time::optional_duration")]
    deadline: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none", with = "crate::time::optional_duration")]
    period: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none", with = "crate::time::optional_duration")]
    start_within: Option<Duration>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    constraints: &'a [Constraint],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    anti_affinity: Vec<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    alternatives: &'a [Resources],
}

impl<'a> From<&'a TaskSpec> for Written<'a> {
    fn from(task: &'a TaskSpec) -> Written<'a> {
        let work = &task.work;
        let Timing { estimate, deadline, period, start_within } = task.timing();
        Written {
            name: &task.name,
            run: if let Work::Run(argv) = work { Some(argv) } else { None },
            script: if let Work::Script(body) = work { Some(body) } else { None },
            noop: matches!(work, Work::Noop),
            sleep: if let Work::Sleep(duration) = work { Some(*duration) } else { None },
            function: if let Work::Function(function) = work { Some(function) } else { None },
            container: if let Work::Container(container) = work { Some(container) } else { None },
            wasm: if let Work::Wasm(wasm) = work { Some(wasm) } else { None },
            service: if let Work::Service(service) = work { Some(service) } else { None },
            resources: Some(&task.resources)
                .filter(|resources| !resources.iter().eq(Resources::cores(1).iter())),
            cpu_limit: task.cpu_limit_hard.then_some(CpuLimit::Hard),
            array: task.array.filter(|_| !task.gang),
            gang: task.gang_size(),
            each_line: task.each_line.as_deref(),
            after: &task.after,
            after_each: &task.after_each,
            env: &task.env,
            files: &task.files,
            stdin: task.stdin.as_deref(),
            workdir: Some(task.workdir.as_str()).filter(|workdir| !workdir.is_empty()),
            retry: Some(&task.retry).filter(|retry| !is_default(*retry)),
            timeout: task.timeout,
            estimate,
            deadline,
            period,
            start_within,
            constraints: &task.constraints,
            anti_affinity: task.resources.named.apart.keys().map(String::as_str).collect(),
            alternatives: &task.alternatives,
        }
    }
}
