//! The hooks of the chaos build on real replicas.

mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use machine::{Bootstrap, Command, Entry, Op, QueueSpec, Write};
use model::settings::Failover;
use model::{Actor, JobId, JobSpec, RequestId, Settings, TaskSpec, Work};
use replica::chaos::{Chaos, Mutant, trace};
use replica::{Real, Seams, SnapshotThresholds, WallOffset};
use serde_json::Value;
use tokio::sync::mpsc;
use world::{PATIENCE, World, entry};

fn trace_path(world: &World, at: usize) -> PathBuf {
    world.dir.path().join(format!("trace-{at}"))
}

fn traced(path: &Path) -> Seams {
    let chaos = Chaos { trace: Some(Arc::new(trace::open(path).unwrap())), ..Chaos::default() };
    chaos.arm(World::seams(), &WallOffset::default())
}

fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'), "a line is torn");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Writes an entry of real commands, at once when somebody leads.
async fn propose(world: &World, commands: Vec<Command>) -> u64 {
    loop {
        let (at, term) = world.leader().await;
        let entry = Entry { commands: commands.clone(), ..entry(1) };
        if let Ok(proposed) = world.replica(at).propose(term, entry).await {
            return proposed.index;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn write(number: u64, op: Op) -> Command {
    let request = RequestId(1 << 80 | u128::from(number));
    Command::Write(Write { request, body_hash: number, actor: Actor::new("user", "test"), op })
}

fn bootstrap() -> Command {
    let settings = Settings::preset(Failover::Wan);
    Command::Bootstrap(Bootstrap {
        cluster: "test".into(),
        settings,
        epoch: 0,
        next_node: 4,
        level: machine::LEVEL,
    })
}

fn submit(number: u64) -> Command {
    let spec = JobSpec::of("job", vec![TaskSpec::new("task", Work::Noop)]);
    write(number, Op::Submit { job: JobId(number), spec: Arc::new(spec) })
}

#[tokio::test(flavor = "multi_thread")]
async fn three_traces_agree_and_tell_every_entry_and_every_life() {
    let mut world = World::new(3);
    world.thresholds = SnapshotThresholds { log_bytes_min: 64 << 10, tail_bytes: 4 << 10, cached_bytes: 0 };
    let dir = world.dir.path().to_owned();
    world.start_all_with(|at| traced(&dir.join(format!("trace-{at}")))).await;
    propose(&world, vec![bootstrap()]).await;
    let first = propose(&world, vec![submit(1), write(2, Op::PutQueue(QueueSpec::default()))]).await;
    let behind = (world.leader().await.0 + 1) % 3;
    world.replica(behind).wait_applied(first, PATIENCE).await.unwrap();
    world.stop(behind).await;
    let last = world.write_many(1..=4000).await;
    let (leader, term) = world.leader().await;
    let mut changes = world.replica(leader).changes();
    let purged = changes.wait_for(|status| status.purged > first);
    tokio::time::timeout(PATIENCE, purged).await.expect("the log is purged").unwrap();
    // It gets a snapshot of the leader's, and starts from that once more.
    world.start_with(behind, traced(&trace_path(&world, behind))).await.unwrap();
    world.replica(behind).wait_applied(last, PATIENCE).await.unwrap();
    world.stop(behind).await;
    world.start_with(behind, traced(&trace_path(&world, behind))).await.unwrap();
    let index = world.replica(behind).read_index().await.unwrap();
    world.assert_alike(index).await;

    let traces: Vec<Vec<Value>> = (0..3).map(|at| read(&trace_path(&world, at))).collect();
    let mut seen: BTreeMap<u64, Value> = BTreeMap::new();
    for line in traces.iter().flatten().filter(|line| line.get("index").is_some()) {
        let known = seen.entry(line["index"].as_u64().unwrap()).or_insert_with(|| line.clone());
        assert_eq!(known, line, "every replica tells the same of an entry");
    }
    assert!((0..=index).all(|index| seen.contains_key(&index)), "and together they tell all of them");

    let submitted = &seen[&first];
    assert!((1..=term).contains(&submitted["term"].as_u64().unwrap()));
    assert_eq!(submitted["digest"].as_str().unwrap().len(), 16);
    assert_eq!(submitted["replies"][0]["submitted"]["job"], "j1");
    assert!(submitted["replies"][1]["rejected"].is_object(), "{submitted}");
    assert_eq!(submitted["stamp"]["elapsed"], 1);
    let commands: Vec<Command> = serde_json::from_value(submitted["commands"].clone()).unwrap();
    assert_eq!(commands[0], submit(1));
    assert!(submitted["events"].as_array().is_some_and(|events| !events.is_empty()), "{submitted}");
    assert!(seen.values().any(|line| line["membership"] == serde_json::json!([1, 2, 3])));
    assert!(seen.values().any(|line| line["blank"] == true));

    let lives = |at: usize, what: &str| -> Vec<u64> {
        traces[at].iter().filter_map(|line| line[what]["index"].as_u64()).collect()
    };
    let (boots, installed) = (lives(behind, "boot"), lives(behind, "installed"));
    assert_eq!(boots.len(), 3, "{boots:?}");
    assert_eq!(boots[..2], [0, 0]);
    assert!(boots[2] >= installed[0] && installed[0] > first, "{boots:?} {installed:?}");
    assert!(lives(leader, "built").last().is_some_and(|index| *index > first));
    assert!(traces[leader].iter().any(|line| line["led"]["term"] == term));
    for line in &traces[behind] {
        for what in ["boot", "installed"] {
            let (Some(index), digest) = (line[what]["index"].as_u64(), &line[what]["digest"]) else {
                continue;
            };
            assert!(index == 0 || seen[&index]["digest"] == *digest, "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_by_the_knobs_stops_the_replica() {
    let mut world = World::new(1);
    let knobs = world.dir.path().join("knobs");
    let (stop, mut stopped) = mpsc::unbounded_channel();
    let env = Real::with_stop_hook(move |reason| drop(stop.send(reason.to_owned())));
    let chaos = Chaos { knobs: Some(knobs.clone()), ..Chaos::default() };
    let seams = Seams { env: Arc::new(env), ..Seams::default() };
    world.start_with(0, chaos.arm(seams, &WallOffset::default())).await.unwrap();
    world.write(1).await;
    std::fs::write(&knobs, r#"{"write_error": "enospc"}"#).unwrap();
    let (leader, term) = world.leader().await;
    // Until the file has been looked at.
    while world.replica(leader).propose(term, entry(2)).await.is_ok() {}
    let reason = tokio::time::timeout(PATIENCE, stopped.recv()).await.unwrap().unwrap();
    assert!(reason.contains("os error 28"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_keeps_what_it_has_not_synced_in_memory_works_as_ever() {
    let mut world = World::new(1);
    let knobs = world.dir.path().join("knobs");
    std::fs::write(&knobs, r#"{"volatile": true}"#).unwrap();
    let chaos = Chaos { knobs: Some(knobs), ..Chaos::default() };
    world.start_with(0, chaos.arm(World::seams(), &WallOffset::default())).await.unwrap();
    let last = world.write_many(1..=200).await;
    world.stop(0).await;
    world.start(0).await.unwrap();
    assert!(world.write(1).await.1.index > last);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_without_an_index_needs_no_quorum() {
    let mut world = World::new(3);
    let chaos = Chaos { mutant: Some(Mutant::ReadWithoutIndex), ..Chaos::default() };
    world.start_all_with(|_| chaos.arm(World::seams(), &WallOffset::default())).await;
    let (leader, proposed) = world.write(1).await;
    for at in (0..3).filter(|at| *at != leader) {
        world.stop(at).await;
    }
    assert!(world.replica(leader).read_index().await.unwrap() >= proposed.index);
}
