//! Orders, reports, redirections, output on request, leaving.

use std::time::Duration;

use model::spec::Function;
use model::{Blob, TaskSpec, Work};
use wire::v1;
use wire::v1::leader_message::Message as Say;
use worker::Left;

use crate::host::{Host, World, until};
use crate::leader::{Leader, argv, order, shell};

fn noop() -> TaskSpec {
    TaskSpec::new("n", Work::Noop)
}

#[tokio::test]
async fn a_run_of_many_noops_ends_with_one_report() {
    let mut world = World::new().await;
    let mut many = order(1, noop());
    many.tasks = Some(v1::Run { first: 10, len: 100_000 });
    world.leader.say(Say::Run(many));
    world.leader.until(|leader| !leader.ends.is_empty()).await;
    let (_, report) = world.leader.ends.pop_first().unwrap();
    assert_eq!(report.tasks, Some(v1::Run { first: 10, len: 100_000 }));
    assert_eq!(world.leader.batches, 1);
}

#[tokio::test]
async fn many_single_orders_end_in_few_batches() {
    let mut world = World::new().await;
    const MANY: u64 = 2_000;
    for seq in 1..=MANY {
        world.leader.say(Say::Run(order(seq, noop())));
    }
    world.leader.until(|leader| leader.ends.len() as u64 == MANY).await;
    assert!(world.leader.batches < MANY / 2, "{} batches", world.leader.batches);
}

#[tokio::test]
async fn the_hello_introduces_the_worker() {
    let world = World::with(
        |builder| builder.register("double", async |input, _| Ok(input)),
        |config| drop(config.labels.insert("zone".to_owned(), "eu".to_owned())),
    )
    .await;
    let hello = &world.leader.hellos[0];
    assert_eq!((hello.worker.as_str(), hello.secret.len(), hello.session), ("w1", 32, None));
    assert_eq!(hello.kinds, ["process", "noop", "sleep", "function"]);
    assert_eq!(hello.functions, ["double"]);
    assert_eq!(hello.labels["zone"], "eu");
    assert!(!hello.isolation.is_empty());
}

fn call(name: &str, input: &[u8]) -> TaskSpec {
    let input = Some(Box::new(Blob::inline(input.to_vec())));
    let mut spec = TaskSpec::new("f", Work::Function(Box::new(Function { name: name.to_owned(), input })));
    spec.resources.cpu = 1;
    spec
}

#[tokio::test]
async fn functions_of_the_program_are_tasks() {
    let build = |builder: worker::WorkerBuilder| {
        builder
            .register("reverse", async |input: Vec<u8>, _| Ok(input.into_iter().rev().collect()))
            .register_blocking("fail", |_, context| Err(format!("{} will not", context.id)))
            .register("panic", async |_, _| panic!("oh no"))
            .register("sit", async |_, _| std::future::pending().await)
    };
    let mut world = World::with(build, |_| ()).await;
    let ended = world.leader.run(1, call("reverse", b"abc")).await;
    assert_eq!(Blob::try_from(ended.result.unwrap()).unwrap(), Blob::inline(b"cba".to_vec()));
    let ended = world.leader.run(2, call("fail", b"")).await;
    assert_eq!((ended.verdict.as_str(), ended.message.as_str()), ("failed", "j7.2#1 will not"));
    let ended = world.leader.run(3, call("panic", b"")).await;
    assert_eq!(ended.message, "it panicked: oh no");
    let ended = world.leader.run(4, call("absent", b"")).await;
    assert_eq!((ended.reason.as_str(), ended.verdict.as_str()), ("unsupported", "failed"));
    let mut spec = call("sit", b"");
    spec.timeout = Some(Duration::from_millis(50));
    assert_eq!(world.leader.run(5, spec).await.reason, "timed_out");
}

/// In the place of the worker's own.
struct Odd;

impl worker::Executor for Odd {
    fn run(&self, attempt: worker::Attempt) -> futures::future::BoxFuture<'static, worker::Ended> {
        if attempt.task == 1 {
            panic!("before there is a future");
        }
        let mut ended = attempt.succeeded();
        ended.message = "é".repeat(2_000_000);
        ended.result = Some(Box::new(Blob::inline(vec![0; 20 << 20])));
        Box::pin(std::future::ready(ended))
    }
}

