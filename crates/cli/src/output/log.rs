//! Output of tasks on its way to the user: from several at once, beside a progress bar, or as JSON.

use std::cell::Cell;
use std::io::Write;

use client::{LogChunk, LogStream};
use model::TaskId;

use super::progress::Progress;
use super::{Face, Format};
use crate::fault::Fault;

/// Where all of it goes.
pub struct Output<'a> {
    face: &'a Face,
    progress: &'a Progress,
    only: Option<LogStream>,
    format: Format,
    /// Items of a JSON list that are printed.
    items: Cell<u64>,
}

impl<'a> Output<'a> {
    /// As the tasks wrote it, whatever format was asked for.
    pub fn raw(face: &'a Face, progress: &'a Progress) -> Output<'a> {
        Output { face, progress, only: None, format: Format::Table, items: Cell::new(0) }
    }

    /// In the asked format; of one stream or both.
    pub fn of(face: &'a Face, progress: &'a Progress, only: Option<LogStream>) -> Output<'a> {
        Output { face, progress, only, format: face.format, items: Cell::new(0) }
    }

    pub fn printer(&'a self, task: TaskId, prefix: Option<String>) -> Printer<'a> {
        // Half a line beside a bar would be drawn over.
        let prefix = prefix.or_else(|| self.progress.is_shown().then(String::new));
        Printer { out: self, task, prefix, rest: [Vec::new(), Vec::new()] }
    }

    pub fn note(&self, text: &str) {
        self.progress.aside(|| self.face.note(text));
    }

    /// Closes the list, where it is one.
    pub fn finish(&self) -> Result<(), Fault> {
        if self.format != Format::Json {
            return Ok(());
        }
        let open = if self.items.get() == 0 { "{\"items\":[" } else { "\n" };
        self.face.print(&format!("{open}],\"next\":null}}\n"))
    }

    fn item(&self, line: &str) -> Result<(), Fault> {
        if self.format == Format::Jsonl {
            return self.face.print(&format!("{line}\n"));
        }
        let before = if self.items.get() == 0 { "{\"items\":[\n" } else { ",\n" };
        self.items.set(self.items.get() + 1);
        self.face.print(&format!("{before}{line}"))
    }

    fn write(&self, stream: LogStream, bytes: &[u8]) -> Result<(), Fault> {
        self.progress.aside(|| match stream {
            LogStream::Stdout => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(bytes)?;
                Ok(stdout.flush()?)
            }
            LogStream::Stderr => Ok(std::io::stderr().lock().write_all(bytes)?),
        })
    }
}

/// Prints the output of one attempt; with a prefix only whole lines, so that those of different tasks do not mix.
pub struct Printer<'a> {
    out: &'a Output<'a>,
    task: TaskId,
    prefix: Option<String>,
    rest: [Vec<u8>; 2],
}

impl Printer<'_> {
    pub fn print(&mut self, chunk: &LogChunk) -> Result<(), Fault> {
        let is_wanted = self.out.only.is_none_or(|only| only == chunk.stream) && !chunk.data.is_empty();
        if self.out.format.is_machine() {
            let is_news = is_wanted || !chunk.note.is_empty();
            return if is_news { self.out.item(&json_line(self.task, chunk, is_wanted)) } else { Ok(()) };
        }
        if is_wanted {
            self.lines(chunk)?;
        }
        if !chunk.note.is_empty() {
            self.out.note(&format!("({}: {})", self.task, chunk.note));
        }
        Ok(())
    }

    fn lines(&mut self, chunk: &LogChunk) -> Result<(), Fault> {
        let Some(prefix) = &self.prefix else { return self.out.write(chunk.stream, &chunk.data) };
        let rest = &mut self.rest[chunk.stream as usize];
        rest.extend_from_slice(&chunk.data);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let whole: Vec<u8> = rest.drain(..=end).collect();
        self.out.write(chunk.stream, &prefixed(prefix, &whole))
    }

    /// Writes what had no line end.
    pub fn finish(&mut self) -> Result<(), Fault> {
        let Some(prefix) = &self.prefix else { return Ok(()) };
        for (stream, rest) in [LogStream::Stdout, LogStream::Stderr].into_iter().zip(&mut self.rest) {
            if !rest.is_empty() {
                let mut line = prefixed(prefix, &std::mem::take(rest));
                line.push(b'\n');
                self.out.write(stream, &line)?;
            }
        }
        Ok(())
    }
}

fn json_line(task: TaskId, chunk: &LogChunk, with_data: bool) -> String {
    let stream = match chunk.stream {
        LogStream::Stdout => "stdout",
        LogStream::Stderr => "stderr",
    };
    let data: &[u8] = if with_data { &chunk.data } else { &[] };
    let line = serde_json::json!({
        "task": task, "attempt": chunk.attempt, "stream": stream, "offset": chunk.offset,
        "text": String::from_utf8_lossy(data), "note": chunk.note,
    });
    line.to_string()
}

fn prefixed(prefix: &str, lines: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(lines.len() + 64);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        text.extend_from_slice(prefix.as_bytes());
        text.extend_from_slice(line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: TaskId = TaskId { job: model::JobId(1), number: 0 };

    fn chunk(data: &[u8], note: &str) -> LogChunk {
        LogChunk {
            stream: LogStream::Stderr,
            offset: 0,
            data: data.to_vec(),
            note: note.to_owned(),
            end: false,
            attempt: 1,
        }
    }

    #[test]
    fn every_line_gets_the_name_of_its_task() {
        assert_eq!(prefixed("[a] ", b"x\ny\n"), b"[a] x\n[a] y\n");
        let (face, progress) = (Face::plain(Format::Table), Progress::none());
        let out = Output::of(&face, &progress, None);
        let mut printer = out.printer(TASK, Some("[a] ".to_owned()));
        printer.print(&chunk(b"half", "")).unwrap();
        assert_eq!(printer.rest[LogStream::Stderr as usize], b"half");
        assert!(printer.rest[LogStream::Stdout as usize].is_empty());
    }

    #[test]
    fn of_the_other_stream_only_notes_are_told() {
        let (face, progress) = (Face::plain(Format::Json), Progress::none());
        let out = Output::of(&face, &progress, Some(LogStream::Stdout));
        let mut printer = out.printer(TASK, None);
        printer.print(&chunk(b"err", "")).unwrap();
        assert_eq!(out.items.get(), 0);
        let line = json_line(TASK, &chunk(b"err", "the worker is gone"), false);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["text"], &line["note"]), (&"".into(), &"the worker is gone".into()));
    }
}
