//! `baton simulate`: a workload in virtual time, under each of some policies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::settings::Limits;
use model::size::PARTS;
use model::{Dependency, JobSpec, QueuePolicy};
use serde_json::{Map, Value, json};
use whatif::{Figures, Generator, Job, Malformed, Policy, Run, Task, Workload};

use super::compare;
use super::live::{self, CORES_MAX, Machines};
use crate::app::App;
use crate::config::duration;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::jobfile;
use crate::output::Format;
use crate::output::rows::{Row, View};
use crate::output::table::Cell;
use crate::output::times::short;

/// Compare policies on a workload, in virtual time, with the planner that the leader has
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("input").required(true))]
pub struct Args {
    /// A trace in the Standard Workload Format
    #[arg(long, group = "input", value_name = "FILE")]
    trace: Option<PathBuf>,
    /// A workflow of WfCommons, as JSON
    #[arg(long, group = "input", value_name = "FILE")]
    workflow: Option<PathBuf>,
    /// A job file whose tasks have estimates
    #[arg(long, group = "input", value_name = "FILE")]
    job: Option<PathBuf>,
    /// What `baton history` wrote: each task takes as long as it took
    #[arg(long, groups = ["input", "kept"], value_name = "FILE")]
    history: Option<PathBuf>,
    // Alone in a group, for what requires an argument is let off where that argument may not stand; a group lets nobody off.
    /// The history and the workers of the live cluster
    #[arg(long, groups = ["input", "kept", "live"])]
    from_cluster: bool,
    /// So many jobs that are made up
    #[arg(long, group = "input", value_name = "JOBS", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    generate: Option<u64>,
    /// Cores of the cluster
    #[arg(long, visible_alias = "cores", value_parser = clap::value_parser!(u64).range(1..=CORES_MAX))]
    #[arg(required_unless_present = "from_cluster", conflicts_with = "from_cluster")]
    procs: Option<u64>,
    /// Policies, separated by commas; `all` is all there are. Absent: fcfs, sjf, first-fit, easy, easy-sjf, conservative, and
    /// with --from-cluster the present one
    #[arg(long, value_delimiter = ',', value_parser = policies)]
    policy: Vec<Policies>,
    /// Of a history: only this queue
    #[arg(long, requires = "kept")]
    queue: Option<String>,
    /// Of the live cluster: only jobs submitted within this time, as in 2h
    #[arg(long, value_name = "SPAN", requires = "live", value_parser = duration)]
    last: Option<Duration>,
    /// With so many more workers, of the median size of those that live
    #[arg(long, value_name = "WORKERS", requires = "live", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    add_workers: Option<u32>,
    /// Only the first so many jobs
    #[arg(long, value_name = "JOBS")]
    first: Option<usize>,
    /// What tasks are expected to take: as given, or learnt in the run, as the cluster does, from what earlier ones of the
    /// same user took. A history has them as they were known
    #[arg(long, value_enum, conflicts_with = "kept")]
    estimates: Option<Estimates>,
    /// Of what is made up: work that comes, as a part of what the cores can do, 0.05 to 2
    #[arg(long, default_value_t = 0.8)]
    load: f64,
    /// Of what is made up
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum Estimates {
    Given,
    Learnt,
}

#[derive(Clone, Debug)]
struct Policies(Vec<Policy>);

fn policies(text: &str) -> Result<Policies, String> {
    let names: Vec<&str> = if text == "all" { whatif::NAMES.to_vec() } else { vec![text] };
    names.into_iter().map(str::parse).collect::<Result<_, _>>().map(Policies)
}

/// Compared unless others are named.
const POLICIES: [&str; 6] = ["fcfs", "sjf", "first-fit", "easy", "easy-sjf", "conservative"];
/// Bytes of a trace that are read: some ten million jobs.
const FILE_BYTES_MAX: u64 = 2 << 30;
const DOING: &str = "cannot simulate";

/// What is run, and on what.
struct Input {
    title: String,
    workload: Workload,
    /// As the workload counts them, and as people do.
    cores: u64,
    procs: Value,
    /// Beside the usual ones.
    facts: Vec<(String, String)>,
    more: Map<String, Value>,
    present: Option<Policy>,
}

pub async fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    let mut input = input(args, app).await?;
    if let Some(jobs) = args.first {
        input.workload = input.workload.first(jobs);
    }
    if input.workload.jobs.is_empty() {
        let left_out = input.workload.left_out;
        let why = format!("the workload has no jobs that ran; {left_out} tasks or jobs did not");
        return Err(Fault::usage(DOING).why(why));
    }
    if input.workload.widest() > input.cores {
        let widest = input.workload.widest();
        let why = format!("a task asks for {widest} cores, the cluster is to have {}", input.procs);
        return Err(Fault::usage(DOING).why(why).fix(format!("give `--procs {widest}` or more")));
    }
    let policies = chosen(args, &input);
    let pictures = matches!(app.face.format, Format::Html | Format::Svg);
    if app.face.format == Format::Svg && policies.len() != 1 {
        let why = format!("a picture shows one policy, and this would be one of {}", policies.len());
        let fix = "name one, as in `--policy critical-path`, or give `-o html`, which shows all";
        return Err(Fault::usage(DOING).why(why).fix(fix));
    }
    let runs = compare::all(app, DOING, (&input.workload, input.cores), &policies, pictures)?;
    let notes = whatif::notes(&policies, &input.workload);
    print(app, &input, &notes, &runs)
}

