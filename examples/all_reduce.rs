//! A member of a gang: adds up the ranks of all, as a parallel program adds up its parts.
//!
//! `baton run --gang 8 --retries 3 -- ./all_reduce` prints the sum, 28, once for each member.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

fn main() -> io::Result<()> {
    let own = |name: &str| std::env::var(name).map_err(|_| io::Error::other(format!("{name} is not set")));
    let number = |name: &str| own(name)?.parse::<u64>().map_err(io::Error::other);
    let (rank, size) = (number("RANK")?, number("WORLD_SIZE")?);
    let master = (own("MASTER_ADDR")?, u16::try_from(number("MASTER_PORT")?).map_err(io::Error::other)?);
    let sum = if rank == 0 { collect(size, &master)? } else { send(rank, &master)? };
    println!("rank {rank} of {size}: sum {sum}");
    Ok(())
}

/// Hears every other member, and tells each the sum.
fn collect(size: u64, master: &(String, u16)) -> io::Result<u64> {
    let listener = TcpListener::bind((master.0.as_str(), master.1))?;
    let mut others = Vec::new();
    let mut sum = 0;
    while (others.len() as u64) < size - 1 {
        let (stream, _) = listener.accept()?;
        sum += read(&stream)?;
        others.push(stream);
    }
    for mut other in others {
        writeln!(other, "{sum}")?;
    }
    Ok(sum)
}

/// The first member may come a little later than this one.
fn send(rank: u64, master: &(String, u16)) -> io::Result<u64> {
    let connect = || TcpStream::connect((master.0.as_str(), master.1));
    let mut tries = 0;
    let mut stream = loop {
        match connect() {
            Ok(stream) => break stream,
            Err(error) if tries == 300 => return Err(error),
            Err(_) => tries += 1,
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    writeln!(stream, "{rank}")?;
    read(&stream)
}

fn read(stream: &TcpStream) -> io::Result<u64> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    line.trim().parse().map_err(io::Error::other)
}
