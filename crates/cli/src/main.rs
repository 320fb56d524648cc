//! The one binary that is released: `baton`.

fn main() -> std::process::ExitCode {
    cli::main()
}
