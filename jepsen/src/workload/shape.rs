//! The jobs that clients submit: few kinds, each for what it can show.

use std::collections::BTreeMap;

use model::spec::Backoff;
use model::{ArrayRange, Blob, Dependency, FileSpec, JobSpec, TaskSpec, Work};

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
    /// Nothing to run: it ends where it is placed.
    Noop,
    /// A noop that carries as much in line as a job may.
    Giant,
}

impl Shape {
    pub const ALL: [Shape; 9] = [
        Shape::One,
        Shape::Array,
        Shape::Graph,
        Shape::Fenced,
        Shape::Failing,
        Shape::Doomed,
        Shape::Wide,
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
        matches!(self, Shape::Failing | Shape::Doomed)
    }

    /// Which task of it waits for which: numbers, as in `GRAPH`.
    pub fn edges(self) -> Vec<(u32, u32)> {
        if self != Shape::Graph {
            return Vec::new();
        }
        let b = 1..=GRAPH_WIDTH;
        let each = |b: u32| [(0, b), (b, b + GRAPH_WIDTH), (b + GRAPH_WIDTH, 1 + 2 * GRAPH_WIDTH)];
        b.flat_map(each).collect()
    }
}

const ARRAY_TASKS: u32 = 8;
const GRAPH_WIDTH: u32 = 4;
const HALF_A_CORE: u64 = 500;
/// Bytes of a giant's file: close to the product's limit of 256 KiB a job.
const GIANT_BYTES: usize = 200 << 10;

/// The job of that shape under a key. Another `body` is another job.
pub fn spec(desk: &Desk, shape: Shape, key: u64, body: u8) -> JobSpec {
    let tasks = tasks(desk, shape);
    let labels = [("key", key.to_string()), ("shape", shape.name().to_owned())];
    let labels: BTreeMap<String, String> = labels.map(|(name, value)| (name.to_owned(), value)).into();
    // So that there is an order to keep, and another body differs.
    let priority = i32::from(body) * 100 + (key % 5) as i32;
    JobSpec { priority, labels: labels.into(), ..JobSpec::of("jepsen", tasks) }
}

fn tasks(desk: &Desk, shape: Shape) -> Vec<TaskSpec> {
    let sleep = |name: &str, seconds: &str| task(desk, name, HALF_A_CORE, &format!("sleep {seconds}"));
    match shape {
        Shape::One => vec![sleep("work", "0.1")],
        Shape::Array => vec![TaskSpec { array: Some(array(ARRAY_TASKS)), ..sleep("work", "0.1") }],
        Shape::Graph => graph(desk),
        Shape::Fenced => vec![fenced(desk)],
        Shape::Failing => vec![failing(desk, "[ $BATON_ATTEMPT -ge 2 ] || exit 1")],
        Shape::Doomed => vec![failing(desk, "exit 1")],
        Shape::Wide => vec![task(desk, "work", 4 * HALF_A_CORE, "sleep 0.2")],
        Shape::Noop => vec![noop()],
        Shape::Giant => vec![TaskSpec { files: vec![giant()].into(), ..noop() }],
    }
}

fn task(desk: &Desk, name: &str, cpu: u64, work: &str) -> TaskSpec {
    let mut task = TaskSpec::new(name, Work::Script(desk.script(cpu, work)));
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
        TaskSpec { array: wide, after: on("a"), ..quick("b") },
        TaskSpec { array: wide, after_each: vec!["b".to_owned()].into(), ..quick("c") },
        TaskSpec { after: on("c"), ..quick("d") },
    ]
}

/// It asks the resource at its beginning, and again after a while: an attempt that was taken away meanwhile is refused.
fn fenced(desk: &Desk) -> TaskSpec {
    let fenced = desk.fenced();
    task(desk, "work", HALF_A_CORE, &format!("{fenced}\nsleep 0.5\n{fenced}"))
}

fn failing(desk: &Desk, work: &str) -> TaskSpec {
    let mut task = task(desk, "work", HALF_A_CORE, work);
    task.retry.max = 2;
    let ms = std::time::Duration::from_millis;
    task.retry.backoff = Backoff { first: ms(100), cap: ms(500) };
    task
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

    #[test]
    fn names_are_read_back_and_the_graph_is_what_its_edges_say() {
        assert!(Shape::ALL.iter().all(|shape| Shape::named(shape.name()) == Some(*shape)));
        let edges = Shape::Graph.edges();
        assert_eq!(edges.len(), 12);
        assert!(edges.contains(&(0, 1)) && edges.contains(&(4, 8)) && edges.contains(&(8, 9)));
        assert!(edges.iter().all(|(before, after)| before < after));
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
            let spec = spec(&desk, shape, 7, 0);
            assert_eq!(model::validate::validate(&spec, &limits), [], "{}", shape.name());
            assert_ne!(spec, super::spec(&desk, shape, 7, 1), "another body is another job");
        }
    }
}
