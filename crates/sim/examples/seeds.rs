//! Runs seeds and says what came of them: `cargo run -p baton-sim --example seeds -- 100 40` runs 100 to 139, and
//! `-- 7` only seed 7, with everything that was counted. A third number is the seconds it may take to come to rest.

use std::process::ExitCode;
use std::time::Duration;

use sim::Options;

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let (first, count) = (numbers.first().copied().unwrap_or(0), numbers.get(1).copied().unwrap_or(1));
    let mut code = ExitCode::SUCCESS;
    for seed in first..first + count {
        let mut options = Options::of_seed(seed);
        if let Some(seconds) = numbers.get(2) {
            options.liveness = Duration::from_secs(*seconds);
        }
        let report = sim::run(seed, options);
        if count == 1 {
            print!("{report}");
        } else {
            let (jobs, entries) = (report.jobs, report.entries);
            println!(
                "seed {seed}: {jobs} jobs, {entries} entries, {:?}, {} broken",
                report.ended,
                report.broken.len()
            );
            report.broken.iter().for_each(|what| println!("  {what}"));
        }
        if !report.broken.is_empty() {
            code = ExitCode::FAILURE;
        }
    }
    code
}
