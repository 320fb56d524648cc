//! What no honest client sends: noise, half-finished protocols, and calls whose messages are noise.

use std::time::Duration;

use bytes::Bytes;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic::{Request, Status};

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Per method.
const CALLS: usize = 4;

/// Noise from a seed (xorshift: Marsaglia, 2003).
pub struct Garbage {
    state: u64,
}

impl Garbage {
    pub fn new(seed: u64) -> Garbage {
        Garbage { state: seed.max(1) }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// Byte streams for a port of any kind.
    pub fn streams(&mut self) -> Vec<Vec<u8>> {
        let mut preface_and_noise = HTTP2_PREFACE.to_vec();
        preface_and_noise.extend(self.bytes(4096));
        // A settings frame that says it has 16 MiB, and has nothing.
        let mut long_frame = HTTP2_PREFACE.to_vec();
        long_frame.extend([0xff, 0xff, 0xff, 4, 0, 0, 0, 0, 0]);
        let header = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(1 << 20));
        vec![
            Vec::new(),
            vec![0],
            self.bytes(100),
            self.bytes(100_000),
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"POST /baton.v1.Baton/Submit HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n{".to_vec(),
            b"GET /../../etc/passwd HTTP/1.0\r\n\r\n".to_vec(),
            header.into_bytes(),
            HTTP2_PREFACE.to_vec(),
            preface_and_noise,
            long_frame,
            // The beginning of a TLS handshake.
            vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
        ]
    }

    /// Calls every method with messages that are noise, or almost messages.
    pub async fn call(&mut self, address: &str, methods: &[String]) {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let mut client = Grpc::new(endpoint.connect().await.expect("the port is open"));
        for method in methods {
            for call in 0..CALLS {
                let len = [0, 3, 60, 5_000][call % CALLS];
                let message = Bytes::from(self.bytes(len));
                let path = PathAndQuery::try_from(method.as_str()).expect("a path");
                if client.ready().await.is_err() {
                    client = Grpc::new(endpoint.connect().await.expect("the port is still open"));
                    client.ready().await.expect("a fresh connection is ready");
                }
                let request = Request::new(message);
                // Whatever comes back is fine, and a stream that says nothing is an answer too.
                let answer = client.server_streaming(request, path, Raw);
                let _ = tokio::time::timeout(Duration::from_millis(300), answer).await;
            }
        }
    }
}

/// Full names of the methods in a file under `proto/`.
pub fn methods(file: &str) -> Vec<String> {
    let path = format!("{}/../proto/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the file is there");
    let (mut package, mut service, mut methods) = (String::new(), String::new(), Vec::new());
    for line in text.lines() {
        let words: Vec<&str> =
            line.split(|c: char| " ;({".contains(c)).filter(|word| !word.is_empty()).collect();
        match words[..] {
            ["package", name, ..] => package = name.to_owned(),
            ["service", name, ..] => service = name.to_owned(),
            ["rpc", name, ..] => methods.push(format!("/{package}.{service}/{name}")),
            _ => {}
        }
    }
    methods
}

/// Bytes as they are.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        *self
    }

    fn decoder(&mut self) -> Raw {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put(buffer, item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = bytes::Buf::remaining(buffer);
        Ok(Some(bytes::Buf::copy_to_bytes(buffer, len)))
    }
}
