//! systemd's journal, by its own protocol: one datagram an event, fields of `KEY=value` or with a length before the value
//! (systemd's "Native Journal Protocol").

use std::{
    io::{IoSlice, Write as _},
    os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg},
    },
};
use tokio::{io::Interest, net::UnixDatagram};

use super::{
    Record,
    syslog::{field, printable},
};

pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Its sends wait by themselves: while journald is stopped and its queue is full, the other sinks go on.
pub struct Journald {
    socket: UnixDatagram,
}

impl Journald {
    pub fn connect(path: &Path) -> Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path).with_context(|| format!("connect to {}", path.display()))?;
        Ok(Self { socket })
    }

    pub async fn send(&mut self, batch: &[Record]) -> Result<()> {
        for record in batch {
            let message = fields(record);
            match self.socket.send(&message).await {
                Ok(_) => {}
                // Too long for a datagram: as a file, as the protocol has it.
                Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {
                    self.send_file(&message).await?
                }
                Err(error) => return Err(error).context("send to journald"),
            }
        }
        Ok(())
    }

    async fn send_file(&self, message: &[u8]) -> Result<()> {
        let descriptor = memfd_create(c"chaperone", MFdFlags::MFD_ALLOW_SEALING)?;
        // SAFETY: the descriptor was just made and is handed over.
        let mut file = unsafe { std::fs::File::from_raw_fd(descriptor.into_raw_fd()) };
        file.write_all(message)?;
        nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_ADD_SEALS(nix::fcntl::SealFlag::all()))?;
        let (descriptors, to) = ([file.as_raw_fd()], self.socket.as_raw_fd());
        let send = || {
            let rights = [ControlMessage::ScmRights(&descriptors)];
            Ok(sendmsg::<UnixAddr>(to, &[IoSlice::new(&[])], &rights, MsgFlags::empty(), None)?)
        };
        self.socket.async_io(Interest::WRITABLE, send).await.context("send a file to journald")?;
        Ok(())
    }
}

fn fields(record: &Record) -> Vec<u8> {
    let mut out = Vec::with_capacity(record.line.len() + 128);
    let _ = write!(
        out,
        "SYSLOG_IDENTIFIER=chaperone\nPRIORITY={}\nCHAPERONE_SEQ={}\n",
        record.severity.syslog(),
        record.seq
    );
    for (name, key) in [("KIND", "kind"), ("VERDICT", "verdict")] {
        if let Some(word) = field(&record.line, key) {
            let _ = writeln!(out, "CHAPERONE_{name}={}", printable(word, 32));
        }
    }
    // No form has a line end within a record.
    out.extend_from_slice(b"MESSAGE=");
    out.extend_from_slice(record.text());
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn record(seq: u64, bytes: usize) -> Record {
        let text = "x".repeat(bytes);
        Record::new(seq, format!("{{\"kind\":\"a\",\"verdict\":\"deny\",\"b\":\"{text}\"}}").into())
    }

    #[tokio::test]
    async fn each_record_is_a_datagram_and_a_long_one_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut journald = Journald::connect(&path).unwrap();
        journald.send(&[record(4, 3)]).await.unwrap();
        let mut buffer = vec![0; 4096];
        let read = server.recv(&mut buffer).await.unwrap();
        let text = std::str::from_utf8(&buffer[..read]).unwrap();
        assert_eq!(
            text,
            "SYSLOG_IDENTIFIER=chaperone\nPRIORITY=6\nCHAPERONE_SEQ=4\nCHAPERONE_KIND=a\nCHAPERONE_VERDICT=deny\n\
             MESSAGE={\"kind\":\"a\",\"verdict\":\"deny\",\"b\":\"xxx\"}\n"
        );
        journald.send(&[record(4, 1 << 20)]).await.unwrap();
        assert_eq!(server.recv(&mut buffer).await.unwrap(), 0, "the file comes beside an empty datagram");
    }

    #[tokio::test]
    async fn one_that_reads_nothing_holds_up_nobody_and_gets_all_when_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut journald = Journald::connect(&path).unwrap();
        let batch: Vec<Record> = (0..5_000).map(|seq| record(seq, 10)).collect();
        let sending = tokio::spawn(async move { journald.send(&batch).await });
        // A send that blocked would take the thread, and this sleep with it.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!sending.is_finished(), "there is room for everything");
        let mut buffer = vec![0; 4096];
        for seq in 0..5_000 {
            let read = server.recv(&mut buffer).await.unwrap();
            let wanted = format!("CHAPERONE_SEQ={seq}\n");
            assert!(std::str::from_utf8(&buffer[..read]).unwrap().contains(&wanted));
        }
        sending.await.unwrap().unwrap();
    }
}
