//! What a replica says of itself under `/metrics`.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fault::Fault;

/// The figures by name, those with labels under their whole name, of the replica with this HTTP port.
pub async fn scrape(port: u16) -> Result<BTreeMap<String, f64>, Fault> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(parse(&text))
}

fn parse(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| line.starts_with("baton_"));
    let figure = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    lines.filter_map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_with_their_labels() {
        let figures = parse("HTTP/1.1 200 OK\r\n\r\n# HELP baton_x X.\nbaton_x 3\nbaton_y{a=\"b c\"} 0.5\n");
        assert_eq!(figures["baton_x"], 3.0);
        assert_eq!(figures["baton_y{a=\"b c\"}"], 0.5);
        assert_eq!(figures.len(), 2);
    }
}
