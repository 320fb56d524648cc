//! Does one load once, for callgrind to count: `counted NAME`. Without a name it lists them.

use std::process::ExitCode;

use micro::{LOADS, Load};

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        LOADS.iter().for_each(|load| println!("{:<22} {}", load.name, load.about));
        return ExitCode::SUCCESS;
    };
    let Some(load) = Load::named(&name) else {
        eprintln!("no load is named `{name}`");
        return ExitCode::from(2);
    };
    load.count();
    ExitCode::SUCCESS
}
