//! Selectors: how jobs and tasks are named on the command line.

use std::fmt;
use std::str::FromStr;

use client::{Client, JobFilter, Target};
use model::{JobId, JobSpec, Run, RunSet};

use crate::fault::Fault;

/// One selector, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// `j42`, `42`, `12-20`, `1,3,7`: first and last of each range.
    Jobs(Vec<(u64, u64)>),
    /// `last`, `name@latest`.
    One(JobRef),
    /// `j42.7`, `j42.fetch`, `j42.shard[17]`, `j42.0-99`; `#2` after it names an attempt.
    Tasks { job: JobRef, tasks: TaskPick, attempt: Option<u32> },
    /// `all`: my unfinished jobs.
    All,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobRef {
    Id(JobId),
    /// My last job.
    Last,
    /// The newest of that name.
    Named(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskPick {
    Numbers(RunSet),
    /// Tasks of one entry; of an array those with these indexes, or all.
    Group {
        name: String,
        indexes: Option<RunSet>,
    },
}

/// Why a text is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` names no jobs or tasks; write j42, 12-20, 1,3,7, j42.7, j42.fetch, j42.shard[17], last, all or name@latest"
)]
pub struct BadSelector {
    text: String,
}

impl FromStr for Selector {
    type Err = BadSelector;
    fn from_str(text: &str) -> Result<Selector, BadSelector> {
        parse(text).ok_or_else(|| BadSelector { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Selector> {
    if text == "all" {
        return Some(Selector::All);
    }
    let (job, rest) = split_job(text)?;
    match (job, rest) {
        (Some(job), None) => Some(Selector::One(job)),
        (Some(job), Some(rest)) => tasks(job, rest),
        (None, Some(rest)) => {
            let (id, rest) = rest.split_once('.')?;
            tasks(JobRef::Id(job_id(id)?), rest)
        }
        (None, None) => Some(Selector::Jobs(job_ranges(text)?)),
    }
}

/// A job named by word, and what follows its dot; without a word the rest is the whole text, if it has a dot.
#[allow(clippy::type_complexity)]
fn split_job(text: &str) -> Option<(Option<JobRef>, Option<&str>)> {
    if text == "last" {
        return Some((Some(JobRef::Last), None));
    }
    if let Some(rest) = text.strip_prefix("last.") {
        return Some((Some(JobRef::Last), Some(rest)));
    }
    if let Some((name, rest)) = text.split_once("@latest") {
        let job = JobRef::Named(name.to_owned());
        let named = !name.is_empty();
        return match rest {
            "" if named => Some((Some(job), None)),
            _ if named => Some((Some(job), Some(rest.strip_prefix('.')?))),
            _ => None,
        };
    }
    Some((None, text.contains('.').then_some(text)))
}

fn job_id(text: &str) -> Option<JobId> {
    text.parse().ok()
}

fn job_ranges(text: &str) -> Option<Vec<(u64, u64)>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (job_id(first)?.0, job_id(last)?.0);
        (first <= last).then_some((first, last))
    };
    text.split(',').map(range).collect()
}

fn tasks(job: JobRef, text: &str) -> Option<Selector> {
    let (text, attempt) = match text.split_once('#') {
        Some((text, attempt)) => (text, Some(attempt.parse::<u32>().ok().filter(|n| *n > 0)?)),
        None => (text, None),
    };
    let tasks = if text.starts_with(|c: char| c.is_ascii_digit()) && numbers(text).is_some() {
        TaskPick::Numbers(numbers(text)?)
    } else if let Some((name, indexes)) = text.strip_suffix(']').and_then(|text| text.split_once('[')) {
        TaskPick::Group { name: name.to_owned(), indexes: Some(numbers(indexes)?) }
    } else {
        TaskPick::Group { name: text.to_owned(), indexes: None }
    };
    let is_named = !matches!(&tasks, TaskPick::Group { name, .. } if !model::validate::is_name(name));
    is_named.then_some(Selector::Tasks { job, tasks, attempt })
}

fn numbers(text: &str) -> Option<RunSet> {
    let mut set = RunSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if first > last || last == u32::MAX {
            return None;
        }
        set.insert(Run::new(first, last - first + 1));
    }
    Some(set)
}

impl fmt::Display for JobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobRef::Id(id) => write!(f, "{id}"),
            JobRef::Last => f.write_str("last"),
            JobRef::Named(name) => write!(f, "{name}@latest"),
        }
    }
}

/// Reads `key=value` for `-l`.
pub fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not key=value")),
    }
}

/// Turns selectors into ids by asking the cluster where that is needed.
pub struct Resolver<'a> {
    pub client: &'a Client,
    /// Whose `last` and `all`.
    pub user: &'a str,
}

