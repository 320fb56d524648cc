//! The product's own compose file, as a project of its own: containers are killed, paused and disconnected by the engine, and
//! links are cut by `iptables` in a sidecar that shares a container's network, so that the product's image needs no rights.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Layout, Node, name};
use crate::ledger::{self, Desk};
use crate::nemesis::{Fault, Needs};

/// What every project of this suite is called, before the number of its process.
const PREFIX: &str = "baton-jepsen-";
const SIDECAR_IMAGE: &str = "baton-jepsen-sidecar";
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Where tasks write, as they see it: a volume that all workers share.
const SHARED: &str = "/work";

pub struct Compose {
    pub layout: Layout,
    project: String,
    folder: PathBuf,
    /// Of the API, by replica.
    ports: Vec<u16>,
    http: Vec<u16>,
    /// Containers whose sidecar has their network.
    sidecars: BTreeSet<Node>,
    /// Those that ever had one: it outlives its container, and goes at the end.
    with_sidecar: BTreeSet<Node>,
    /// Disconnected from the network.
    apart: BTreeSet<Node>,
}

/// What keeps this machine from it; `None`: nothing does.
pub fn obstacle() -> Option<String> {
    if quiet("docker", &["info"]).is_err() {
        return Some("there is no Docker engine to talk to: install docker.io and start it".to_owned());
    }
    if tool().is_none() {
        return Some("there is no docker-compose: install it, or the plugin of that name".to_owned());
    }
    ["baton-replica", "baton-worker"]
        .into_iter()
        .find(|image| quiet("docker", &["image", "inspect", image]).is_err())
        .map(|image| {
            format!("there is no image {image}: make it with scripts/image, or docker compose build")
        })
}

/// The words that run Compose: the old command, or the plugin.
fn tool() -> Option<&'static [&'static str]> {
    const TOOLS: [&[&str]; 2] = [&["docker-compose"], &["docker", "compose"]];
    TOOLS.into_iter().find(|words| quiet(words[0], &[&words[1..], &["version"]].concat()).is_ok())
}

impl Compose {
    pub fn start(layout: &Layout, folder: &Path) -> Result<Compose, String> {
        sweep_dead_runs();
        let ports = free_ports(2 * layout.replicas)?;
        let (api, http) = ports.split_at(layout.replicas);
        let compose = Compose {
            layout: layout.clone(),
            project: format!("{PREFIX}{}", std::process::id()),
            folder: folder.to_owned(),
            ports: api.to_vec(),
            http: http.to_vec(),
            sidecars: BTreeSet::new(),
            with_sidecar: BTreeSet::new(),
            apart: BTreeSet::new(),
        };
        compose.compose(&["up", "-d", "--no-build"])?;
        Ok(compose)
    }

    fn compose(&self, words: &[&str]) -> Result<String, String> {
        let tool = tool().ok_or("there is no docker-compose")?;
        let mut command = Command::new(tool[0]);
        command.args(&tool[1..]).args(["-f", "docker-compose.yml"]);
        let peers: Vec<String> =
            (1..=self.layout.replicas).map(|number| format!("n{number}=n{number}:7170")).collect();
        if self.layout.replicas > 3 {
            command.args(["--profile", "five"]);
        }
        command.env("COMPOSE_PROJECT_NAME", &self.project).env("BATON_PEERS", peers.join(","));
        command.env("BATON_FAILOVER", &self.layout.failover).env("BATON_CLUSTER", "jepsen");
        for (place, (api, http)) in self.ports.iter().zip(&self.http).enumerate() {
            command.env(format!("BATON_PORT_{}", place + 1), api.to_string());
            command.env(format!("BATON_HTTP_{}", place + 1), http.to_string());
        }
        told(command.args(words).current_dir(ROOT))
    }

    fn container(&self, node: Node) -> Result<String, String> {
        let separators = ["_", "-"];
        let names = separators.map(|dash| format!("{}{dash}{}{dash}1", self.project, name(node)));
        let found = names.into_iter().find(|name| quiet("docker", &["inspect", name]).is_ok());
        found.ok_or_else(|| format!("there is no container for {}", name(node)))
    }

    fn state(&self, node: Node, what: &str) -> Option<String> {
        let container = self.container(node).ok()?;
        docker(&["inspect", "--format", &format!("{{{{{what}}}}}"), &container]).ok()
    }

    pub fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    pub fn desk(&self) -> Desk {
        Desk {
            folder: SHARED.into(),
            worker: "hostname".to_owned(),
            // The userland of the image knows no nanoseconds; all containers share this clock.
            clock: "read u _ < /proc/uptime; echo ${u%.*}${u#*.}0000000".to_owned(),
            has_flock: false,
        }
    }

