//! `baton simulate`: a workload in virtual time, under one policy after the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::settings::Limits;
use model::{Dependency, JobSpec};
use serde_json::json;
use whatif::{Figures, Generator, Job, Malformed, Policy, Run, Task, Workload};

use crate::app::App;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::jobfile;
use crate::output::Format;
use crate::output::progress::Rounds;
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
    /// So many jobs that are made up
    #[arg(long, group = "input", value_name = "JOBS", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    generate: Option<u64>,
    /// Cores of the cluster
    #[arg(long, visible_alias = "cores", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    procs: u64,
    /// Policies, separated by commas; `all` is all there are
    #[arg(long, value_delimiter = ',', default_value = "fcfs,sjf,first-fit,easy,easy-sjf,conservative", value_parser = policies)]
    policy: Vec<Policies>,
    /// Only the first so many jobs
    #[arg(long, value_name = "JOBS")]
    first: Option<usize>,
    /// Of what is made up: work that comes, as a part of what the cores can do, 0.05 to 2
    #[arg(long, default_value_t = 0.8)]
    load: f64,
    /// Of what is made up
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Debug)]
struct Policies(Vec<Policy>);

fn policies(text: &str) -> Result<Policies, String> {
    let names: Vec<&str> = if text == "all" { whatif::NAMES.to_vec() } else { vec![text] };
    names.into_iter().map(str::parse).collect::<Result<_, _>>().map(Policies)
}

/// Bytes of a trace that are read: some ten million jobs.
const FILE_BYTES_MAX: u64 = 2 << 30;

pub fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    let (title, workload) = workload(args)?;
    let workload = match args.first {
        Some(jobs) => workload.first(jobs),
        None => workload,
    };
    if workload.jobs.is_empty() {
        return Err(Fault::usage("cannot simulate").why("the workload has no jobs that ran"));
    }
    if workload.widest() > args.procs {
        let widest = workload.widest();
        let why = format!("a task asks for {widest} cores, the cluster is to have {}", args.procs);
        return Err(Fault::usage("cannot simulate").why(why).fix(format!("give `--procs {widest}` or more")));
    }
    let pictures = app.face.format == Format::Html;
    let mut runs: Vec<(Run, Figures)> = Vec::new();
    let progress = Rounds::new(&app.face);
    for policy in args.policy.iter().flat_map(|policies| &policies.0) {
        progress.begin(&policy.name, 1);
        let mut ran = whatif::run(&workload, args.procs, policy);
        let figures = whatif::figures(&workload, &ran);
        if !pictures {
            // A million jobs under a dozen policies need not all be kept.
            (ran.tasks, ran.queue) = (Vec::new(), Vec::new());
        }
        runs.push((ran, figures));
    }
    progress.clear();
    print(args, app, &title, &workload, &runs)
}

fn print(
    args: &Args,
    app: &App,
    title: &str,
    workload: &Workload,
    runs: &[(Run, Figures)],
) -> Result<Exit, Fault> {
    let figures: Vec<Figures> = runs.iter().map(|(_, figures)| figures.clone()).collect();
    let facts = [
        ("cores".to_owned(), args.procs.to_string()),
        ("jobs".to_owned(), workload.jobs.len().to_string()),
        ("tasks".to_owned(), workload.tasks().count().to_string()),
        ("left out, for they did not run".to_owned(), workload.left_out.to_string()),
    ];
    match app.face.format {
        Format::Html => app.face.print(&whatif::render(title, &facts, workload, runs))?,
        Format::Json | Format::Jsonl => {
            let value = json!({"workload": title, "procs": args.procs, "jobs": workload.jobs.len(),
                               "tasks": workload.tasks().count(), "left_out": workload.left_out, "policies": figures});
            app.face.one(&value, title, String::new)?;
        }
        Format::Table | Format::Wide | Format::Name => app.face.list(&figures, None)?,
    }
    Ok(Exit::DONE)
}

