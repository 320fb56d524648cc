use super::*;
use crate::history::PastRun;
use crate::policy::Policy;
use crate::run::run;

fn at(seconds: u64) -> Timestamp {
    Timestamp((1_000_000 + seconds) * 1_000_000)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A run of so many tasks that succeeded.
fn ended(first: u32, count: u32, from: u64, to: u64) -> PastRun {
    let (started, ended) = (Some(at(from)), Some(at(to)));
    PastRun { first, count, state: TaskState::Succeeded, attempts: 1, started, ended }
}

fn open(first: u32, count: u32, state: TaskState) -> PastRun {
    PastRun { first, count, state, attempts: 0, started: None, ended: None }
}

fn task(name: &str, parts: u64, runs: Vec<PastRun>) -> PastTask {
    PastTask {
        name: name.to_owned(),
        first: runs[0].first,
        count: runs.iter().map(|run| run.count).sum(),
        parts,
        gang: false,
        estimate: None,
        estimate_from: None,
        deadline: None,
        after: Vec::new(),
        after_each: Vec::new(),
        runs,
    }
}

fn job(id: u64, submitted: u64, tasks: Vec<PastTask>) -> PastJob {
    PastJob {
        job: JobId(id),
        name: "etl".to_owned(),
        queue: "default".to_owned(),
        user: "ann".to_owned(),
        priority: 2,
        submitted: at(submitted),
        not_before: None,
        state: model::views::JobState::Succeeded,
        after: Vec::new(),
        tasks,
    }
}

fn of(jobs: &[PastJob]) -> Replay {
    replay(&History { jobs: jobs.to_vec() }, None)
}

#[test]
fn tasks_take_as_long_as_they_took_and_what_did_not_end_is_left_out_and_counted() {
    let array = task("a", PARTS, vec![ended(0, 2, 12, 15), open(2, 3, TaskState::Ready)]);
    let failed = PastRun { state: TaskState::Failed, attempts: 3, ..ended(5, 1, 20, 27) };
    let found = of(&[job(7, 10, vec![array, task("b", 4 * PARTS, vec![failed])])]);
    let tasks = &found.workload.jobs[0].tasks;
    let told: Vec<(&str, u64, u64)> =
        tasks.iter().map(|task| (task.name.as_str(), task.run.as_secs(), task.cores)).collect();
    assert_eq!(told, [("j7.0", 3, 1), ("j7.1", 3, 1), ("j7.5", 7, 4)]);
    assert_eq!((found.workload.left_out, found.parts_per_core), (3, 1));
    let Facts { jobs, tasks, not_ended, retried, without_estimate, .. } = found.facts;
    assert_eq!((jobs, tasks, not_ended, retried, without_estimate), (1, 3, 3, 1, 3));
    assert_eq!(found.facts.span_s, 17.0);
    assert_eq!(found.facts.measured_mean_wait_s, Some(2.0), "what was tried again is not measured");
}

#[test]
fn jobs_are_submitted_as_they_were_whatever_their_order_in_the_file() {
    let one = |id, submit| job(id, submit, vec![task("t", PARTS, vec![ended(0, 1, 50, 60)])]);
    let delayed = PastJob { not_before: Some(at(40)), ..one(3, 5) };
    let after = PastJob { after: vec![JobId(3)], ..one(4, 6) };
    let found = of(&[after, delayed, one(9, 25), one(8, 20)]);
    let submits: Vec<u64> = found.workload.jobs.iter().map(|job| job.submit.as_secs()).collect();
    let names: Vec<&str> = found.workload.tasks().map(|task| task.name.as_str()).collect();
    assert_eq!(
        (submits.as_slice(), names.as_slice()),
        (&[0, 5, 20, 20][..], &["j8.0", "j9.0", "j3.0", "j4.0"][..])
    );
    assert_eq!(found.workload.jobs[3].tasks[0].after_jobs, [2]);
}

#[test]
fn an_estimate_is_what_could_be_known_when_the_job_was_submitted() {
    let run = |from, to| vec![task("t", PARTS, vec![ended(0, 1, from, to)])];
    let mut jobs =
        vec![job(1, 0, run(0, 10)), job(2, 5, run(10, 40)), job(3, 10, run(40, 50)), job(4, 60, run(60, 65))];
    let estimates = |jobs: &[PastJob]| -> Vec<Option<u64>> {
        of(jobs).workload.tasks().map(|task| task.estimate.map(|time| time.as_secs())).collect()
    };
    // The third was submitted as the first ended; the fourth knows of the second and the third.
    assert_eq!(estimates(&jobs), [None, None, Some(10), Some(20)]);
    jobs[0].tasks[0].estimate = Some(secs(99));
    jobs[0].tasks[0].estimate_from = Some(EstimateFrom::Learnt);
    jobs[3].tasks[0].estimate = Some(secs(77));
    jobs[3].tasks[0].estimate_from = Some(EstimateFrom::Given);
    assert_eq!(estimates(&jobs), [Some(99), None, Some(10), Some(77)]);
    jobs.iter_mut().for_each(|job| job.name.clear());
    assert_eq!(
        estimates(&jobs),
        [Some(99), None, None, Some(77)],
        "nothing is learnt of jobs without a name"
    );
}

#[test]
fn parts_of_cores_are_kept_apart() {
    let found = of(&[
        job(1, 0, vec![task("a", PARTS / 2, vec![ended(0, 1, 0, 9)])]),
        job(2, 0, vec![task("a", PARTS * 3 / 4, vec![ended(0, 1, 0, 9)])]),
    ]);
    assert_eq!((found.parts_per_core, found.workload.widest()), (4, 3));
    assert_eq!(found.workload.jobs[0].tasks[0].cores, 2);
}

#[test]
fn a_gang_is_one_task_that_is_as_wide_as_its_members_together() {
    let gang = |runs| PastTask { gang: true, ..task("g", 2 * PARTS, runs) };
    let ended_all = gang(vec![ended(0, 1, 10, 20), ended(1, 3, 11, 26)]);
    let stopped = gang(vec![ended(0, 3, 10, 20), open(3, 1, TaskState::Cancelled)]);
    let found = of(&[job(1, 0, vec![ended_all]), job(2, 0, vec![stopped])]);
    assert_eq!(found.workload.tasks().count(), 1);
    let task = &found.workload.jobs[0].tasks[0];
    assert_eq!((task.cores, task.run), (8, secs(16)));
    assert_eq!(found.facts.not_ended, 1);
}

#[test]
fn what_asks_for_more_cores_than_there_are_to_be_is_counted() {
    let wide = task("a", 5 * PARTS, vec![ended(0, 2, 0, 9), open(2, 1, TaskState::Ready)]);
    let narrow = task("b", PARTS, vec![ended(3, 1, 0, 9)]);
    let found = replay(&History { jobs: vec![job(1, 0, vec![wide, narrow])] }, Some(4 * PARTS));
    assert_eq!((found.facts.too_wide, found.facts.not_ended, found.facts.tasks), (2, 1, 1));
}

#[test]
fn dependencies_hold_within_a_job_one_by_one_and_between_jobs() {
    let a = task("a", PARTS, vec![ended(0, 2, 0, 10), open(2, 1, TaskState::Failed)]);
    let each = PastTask { after_each: vec!["a".to_owned()], ..task("b", PARTS, vec![ended(3, 3, 10, 20)]) };
    let last = PastTask {
        after: vec![Dependency::Task("b".to_owned())],
        ..task("c", PARTS, vec![ended(6, 1, 20, 25)])
    };
    let on_job = vec![Dependency::Job(JobId(1)), Dependency::Job(JobId(99))];
    let second = PastTask { after: on_job, ..task("d", PARTS, vec![ended(0, 1, 30, 31)]) };
    let found = of(&[job(1, 0, vec![a, each, last]), job(2, 1, vec![second])]);
    let after: Vec<&[usize]> = found.workload.tasks().map(|task| task.after.as_slice()).collect();
    assert_eq!(after, [&[][..], &[], &[0], &[1], &[], &[2, 3, 4], &[]]);
    assert_eq!(found.workload.jobs[1].tasks[0].after_jobs, [0]);
    let ran = run(&found.workload, 8, &"fcfs".parse::<Policy>().unwrap()).unwrap();
    let of_job = |place| ran.tasks.iter().filter(move |ran| ran.job == place);
    let first = found.workload.jobs[0].submit;
    assert_eq!(of_job(0).map(|ran| ran.end).max(), Some(first + secs(25)));
    // It became ready, and began, when all of the first job had ended.
    let last = of_job(1).next().unwrap();
    assert_eq!((last.ready, last.start), (first + secs(25), first + secs(25)));
    assert_eq!(ran.tasks.len(), 7);
}

#[test]
fn a_job_of_very_many_tasks_is_replayed_in_parts() {
    let many = task("a", PARTS, vec![ended(0, 25_000, 0, 2)]);
    let on = PastJob { after: vec![JobId(1)], ..job(2, 0, vec![task("b", PARTS, vec![ended(0, 1, 2, 3)])]) };
    let found = of(&[job(1, 0, vec![many]), on.clone()]);
    assert_eq!(
        found.workload.jobs.iter().map(|job| job.tasks.len()).collect::<Vec<_>>(),
        [10_000, 10_000, 5_000, 1]
    );
    assert_eq!(found.workload.jobs[3].tasks[0].after_jobs, [0, 1, 2]);
    assert_eq!(found.facts.jobs, 2);
    let one = task("a", PARTS, vec![ended(0, 2_000, 0, 2)]);
    let other = PastTask {
        after: vec![Dependency::Task("a".to_owned())],
        ..task("b", PARTS, vec![ended(2_000, 2_000, 2, 3)])
    };
    let found = of(&[job(1, 0, vec![one, other]), on]);
    assert_eq!((found.facts.too_entwined, found.facts.tasks, found.facts.left_out()), (4_000, 1, 4_000));
}
