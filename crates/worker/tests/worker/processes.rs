//! What an attempt gets, and how its end is told.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use model::{Blob, EnvValue, FileSpec, Work};
use wire::v1;
use wire::v1::leader_message::Message as Say;

use crate::host::{World, is_alive, until};
use crate::leader::{argv, order, shell};

#[tokio::test]
async fn output_is_kept_and_the_last_of_a_failure_is_told() {
    let mut world = World::new().await;
    let ended = world.leader.run(1, argv(&["echo", "hello"])).await;
    assert_eq!((ended.verdict.as_str(), ended.exit_code), ("succeeded", Some(0)));
    assert_eq!(ended.message, "");
    let dir = world.host.data_dir().join("attempts/j7.1#1");
    assert_eq!(std::fs::read_to_string(dir.join("stdout")).unwrap(), "hello\n");
    assert!(!dir.join("work").exists());

    let ended = world.leader.run(2, shell("echo out; echo \"went wrong\" >&2; exit 3")).await;
    assert_eq!((ended.verdict.as_str(), ended.reason.as_str()), ("failed", "exited"));
    assert_eq!((ended.exit_code, ended.message.as_str()), (Some(3), "went wrong"));
    let ended = world.leader.run(3, shell("head -c 5000 /dev/zero | tr '\\0' x; echo end; exit 1")).await;
    assert!(ended.message.ends_with("xend") && ended.message.len() <= 2_048, "{}", ended.message.len());
    let ended = world.leader.run(4, shell("kill -9 $$")).await;
    assert_eq!((ended.exit_code, ended.signal), (None, Some(9)));
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let mut world = World::new().await;
    let plain = world.host.path().join("plain");
    std::fs::write(&plain, "no program").unwrap();
    let mut expect = async |seq, spec, part: &str| {
        let ended = world.leader.run(seq, spec).await;
        assert_eq!(ended.verdict, "failed");
        assert!(ended.message.contains(part), "{part}: {}", ended.message);
        ended.reason
    };
    assert_eq!(
        expect(1, argv(&["no-such-program"]), "no program `no-such-program` in PATH").await,
        "not_started"
    );
    assert_eq!(expect(2, argv(&["./absent.sh"]), "no program").await, "not_started");
    let plain = plain.display().to_string();
    assert_eq!(expect(3, argv(&[&plain]), "may not be executed").await, "not_started");
    let mut spec = argv(&["true"]);
    spec.workdir = "/no/such/directory".to_owned().into();
    assert_eq!(expect(4, spec, "working directory /no/such/directory").await, "not_started");
    let mut spec = TaskSpec::new("s", Work::Script("#!/no/such/interpreter\n".to_owned()));
    spec.resources.cpu = 1;
    assert_eq!(expect(5, spec, "cannot run").await, "not_started");
    let mut spec = argv(&["true"]);
    spec.env.insert("KEY".to_owned(), EnvValue::Secret { secret: "token".to_owned() });
    assert_eq!(expect(6, spec, "secret `token`").await, "unsupported");
    let mut spec = argv(&["true"]);
    let content =
        Blob { sha256: [0; 32], size: 1, source: model::BlobSource::Url("https://127.0.0.1/x".to_owned()) };
    spec.files = vec![FileSpec { to: "x".to_owned(), mode: 0o644, content }].into();
    assert_eq!(expect(7, spec, "only http://").await, "not_started");
}

use model::TaskSpec;

#[tokio::test]
async fn what_the_host_lacks_costs_no_task_a_retry_and_the_worker_rests() {
    let mut world = World::new().await;
    let attempts = world.host.data_dir().join("attempts");
    std::fs::remove_dir(&attempts).unwrap();
    std::fs::write(&attempts, "in the way").unwrap();
    let ended = world.leader.run(1, argv(&["true"])).await;
    assert_eq!((ended.verdict.as_str(), ended.reason.as_str()), ("lost", "not_started"));
    assert!(ended.message.contains("no room for its files"), "{}", ended.message);
    let failed_at = ended.ended_unix_us;
    std::fs::remove_file(&attempts).unwrap();
    std::fs::create_dir(&attempts).unwrap();
    let ended = world.leader.run(2, argv(&["true"])).await;
    assert_eq!(ended.verdict, "succeeded");
    let rested = ended.started_unix_us.unwrap() - failed_at;
    assert!(rested >= 9_000_000, "{rested} us");
}

