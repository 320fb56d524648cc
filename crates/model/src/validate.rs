//! Checks a job spec, once, at the edge. All errors at once, each with the path of its field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::time::Duration;

use crate::constraint::is_label;
use crate::settings::Limits;
use crate::spec::is_job_id;
use crate::{Blob, Capacity, Dependency, EnvValue, JobSpec, TaskSpec, Work};

/// One thing that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("{path}: {message}")]
pub struct SpecError {
    /// Where: `tasks[2].after[0]`.
    pub path: String,
    pub message: String,
}

/// Longest timeout, delay and backoff: a year.
pub const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
pub const NAME_BYTES_MAX: usize = 128;
/// Errors listed; of a spec with more the first ones are enough to go on with.
pub const ERRORS_MAX: usize = 100;
/// Unknown names for which the nearest known one is looked for.
const SUGGESTIONS_MAX: usize = 20;
pub const WORKER_LABELS_MAX: usize = 256;
/// Members of a gang: they are placed by one entry of the log.
pub const GANG_MEMBERS_MAX: u32 = 256;
/// What may be asked for in place of a task's resources: the planner looks for room for each in turn.
pub const ALTERNATIVES_MAX: u32 = 8;
/// Anti-affinities of one task: each is a name in every row that has them.
pub const ANTI_AFFINITIES_MAX: u32 = 16;

/// Every error of the spec; none means it is valid.
pub fn validate(spec: &JobSpec, limits: &Limits) -> Vec<SpecError> {
    let mut check = Check { errors: Vec::new() };
    check.job(spec, limits);
    // What is too large is not looked through: that would cost more than to refuse it.
    if spec.tasks.len() as u64 > limits.groups_per_job_max.into() {
        return check.errors;
    }
    for (place, task) in spec.tasks.iter().enumerate() {
        check.task(format_args!("tasks[{place}]"), task, limits);
    }
    check.names_and_edges(spec);
    check.errors
}

/// Every error in how a worker introduces itself.
pub fn validate_offer(
    worker: &str,
    capacity: &Capacity,
    labels: &BTreeMap<String, String>,
) -> Vec<SpecError> {
    let mut check = Check { errors: capacity.validate() };
    let named = "a worker's name has letters, digits, -, _ and . only, at most 128";
    check.require(is_name(worker), "name", named);
    let count = labels.len() as u64;
    check.at_most(count, WORKER_LABELS_MAX as u64, "labels", "a worker's labels");
    for (label, value) in labels.iter().take(WORKER_LABELS_MAX) {
        check.require(
            is_label(label) && is_label(value),
            format_args!("labels.{label}"),
            "labels and values have letters, digits, -, _, . and / only",
        );
    }
    check.errors
}

struct Check {
    errors: Vec<SpecError>,
}

/// A field of a task. Every accepted job is looked at twice and has no errors: its paths are never written.
#[derive(Clone, Copy)]
struct At<'a>(fmt::Arguments<'a>, &'a str);