/// Those named; else the present one, where there is one, and the usual ones that are not the same.
fn chosen(args: &Args, input: &Input) -> Vec<Policy> {
    let named: Vec<Policy> = args.policy.iter().flat_map(|policies| policies.0.clone()).collect();
    if !named.is_empty() {
        return named;
    }
    let usual = POLICIES.iter().filter_map(|name| name.parse::<Policy>().ok());
    let present = input.present.iter();
    let usual =
        usual.filter(|policy| input.present.as_ref().is_none_or(|present| present.queue != policy.queue));
    present.cloned().chain(usual).collect()
}

fn print(app: &App, input: &Input, notes: &[String], runs: &[(Run, Figures)]) -> Result<Exit, Fault> {
    let Input { title, workload, procs, facts, more, .. } = input;
    let figures: Vec<Figures> = runs.iter().map(|(_, figures)| figures.clone()).collect();
    match app.face.format {
        Format::Html => {
            let notes: Vec<_> = notes.iter().map(|note| ("note".to_owned(), note.clone())).collect();
            let facts = [&[("cores".to_owned(), procs.to_string())], &facts[..], &notes].concat();
            app.face.print(&whatif::render(title, &facts, workload, runs))?;
        }
        Format::Svg => {
            let run = &runs[0].0;
            notes.iter().for_each(|note| app.face.note(&format!("note: {note}")));
            app.face.print(&whatif::gantt(&format!("{title}: {}", run.policy), workload, run))?;
        }
        Format::Json | Format::Jsonl => {
            let value = json!({"workload": title, "procs": procs, "jobs": workload.jobs.len(),
                               "tasks": workload.tasks().count(), "left_out": workload.left_out, "notes": notes, "policies": figures});
            let mut value = value.as_object().cloned().unwrap_or_default();
            value.extend(more.clone());
            app.face.one(&value, title, String::new)?;
        }
        Format::Table | Format::Wide | Format::Name => {
            if !more.is_empty() {
                let told: Vec<String> =
                    facts.iter().map(|(name, value)| format!("{name}: {value}")).collect();
                app.face.note(&told.join("\n"));
            }
            notes.iter().for_each(|note| app.face.note(&format!("note: {note}")));
            app.face.list(&figures, None)?;
        }
    }
    Ok(Exit::DONE)
}

async fn input(args: &Args, app: &App) -> Result<Input, Fault> {
    if args.from_cluster {
        return of_cluster(args, app).await;
    }
    let procs = args.procs.unwrap_or(1);
    if let Some(path) = &args.history {
        return of_history(args, path, procs);
    }
    let (title, mut workload) = workload(args, procs)?;
    let mut facts = vec![
        ("jobs".to_owned(), workload.jobs.len().to_string()),
        ("tasks".to_owned(), workload.tasks().count().to_string()),
        ("left out, for they did not run".to_owned(), workload.left_out.to_string()),
    ];
    let mut more = Map::new();
    if args.estimates == Some(Estimates::Learnt) {
        workload = workload.learnt();
        facts.push(("estimates".to_owned(), "learnt in the run".to_owned()));
        more.insert("estimates".to_owned(), json!("learnt"));
    }
    let (procs, present) = (procs.into(), None);
    Ok(Input { title, workload, cores: args.procs.unwrap_or(1), procs, facts, more, present })
}

