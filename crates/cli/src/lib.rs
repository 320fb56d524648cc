//! All of `baton` but its `main`: reads the command line, runs the verb, gives the exit status.

mod app;
#[cfg(feature = "chaos")]
mod chaos;
mod clock;
mod cluster;
mod config;
mod exit;
mod fault;
#[cfg(test)]
mod fixes;
mod jobfile;
mod logging;
mod output;
mod select;
mod signals;
mod tether;
mod verbs;

use std::process::ExitCode;

/// A fifth of a replica's time under load went to the C library's allocator: many threads give back what others took.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use clap::{CommandFactory, Parser};

use app::App;
use config::Global;
use exit::Exit;
use fault::Fault;
use output::{Face, Format};
use verbs::{
    advise, bench, booking, change, context, demo, dev, example, explain, health, history, job, keeper, logs,
    nouns, periodic, plan, ps, run as run_verb, server as server_verb, simulate, submit, wait,
    worker as worker_verb,
};

/// A replicated scheduler: jobs survive the machines that run them.
#[derive(Debug, Parser)]
#[command(name = "baton", version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Line {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Dev(dev::Args),
    Demo(demo::Args),
    Server(server_verb::Args),
    Run(run_verb::Args),
    Submit(submit::Args),
    Ps(ps::Args),
    Logs(logs::Args),
    Wait(wait::Args),
    Cancel(change::CancelArgs),
    Retry(change::RetryArgs),
    Pause(change::PauseArgs),
    Resume(change::ResumeArgs),
    Explain(explain::Args),
    /// Look at one job, write it out, change it
    #[command(subcommand)]
    Job(job::Args),
    /// Look after queues
    #[command(subcommand)]
    Queue(nouns::QueueArgs),
    /// Keep capacity for a queue, or from everybody, for a time
    #[command(subcommand)]
    Booking(booking::Args),
    /// Release tasks every period, if they can meet their deadlines
    #[command(subcommand)]
    Periodic(periodic::Args),
    Worker(worker_verb::Args),
    #[command(hide = true)]
    Keeper(keeper::Args),
    #[cfg(feature = "chaos")]
    #[command(hide = true)]
    Damage(verbs::damage::Args),
    /// Look at the replicas
    #[command(subcommand)]
    Cluster(nouns::ClusterArgs),
    /// The cluster's settings
    #[command(subcommand)]
    Config(nouns::ConfigArgs),
    /// Names for clusters
    #[command(subcommand)]
    Context(context::Args),
    Health(health::Args),
    Bench(bench::Args),
    Simulate(simulate::Args),
    Advise(advise::Args),
    History(history::Args),
    Plan(plan::Args),
    Example(example::Args),
    /// Print completions for a shell
    Completions {
        shell: clap_complete::Shell,
    },
}

/// The process with its fault hooks in place and the bug in it that it was asked for.
#[cfg(feature = "chaos")]
pub fn chaos_main() -> ExitCode {
    match chaos::arm() {
        Ok(()) => main(),
        Err(fault) => {
            Face::plain(Format::Table).fault(&fault);
            fault.exit.into()
        }
    }
}

/// The process, from its command line to its exit status.
pub fn main() -> ExitCode {
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => return misused(&error),
    };
    let face = Face::plain(line.global.output.unwrap_or(Format::Table));
    match start(&line) {
        Ok(exit) => exit.into(),
        Err((fault, app_face)) => {
            app_face.unwrap_or(face).fault(&fault);
            fault.exit.into()
        }
    }
}

/// Help and version go to standard output; a usage error is an object where JSON was asked for.
fn misused(error: &clap::Error) -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let asked =
        |pair: &[String]| matches!(pair[0].as_str(), "-o" | "--output") && pair[1].starts_with("json");
    // The status of `run` is the task's own, so a failure of Baton's has one apart from them.
    let exit = if error.use_stderr() && is_run(&words) {
        Exit::RUN_FAILED
    } else {
        Exit(error.exit_code().clamp(0, 255) as u8)
    };
    let joined = words.iter().any(|word| word.starts_with("-ojson") || word.starts_with("--output=json"));
    if error.use_stderr() && (joined || words.windows(2).any(asked)) {
        let text = error.to_string();
        let lines: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
        let what = lines.join(" ");
        let fault = Fault::usage(what.strip_prefix("error: ").unwrap_or(&what));
        Face::plain(Format::Json).fault(&Fault { exit, ..fault });
    } else {
        // That nobody reads it is nobody's business.
        let _ = error.print();
    }
    exit.into()
}