impl Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Names of tasks and queues: letters, digits, `-`, `_`, `.`.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_env_name(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && text.len() <= NAME_BYTES_MAX && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl Check {
    fn refuse(&mut self, path: impl Display, message: impl Display) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(SpecError { path: path.to_string(), message: message.to_string() });
        }
    }

    fn require(&mut self, holds: bool, path: impl Display, message: &str) {
        if !holds {
            self.refuse(path, message);
        }
    }

    fn at_most(&mut self, value: u64, max: u64, path: impl Display, limit: &str) {
        if value > max {
            self.refuse(path, format_args!("{value} is above the limit {limit} = {max}"));
        }
    }

    fn job(&mut self, spec: &JobSpec, limits: &Limits) {
        if spec.name.len() > NAME_BYTES_MAX || spec.name.chars().any(char::is_control) {
            self.refuse(
                "job",
                format_args!("a job name has at most {NAME_BYTES_MAX} bytes and no control characters"),
            );
        }
        self.require(is_name(&spec.queue), "queue", "a queue name has letters, digits, -, _ and . only");
        self.require(!spec.tasks.is_empty(), "tasks", "a job has at least one task");
        for (label, value) in &spec.labels {
            let valid = is_label(label) && is_label(value);
            self.require(
                valid,
                format_args!("labels.{label}"),
                "labels and values have letters, digits, -, _, . and / only",
            );
        }
        self.duration("delay", spec.delay);
        if spec.delay.is_some() && spec.start_at.is_some() {
            self.refuse("start_at", "give either delay or start_at");
        }
        self.at_most(
            spec.after.len() as u64,
            limits.dependencies_per_task_max.into(),
            "after",
            "dependencies_per_task_max",
        );
        self.at_most(
            spec.tasks.len() as u64,
            limits.groups_per_job_max.into(),
            "tasks",
            "groups_per_job_max",
        );
        self.at_most(spec.tasks_count(), limits.tasks_per_job_max.into(), "tasks", "tasks_per_job_max");
        self.at_most(
            inline_bytes(spec),
            limits.inline_bytes_per_job_max,
            "tasks",
            "inline_bytes_per_job_max",
        );
    }

    fn duration(&mut self, path: impl Display, duration: Option<Duration>) {
        let fits = duration.is_none_or(|duration| duration <= DURATION_MAX);
        self.require(fits, path, "longer than 365 days");
    }

    fn task(&mut self, path: fmt::Arguments<'_>, task: &TaskSpec, limits: &Limits) {
        let at = |field: &'static str| At(path, field);
        self.require(is_name(&task.name), at("name"), "a task name has letters, digits, -, _ and . only");
        let free = !is_job_id(&task.name) && !task.name.bytes().all(|b| b.is_ascii_digit());
        self.require(free, at("name"), "would be read as a job id or a task number");
        self.work(path, &task.work);
        self.require(
            !(task.array.is_some() && task.each_line.is_some()),
            at("each_line"),
            "give either array or each_line",
        );
        let lines = task.each_line.as_ref().is_none_or(|blob| blob.inline_bytes().is_some());
        let in_line = "its lines are counted when it is submitted: give text or a file, not a url or ref";
        self.require(lines, at("each_line"), in_line);
        self.require(task.count() > 0, at("each_line"), "has no lines");
        self.duration(at("timeout"), task.timeout);
        self.require(task.timeout != Some(Duration::ZERO), at("timeout"), "a timeout is longer than 0");
        self.timing(path, task);
        self.gang(path, task);
        self.duration(at("retry.backoff"), Some(task.retry.backoff.cap));
        self.at_most(task.retry.max.into(), limits.retries_max.into(), at("retry.max"), "retries_max");
        self.at_most(
            task.retry.lost_max.into(),
            limits.retries_max.into(),
            at("retry.lost_max"),
            "retries_max",
        );
        let dependencies = (task.after.len() + task.after_each.len()) as u64;
        self.at_most(
            dependencies,
            limits.dependencies_per_task_max.into(),
            at("after"),
            "dependencies_per_task_max",
        );
        for (name, value) in &task.env {
            let whole = !matches!(value, EnvValue::Plain(text) if text.contains('\0'));
            self.require(whole, format_args!("{path}.env.{name}"), "the value holds a NUL byte");
            self.require(
                is_env_name(name),
                format_args!("{path}.env.{name}"),
                "not a name of an environment variable",
            );
            self.require(
                !name.starts_with("BATON_"),
                format_args!("{path}.env.{name}"),
                "BATON_ names are set by Baton",
            );
        }
        for name in task.resources.named.custom.keys() {
            self.require(is_name(name), format_args!("{path}.resources.{name}"), "not a resource name");
        }
        self.alternatives(path, task);
        self.at_most(
            task.resources.named.apart.len() as u64,
            ANTI_AFFINITIES_MAX.into(),
            at("anti_affinity"),
            "the anti-affinities of a task",
        );
        for name in task.resources.named.apart.keys() {
            let message = "an anti-affinity is a name of letters, digits, -, _ and .";
            self.require(is_name(name), format_args!("{path}.anti_affinity"), message);
        }
        let whole = !task.workdir.contains('\0');
        self.require(whole, at("workdir"), "holds a NUL byte");
        let absolute = task.workdir.is_empty() || task.workdir.starts_with('/');
        self.require(absolute, at("workdir"), "a working directory is absolute, or absent for a fresh one");
        for (place, file) in task.files.iter().enumerate() {
            self.require(
                is_inside(&file.to),
                format_args!("{path}.files[{place}].to"),
                "a file goes to a relative path without `..`",
            );
        }
    }

    fn alternatives(&mut self, path: fmt::Arguments<'_>, task: &TaskSpec) {
        let (all, at) = (&task.alternatives, At(path, "alternatives"));
        self.at_most(all.len() as u64, ALTERNATIVES_MAX.into(), at, "the alternatives of a task");
        let alone = all.is_empty() || !task.gang;
        self.require(alone, At(path, "alternatives"), "the members of a gang all ask for the same");
        for (place, other) in all.iter().enumerate() {
            for name in other.named.custom.keys() {
                let at = format_args!("{path}.alternatives[{place}].{name}");
                self.require(is_name(name), at, "not a resource name");
            }
        }
    }

    fn gang(&mut self, path: fmt::Arguments<'_>, task: &TaskSpec) {
        if !task.gang {
            return;
        }
        let is_whole =
            task.array.is_some_and(|array| array.first == 0 && array.step == 1) && task.each_line.is_none();
        self.require(is_whole, At(path, "gang"), "the members of a gang are counted from 0 by ones");
        self.at_most(task.count().into(), GANG_MEMBERS_MAX.into(), At(path, "gang"), "the members of a gang");
        let alone = task.after_each.is_empty();
        self.require(alone, At(path, "after_each"), "the members of a gang begin together: give `after`");
    }

    fn timing(&mut self, path: fmt::Arguments<'_>, task: &TaskSpec) {
        let Some(timing) = &task.timing else { return };
        for (field, given) in [
            ("estimate", timing.estimate),
            ("deadline", timing.deadline),
            ("period", timing.period),
            ("start_within", timing.start_within),
        ] {
            self.duration(At(path, field), given);
            // Shorter than what they are compared by, it would say nothing.
            let counts = given.is_none_or(|given| given >= Duration::from_millis(1));
            self.require(counts, At(path, field), "shorter than 1ms: leave it out");
        }
    }

    fn work(&mut self, path: fmt::Arguments<'_>, work: &Work) {
        let (argv, path) = match work {
            Work::Run(argv) => (argv, At(path, "run")),
            Work::Service(service) => (&service.run, At(path, "service.run")),
            Work::Function(function) => {
                self.require(
                    is_name(&function.name),
                    format_args!("{path}.function.name"),
                    "not a function name",
                );
                return;
            }
            Work::Sleep(duration) => {
                self.duration(At(path, "sleep"), Some(*duration));
                return;
            }
            Work::Script(body) => {
                self.require(!body.contains('\0'), format_args!("{path}.script"), "holds a NUL byte");
                return;
            }
            Work::Noop | Work::Container(_) | Work::Wasm(_) => return,
        };
        let named = argv.first().is_some_and(|program| !program.is_empty());
        self.require(named, path, "names no program");
        let whole = argv.iter().all(|arg| !arg.contains('\0'));
        self.require(whole, path, "an argument holds a NUL byte");
    }

    fn names_and_edges(&mut self, spec: &JobSpec) {
        let mut places = BTreeMap::new();
        for (place, task) in spec.tasks.iter().enumerate() {
            if places.insert(task.name.as_str(), place).is_some() {
                self.refuse(
                    format_args!("tasks[{place}].name"),
                    format_args!("another task is called `{}` too", task.name),
                );
            }
        }
        let mut edges = vec![Vec::new(); spec.tasks.len()];
        let mut unknown = 0;
        for (place, task) in spec.tasks.iter().enumerate() {
            for (field, nth, name) in named_dependencies(task) {
                let path = format_args!("tasks[{place}].{field}[{nth}]");
                match places.get(name) {
                    None => {
                        unknown += 1;
                        let known = places.keys().copied().filter(|_| unknown <= SUGGESTIONS_MAX);
                        self.refuse(path, unknown_name(name, known));
                    }
                    Some(other) if *other == place => {
                        self.refuse(path, format_args!("`{name}` waits for itself"))
                    }
                    Some(other) => edges[place].push(*other),
                }
            }
            self.same_shape(place, task, spec, &places);
        }
        if edges.iter().all(Vec::is_empty) {
            return;
        }
        if let Some(cycle) = find_cycle(&edges) {
            let names: Vec<&str> = cycle.iter().map(|place| spec.tasks[*place].name.as_str()).collect();
            self.refuse(
                format_args!("tasks[{}].after", cycle[0]),
                format_args!("a cycle: {}", names.join(" -> ")),
            );
        }
    }

    // `after_each` pairs members by position, so both need as many.
    fn same_shape(&mut self, place: usize, task: &TaskSpec, spec: &JobSpec, places: &BTreeMap<&str, usize>) {
        for (nth, name) in task.after_each.iter().enumerate() {
            let Some(other) = places.get(name.as_str()).map(|place| &spec.tasks[*place]) else { continue };
            if other.gang {
                let message = format!("the members of the gang `{name}` succeed together: give `after`");
                self.refuse(format_args!("tasks[{place}].after_each[{nth}]"), message);
            }
            if other.count() != task.count() {
                let message =
                    format!("`{name}` has {} tasks and `{}` has {}", other.count(), task.name, task.count());
                self.refuse(format_args!("tasks[{place}].after_each[{nth}]"), message);
            }
        }
    }
}

