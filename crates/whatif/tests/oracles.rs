//! Known results. Those of traces read them from the folder that `BATON_TRACES` names, else from `../shared/data/traces` beside the
//! repository, and say so where there is neither.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::policy::{Backfill, QueuePolicy};
use whatif::{Figures, Generator, Job, Policy, Task, Workload, figures, generate, read_swf, run};

/// One that is named is there; the one beside the repository may not be.
fn folder(named: Option<OsString>, root: &Path) -> Option<PathBuf> {
    let beside = || Some(root.join("../shared/data/traces")).filter(|folder| folder.is_dir());
    named.map(PathBuf::from).or_else(beside)
}

fn trace(name: &str) -> Option<Workload> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let Some(folder) = folder(std::env::var_os("BATON_TRACES"), &root) else {
        // Past the test runner, which shows nothing of a test that passes.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: there is no {name}: BATON_TRACES names no folder, and there is no ../shared/data/traces beside the repository"
        );
        return None;
    };
    let text = std::fs::read_to_string(folder.join(name)).expect("the trace is there");
    Some(read_swf(&text).expect("the trace is sound"))
}

#[test]
fn traces_are_looked_for_where_they_are_named_and_else_beside_the_repository() {
    let base = std::env::temp_dir().join(format!("baton-traces-{}", std::process::id()));
    let (root, beside) = (base.join("repository"), base.join("shared/data/traces"));
    std::fs::create_dir_all(&root).expect("a folder");
    assert_eq!(folder(None, &root), None);
    std::fs::create_dir_all(&beside).expect("a folder");
    let found = folder(None, &root).map(|folder| folder.canonicalize().expect("it is there"));
    assert_eq!(found, Some(beside.canonicalize().expect("it is there")));
    assert_eq!(folder(Some("elsewhere".into()), &root), Some(PathBuf::from("elsewhere")));
    std::fs::remove_dir_all(&base).expect("it goes");
}

fn under(workload: &Workload, cores: u64, policy: &str) -> Figures {
    let policy: Policy = policy.parse().expect("a policy");
    let ran = run(workload, cores, &policy).unwrap_or_else(|broken| panic!("{policy}: {broken}"));
    assert_eq!(ran.tasks.len(), workload.tasks().count());
    figures(workload, &ran)
}

fn jobs(of: &[(u64, u64, u64)]) -> Workload {
    let job = |(place, (submit, cores, run)): (usize, &(u64, u64, u64))| {
        let run = Duration::from_secs(*run);
        let task = Task { estimate: Some(run), ..Task::new(place.to_string(), *cores, run) };
        Job { submit: Duration::from_secs(*submit), user: String::new(), priority: 0, tasks: vec![task] }
    };
    Workload { jobs: of.iter().enumerate().map(job).collect(), ..Workload::default() }
}

#[test]
fn five_jobs_start_when_the_textbook_says() {
    let workload = jobs(&[(0, 6, 10), (1, 8, 10), (2, 10, 5), (3, 2, 30), (4, 2, 5)]);
    let starts = |policy: &str| {
        let mut tasks = run(&workload, 10, &policy.parse().unwrap()).unwrap().tasks;
        tasks.sort_by_key(|ran| ran.job);
        tasks.iter().map(|ran| ran.start.as_secs()).collect::<Vec<u64>>()
    };
    assert_eq!(starts("fcfs"), [0, 10, 20, 25, 25]);
    assert_eq!(starts("easy"), [0, 10, 33, 3, 4]);
    assert_eq!(starts("conservative"), [0, 10, 20, 25, 4]);
    assert_eq!(starts("sjf"), [0, 15, 10, 20, 15]);
    let easy = under(&workload, 10, "easy");
    assert_eq!((easy.overtook, easy.backfilled, easy.promised, easy.promises_broken), (2, 2, 2, 0));
    assert_eq!(under(&workload, 10, "conservative").backfilled, 1);
}

#[test]
fn what_goes_before_by_the_order_of_the_queue_is_no_backfill() {
    let made = generate(&Generator { jobs: 400, cores: 32, load: 1.0, seed: 2 });
    for strict in ["fcfs", "sjf", "hrrn"] {
        assert_eq!(under(&made, 32, strict).backfilled, 0, "{strict}");
    }
    assert!(under(&made, 32, "sjf").overtook > 0);
    for filling in
        ["first-fit", "hrrn-first-fit", "easy", "easy-sjf", "easy-hrrn", "easy-fair", "conservative"]
    {
        assert!(under(&made, 32, filling).backfilled > 0, "{filling}");
    }
    // By submits, and all in one queue, both are the same.
    let easy = under(&made, 32, "easy");
    assert_eq!(easy.backfilled, easy.overtook);
}

