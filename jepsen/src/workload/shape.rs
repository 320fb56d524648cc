//! The jobs that clients submit: few kinds, each for what it can show.

use std::collections::BTreeMap;
use std::ops::Range;

use model::spec::Backoff;
use model::{ArrayRange, Blob, Dependency, FileSpec, JobSpec, TaskSpec, Work};

use super::Queue;
use crate::ledger::Desk;

/// A kind of job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// One task that takes a tenth of a second.
    One,
    /// Eight tasks, one after the other in one allocation or spread.
    Array,
    /// `a`, then four `b`, then each its `c`, then `d`.
    Graph,
    /// One task that writes to the fenced resource for a while.
    Fenced,
    /// One task whose first attempt fails.
    Failing,
    /// One task that fails for good.
    Doomed,
    /// One task of two cores.
    Wide,
    /// One task of two cores that runs for so long that somebody more urgent comes meanwhile.
    Long,
    /// Three members that start together.
    Gang,
    /// Six of them, for which a busy worker alone has no room.
    GangWide,
    /// `split`, then a gang of three, then `merge`.
    GangStaged,
    /// A gang with a member that fails in its first attempt, so that all begin anew.
    GangFailing,
    /// A gang with a member that fails for good.
    GangDoomed,
    /// Nothing to run: it ends where it is placed.
    Noop,
    /// A noop that carries as much in line as a job may.
    Giant,
}

impl Shape {
    pub const ALL: [Shape; 15] = [
        Shape::One,
        Shape::Array,
        Shape::Graph,
        Shape::Fenced,
        Shape::Failing,
        Shape::Doomed,
        Shape::Wide,
        Shape::Long,
        Shape::Gang,
        Shape::GangWide,
        Shape::GangStaged,
        Shape::GangFailing,
        Shape::GangDoomed,
        Shape::Noop,
        Shape::Giant,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Shape::One => "one",
            Shape::Array => "array",
            Shape::Graph => "graph",
            Shape::Fenced => "fenced",
            Shape::Failing => "failing",
            Shape::Doomed => "doomed",
            Shape::Wide => "wide",
            Shape::Long => "long",
            Shape::Gang => "gang",
            Shape::GangWide => "gang-wide",
            Shape::GangStaged => "gang-staged",
            Shape::GangFailing => "gang-failing",
            Shape::GangDoomed => "gang-doomed",
            Shape::Noop => "noop",
            Shape::Giant => "giant",
        }
    }

    pub fn named(name: &str) -> Option<Shape> {
        Shape::ALL.into_iter().find(|shape| shape.name() == name)
    }

    /// Whether its tasks write to the ledger.
    pub fn is_written(self) -> bool {
        !matches!(self, Shape::Noop | Shape::Giant)
    }

    /// Whether a second attempt of a task of it is to be expected.
    pub fn fails(self) -> bool {
        matches!(self, Shape::Failing | Shape::Doomed | Shape::GangFailing | Shape::GangDoomed)
    }

    /// Whether it never succeeds.
    pub fn is_doomed(self) -> bool {
        matches!(self, Shape::Doomed | Shape::GangDoomed)
    }

    /// The numbers of those of its tasks that start together or not at all.
    pub fn gang(self) -> Option<Range<u32>> {
        match self {
            Shape::Gang | Shape::GangFailing | Shape::GangDoomed => Some(0..GANG_MEMBERS),
            Shape::GangWide => Some(0..GANG_MEMBERS_WIDE),
            Shape::GangStaged => Some(1..1 + GANG_MEMBERS),
            _ => None,
        }
    }

    /// Which task of it waits for which, by their numbers.
    pub fn edges(self) -> Vec<(u32, u32)> {
        match self {
            Shape::Graph => {
                let b = 1..=GRAPH_WIDTH;
                let each = |b: u32| [(0, b), (b, b + GRAPH_WIDTH), (b + GRAPH_WIDTH, 1 + 2 * GRAPH_WIDTH)];
                b.flat_map(each).collect()
            }
            Shape::GangStaged => {
                let merge = 1 + GANG_MEMBERS;
                (1..merge).flat_map(|member| [(0, member), (member, merge)]).collect()
            }
            _ => Vec::new(),
        }
    }
}

