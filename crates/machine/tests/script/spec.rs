//! A job in one line: `queue=q priority=5 : fetch ; clean[0-9] after=fetch retry=2`.

use model::spec::Function;
use model::{ArrayRange, Dependency, JobSpec, Resources, TaskSpec, Work};

/// What stands left of the colon is of the job, each part right of it is a task.
pub fn job(text: &str) -> Result<JobSpec, String> {
    let text = format!(" {text}");
    let (options, tasks) = text.split_once(" : ").ok_or("give the tasks after a colon")?;
    let tasks = tasks.split(';').map(task).collect::<Result<Vec<_>, _>>()?;
    let mut spec = JobSpec::of("", tasks);
    for (name, value) in options.split_whitespace().map(pair) {
        match name {
            "name" => spec.name = value.to_owned(),
            "queue" => spec.queue = value.to_owned(),
            "priority" => spec.priority = value.parse().map_err(|_| "priority")?,
            "delay" => spec.delay = Some(model::time::parse_duration(value)?),
            "start_at" => spec.start_at = Some(value.parse()?),
            "after" => {
                spec.after = list(value).map(|id| id.parse().map_err(debug)).collect::<Result<_, _>>()?
            }
            other => return Err(format!("a job has no `{other}`")),
        }
    }
    Ok(spec)
}

fn task(text: &str) -> Result<TaskSpec, String> {
    let mut words = text.split_whitespace();
    let head = words.next().ok_or("a task needs a name")?;
    let (name, array) = match head.split_once('[') {
        None => (head, None),
        Some((name, range)) => (name, Some(range.trim_end_matches(']').parse::<ArrayRange>()?)),
    };
    let mut task = TaskSpec::new(name, Work::Noop).with(|task| task.array = array);
    let mut timing = model::Timing::default();
    for (name, value) in words.map(pair) {
        match name {
            "after" => task.after = list(value).map(Dependency::from).collect(),
            "each" => task.after_each = list(value).map(str::to_owned).collect(),
            "retry" => task.retry.max = value.parse().map_err(|_| "retry")?,
            "lost" => task.retry.lost_max = value.parse().map_err(|_| "lost")?,
            "backoff" => task.retry.backoff = value.parse()?,
            "sleep" => task.work = Work::Sleep(model::time::parse_duration(value)?),
            "run" => task.work = Work::Run(vec![value.to_owned()]),
            "function" => {
                task.work = Work::Function(Box::new(Function { name: value.to_owned(), input: None }))
            }
            "on" => task.constraints.push(value.parse()?),
            "apart" => task.resources.set_apart(list(value).map(str::to_owned)),
            // `or=cpu:1,gpu:1`
            "or" => {
                let mut other = Resources::default();
                for (name, amount) in list(value).filter_map(|part| part.split_once(':')) {
                    other.set(name, model::resources::parse_amount(name, amount)?);
                }
                task.alternatives.push(other);
            }
            "gang" => task.set_gang(value.parse().map_err(|_| "gang")?),
            "estimate" => timing.estimate = Some(model::time::parse_duration(value)?),
            "timeout" => task.timeout = Some(model::time::parse_duration(value)?),
            "deadline" => timing.deadline = Some(model::time::parse_duration(value)?),
            "start_within" => timing.start_within = Some(model::time::parse_duration(value)?),
            "period" => timing.period = Some(model::time::parse_duration(value)?),
            "priority" | "queue" => return Err(format!("`{name}` is of the job: write it before the colon")),
            resource => task.resources.set(resource, model::resources::parse_amount(resource, value)?),
        }
    }
    task.timing = timing.boxed();
    Ok(task)
}

pub fn pair(word: &str) -> (&str, &str) {
    word.split_once('=').unwrap_or((word, ""))
}

pub fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').filter(|part| !part.is_empty())
}

pub fn debug(error: impl std::fmt::Display) -> String {
    error.to_string()
}
