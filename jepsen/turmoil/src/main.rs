//! `jepsen-turmoil --seed N`: one run, one line of JSON, exit status 0 true, 1 false, 2 unknown.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use jepsen_turmoil::{Mutant, Options, Stack, run};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(
    about = "Runs real replicas in a simulated world, where everything that goes wrong follows from a seed"
)]
struct Cli {
    #[arg(long)]
    seed: u64,
    /// 3 or 5; otherwise the seed says
    #[arg(long, value_parser = replicas)]
    replicas: Option<usize>,
    /// How much of the product runs on each host, replica or server; otherwise the seed says
    #[arg(long)]
    stack: Option<Stack>,
    /// How long things go wrong, in virtual seconds
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Runs with a seeded bug, to see that it is found
    #[arg(long, value_name = "NAME")]
    mutant: Option<Mutant>,
    /// The form of the report
    #[arg(short, long, value_enum, default_value = "json")]
    output: Output,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Output {
    Json,
}

fn replicas(text: &str) -> Result<usize, String> {
    match text {
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("a cluster here has 3 or 5 replicas".into()),
    }
}

pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // What the replicas log, if RUST_LOG asks for it.
    let filter = EnvFilter::builder().with_default_directive(tracing_off()).from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).without_time().init();
    let mut options = Options::of_seed(cli.seed);
    options.replicas = cli.replicas.unwrap_or(options.replicas);
    options.stack = cli.stack.unwrap_or(options.stack);
    options.faults = Duration::from_secs(cli.seconds);
    options.mutant = cli.mutant;
    let report = run(options);
    match cli.output {
        Output::Json => println!("{}", report.json()),
    }
    ExitCode::from(report.verdict.exit_status())
}

fn tracing_off() -> tracing_subscriber::filter::Directive {
    tracing_subscriber::filter::LevelFilter::OFF.into()
}
