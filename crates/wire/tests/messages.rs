//! Views, events, reports, targets and failures read back as they were.

use std::collections::BTreeMap;
use std::time::Duration;

use machine::{Edge, Ended, Event, News, Rejection, Report, Target};
use model::policy::{Adaptation, Backfill, Mode, Order};
use model::views::{
    Asked, AskedJob, ClusterView, Counts, EstimateFrom, Explanation, GroupView, JobState, JobView,
    MemberView, QueueView, ReasonView, TaskState, TaskView, UserView, WorkerState, WorkerView,
};
use model::{
    Actor, Blob, Capacity, Dependency, JobId, Kind, Offer, Outcome, QueuePolicy, Reason, RequestId,
    Resources, Run, RunSet, SessionId, SpecError, TaskId, Timestamp, Token, Verdict,
};
use tonic::{Code, Status};
use wire::error::{Failure, Happened, code};
use wire::{convert, v1};

const VERDICTS: [Verdict; 4] = [Verdict::Succeeded, Verdict::Failed, Verdict::Lost, Verdict::Cancelled];
const REASONS: [Reason; 9] = [
    Reason::Exited,
    Reason::TimedOut,
    Reason::Cancelled,
    Reason::NotStarted,
    Reason::OutOfMemory,
    Reason::LeaseEnded,
    Reason::WorkerLost,
    Reason::Unsupported,
    Reason::WaitedTooLong,
];

fn outcome(verdict: Verdict, reason: Reason) -> Outcome {
    Outcome {
        verdict,
        reason,
        exit_code: Some(-1),
        signal: Some(9),
        message: "tail".to_owned(),
        result: Some(Box::new(Blob::inline(vec![0, 255]))),
        placed: Timestamp(1),
        started: Some(Timestamp(2)),
        ended: Timestamp(3),
        cpu_time: Duration::from_micros(4),
        memory_peak: 5,
        worker: "w1".to_owned(),
        token: Token(6),
        attempt: 7,
        round: 8,
    }
}

fn counts() -> Counts {
    let [blocked, delayed, ready, running] = [1, 2, 3, 4];
    Counts { blocked, delayed, ready, running, succeeded: 5, failed: 6, cancelled: 7, skipped: 8 }
}

#[test]
fn outcomes_read_back_for_every_verdict_and_reason() {
    for verdict in VERDICTS {
        for reason in REASONS {
            let outcome = outcome(verdict, reason);
            assert_eq!(Outcome::try_from(v1::Outcome::from(&outcome)), Ok(outcome));
        }
    }
    let odd = v1::Outcome { verdict: "fine".to_owned(), reason: "luck".to_owned(), ..Default::default() };
    let paths: Vec<String> =
        Outcome::try_from(odd).unwrap_err().into_iter().map(|error| error.path).collect();
    assert_eq!(paths, ["verdict", "reason"]);
}

fn job_in(state: JobState, group: &GroupView) -> JobView {
    JobView {
        id: JobId(42),
        name: "n".to_owned(),
        state,
        queue: "q".to_owned(),
        priority: -1,
        labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        actor: Actor::new("u", "cli"),
        submitted: Timestamp(1),
        finished: Some(Timestamp(2)),
        counts: counts(),
        groups: vec![group.clone()],
        after: vec![JobId(41)],
    }
}

#[test]
fn job_and_task_views_read_back_in_every_state() {
    let group = GroupView {
        name: "g".to_owned(),
        first: 0,
        len: 36,
        is_array: true,
        counts: counts(),
        after: vec!["f".to_owned()],
    };
    let states = [
        JobState::Waiting,
        JobState::Running,
        JobState::Paused,
        JobState::Succeeded,
        JobState::Failed,
        JobState::Cancelled,
    ];
    for state in states {
        let job = job_in(state, &group);
        assert_eq!(JobView::try_from(v1::Job::from(&job)), Ok(job));
    }
    let asked = |estimate| Asked {
        resources: Resources::cores(2),
        gang: true,
        estimate,
        deadline: Some(Duration::from_micros(9)),
        after_each: vec!["f".to_owned()],
    };
    let estimates = EstimateFrom::ALL.map(|from| Some((Duration::from_micros(7), from)));
    for estimate in estimates.into_iter().chain([None]) {
        let (job, not_before) = (job_in(JobState::Waiting, &group), Some(Timestamp(4)));
        let job = AskedJob { job, not_before, asked: vec![asked(estimate)] };
        assert_eq!(AskedJob::try_from(v1::Job::from(&job)), Ok(job));
    }
    // A replica that does not know what is asked for tells nothing of it.
    let plain = v1::Job::from(&job_in(JobState::Waiting, &group));
    assert_eq!(AskedJob::try_from(plain).unwrap_err()[0].path, "asked");
    for state in TaskState::ALL {
        let task = TaskView {
            id: TaskId { job: JobId(42), number: 7 },
            name: "n".to_owned(),
            array_index: Some(0),
            state,
            attempt: 2,
            round: 1,
            worker: Some("w".to_owned()),
            outcome: Some(outcome(Verdict::Lost, Reason::WorkerLost)),
            earlier: vec![outcome(Verdict::Failed, Reason::Exited)],
            note: "why".to_owned(),
        };
        assert_eq!(TaskView::try_from(v1::Task::from(&task)), Ok(task));
    }
}

