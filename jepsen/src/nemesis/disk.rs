//! Faults of disks: hooks that make writes and syncs fail, power that is cut off, and directories that are spoilt while
//! their replica is down. Each says what the product must do: stop, refuse to start, or go on with all that it has promised.

use std::time::Duration;

use super::{Begun, Fault, Miss, Nemesis, Undo};
use crate::ground::{Ground, Knobs, Node, name};

/// How long a replica may take to notice that its disk has failed, or to refuse a disk that was spoilt.
const NOTICE: Duration = Duration::from_secs(8);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What the product has to do about a fault of its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    /// Stop, and say nothing more.
    Stop,
    /// Not start: what it had promised is no longer there.
    Refuse,
    /// Go on as if nothing had happened.
    GoOn,
    /// Either: nothing of what was promised is lost by it.
    Either,
}

fn duty(fault: Fault) -> Duty {
    match fault {
        Fault::WriteFails | Fault::WriteShort | Fault::NoSpace | Fault::SyncFails | Fault::SyncFailsOnce => {
            Duty::Stop
        }
        Fault::LostTail | Fault::FlipLog | Fault::FlipVote | Fault::Wipe => Duty::Refuse,
        Fault::DiskFull | Fault::FlipSnapshot => Duty::Either,
        _ => Duty::GoOn,
    }
}

pub async fn begin(nemesis: &mut Nemesis, ground: &mut Ground, fault: Fault) -> Result<Begun, Miss> {
    let usual = ground.netns()?.usual();
    let node = match fault {
        // What has been committed by the others too is spoilt where it is not needed.
        Fault::LostTail
        | Fault::FlipLog
        | Fault::FlipVote
        | Fault::FlipSnapshot
        | Fault::TornTail
        | Fault::Wipe => nemesis.follower(ground).await?,
        _ => nemesis.leader(ground).await?,
    };
    let Node::Replica(replica) = node else { return Err(Miss::Skip("it is no replica".to_owned())) };
    let mut begun = Begun::on(fault, vec![node], Undo::Disk { replica, fault });
    let knobs = |change: fn(&mut Knobs)| {
        let mut knobs = usual.clone();
        change(&mut knobs);
        knobs
    };
    match fault {
        Fault::PowerCut => ground.kill(node)?,
        Fault::PowerCutAll => {
            let all: Vec<Node> = (0..ground.replicas()).map(Node::Replica).collect();
            all.iter().try_for_each(|node| ground.kill(*node))?;
            begun.nodes = all.clone();
            begun.undo = Undo::Start(all);
        }
        Fault::SlowSync => {
            ground.turn(replica, &knobs(|knobs| knobs.sync_delay_ms = Some(150)))?;
            begun.undo = Undo::Knobs(vec![replica]);
        }
        Fault::WriteFails => ground.turn(replica, &knobs(|knobs| knobs.write_error = Some("eio".into())))?,
        Fault::WriteShort => {
            ground.turn(replica, &knobs(|knobs| knobs.write_error = Some("short".into())))?
        }
        Fault::NoSpace => ground.turn(replica, &knobs(|knobs| knobs.write_error = Some("enospc".into())))?,
        Fault::SyncFails => ground.turn(replica, &knobs(|knobs| knobs.sync_error = Some("eio".into())))?,
        Fault::SyncFailsOnce => {
            ground.turn(replica, &knobs(|knobs| knobs.sync_error = Some("once".into())))?
        }
        Fault::DiskFull => ground.netns()?.fill(replica)?,
        _ => begun.probe = spoil(ground, replica, fault).await?,
    }
    if duty(fault) == Duty::Stop {
        let stopped = ends(ground, node).await;
        begun.probe = Some(if stopped {
            Ok(())
        } else {
            Err(format!("{} goes on although its disk has failed ({})", name(node), fault.name()))
        });
    }
    Ok(begun)
}

/// Whether the process ends by itself.
async fn ends(ground: &mut Ground, node: Node) -> bool {
    let gone = async {
        while ground.is_running(node) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(NOTICE, gone).await.is_ok()
}

/// Takes the replica down, spoils its directory and starts it. What was there before is kept, to be put back.
async fn spoil(
    ground: &mut Ground,
    replica: usize,
    fault: Fault,
) -> Result<Option<Result<(), String>>, Miss> {
    let node = Node::Replica(replica);
    ground.kill(node)?;
    let netns = ground.netns()?;
    netns.save(replica)?;
    let spoilt = match fault {
        Fault::Wipe => netns.wipe(replica).map(|()| Some("emptied".to_owned())),
        _ => netns.damage(replica, fault.name()),
    };
    match spoilt {
        Ok(Some(_)) => {}
        Ok(None) => {
            ground.start(node)?;
            return Err(Miss::Skip("there was nothing of the kind to spoil".to_owned()));
        }
        Err(why) => {
            ground.netns()?.restore(replica)?;
            ground.start(node)?;
            return Err(Miss::Doubt(why));
        }
    }
    let before = ground.netns()?.said(replica, 0).len();
    ground.start(node)?;
    let refused = ends(ground, node).await;
    let said = ground.netns()?.said(replica, before);
    Ok(Some(match (duty(fault), refused) {
        (Duty::Refuse, true) | (Duty::GoOn, false) | (Duty::Either, _) | (Duty::Stop, _) => Ok(()),
        (Duty::Refuse, false) => {
            Err(format!("{} runs on a disk that it must refuse ({})", name(node), fault.name()))
        }
        (Duty::GoOn, true) => {
            Err(format!("{} refuses a disk that is sound: {}", name(node), last_line(&said)))
        }
    }))
}

fn last_line(text: &str) -> &str {
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing")
}

/// The disk is as it was, and the replica runs again.
pub async fn mend(
    ground: &mut Ground,
    replica: usize,
    fault: Fault,
    probe: &mut Option<Result<(), String>>,
) -> Result<(), String> {
    let node = Node::Replica(replica);
    let usual = ground.netns()?.usual();
    ground.turn(replica, &usual)?;
    // The knobs are looked at every now and then.
    tokio::time::sleep(LOOK_AGAIN).await;
    match fault {
        Fault::DiskFull => ground.netns()?.make_room(replica)?,
        Fault::LostTail | Fault::FlipLog | Fault::FlipVote | Fault::FlipSnapshot | Fault::Wipe => {
            // Another life may have begun on the spoilt disk; the copy is of before, and nothing was promised since
            // unless it ran, which is told as what it is.
            ground.kill(node)?;
            if !matches!((fault, &probe), (Fault::FlipSnapshot, Some(Ok(()))) if ground.is_running(node)) {
                ground.netns()?.restore(replica)?;
            }
        }
        _ => {}
    }
    if !ground.is_running(node) {
        ground.start(node)?;
    }
    Ok(())
}