/// Whether the verb of a line that is not valid is `run`.
fn is_run(words: &[String]) -> bool {
    let parsed = Line::command().ignore_errors(true).try_get_matches_from(words);
    parsed.is_ok_and(|matches| matches.subcommand_name() == Some("run"))
}

/// What every verb but one has to say to it.
fn is_a_picture(format: Format) -> Option<Fault> {
    let (what, name) = match format {
        Format::Html => ("makes a page", "html"),
        Format::Svg => ("draws a picture", "svg"),
        Format::Table | Format::Wide | Format::Json | Format::Jsonl | Format::Name => return None,
    };
    let fault = Fault::usage(format!("only `simulate` {what}"));
    Some(fault.fix(format!("leave out `-o {name}`, or give `-o json`")))
}

fn start(line: &Line) -> Result<Exit, (Fault, Option<Face>)> {
    // The keeper is single-threaded: it runs before there is a runtime.
    if let Verb::Keeper(args) = &line.verb {
        return keeper::run(args).map_err(|fault| (fault, None));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build();
    let runtime = runtime.map_err(|error| (Fault::from(error), None))?;
    let app = {
        let _inside = runtime.enter();
        App::load(&line.global).map_err(|fault| match &line.verb {
            Verb::Run(_) => (Fault { exit: Exit::RUN_FAILED, ..fault }, None),
            _ => (fault, None),
        })?
    };
    if let Some(fault) = is_a_picture(app.face.format).filter(|_| !matches!(line.verb, Verb::Simulate(_))) {
        return Err((fault, None));
    }
    runtime.block_on(run(&line.verb, &app)).map_err(|fault| (fault, Some(app.face)))
}

async fn run(verb: &Verb, app: &App) -> Result<Exit, Fault> {
    match verb {
        Verb::Dev(args) => dev::run(args, &app.config).await,
        Verb::Demo(args) => demo::run(args, app).await,
        Verb::Server(args) => server_verb::run(args).await,
        Verb::Run(args) => run_verb::run(args, app).await,
        Verb::Submit(args) => submit::run(args, app).await,
        Verb::Ps(args) => ps::run(args, app).await,
        Verb::Logs(args) => logs::run(args, app).await,
        Verb::Wait(args) => wait::run(args, app).await,
        Verb::Cancel(args) => change::cancel(args, app).await,
        Verb::Retry(args) => change::retry(args, app).await,
        Verb::Pause(args) => change::pause(args, app).await,
        Verb::Resume(args) => change::resume(args, app).await,
        Verb::Explain(args) => explain::run(args, app).await,
        Verb::Job(args) => job::run(args, app).await,
        Verb::Queue(args) => nouns::queue(args, app).await,
        Verb::Booking(args) => booking::run(args, app).await,
        Verb::Worker(args) => match &args.noun {
            Some(noun) => worker_verb::noun(noun, app).await,
            None => worker_verb::process(&args.process, &app.config).await,
        },
        Verb::Keeper(args) => keeper::run(args),
        #[cfg(feature = "chaos")]
        Verb::Damage(args) => verbs::damage::run(args, &app.face),
        Verb::Cluster(args) => nouns::cluster(args, app).await,
        Verb::Config(args) => nouns::config(args, app).await,
        Verb::Context(args) => context::run(args, app),
        Verb::Health(args) => health::run(args, app).await,
        Verb::Bench(args) => bench::run(args, app).await,
        Verb::Simulate(args) => simulate::run(args, app).await,
        Verb::Advise(args) => advise::run(args, app).await,
        Verb::History(args) => history::run(args, app).await,
        Verb::Periodic(args) => periodic::run(args, app).await,
        Verb::Plan(args) => plan::run(args, app),
        Verb::Example(args) => example::run(args, &app.face),
        Verb::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Line::command(), "baton", &mut text);
            app.face.print(&String::from_utf8_lossy(&text))?;
            Ok(Exit::DONE)
        }
    }
}
