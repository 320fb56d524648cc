//! `baton plan`: whether periodic tasks meet their deadlines.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::TaskSpec;
use model::policy::unknown;
use model::time::{format_duration, micros};
use scheduler::realtime::{Admission, How, NO_SLOT, Periodic, Priority, Unanswered, admit};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::jobfile;

/// Say whether periodic tasks meet their deadlines, and which misses first
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tasks, as YAML or JSON; `-` is standard input
    file: PathBuf,
    /// Who goes first: rms, dms, edf; several, or `all`, are compared. Absent: as the file says, or all
    #[arg(long, value_delimiter = ',', value_parser = priorities)]
    policy: Vec<Policies>,
    /// Tasks that run at a time
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: Option<u32>,
    /// A task that runs gives way at once; Baton's own do not
    #[arg(long)]
    preemptive: bool,
    /// Every task may run on any slot (preemptive edf only); else each has a slot of its own
    #[arg(long)]
    any_slot: bool,
}

#[derive(Clone, Debug)]
struct Policies(Vec<Priority>);

fn priorities(text: &str) -> Result<Policies, String> {
    if text == "all" {
        return Ok(Policies(Priority::ALL.map(|(_, priority)| priority).to_vec()));
    }
    let names = Priority::ALL.map(|(name, _)| name);
    let found = Priority::ALL.iter().find(|(name, _)| *name == text);
    found.map(|(_, priority)| Policies(vec![*priority])).ok_or_else(|| unknown("policy", text, &names))
}

const TASKS_MAX: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(default)]
    pub policy: Option<String>,
    #[serde(default)]
    pub slots: Option<u32>,
    #[serde(default)]
    pub preemptive: bool,
    #[serde(default)]
    pub any_slot: bool,
    pub tasks: Vec<Task>,
}

#[derive(Debug, Deserialize)]
pub struct Task {
    pub name: String,
    /// C: the longest time that one run takes.
    #[serde(with = "model::time::duration")]
    pub run_time: Duration,
    /// T.
    #[serde(with = "model::time::duration")]
    pub period: Duration,
    /// D, from each release; the period if it is left out.
    #[serde(default, with = "model::time::optional_duration")]
    deadline: Option<Duration>,
    /// What is done at each release, as in a job file.
    #[serde(flatten)]
    work: serde_json::Map<String, Value>,
}

/// What the set itself says of them.
const NOT_OF_A_RELEASE: [&str; 6] = ["estimate", "array", "each_line", "gang", "after", "after_each"];

impl Task {
    pub fn deadline(&self) -> Duration {
        self.deadline.unwrap_or(self.period)
    }

    /// What is done at each release; `None` if the file does not say.
    pub fn task(&self) -> Result<Option<TaskSpec>, String> {
        if self.work.is_empty() {
            return Ok(None);
        }
        if let Some(key) = NOT_OF_A_RELEASE.iter().find(|key| self.work.contains_key(**key)) {
            return Err(format!(
                "`{key}` has no place in a periodic task, which is one task at each release"
            ));
        }
        let mut task = self.work.clone();
        task.insert("name".to_owned(), Value::from(self.name.as_str()));
        serde_json::from_value(Value::Object(task)).map(Some).map_err(|error| error.to_string())
    }
}

pub fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    let file = read(&args.file)?;
    let set = periodic(&file)?;
    let mut policies: Vec<Priority> = args.policy.iter().flat_map(|policies| policies.0.clone()).collect();
    if policies.is_empty() {
        let named = file.policy.as_deref().unwrap_or("all");
        policies = priorities(named).map_err(|why| bad(format!("policy: {why}")))?.0;
    }
    let slots = args.slots.or(file.slots).unwrap_or(1);
    if !(1..=10_000).contains(&slots) {
        return Err(bad(format!("slots: {slots} is not 1 to 10,000")));
    }
    let (preemptive, global) = (args.preemptive || file.preemptive, args.any_slot || file.any_slot);
    let mut answers = Vec::new();
    for priority in policies {
        let how = How { priority, preemptive, slots, global };
        answers.push((how, admit(&set, how).map_err(|why| unanswered(&set, &why))?));
    }
    let value = Value::Array(answers.iter().map(|(how, found)| json_of(&set, *how, found)).collect());
    let name = if answers.iter().any(|(_, found)| found.accepted) { "accepted" } else { "refused" };
    app.face.one(&json!({ "plans": value }), name, || text(&set, &answers))?;
    let accepted = answers.iter().any(|(_, found)| found.accepted);
    Ok(if accepted { Exit::DONE } else { Exit::UNSCHEDULABLE })
}

