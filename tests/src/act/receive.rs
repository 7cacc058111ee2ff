//! The receiving end: listens on everything the ways can reach, and writes down what came.
//!
//! It runs outside of every agent, so it is also the outsider who lends sockets and dials in.

mod arrival;
mod sockets;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    net::{Ipv4Addr, Ipv6Addr, TcpStream},
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::fs::PermissionsExt,
    },
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};

use self::{
    arrival::{accept, receive},
    sockets::sockets,
};
use crate::act::{
    SiteArgs,
    capture::{Capture, Watch},
    ctx::{MULTICAST_V4, Site, token_in},
    passed::send_fd,
    sys::{self, Addr, Refused, errno_name},
};

/// Listens on everything that the ways can reach and logs what comes (packets only with CAP_NET_RAW).
#[derive(Debug, Args)]
pub struct Receive {
    /// Append one JSON line for each packet, connection and message
    #[arg(long)]
    log: PathBuf,
    /// Write what is listened on, once all of it is
    #[arg(long)]
    ready: Option<PathBuf>,
    /// Also log packets to ADDR, ADDR:PORT or :PORT (the receiver's own port always)
    #[arg(long)]
    watch: Vec<Watch>,
    #[command(flatten)]
    site: SiteArgs,
}

/// One thing that came.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    /// CLOCK_MONOTONIC, as in an act's report.
    pub t_ns: u64,
    pub what: String,
    pub from: Option<String>,
    pub to: Option<String>,
    pub token: Option<String>,
    pub bytes: usize,
    pub protocol: Option<String>,
    /// TCP flags or ICMP type.
    pub detail: Option<u8>,
    pub interface: Option<u32>,
    /// The kernel's own answer to something else (an ICMP error, an echo reply): no act.
    #[serde(default)]
    pub answer: bool,
}

impl Line {
    pub fn of(what: &str) -> Self {
        Self {
            t_ns: sys::now_ns(),
            what: what.to_owned(),
            from: None,
            to: None,
            token: None,
            bytes: 0,
            protocol: None,
            detail: None,
            interface: None,
            answer: false,
        }
    }
}

pub struct Log(File);

impl Log {
    pub fn write(&mut self, line: &Line) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        // One write each, so that a reader never sees half a line.
        self.0.write_all(&text).context("write the log")
    }
}

/// What waits behind a descriptor.
enum Port {
    Listener(&'static str),
    Connection(&'static str),
    Datagrams(&'static str),
    Lender,
    Borrower,
    Capture(Capture),
}

impl Receive {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).context("open the log")?;
        let site = self.site.site();
        let mut receiver = Receiver { log: Log(log), ports: BTreeMap::new(), site };
        let ready = receiver.open_all(self.watch)?;
        if let Some(path) = self.ready {
            let text = serde_json::to_string(&ready)?;
            // Renamed into place: who waits for the file finds it whole.
            let part = path.with_extension("part");
            fs::write(&part, text).and_then(|()| fs::rename(&part, &path)).context("write the ready file")?;
        }
        loop {
            receiver.turn()?;
        }
    }
}

/// What the ready file tells.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Ready {
    pub listening: Vec<String>,
    pub missing: BTreeMap<String, String>,
}

struct Receiver {
    log: Log,
    ports: BTreeMap<RawFd, (Option<OwnedFd>, Port)>,
    site: Site,
}

