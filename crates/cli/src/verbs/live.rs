//! What a what-if run takes from the live cluster: its history, its workers, the policy of a queue.

use std::time::Duration;

use model::Timestamp;
use model::size::{PARTS, format_parts};
use model::views::{QueueView, WorkerState, WorkerView};
use serde_json::{Value, json};
use whatif::{Broken, Facts, History, PastJob, Policy, Replay};

use super::history::{self, Wanted};
use crate::app::App;
use crate::clock;
use crate::fault::Fault;
use crate::output::counted;
use crate::output::times::short;

/// Cores that a simulated cluster may have.
pub const CORES_MAX: u64 = 1_000_000;

/// The cores of the live workers, with those of some that are made up.
#[derive(Clone, Debug, PartialEq)]
pub struct Machines {
    pub workers: usize,
    /// In ten-thousandths of a core.
    pub parts: u64,
    /// How many are made up, and the size of each.
    pub added: (u32, u64),
}

impl Machines {
    /// Those that are made up are as large as the median of those that live, of two the smaller.
    fn of(workers: &[WorkerView], add: u32) -> Option<Machines> {
        let live = workers.iter().filter(|worker| worker.state == WorkerState::Live);
        let mut sizes: Vec<u64> =
            live.map(|worker| worker.capacity.total.cpu).filter(|cpu| *cpu > 0).collect();
        sizes.sort_unstable();
        let median = *sizes.get(sizes.len().checked_sub(1)? / 2)?;
        let parts = sizes.iter().sum::<u64>().saturating_add(median.saturating_mul(add.into()));
        Some(Machines { workers: sizes.len(), parts, added: (add, median) })
    }

    pub async fn read(app: &App, doing: &str, add: u32) -> Result<Machines, Fault> {
        let workers = app.client.workers().await.map_err(|error| Fault::reading(doing, error))?.value;
        let machines = Machines::of(&workers, add).ok_or_else(|| {
            Fault::failed(format!("{doing}: no live worker has any cores"))
                .why(format!("{} known, none that takes work", counted(workers.len() as u64, "worker")))
                .fix("start one (`baton worker`), or uncordon one (`baton worker list` shows them)")
        })?;
        if machines.parts > CORES_MAX * PARTS {
            let why = format!("{} cores would be simulated, and at most {CORES_MAX} are", machines.cores());
            return Err(Fault::usage(doing).why(why).fix("give a smaller `--add-workers`"));
        }
        Ok(machines)
    }

    pub fn cores(&self) -> String {
        format_parts(self.parts)
    }

    /// `4 of 2 live workers`, and what was assumed.
    pub fn told(&self) -> String {
        let (added, size) = self.added;
        let live = format_parts(self.parts - size * u64::from(added));
        let told = format!("{live} of {}", counted(self.workers as u64, "live worker"));
        match added {
            0 => told,
            _ => format!("{told}, and {added} x {} assumed, the median size", format_parts(size)),
        }
    }

    pub fn json(&self) -> Value {
        let (added, size) = self.added;
        json!({"live": self.workers, "added": added, "added_cores_each": number(size)})
    }
}

/// A number of cores, whole where it is.
pub fn number(parts: u64) -> Value {
    format_parts(parts).parse().unwrap_or(Value::Null)
}

/// What the cluster keeps of the jobs submitted within the last `span`.
pub async fn recent(
    app: &App,
    doing: &str,
    queue: Option<&str>,
    span: Option<Duration>,
) -> Result<History, Fault> {
    let since: Option<Timestamp> = span.map(|span| clock::now().minus(span));
    history::read(app, doing, Wanted { queue, since }).await
}