fn bad(what: impl Into<String>) -> Fault {
    Fault::usage("cannot plan")
        .why(what)
        .fix("see docs/POLICIES.md, \"Periodic tasks\", for what the file says")
}

pub fn read(path: &Path) -> Result<File, Fault> {
    let name = path.display();
    let text = jobfile::read_text(path).map_err(|why| bad(format!("{name}: {why}")))?;
    serde_saphyr::from_str(&text).map_err(|error| bad(format!("{name}: {error}")))
}

pub fn periodic(file: &File) -> Result<Vec<Periodic>, Fault> {
    if file.tasks.is_empty() || file.tasks.len() > TASKS_MAX {
        return Err(bad(format!("tasks: {} are given; a plan has 1 to {TASKS_MAX}", file.tasks.len())));
    }
    let mut names = std::collections::BTreeSet::new();
    let mut problems = Vec::new();
    for (place, task) in file.tasks.iter().enumerate() {
        let deadline = task.deadline();
        if let Err(why) = task.task() {
            problems.push(format!("tasks[{place}]: {why}"));
        }
        if !names.insert(&task.name) {
            problems.push(format!("tasks[{place}].name: another task is called `{}` too", task.name));
        }
        if task.run_time.is_zero() {
            problems.push(format!(
                "tasks[{place}].run_time: is 0; the longest time that one run takes is longer"
            ));
        }
        if deadline > task.period {
            let period = format_duration(task.period);
            problems.push(format!("tasks[{place}].deadline: is after the next release; at most {period}"));
        } else if task.run_time > deadline {
            let deadline = format_duration(deadline);
            problems.push(format!("tasks[{place}].run_time: cannot be done within {deadline} even alone"));
        }
        if task.period > model::validate::DURATION_MAX {
            problems.push(format!("tasks[{place}].period: longer than 365 days"));
        }
    }
    if !problems.is_empty() {
        let fault = Fault::usage(format!("cannot plan: {} errors", problems.len()));
        return Err(problems.into_iter().fold(fault, Fault::why));
    }
    let one = |task: &Task| Periodic {
        name: task.name.clone(),
        cost: micros(task.run_time),
        period: micros(task.period),
        deadline: micros(task.deadline()),
    };
    Ok(file.tasks.iter().map(one).collect())
}

fn unanswered(set: &[Periodic], why: &Unanswered) -> Fault {
    match why {
        Unanswered::Figures { task } => {
            bad(format!("tasks[{task}] (`{}`): needs run_time <= deadline <= period", set[*task].name))
        }
        Unanswered::NoTest(why) => {
            bad(*why).fix("give `--policy edf --preemptive`, or leave out `--any-slot`")
        }
        Unanswered::TooLong => Fault::failed("there is no answer within 100,000,000 steps")
            .why("the periods have so little in common that all repeats only after very long")
            .fix("round the periods to multiples of each other"),
    }
}

fn time(us: u64) -> String {
    format_duration(Duration::from_micros(us))
}

fn text(set: &[Periodic], answers: &[(How, Admission)]) -> String {
    let mut out = String::new();
    for (how, found) in answers {
        let verdict = if found.accepted { "accepted: all deadlines are met" } else { "refused" };
        let kind = if how.preemptive { "preemptive" } else { "not preemptive" };
        let slots = match (how.slots, how.global) {
            (1, _) => "1 slot".to_owned(),
            (slots, true) => format!("any of {slots} slots"),
            (slots, false) => format!("{slots} slots, each task on its own"),
        };
        let _ = writeln!(out, "{} ({kind}, {slots}): {verdict}", how.priority.name());
        for test in &found.tests {
            let _ = writeln!(out, "  {test}");
        }
        if let Some(miss) = &found.miss {
            let name = &set[miss.task].name;
            let _ = match miss.by_how_much() {
                None => writeln!(out, "  first refused: {name}: {NO_SLOT}"),
                Some(how) => writeln!(out, "  first miss: {name}: {how}"),
            };
        }
        if let Some(place) = found.bound_of {
            let Periodic { name, cost, deadline, .. } = &set[place];
            let part = *cost as f64 / *deadline as f64;
            let _ = writeln!(
                out,
                "  the bound is of {name}, the largest: {part:.4} of a slot; whether any misses is not known"
            );
        }
        for (place, task) in set.iter().enumerate() {
            let response = found.responses.get(place).copied().flatten();
            let slot = found.slots.get(place).copied().flatten();
            if response.is_none() && slot.is_none() {
                continue;
            }
            let response = response.map(|us| format!(" done within {} of {}", time(us), time(task.deadline)));
            let slot = slot.map(|slot| format!(" on slot {slot}"));
            let _ =
                writeln!(out, "  {}:{}{}", task.name, response.unwrap_or_default(), slot.unwrap_or_default());
        }
    }
    out
}

