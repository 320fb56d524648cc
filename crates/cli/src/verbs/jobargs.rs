//! Flags that make a job of a command: shared by `submit` and `run`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use model::resources::parse_amount;
use model::settings::Limits;
use model::validate::validate;
use model::{
    ArrayRange, Blob, Constraint, EnvValue, JobId, JobSpec, Resources, TaskSpec, Timestamp, Timing, Work,
};

use crate::config::duration;
use crate::fault::Fault;
use crate::jobfile;
use crate::select::label;

/// Of the job; over a file they replace what it says.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct JobArgs {
    /// Name of the job; need not be unique
    #[arg(long)]
    pub name: Option<String>,
    /// Queue to wait in
    #[arg(long)]
    pub queue: Option<String>,
    /// Higher first
    #[arg(long, allow_hyphen_values = true)]
    pub priority: Option<i32>,
    /// A label of the job
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Start only after these jobs have succeeded
    #[arg(long, value_name = "JOB", value_delimiter = ',')]
    pub after: Vec<JobId>,
    /// Wait so long first
    #[arg(long, value_parser = duration)]
    pub delay: Option<Duration>,
    /// Wait until this time
    #[arg(long, value_name = "TIME")]
    pub start_at: Option<Timestamp>,
}

/// Of the one task that a command becomes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TaskArgs {
    /// Run it once per index: 0-99 or 0-99:5
    #[arg(long, value_name = "RANGE", requires = "command")]
    pub array: Option<ArrayRange>,
    /// Run it in so many members, which start together or not at all: each is told its RANK, WORLD_SIZE and MASTER_ADDR
    #[arg(long, value_name = "MEMBERS", conflicts_with_all = ["array", "each_line"], requires = "command",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(model::validate::GANG_MEMBERS_MAX)))]
    pub gang: Option<u32>,
    /// Run it once per line of this file; each sees its line as BATON_LINE
    #[arg(long, value_name = "FILE", conflicts_with = "array", requires = "command")]
    pub each_line: Option<PathBuf>,
    /// Cores: 2 or 0.5
    #[arg(long, requires = "command")]
    pub cpu: Option<String>,
    /// 512MiB, 1.5GB
    #[arg(long, requires = "command")]
    pub memory: Option<String>,
    /// Any other resource: disk=10GiB, gpu=0.5
    #[arg(long = "resource", value_name = "NAME=AMOUNT", value_parser = label, requires = "command")]
    pub resources: Vec<(String, String)>,
    /// What would do as well in place of all that: cpu=1,gpu=1; may be given again, the first that finds room is taken
    #[arg(long = "or", value_name = "NAME=AMOUNT,..", value_parser = amounts, requires = "command")]
    pub alternatives: Vec<Resources>,
    /// Set in the task's environment
    #[arg(short = 'e', long = "env", value_name = "NAME=VALUE", value_parser = label, requires = "command")]
    pub env: Vec<(String, String)>,
    /// Take this variable along from here
    #[arg(long, value_name = "NAME", requires = "command")]
    pub env_pass: Vec<String>,
    /// Lay a file of this machine into the working directory
    #[arg(long = "file", value_name = "TO=FROM", value_parser = label, requires = "command")]
    pub files: Vec<(String, String)>,
    /// Per attempt, from its start
    #[arg(long, value_parser = duration, requires = "command")]
    pub timeout: Option<Duration>,
    /// How long an attempt will take, for queues that go by estimates
    #[arg(long, value_parser = duration, requires = "command")]
    pub estimate: Option<Duration>,
    /// From now until it should be done, for queues that go by deadlines
    #[arg(long, value_parser = duration, requires = "command")]
    pub deadline: Option<Duration>,
    /// From one such task to the next, for queues that go by periods
    #[arg(long, value_parser = duration, requires = "command")]
    pub period: Option<Duration>,
    /// Cancel it if it is ready for so long and was not started
    #[arg(long, value_parser = duration, requires = "command")]
    pub start_within: Option<Duration>,
    /// Retries after the first attempt
    #[arg(long, requires = "command")]
    pub retries: Option<u32>,
    /// Only on workers with these labels: zone=eu, ssd
    #[arg(long = "constraint", value_name = "TEST", requires = "command")]
    pub constraints: Vec<Constraint>,
    /// Never on a worker together with another task that has the same name here
    #[arg(long = "anti-affinity", value_name = "NAME", requires = "command")]
    pub anti_affinity: Vec<String>,
    /// Run in this directory of the worker instead of a fresh one
    #[arg(long, value_name = "DIR", value_parser = NonEmptyStringValueParser::new(), requires = "command")]
    pub workdir: Option<String>,
}