fn of_history(args: &Args, path: &Path, procs: u64) -> Result<Input, Fault> {
    let (title, mut history) = read(path, whatif::read_history)?;
    if let Some(queue) = &args.queue {
        let any = history.jobs.len();
        history.jobs.retain(|job| job.queue == *queue);
        if history.jobs.is_empty() && any > 0 {
            return Err(Fault::usage(DOING).why(format!("none of the {any} jobs is of queue `{queue}`")));
        }
    }
    let replay = whatif::replay(&history, None);
    let widest = replay.workload.widest().div_ceil(replay.parts_per_core);
    if widest > procs {
        let why = format!("a task asks for {widest} cores, the cluster is to have {procs}");
        return Err(Fault::usage(DOING).why(why).fix(format!("give `--procs {widest}` or more")));
    }
    let facts = live::facts(&replay);
    let more = Map::from_iter([("history".to_owned(), json!(replay.facts))]);
    let cores = replay.cores(procs * PARTS);
    Ok(Input { title, workload: replay.workload, cores, procs: procs.into(), facts, more, present: None })
}

async fn of_cluster(args: &Args, app: &App) -> Result<Input, Fault> {
    let machines = Machines::read(app, DOING, args.add_workers.unwrap_or(0)).await?;
    let history = live::recent(app, DOING, args.queue.as_deref(), args.last).await?;
    let queue = live::present(app, DOING, args.queue.as_deref(), &history).await?;
    let replay = whatif::replay(&history, Some(machines.parts));
    let mut facts = live::facts(&replay);
    facts.insert(0, ("cores".to_owned(), machines.told()));
    let mut more = Map::from_iter([
        ("history".to_owned(), json!(replay.facts)),
        ("workers".to_owned(), machines.json()),
    ]);
    if let Some(queue) = &queue {
        let QueuePolicy { order, backfill, .. } = queue.policy;
        facts
            .push(("present".to_owned(), format!("{order}, {backfill}: the policy of queue {}", queue.name)));
        more.insert("present".to_owned(), json!({"queue": queue.name, "policy": queue.policy}));
    }
    let title = match &args.queue {
        Some(queue) => format!("queue {queue} of the live cluster"),
        None => "the live cluster".to_owned(),
    };
    let present = queue.map(|queue| Policy { name: "present".to_owned(), queue: queue.policy });
    let cores = replay.cores(machines.parts);
    let procs = live::number(machines.parts);
    Ok(Input { title, workload: replay.workload, cores, procs, facts, more, present })
}

fn workload(args: &Args, procs: u64) -> Result<(String, Workload), Fault> {
    if let Some(path) = &args.trace {
        return read(path, whatif::read_swf);
    }
    if let Some(path) = &args.workflow {
        return read(path, whatif::read_wfcommons);
    }
    if let Some(path) = &args.job {
        let spec = jobfile::read(path, &Limits::default());
        let spec = spec.map_err(|file| Fault::bad_files(DOING, &[file]))?;
        let title = if spec.name.is_empty() { path.display().to_string() } else { spec.name.clone() };
        return Ok((title, of_job(&spec)?));
    }
    let jobs = args.generate.unwrap_or(0);
    if !(0.05..=2.0).contains(&args.load) {
        return Err(Fault::usage(DOING).why(format!("--load: {} is not 0.05 to 2", args.load)));
    }
    let how = Generator { jobs: jobs as usize, cores: procs, load: args.load, seed: args.seed };
    let title = format!("{jobs} jobs, load {}, seed {}", args.load, args.seed);
    Ok((title, whatif::generate(&how)))
}

/// What a file says, with its name.
fn read<T>(path: &Path, parse: fn(&str) -> Result<T, Malformed>) -> Result<(String, T), Fault> {
    let name = path.display().to_string();
    let text = read_text(path).map_err(|why| Fault::usage(DOING).why(format!("{name}: {why}")))?;
    let title = path.file_name().map_or_else(|| name.clone(), |name| name.to_string_lossy().into_owned());
    let found = parse(&text).map_err(|error| {
        Fault::usage(DOING).why(format!("{name}: {error}")).fix("mend the line, or leave it out")
    })?;
    Ok((title, found))
}

fn read_text(path: &Path) -> Result<String, String> {
    let told = |error: std::io::Error| format!("cannot be read: {error}");
    let size = std::fs::metadata(path).map_err(told)?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("has {size} bytes, and at most {FILE_BYTES_MAX} are read"));
    }
    std::fs::read_to_string(path).map_err(told)
}

