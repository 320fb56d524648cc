//! One stream to one replica: connects, carries words out and what is heard in.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::sync::mpsc;
use tonic::transport::Endpoint;
use wire::v1;
use wire::v1::workers_client::WorkersClient;

use crate::convert::{Heard, heard};

const CONNECT_MAX: Duration = Duration::from_secs(2);
/// An order carries its spec with the files in it, and a line per task.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Chunks of output on their way.
const CHUNKS_MAX: usize = 16;

#[derive(Debug)]
pub enum News {
    /// Words may be sent.
    Up,
    Heard(Heard),
    /// The last news.
    Down {
        why: String,
    },
}

/// The sending side. What is said goes before output.
#[derive(Clone, Debug)]
pub struct Speaker {
    pub words: mpsc::UnboundedSender<v1::WorkerMessage>,
    pub chunks: mpsc::Sender<v1::WorkerMessage>,
}

/// What the speaker says.
pub struct Speech {
    words: mpsc::UnboundedReceiver<v1::WorkerMessage>,
    chunks: mpsc::Receiver<v1::WorkerMessage>,
}

pub fn speech() -> (Speaker, Speech) {
    let (words, words_out) = mpsc::unbounded_channel();
    let (chunks, chunks_out) = mpsc::channel(CHUNKS_MAX);
    (Speaker { words, chunks }, Speech { words: words_out, chunks: chunks_out })
}

impl Stream for Speech {
    type Item = v1::WorkerMessage;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<v1::WorkerMessage>> {
        // Ends when nobody may say anything more; chunks without words are of no use.
        match self.words.poll_recv(context) {
            Poll::Ready(word) => Poll::Ready(word),
            Poll::Pending => match self.chunks.poll_recv(context) {
                Poll::Ready(Some(chunk)) => Poll::Ready(Some(chunk)),
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            },
        }
    }
}

/// Runs the stream to its end.
pub async fn attach(address: String, speech: Speech, tell: impl Fn(News)) {
    let why = match run(&address, speech, &tell).await {
        Ok(()) => "the stream ended".to_owned(),
        Err(why) => why,
    };
    tell(News::Down { why });
}

async fn run(address: &str, speech: Speech, tell: &impl Fn(News)) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(in_words)?;
    let endpoint = endpoint.connect_timeout(CONNECT_MAX).tcp_nodelay(true);
    let channel = endpoint.connect().await.map_err(in_words)?;
    let mut client = WorkersClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    // Before the reply, which a server may give only after the hello.
    tell(News::Up);
    let mut stream = client.attach(speech).await.map_err(in_words)?.into_inner();
    while let Some(said) = stream.message().await.map_err(in_words)? {
        if let Some(heard) = heard(said) {
            tell(News::Heard(heard));
        }
    }
    Ok(())
}

/// With its causes: tonic's own text says little.
fn in_words(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
