//! A network of its own: one namespace per node, joined by a bridge in another or by the suite's own hop, addresses that
//! exist nowhere else. Nothing of it is ever in the machine's own namespace, and all of it goes when this is dropped.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns};
use nix::unistd::{Pid, Uid};

use super::hop::{Hop, Rule};

pub const PREFIX: &str = "baton-jepsen";
const FOLDER: &str = "/run/netns";
/// The namespace of the bridge.
const SWITCH: &str = "switch";
/// Bytes of a packet through the hop: large ones cost it less.
const HOP_MTU: u32 = 16_000;

/// What carries packets from one node to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// The kernel's bridge.
    Bridge,
    /// A thread of this process, which may do with them what it likes.
    Hop,
}

pub struct Net {
    /// Of this run: the names of all its namespaces begin with it.
    run: String,
    nodes: Vec<String>,
    hop: Option<Hop>,
}

/// What keeps this machine from having one; `None`: nothing does.
pub fn obstacle() -> Option<String> {
    if !Uid::effective().is_root() {
        return Some("network namespaces need root: run it with sudo, or choose --driver sim".to_owned());
    }
    for tool in ["ip", "iptables", "nsenter"] {
        if Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            let package = if tool == "nsenter" {
                "util-linux"
            } else if tool == "ip" {
                "iproute2"
            } else {
                tool
            };
            return Some(format!("there is no `{tool}` command: install the package {package}"));
        }
    }
    let probe = match Net::new(&["probe".to_owned()], Wiring::Bridge) {
        Ok(net) => net.drop_from("probe", "10.77.0.250"),
        Err(why) => Err(why),
    };
    probe.err()
}

/// What keeps this machine from having a hop.
pub fn hop_obstacle() -> Option<String> {
    (!std::path::Path::new("/dev/net/tun").exists())
        .then(|| "there is no /dev/net/tun for the suite's own hop".to_owned())
}

impl Net {
    /// One node per name, at [`address`] of its place.
    pub fn new(nodes: &[String], wiring: Wiring) -> Result<Net, String> {
        sweep_dead_runs();
        let run = format!("{PREFIX}-{}", std::process::id());
        let mut net = Net { run, nodes: nodes.to_vec(), hop: None };
        if let Some(taken) = nodes.iter().find(|node| net.path(node).exists()) {
            let name = net.namespace(taken);
            // It is not ours to remove: leave all as it is.
            net.nodes.clear();
            return Err(format!("the namespace {name} exists already: remove it with `ip netns del {name}`"));
        }
        match wiring {
            Wiring::Bridge => net.join_by_bridge()?,
            Wiring::Hop => net.join_by_hop()?,
        }
        Ok(net)
    }

    fn join_by_bridge(&self) -> Result<(), String> {
        let switch = self.namespace(SWITCH);
        self.add_namespace(SWITCH)?;
        ip(&format!("-n {switch} link add bridge type bridge"))?;
        ip(&format!("-n {switch} link set bridge up"))?;
        for (place, node) in self.nodes.iter().enumerate() {
            self.add_namespace(node)?;
            let name = self.namespace(node);
            ip(&format!("link add eth0 netns {name} type veth peer name port{place} netns {switch}"))?;
            ip(&format!("-n {switch} link set port{place} master bridge"))?;
            ip(&format!("-n {switch} link set port{place} up"))?;
            self.set_address(place, node)?;
        }
        Ok(())
    }

    fn join_by_hop(&mut self) -> Result<(), String> {
        let mut ends = Vec::new();
        for (place, node) in self.nodes.iter().enumerate() {
            self.add_namespace(node)?;
            ends.push(super::hop::open(&self.path(node))?);
            ip(&format!("-n {} link set eth0 mtu {HOP_MTU}", self.namespace(node)))?;
            self.set_address(place, node)?;
        }
        self.hop = Some(Hop::start(ends)?);
        Ok(())
    }

    fn add_namespace(&self, node: &str) -> Result<(), String> {
        let name = self.namespace(node);
        ip(&format!("netns add {name}"))?;
        ip(&format!("-n {name} link set lo up"))
    }

