//! dask.distributed: a scheduler and two single-threaded worker processes. It holds everything in memory.

use super::{Turn, python};
use crate::fault::Fault;

const TASKS: u64 = 5_000;
const SCRIPT: &str = include_str!("dask_turn.py");

/// Tasks that do nothing per second, from `map` to the last result.
pub async fn measure(turn: &Turn) -> Result<f64, Fault> {
    python::measure(turn, "dask", SCRIPT, turn.scaled(TASKS)).await
}
