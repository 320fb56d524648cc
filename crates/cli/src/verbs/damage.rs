//! `baton-chaos damage`: does something to the disk of a replica that is down. Only the chaos build has it.

use std::path::PathBuf;

use replica::chaos;

use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::Face;

/// Damage the data directory of a replica that is down
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// lost-tail, torn-tail, flip-log, flip-vote or flip-snapshot
    #[arg(long, value_name = "DAMAGE", value_parser = damage)]
    what: chaos::Damage,
}

fn damage(text: &str) -> Result<chaos::Damage, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

pub fn run(args: &Args, face: &Face) -> Result<Exit, Fault> {
    let done = chaos::damage(&args.data_dir, args.what);
    let done = done.map_err(|error| Fault::failed(error.to_string()).because(&error))?;
    let Some(done) = done else {
        let dir = args.data_dir.display();
        return Err(Fault::not_found(format!(
            "{dir} has nothing to damage in that way; nothing was changed"
        )));
    };
    let line = serde_json::to_string(&done).map_err(|error| Fault::failed(error.to_string()))?;
    face.print(&format!("{line}\n"))?;
    Ok(Exit::DONE)
}