/// What is to be submitted: a file, or a command after `--`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct WhatArgs {
    /// Job file: YAML, TOML or JSON; `-` is standard input
    #[arg(value_name = "FILE", conflicts_with = "command", required_unless_present = "command")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub job: JobArgs,
    #[command(flatten)]
    pub task: TaskArgs,
    /// A command with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

impl WhatArgs {
    /// A valid job, or everything that is wrong with it.
    pub fn spec(&self, limits: &Limits) -> Result<JobSpec, Fault> {
        let mut spec = match &self.file {
            Some(file) => {
                jobfile::read(file, limits).map_err(|bad| Fault::bad_files("cannot submit", &[bad]))?
            }
            None => JobSpec::of("", vec![self.task.task(&self.command, limits)?]),
        };
        self.job.lay_over(&mut spec);
        if spec.name.is_empty() && self.file.is_none() {
            spec.name.clone_from(&spec.tasks[0].name);
        }
        let errors = validate(&spec, limits);
        if errors.is_empty() {
            return Ok(spec);
        }
        let fault = Fault::usage(format!("cannot submit: {} errors", errors.len()));
        let fault = Fault { outcome: "Nothing was submitted.".to_owned(), ..fault };
        Err(errors.iter().fold(fault, |fault, error| fault.why(error.to_string())))
    }
}

impl JobArgs {
    fn lay_over(&self, spec: &mut JobSpec) {
        if let Some(name) = &self.name {
            spec.name.clone_from(name);
        }
        if let Some(queue) = &self.queue {
            spec.queue.clone_from(queue);
        }
        spec.priority = self.priority.unwrap_or(spec.priority);
        spec.labels.extend(self.labels.iter().cloned());
        spec.after.extend(&self.after);
        spec.delay = self.delay.or(spec.delay);
        spec.start_at = self.start_at.or(spec.start_at);
    }
}

/// `cpu=1,gpu=1`; one core where none is named.
fn amounts(text: &str) -> Result<Resources, String> {
    let mut resources = Resources::cores(1);
    for part in text.split(',') {
        let (name, amount) = label(part)?;
        resources.set(&name, parse_amount(&name, &amount).map_err(|error| format!("{name}: {error}"))?);
    }
    Ok(resources)
}

impl TaskArgs {
    fn task(&self, command: &[String], limits: &Limits) -> Result<TaskSpec, Fault> {
        let mut task = TaskSpec::new(&task_name(&command[0]), Work::Run(command.to_vec()));
        task.resources = self.asked()?;
        task.resources.set_apart(self.anti_affinity.iter().cloned());
        task.alternatives = self.alternatives.clone().into();
        for other in task.alternatives.iter_mut() {
            other.set_apart(self.anti_affinity.iter().cloned());
        }
        task.array = self.array;
        self.gang.into_iter().for_each(|members| task.set_gang(members));
        if let Some(file) = &self.each_line {
            task.each_line = Some(Box::new(read(file, limits)?));
        }
        for name in &self.env_pass {
            let value = std::env::var(name)
                .map_err(|_| Fault::usage(format!("--env-pass {name}: it is not set here")))?;
            task.env.insert(name.clone(), EnvValue::Plain(value));
        }
        let set = self.env.iter().map(|(name, value)| (name.clone(), EnvValue::Plain(value.clone())));
        task.env.extend(set);
        for (to, from) in &self.files {
            task.files.push(file(to, from, limits)?);
        }
        task.timeout = self.timeout;
        task.timing = Timing {
            estimate: self.estimate,
            deadline: self.deadline,
            period: self.period,
            start_within: self.start_within,
        }
        .boxed();
        task.retry.max = self.retries.unwrap_or(0);
        task.constraints = self.constraints.clone().into();
        task.workdir = self.workdir.clone().unwrap_or_default().into();
        Ok(task)
    }

    fn asked(&self) -> Result<Resources, Fault> {
        let mut resources = Resources::cores(1);
        let named = [("cpu", &self.cpu), ("memory", &self.memory)];
        let named = named.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?)));
        let others = self.resources.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        for (name, text) in named.chain(others) {
            let amount =
                parse_amount(name, text).map_err(|error| Fault::usage(format!("{name}: {error}")))?;
            resources.set(name, amount);
        }
        Ok(resources)
    }
}

/// A file whose bytes go along with the job; one that is too large for it is not read to its end.
fn read(path: &Path, limits: &Limits) -> Result<Blob, Fault> {
    let fault = |error: std::io::Error| Fault::of_file("cannot submit", path, &error);
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(fault)?)
    };
    let max = limits.inline_bytes_per_job_max;
    let mut bytes = Vec::new();
    source.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > max {
        let what = format!("cannot submit: {} is above inline_bytes_per_job_max = {max}", path.display());
        let fault = Fault { outcome: "Nothing was submitted.".to_owned(), ..Fault::usage(what) };
        return Err(fault.fix("put larger data where the workers reach it, as a `url` or on shared storage"));
    }
    Ok(Blob::inline(bytes))
}

