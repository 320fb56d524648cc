//! Real processes, each in a network namespace of its own, and clients in another. Disks may be small ones in memory.

use std::path::{Path, PathBuf};
use std::process::Command;

use baton_tests::process::{Process, is_frozen, processes_of, sweep};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::net::{Net, Wiring, address};
use super::{Knobs, Layout, Node, Rule, name};
use crate::ledger::Desk;
use crate::nemesis::{Fault, Needs};

const API_PORT: u16 = 7070;
const PEER_PORT: u16 = 7170;
/// Cores that a worker says it has, in thousandths.
pub const WORKER_CPU: u64 = 4_000;
/// Bytes of log after which a replica makes a snapshot: so few that a run of a minute has some.
const SNAPSHOT_LOG_BYTES: &str = "256KiB";
/// Bytes of a frail disk.
const DISK_BYTES: &str = "512m";
/// What fills a disk.
const BALLAST: &str = "ballast";

pub struct Netns {
    pub layout: Layout,
    replicas: Vec<Process>,
    workers: Vec<Process>,
    net: Net,
    folder: PathBuf,
    mounted: Vec<PathBuf>,
}

impl Netns {
    /// Starts everything and puts the calling thread where the clients are to be.
    pub fn start(layout: &Layout, folder: &Path) -> Result<Netns, String> {
        let wiring = if layout.hops { Wiring::Hop } else { Wiring::Bridge };
        let net = Net::new(&node_names(layout), wiring)?;
        net.enter(&name(Node::Driver))?;
        let layout = layout.clone();
        let (replicas, workers, mounted) = (Vec::new(), Vec::new(), Vec::new());
        let mut netns = Netns { layout, replicas, workers, net, folder: folder.to_owned(), mounted };
        for place in 0..netns.layout.replicas {
            if netns.layout.frail_disks {
                netns.mount(&netns.folder.join(name(Node::Replica(place))))?;
                netns.turn(place, &netns.usual())?;
            }
            let mut replica = netns.replica(place);
            replica.start();
            netns.replicas.push(replica);
        }
        for place in 0..netns.layout.workers {
            let mut worker = netns.worker(place);
            worker.start();
            netns.workers.push(worker);
        }
        Ok(netns)
    }

    /// Knobs as they are when nothing is wrong.
    pub fn usual(&self) -> Knobs {
        Knobs { volatile: self.layout.frail_disks, ..Knobs::default() }
    }

    fn replica(&self, place: usize) -> Process {
        let own = name(Node::Replica(place));
        let named = |place| format!("{}={}:{PEER_PORT}", name(Node::Replica(place)), address(place));
        let peers: Vec<String> = (0..self.layout.replicas).map(named).collect();
        let data = self.folder.join(&own);
        let listen = format!("{}:{API_PORT}", address(place));
        let peer_listen = format!("{}:{PEER_PORT}", address(place));
        let peers = peers.join(",");
        let data = data.to_str().expect("a plain path");
        let mut args = vec!["server", "--cluster", "jepsen", "--name", &own, "--data-dir", data];
        args.extend(["--listen", &listen, "--peer-listen", &peer_listen, "--http", "off"]);
        args.extend(["--peers", &peers, "--failover", &self.layout.failover, "--insecure"]);
        args.extend(["--snapshot-log-bytes", SNAPSHOT_LOG_BYTES]);
        let process = self.process(Node::Replica(place), &args);
        if !self.layout.has_hooks {
            return process;
        }
        let trace = self.folder.join(format!("{own}.trace"));
        let chaos = self.knobs_file(place);
        process
            .env("BATON_TRACE", trace.to_str().expect("a plain path"))
            .env("BATON_CHAOS", chaos.to_str().expect("a plain path"))
    }

    fn worker(&self, place: usize) -> Process {
        let own = name(Node::Worker(place));
        let data = self.folder.join(&own);
        let servers = self.addresses().join(",");
        let data = data.to_str().expect("a plain path");
        let cpu = (WORKER_CPU / 1_000).to_string();
        let args = ["worker", "--name", &own, "--servers", &servers, "--data-dir", data, "--cpu", &cpu];
        self.process(Node::Worker(place), &args)
    }

    fn process(&self, node: Node, args: &[&str]) -> Process {
        let own = name(node);
        let process =
            Process::new(&own, args, &self.folder).of(&self.layout.binary).through(self.net.on(&own));
        match &self.layout.mutant {
            Some(mutant) => process.env("BATON_MUTANT", mutant),
            None => process,
        }
    }