#[tokio::test]
async fn the_environment_holds_exactly_what_it_should() {
    let secrets = tempfile::tempdir().unwrap();
    std::fs::write(secrets.path().join("token"), "s3cret\n").unwrap();
    let directory = secrets.path().to_owned();
    let mut world = World::with(|builder| builder, |config| config.secrets_dir = Some(directory)).await;
    let mut spec = argv(&["env"]);
    spec.env.insert("PLAIN".to_owned(), EnvValue::Plain("value".to_owned()));
    spec.env.insert("KEY".to_owned(), EnvValue::Secret { secret: "token".to_owned() });
    spec.env.insert("BATON_TOKEN".to_owned(), EnvValue::Plain("forged".to_owned()));
    let mut asked = order(1, spec);
    asked.array_index = Some(30);
    asked.lines = vec!["a line".to_owned()];
    asked.traceparent = "00-1-2-01".to_owned();
    asked.units = [0, 2].map(|unit| v1::UnitShare { resource: "gpu".to_owned(), unit, parts: 10_000 }).into();
    world.leader.say(Say::Run(asked));
    assert_eq!(world.leader.end(1, 1).await.verdict, "succeeded");
    let out = world.host.read("data/attempts/j7.1#1/stdout").unwrap();
    let mut env: Vec<&str> = out.lines().collect();
    env.sort();
    let own = |name: &str| env.iter().find(|line| line.starts_with(&format!("{name}="))).copied().unwrap();
    let dir = world.host.data_dir().canonicalize().unwrap().join("attempts/j7.1#1");
    let expected = [
        "BATON_ARRAY_INDEX=30".to_owned(),
        "BATON_ATTEMPT=1".to_owned(),
        "BATON_JOB=j7".to_owned(),
        "BATON_LINE=a line".to_owned(),
        "BATON_RESOURCE_GPU=0,2".to_owned(),
        format!("BATON_RESULT={}", dir.join("result").display()),
        "BATON_TASK=j7.1".to_owned(),
        "BATON_TOKEN=1001".to_owned(),
        "CUDA_VISIBLE_DEVICES=0,2".to_owned(),
        own("HOME").to_owned(),
        "KEY=s3cret".to_owned(),
        own("LANG").to_owned(),
        own("PATH").to_owned(),
        "PLAIN=value".to_owned(),
        format!("TMPDIR={}", dir.join("tmp").display()),
        "TRACEPARENT=00-1-2-01".to_owned(),
    ];
    assert_eq!(env, expected);
}

