//! Says which of this end's addresses somebody has connected to: for names, each of which has an address of its own.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, TcpListener, TcpStream},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;

/// Accepts connections at every address, of both protocols, and prints the address that each came to, in their order,
/// until it is killed. Who asks as HTTP has it gets an empty answer.
#[derive(Debug, Args)]
pub struct Arrivals {
    #[arg(long)]
    port: u16,
}

impl Arrivals {
    pub fn run(&self) -> Result<ExitCode> {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, self.port))
            .with_context(|| format!("listen on port {}", self.port))?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "listening")?;
        for connection in listener.incoming() {
            // Who connected may be gone.
            if let Ok(at) = connection.and_then(serve) {
                writeln!(out, "{at}")?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn serve(mut connection: TcpStream) -> std::io::Result<IpAddr> {
    let at = connection.local_addr()?.ip().to_canonical();
    connection.set_read_timeout(Some(WORDS_MAX))?;
    // Whether it has words or not, it has come.
    if matches!(connection.read(&mut [0; 4096]), Ok(1..)) {
        drop(connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
    }
    Ok(at)
}

/// Time for a client to say what it wants.
const WORDS_MAX: Duration = Duration::from_secs(2);