#[test]
fn a_task_gives_way_to_a_higher_priority_and_begins_anew() {
    let mut workload = jobs(&[(0, 1, 10), (1, 1, 10), (3, 1, 5)]);
    workload.jobs[2].priority = 5;
    let ran = run(&workload, 2, &"priority-preempt".parse().unwrap()).unwrap();
    let mut tasks = ran.tasks.clone();
    tasks.sort_by_key(|ran| ran.job);
    let told: Vec<(u64, u64, u64)> =
        tasks.iter().map(|ran| (ran.start.as_secs(), ran.end.as_secs(), ran.wait().as_secs())).collect();
    // The second has done least.
    assert_eq!(told, [(0, 10, 0), (8, 18, 7), (3, 8, 0)]);
    assert_eq!(tasks[1].lost, [(Duration::from_secs(1), Duration::from_secs(3))]);
    let found = under(&workload, 2, "priority-preempt");
    assert_eq!((found.preemptions, found.makespan_s, found.utilisation), (1, 18.0, 25.0 / 36.0));
    let without = under(&workload, 2, "priority");
    assert_eq!((without.preemptions, without.makespan_s), (0, 15.0));
}

#[test]
fn the_shorter_period_goes_first_and_so_does_the_shorter_deadline() {
    let mut workload = jobs(&[(0, 1, 4), (0, 1, 4), (0, 1, 4)]);
    let mut set = |job: usize, period: u64, deadline: u64| {
        let task = &mut workload.jobs[job].tasks[0];
        task.period = Some(Duration::from_secs(period));
        task.deadline = Some(Duration::from_secs(deadline));
    };
    set(0, 30, 8);
    set(1, 20, 12);
    set(2, 10, 4);
    let order = |policy: &str| {
        let ran = run(&workload, 1, &policy.parse().unwrap()).unwrap();
        ran.tasks.iter().map(|ran| ran.job).collect::<Vec<usize>>()
    };
    assert_eq!((order("rms"), order("dms"), order("fcfs")), (vec![2, 1, 0], vec![2, 0, 1], vec![0, 1, 2]));
    let misses = |policy| under(&workload, 1, policy).deadline_misses;
    assert_eq!((misses("rms"), misses("dms"), misses("edf"), misses("fcfs")), (1, 0, 0, 1));
}

#[test]
fn bursts_wait_as_the_textbook_says() {
    let bursts = jobs(&[(0, 1, 24), (0, 1, 3), (0, 1, 3)]);
    assert_eq!(under(&bursts, 1, "fcfs").mean_wait_s, 17.0);
    assert_eq!(under(&bursts, 1, "sjf").mean_wait_s, 3.0);
    let ran = run(&bursts, 1, &"round-robin:4s".parse().unwrap()).unwrap();
    let mut ends: Vec<(usize, u64)> = ran.tasks.iter().map(|ran| (ran.job, ran.end.as_secs())).collect();
    ends.sort_unstable();
    assert_eq!(ends, [(0, 30), (1, 7), (2, 10)]);
    let sliced = under(&bursts, 1, "round-robin:4s");
    assert!((sliced.mean_wait_s - 17.0 / 3.0).abs() < 1e-9, "{}", sliced.mean_wait_s);
    assert_eq!((sliced.suspensions, sliced.utilisation), (1, 1.0));
}

/// Whether a figure is what it was published as, with one digit, or with three: right to half a unit of the last.
fn is(found: f64, known: f64, unit: f64) -> bool {
    // Of a figure right between two, either may have been printed.
    (found - known).abs() <= unit / 2.0 + 1e-9
}

/// Mean wait, longest wait, mean bounded slowdown, makespan.
const HPC2N: [(&str, f64, f64, f64, f64); 7] = [
    ("fcfs", 5601.4, 78_517.0, 47.124, 5_309_576.0),
    ("sjf", 3330.0, 111_114.0, 29.176, 5_393_159.0),
    ("hrrn", 3511.4, 109_254.0, 31.121, 5_391_299.0),
    ("first-fit", 3227.1, 147_795.0, 15.996, 5_282_045.0),
    ("easy", 3478.6, 81_059.0, 16.859, 5_282_045.0),
    ("easy-sjf", 2355.3, 100_188.0, 12.120, 5_282_045.0),
    ("conservative", 3444.0, 78_526.0, 16.163, 5_282_045.0),
];

