//! Runs over real processes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::{Driver, Ended, commit, machine, now, version};
use crate::checks::{self, Verdict};
use crate::ground::compose::Compose;
use crate::ground::net::hop_obstacle;
use crate::ground::netns::{Netns, WORKER_CPU, sweep_dead_disks};
use crate::ground::{Ground, Layout};
use crate::nemesis::{Fault, Needs};
use crate::report::Report;
use crate::run::{self, Left, Plan};
use crate::store::{self, FORM, Stored, Test};

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Request {
    pub name: String,
    pub driver: Driver,
    pub plan: Plan,
    pub nodes: usize,
    pub workers: usize,
    pub failover: String,
    /// Absent: the product with its hooks, built when it is needed.
    pub binary: Option<PathBuf>,
    pub mutant: Option<String>,
    pub store: PathBuf,
    /// Whether to say what goes on.
    pub is_loud: bool,
}

/// What a run says that was told to end.
pub const INTERRUPTED: &str = "it was interrupted";

const PREFIX: &str = crate::ground::net::PREFIX;

/// Runs it, keeps it in the store, and judges it. An error is a run that did not take place.
pub fn test(request: &Request) -> Result<(PathBuf, Ended), String> {
    listen()?;
    sweep_dead_disks(&run::folders());
    run::sweep_folders(PREFIX);
    let (binary, has_hooks) = binary(request);
    let layout = layout(request, binary, has_hooks);
    let test = describe(request, &layout);
    let working = run::folder(PREFIX)?;
    let folder = store::create(&request.store, &request.name, &test.started)?;
    let bar = bar(request);
    // A thread of its own: it moves into another network, and all that it starts moves with it.
    let ran = std::thread::scope(|scope| {
        let thread = scope.spawn(|| drive(request, &layout, working.path(), &bar));
        thread.join().unwrap_or_else(|panic| Err(format!("the suite itself failed: {}", said(&*panic))))
    });
    bar.finish_and_clear();
    store::keep(working.path(), &folder)?;
    let left = ran.map_err(|why| format!("{why}; logs are in {}", folder.display()))?;
    store::write(&folder, &test, &left.entries, &left.streams, &left.kept)?;
    let ended = judge(&folder)?;
    Ok((folder, ended))
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Judges a run that is kept, and writes down what was found.
pub fn judge(folder: &Path) -> Result<Ended, String> {
    let Stored { test, evidence, .. } = store::read(folder)?;
    let findings = checks::all(&evidence);
    let report = Report::new(&test, &evidence, &findings);
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::write(folder.join(store::RESULTS), format!("{:#}\n", report.json())).map_err(failed)?;
    std::fs::write(folder.join(store::PAGE), report.page()).map_err(failed)?;
    let against = findings.iter().filter(|finding| finding.verdict == Verdict::False);
    Ok(Ended {
        verdict: report.verdict(),
        text: report.text(),
        against: against.map(|finding| finding.id.to_owned()).collect(),
        operations: evidence.operations.len(),
    })
}

fn binary(request: &Request) -> (PathBuf, bool) {
    match &request.binary {
        Some(binary) => {
            // What has the hooks says so by knowing the verb that spoils disks.
            let known = std::process::Command::new(binary).args(["damage", "--help"]).output();
            (binary.clone(), known.is_ok_and(|output| output.status.success()))
        }
        None if request.driver == Driver::Compose => (PathBuf::from("baton-replica"), false),
        None => (baton_tests::cluster::chaos(), true),
    }
}

fn layout(request: &Request, binary: PathBuf, has_hooks: bool) -> Layout {
    let needs = |what: Needs| request.plan.faults.iter().any(|fault: &Fault| fault.needs() == what);
    let is_netns = request.driver == Driver::Netns;
    Layout {
        replicas: request.nodes,
        workers: request.workers,
        failover: request.failover.clone(),
        binary,
        has_hooks,
        mutant: request.mutant.clone(),
        hops: is_netns && needs(Needs::Hop) && hop_obstacle().is_none(),
        frail_disks: is_netns && has_hooks && needs(Needs::FrailDisk),
    }
}

fn describe(request: &Request, layout: &Layout) -> Test {
    let version = if request.driver == Driver::Compose {
        "as in the image".to_owned()
    } else {
        version(&layout.binary)
    };
    Test {
        form: FORM,
        name: request.name.clone(),
        driver: request.driver.name().to_owned(),
        workload: request.plan.workload.name().to_owned(),
        nemesis: request.plan.faults.clone(),
        nodes: request.nodes,
        workers: request.workers,
        failover: request.failover.clone(),
        seed: request.plan.seed,
        time_limit_s: request.plan.time.as_secs(),
        rate: request.plan.rate as u32,
        binary: layout.binary.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        version,
        commit: commit(),
        mutant: request.mutant.clone(),
        worker_cpu: WORKER_CPU,
        traced: layout.has_hooks,
        started: now(),
        machine: machine(),
    }
}

fn bar(request: &Request) -> ProgressBar {
    if !request.is_loud {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(request.plan.time.as_secs());
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {msg}");
    bar.set_style(style.expect("a valid template"));
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}

fn drive(request: &Request, layout: &Layout, folder: &Path, bar: &ProgressBar) -> Result<Left, String> {
    let mut ground = match request.driver {
        Driver::Netns => Ground::Netns(Netns::start(layout, folder)?),
        _ => Ground::Compose(Compose::start(layout, folder)?),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let say = |what: &str| {
        bar.set_message(what.to_owned());
        if request.is_loud && bar.is_hidden() {
            eprintln!("{what}");
        }
    };
    let tick = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            bar.set_position(bar.elapsed().as_secs());
        }
    };
    runtime.block_on(async {
        tokio::select! {
            left = run::run(&request.plan, &mut ground, &say) => left,
            () = asked_to_end() => Err(INTERRUPTED.to_owned()),
            () = tick => unreachable!("it never ends"),
        }
    })
}

/// Whether this process was told to end: by Ctrl-C or SIGTERM, at whatever time since [`listen`].
static ENDED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: nix::libc::c_int) {
    ENDED.store(true, Ordering::Relaxed);
}

/// From now on a signal does not end this process at once: what is being made is taken down first. Processes that are
/// started do not inherit it.
fn listen() -> Result<(), String> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler stores to an atomic and does nothing else.
        unsafe { sigaction(signal, &action) }.map_err(|error| format!("{signal}: {error}"))?;
    }
    Ok(())
}

async fn asked_to_end() {
    while !ENDED.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