    fn process_of(&mut self, node: Node) -> Result<&mut Process, String> {
        match node {
            Node::Replica(place) => self.replicas.get_mut(place),
            Node::Worker(place) => self.workers.get_mut(place),
            Node::Driver => None,
        }
        .ok_or_else(|| format!("there is no process {}", name(node)))
    }

    pub fn addresses(&self) -> Vec<String> {
        (0..self.layout.replicas).map(|place| format!("{}:{API_PORT}", address(place))).collect()
    }

    pub fn desk(&self) -> Desk {
        let folder = self.folder.display();
        Desk {
            folder: self.folder.clone(),
            // The directory of its result lies in its worker's.
            worker: format!("r=${{BATON_RESULT#{folder}/}}; echo ${{r%%/*}}"),
            clock: "date +%s%N".to_owned(),
            has_flock: true,
        }
    }

    pub fn can(&self, fault: Fault) -> Result<(), String> {
        match fault.needs() {
            Needs::Hop if !self.layout.hops => {
                Err("the network was made without the suite's own hop".to_owned())
            }
            Needs::Hooks if !self.layout.has_hooks => {
                Err("the binary under test has no hooks for faults".to_owned())
            }
            Needs::FrailDisk if !self.layout.frail_disks || !self.layout.has_hooks => {
                Err("the disks are ordinary ones".to_owned())
            }
            Needs::Impossible(why) => Err(why.to_owned()),
            Needs::Nothing | Needs::Hop | Needs::Hooks | Needs::FrailDisk => Ok(()),
        }
    }

    pub fn kill(&mut self, node: Node) -> Result<(), String> {
        self.process_of(node)?.kill();
        Ok(())
    }

    pub fn start_node(&mut self, node: Node) -> Result<(), String> {
        let process = self.process_of(node)?;
        if !process.is_running() {
            process.kill();
            process.start();
        }
        Ok(())
    }

    pub fn terminate(&mut self, node: Node) -> Result<(), String> {
        let process = self.process_of(node)?;
        if process.is_running() {
            process.signal(Signal::SIGTERM);
        }
        Ok(())
    }

    pub fn is_running(&mut self, node: Node) -> bool {
        self.process_of(node).is_ok_and(Process::is_running)
    }

    /// All processes of the node: of a worker the keeper and the tasks as well.
    fn pids(&mut self, node: Node) -> Result<Vec<i32>, String> {
        let folder = self.folder.join(name(node));
        let own = self.process_of(node)?.pid();
        match node {
            Node::Worker(_) => Ok(processes_of(&folder)),
            Node::Replica(_) | Node::Driver => Ok(own.into_iter().collect()),
        }
    }

    pub fn freeze(&mut self, node: Node) -> Result<(), String> {
        // A task may be started while the others are being stopped: until nobody new is found.
        loop {
            let moving: Vec<i32> = self.pids(node)?.into_iter().filter(|pid| !is_frozen(*pid)).collect();
            if moving.is_empty() {
                return Ok(());
            }
            for pid in moving {
                // It may have ended by itself.
                let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
            }
            std::thread::yield_now();
        }
    }

    pub fn thaw(&mut self, node: Node) -> Result<(), String> {
        for pid in self.pids(node)? {
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
        }
        Ok(())
    }

    fn place(&self, node: Node) -> usize {
        match node {
            Node::Replica(place) => place,
            Node::Worker(place) => self.layout.replicas + place,
            Node::Driver => self.layout.replicas + self.layout.workers,
        }
    }

    pub fn block(&mut self, at: Node, from: Node) -> Result<(), String> {
        self.net.drop_from(&name(at), &address(self.place(from)))
    }

    pub fn lose(&mut self, at: Node, in_thousand: u32) -> Result<(), String> {
        self.net.lose(&name(at), in_thousand)
    }

    pub fn reset(&mut self, at: Node, from: Node) -> Result<(), String> {
        self.net.reset(&name(at), &address(self.place(from)))
    }

    pub fn link(&mut self, a: Node, b: Node, rule: Rule) -> Result<(), String> {
        self.net.link(self.place(a), self.place(b), rule)
    }

    pub fn heal_network(&mut self) -> Result<(), String> {
        self.net.heal()
    }

    fn knobs_file(&self, replica: usize) -> PathBuf {
        self.folder.join(format!("{}.knobs", name(Node::Replica(replica))))
    }