#[test]
fn queue_worker_and_cluster_views_read_back() {
    let queue = QueueView {
        name: "q".to_owned(),
        weight: 3,
        paused: true,
        running_max: Some(0),
        policy: QueuePolicy {
            order: Order::Priority,
            ageing: Duration::from_secs(60),
            backfill: Backfill::Easy,
            preempt: true,
            quantum: Duration::from_millis(250),
            mode: Mode::Hybrid,
            yields: true,
        },
        auto: true,
        adapted: Some(Adaptation {
            at: Timestamp(77),
            home: QueuePolicy { order: Order::Fair, ..QueuePolicy::default() },
            from: QueuePolicy { backfill: Backfill::Conservative, ..QueuePolicy::default() },
            to: QueuePolicy { ageing: Duration::from_secs(3), mode: Mode::Claim, ..QueuePolicy::default() },
            tasks: 24,
            wait_from: Duration::from_secs(9),
            wait_to: Duration::from_millis(8),
        }),
        adaptations: 6,
        counts: counts(),
        unfinished_jobs: 4,
        usage: 1.25,
        oldest_wait: Some(Duration::from_micros(5)),
        preempted: 3,
        suspensions: 11,
        suspended: 1,
        deadlines_met: 9,
        deadlines_missed: 2,
        users: vec![UserView { name: "u".to_owned(), weight: 7, jobs: 2, share: 0.5, past_share: 0.25 }],
    };
    assert_eq!(QueueView::from(v1::Queue::from(&queue)), queue);
    let mut capacity = Capacity::of(Resources::cores(4));
    capacity.offer("gpu", Offer::Indexed(2));
    capacity.offer("licence", Offer::Sum(5_000));
    for state in [WorkerState::Live, WorkerState::Cordoned, WorkerState::Draining, WorkerState::Gone] {
        let worker = WorkerView {
            name: "w".to_owned(),
            state,
            session: Some(SessionId(1)),
            capacity: capacity.clone(),
            used: Resources::cores(1),
            labels: BTreeMap::from([("zone".to_owned(), "eu".to_owned())]),
            kinds: vec![Kind::Process, Kind::Wasm],
            functions: vec!["sum".to_owned()],
            attempts: 1,
            isolation: "rlimits".to_owned(),
        };
        assert_eq!(WorkerView::try_from(v1::Worker::from(&worker)), Ok(worker));
    }
    let member = MemberView {
        id: 1,
        name: "n1".to_owned(),
        raft_address: "a:1".to_owned(),
        api_address: "a:2".to_owned(),
        role: "leader".to_owned(),
        matched: Some(9),
        level_max: Some(3),
    };
    let view = ClusterView {
        cluster: "c".to_owned(),
        answered_by: "n1".to_owned(),
        leader: Some("n2".to_owned()),
        term: 1,
        last_log: 2,
        committed: 3,
        applied: 4,
        snapshot: 5,
        level: 6,
        level_max: 7,
        digest: "7".to_owned(),
        alarms: vec!["clock".to_owned()],
        members: vec![member],
        workers_live: 8,
        workers_known: 9,
        unfinished_jobs: 10,
        counts: counts(),
        version: "0".to_owned(),
    };
    assert_eq!(ClusterView::from(v1::ClusterStatusReply::from(&view)), view);
}

#[test]
fn explanations_read_back() {
    let reason = ReasonView {
        code: "does_not_fit".to_owned(),
        message: "m".to_owned(),
        count: 2,
        workers: vec!["w".to_owned()],
        fix: "f".to_owned(),
    };
    let explanation = Explanation {
        task: TaskId { job: JobId(1), number: 2 },
        name: "n".to_owned(),
        state: TaskState::Ready,
        summary: "s".to_owned(),
        hopeless: true,
        reasons: vec![reason],
        expected_start: Some(Timestamp(7)),
    };
    assert_eq!(Explanation::try_from(v1::ExplainReply::from(&explanation)), Ok(explanation));
}

