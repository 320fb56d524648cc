//! The keeper as a program of its own, for workers that are built into another one.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [flag, data_dir] = &arguments[..] else { return usage() };
    if flag != "--data-dir" {
        return usage();
    }
    match worker::keeper::run(&PathBuf::from(data_dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: baton-keeper --data-dir PATH   (started by a worker)");
    ExitCode::from(2)
}