fn workload(args: &Args) -> Result<(String, Workload), Fault> {
    let read = |path: &Path, parse: fn(&str) -> Result<Workload, Malformed>| {
        let name = path.display().to_string();
        let text =
            read_text(path).map_err(|why| Fault::usage("cannot simulate").why(format!("{name}: {why}")))?;
        let title = path.file_name().map_or_else(|| name.clone(), |name| name.to_string_lossy().into_owned());
        let found = parse(&text);
        found.map(|workload| (title, workload)).map_err(|error| {
            Fault::usage("cannot simulate")
                .why(format!("{name}: {error}"))
                .fix("mend the line, or leave it out")
        })
    };
    if let Some(path) = &args.trace {
        return read(path, whatif::read_swf);
    }
    if let Some(path) = &args.workflow {
        return read(path, whatif::read_wfcommons);
    }
    if let Some(path) = &args.job {
        let spec = jobfile::read(path, &Limits::default());
        let spec = spec.map_err(|file| Fault::bad_files("cannot simulate", &[file]))?;
        let title = if spec.name.is_empty() { path.display().to_string() } else { spec.name.clone() };
        return Ok((title, of_job(&spec)?));
    }
    let jobs = args.generate.unwrap_or(0);
    if !(0.05..=2.0).contains(&args.load) {
        return Err(Fault::usage("cannot simulate").why(format!("--load: {} is not 0.05 to 2", args.load)));
    }
    let how = Generator { jobs: jobs as usize, cores: args.procs, load: args.load, seed: args.seed };
    let title = format!("{jobs} jobs, load {}, seed {}", args.load, args.seed);
    Ok((title, whatif::generate(&how)))
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
            tasks.push(Task {
                name: if task.is_array() { format!("{}.{position}", task.name) } else { task.name.clone() },
                cores: task.resources.cpu.div_ceil(model::size::PARTS).max(1),
                run,
                estimate: Some(run),
                deadline: timing.deadline,
                after: whole.iter().copied().chain(each).collect(),
                after_jobs: Vec::new(),
            });
        }
    }
    let job = Job { submit: Duration::ZERO, user: String::new(), priority: spec.priority, tasks };
    Ok(Workload { jobs: vec![job], left_out: 0 })
}

impl Row for Figures {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn columns(is_wide: bool) -> Vec<&'static str> {
        let always = ["policy", "mean wait", "median", "p95", "longest", "slowdown", "makespan", "used"];
        let wide: &[&str] =
            if is_wide { &["fairness", "overtook", "promised", "late", "missed"] } else { &[] };
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
                self.promised.to_string(),
                self.promises_broken.to_string(),
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
        let text = r#"{"tasks":[{"name":"a","noop":true,"array":"0-1","estimate":"3s"},
            {"name":"b","noop":true,"array":"0-1","after_each":["a"],"estimate":"1s","resources":{"cpu":1.5}},
            {"name":"c","noop":true,"after":["a","b"],"estimate":"2s"}]}"#;
        let found = of_job(&serde_json::from_str(text).unwrap()).unwrap();
        let tasks = &found.jobs[0].tasks;
        assert_eq!(tasks.len(), 5);
        assert_eq!((tasks[3].after.as_slice(), tasks[3].cores), (&[1usize][..], 2));
        assert_eq!(tasks[4].after, [0, 1, 2, 3]);
        let bare = of_job(&serde_json::from_str(r#"{"tasks":[{"name":"a","noop":true}]}"#).unwrap());
        assert!(bare.unwrap_err().why[0].contains("no estimate is given for a"));
    }

    #[test]
    fn a_policy_that_is_not_there_is_told_with_the_nearest() {
        assert!(policies("eassy").unwrap_err().contains("did you mean `easy`"));
        assert_eq!(policies("all").unwrap().0.len(), whatif::NAMES.len());
    }
}