#[test]
fn events_read_back() {
    let events = [
        Event::Job { job: JobId(1), state: JobState::Failed },
        Event::Tasks {
            job: JobId(1),
            tasks: Run::new(3, 4),
            state: TaskState::Placed,
            attempt: 2,
            worker: Some("w".to_owned()),
        },
        Event::Tasks {
            job: JobId(1),
            tasks: Run::new(0, 1),
            state: TaskState::Skipped,
            attempt: 0,
            worker: None,
        },
        Event::Worker { worker: "w".to_owned(), state: WorkerState::Gone },
        Event::Queue { queue: "q".to_owned() },
    ];
    for event in events {
        assert_eq!(convert::event(v1::watch_reply::Event::from(&event)), Ok(Some(event)));
    }
    assert_eq!(convert::event(v1::watch_reply::Event::Begin(v1::Begin {})), Ok(None));
}

#[test]
fn reports_read_back() {
    let ended = Ended {
        verdict: Verdict::Failed,
        reason: Reason::OutOfMemory,
        exit_code: Some(0),
        signal: None,
        message: "m".to_owned(),
        result: Some(Box::new(Blob::inline(b"r".to_vec()))),
        started: Some(Timestamp(1)),
        ended: Timestamp(2),
        cpu_time: Duration::from_micros(3),
        memory_peak: 4,
    };
    for news in [News::Started { at: Timestamp(1) }, News::Ended(Box::new(ended)), News::Recalled] {
        let report = Report { seq: 1, token: Token(2), tasks: Run::new(3, 4), news };
        assert_eq!(Report::try_from(v1::Report::from(&report)), Ok(report));
    }
    let empty = Report::try_from(v1::Report::default()).unwrap_err();
    assert_eq!(empty.iter().map(|error| error.path.as_str()).collect::<Vec<_>>(), ["tasks", "news"]);
}

#[test]
fn targets_and_edges_read_back_and_runs_beyond_the_numbers_are_refused() {
    let mut numbers = RunSet::of(Run::new(0, 3));
    numbers.insert(Run::new(9, 1));
    for target in [Target::job(JobId(1)), Target { job: JobId(2), tasks: Some(numbers) }] {
        assert_eq!(convert::target(v1::Target::from(&target), "t"), Ok(target));
    }
    let beyond = v1::Target { job: 1, tasks: vec![v1::Run { first: u32::MAX, len: 2 }] };
    let errors = convert::targets(vec![beyond]).unwrap_err();
    assert_eq!(errors[0].path, "targets[0].tasks[0]");
    assert!(convert::targets(Vec::new()).is_err());

    let edge = Edge { task: Some("a".to_owned()), on: Dependency::Job(JobId(7)) };
    let request = v1::SetJobRequest { job: 3, add_after: vec![(&edge).into()], ..Default::default() };
    let (job, change) = convert::job_change(request).unwrap();
    assert_eq!((job, change.add_after), (JobId(3), vec![edge]));
    assert!(convert::job_change(v1::SetJobRequest::default()).is_err());
}

fn paths<T: std::fmt::Debug>(read: Result<T, Vec<SpecError>>) -> Vec<String> {
    read.unwrap_err().into_iter().map(|error| error.path).collect()
}

#[test]
fn names_in_writes_are_short_and_plain() {
    let long = "x".repeat(129);
    let header = v1::WriteHeader {
        user: long.clone(),
        via: "a\nb".to_owned(),
        tenant: long.clone(),
        ..Default::default()
    };
    assert_eq!(paths(convert::actor(&header)), ["header.tenant", "header.user", "header.via"]);
    assert_eq!(convert::actor(&v1::WriteHeader::default()), Ok(Actor::new("", "api")));
    let foreign = v1::WriteHeader { traceparent: "of another kind".to_owned(), ..Default::default() };
    assert_eq!(convert::actor(&foreign), Ok(Actor::new("", "api")));
    assert_eq!(convert::name("host-1.example".to_owned()).as_deref(), Ok("host-1.example"));
    for bad in [String::new(), long.clone(), "a b".to_owned()] {
        assert_eq!(paths(convert::name(bad)), ["name"]);
    }
    let edge = v1::Edge { task: long.clone(), on: long.clone() };
    let change = v1::SetJobRequest { queue: Some(long), add_after: vec![edge], ..Default::default() };
    assert_eq!(paths(convert::job_change(change)), ["queue", "add_after[0].on", "add_after[0].task"]);
}

