//! `baton keeper`: the small process that holds a worker's attempts. Started by workers only.

use std::path::PathBuf;

use crate::exit::Exit;
use crate::fault::Fault;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long)]
    data_dir: PathBuf,
}

/// Must run before any thread is started.
pub fn run(args: &Args) -> Result<Exit, Fault> {
    worker::keeper::run(&args.data_dir).map_err(|error| {
        let fault = Fault::failed(format!("keeper: {error}"));
        match std::error::Error::source(&error) {
            Some(cause) => fault.why(cause.to_string()),
            None => fault,
        }
    })?;
    Ok(Exit::DONE)
}
