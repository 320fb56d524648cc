//! Peers whose client is Python's: a script does one turn and prints its rate as JSON.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use super::Turn;
use crate::child::{Child, Farewell, printed};
use crate::fault::Fault;

/// For one turn at scale 1.
const TURN_MAX: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
struct Printed {
    tasks_per_s: f64,
}

/// The version of an installed package.
pub async fn version(python: &Path, package: &str) -> Result<String, Fault> {
    let mut command = Command::new(python);
    let script =
        format!("import {package}\nfrom importlib.metadata import version\nprint(version('{package}'))");
    command.args(["-c", &script]);
    let text = printed(package, command).await.map_err(|fault| {
        Fault::new(format!("{} has no package {package}", python.display()))
            .because(fault)
            .fix("start with bench/compare/run, which installs it, or name another --python")
    })?;
    Ok(text.trim().to_owned())
}

/// Runs the script with a folder and a number of tasks; tasks per second.
pub async fn measure(turn: &Turn, name: &str, script: &str, tasks: u64) -> Result<f64, Fault> {
    let path = turn.dir.join(format!("{name}_turn.py"));
    std::fs::write(&path, script).map_err(Fault::of(format!("cannot write the generator of {name}")))?;
    let mut command = Command::new(&turn.python);
    command.arg(&path).arg(&turn.dir).arg(tasks.to_string());
    // Progress bars are work, and nobody sees them.
    command.env("TQDM_DISABLE", "1");
    let child = Child::start(name, command, &turn.dir, Farewell::Killed)?;
    rate(name, &child.output(TURN_MAX.mul_f64(turn.scale.max(1.0))).await?)
}

fn rate(name: &str, text: &str) -> Result<f64, Fault> {
    let line = text.lines().last().unwrap_or_default();
    let printed: Printed =
        serde_json::from_str(line).map_err(Fault::of(format!("cannot read the generator of {name}")))?;
    Ok(printed.tasks_per_s)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_last_line_has_the_rate() {
        assert_eq!(super::rate("dask", "hello\n{\"version\":\"1\",\"tasks_per_s\":620.5}\n"), Ok(620.5));
        assert!(super::rate("dask", "").unwrap_err().to_string().contains("generator of dask"));
    }
}