#[test]
fn a_hello_that_every_replica_would_have_to_keep_has_bounds() {
    let open = |hello| convert::open_session(hello, SessionId(0), 0);
    let hello = v1::Hello { worker: "w".to_owned(), ..Default::default() };
    assert!(open(hello.clone()).is_ok());
    assert_eq!(paths(open(v1::Hello::default())), ["worker"]);
    let labels = |count: usize| (0..count).map(|n| (format!("l{n}"), "v".to_owned())).collect();
    assert!(open(v1::Hello { labels: labels(256), ..hello.clone() }).is_ok());
    assert_eq!(paths(open(v1::Hello { labels: labels(257), ..hello.clone() })), ["labels"]);
    let odd = [("a b".to_owned(), "v".to_owned())].into();
    assert_eq!(paths(open(v1::Hello { labels: odd, ..hello.clone() })), ["labels"]);
    for functions in [vec!["x".repeat(129)], vec!["f".to_owned(); 1_025], vec![String::new()]] {
        assert_eq!(paths(open(v1::Hello { functions, ..hello.clone() })), ["functions"]);
    }
    assert_eq!(paths(open(v1::Hello { isolation: "x".repeat(129), ..hello })), ["isolation"]);
}

fn failure() -> Failure {
    Failure {
        code: code::OVERLOADED.to_owned(),
        message: "zu viel: 100 %\nreally".to_owned(),
        fix: "warte — then retry 50%25".to_owned(),
        happened: Happened::Maybe,
        retry_after: Some(Duration::from_millis(70)),
        leader: Some("host:7070".to_owned()),
        request_id: Some(RequestId(77)),
        status: Code::ResourceExhausted,
    }
}

#[test]
fn failures_read_back_from_trailers() {
    assert_eq!(Failure::from(&Status::from(failure())), failure());
    let in_a_stream = Failure::from(v1::Error::from(failure()));
    assert_eq!(in_a_stream, Failure { leader: None, request_id: None, ..failure() });
}

#[test]
fn a_status_that_is_not_ours_may_have_happened_unless_it_cannot() {
    assert_eq!(Failure::from(&Status::unavailable("gone")).happened, Happened::Maybe);
    assert_eq!(Failure::from(&Status::deadline_exceeded("late")).happened, Happened::Maybe);
    assert_eq!(Failure::from(&Status::invalid_argument("bad")).happened, Happened::No);
    // As an older server answers a call that it has never heard of.
    let unknown = Failure::from(&Status::unimplemented(""));
    assert_eq!((unknown.code.as_str(), unknown.happened), (code::NOT_ALLOWED, Happened::No));
    assert!(
        unknown.message.contains("does not know this call") && unknown.fix.contains("start all replicas")
    );
}

#[test]
fn long_lists_of_errors_fit_in_headers_and_say_how_many_are_left_out() {
    let errors: Vec<SpecError> =
        (0..1_000).map(|n| SpecError { path: format!("tasks[{n}].name"), message: "ä".repeat(20) }).collect();
    let failure = Failure::invalid(&errors);
    assert!(failure.message.len() <= wire::error::TEXT_BYTES_MAX);
    assert!(failure.message.contains("more errors"), "{}", failure.message);
    assert!(failure.message.starts_with("tasks[0].name: ä"));
}

#[test]
fn rejections_say_what_they_are_and_that_nothing_happened() {
    let cases = [
        (Rejection::UnknownJob { job: JobId(1) }, code::UNKNOWN_JOB, Code::NotFound),
        (Rejection::RequestConflict { request: RequestId(1) }, code::CONFLICT, Code::AlreadyExists),
        (Rejection::UnknownQueue { queue: "q".to_owned() }, code::UNKNOWN_QUEUE, Code::NotFound),
        (
            Rejection::Limit { limit: "queues_max".to_owned(), max: 1, what: "queues".to_owned() },
            code::LIMIT,
            Code::ResourceExhausted,
        ),
    ];
    for (rejection, code, status) in cases {
        let failure = Failure::from(&rejection);
        assert_eq!((failure.code.as_str(), failure.status, failure.happened), (code, status, Happened::No));
        assert!(!failure.message.is_empty() && !failure.fix.is_empty());
    }
}
