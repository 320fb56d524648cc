//! `baton dev`: a whole cluster on this machine, to play with and to break.

use std::io::{IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

use crate::clock::Stopwatch;
use crate::cluster::{Cluster, Plan, ports};
use crate::config::{Config, Context, Contexts};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::Face;
use crate::output::paint::Tone;
use crate::signals;

/// Run a development cluster: three replicas and two workers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// gRPC of the first replica; 0: ports of the kernel's choice. Absent: those that the data was begun with, else 7070
    #[arg(long, value_name = "PORT")]
    port_base: Option<u16>,
    /// Keep the data, and the ports, here; absent: a folder that is deleted on exit
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Replicas to start
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=7))]
    replicas: u8,
    /// Workers to start
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=32))]
    workers: u8,
    /// Run this with BATON_SERVERS set, then stop; its status is the exit status
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// Bring a replica back a second after somebody has killed it
    #[arg(long)]
    keep_up: bool,
}

pub async fn run(args: &Args, config: &Config) -> Result<Exit, Fault> {
    let face = Face::of(config);
    let watch = Stopwatch::start();
    let plan = Plan {
        replicas: args.replicas.into(),
        workers: args.workers.into(),
        port_base: args.port_base.unwrap_or_else(|| port_base(args.data_dir.as_deref())),
        can_cut: true,
        data_dir: args.data_dir.clone(),
        ..Plan::new("dev")
    };
    let mut cluster = Cluster::start(plan).await?;
    let ready = watch.elapsed();
    if let Some(command) = &args.exec {
        let exit = exec(command, args.keep_up, &mut cluster).await;
        cluster.stop();
        return exit;
    }
    let context = DevContext::write(&cluster)?;
    let terminal = Keys::listen();
    face.note(&banner(&face, &cluster, ready, terminal.is_some()).await);
    let played = play(&mut cluster, &face, terminal, args.keep_up).await;
    drop(context);
    cluster.stop();
    played.map(|()| Exit::DONE)
}

fn port_base(data_dir: Option<&Path>) -> u16 {
    if data_dir.is_some_and(ports::are_kept) { 0 } else { PORT_BASE }
}

const PORT_BASE: u16 = 7070;

async fn banner(face: &Face, cluster: &Cluster, ready: Duration, has_keys: bool) -> String {
    let paint = face.paint_err;
    let addresses = cluster.addresses();
    let (first, rest) = addresses.split_first().expect("at least one replica");
    let rest: Vec<String> =
        rest.iter().map(|address| format!(":{}", address.rsplit(':').next().unwrap_or_default())).collect();
    let (replicas, workers) = (cluster.replicas.len(), cluster.workers.len());
    let head = format!("baton {}", env!("CARGO_PKG_VERSION"));
    let mut text = format!(
        "{}  development cluster: {replicas} replicas + {workers} workers      ready in {:.1} s\n",
        paint.tone(Tone::Bold, &head),
        ready.as_secs_f64()
    );
    text += &format!(
        "  gRPC      {first}  {}    {}\n",
        rest.join("  "),
        leader_text(cluster).await.unwrap_or_else(|| "no leader".to_owned())
    );
    text += &format!("  Status    http://127.0.0.1:{}\n", cluster.ports[0].http);
    let kept =
        if cluster.plan.data_dir.is_some() { "kept" } else { "deleted on exit; --data-dir PATH keeps it" };
    text += &format!("  Data      {} ({kept})\n", cluster.folder().display());
    text += "  Context   the CLI in any terminal now talks to this cluster (context \"dev\")\n";
    let try_it = "baton run -- sh -c 'for i in 1 2 3 4 5; do echo $i; sleep 1; done'";
    let leader = cluster.leader().await.and_then(|place| cluster.replicas[place].pid());
    let kill = leader.map(|pid| format!("     and meanwhile   kill -9 {pid}")).unwrap_or_default();
    text += &format!("Try:   {try_it}{kill}\n");
    if has_keys {
        text += "Keys:  k kill leader · p cut it off · K stop a majority · r revive · w add worker · q quit      not for production";
    } else {
        text += "Ctrl-C or SIGTERM stops it      not for production";
    }
    text
}

async fn leader_text(cluster: &Cluster) -> Option<String> {
    let status = cluster.status().await?;
    let leader = status.leader?;
    let process = cluster.replicas.iter().find(|replica| replica.name == leader);
    let pid =
        process.and_then(|process| process.pid()).map_or_else(String::new, |pid| format!(" (pid {pid})"));
    Some(format!("leader {leader}{pid} · term {}", status.term))
}

async fn exec(command: &str, keep_up: bool, cluster: &mut Cluster) -> Result<Exit, Fault> {
    let mut child = tokio::process::Command::new("/bin/sh");
    child.arg("-c").arg(command).env_remove("BATON_CONTEXT");
    child.env("BATON_SERVERS", cluster.addresses().join(",")).env("BATON_DEV_DIR", cluster.folder());
    let running = child.kill_on_drop(true).status();
    tokio::pin!(running);
    let ended = signals::asked_to_end();
    tokio::pin!(ended);
    let status = loop {
        tokio::select! {
            status = &mut running => break status?,
            () = &mut ended => return Ok(Exit::INTERRUPTED),
            () = tokio::time::sleep(KEEP_UP_EVERY), if keep_up => drop(cluster.keep_up()?),
        }
    };
    let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0);
    let code = status.code().unwrap_or(128 + signal);
    Ok(Exit(code.clamp(0, 255) as u8))
}

