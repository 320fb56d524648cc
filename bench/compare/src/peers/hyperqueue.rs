//! HyperQueue: a server and a worker of two cpus. It holds its state in memory; its journal is off, as by default.

use super::{Turn, python};
use crate::fault::Fault;

const TASKS: u64 = 2_000;
const SCRIPT: &str = include_str!("hyperqueue_turn.py");

/// Tasks of /bin/true per second, from the submit to the end of the last.
pub async fn measure(turn: &Turn) -> Result<f64, Fault> {
    python::measure(turn, "hyperqueue", SCRIPT, turn.scaled(TASKS)).await
}
