//! Every fault there is, by families, and what the ground must have for each.

use serde::{Deserialize, Serialize};

/// What a fault asks of the ground.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Processes that can be killed and frozen, links that can be cut.
    Nothing,
    /// Packets that pass through the suite's own hop.
    Hop,
    /// Hooks in the binary under test.
    Hooks,
    /// Small disks that lose what was not synced, and that may be edited.
    FrailDisk,
    /// The product has nothing yet that it could strike.
    Impossible(&'static str),
}

macro_rules! faults {
    ($($family:literal { $($(#[$doc:meta])* $fault:ident = $name:literal, $needs:expr;)* })*) => {
        /// One way in which the world goes wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $($($(#[$doc])* $fault,)*)*
        }

        impl Fault {
            pub const ALL: &[Fault] = &[$($(Fault::$fault),*),*];

            pub fn name(self) -> &'static str {
                match self {
                    $($(Fault::$fault => $name,)*)*
                }
            }

            /// Which family it belongs to.
            pub fn family(self) -> &'static str {
                match self {
                    $($(Fault::$fault => $family,)*)*
                }
            }

            pub fn needs(self) -> Needs {
                match self {
                    $($(Fault::$fault => $needs,)*)*
                }
            }
        }

        /// The families, in order.
        pub const FAMILIES: &[&str] = &[$($family),*];
    };
}

faults! {
    "kill" {
        KillLeader = "kill-leader", Needs::Nothing;
        KillFollower = "kill-follower", Needs::Nothing;
        /// As many as a majority can spare.
        KillMinority = "kill-minority", Needs::Nothing;
        KillAll = "kill-all", Needs::Nothing;
        /// One replica is killed again and again as it comes up.
        CrashLoop = "crash-loop", Needs::Nothing;
        /// SIGTERM: the leader hands over and leaves.
        TermLeader = "term-leader", Needs::Nothing;
    }
    "pause" {
        PauseLeader = "pause-leader", Needs::Nothing;
        PauseFollower = "pause-follower", Needs::Nothing;
        /// All but a minority.
        PauseMajority = "pause-majority", Needs::Nothing;
    }
    "partition" {
        /// The leader hears no other replica and none hears it; workers and clients still reach it.
        LeaderFromPeers = "cut-leader-from-peers", Needs::Nothing;
        /// The leader is alone.
        LeaderAlone = "cut-leader-from-all", Needs::Nothing;
        /// A follower is alone.
        FollowerAlone = "cut-follower", Needs::Nothing;
        /// The leader with as many others as do not make a majority.
        Halves = "halves", Needs::Nothing;
        /// One replica hears all, the others are in two halves that do not hear each other.
        Bridge = "bridge", Needs::Nothing;
        /// Each replica hears a majority, and no two the same one.
        Ring = "majorities-ring", Needs::Nothing;
        /// The leader speaks and hears nothing.
        OneWayIn = "one-way-in", Needs::Nothing;
        /// The leader hears and is not heard.
        OneWayOut = "one-way-out", Needs::Nothing;
        /// The leader's connections are answered with resets.
        Reset = "resets", Needs::Nothing;
        /// A tenth of all packets is lost.
        Loss = "loss", Needs::Nothing;
    }
    "link" {
        Delay = "delay", Needs::Hop;
        Duplicate = "duplicate", Needs::Hop;
        Reorder = "reorder", Needs::Hop;
        /// What a link carries is kept until it is healed, and then all of it comes.
        Jam = "jam", Needs::Hop;
    }
    "disk" {
        /// Power is cut off under the leader: what it had not synced is gone.
        PowerCut = "power-cut", Needs::FrailDisk;
        PowerCutAll = "power-cut-all", Needs::FrailDisk;
        WriteFails = "write-eio", Needs::FrailDisk;
        WriteShort = "write-short", Needs::FrailDisk;
        NoSpace = "enospc", Needs::FrailDisk;
        SyncFails = "sync-eio", Needs::FrailDisk;
        SyncFailsOnce = "sync-fails-once", Needs::FrailDisk;
        SlowSync = "slow-sync", Needs::FrailDisk;
        /// The disk itself is full, to the last byte.
        DiskFull = "disk-full", Needs::FrailDisk;
        TornTail = "torn-tail", Needs::FrailDisk;
        LostTail = "lost-tail", Needs::FrailDisk;
        FlipLog = "flip-log", Needs::FrailDisk;
        FlipVote = "flip-vote", Needs::FrailDisk;
        FlipSnapshot = "flip-snapshot", Needs::FrailDisk;
        /// An empty directory comes up under a member's name.
        Wipe = "wiped", Needs::FrailDisk;
    }
    "clock" {
        /// A replica's wall clock is off, by up to an hour.
        ClockJump = "clock-jump", Needs::Hooks;
        ClockStrobe = "clock-strobe", Needs::Hooks;
        /// All clocks are off alike.
        ClockAll = "clock-all", Needs::Hooks;
    }
    "worker" {
        KillWorker = "kill-worker", Needs::Nothing;
        /// The host of a worker stands still.
        PauseWorker = "pause-worker", Needs::Nothing;
        /// A worker reaches nobody.
        WorkerIsland = "worker-island", Needs::Nothing;
        /// A second process under a worker's name.
        Twin = "twin-worker", Needs::Hooks;
    }
    "load" {
        Burst = "load-x10", Needs::Nothing;
        /// All clients repeat what was accepted, at once.
        RetryStorm = "retry-storm", Needs::Nothing;
        Giants = "giant-payloads", Needs::Nothing;
        /// A watcher that does not read.
        SlowReader = "slow-reader", Needs::Nothing;
    }
    "roll" {
        Rolling = "rolling-restart", Needs::Nothing;
        Mixed = "mixed-versions", Needs::Impossible("there is only one version yet");
    }
    "script" {
        /// A majority stands still in the middle of writes, one of the others loses power, then the pauses are swapped.
        SwapPauses = "swap-pauses", Needs::Nothing;
        /// A follower is cut off until only a snapshot can help it.
        Blackhole = "blackhole-until-snapshot", Needs::Nothing;
    }
    "member" {
        Membership = "membership", Needs::Impossible("the product cannot change its membership yet");
    }
}

impl Fault {
    pub fn named(name: &str) -> Option<Fault> {
        Fault::ALL.iter().copied().find(|fault| fault.name() == name)
    }

    /// Whether it may cost a worker its lease.
    pub fn touches_workers(self) -> bool {
        use Fault::{KillWorker, Loss, PauseWorker, Twin, WorkerIsland};
        matches!(self, KillWorker | PauseWorker | WorkerIsland | Twin | Loss)
            || self.needs() == Needs::Hop
            || self.family() == "load"
    }

    /// Whether it may make another replica leader.
    pub fn deposes(self) -> bool {
        use Fault::{
            Bridge, Halves, KillAll, KillLeader, LeaderAlone, LeaderFromPeers, OneWayIn, OneWayOut,
            PauseLeader, PowerCut, PowerCutAll, Ring, Rolling, SwapPauses, TermLeader,
        };
        matches!(
            self,
            KillLeader
                | KillAll
                | TermLeader
                | PauseLeader
                | PowerCut
                | PowerCutAll
                | Rolling
                | SwapPauses
                | Bridge
                | Halves
                | LeaderAlone
                | LeaderFromPeers
                | OneWayIn
                | OneWayOut
                | Ring
        )
    }
}

impl Serialize for Fault {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Fault, D::Error> {
        let name = String::deserialize(deserializer)?;
        Fault::named(&name).ok_or_else(|| serde::de::Error::custom(format!("no fault is called `{name}`")))
    }
}

/// Faults of the families and single faults that a list names: `kill,partition`, `all`, `none`.
pub fn chosen(list: &str) -> Result<Vec<Fault>, String> {
    let mut faults = Vec::new();
    for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "none" => {}
            "all" => faults.extend(Fault::ALL),
            _ => {
                let of_family =
                    Fault::ALL.iter().filter(|fault| fault.family() == word || fault.name() == word);
                let before = faults.len();
                faults.extend(of_family);
                if faults.len() == before {
                    let families = FAMILIES.join(", ");
                    return Err(format!(
                        "no nemesis is called `{word}`: choose from {families}, all, none, or single faults as `list` shows"
                    ));
                }
            }
        }
    }
    faults.sort_unstable();
    faults.dedup();
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_single_faults_are_chosen_by_name() {
        assert_eq!(chosen("none"), Ok(Vec::new()));
        assert_eq!(chosen("kill-leader, jam"), Ok(vec![Fault::KillLeader, Fault::Jam]));
        assert_eq!(chosen("kill,kill-leader").unwrap().len(), 6);
        assert_eq!(chosen("all").unwrap().len(), Fault::ALL.len());
        assert!(chosen("kil").unwrap_err().contains("kill, pause"));
        assert!(Fault::ALL.iter().all(|fault| Fault::named(fault.name()) == Some(*fault)));
    }
}
