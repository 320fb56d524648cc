//! The same program with seeded bugs.
#[path = "../main.rs"]
mod program;

fn main() -> std::process::ExitCode {
    program::main()
}