impl Resolver<'_> {
    /// What all selectors and labels name, each job once and in order.
    pub async fn targets(
        &self,
        selectors: &[Selector],
        labels: &[(String, String)],
    ) -> Result<Vec<Target>, Fault> {
        let mut targets = Vec::new();
        for selector in selectors {
            targets.extend(self.target(selector).await?);
        }
        if !labels.is_empty() {
            let filter = JobFilter { labels: labels.iter().cloned().collect(), ..JobFilter::default() };
            targets.extend(self.listed(filter).await?.into_iter().map(Target::job));
        }
        Ok(merge(targets))
    }

    pub async fn jobs(
        &self,
        selectors: &[Selector],
        labels: &[(String, String)],
    ) -> Result<Vec<JobId>, Fault> {
        Ok(self.targets(selectors, labels).await?.into_iter().map(|target| target.job).collect())
    }

    /// The one job that a selector names.
    pub async fn job(&self, selector: &Selector) -> Result<JobId, Fault> {
        let jobs = self.jobs(std::slice::from_ref(selector), &[]).await?;
        match jobs[..] {
            [job] => Ok(job),
            _ => Err(Fault::usage(format!("this names {} jobs where one is needed", jobs.len()))),
        }
    }

    async fn target(&self, selector: &Selector) -> Result<Vec<Target>, Fault> {
        match selector {
            Selector::All => {
                let user = Some(self.user.to_owned());
                let filter = JobFilter { user, unfinished_only: true, ..JobFilter::default() };
                Ok(self.listed(filter).await?.into_iter().map(Target::job).collect())
            }
            Selector::One(job) => Ok(vec![Target::job(self.job_ref(job).await?)]),
            Selector::Jobs(ranges) => {
                let mut jobs = Vec::new();
                for (first, last) in ranges {
                    if first == last {
                        // Whether it exists is for the call itself to say.
                        jobs.push(JobId(*first));
                    } else {
                        jobs.extend(self.between(*first, *last).await?);
                    }
                }
                Ok(jobs.into_iter().map(Target::job).collect())
            }
            Selector::Tasks { job, tasks, .. } => {
                let job = self.job_ref(job).await?;
                Ok(vec![Target { job, tasks: Some(self.numbers(job, tasks).await?) }])
            }
        }
    }

    async fn job_ref(&self, job: &JobRef) -> Result<JobId, Fault> {
        let (filter, missing) = match job {
            JobRef::Id(id) => return Ok(*id),
            JobRef::Last => {
                let filter = JobFilter { user: Some(self.user.to_owned()), ..JobFilter::default() };
                (filter, format!("user `{}` has submitted no job that is still known", self.user))
            }
            JobRef::Named(name) => (
                JobFilter { name: Some(name.clone()), ..JobFilter::default() },
                format!("no job is called `{name}`"),
            ),
        };
        let page = self
            .client
            .list_jobs(&filter, 1, None)
            .await
            .map_err(|e| Fault::reading("cannot list jobs", e))?;
        page.value.items.first().map(|job| job.id).ok_or_else(|| Fault::not_found(missing))
    }

    async fn listed(&self, filter: JobFilter) -> Result<Vec<JobId>, Fault> {
        let (mut jobs, mut before) = (Vec::new(), None);
        loop {
            let page = self.client.list_jobs(&filter, 1_000, before).await;
            let page = page.map_err(|error| Fault::reading("cannot list jobs", error))?.value;
            jobs.extend(page.items.iter().map(|job| job.id));
            match page.next {
                Some(next) => before = Some(next),
                None => break,
            }
        }
        jobs.reverse();
        Ok(jobs)
    }

    async fn between(&self, first: u64, last: u64) -> Result<Vec<JobId>, Fault> {
        let (mut jobs, mut before) = (Vec::new(), Some(JobId(last.saturating_add(1))));
        while before.is_some_and(|before| before.0 > first) {
            let page = self.client.list_jobs(&JobFilter::default(), 1_000, before).await;
            let page = page.map_err(|error| Fault::reading("cannot list jobs", error))?.value;
            jobs.extend(page.items.iter().map(|job| job.id).filter(|job| job.0 >= first));
            before = page.next;
        }
        jobs.reverse();
        Ok(jobs)
    }

    async fn numbers(&self, job: JobId, pick: &TaskPick) -> Result<RunSet, Fault> {
        let (name, indexes) = match pick {
            TaskPick::Numbers(numbers) => return Ok(numbers.clone()),
            TaskPick::Group { name, indexes } => (name, indexes),
        };
        let spec =
            self.client.get_spec(job).await.map_err(|e| Fault::reading(&format!("cannot read {job}"), e))?;
        group_numbers(&spec.value, job, name, indexes.as_ref())
    }
}

