//! Known results. Those of traces read them from the folder that `BATON_TRACES` names, and say so where it does not.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use whatif::{Figures, Job, Policy, Task, Workload, figures, read_swf, run};

fn trace(name: &str) -> Option<Workload> {
    let Some(folder) = std::env::var_os("BATON_TRACES") else {
        // Past the test runner, which shows nothing of a test that passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: BATON_TRACES names no folder with {name}");
        return None;
    };
    let text = std::fs::read_to_string(PathBuf::from(folder).join(name)).expect("the trace is there");
    Some(read_swf(&text).expect("the trace is sound"))
}

fn under(workload: &Workload, cores: u64, policy: &str) -> Figures {
    let policy: Policy = policy.parse().expect("a policy");
    let ran = run(workload, cores, &policy);
    assert_eq!(ran.tasks.len(), workload.tasks().count());
    figures(workload, &ran)
}

fn jobs(of: &[(u64, u64, u64)]) -> Workload {
    let job = |(place, (submit, cores, run)): (usize, &(u64, u64, u64))| {
        let run = Duration::from_secs(*run);
        let name = place.to_string();
        let (cores, after, after_jobs) = (*cores, Vec::new(), Vec::new());
        let task = Task { name, cores, run, estimate: Some(run), deadline: None, after, after_jobs };
        Job { submit: Duration::from_secs(*submit), user: String::new(), priority: 0, tasks: vec![task] }
    };
    Workload { jobs: of.iter().enumerate().map(job).collect(), left_out: 0 }
}

#[test]
fn five_jobs_start_when_the_textbook_says() {
    let workload = jobs(&[(0, 6, 10), (1, 8, 10), (2, 10, 5), (3, 2, 30), (4, 2, 5)]);
    let starts = |policy: &str| {
        let mut tasks = run(&workload, 10, &policy.parse().unwrap()).tasks;
        tasks.sort_by_key(|ran| ran.job);
        tasks.iter().map(|ran| ran.start.as_secs()).collect::<Vec<u64>>()
    };
    assert_eq!(starts("fcfs"), [0, 10, 20, 25, 25]);
    assert_eq!(starts("easy"), [0, 10, 33, 3, 4]);
    assert_eq!(starts("conservative"), [0, 10, 20, 25, 4]);
    assert_eq!(starts("sjf"), [0, 15, 10, 20, 15]);
    let easy = under(&workload, 10, "easy");
    assert_eq!((easy.overtook, easy.promised, easy.promises_broken), (2, 2, 0));
}

#[test]
fn bursts_wait_as_the_textbook_says() {
    let bursts = jobs(&[(0, 1, 24), (0, 1, 3), (0, 1, 3)]);
    assert_eq!(under(&bursts, 1, "fcfs").mean_wait_s, 17.0);
    assert_eq!(under(&bursts, 1, "sjf").mean_wait_s, 3.0);
    let ran = run(&bursts, 1, &"round-robin:4s".parse().unwrap());
    let mut ends: Vec<(usize, u64)> = ran.tasks.iter().map(|ran| (ran.job, ran.end.as_secs())).collect();
    ends.sort_unstable();
    assert_eq!(ends, [(0, 30), (1, 7), (2, 10)]);
    let sliced = under(&bursts, 1, "round-robin:4s");
    assert!((sliced.mean_wait_s - 17.0 / 3.0).abs() < 1e-9, "{}", sliced.mean_wait_s);
    assert_eq!((sliced.suspensions, sliced.utilisation), (1, 1.0));
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
        let same = (found.mean_wait_s - mean).abs() < 0.06
            && found.max_wait_s == max
            && (found.mean_bounded_slowdown - slowdown).abs() < 0.0006
            && found.makespan_s == makespan;
        if !same {
            wrong.push(found);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
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
    let wrong = |((_, known), (_, found)): (&(&str, f64), &(&str, f64))| (known - found).abs() >= 0.06;
    assert!(!known.iter().zip(&found).any(wrong), "{found:?}");
}

#[test]
fn the_critical_path_ends_two_workflows_at_the_optimum() {
    let Some(workload) = trace("jaros3.swf") else { return };
    assert_eq!(workload.jobs.len(), 2);
    let makespan = |policy| under(&workload, 16, policy).makespan_s;
    assert_eq!((makespan("first-fit"), makespan("critical-path")), (23_400.0, 19_800.0));
}
