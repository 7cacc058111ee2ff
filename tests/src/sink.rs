//! The other end of a sink by HTTP or syslog: keeps each record that it takes, one a line, and is there to be killed.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
};

use anyhow::{Context as _, Result};
use clap::Args;
use flate2::read::GzDecoder;

/// Takes events by HTTP, or as syslog.
#[derive(Debug, Args)]
pub struct Sink {
    /// Where it listens.
    at: SocketAddr,
    /// Where records are kept.
    kept: PathBuf,
    /// Messages of syslog with their length before them (RFC 6587).
    #[arg(long)]
    syslog: bool,
}

impl Sink {
    pub fn run(self) -> Result<ExitCode> {
        // One that was killed may have left half a line.
        if let Ok(kept) = File::options().write(true).open(&self.kept) {
            let text = std::fs::read(&self.kept)?;
            kept.set_len(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end as u64 + 1))?;
        }
        let listener = TcpListener::bind(self.at).context("listen")?;
        for stream in listener.incoming() {
            let (stream, kept) = (stream?, self.kept.clone());
            thread::spawn(move || {
                let served = if self.syslog { messages(&stream, &kept) } else { batches(&stream, &kept) };
                if let Err(error) = served {
                    eprintln!("sink: {error:#}");
                }
            });
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Batch by batch, until the connection is closed.
fn batches(stream: &TcpStream, kept: &Path) -> Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(bytes) = head(&mut reader)? {
        let mut body = vec![0; bytes];
        reader.read_exact(&mut body).context("read a body")?;
        let mut records = Vec::new();
        GzDecoder::new(body.as_slice()).read_to_end(&mut records).context("unpack it")?;
        keep(kept, &records)?;
        (&*stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
    Ok(())
}

/// Message by message, until the connection is closed; of each the event, which stands behind its byte order mark.
fn messages(stream: &TcpStream, kept: &Path) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut length = Vec::new();
    while reader.read_until(b' ', &mut length)? > 0 {
        let bytes: u64 = String::from_utf8_lossy(&length).trim().parse().context("a length that is none")?;
        length.clear();
        let mut message = String::new();
        (&mut reader).take(bytes).read_to_string(&mut message)?;
        let (_, event) = message.split_once('\u{feff}').context("a message without an event")?;
        keep(kept, format!("{event}\n").as_bytes())?;
    }
    Ok(())
}

fn keep(kept: &Path, records: &[u8]) -> Result<()> {
    let mut file = File::options().create(true).append(true).open(kept)?;
    file.write_all(records)?;
    file.sync_data().context("keep records")
}

/// Reads up to the body, whose length it answers.
fn head(reader: &mut impl BufRead) -> Result<Option<usize>> {
    let mut bytes = None;
    let mut lines = reader.lines();
    while let Some(line) = lines.next().transpose()? {
        if line.is_empty() {
            return Ok(bytes);
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            bytes = Some(value.trim().parse().context("a length that is none")?);
        }
    }
    Ok(None)
}
