//! What outlives what: worker, keeper, lease, session.

use std::time::Duration;

use model::OnDisconnect;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wire::v1;
use wire::v1::job_spec;
use wire::v1::leader_message::Message as Say;
use worker::{HomeError, StartError};

use crate::host::{World, is_alive, until};
use crate::leader::{argv, order, shell};

/// Writes its pid, waits for the gate, writes a result.
fn patient(world: &World) -> model::TaskSpec {
    let file = |name: &str| world.host.path().join(name).display().to_string();
    let (pid, gate) = (file("pid"), file("gate"));
    shell(&format!("echo $$ >> {pid}; while ! [ -e {gate} ]; do sleep 0.01; done; echo done > $BATON_RESULT"))
}

fn open_gate(world: &World) {
    std::fs::write(world.host.path().join("gate"), "").unwrap();
}

async fn restart(world: &mut World) {
    const TRIES: u32 = 500;
    let World { leader, host } = world;
    for last in 1.. {
        match host.start(leader, |builder| builder, |_| ()).await {
            // What another test of this process forks has a copy of the old lock until it execs.
            Err(StartError::Home(HomeError::InUse { .. })) if last < TRIES => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            started => {
                started.unwrap();
                break;
            }
        }
    }
    leader.attached().await;
}

#[tokio::test]
async fn a_restarted_worker_takes_over_what_runs() {
    let mut world = World::new().await;
    world.leader.say(Say::Run(order(1, patient(&world))));
    let pid = world.host.written("pid").await;
    world.leader.started(1).await;
    world.host.crash().await;
    assert!(is_alive(&pid));
    restart(&mut world).await;
    let hello = world.leader.hellos.last().unwrap();
    assert_eq!((hello.session, hello.watermark), (Some(1), 1));
    assert_eq!(hello.holds.len(), 1);
    // Sent again, it is not started again.
    world.leader.say(Say::Run(order(1, patient(&world))));
    open_gate(&world);
    let ended = world.leader.end(1, 1).await;
    assert_eq!(ended.verdict, "succeeded");
    assert!(ended.result.is_some());
    assert_eq!(world.host.read("pid").unwrap().trim(), pid, "the same process, and no other");
}

#[tokio::test]
async fn what_ended_while_no_worker_was_there_is_told_by_the_next() {
    let mut world = World::new().await;
    world.leader.say(Say::Run(order(1, patient(&world))));
    let pid = world.host.written("pid").await;
    world.host.crash().await;
    open_gate(&world);
    until(|| !is_alive(&pid)).await;
    restart(&mut world).await;
    assert_eq!(world.leader.end(1, 1).await.verdict, "succeeded");
}

#[tokio::test]
async fn an_acknowledged_end_is_not_told_again_and_an_unacknowledged_one_is() {
    let mut world = World::new().await;
    assert_eq!(world.leader.run(1, argv(&["true"])).await.verdict, "succeeded");
    world.leader.manner(|manner| manner.acks = false);
    assert_eq!(world.leader.run(2, argv(&["true"])).await.verdict, "succeeded");
    world.host.crash().await;
    restart(&mut world).await;
    let hello = world.leader.hellos.last().unwrap();
    let reports: Vec<u64> = hello.reports.as_ref().unwrap().reports.iter().map(|report| report.seq).collect();
    assert_eq!(reports, [2]);
}

#[tokio::test]
async fn a_dead_keeper_makes_its_attempts_lost_and_is_replaced() {
    let mut world = World::new().await;
    world.leader.say(Say::Run(order(1, patient(&world))));
    let pid = world.host.written("pid").await;
    world.leader.started(1).await;
    let keeper = world.host.keeper().unwrap();
    kill(Pid::from_raw(keeper), Signal::SIGKILL).unwrap();
    let ended = world.leader.end(1, 1).await;
    assert_eq!((ended.verdict.as_str(), ended.reason.as_str()), ("lost", "worker_lost"));
    assert!(!is_alive(&pid), "killed before it is called lost");
    assert_eq!(world.leader.run(2, argv(&["true"])).await.verdict, "succeeded");
    assert_ne!(world.host.keeper().unwrap(), keeper);
}

