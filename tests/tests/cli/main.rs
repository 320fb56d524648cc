//! The command line against a real cluster: stdout is data, stderr is the rest, each exit status means one thing.

mod adapting;
mod apart;
mod bookings;
mod claims;
mod cluster;
mod gangs;
mod history;
mod jobs;
mod looking;
mod periodic;
mod policies;
mod run;
mod slices;
mod upgrading;

use std::process::Stdio;

use baton_tests::cli::{Cli, Said, said};
use baton_tests::cluster::{Cluster, Layout, baton, free_addresses, wait_until};
use baton_tests::process::{processes_of, signal_process, sweep};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

async fn cluster_and_cli() -> (Cluster, Cli) {
    let cluster = Cluster::start(3, 1).await;
    let cli = Cli::of(&cluster);
    (cluster, cli)
}

#[track_caller]
fn assert_says(said: &Said, status: i32, words: &[&str]) {
    assert_eq!(said.status, status, "{said:#?}");
    for word in words {
        assert!(said.stderr.contains(word), "`{word}` is missing: {said:#?}");
    }
}