#[tokio::test]
async fn what_comes_from_inside_the_worker_is_bounded() {
    let build = |builder: worker::WorkerBuilder| {
        builder
            .executor(model::Kind::Sleep, Odd)
            .register("talk", async |_, _| Err("x".repeat(20 << 20)))
            .register("pour", async |_, _| Ok(vec![0; 101]))
    };
    let mut world = World::with(build, |_| ()).await;
    let sleep = || TaskSpec::new("s", Work::Sleep(Duration::ZERO));
    let ended = world.leader.run(1, sleep()).await;
    assert_eq!(
        (ended.verdict.as_str(), ended.message.as_str()),
        ("failed", "it panicked: before there is a future")
    );
    let ended = world.leader.run(2, sleep()).await;
    assert_eq!((ended.verdict.as_str(), &ended.result), ("succeeded", &None));
    assert!(ended.message.starts_with("the result was dropped: it has 20971520 bytes"));
    assert!((2_000..=2_048).contains(&ended.message.len()), "{}", ended.message.len());
    let ended = world.leader.run(3, call("talk", b"")).await;
    assert_eq!((ended.verdict.as_str(), ended.message.len()), ("failed", 2_048));
    let ended = world.leader.run(4, call("pour", b"")).await;
    assert_eq!((ended.verdict.as_str(), &ended.result), ("succeeded", &None));
    assert!(ended.message.contains("101 bytes, more than result_bytes_max = 100"), "{}", ended.message);
}

#[tokio::test]
async fn an_order_that_cannot_be_read_fails_and_says_why() {
    let mut world = World::new().await;
    let mut unreadable = order(1, noop());
    unreadable.spec = None;
    world.leader.say(Say::Run(unreadable));
    let ended = world.leader.end(1, 1).await;
    assert_eq!((ended.verdict.as_str(), ended.reason.as_str()), ("failed", "unsupported"));
    assert!(ended.message.contains("it has no spec"), "{}", ended.message);
}

#[tokio::test]
async fn a_sleep_can_be_stopped() {
    let mut world = World::new().await;
    let sleep = |duration| TaskSpec::new("s", Work::Sleep(duration));
    assert_eq!(world.leader.run(1, sleep(Duration::from_millis(1))).await.verdict, "succeeded");
    world.leader.say(Say::Run(order(2, sleep(Duration::from_secs(3_600)))));
    world.leader.started(2).await;
    world.leader.say(Say::Stop(v1::Stop { seq: 2, token: 1_002 }));
    assert_eq!(world.leader.end(2, 2).await.verdict, "cancelled");
}

#[tokio::test]
async fn a_redirection_is_followed() {
    let mut leader = Leader::start().await;
    let mut follower = Leader::start().await;
    follower.manner(|manner| manner.redirect = Some(leader.address.clone()));
    let mut host = Host::new();
    host.start(&follower, |builder| builder, |_| ()).await.unwrap();
    leader.attached().await;
    assert_eq!(leader.run(1, argv(&["true"])).await.verdict, "succeeded");
    follower.attached().await;
    assert!(follower.ends.is_empty());
}

#[tokio::test]
async fn a_new_leader_gets_the_reports_that_the_old_one_did_not_acknowledge() {
    let mut old = Leader::start().await;
    let mut new = Leader::start().await;
    let mut host = Host::new();
    let address = new.address.clone();
    host.start(&old, |builder| builder, |config| config.servers.push(address)).await.unwrap();
    old.attached().await;
    old.manner(|manner| manner.acks = false);
    let file = host.path().join("starts").display().to_string();
    let mut asked = order(1, shell(&format!("echo x >> {file}")));
    old.say(Say::Run(asked.clone()));
    assert_eq!(old.end(1, 1).await.verdict, "succeeded");
    old.say(Say::Run(order(2, argv(&["sleep", "300"]))));
    old.started(2).await;
    old.manner(|manner| manner.redirect = Some(new.address.clone()));
    old.hang_up();
    new.attached().await;
    let hello = new.hellos.last().unwrap().clone();
    assert_eq!((hello.session, hello.watermark), (Some(1), 2));
    assert_eq!(hello.holds.iter().map(|hold| hold.seq).collect::<Vec<_>>(), [2]);
    assert_eq!(new.end(1, 1).await.verdict, "succeeded");
    // The new leader sends again what it does not know to have been started.
    asked.attempt = 1;
    new.say(Say::Run(asked));
    assert_eq!(new.run(3, argv(&["true"])).await.verdict, "succeeded");
    assert_eq!(host.read("starts").unwrap(), "x\n");
}

