//! The other end of an HTTP sink: keeps each record that it acknowledges, one a line, and is there to be killed.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
};

use anyhow::{Context as _, Result};
use clap::Args;
use flate2::read::GzDecoder;

/// Takes batches of events by HTTP.
#[derive(Debug, Args)]
pub struct Sink {
    /// Port of 127.0.0.1.
    port: u16,
    /// Where records are kept.
    kept: PathBuf,
}

impl Sink {
    pub fn run(self) -> Result<ExitCode> {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).context("listen")?;
        for stream in listener.incoming() {
            let (stream, kept) = (stream?, self.kept.clone());
            thread::spawn(move || {
                if let Err(error) = serve(&stream, &kept) {
                    eprintln!("sink: {error:#}");
                }
            });
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Batch by batch, until the connection is closed.
fn serve(stream: &TcpStream, kept: &Path) -> Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(bytes) = head(&mut reader)? {
        let mut body = vec![0; bytes];
        reader.read_exact(&mut body).context("read a body")?;
        let mut records = Vec::new();
        GzDecoder::new(body.as_slice()).read_to_end(&mut records).context("unpack it")?;
        let mut file = File::options().create(true).append(true).open(kept)?;
        file.write_all(&records)?;
        file.sync_data()?;
        (&*stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
    Ok(())
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