#[test]
fn the_hpc2n_cluster_would_have_waited_as_published() {
    let Some(workload) = trace("hpc2n.swf") else { return };
    assert_eq!(workload.jobs.len(), 3_145);
    let mut wrong = Vec::new();
    for (policy, mean, max, slowdown, makespan) in HPC2N {
        let found = under(&workload, 240, policy);
        let same = is(found.mean_wait_s, mean, 0.1)
            && found.max_wait_s == max
            && is(found.mean_bounded_slowdown, slowdown, 0.001)
            && found.makespan_s == makespan;
        if !same {
            wrong.push(found);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_policy_runs_the_hpc2n_cluster_soundly() {
    let Some(workload) = trace("hpc2n.swf") else { return };
    for policy in whatif::NAMES {
        let found = under(&workload, 240, policy);
        assert_eq!(found.tasks, 3_145, "{found:#?}");
    }
    // As the documentation has it.
    let learnt = workload.clone().learnt();
    for (policy, mean) in [("easy", 3_393.0), ("easy-sjf", 2_380.4), ("conservative", 3_078.5)] {
        let found = under(&learnt, 240, policy);
        assert!(is(found.mean_wait_s, mean, 0.1) && found.promises_broken > 0, "{found:#?}");
    }
    // With memory left out of account, as the documentation has it.
    let sliced = under(&workload, 240, "round-robin");
    assert!(is(sliced.mean_wait_s, 2_410.0, 0.1) && sliced.suspensions == 16_455, "{sliced:#?}");
}

#[test]
fn a_thousand_synthetic_jobs_wait_as_known() {
    let Some(workload) = trace("lublin_256.swf") else { return };
    let workload = workload.first(1_000);
    let known = [
        ("fcfs", 158_271.0),
        ("sjf", 19_212.4),
        ("easy", 11_045.2),
        ("easy-sjf", 6_398.5),
        ("conservative", 15_456.6),
    ];
    let found = known.map(|(policy, _)| (policy, under(&workload, 256, policy).mean_wait_s));
    let wrong = |((_, known), (_, found)): (&(&str, f64), &(&str, f64))| !is(*found, *known, 0.1);
    assert!(!known.iter().zip(&found).any(wrong), "{found:?}");
    for policy in ["easy", "conservative"] {
        assert_promises_kept(&workload, 256, policy);
    }
}

/// The estimates of the trace are exact, or too long.
fn assert_promises_kept(workload: &Workload, cores: u64, policy: &str) {
    let found = under(workload, cores, policy);
    assert!(found.promised > 50 && found.promises_broken == 0, "{found:#?}");
}

/// As if everybody had known how long a job takes.
fn exact(mut workload: Workload) -> Workload {
    workload.jobs.iter_mut().flat_map(|job| &mut job.tasks).for_each(|task| task.estimate = Some(task.run));
    workload
}

#[test]
fn a_promised_start_is_kept_where_estimates_are_exact() {
    for seed in 1..=6 {
        let made = exact(generate(&Generator { jobs: 800, cores: 64, load: 1.0, seed }));
        for policy in ["easy", "conservative", "conservative-sjf"] {
            assert_promises_kept(&made, 64, policy);
        }
        // Who is first by another order than that of submits stays so only if nobody comes later.
        let mut at_once = made;
        at_once.jobs.iter_mut().for_each(|job| job.submit = Duration::ZERO);
        for policy in ["easy-sjf", "easy-priority"] {
            assert_promises_kept(&at_once, 64, policy);
        }
    }
}

#[test]
fn a_promised_start_is_not_kept_where_a_task_takes_longer_than_expected() {
    let mut made = exact(generate(&Generator { jobs: 800, cores: 64, load: 1.0, seed: 1 }));
    made.jobs.iter_mut().step_by(3).for_each(|job| job.tasks[0].run *= 2);
    for policy in ["easy", "conservative"] {
        let found = under(&made, 64, policy);
        assert!(found.promises_broken > 0, "{found:#?}");
    }
}

#[test]
fn no_policy_breaks_what_no_run_may_break() {
    // Each run is checked as it goes: capacity, what plans come to, promises.
    for seed in 1..=3 {
        let mut made = generate(&Generator { jobs: 400, cores: 32, load: 1.1, seed });
        for (place, job) in made.jobs.iter_mut().enumerate() {
            job.priority = (place * 7 % 5) as i32;
            job.tasks[0].deadline = (place % 3 > 0).then(|| Duration::from_secs(place as u64 * 97 % 4_000));
            job.tasks[0].estimate = job.tasks[0].estimate.filter(|_| place % 11 > 0);
        }
        for policy in whatif::NAMES {
            under(&made, 32, policy);
        }
        // Those that a queue may have and that have no name.
        for backfill in Backfill::ALL {
            for ageing in [Duration::ZERO, Duration::from_secs(600)] {
                let queue =
                    QueuePolicy { backfill: *backfill, ageing, preempt: true, ..QueuePolicy::default() };
                let ran = run(&made, 32, &Policy { name: String::new(), queue });
                assert!(ran.is_ok(), "{queue:?}: {ran:?}");
            }
        }
    }
}

#[test]
fn the_critical_path_ends_two_workflows_at_the_optimum() {
    let Some(workload) = trace("jaros3.swf") else { return };
    assert_eq!(workload.jobs.len(), 2);
    let makespan = |policy| under(&workload, 16, policy).makespan_s;
    assert_eq!((makespan("first-fit"), makespan("critical-path")), (23_400.0, 19_800.0));
}