fn group_numbers(spec: &JobSpec, job: JobId, name: &str, indexes: Option<&RunSet>) -> Result<RunSet, Fault> {
    let mut first = 0;
    for task in &spec.tasks {
        if task.name != name {
            first += task.count();
            continue;
        }
        let Some(indexes) = indexes else { return Ok(RunSet::of(Run::new(first, task.count()))) };
        let position = |index: u32| match task.array {
            Some(array) => array.position(index),
            None => (index < task.count()).then_some(index),
        };
        let mut set = RunSet::new();
        for index in indexes.numbers() {
            let missing = || Fault::not_found(format!("{job}.{name} has no index {index}"));
            set.insert(Run::new(first + position(index).ok_or_else(missing)?, 1));
        }
        return Ok(set);
    }
    let near = model::validate::nearest(name, spec.tasks.iter().map(|task| task.name.as_str()));
    let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    Err(Fault::not_found(format!("{job} has no task `{name}`{hint}")))
}

/// Joins targets of one job; a whole job covers any of its tasks.
fn merge(targets: Vec<Target>) -> Vec<Target> {
    let mut merged: Vec<Target> = Vec::new();
    for target in targets {
        let Some(known) = merged.iter_mut().find(|known| known.job == target.job) else {
            merged.push(target);
            continue;
        };
        known.tasks = match (known.tasks.take(), target.tasks) {
            (Some(mut all), Some(more)) => {
                all.extend(more.runs());
                Some(all)
            }
            _ => None,
        };
    }
    merged
}

#[cfg(test)]
mod tests {
    use model::{TaskSpec, Work};

    use super::*;

    fn set(runs: &[(u32, u32)]) -> RunSet {
        let mut set = RunSet::new();
        set.extend(runs.iter().map(|(first, len)| Run::new(*first, *len)));
        set
    }

    fn group(job: JobRef, name: &str, indexes: Option<RunSet>, attempt: Option<u32>) -> Selector {
        Selector::Tasks { job, tasks: TaskPick::Group { name: name.to_owned(), indexes }, attempt }
    }

    #[test]
    fn every_form_reads() {
        let j42 = || JobRef::Id(JobId(42));
        let numbers = |job, runs: &[(u32, u32)], attempt| Selector::Tasks {
            job,
            tasks: TaskPick::Numbers(set(runs)),
            attempt,
        };
        let cases = [
            ("j42", Selector::Jobs(vec![(42, 42)])),
            ("42", Selector::Jobs(vec![(42, 42)])),
            ("12-20", Selector::Jobs(vec![(12, 20)])),
            ("1,3,j7", Selector::Jobs(vec![(1, 1), (3, 3), (7, 7)])),
            ("j42.7", numbers(j42(), &[(7, 1)], None)),
            ("42.7#2", numbers(j42(), &[(7, 1)], Some(2))),
            ("j42.0-99", numbers(j42(), &[(0, 100)], None)),
            ("j42.1,3-4", numbers(j42(), &[(1, 1), (3, 2)], None)),
            ("j42.fetch", group(j42(), "fetch", None, None)),
            ("j42.2nd", group(j42(), "2nd", None, None)),
            ("j42.shard[17]", group(j42(), "shard", Some(set(&[(17, 1)])), None)),
            ("last", Selector::One(JobRef::Last)),
            ("last.fetch", group(JobRef::Last, "fetch", None, None)),
            ("my.etl@latest", Selector::One(JobRef::Named("my.etl".to_owned()))),
            ("etl@latest.fetch", group(JobRef::Named("etl".to_owned()), "fetch", None, None)),
            ("all", Selector::All),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for bad in
            ["", "j", "x", "20-12", "1,,2", "j42.", "j42.shard[", "j42.shard[x]", "@latest", "j42.7#0", "a b"]
        {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
    }

    #[test]
    fn indexes_of_a_stepped_array_become_numbers() {
        let mut shard = TaskSpec::new("shard", Work::Noop);
        shard.array = Some("10-30:10".parse().unwrap());
        let spec = JobSpec::of("x", vec![TaskSpec::new("fetch", Work::Noop), shard]);
        let numbers = |name, indexes: Option<&RunSet>| group_numbers(&spec, JobId(1), name, indexes);
        assert_eq!(numbers("shard", None).unwrap(), set(&[(1, 3)]));
        assert_eq!(numbers("shard", Some(&set(&[(20, 1)]))).unwrap(), set(&[(2, 1)]));
        assert_eq!(numbers("shard", Some(&set(&[(21, 1)]))).unwrap_err().what, "j1.shard has no index 21");
        assert!(numbers("shart", None).unwrap_err().what.ends_with("did you mean `shard`?"));
    }

    #[test]
    fn a_whole_job_covers_its_tasks() {
        let some = |runs| Target { job: JobId(1), tasks: Some(set(runs)) };
        assert_eq!(merge(vec![some(&[(1, 1)]), some(&[(2, 1)])]), [some(&[(1, 2)])]);
        assert_eq!(merge(vec![some(&[(1, 1)]), Target::job(JobId(1))]), [Target::job(JobId(1))]);
    }
}