fn inline_bytes(spec: &JobSpec) -> u64 {
    let size = |blob: &Blob| blob.inline_bytes().map_or(0, |bytes| bytes.len() as u64);
    let of_task = |task: &TaskSpec| {
        let files: u64 = task.files.iter().map(|file| size(&file.content)).sum();
        let optional: u64 = [&task.stdin, &task.each_line].into_iter().flatten().map(|blob| size(blob)).sum();
        let input = match &task.work {
            Work::Function(function) => function.input.as_ref().map_or(0, |blob| size(blob)),
            Work::Wasm(wasm) => size(&wasm.module),
            _ => 0,
        };
        files + optional + input
    };
    spec.tasks.iter().map(of_task).sum()
}

fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && !path.contains('\0')
        && path.split('/').all(|part| !matches!(part, ".." | ""))
}

/// Field, place in it, and name.
fn named_dependencies(task: &TaskSpec) -> impl Iterator<Item = (&'static str, usize, &str)> {
    let after = task.after.iter().enumerate().filter_map(|(nth, dependency)| match dependency {
        Dependency::Task(name) => Some(("after", nth, name.as_str())),
        Dependency::Job(_) => None,
    });
    let each = task.after_each.iter().enumerate();
    after.chain(each.map(|(nth, name)| ("after_each", nth, name.as_str())))
}