fn file(to: &str, from: &str, limits: &Limits) -> Result<model::FileSpec, Fault> {
    let path = Path::new(from);
    let content = read(path, limits)?;
    let is_executable = std::fs::metadata(path).is_ok_and(|meta| mode(&meta) & 0o111 != 0);
    let mode = if is_executable { 0o755 } else { model::spec::FILE_MODE_DEFAULT };
    Ok(model::FileSpec { to: to.to_owned(), mode, content })
}

fn mode(meta: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&meta.permissions())
}

/// The program's own name, as far as a task may be called so.
fn task_name(program: &str) -> String {
    let base = program.rsplit('/').next().unwrap_or_default();
    let allowed = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = base.chars().map(allowed).take(64).collect();
    let is_free =
        !name.is_empty() && !model::spec::is_job_id(&name) && !name.bytes().all(|byte| byte.is_ascii_digit());
    if is_free { name } else { "task".to_owned() }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        what: WhatArgs,
    }

    fn spec(line: &[&str]) -> Result<JobSpec, Fault> {
        let line = std::iter::once("x").chain(line.iter().copied());
        Line::try_parse_from(line)
            .map_err(|error| Fault::usage(error.to_string()))?
            .what
            .spec(&Limits::default())
    }

    #[test]
    fn a_command_becomes_a_job_of_one_task() {
        let spec = spec(&[
            "--array",
            "0-9",
            "--queue",
            "q",
            "--priority",
            "-2",
            "--after",
            "j3,4",
            "--cpu",
            "0.5",
            "--memory",
            "1MiB",
            "--resource",
            "gpu=2",
            "-e",
            "A=b=c",
            "--timeout",
            "5m",
            "--start-within",
            "10m",
            "--retries",
            "2",
            "--",
            "/bin/echo",
            "-n",
            "hi",
        ])
        .unwrap();
        let task = &spec.tasks[0];
        assert_eq!((spec.name.as_str(), spec.queue.as_str(), spec.priority), ("echo", "q", -2));
        assert_eq!(*spec.after, [JobId(3), JobId(4)]);
        assert_eq!(task.work, Work::Run(vec!["/bin/echo".into(), "-n".into(), "hi".into()]));
        assert_eq!(
            (task.resources.cpu, task.resources.memory, task.resources.get("gpu")),
            (5_000, 1 << 20, 20_000)
        );
        assert_eq!((task.count(), task.retry.max, task.timeout), (10, 2, Some(Duration::from_secs(300))));
        assert_eq!(task.timing().start_within, Some(Duration::from_secs(600)));
        assert_eq!(task.env["A"], EnvValue::Plain("b=c".to_owned()));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(spec(&[]).is_err());
        assert!(spec(&["job.yaml", "--", "echo"]).is_err());
        assert!(spec(&["--array", "0-9", "job.yaml"]).is_err(), "an array belongs to a command");
        assert!(spec(&["--cpu", "lots", "--", "x"]).unwrap_err().what.contains("lots"));
        assert!(spec(&["--env-pass", "SURELY_NOT_SET_HERE", "--", "x"]).is_err());
        assert!(spec(&["--start-within", "soon", "--", "x"]).unwrap_err().what.contains("soon"));
        assert!(spec(&["--start-within", "1m", "job.yaml"]).is_err(), "a limit belongs to a command");
        let fault = spec(&["--start-within", "0s", "--", "x"]).unwrap_err();
        assert_eq!(fault.why, ["tasks[0].start_within: shorter than 1ms: leave it out"]);
        let fault = spec(&["--queue", "a b", "-e", "BATON_X=1", "--", "x"]).unwrap_err();
        assert_eq!(fault.why.len(), 2, "{fault:?}");
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read_to_its_end() {
        for flag in ["--each-line", "--file"] {
            let value = if flag == "--file" { "zeros=/dev/zero" } else { "/dev/zero" };
            let fault = spec(&[flag, value, "--", "x"]).unwrap_err();
            assert!(fault.what.contains("/dev/zero is above inline_bytes_per_job_max = 262144"), "{fault:?}");
        }
    }

    #[test]
    fn any_program_gives_a_valid_task_name() {
        for program in ["./a b.sh", "j42", "42", "/", "ü"] {
            assert!(spec(&["--", program]).is_ok(), "{program}");
        }
    }
}