    pub fn can(&self, fault: Fault) -> Result<(), String> {
        match fault.needs() {
            Needs::Nothing => Ok(()),
            Needs::Hop => Err("the containers' links have no hop of this suite".to_owned()),
            Needs::Hooks => Err("the product's image has no hooks for faults".to_owned()),
            Needs::FrailDisk => Err("the containers' disks are not this suite's to spoil".to_owned()),
            Needs::Impossible(why) => Err(why.to_owned()),
        }
    }

    pub fn kill(&mut self, node: Node) -> Result<(), String> {
        self.sidecars.remove(&node);
        let container = self.container(node)?;
        // The engine starts a container again that ends by itself, but not one that it was told to kill.
        docker(&["kill", "--signal", "KILL", &container]).map(drop)
    }

    pub fn start_node(&mut self, node: Node) -> Result<(), String> {
        let container = self.container(node)?;
        if self.state(node, ".State.Paused").as_deref() == Some("true") {
            docker(&["unpause", &container])?;
        }
        docker(&["start", &container]).map(drop)
    }

    pub fn terminate(&mut self, node: Node) -> Result<(), String> {
        self.sidecars.remove(&node);
        let container = self.container(node)?;
        docker(&["kill", "--signal", "TERM", &container]).map(drop)
    }

    pub fn freeze(&mut self, node: Node) -> Result<(), String> {
        let container = self.container(node)?;
        docker(&["pause", &container]).map(drop)
    }

    pub fn thaw(&mut self, node: Node) -> Result<(), String> {
        let container = self.container(node)?;
        docker(&["unpause", &container]).map(drop)
    }

    pub fn is_running(&mut self, node: Node) -> bool {
        self.state(node, ".State.Running").as_deref() == Some("true")
    }

    pub fn block(&mut self, at: Node, from: Node) -> Result<(), String> {
        let address = format!("(index .NetworkSettings.Networks \"{}_baton\").IPAddress", self.project);
        let from = self.state(from, &address);
        let from = from.filter(|address| !address.is_empty()).ok_or("a container without an address")?;
        self.iptables(at, &["-A", "INPUT", "-s", &from, "-j", "DROP"])
    }

    pub fn lose(&mut self, at: Node, in_thousand: u32) -> Result<(), String> {
        let probability = format!("{:.3}", f64::from(in_thousand) / 1_000.0);
        let random = ["-m", "statistic", "--mode", "random", "--probability", &probability];
        self.iptables(at, &[&["-A", "INPUT", "!", "-i", "lo"], &random[..], &["-j", "DROP"]].concat())
    }

    pub fn reset(&mut self, at: Node, _: Node) -> Result<(), String> {
        self.iptables(at, &["-A", "INPUT", "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"])
    }

    /// Takes a container off the network altogether: its clients do not reach it either.
    pub fn disconnect(&mut self, node: Node) -> Result<(), String> {
        let container = self.container(node)?;
        docker(&["network", "disconnect", &format!("{}_baton", self.project), &container])?;
        self.apart.insert(node);
        Ok(())
    }

    fn iptables(&mut self, node: Node, rule: &[&str]) -> Result<(), String> {
        self.sidecar(node)?;
        let sidecar = self.sidecar_name(node);
        docker(&[&["exec", &sidecar, "iptables", "-w"], rule].concat()).map(drop)
    }

    fn sidecar_name(&self, node: Node) -> String {
        format!("{}-sidecar-{}", self.project, name(node))
    }

    /// It goes with the network of its container, so it is made anew after that was started again.
    fn sidecar(&mut self, node: Node) -> Result<(), String> {
        if self.sidecars.contains(&node) {
            return Ok(());
        }
        if quiet("docker", &["image", "inspect", SIDECAR_IMAGE]).is_err() {
            build_sidecar()?;
        }
        let (sidecar, container) = (self.sidecar_name(node), self.container(node)?);
        let _ = docker(&["rm", "-f", &sidecar]);
        let network = format!("container:{container}");
        let run = ["run", "-d", "--name", &sidecar, "--network", &network, "--cap-add", "NET_ADMIN"];
        self.with_sidecar.insert(node);
        docker(&[&run[..], &["--cap-add", "NET_RAW", SIDECAR_IMAGE]].concat())?;
        self.sidecars.insert(node);
        Ok(())
    }

    pub fn heal_network(&mut self) -> Result<(), String> {
        for node in std::mem::take(&mut self.apart) {
            let (container, alias) = (self.container(node)?, name(node));
            let network = format!("{}_baton", self.project);
            docker(&["network", "connect", "--alias", &alias, &network, &container])?;
        }
        for node in self.sidecars.clone() {
            // One whose container has been started again has lost its rules with its network.
            let sidecar = self.sidecar_name(node);
            if docker(&["exec", &sidecar, "iptables", "-w", "-F", "INPUT"]).is_err() {
                self.sidecars.remove(&node);
            }
        }
        Ok(())
    }

