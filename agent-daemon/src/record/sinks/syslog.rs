//! Syslog: RFC 5424 messages over UDP (RFC 5426), over TCP with their length before them (RFC 6587), or over TLS (RFC 5425).

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    net::UdpSocket,
};

use super::{
    Record,
    socket::Progress,
    tls::{self, Stream},
};
use crate::config::sinks::Over;

pub enum Syslog {
    Udp(UdpSocket),
    Stream {
        write: WriteHalf<Box<dyn Stream>>,
        /// Whether the other end has closed: it never says anything.
        closed: tokio::task::JoinHandle<String>,
        progress: Progress,
    },
}

impl Syslog {
    pub async fn connect(over: Over, host: &str, port: u16, ca: Option<&Path>) -> Result<Self> {
        if over == Over::Udp {
            let addresses = tokio::net::lookup_host((host, port)).await?;
            let address = addresses.into_iter().next().with_context(|| format!("{host} has no address"))?;
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(address).await?;
            return Ok(Self::Udp(socket));
        }
        let (stream, progress) = tls::connect(host, port, over == Over::Tls, ca).await?;
        let (read, write) = tokio::io::split(stream);
        Ok(Self::Stream { write, closed: tokio::spawn(until_closed(read)), progress })
    }

    /// How far what was sent has come, where there is a connection.
    pub fn progress(&self) -> Option<&Progress> {
        match self {
            Self::Stream { progress, .. } => Some(progress),
            Self::Udp(_) => None,
        }
    }

    pub fn check(&mut self) -> Result<()> {
        match self {
            Self::Stream { closed, .. } if closed.is_finished() => {
                bail!("the other end has closed the connection")
            }
            _ => Ok(()),
        }
    }

    pub async fn send(&mut self, batch: &[Record]) -> Result<()> {
        match self {
            Self::Udp(socket) => {
                for record in batch {
                    match socket.send(&message(record)).await {
                        Ok(_) => {}
                        // Longer than a datagram can be: the beginning, which says what it is.
                        Err(error) if error.raw_os_error() == Some(nix::libc::EMSGSIZE) => {
                            socket
                                .send(message(record).get(..DATAGRAM_BYTES_MAX).unwrap_or_default())
                                .await?;
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            Self::Stream { write, .. } => {
                let mut bytes = Vec::new();
                for record in batch {
                    let message = message(record);
                    bytes.extend_from_slice(format!("{} ", message.len()).as_bytes());
                    bytes.extend_from_slice(&message);
                }
                write.write_all(&bytes).await?;
                write.flush().await?;
            }
        }
        Ok(())
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        // It holds the connection, which else stayed open.
        if let Self::Stream { closed, .. } = self {
            closed.abort();
        }
    }
}

async fn until_closed(mut read: ReadHalf<Box<dyn Stream>>) -> String {
    let mut ignored = [0; 512];
    loop {
        match read.read(&mut ignored).await {
            Ok(0) => return "closed".to_owned(),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}

/// `<PRI>1 TIME HOST chaperone - KIND [chaperone@32473 seq="N"] JSON`: the time and the host are the record's own.
fn message(record: &Record) -> Vec<u8> {
    let text = |key: &str| field(&record.line, key).unwrap_or("-");
    // RFC 5424 takes microseconds at most.
    let time = text("time");
    let time = time.get(..26).map_or_else(|| "-".to_owned(), |time| format!("{time}Z"));
    let mut head = String::with_capacity(128);
    let _ = write!(
        head,
        "<{}>1 {time} {} chaperone - {} [chaperone@{ENTERPRISE} seq=\"{}\"] ",
        FACILITY * 8 + record.severity.syslog(),
        printable(text("host"), 255),
        printable(text("kind"), 32),
        record.seq
    );
    let mut message = head.into_bytes();
    // UTF-8, and said so.
    message.extend_from_slice("\u{feff}".as_bytes());
    message.extend_from_slice(record.text());
    message
}

/// Visible ASCII without spaces, as header fields are.
pub fn printable(text: &str, max: usize) -> String {
    let kept: String = text.chars().filter(char::is_ascii_graphic).take(max).collect();
    if kept.is_empty() { "-".to_owned() } else { kept }
}

/// A text of the line's own fields, which stand before all that holds others.
pub fn field<'a>(line: &'a [u8], key: &str) -> Option<&'a str> {
    let wanted = format!("\"{key}\":\"");
    let head = line.get(..HEAD_BYTES.min(line.len()))?;
    let at = head.windows(wanted.len()).position(|w| w == wanted.as_bytes())? + wanted.len();
    let end = line[at..].iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(&line[at..at + end]).ok()
}

/// log audit (RFC 5424, table 1).
const FACILITY: u8 = 13;
/// The number for examples (RFC 5612): there is none of our own.
const ENTERPRISE: u32 = 32473;
/// time, seq, kind, host, boot id and verdict lie within.
const HEAD_BYTES: usize = 512;
/// What an IPv4 datagram takes.
const DATAGRAM_BYTES_MAX: usize = 65_507;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::severity::Severity;

    const LINE: &str = r#"{"time":"2026-01-31T12:00:00.123456789Z","seq":7,"kind":"net_connect","host":"h 1","boot_id":"b","verdict":"deny","comm":"x"}"#;

    #[test]
    fn a_message_is_as_rfc_5424_has_it() {
        let record = Record { severity: Severity::Medium, ..Record::new(7, LINE.into()) };
        let text = String::from_utf8(message(&record)).unwrap();
        let wanted = "<108>1 2026-01-31T12:00:00.123456Z h1 chaperone - net_connect [chaperone@32473 seq=\"7\"] \u{feff}{";
        assert!(text.starts_with(wanted), "{text}");
        assert!(text.ends_with(LINE));
    }
}