const ARRAY_TASKS: u32 = 8;
const GRAPH_WIDTH: u32 = 4;
const GANG_MEMBERS: u32 = 3;
const GANG_MEMBERS_WIDE: u32 = 6;
const HALF_A_CORE: u64 = 500;
/// Bytes of a giant's file: close to the product's limit of 256 KiB a job.
const GIANT_BYTES: usize = 200 << 10;

/// The job of that shape under a key. Another `body` is another job.
pub fn spec(desk: &Desk, shape: Shape, queue: Queue, key: u64, body: u8) -> JobSpec {
    let tasks = tasks(desk, shape);
    let labels = [("key", key.to_string()), ("shape", shape.name().to_owned())];
    let labels: BTreeMap<String, String> = labels.map(|(name, value)| (name.to_owned(), value)).into();
    // So that there is an order to keep, and another body differs.
    let priority = i32::from(body) * 100 + (key % 5) as i32;
    let queue = queue.name().to_owned();
    JobSpec::of("jepsen", tasks).with(|job| {
        job.queue = queue;
        job.priority = priority;
        job.labels = labels.into();
    })
}

fn tasks(desk: &Desk, shape: Shape) -> Vec<TaskSpec> {
    let sleep = |name: &str, seconds: &str| task(desk, name, HALF_A_CORE, &format!("sleep {seconds}"));
    match shape {
        Shape::One => vec![sleep("work", "0.1")],
        Shape::Array => vec![sleep("work", "0.1").with(|task| task.array = Some(array(ARRAY_TASKS)))],
        Shape::Graph => graph(desk),
        Shape::Fenced => vec![fenced(desk)],
        Shape::Failing => vec![failing(desk, "[ $BATON_ATTEMPT -ge 2 ] || exit 1")],
        Shape::Doomed => vec![failing(desk, "exit 1")],
        Shape::Wide => vec![task(desk, "work", 4 * HALF_A_CORE, "sleep 0.2")],
        Shape::Long => vec![task(desk, "work", 4 * HALF_A_CORE, "sleep 1")],
        Shape::Gang => vec![gang(desk, GANG_MEMBERS, "sleep 0.2")],
        Shape::GangWide => vec![gang(desk, GANG_MEMBERS_WIDE, "sleep 0.2")],
        Shape::GangStaged => staged(desk),
        Shape::GangFailing => vec![failing_gang(desk, "[ $BATON_ATTEMPT -ge 2 ] || exit 1")],
        Shape::GangDoomed => vec![failing_gang(desk, "exit 1")],
        Shape::Noop => vec![noop()],
        Shape::Giant => vec![noop().with(|task| task.files = vec![giant()].into())],
    }
}

fn task(desk: &Desk, name: &str, cpu: u64, work: &str) -> TaskSpec {
    scripted(name, cpu, desk.script(cpu, work))
}

fn scripted(name: &str, cpu: u64, script: String) -> TaskSpec {
    let mut task = TaskSpec::new(name, Work::Script(script));
    task.resources.cpu = task.resources.cpu * cpu / 1_000;
    // Enough for every lease that faults can cost it.
    task.retry.lost_max = 1_000;
    task
}

fn array(tasks: u32) -> ArrayRange {
    ArrayRange { first: 0, last: tasks - 1, step: 1 }
}

fn graph(desk: &Desk) -> Vec<TaskSpec> {
    let quick = |name: &str| task(desk, name, HALF_A_CORE, ":");
    let on = |name: &str| vec![Dependency::Task(name.to_owned())].into();
    let wide = Some(array(GRAPH_WIDTH));
    vec![
        quick("a"),
        quick("b").with(|task| {
            task.array = wide;
            task.after = on("a");
        }),
        quick("c").with(|task| {
            task.array = wide;
            task.after_each = vec!["b".to_owned()].into();
        }),
        quick("d").with(|task| task.after = on("c")),
    ]
}