    pub fn pid(&self, replica: usize) -> Option<i32> {
        self.state(Node::Replica(replica), ".State.Pid")?.parse().ok().filter(|pid| *pid > 0)
    }

    pub fn data(&self, replica: usize) -> Option<PathBuf> {
        Some(PathBuf::from(format!("/proc/{}/root/data", self.pid(replica)?)))
    }

    pub fn collect(&mut self) -> Result<(), String> {
        let worker = self.container(Node::Worker(0))?;
        for file in [ledger::LEDGER, ledger::FENCE] {
            // What no task has written is not there.
            if let Ok(text) = docker(&["exec", &worker, "cat", &format!("{SHARED}/{file}")]) {
                std::fs::write(self.folder.join(file), text + "\n").map_err(|error| error.to_string())?;
            }
        }
        for node in
            (0..self.layout.replicas).map(Node::Replica).chain((0..self.layout.workers).map(Node::Worker))
        {
            let log = self.container(node).and_then(|container| docker_both(&["logs", &container]));
            let path = self.folder.join(format!("{}.log", name(node)));
            std::fs::write(path, log.unwrap_or_else(|why| why)).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        for node in std::mem::take(&mut self.with_sidecar) {
            let _ = docker(&["rm", "-f", &self.sidecar_name(node)]);
        }
        let _ = self.compose(&["down", "--volumes", "--timeout", "2"]);
    }
}

/// Takes down what a run left that was killed itself.
fn sweep_dead_runs() {
    let listed = docker(&["ps", "-a", "--filter", &format!("name=^{PREFIX}"), "--format", "{{.Names}}"]);
    let mut projects = BTreeSet::new();
    for container in listed.unwrap_or_default().lines() {
        let Some(rest) = container.strip_prefix(PREFIX) else { continue };
        if super::net::is_dead(rest) {
            let _ = docker(&["rm", "-f", "-v", container]);
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            projects.insert(format!("{PREFIX}{digits}"));
        }
    }
    for project in projects {
        let label = format!("label=com.docker.compose.project={project}");
        for kind in ["network", "volume"] {
            for id in docker(&[kind, "ls", "-q", "--filter", &label]).unwrap_or_default().lines() {
                let _ = docker(&[kind, "rm", id]);
            }
        }
    }
}

/// An image from this machine's own `iptables` and what it is linked to: nothing is pulled.
fn build_sidecar() -> Result<(), String> {
    let context = tempfile::tempdir().map_err(|error| error.to_string())?;
    let script = "set -e; cd \"$1\"; mkdir -p root/bin root/run root/etc
        b=$(readlink -f \"$(command -v iptables)\"); s=$(command -v busybox)
        copy() { mkdir -p \"root$(dirname \"$1\")\"; cp -L \"$1\" \"root$1\"; }
        libs() { ldd \"$1\" | grep -o '/[^ ]*' | sort -u; }
        cp \"$b\" root/bin/iptables; cp \"$s\" root/bin/busybox; ln -s busybox root/bin/sleep
        for l in $(libs \"$b\"); do copy \"$l\"; done
        for x in $(find / -xdev -path '*/xtables/libxt_*.so' -o -xdev -path '*/xtables/libipt_*.so' 2>/dev/null); do copy \"$x\"; done
        printf 'FROM scratch\\nCOPY root /\\nENTRYPOINT [\"/bin/sleep\"]\\nCMD [\"86400\"]\\n' > Dockerfile";
    told(Command::new("sh").args(["-c", script, "sh"]).arg(context.path()))?;
    let folder = context.path().display().to_string();
    docker(&["build", "-q", "-t", SIDECAR_IMAGE, &folder]).map(drop)
}

fn free_ports(count: usize) -> Result<Vec<u16>, String> {
    let bind = |_| std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string());
    let listeners: Vec<_> = (0..count).map(bind).collect::<Result<_, _>>()?;
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr().map_err(|error| error.to_string())?.port()))
        .collect()
}

fn docker(words: &[&str]) -> Result<String, String> {
    told(Command::new("docker").args(words))
}

/// What it printed on both of its outputs.
fn docker_both(words: &[&str]) -> Result<String, String> {
    let output = Command::new("docker").args(words).output().map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn quiet(program: &str, words: &[&str]) -> Result<(), String> {
    told(Command::new(program).args(words)).map(drop)
}

fn told(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{} {}: {}", command.get_program().display(), words.join(" "), said.trim()))
}