fn unknown_name<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("there is no task `{name}`; did you mean `{near}`?"),
        None => format!("there is no task `{name}`"),
    }
}

/// The known word nearest to `word` by edit distance, if it is near at all.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = word.len().div_ceil(3).max(1);
    known
        .filter(|other| other.len().abs_diff(word.len()) <= near)
        .map(|other| (distance(word, other), other))
        .filter(|(d, _)| *d <= near)
        .min()
        .map(|(_, other)| other)
}

/// Levenshtein (1966): insertions, deletions and substitutions.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

/// A cycle as places, first and last alike. Depth first, without recursion: a chain may have 10,000 tasks.
pub fn find_cycle(edges: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut done = vec![false; edges.len()];
    for start in 0..edges.len() {
        let mut path: Vec<(usize, usize)> = Vec::new();
        let mut on_path = BTreeSet::new();
        if !done[start] {
            path.push((start, 0));
            on_path.insert(start);
        }
        while let Some((place, next)) = path.last_mut() {
            let Some(target) = edges[*place].get(*next).copied() else {
                done[*place] = true;
                on_path.remove(place);
                path.pop();
                continue;
            };
            *next += 1;
            if on_path.contains(&target) {
                let from = path.iter().position(|(place, _)| *place == target).unwrap_or(0);
                return Some(path[from..].iter().map(|(place, _)| *place).chain([target]).collect());
            }
            if !done[target] {
                path.push((target, 0));
                on_path.insert(target);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(json: &str) -> Vec<String> {
        let spec: JobSpec = serde_json::from_str(json).unwrap();
        validate(&spec, &Limits::default()).iter().map(SpecError::to_string).collect()
    }

    #[test]
    fn all_errors_come_at_once_with_their_paths() {
        let found = errors(
            r#"{"queue":"a b","tasks":[
              {"name":"fetch","noop":true,"after":["fetsh"]},
              {"name":"clean","run":[],"after":["clean"]},
              {"name":"fetch","noop":true,"workdir":"rel"}]}"#,
        );
        assert_eq!(found.len(), 6, "{found:#?}");
        assert!(
            found.contains(&"tasks[0].after[0]: there is no task `fetsh`; did you mean `fetch`?".to_owned())
        );
        assert!(found.contains(&"tasks[1].after[0]: `clean` waits for itself".to_owned()));
    }

    #[test]
    fn what_cannot_be_handed_to_a_process_is_refused() {
        let found = errors(
            r#"{"tasks":[{"name":"a","script":"x\u0000","workdir":"/a\u0000","env":{"A":"\u0000"}},
                         {"name":"b","noop":true,"each_line":{"url":"http://host/list","size":3,
                          "sha256":"0000000000000000000000000000000000000000000000000000000000000000"}}]}"#,
        );
        let paths: Vec<&str> = found.iter().filter_map(|error| error.split(": ").next()).collect();
        let expected = ["tasks[0].script", "tasks[0].env.A", "tasks[0].workdir", "tasks[1].each_line"];
        assert_eq!(paths, expected, "{found:#?}");
    }

    #[test]
    fn a_spec_full_of_errors_is_refused_soon_and_briefly() {
        let unknown = |place: usize| {
            let mut task = TaskSpec::new(&format!("t{place}"), Work::Noop);
            task.after.push(Dependency::Task(format!("{}{place}", "long".repeat(30))));
            task
        };
        let spec = JobSpec::of("", (0..10_000).map(unknown).collect());
        assert_eq!(validate(&spec, &Limits::default()).len(), ERRORS_MAX);
        let few = Limits { groups_per_job_max: 10, ..Limits::default() };
        let found = validate(&spec, &few);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].message.contains("groups_per_job_max"), "{found:#?}");
    }

    #[test]
    fn times_of_a_task_have_bounds() {
        let found = errors(
            r#"{"tasks":[{"name":"a","noop":true,"start_within":"0s"},
                         {"name":"b","noop":true,"start_within":"366days"},
                         {"name":"c","noop":true,"start_within":"1ms"},
                         {"name":"d","noop":true,"start_within":"365days","gang":2}]}"#,
        );
        let expected = [
            "tasks[0].start_within: shorter than 1ms: leave it out",
            "tasks[1].start_within: longer than 365 days",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_cycle_is_named_by_its_path() {
        let found = errors(
            r#"{"tasks":[{"name":"a","noop":true,"after":["c"]},{"name":"b","noop":true,"after":["a"]},
                         {"name":"c","noop":true,"after_each":["b"]}]}"#,
        );
        assert_eq!(found, ["tasks[0].after: a cycle: a -> c -> b -> a"]);
    }

    #[test]
    fn a_long_chain_is_no_cycle() {
        let edges: Vec<Vec<usize>> =
            (0..100_000).map(|n: usize| n.checked_sub(1).into_iter().collect()).collect();
        assert_eq!(find_cycle(&edges), None);
    }

    #[test]
    fn limits_are_named() {
        let found = errors(r#"{"tasks":[{"name":"a","noop":true,"array":"0-4294967294"}]}"#);
        assert!(found[0].contains("tasks_per_job_max"), "{found:?}");
        let found = errors(
            r#"{"tasks":[{"name":"a","noop":true,"array":"0-3"},{"name":"b","noop":true,"after_each":["a"]}]}"#,
        );
        assert!(found[0].contains("has 4 tasks"), "{found:?}");
    }
}