/// The queue whose policy is the present one: the one asked for, else the only one that the history has, else `default`.
pub async fn present(
    app: &App,
    doing: &str,
    queue: Option<&str>,
    history: &History,
) -> Result<Option<QueueView>, Fault> {
    let only = history.jobs.first().filter(|first| history.jobs.iter().all(|job| job.queue == first.queue));
    let name = queue.or(only.map(|job| job.queue.as_str())).unwrap_or(model::spec::QUEUE_DEFAULT);
    let queues = app.client.queues().await.map_err(|error| Fault::reading(doing, error))?.value;
    Ok(queues.into_iter().find(|queue| queue.name == name))
}

/// A run that did what no run may do.
pub fn broken(doing: &str, policy: &Policy, broken: &Broken) -> Fault {
    let why = format!("a run under {policy} is not sound: {broken}");
    Fault::failed(doing).why(why).fix("this is a bug of Baton's: report it, with the command and its input")
}

/// Work that ended, in seconds of one core.
pub fn work<'a>(jobs: impl IntoIterator<Item = &'a PastJob>) -> f64 {
    let tasks = jobs.into_iter().flat_map(|job| &job.tasks);
    let runs = tasks.flat_map(|task| task.runs.iter().map(move |run| (task.parts, run)));
    let seconds = |(parts, run): (u64, &whatif::PastRun)| {
        let took = run.took().unwrap_or_default().as_secs_f64();
        took * f64::from(run.count) * parts as f64 / PARTS as f64
    };
    // The sum of nothing would be minus zero.
    runs.map(seconds).fold(0.0, |all, one| all + one)
}

/// What is replayed and what is not, each with its name.
pub fn facts(replay: &Replay) -> Vec<(String, String)> {
    let Facts { jobs, tasks, not_ended, too_wide, too_entwined, retried, without_estimate, .. } =
        replay.facts;
    let span = Duration::try_from_secs_f64(replay.facts.span_s).unwrap_or_default();
    let mut told = vec![
        ("jobs".to_owned(), jobs.to_string()),
        ("tasks that ended".to_owned(), tasks.to_string()),
        ("from the first submit to the last end".to_owned(), short(span)),
        ("left out, for they did not end".to_owned(), not_ended.to_string()),
    ];
    let rare = [
        (too_wide, "left out, for they ask for more cores than there are"),
        (too_entwined, "left out, for too many of one job wait for each other"),
        (retried, "only the last attempt replayed of"),
        (without_estimate, "no estimate was known of"),
    ];
    told.extend(
        rare.iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| ((*what).to_owned(), count.to_string())),
    );
    if replay.parts_per_core > 1 {
        told.push(("parts of a core, as which charts count".to_owned(), replay.parts_per_core.to_string()));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Capacity, Resources};

    fn worker(cores: u64, state: WorkerState) -> WorkerView {
        WorkerView {
            name: "w".to_owned(),
            state,
            session: None,
            capacity: Capacity::of(Resources::cores(cores)),
            used: Resources::default(),
            labels: Default::default(),
            kinds: Vec::new(),
            functions: Vec::new(),
            attempts: 0,
            isolation: String::new(),
        }
    }

    #[test]
    fn workers_that_are_made_up_are_as_large_as_the_median_of_those_that_live() {
        let live = |cores| worker(cores, WorkerState::Live);
        let workers = [
            live(16),
            live(2),
            worker(64, WorkerState::Gone),
            live(4),
            live(8),
            worker(9, WorkerState::Cordoned),
        ];
        let found = Machines::of(&workers, 3).unwrap();
        assert_eq!((found.workers, found.parts), (4, (30 + 3 * 4) * PARTS));
        assert_eq!(found.told(), "30 of 4 live workers, and 3 x 4 assumed, the median size");
        assert_eq!(Machines::of(&workers[..1], 0).unwrap().told(), "16 of 1 live worker");
        assert_eq!(Machines::of(&workers[2..3], 5), None);
    }

    #[test]
    fn amounts_are_numbers() {
        assert_eq!((number(PARTS * 4), number(PARTS / 2)), (json!(4), json!(0.5)));
    }
}
