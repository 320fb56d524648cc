//! From what was asked on the command line to a run that is kept and judged.

pub mod real;
pub mod virtually;

use std::path::Path;
use std::process::Command;

use crate::checks::Verdict;
use crate::ground::{compose, net};

/// Where a run takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Real processes in network namespaces of this machine.
    Netns,
    /// The product's own compose file.
    Compose,
    /// Machine, scheduler and both cores over a modelled log, in virtual time.
    Sim,
    /// The real openraft stack over a modelled network and disk, in virtual time.
    Turmoil,
}

impl Driver {
    pub const ALL: [Driver; 4] = [Driver::Netns, Driver::Compose, Driver::Sim, Driver::Turmoil];

    pub fn name(self) -> &'static str {
        match self {
            Driver::Netns => "netns",
            Driver::Compose => "compose",
            Driver::Sim => "sim",
            Driver::Turmoil => "turmoil",
        }
    }

    pub fn about(self) -> &'static str {
        match self {
            Driver::Netns => "real processes in network namespaces of this machine; needs root, ip, iptables",
            Driver::Compose => "the product's own compose file; needs Docker, docker-compose and the images",
            Driver::Sim => {
                "a whole cluster in virtual time over a modelled log; one seed is one run, to the bit"
            }
            Driver::Turmoil => "the real openraft stack in virtual time, over a modelled network and disk",
        }
    }

    /// What keeps this machine from it; `None`: nothing does.
    pub fn obstacle(self) -> Option<String> {
        match self {
            Driver::Netns => net::obstacle(),
            Driver::Compose => compose::obstacle(),
            Driver::Sim | Driver::Turmoil => None,
        }
    }

    /// The first that this machine can carry, and why those before it were passed over.
    pub fn best() -> (Driver, Vec<(Driver, String)>) {
        let mut passed = Vec::new();
        for driver in [Driver::Netns, Driver::Compose] {
            match driver.obstacle() {
                None => return (driver, passed),
                Some(why) => passed.push((driver, why)),
            }
        }
        (Driver::Sim, passed)
    }
}

/// Of the working tree, as far as it is known.
pub fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--exclude", "*"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    told(&mut git).unwrap_or_else(|| "unknown".to_owned())
}

/// What a binary says of its version.
pub fn version(binary: &Path) -> String {
    told(Command::new(binary).arg("--version")).unwrap_or_else(|| "unknown".to_owned())
}

/// Kernel and processors.
pub fn machine() -> String {
    let kernel = told(Command::new("uname").arg("-sr")).unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{kernel}, {processors} processors")
}

fn told(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Now, in UTC, as a name of a folder.
#[allow(clippy::disallowed_methods)]
pub fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let text = model::Timestamp(since.as_micros() as u64).to_string();
    text.split('.').next().unwrap_or_default().trim_end_matches('Z').replace([':', '-'], "") + "Z"
}

/// What a run came to, in words, and where it is kept.
pub struct Ended {
    pub verdict: Verdict,
    pub text: String,
    /// Ids of the checkers that said no.
    pub against: Vec<String>,
    /// Operations that clients asked for, or entries of a run in virtual time.
    pub operations: usize,
}
