//! The suite's own hop: every packet from one node to another passes through a thread here, which may hold it back, say it
//! twice, let others overtake it, or keep all of them until the link is healed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::clock::Clock;

/// What happens to packets of one direction of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub delay: Duration,
    /// Each packet waits up to so much longer: later ones overtake it.
    pub jitter: Duration,
    /// So many of a thousand come twice.
    pub twice_in_thousand: u32,
    /// All are kept until the link is healed, and then delivered.
    pub jams: bool,
}

/// Packets that a jammed link keeps; what comes then is lost, as in any queue that is full.
const JAM_MAX: usize = 4_096;
/// How long the thread sleeps at most before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);
const PACKET_MAX: usize = 65_536;

#[derive(Default)]
struct Links {
    rules: BTreeMap<(usize, usize), Rule>,
    healed: bool,
}

pub struct Hop {
    links: Arc<Mutex<Links>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Makes `eth0` in the namespace of that name and returns its other end.
pub fn open(namespace: &Path) -> Result<File, String> {
    let namespace = namespace.to_owned();
    // A thread of its own: it stays where it went.
    let opened = std::thread::spawn(move || {
        super::net::enter(&namespace)?;
        tun().map_err(|error| format!("/dev/net/tun: {error}"))
    });
    opened.join().map_err(|_| "a thread panicked".to_owned())?
}

fn tun() -> io::Result<File> {
    nix::ioctl_write_int!(set_iff, b'T', 202);
    const IFF_TUN: i16 = 0x0001;
    const IFF_NO_PI: i16 = 0x1000;
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    // struct ifreq: a name of 16 bytes, then the flags; 40 bytes in all.
    let mut request = [0_u8; 40];
    request[..4].copy_from_slice(b"eth0");
    request[16..18].copy_from_slice(&(IFF_TUN | IFF_NO_PI).to_ne_bytes());
    // SAFETY: the kernel reads and writes an ifreq, which `request` is as large as, and keeps no pointer to it.
    unsafe { set_iff(file.as_raw_fd(), request.as_mut_ptr() as u64) }?;
    let flags = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_GETFL)?;
    let flags = nix::fcntl::OFlag::from_bits_retain(flags) | nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFL(flags))?;
    Ok(file)
}

impl Hop {
    /// `ends`: of the nodes, by place.
    pub fn start(ends: Vec<File>) -> Result<Hop, String> {
        let links = Arc::new(Mutex::new(Links::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let carrier = Carrier {
            ends,
            links: links.clone(),
            stop: stop.clone(),
            clock: Clock::start(),
            chance: SmallRng::seed_from_u64(1),
            waiting: BinaryHeap::new(),
            jammed: BTreeMap::new(),
            count: 0,
        };
        let thread = std::thread::Builder::new().name("hop".into()).spawn(move || carrier.run());
        let thread = Some(thread.map_err(|error| error.to_string())?);
        Ok(Hop { links, ends: stop, thread })
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().expect("nobody panics with it")
    }

    pub fn set(&self, from: usize, to: usize, rule: Rule) {
        self.links().rules.insert((from, to), rule);
    }

    /// Links are as they were, and what was jammed is delivered.
    pub fn heal(&self) {
        let mut links = self.links();
        links.rules.clear();
        links.healed = true;
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// When it is due, the number of its coming, for whom it is, and the packet.
type Late = (u64, u64, usize, Vec<u8>);

struct Carrier {
    ends: Vec<File>,
    links: Arc<Mutex<Links>>,
    stop: Arc<AtomicBool>,
    clock: Clock,
    chance: SmallRng,
    /// By the time at which they are due, then in the order of their coming.
    waiting: BinaryHeap<Reverse<Late>>,
    jammed: BTreeMap<(usize, usize), Vec<Vec<u8>>>,
    count: u64,
}

impl Carrier {
    fn run(mut self) {
        let mut buffer = vec![0; PACKET_MAX];
        while !self.stop.load(Ordering::Relaxed) {
            self.wait();
            for from in 0..self.ends.len() {
                while let Ok(len) = (&self.ends[from]).read(&mut buffer) {
                    self.take(from, &buffer[..len]);
                }
            }
            self.release();
            self.deliver();
        }
    }

    fn wait(&self) {
        let due = self.waiting.peek().map(|Reverse((at, ..))| at.saturating_sub(self.clock.now()));
        let timeout = due.map_or(LOOK, Duration::from_nanos).min(LOOK);
        // A packet may wait up to a millisecond longer than it was told.
        let timeout = PollTimeout::from(timeout.as_millis() as u16);
        let mut fds: Vec<PollFd> =
            self.ends.iter().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN)).collect();
        let _ = poll(&mut fds, timeout);
    }

    fn take(&mut self, from: usize, packet: &[u8]) {
        let Some(to) = destination(packet).filter(|to| *to < self.ends.len()) else { return };
        let rule = self.links.lock().expect("nobody panics with it").rules.get(&(from, to)).copied();
        let Some(rule) = rule else { return self.send(to, packet) };
        if rule.jams {
            let jammed = self.jammed.entry((from, to)).or_default();
            if jammed.len() < JAM_MAX {
                jammed.push(packet.to_vec());
            }
            return;
        }
        let copies = 1 + u32::from(self.chance.random_range(0..1_000) < rule.twice_in_thousand);
        for _ in 0..copies {
            let jitter = rule.jitter.mul_f64(self.chance.random_range(0.0..1.0));
            let due = self.clock.now() + (rule.delay + jitter).as_nanos() as u64;
            self.count += 1;
            self.waiting.push(Reverse((due, self.count, to, packet.to_vec())));
        }
    }

    /// What a healed link has kept.
    fn release(&mut self) {
        let healed = std::mem::take(&mut self.links.lock().expect("nobody panics with it").healed);
        if healed {
            for ((_, to), packets) in std::mem::take(&mut self.jammed) {
                packets.iter().for_each(|packet| self.send(to, packet));
            }
        }
    }

    fn deliver(&mut self) {
        let now = self.clock.now();
        while self.waiting.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            let Some(Reverse((_, _, to, packet))) = self.waiting.pop() else { return };
            self.send(to, &packet);
        }
    }

    fn send(&self, to: usize, packet: &[u8]) {
        // A full queue loses packets, as a cable does; whoever sent them sends again.
        let _ = (&self.ends[to]).write(packet);
    }
}

/// The place of the node that an IPv4 packet is for.
fn destination(packet: &[u8]) -> Option<usize> {
    let [10, 77, 0, last] = packet.get(16..20)? else { return None };
    (packet[0] >> 4 == 4 && *last > 0).then(|| usize::from(*last) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_goes_to_the_node_of_its_address() {
        let mut packet = [0_u8; 20];
        packet[0] = 0x45;
        packet[16..20].copy_from_slice(&[10, 77, 0, 3]);
        assert_eq!(destination(&packet), Some(2));
        packet[0] = 0x60;
        assert_eq!(destination(&packet), None, "IPv6 goes nowhere");
        packet[0] = 0x45;
        packet[18] = 1;
        assert_eq!(destination(&packet), None, "nor does another network");
        assert_eq!(destination(&packet[..19]), None);
    }
}