    pub fn turn(&mut self, replica: usize, knobs: &Knobs) -> Result<(), String> {
        let path = self.knobs_file(replica);
        let writing = path.with_extension("new");
        let text = serde_json::to_string(knobs).map_err(|error| error.to_string())?;
        // All of it or nothing: it is read while it is written.
        let put = std::fs::write(&writing, text).and_then(|()| std::fs::rename(&writing, &path));
        put.map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Spoils the directory of a replica that is down. `Ok(None)`: there was nothing of the kind to spoil.
    pub fn damage(&mut self, replica: usize, what: &str) -> Result<Option<String>, String> {
        let data = self.folder.join(name(Node::Replica(replica)));
        let mut command = Command::new(&self.layout.binary);
        command.args(["damage", "--what", what, "--data-dir"]).arg(&data);
        let output = command.output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match output.status.code() {
            Some(0) => Ok(Some(said)),
            Some(3) => Ok(None),
            _ => Err(format!("damage {what}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        }
    }

    /// Keeps a copy of a replica's directory while it is down, or puts it back.
    pub fn save(&mut self, replica: usize) -> Result<(), String> {
        let (data, copy) = self.copies(replica);
        let _ = std::fs::remove_dir_all(&copy);
        run("cp", &["-a", &data, &copy.display().to_string()])
    }

    pub fn restore(&mut self, replica: usize) -> Result<(), String> {
        let (data, copy) = self.copies(replica);
        self.wipe(replica)?;
        run("cp", &["-a", &format!("{}/.", copy.display()), &data])
    }

    fn copies(&self, replica: usize) -> (String, PathBuf) {
        let own = name(Node::Replica(replica));
        (self.folder.join(&own).display().to_string(), self.folder.join(format!("{own}.copy")))
    }

    /// Empties a replica's directory.
    pub fn wipe(&mut self, replica: usize) -> Result<(), String> {
        let data = self.folder.join(name(Node::Replica(replica)));
        let entries = std::fs::read_dir(&data).map_err(|error| error.to_string())?;
        for entry in entries.flatten() {
            let path = entry.path();
            let gone =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            gone.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// Fills the disk of a replica to the last byte.
    pub fn fill(&mut self, replica: usize) -> Result<(), String> {
        let path = self.folder.join(name(Node::Replica(replica))).join(BALLAST);
        let mut file = std::fs::File::create(path).map_err(|error| error.to_string())?;
        let block = [1_u8; 64 << 10];
        // Until it says that it is full.
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        Ok(())
    }

    pub fn make_room(&mut self, replica: usize) -> Result<(), String> {
        let path = self.folder.join(name(Node::Replica(replica))).join(BALLAST);
        std::fs::remove_file(path).map_err(|error| error.to_string())
    }

    /// What a replica has said since it had said so much.
    pub fn said(&self, replica: usize, since: usize) -> String {
        let log = self.replicas[replica].log();
        log.get(since..).unwrap_or_default().to_owned()
    }

    /// A second process under a worker's name, with a directory of its own.
    pub fn twin(&self, worker: usize) -> Process {
        let own = name(Node::Worker(worker));
        let data = self.folder.join(format!("{own}-twin"));
        self.worker(worker).with(&["--data-dir", data.to_str().expect("a plain path")])
    }

    pub fn pid(&self, replica: usize) -> Option<i32> {
        self.replicas.get(replica)?.pid()
    }

    pub fn data(&self, replica: usize) -> Option<PathBuf> {
        Some(self.folder.join(name(Node::Replica(replica))))
    }

    pub fn collect(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn mount(&mut self, path: &Path) -> Result<(), String> {
        std::fs::create_dir_all(path).map_err(|error| error.to_string())?;
        let at = path.display().to_string();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={DISK_BYTES}"), "baton-jepsen", &at])?;
        self.mounted.push(path.to_owned());
        Ok(())
    }
}

impl Drop for Netns {
    // The network goes last, when nobody is left in it.
    fn drop(&mut self) {
        self.replicas.clear();
        self.workers.clear();
        sweep(&self.folder);
        for path in &self.mounted {
            let _ = run("umount", &[&path.display().to_string()]);
        }
    }
}

fn node_names(layout: &Layout) -> Vec<String> {
    let replicas = (0..layout.replicas).map(Node::Replica);
    let workers = (0..layout.workers).map(Node::Worker);
    replicas.chain(workers).chain([Node::Driver]).map(name).collect()
}

/// Unmounts the disks of runs that were killed themselves. `folders`: where their folders lay.
pub fn sweep_dead_disks(folders: &Path) {
    let Ok(mounts) = std::fs::read_to_string("/proc/mounts") else { return };
    let prefix = format!("{}/{}", folders.display(), super::net::PREFIX);
    for line in mounts.lines() {
        let Some(path) = line.split(' ').nth(1) else { continue };
        let Some(rest) = path.strip_prefix(&format!("{prefix}-")) else { continue };
        if super::net::is_dead(rest) {
            let _ = run("umount", &[path]);
        }
    }
}

pub fn run(program: &str, words: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(words).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
