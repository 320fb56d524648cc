//! A program that is a worker: its own functions are tasks of kind `function`, next to commands and scripts.
//!
//!     baton dev --keep-up --exec 'cargo run -p baton-worker --example function_worker'
//!
//! A job for it, and what a program must do to be a worker, is in docs/recipes/functions.md.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use worker::{Config, Context, Worker};

/// Bytes in, bytes out; an error is the reason why the attempt failed.
async fn count_words(input: Vec<u8>, context: Context) -> Result<Vec<u8>, String> {
    let text = String::from_utf8(input).map_err(|error| format!("the input is no text: {error}"))?;
    Ok(format!("{} words, counted by {}", text.split_whitespace().count(), context.id).into_bytes())
}

/// Nothing can end a function that blocks: it looks itself whether it should stop.
fn search(_input: Vec<u8>, context: Context) -> Result<Vec<u8>, String> {
    for candidate in 0_u64.. {
        if context.stopping.is_asked() {
            return Err(format!("stopped at {candidate}"));
        }
        if candidate * candidate > 10_000_000_000 {
            return Ok(candidate.to_string().into_bytes());
        }
    }
    Err("there is none".to_owned())
}

async fn work() -> Result<(), Box<dyn std::error::Error>> {
    let servers = std::env::var("BATON_SERVERS").unwrap_or_else(|_| "127.0.0.1:7070".to_owned());
    let data_dir = std::env::temp_dir().join("function-worker");
    let mut config = Config::new("functions", servers.split(',').map(str::to_owned).collect(), data_dir);
    config.drain_timeout = Duration::from_secs(10);
    let worker = Worker::builder(config)
        .register("count-words", count_words)
        .register_blocking("search", search)
        .start()
        .await?;
    let handle = worker.handle();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut run = std::pin::pin!(worker.run());
    loop {
        tokio::select! {
            left = &mut run => {
                println!("left: {:?}", left?);
                return Ok(());
            }
            _ = terminate.recv() => handle.drain(),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // First of all: the worker starts this program once more, as its keeper.
    worker::keeper::run_if_asked();
    tokio::runtime::Runtime::new()?.block_on(work())
}