/// Has the worker come back under another session with a lease of two seconds.
async fn shorten_lease(world: &mut World) {
    world.leader.manner(|manner| (manner.lease, manner.session) = (Duration::from_secs(2), 2));
    world.leader.hang_up();
    world.leader.until(|leader| leader.hellos.len() >= 3).await;
}

#[tokio::test]
async fn the_end_of_the_lease_kills_what_may_not_stay() {
    let mut world = World::new().await;
    shorten_lease(&mut world).await;
    let file = |name: &str| world.host.path().join(name).display().to_string();
    let write_pid = |name: &str| shell(&format!("echo $$ > {}; sleep 300", file(name)));
    let (stops, keeps) = (write_pid("stops"), write_pid("keeps"));
    let mut asked = order(2, keeps);
    asked.set_on_disconnect(job_spec::OnDisconnect::from(OnDisconnect::Keep));
    world.leader.say(Say::Run(order(1, stops)));
    world.leader.say(Say::Run(asked));
    let (stops, keeps) = (world.host.written("stops").await, world.host.written("keeps").await);
    // Nobody leads any more.
    world.leader.manner(|manner| manner.redirect = Some(String::new()));
    world.leader.hang_up();
    until(|| !is_alive(&stops)).await;
    assert!(is_alive(&keeps));
    world.leader.manner(|manner| manner.redirect = None);
    let ended = world.leader.end(1, 1).await;
    assert_eq!((ended.verdict.as_str(), ended.reason.as_str()), ("lost", "lease_ended"));
    world.leader.say(Say::Stop(v1::Stop { seq: 2, token: 1_002 }));
    world.leader.end(2, 2).await;
}

#[tokio::test]
async fn the_keeper_alone_kills_at_the_end_of_the_lease() {
    let mut world = World::new().await;
    shorten_lease(&mut world).await;
    world.leader.say(Say::Run(order(1, patient(&world))));
    let pid = world.host.written("pid").await;
    world.host.crash().await;
    until(|| !is_alive(&pid)).await;
    restart(&mut world).await;
    assert_eq!(world.leader.end(1, 1).await.reason, "lease_ended");
}

#[tokio::test]
async fn an_ended_session_kills_what_it_held() {
    let mut world = World::new().await;
    world.leader.say(Say::Run(order(1, patient(&world))));
    let pid = world.host.written("pid").await;
    world.leader.manner(|manner| manner.session = 2);
    world.leader.say(Say::SessionEnded(v1::SessionEnded {}));
    world.leader.attached().await;
    assert!(!is_alive(&pid), "gone before the worker offers its capacity again");
    let hello = world.leader.hellos.last().unwrap();
    assert_eq!((hello.session, hello.holds.len(), hello.watermark), (None, 0, 0));
    assert_eq!(world.leader.run(1, argv(&["true"])).await.verdict, "succeeded");
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_is_refused() {
    let mut world = World::new().await;
    let World { leader, host } = &mut world;
    let error = host.start(leader, |builder| builder, |_| ()).await.unwrap_err();
    assert!(matches!(error, StartError::Home(worker::HomeError::InUse { .. })));
    let text = error.to_string();
    assert!(text.contains(&format!("in use by another worker (pid {})", std::process::id())), "{text}");
}

#[tokio::test]
async fn a_refused_worker_ends_with_the_reason() {
    let mut world = World::new().await;
    let refused = v1::Refused {
        code: "conflict".into(),
        message: "a worker called `w1` is live".into(),
        fix: "stop it".into(),
    };
    world.leader.say(Say::Refused(refused));
    let error = world.host.failed().await;
    assert!(error.to_string().contains("a worker called `w1` is live"), "{error}");
}
