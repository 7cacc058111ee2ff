//! Hears a guest out: its two output streams, its marks, its end.

use std::io::Read as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::marks::{Marks, Piece};
use super::qemu::Machine;
use super::{Cut, Failed};

/// Chunks that may wait for the reader before the guest has to.
const WAITING_CHUNKS_MAX: usize = 64;
/// How often a silent guest is looked after.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// Name of the stream's socket in the run's directory.
    pub fn socket(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

pub const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

pub struct Heard {
    pub status: i32,
    pub boot: Duration,
    /// It was not heard to its end: the power is to be cut.
    pub cut: bool,
}

/// Sockets that the machine connects its output ports to.
pub struct Listener {
    sockets: Vec<(Stream, UnixListener)>,
}

impl Listener {
    pub fn bind(place: &Path) -> Result<Self> {
        let bind = |stream: Stream| {
            let path = place.join(stream.socket());
            let socket =
                UnixListener::bind(&path).with_context(|| format!("listen at {}", path.display()))?;
            socket.set_nonblocking(true)?;
            Ok((stream, socket))
        };
        Ok(Self { sockets: STREAMS.into_iter().map(bind).collect::<Result<_>>()? })
    }

    /// Passes the output on until both streams are closed by a mark with the status.
    pub fn listen(
        self,
        machine: &mut Machine,
        word: &str,
        timeout: Option<Duration>,
        cut: Option<Cut>,
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Heard> {
        let start = Instant::now();
        let (sender, receiver) = sync_channel(WAITING_CHUNKS_MAX);
        for (stream, socket) in self.sockets {
            let connection = accept(&socket, machine, start, timeout)?;
            let sender = sender.clone();
            std::thread::spawn(move || read(stream, connection, &sender));
        }
        drop(sender);

        let mut marks = STREAMS.map(|_| Marks::new(word));
        let mut ends = STREAMS.map(|_| None);
        let mut boot = None;
        let mut cut =
            cut.map(|cut| Due { cut, at: cut.word.is_none().then(|| start + cut.after), line: Vec::new() });
        while ends.iter().any(Option::is_none) {
            if cut.as_ref().and_then(|cut| cut.at).is_some_and(|at| Instant::now() >= at) {
                return Ok(Heard { status: 0, boot: boot.unwrap_or_else(|| start.elapsed()), cut: true });
            }
            let Some((stream, bytes)) = next(&receiver, start, timeout, machine, boot.is_some())? else {
                continue;
            };
            for piece in marks[stream as usize].feed(&bytes) {
                match piece {
                    Piece::Data(data) => {
                        cut.iter_mut().for_each(|cut| cut.hear(&data));
                        sink(stream, &data);
                    }
                    Piece::Mark(told) if told == "start" => boot = Some(start.elapsed()),
                    Piece::Mark(told) => ends[stream as usize] = Some(told.parse().unwrap_or(1)),
                }
            }
        }
        Ok(Heard { status: ends[0].unwrap_or(1), boot: boot.unwrap_or_else(|| start.elapsed()), cut: false })
    }
}

/// A power cut that waits for its word, and then for its time.
struct Due {
    cut: Cut,
    at: Option<Instant>,
    line: Vec<u8>,
}

impl Due {
    fn hear(&mut self, data: &[u8]) {
        for byte in data {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let said = self.cut.word.is_some_and(|word| self.line.starts_with(word.as_bytes()));
            if said && self.at.is_none() {
                self.at = Some(Instant::now() + self.cut.after);
            }
            self.line.clear();
        }
    }
}

fn accept(
    socket: &UnixListener,
    machine: &mut Machine,
    start: Instant,
    timeout: Option<Duration>,
) -> Result<UnixStream> {
    loop {
        if let Ok((connection, _)) = socket.accept() {
            connection.set_nonblocking(false)?;
            return Ok(connection);
        }
        if let Some(status) = machine.ended()? {
            return Err(machine.failed(false, false, &format!("qemu did not start ({status})")).into());
        }
        if timeout.is_some_and(|timeout| start.elapsed() > timeout) {
            return Err(machine.failed(true, false, "qemu did not start in time").into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn read(stream: Stream, mut connection: UnixStream, sender: &SyncSender<(Stream, Vec<u8>)>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = connection.read(&mut buffer) {
        if sender.send((stream, buffer[..count].to_vec())).is_err() {
            return;
        }
    }
}

/// The next chunk; none if there was nothing for a while; an error if there will be none.
fn next(
    receiver: &Receiver<(Stream, Vec<u8>)>,
    start: Instant,
    timeout: Option<Duration>,
    machine: &mut Machine,
    booted: bool,
) -> Result<Option<(Stream, Vec<u8>)>, Failed> {
    if let Some(timeout) = timeout.filter(|timeout| start.elapsed() > *timeout) {
        let what = if booted { "the script did not end" } else { "the guest did not get to the script" };
        return Err(machine.failed(true, booted, &format!("{what} within {} s", timeout.as_secs())));
    }
    match receiver.recv_timeout(LOOK_INTERVAL) {
        Ok(chunk) => Ok(Some(chunk)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => {
            let what =
                if booted { "the guest ended before the script did" } else { "the guest did not boot" };
            Err(machine.failed(false, booted, what))
        }
    }
}