const KEEP_UP_EVERY: Duration = Duration::from_secs(1);

async fn play(
    cluster: &mut Cluster,
    face: &Face,
    mut keys: Option<Keys>,
    keep_up: bool,
) -> Result<(), Fault> {
    // One for all rounds: a signal that comes while a key is served must not be missed.
    let ended = signals::asked_to_end();
    tokio::pin!(ended);
    loop {
        let key = tokio::select! {
            () = &mut ended => return Ok(()),
            key = next_key(&mut keys) => key,
            () = tokio::time::sleep(KEEP_UP_EVERY), if keep_up => {
                for name in cluster.keep_up()? {
                    face.note(&format!("revived {name}"));
                }
                continue;
            }
        };
        match key {
            'k' => kill_leader(cluster, face).await,
            'p' => cut_leader_off(cluster, face).await,
            'K' => stop_majority(cluster, face),
            'r' => {
                let names = cluster.revive()?;
                let told = if names.is_empty() {
                    "nothing to revive".to_owned()
                } else {
                    format!("revived {}", names.join(", "))
                };
                face.note(&told);
                tell_leader(cluster, face).await;
            }
            'w' => {
                let worker = cluster.add_worker()?;
                face.note(&format!(
                    "added worker {} (pid {})",
                    worker.name,
                    worker.pid().unwrap_or_default()
                ));
            }
            'q' | '\x03' | '\x04' => return Ok(()),
            _ => {}
        }
    }
}

async fn next_key(keys: &mut Option<Keys>) -> char {
    match keys {
        Some(keys) => match keys.pressed.recv().await {
            Some(key) => key,
            // Input is closed; signals still work.
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

async fn kill_leader(cluster: &mut Cluster, face: &Face) {
    let Ok(kill) = cluster.kill_leader().await else { return face.note("there is no leader to kill") };
    face.note(&format!("killed leader {} (pid {})", kill.name, kill.pid));
    tell_successor(cluster, face, &kill.name).await;
}

async fn cut_leader_off(cluster: &mut Cluster, face: &Face) {
    let Some(place) = cluster.leader().await else { return face.note("there is no leader to cut off") };
    let leader = &mut cluster.replicas[place];
    leader.cut_off();
    let name = leader.name.clone();
    face.note(&format!(
        "cut leader {name} off from its peers: workers and clients still reach it, it decides nothing"
    ));
    tell_successor(cluster, face, &name).await;
}

/// Says who leads after a leader that is gone, or that nobody does.
async fn tell_successor(cluster: &Cluster, face: &Face, gone: &str) {
    let watch = Stopwatch::start();
    while watch.elapsed() < Duration::from_secs(10) {
        if let Some(new) = cluster.leader().await {
            let ms = watch.elapsed().as_millis();
            face.note(&format!("{} leads after {ms} ms      r revives {}", cluster.replicas[new].name, gone));
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    face.note("nobody leads: too few replicas are left      r revives them");
}

fn stop_majority(cluster: &mut Cluster, face: &Face) {
    let majority = cluster.replicas.len() / 2 + 1;
    let down = cluster.replicas.iter().filter(|replica| !replica.is_running()).count();
    let mut stopped = Vec::new();
    for process in cluster.replicas.iter_mut().rev().filter(|replica| replica.is_running()) {
        if down + stopped.len() >= majority {
            break;
        }
        process.freeze();
        stopped.push(process.name.clone());
    }
    face.note(&format!(
        "stopped {} (SIGSTOP): no majority answers, so nothing is accepted      r revives",
        stopped.join(", ")
    ));
}

async fn tell_leader(cluster: &Cluster, face: &Face) {
    let watch = Stopwatch::start();
    while watch.elapsed() < Duration::from_secs(10) {
        // Whoever led a moment ago may not lead any more.
        if let Some(text) = leader_text(cluster).await {
            return face.note(&text);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The context "dev", for as long as the cluster is there.
struct DevContext {
    before: Option<String>,
    mine: Context,
}

const NAME: &str = "dev";

impl DevContext {
    fn write(cluster: &Cluster) -> Result<DevContext, Fault> {
        let mine = Context { servers: cluster.addresses() };
        let mut all = Contexts::load()?;
        let before = all.current.replace(NAME.to_owned()).filter(|current| current != NAME);
        all.contexts.insert(NAME.to_owned(), mine.clone());
        all.save()?;
        Ok(DevContext { before, mine })
    }
}

impl Drop for DevContext {
    fn drop(&mut self) {
        let Ok(mut all) = Contexts::load() else { return };
        // Another development cluster may have taken the name meanwhile.
        if all.contexts.get(NAME) == Some(&self.mine) {
            all.contexts.remove(NAME);
            if all.current.as_deref() == Some(NAME) {
                all.current = self.before.take();
            }
            let _ = all.save();
        }
    }
}

/// Single keys from the terminal, which is as it was when this is dropped.
struct Keys {
    pressed: mpsc::UnboundedReceiver<char>,
    before: Termios,
}

impl Keys {
    fn listen() -> Option<Keys> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let before = tcgetattr(stdin.as_fd()).ok()?;
        let mut raw = before.clone();
        // Ctrl-C stays a signal.
        raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &raw).ok()?;
        let (sender, pressed) = mpsc::unbounded_channel();
        let read = move || {
            let mut byte = [0];
            while std::io::stdin().read(&mut byte).is_ok_and(|count| count == 1) {
                if sender.send(char::from(byte[0])).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("keys".to_owned()).spawn(read).ok()?;
        Some(Keys { pressed, before })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, &self.before);
    }
}
