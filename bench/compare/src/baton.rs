//! Baton's turn: `baton bench WHAT`, a child that starts and stops a cluster of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::child::{Child, Farewell, printed};
use crate::fault::Fault;
use crate::scenario::{self, Scenario};

/// For one turn at scale 1.
const TURN_MAX: Duration = Duration::from_secs(600);

#[derive(Clone, Debug)]
pub struct Baton {
    pub program: PathBuf,
    pub scale: f64,
}

impl Baton {
    pub async fn version(&self) -> Result<String, Fault> {
        let mut command = Command::new(&self.program);
        command.arg("--version");
        let text = printed("baton", command).await.map_err(|fault| {
            let what = format!("cannot run {}", self.program.display());
            Fault::new(what).because(fault).fix("build it (cargo build --release) and name it by --baton")
        })?;
        Ok(text.lines().next().unwrap_or_default().trim().trim_start_matches("baton ").to_owned())
    }

    /// One round after its warm-up. Its data lie in `dir`, on the disk where the peers' do.
    pub async fn measure(&self, scenario: &str, dir: &Path) -> Result<Vec<Scenario>, Fault> {
        let mut command = Command::new(&self.program);
        let scale = self.scale.to_string();
        command.args(["bench", scenario, "--rounds", "1", "--scale", &scale, "-o", "json"]);
        // Its replicas and workers are not of its group: it ends them itself.
        let child = Child::start("baton", command, dir, Farewell::Asked)?;
        scenario::parse(&child.output(TURN_MAX.mul_f64(self.scale.max(1.0))).await?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_turn_is_one_round_as_json() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("baton-fake");
        let script = r#"#!/bin/sh
case "$*" in
    --version) echo "baton 1.2.3" ;;
    "bench noop --rounds 1 --scale 0.5 -o json") echo '{"scenario":"noop","unit":"tasks/s","median":5}' ;;
    *) echo "what is $*?" >&2; exit 2 ;;
esac"#;
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let baton = Baton { program, scale: 0.5 };
        assert_eq!(baton.version().await.unwrap(), "1.2.3");
        let figures = baton.measure("noop", dir.path()).await.unwrap();
        assert_eq!(scenario::median(&figures, "noop", None), Ok(5.0));
        let fault = baton.measure("nothing", dir.path()).await.unwrap_err().to_string();
        assert!(fault.contains("what is bench nothing"), "{fault}");
    }
}
