//! A real worker with a real keeper and real processes, against a leader that the test plays.

mod fleet;
mod host;
mod leader;
mod processes;
mod stream;
mod survival;