/// The tasks of a job file, arrays counted through. Each takes as long as its estimate says.
fn of_job(spec: &JobSpec) -> Result<Workload, Fault> {
    let unknown: Vec<&str> = spec
        .tasks
        .iter()
        .filter(|task| task.timing().estimate.is_none())
        .map(|task| task.name.as_str())
        .collect();
    if !unknown.is_empty() {
        let why = format!("no estimate is given for {}", unknown.join(", "));
        return Err(Fault::usage("cannot simulate").why(why).fix("give each task an `estimate: 5m`"));
    }
    let mut first: Vec<usize> = Vec::new();
    let mut count = 0;
    for task in &spec.tasks {
        first.push(count);
        count += task.count() as usize;
    }
    let place = |name: &str| spec.tasks.iter().position(|task| task.name == name);
    let members = |place: usize| first[place]..first[place] + spec.tasks[place].count() as usize;
    let mut tasks = Vec::with_capacity(count);
    for task in &spec.tasks {
        let timing = task.timing();
        let run = timing.estimate.unwrap_or_default().max(Duration::from_millis(1));
        let whole = task.after.iter().filter_map(|dependency| match dependency {
            Dependency::Task(name) => place(name),
            Dependency::Job(_) => None,
        });
        let whole: Vec<usize> = whole.flat_map(members).collect();
        for position in 0..task.count() {
            let each = task.after_each.iter().filter_map(|name| place(name));
            let each = each.map(|place| first[place] + position as usize);
            let name = if task.is_array() { format!("{}.{position}", task.name) } else { task.name.clone() };
            tasks.push(Task {
                estimate: Some(run),
                deadline: timing.deadline,
                period: timing.period,
                after: whole.iter().copied().chain(each).collect(),
                ..Task::new(name, task.resources.cpu.div_ceil(PARTS).max(1), run)
            });
        }
    }
    let job = Job { submit: Duration::ZERO, user: String::new(), priority: spec.priority, tasks };
    Ok(Workload { jobs: vec![job], ..Workload::default() })
}

impl Row for Figures {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn columns(is_wide: bool) -> Vec<&'static str> {
        let always = ["policy", "mean wait", "median", "p95", "longest", "slowdown", "makespan", "used"];
        let wide = ["fairness", "overtook", "backfilled", "promised", "late", "preempted", "missed"];
        let wide: &[&str] = if is_wide { &wide } else { &[] };
        always.iter().chain(wide).copied().collect()
    }

    fn cells(&self, view: View) -> Vec<Cell> {
        let span = |seconds: f64| short(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        let mut cells = vec![
            self.name.clone(),
            span(self.mean_wait_s),
            span(self.median_wait_s),
            span(self.p95_wait_s),
            span(self.max_wait_s),
            format!("{:.2}", self.mean_bounded_slowdown),
            span(self.makespan_s),
            format!("{:.1} %", self.utilisation * 100.0),
        ];
        if view.is_wide {
            cells.extend([
                format!("{:.3}", self.fairness),
                self.overtook.to_string(),
                self.backfilled.to_string(),
                self.promised.to_string(),
                self.promises_broken.to_string(),
                self.preemptions.to_string(),
                format!("{} of {}", self.deadline_misses, self.deadlines),
            ]);
        }
        cells.into_iter().map(Cell::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_file_becomes_a_workload_with_its_arrays() {
        let text = r#"{"priority":4,"tasks":[{"name":"a","noop":true,"array":"0-1","estimate":"3s","period":"9s","deadline":"8s"},
            {"name":"b","noop":true,"array":"0-1","after_each":["a"],"estimate":"1s","resources":{"cpu":1.5}},
            {"name":"c","noop":true,"after":["a","b"],"estimate":"2s"}]}"#;
        let found = of_job(&serde_json::from_str(text).unwrap()).unwrap();
        let tasks = &found.jobs[0].tasks;
        assert_eq!(tasks.len(), 5);
        assert_eq!((tasks[3].after.as_slice(), tasks[3].cores), (&[1usize][..], 2));
        assert_eq!(tasks[4].after, [0, 1, 2, 3]);
        assert_eq!(found.jobs[0].priority, 4);
        assert_eq!(
            (tasks[1].period, tasks[1].deadline),
            (Some(Duration::from_secs(9)), Some(Duration::from_secs(8)))
        );
        assert_eq!((tasks[4].period, tasks[4].deadline), (None, None));
        let bare = of_job(&serde_json::from_str(r#"{"tasks":[{"name":"a","noop":true}]}"#).unwrap());
        assert!(bare.unwrap_err().why[0].contains("no estimate is given for a"));
    }

    #[test]
    fn a_policy_that_is_not_there_is_told_with_the_nearest() {
        assert!(policies("eassy").unwrap_err().contains("did you mean `easy`"));
        assert_eq!(policies("all").unwrap().0.len(), whatif::NAMES.len());
    }
}
