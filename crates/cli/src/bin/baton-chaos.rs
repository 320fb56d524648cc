//! `baton` with fault hooks and seeded bugs, for the fault-injection suite. Never released: docs/adr/0010.

fn main() -> std::process::ExitCode {
    cli::chaos_main()
}