#[tokio::test]
async fn files_stdin_scripts_and_working_directories_are_laid_out() {
    let mut world = World::new().await;
    let mut spec = argv(&["./bin/run.sh", "x"]);
    let content =
        Blob::inline(b"#!/bin/sh\necho \"$1\" $(cat) $(cat data) > $BATON_RESULT; touch made".to_vec());
    spec.files = vec![
        FileSpec { to: "bin/run.sh".to_owned(), mode: 0o755, content },
        FileSpec { to: "data".to_owned(), mode: 0o640, content: Blob::inline(b"from a file".to_vec()) },
    ]
    .into();
    spec.stdin = Some(Box::new(Blob::inline(b"from stdin".to_vec())));
    let ended = world.leader.run(1, spec).await;
    let result = Blob::try_from(ended.result.expect("a result")).unwrap();
    assert_eq!(result.inline_bytes(), Some(&b"x from stdin from a file\n"[..]), "{}", ended.message);

    let own = world.host.path().join("own");
    std::fs::create_dir(&own).unwrap();
    let mut spec = TaskSpec::new("s", Work::Script("pwd; cd \"$TMPDIR\" && pwd".to_owned()));
    (spec.resources.cpu, spec.workdir) = (1, own.display().to_string().into());
    assert_eq!(world.leader.run(2, spec).await.verdict, "succeeded");
    let out = world.host.read("data/attempts/j7.2#1/stdout").unwrap();
    assert_eq!(out.lines().next().unwrap(), own.canonicalize().unwrap().display().to_string());
    assert!(own.exists() && out.lines().count() == 2, "{out}");
    let secret = world.host.data_dir().join("secret");
    assert_eq!(std::fs::metadata(secret).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_result_that_is_too_large_is_dropped_and_said_to_be() {
    let mut world = World::new().await;
    let ended = world.leader.run(1, shell("head -c 101 /dev/zero > $BATON_RESULT")).await;
    assert_eq!((ended.verdict.as_str(), &ended.result), ("succeeded", &None));
    assert!(ended.message.contains("101 bytes, more than result_bytes_max = 100"), "{}", ended.message);
}

#[tokio::test]
async fn output_beyond_its_limit_is_cut_and_does_not_block() {
    let mut world = World::with(|builder| builder, |config| config.logs.stream_bytes_max = 1_000).await;
    let spec = shell("head -c 3000000 /dev/zero | tr '\\0' x; echo the last words; exit 1");
    let ended = world.leader.run(1, spec).await;
    assert!(ended.message.ends_with("the last words"), "{}", ended.message);
    assert_eq!(world.host.read("data/attempts/j7.1#1/stdout").unwrap().len(), 1_000);
    world.leader.say(fetch(9, 1, false));
    let (out, _, note) = world.leader.log(9).await;
    assert_eq!((out.len(), note.as_str()), (1_000, "stdout was cut at 1000"));
}

fn fetch(fetch: u64, task: u32, follow: bool) -> Say {
    Say::FetchLog(v1::FetchLog { fetch, job: 7, task, attempt: 0, follow, ..Default::default() })
}

#[tokio::test]
async fn a_timeout_ends_the_attempt_even_if_it_will_not_hear() {
    let mut world = World::new().await;
    let mut spec = shell("trap '' TERM; echo stubborn; while :; do sleep 0.05; done");
    spec.timeout = Some(Duration::from_millis(200));
    let ended = world.leader.run(1, spec).await;
    assert_eq!((ended.verdict.as_str(), ended.reason.as_str()), ("failed", "timed_out"));
    assert!(ended.message.contains("longer than its timeout of 200ms"), "{}", ended.message);
    assert_eq!(ended.signal, Some(9));
}

#[tokio::test]
async fn a_stop_ends_children_and_those_that_left_the_group() {
    let mut world = World::new().await;
    let file = |name: &str| world.host.path().join(name).display().to_string();
    let (child, stray) = (file("child"), file("stray"));
    let script = format!(
        "sh -c 'echo $$ > {child}; exec sleep 300' & setsid sh -c 'echo $$ > {stray}; exec sleep 300' & wait"
    );
    world.leader.say(Say::Run(order(1, shell(&script))));
    let (child, stray) = (world.host.written("child").await, world.host.written("stray").await);
    assert!(is_alive(&child) && is_alive(&stray));
    world.leader.say(Say::Stop(v1::Stop { seq: 1, token: 1_001 }));
    let ended = world.leader.end(1, 1).await;
    assert_eq!((ended.verdict.as_str(), ended.reason.as_str()), ("cancelled", "cancelled"));
    until(|| !is_alive(&child) && !is_alive(&stray)).await;
}

#[tokio::test]
async fn what_an_attempt_leaves_behind_ends_with_it() {
    let mut world = World::new().await;
    let stray = world.host.path().join("stray").display().to_string();
    let script = format!(
        "setsid sh -c 'echo $$ > {stray}; exec sleep 300' & while ! [ -s {stray} ]; do sleep 0.01; done"
    );
    assert_eq!(world.leader.run(1, shell(&script)).await.verdict, "succeeded");
    let stray = world.host.written("stray").await;
    until(|| !is_alive(&stray)).await;
}

/// Doubles a string until it has far more than the limit.
const GROW: &str = "a=0123456789abcdef; i=0; while [ $i -lt 24 ]; do a=$a$a; i=$((i+1)); done; echo ${#a}";

async fn exceed_memory(world: &mut World) -> v1::Ended {
    let mut spec = shell(GROW);
    spec.resources.memory = 32 << 20;
    let ended = world.leader.run(1, spec).await;
    assert_eq!(ended.verdict, "failed", "{ended:?}");
    let mut spec = shell("echo fits");
    spec.resources.memory = 32 << 20;
    assert_eq!(world.leader.run(2, spec).await.verdict, "succeeded");
    ended
}

#[tokio::test]
async fn memory_beyond_the_limit_is_refused_to_the_attempt_alone() {
    let mut world = World::new().await;
    let ended = exceed_memory(&mut world).await;
    if world.leader.hellos[0].isolation.starts_with("cgroup") {
        assert_eq!(ended.reason, "out_of_memory", "{ended:?}");
        assert!(ended.message.contains("memory limit of 32MiB"), "{}", ended.message);
    }
}

#[tokio::test]
async fn without_control_groups_memory_is_limited_by_rlimits() {
    let mut world = World::with(|builder| builder, |config| config.cgroups = false).await;
    exceed_memory(&mut world).await;
    let isolation = &world.leader.hellos[0].isolation;
    assert!(isolation.contains("RLIMIT_DATA"), "{isolation}");
}

#[tokio::test]
async fn time_and_memory_used_are_counted() {
    let mut world = World::new().await;
    let ended = world.leader.run(1, shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")).await;
    assert!(ended.cpu_time_us > 0 && ended.memory_peak > 100_000, "{ended:?}");
    assert!(ended.started_unix_us.is_some_and(|at| at <= ended.ended_unix_us));
}