fn json_of(set: &[Periodic], how: How, found: &Admission) -> Value {
    let test = |test: &scheduler::realtime::Test| {
        json!({"name": test.name, "source": test.source, "strength": test.strength.name(),
               "value": test.value, "bound": test.bound, "holds": test.holds})
    };
    let task = |(place, task): (usize, &Periodic)| {
        let response = found.responses.get(place).copied().flatten();
        json!({"name": task.name, "run_time_us": task.cost, "period_us": task.period, "deadline_us": task.deadline,
               "response_us": response, "slot": found.slots.get(place).copied().flatten()})
    };
    let miss = found.miss.as_ref().map(
        |miss| json!({"task": set[miss.task].name, "deadline_us": miss.deadline, "needed_us": miss.needed}),
    );
    json!({"policy": how.priority.name(), "preemptive": how.preemptive, "slots": how.slots, "any_slot": how.global,
           "accepted": found.accepted, "tests": found.tests.iter().map(test).collect::<Vec<_>>(),
           "first_miss": miss, "bound_of": found.bound_of.map(|place| set[place].name.as_str()), "tasks": set.iter().enumerate().map(task).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn a_file_is_read_with_its_defaults() {
        let set = periodic(&file("tasks:\n- {name: a, run_time: 2ms, period: 10ms}\n")).unwrap();
        assert_eq!((set[0].cost, set[0].period, set[0].deadline), (2_000, 10_000, 10_000));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_with_its_place() {
        let wrong = "tasks:\n- {name: a, run_time: 0s, period: 1s}\n- {name: a, run_time: 2s, period: 1s}\n\
                     - {name: c, run_time: 1s, period: 2s, deadline: 3s}\n";
        let fault = periodic(&file(wrong)).unwrap_err();
        assert_eq!(fault.why.len(), 4, "{fault:?}");
        assert!(fault.why[2].starts_with("tasks[1].run_time"), "{fault:?}");
        let unknown = serde_saphyr::from_str::<File>("tasks: []\nspeed: 3\n").unwrap_err().to_string();
        assert!(unknown.contains("speed"), "{unknown}");
        assert!(periodic(&file("tasks: []")).is_err());
        assert!(priorities("edt").unwrap_err().contains("did you mean `edf`"));
    }

    #[test]
    fn the_first_miss_and_the_test_are_told() {
        let set = periodic(&file(
            "tasks:\n- {name: a, run_time: 2s, period: 5s}\n- {name: b, run_time: 4s, period: 7s}\n",
        ));
        let set = set.unwrap();
        let how = |priority| How { priority, preemptive: true, slots: 1, global: false };
        let answers = [Priority::Rms, Priority::Edf]
            .map(|priority| (how(priority), admit(&set, how(priority)).unwrap()));
        let told = text(&set, &answers);
        assert!(told.contains("rms (preemptive, 1 slot): refused"), "{told}");
        assert!(told.contains("first miss: b: by 7s it needs 8s, 1s too much"), "{told}");
        assert!(told.contains("edf (preemptive, 1 slot): accepted"), "{told}");
        assert_eq!(json_of(&set, answers[0].0, &answers[0].1)["first_miss"]["task"], "b");
    }

    #[test]
    fn a_refusal_on_any_slot_names_the_task_that_the_bound_is_of() {
        let tasks = "tasks:\n- {name: a, run_time: 2s, period: 10s}\n- {name: b, run_time: 10s, period: 11s}\n\
                     - {name: c, run_time: 2s, period: 10s}\n";
        let set = periodic(&file(tasks)).unwrap();
        let how = How { priority: Priority::Edf, preemptive: true, slots: 2, global: true };
        let told = |set: &[Periodic]| {
            let found = admit(set, how).unwrap();
            (json_of(set, how, &found)["bound_of"].clone(), text(set, &[(how, found)]))
        };
        let (name, refused) = told(&set);
        assert_eq!(name, "b");
        assert!(refused.contains("refused\n"), "{refused}");
        assert!(refused.contains("the bound is of b, the largest: 0.9091 of a slot"), "{refused}");
        let (name, accepted) = told(&set[..1]);
        assert_eq!(name, Value::Null);
        assert!(!accepted.contains("the bound is of"), "{accepted}");
    }
}