    fn set_address(&self, place: usize, node: &str) -> Result<(), String> {
        let name = self.namespace(node);
        ip(&format!("-n {name} addr add {}/16 dev eth0", address(place)))?;
        ip(&format!("-n {name} link set eth0 up"))
    }

    fn namespace(&self, node: &str) -> String {
        format!("{}-{node}", self.run)
    }

    fn path(&self, node: &str) -> PathBuf {
        PathBuf::from(FOLDER).join(self.namespace(node))
    }

    /// The command words that run another command on a node.
    pub fn on(&self, node: &str) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net={}", self.path(node).display())]
    }

    /// Moves the calling thread, and every thread and process that it makes from now on, onto a node.
    pub fn enter(&self, node: &str) -> Result<(), String> {
        enter(&self.path(node))
    }

    /// From now on `node` hears nothing from that address.
    pub fn drop_from(&self, node: &str, from: &str) -> Result<(), String> {
        self.iptables(node, &["-A", "INPUT", "-s", from, "-j", "DROP"])
    }

    /// From now on so many of a thousand packets that come to `node` are lost.
    pub fn lose(&self, node: &str, in_thousand: u32) -> Result<(), String> {
        let probability = format!("{:.3}", f64::from(in_thousand) / 1_000.0);
        let random = ["-m", "statistic", "--mode", "random", "--probability", &probability];
        self.iptables(node, &[&["-A", "INPUT", "!", "-i", "lo"], &random[..], &["-j", "DROP"]].concat())
    }

    /// Answers what comes from that address with a reset.
    pub fn reset(&self, node: &str, from: &str) -> Result<(), String> {
        self.iptables(
            node,
            &["-A", "INPUT", "-p", "tcp", "-s", from, "-j", "REJECT", "--reject-with", "tcp-reset"],
        )
    }

    pub fn link(&self, a: usize, b: usize, rule: Rule) -> Result<(), String> {
        let hop = self.hop.as_ref().ok_or("there is no hop between the nodes")?;
        hop.set(a, b, rule);
        hop.set(b, a, rule);
        Ok(())
    }

    /// All nodes hear all others again.
    pub fn heal(&self) -> Result<(), String> {
        if let Some(hop) = &self.hop {
            hop.heal();
        }
        self.nodes.iter().try_for_each(|node| self.iptables(node, &["-F", "INPUT"]))
    }

    fn iptables(&self, node: &str, rule: &[&str]) -> Result<(), String> {
        let mut line = self.on(node);
        line.extend(["iptables", "-w"].map(str::to_owned));
        line.extend(rule.iter().map(|word| (*word).to_owned()));
        command(&line)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.hop = None;
        for node in self.nodes.iter().map(String::as_str).chain([SWITCH]) {
            if self.path(node).exists() {
                let _ = ip(&format!("netns del {}", self.namespace(node)));
            }
        }
    }
}

/// Moves the calling thread into the network namespace of that name.
pub fn enter(path: &std::path::Path) -> Result<(), String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|error| format!("cannot enter {}: {error}", path.display()))
}

pub fn address(place: usize) -> String {
    format!("10.77.0.{}", place + 1)
}

/// Whether the process whose id the text begins with is gone.
pub fn is_dead(rest: &str) -> bool {
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<i32>().is_ok_and(|pid| nix::sys::signal::kill(Pid::from_raw(pid), None).is_err())
}

/// Removes what a run left that was killed itself: its namespaces, and the processes in them.
fn sweep_dead_runs() {
    let Ok(entries) = std::fs::read_dir(FOLDER) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let Some(rest) = name.strip_prefix(&format!("{PREFIX}-")) else { continue };
        if !is_dead(rest) {
            continue;
        }
        let pids = Command::new("ip").args(["netns", "pids", &name]).output();
        let pids =
            pids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        for pid in pids.lines().filter_map(|line| line.trim().parse().ok()) {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        let _ = ip(&format!("netns del {name}"));
    }
}

fn ip(line: &str) -> Result<(), String> {
    let words = std::iter::once("ip").chain(line.split(' '));
    command(&words.map(str::to_owned).collect::<Vec<_>>())
}

fn command(line: &[String]) -> Result<(), String> {
    let output = Command::new(&line[0]).args(&line[1..]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", line.join(" ")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", line.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