impl Receiver {
    fn open_all(&mut self, mut watches: Vec<Watch>) -> anyhow::Result<Ready> {
        let directory = self.site.dir();
        // What a former receiver left behind would refuse the bind.
        drop(fs::remove_dir_all(&directory));
        fs::create_dir_all(&directory).context("make the socket directory")?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777))?;
        // The port behind it is where encapsulating devices send.
        watches.push(Watch { address: None, port: Some(self.site.port) });
        watches.push(Watch { address: None, port: self.site.port.checked_add(1) });
        watches.push(Watch { address: Some(Ipv4Addr::LOCALHOST.into()), port: Some(self.site.port) });
        watches.push(Watch { address: Some(Ipv6Addr::LOCALHOST.into()), port: Some(self.site.port) });
        watches.push(Watch { address: Some(MULTICAST_V4.into()), port: None });
        let mut ready = Ready::default();
        for (name, opened) in sockets(&self.site) {
            match opened {
                Ok((fd, port)) => self.add(name, fd, port, &mut ready),
                Err(refused) => drop(ready.missing.insert(name.to_owned(), errno_name(refused.errno))),
            }
        }
        match Capture::open(watches) {
            Ok(capture) => {
                ready.listening.push("packet".to_owned());
                self.ports.insert(capture.socket.as_raw_fd(), (None, Port::Capture(capture)));
            }
            Err(refused) => drop(ready.missing.insert("packet".to_owned(), errno_name(refused.errno))),
        }
        for entry in fs::read_dir(&directory)? {
            fs::set_permissions(entry?.path(), fs::Permissions::from_mode(0o777))?;
        }
        Ok(ready)
    }

    fn add(&mut self, name: &str, fd: OwnedFd, port: Port, ready: &mut Ready) {
        ready.listening.push(name.to_owned());
        self.ports.insert(fd.as_raw_fd(), (Some(fd), port));
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        let mut polls: Vec<_> =
            self.ports.keys().map(|fd| libc::pollfd { fd: *fd, events: libc::POLLIN, revents: 0 }).collect();
        // SAFETY: as many entries as told.
        unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, -1) };
        for poll in polls.iter().filter(|poll| poll.revents != 0) {
            self.serve(poll.fd)?;
        }
        Ok(())
    }

    fn serve(&mut self, fd: RawFd) -> anyhow::Result<()> {
        let Some((_, port)) = self.ports.get(&fd) else { return Ok(()) };
        match port {
            Port::Capture(capture) => capture.drain(&mut self.log),
            Port::Datagrams(name) => {
                let name = *name;
                let Some((bytes, from)) = receive(fd) else { return Ok(()) };
                self.log.write(&Line { token: token_in(&bytes), from, bytes: bytes.len(), ..Line::of(name) })
            }
            Port::Listener(name) => {
                let name = *name;
                let Some((connection, from)) = accept(fd) else { return Ok(()) };
                self.log.write(&Line { from, ..Line::of(&format!("{name}-accept")) })?;
                self.keep(connection, Port::Connection(name));
                Ok(())
            }
            Port::Connection(name) => {
                let name = *name;
                let got = receive(fd);
                self.ports.remove(&fd);
                let Some((bytes, from)) = got.filter(|(bytes, _)| !bytes.is_empty()) else { return Ok(()) };
                self.log.write(&Line { token: token_in(&bytes), from, bytes: bytes.len(), ..Line::of(name) })
            }
            Port::Lender => {
                if let Some((connection, _)) = accept(fd) {
                    self.keep(connection, Port::Borrower);
                }
                Ok(())
            }
            Port::Borrower => {
                let request = receive(fd).map(|(bytes, _)| String::from_utf8_lossy(&bytes).trim().to_owned());
                let borrower = self.ports.remove(&fd).and_then(|(fd, _)| fd);
                if let (Some(borrower), Some(request)) = (borrower, request) {
                    self.help(&borrower, &request);
                }
                Ok(())
            }
        }
    }

    fn keep(&mut self, connection: OwnedFd, port: Port) {
        if self.ports.len() < PORTS_MAX {
            self.ports.insert(connection.as_raw_fd(), (Some(connection), port));
        }
    }

    /// What the outsider does for who asks: make a socket and hand it over, or dial in.
    fn help(&mut self, borrower: &OwnedFd, request: &str) {
        if let Some(at) = request.strip_prefix("dial ") {
            let dialled =
                at.parse().ok().and_then(|at| TcpStream::connect_timeout(&at, Duration::from_secs(2)).ok());
            if let Some(dialled) = dialled {
                self.keep(dialled.into(), Port::Connection("dialled"));
            }
            return;
        }
        if let Ok(socket) = self.make(request) {
            drop(send_fd(borrower, &socket));
        }
    }

    fn make(&self, kind: &str) -> Result<OwnedFd, Refused> {
        let home = Addr::v4(self.site.v4());
        match kind {
            "tcp4" => sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0),
            "udp4" => sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0),
            "tcp4-connected" | "udp4-connected" => {
                let kind = if kind.starts_with("tcp") { libc::SOCK_STREAM } else { libc::SOCK_DGRAM };
                let socket = sys::socket(libc::AF_INET, kind, 0)?;
                sys::connect(&socket, &home)?;
                Ok(socket)
            }
            "raw4" => sys::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_UDP),
            "packet" => sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0),
            _ => Err(Refused::new("lend", libc::EINVAL)),
        }
    }
}

/// Connections that say nothing are not collected without end.
const PORTS_MAX: usize = 2048;