/// It asks the resource at its beginning, and again after a while: an attempt that was taken away meanwhile is refused.
fn fenced(desk: &Desk) -> TaskSpec {
    let fenced = desk.fenced();
    task(desk, "work", HALF_A_CORE, &format!("{fenced}\nsleep 0.5\n{fenced}"))
}

fn failing(desk: &Desk, work: &str) -> TaskSpec {
    retried(task(desk, "work", HALF_A_CORE, work))
}

fn retried(mut task: TaskSpec) -> TaskSpec {
    task.retry.max = 2;
    let ms = std::time::Duration::from_millis;
    task.retry.backoff = Backoff { first: ms(100), cap: ms(500) };
    task
}

fn gang(desk: &Desk, members: u32, work: &str) -> TaskSpec {
    let member = scripted("gang", HALF_A_CORE, desk.member_script(HALF_A_CORE, work));
    member.with(|task| {
        task.array = Some(array(members));
        task.gang = true;
    })
}

/// One fails while the others run.
fn failing_gang(desk: &Desk, failing: &str) -> TaskSpec {
    let work = format!("if [ $BATON_GANG_RANK -eq 1 ]; then {failing}; fi\nsleep 0.2");
    retried(gang(desk, GANG_MEMBERS, &work))
}

fn staged(desk: &Desk) -> Vec<TaskSpec> {
    let quick = |name: &str| task(desk, name, HALF_A_CORE, ":");
    let on = |name: &str| vec![Dependency::Task(name.to_owned())].into();
    vec![
        quick("split"),
        gang(desk, GANG_MEMBERS, "sleep 0.1").with(|task| task.after = on("split")),
        quick("merge").with(|task| task.after = on("gang")),
    ]
}

fn noop() -> TaskSpec {
    let mut task = TaskSpec::new("work", Work::Noop);
    task.retry.lost_max = 1_000;
    task
}

fn giant() -> FileSpec {
    let content = Blob::inline("x".repeat(GIANT_BYTES).into_bytes());
    FileSpec { to: "payload".to_owned(), mode: model::spec::FILE_MODE_DEFAULT, content }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the members, by the job itself.
    fn gang_of(spec: &JobSpec) -> Option<Range<u32>> {
        let mut first = 0;
        for task in &spec.tasks {
            if let Some(size) = task.gang_size() {
                return Some(first..first + size);
            }
            first += task.count();
        }
        None
    }

    #[test]
    fn names_are_read_back_and_the_graph_is_what_its_edges_say() {
        assert!(Shape::ALL.iter().all(|shape| Shape::named(shape.name()) == Some(*shape)));
        let edges = Shape::Graph.edges();
        assert_eq!(edges.len(), 12);
        assert!(edges.contains(&(0, 1)) && edges.contains(&(4, 8)) && edges.contains(&(8, 9)));
        assert!(edges.iter().all(|(before, after)| before < after));
        assert_eq!(Shape::GangStaged.edges(), [(0, 1), (1, 4), (0, 2), (2, 4), (0, 3), (3, 4)]);
    }

    #[test]
    fn every_shape_is_a_job_that_the_product_takes() {
        let desk = Desk {
            folder: "/d".into(),
            worker: "echo w".into(),
            clock: "date +%s%N".into(),
            has_flock: true,
        };
        let limits = model::settings::Limits::default();
        for shape in Shape::ALL {
            let spec = spec(&desk, shape, Queue::Urgent, 7, 0);
            assert_eq!(model::validate::validate(&spec, &limits), [], "{}", shape.name());
            let other = super::spec(&desk, shape, Queue::Urgent, 7, 1);
            assert_ne!(spec, other, "another body is another job");
            assert_eq!(gang_of(&spec), shape.gang(), "{}", shape.name());
        }
    }
}
