//! Every field of a spec survives the way over the wire; what cannot be read is named by its path.

use std::time::Duration;

use model::{Blob, BlobSource, JobSpec, OnDisconnect, Placement, TaskSpec, Timestamp, Timing, Work};
use prost::Message;
use wire::{convert, v1};

/// Every field away from its default; every kind of work, blob and environment value.
const JOB: &str = r#"{"job":"nightly","queue":"reports","priority":-3,"labels":{"team":"a"},"delay":"90s",
  "on_disconnect":"keep","placement":"spread","after":["j4","j9"],"tasks":[
  {"name":"fetch","run":["./fetch.sh","--day"],"resources":{"cpu":1.5,"memory":"512MiB","disk":"1GB",
   "network":"1MB","gpu":0.5},"cpu_limit":"hard","env":{"A":"b","S":{"secret":"key"}},
   "files":[{"to":"fetch.sh","mode":"755","text":"exit 0\n"},
            {"to":"big","url":"http://x/y","size":9,
             "sha256":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"}],
   "stdin":{"base64":"/wCA"},"workdir":"/srv","retry":{"max":3,"backoff":"1s..1m","lost_max":7},
   "timeout":"10m","estimate":"2m","deadline":"1h","period":"3h","start_within":"4m","constraints":["zone in (eu,us)","!hdd"],"anti_affinity":["web"],"alternatives":[{"cpu":2,"gpu":1}]},
  {"name":"shard","script":"exit 0","array":"0-99:5","after":["fetch","j7"]},
  {"name":"post","sleep":"5s","array":"0-19","after_each":["shard"]},
  {"name":"lines","noop":true,"each_line":{"text":"a\nb\n"}},
  {"name":"call","function":{"name":"sum","input":{"text":"1 2"}}},
  {"name":"box","container":{"image":"busybox","args":["true"]}},
  {"name":"wasm","wasm":{"module":{"ref":"m1",
     "sha256":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"},"args":["x"]}},
  {"name":"up","service":{"run":["nginx"]}}]}"#;

fn over_the_wire(spec: &JobSpec) -> JobSpec {
    let bytes = v1::JobSpec::from(spec).encode_to_vec();
    JobSpec::try_from(v1::JobSpec::decode(bytes.as_slice()).unwrap()).unwrap()
}

#[test]
fn every_field_of_a_spec_survives() {
    let spec: JobSpec = serde_json::from_str(JOB).unwrap();
    assert_eq!(over_the_wire(&spec), spec);
    let dated = spec.with(|job| {
        job.start_at = Some(Timestamp(1_700_000_000_000_001));
        job.delay = None;
    });
    assert_eq!(over_the_wire(&dated), dated);
}

#[test]
fn a_spec_of_defaults_survives_and_an_empty_message_means_the_same() {
    let spec = JobSpec::of("", vec![TaskSpec::new("a", Work::Noop)]);
    assert_eq!(over_the_wire(&spec), spec);
    let bare = v1::TaskSpec {
        name: "a".to_owned(),
        kind: Some(v1::task_spec::Kind::Noop(v1::Noop {})),
        ..Default::default()
    };
    let read = JobSpec::try_from(v1::JobSpec { tasks: vec![bare], ..Default::default() }).unwrap();
    assert_eq!(read, spec);
    assert_eq!((read.on_disconnect, read.placement), (OnDisconnect::Stop, Placement::Pack));
}

#[test]
fn all_unreadable_fields_are_named_at_once() {
    let file = v1::File { to: "x".to_owned(), mode: 0o1755, content: None };
    let task = v1::TaskSpec {
        name: "a".to_owned(),
        kind: Some(v1::task_spec::Kind::Process(v1::Process::default())),
        array: Some(v1::ArrayRange { first: 3, last: 1, step: 1 }),
        env: [("A".to_owned(), v1::EnvValue::default())].into(),
        files: vec![file],
        retry: Some(v1::Retry { backoff_first_us: 2, backoff_cap_us: 1, ..Default::default() }),
        constraints: vec!["ssd".to_owned(), "=".to_owned()],
        ..Default::default()
    };
    let spec = v1::JobSpec { placement: 9, tasks: vec![v1::TaskSpec::default(), task], ..Default::default() };
    let errors = JobSpec::try_from(spec).unwrap_err();
    let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "placement",
            "tasks[0]",
            "tasks[1]",
            "tasks[1].array",
            "tasks[1].env.A",
            "tasks[1].files[0].mode",
            "tasks[1].files[0].content",
            "tasks[1].retry.backoff",
            "tasks[1].constraints[1]",
        ]
    );
}

#[test]
fn blobs_are_checked_against_their_hash() {
    let blob = Blob::inline(b"hello".to_vec());
    assert_eq!(Blob::try_from(v1::Blob::from(&blob)).unwrap(), blob);
    let wrong = v1::Blob { sha256: vec![0; 32].into(), ..v1::Blob::from(&blob) };
    assert!(Blob::try_from(wrong).unwrap_err().contains("does not match"));
    let short = v1::Blob { sha256: vec![0; 3].into(), ..v1::Blob::from(&blob) };
    assert!(Blob::try_from(short).unwrap_err().contains("32 bytes"));
    let bare = v1::Blob { sha256: Default::default(), ..v1::Blob::from(&blob) };
    assert_eq!(Blob::try_from(bare).unwrap(), blob);
    let source = Some(v1::blob::Source::Url("http://x".to_owned()));
    assert!(Blob::try_from(v1::Blob { source, ..Default::default() }).unwrap_err().contains("sha256"));
    let by_ref = Blob { sha256: [7; 32], size: 12, source: BlobSource::Ref("r".to_owned()) };
    assert_eq!(Blob::try_from(v1::Blob::from(&by_ref)).unwrap(), by_ref);
}

#[test]
fn durations_keep_their_microseconds() {
    let mut spec = JobSpec::of("d", vec![TaskSpec::new("a", Work::Sleep(Duration::from_micros(1)))]);
    spec.delay = Some(Duration::ZERO);
    spec.tasks[0].timeout = Some(Duration::from_micros(1_000_001));
    assert_eq!(over_the_wire(&spec), spec);
}

#[test]
fn a_periodic_task_keeps_what_its_set_does_not_say() {
    let start_within = Some(Duration::from_secs(4));
    let mut task = TaskSpec::new("a", Work::Noop);
    let odd = Some(Duration::from_secs(9));
    task.timing = Timing { start_within, estimate: odd, ..Timing::default() }.boxed();
    let one = v1::PeriodicTask {
        name: "a".to_owned(),
        run_time_us: 1,
        period_us: 3,
        deadline_us: 2,
        task: Some(v1::TaskSpec::from(&task)),
    };
    let request = v1::PutPeriodicRequest {
        name: "s".to_owned(),
        policy: "edf".to_owned(),
        slots: 1,
        tasks: vec![one],
        ..Default::default()
    };
    let spec = convert::periodic_spec(request).unwrap();
    let [run_time, deadline, period] = [1, 2, 3].map(Duration::from_micros);
    let expected = Timing { start_within, ..Timing::periodic(run_time, deadline, period) };
    assert_eq!(spec.tasks[0].job.tasks[0].timing(), expected);
}