#[tokio::test]
async fn output_is_followed_while_it_is_written() {
    let mut world = World::new().await;
    let gate = world.host.path().join("gate");
    let script = format!(
        "echo first; while ! [ -e {} ]; do sleep 0.01; done; echo second; echo aside >&2",
        gate.display()
    );
    let fetch = |fetch, follow, stdout_offset| {
        Say::FetchLog(v1::FetchLog {
            fetch,
            job: 7,
            task: 1,
            attempt: 1,
            follow,
            stdout_offset,
            stderr_offset: 0,
        })
    };
    world.leader.say(Say::Run(order(1, shell(&script))));
    world.leader.say(fetch(5, true, 0));
    world.leader.until(|leader| !leader.logs.is_empty()).await;
    std::fs::write(gate, "").unwrap();
    let (out, err, note) = world.leader.log(5).await;
    assert_eq!((out.as_str(), err.as_str(), note.as_str()), ("first\nsecond\n", "aside\n", ""));
    world.leader.end(1, 1).await;
    world.leader.say(fetch(6, false, 6));
    assert_eq!(world.leader.log(6).await.0, "second\n");
    world.leader.say(Say::FetchLog(v1::FetchLog { fetch: 7, job: 8, task: 0, ..Default::default() }));
    assert!(world.leader.log(7).await.2.contains("no output of j8.0"));
}

#[tokio::test]
async fn a_follower_that_is_closed_says_nothing_more() {
    let mut world = World::new().await;
    world.leader.say(Say::Run(order(1, shell("while :; do echo x; sleep 0.01; done"))));
    let fetch = v1::FetchLog { fetch: 5, job: 7, task: 1, attempt: 1, follow: true, ..Default::default() };
    world.leader.say(Say::FetchLog(fetch));
    world.leader.until(|leader| !leader.logs.is_empty()).await;
    world.leader.say(Say::CloseFetch(v1::CloseFetch { fetch: 5 }));
    world.leader.say(Say::Stop(v1::Stop { seq: 1, token: 1_001 }));
    world.leader.end(1, 1).await;
    assert!(!world.leader.logs.iter().any(|log| log.chunk.as_ref().unwrap().end));
}

#[tokio::test]
async fn a_drain_waits_for_what_runs_and_says_goodbye() {
    let mut world = World::new().await;
    let gate = world.host.path().join("gate");
    let script = format!("while ! [ -e {} ]; do sleep 0.01; done", gate.display());
    world.leader.say(Say::Run(order(1, shell(&script))));
    world.leader.started(1).await;
    world.host.handle.as_ref().unwrap().drain();
    world.leader.say(Say::Run(order(2, argv(&["true"]))));
    world.leader.until(|leader| leader.recalled == [2]).await;
    std::fs::write(gate, "").unwrap();
    assert_eq!(world.leader.end(1, 1).await.verdict, "succeeded");
    assert_eq!(world.host.left().await, Left::Drained);
    world.leader.until(|leader| leader.goodbyes == 1).await;
    // With nothing to hold, the keeper ends as well.
    until(|| world.host.keeper().is_none()).await;
}

#[tokio::test]
async fn a_drain_that_the_leader_asks_for_ends_the_worker() {
    let mut world = World::new().await;
    world.leader.say(Say::Drain(v1::Drain {}));
    assert_eq!(world.host.left().await, Left::Drained);
}
