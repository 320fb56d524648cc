//! A network of its own: one namespace per node, a bridge between them in another, addresses that exist nowhere else.
//! Nothing of it is ever in the machine's own namespace, and all of it goes when this is dropped.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns};
use nix::unistd::{Pid, Uid};

const PREFIX: &str = "baton-jepsen";
const FOLDER: &str = "/run/netns";
/// The namespace of the bridge.
const SWITCH: &str = "switch";

#[derive(Debug)]
pub struct Net {
    /// Of this run: the names of all its namespaces begin with it.
    run: String,
    nodes: Vec<String>,
}

/// What keeps this machine from having one; `None`: nothing does.
pub fn obstacle() -> Option<String> {
    if !Uid::effective().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    for tool in ["ip", "iptables", "nsenter"] {
        if Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return Some(format!("there is no `{tool}` command"));
        }
    }
    let probe = match Net::new(&["probe".to_owned()]) {
        Ok(net) => net.drop_from("probe", "10.77.0.250"),
        Err(why) => Err(why),
    };
    probe.err()
}

impl Net {
    /// One node per name, at [`address`] of its place.
    pub fn new(nodes: &[String]) -> Result<Net, String> {
        sweep_dead_runs();
        let net = Net { run: format!("{PREFIX}-{}", std::process::id()), nodes: nodes.to_vec() };
        let switch = net.namespace(SWITCH);
        net.add_namespace(SWITCH)?;
        ip(&format!("-n {switch} link add bridge type bridge"))?;
        ip(&format!("-n {switch} link set bridge up"))?;
        for (place, node) in nodes.iter().enumerate() {
            net.add_node(place, node)?;
        }
        Ok(net)
    }

    fn add_namespace(&self, node: &str) -> Result<(), String> {
        let name = self.namespace(node);
        ip(&format!("netns add {name}"))?;
        ip(&format!("-n {name} link set lo up"))
    }

    fn add_node(&self, place: usize, node: &str) -> Result<(), String> {
        self.add_namespace(node)?;
        let (name, switch) = (self.namespace(node), self.namespace(SWITCH));
        ip(&format!("link add eth0 netns {name} type veth peer name port{place} netns {switch}"))?;
        ip(&format!("-n {switch} link set port{place} master bridge"))?;
        ip(&format!("-n {switch} link set port{place} up"))?;
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
        let file = File::open(self.path(node)).map_err(|error| format!("{node}: {error}"))?;
        setns(file, CloneFlags::CLONE_NEWNET).map_err(|error| format!("cannot enter {node}: {error}"))
    }

    /// From now on `node` hears nothing from that address.
    pub fn drop_from(&self, node: &str, from: &str) -> Result<(), String> {
        self.iptables(node, &["-A", "INPUT", "-s", from, "-j", "DROP"])
    }

    /// All nodes hear all others again.
    pub fn heal(&self) -> Result<(), String> {
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
        for node in self.nodes.iter().map(String::as_str).chain([SWITCH]) {
            if self.path(node).exists() {
                let _ = ip(&format!("netns del {}", self.namespace(node)));
            }
        }
    }
}

pub fn address(place: usize) -> String {
    format!("10.77.0.{}", place + 1)
}

/// Removes what a run left that was killed itself.
fn sweep_dead_runs() {
    let Ok(entries) = std::fs::read_dir(FOLDER) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let Some(rest) = name.strip_prefix(&format!("{PREFIX}-")) else { continue };
        let pid = rest.split('-').next().and_then(|pid| pid.parse::<i32>().ok());
        if pid.is_some_and(|pid| nix::sys::signal::kill(Pid::from_raw(pid), None).is_err()) {
            let _ = ip(&format!("netns del {name}"));
        }
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
