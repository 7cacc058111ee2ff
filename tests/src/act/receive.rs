//! The receiving end: listens on everything the ways can reach, and writes down what came.
//!
//! It runs outside of every agent, so it is also the outsider who lends sockets and dials in.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream},
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::{ffi::OsStrExt, fs::PermissionsExt},
    },
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::act::{
    SiteArgs,
    capture::{Capture, Watch},
    ctx::{self, MULTICAST_V4, MULTICAST_V6, NETLINK_GROUP, Site, token_in},
    family::{AF_RDS, AF_TIPC, tipc_service},
    passed::send_fd,
    sctp::{DCCP_SERVICE, DCCP_SOCKOPT_SERVICE, IPPROTO_DCCP, SOCK_DCCP, SOL_DCCP},
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

type Opened = Result<(OwnedFd, Port), Refused>;

fn sockets(site: &Site) -> Vec<(&'static str, Opened)> {
    let port = site.port;
    let any4 = Addr::v4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
    let any6 = Addr::v6(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0));
    let vsock = Addr::vsock(u32::MAX, port.into());
    let path = |kind: &str| Addr::unix_path(site.unix(kind).as_os_str().as_bytes());
    let named = |kind: &str| Addr::unix_abstract(site.abstract_name(kind).as_bytes());
    let (stream, packets) = (libc::SOCK_STREAM, libc::SOCK_SEQPACKET);
    let listener =
        |name, family, kind, protocol, at: &Addr| (name, listener(name, family, kind, protocol, at));
    let datagrams =
        |name, family, kind, protocol, at: &Addr| (name, datagrams(name, family, kind, protocol, at));
    let home = Addr::v4(site.v4());
    vec![
        listener("tcp4", libc::AF_INET, stream, 0, &any4),
        listener("tcp6", libc::AF_INET6, stream, 0, &any6),
        listener("sctp4", libc::AF_INET, stream, libc::IPPROTO_SCTP, &any4),
        listener("sctp6", libc::AF_INET6, stream, libc::IPPROTO_SCTP, &any6),
        listener("dccp4", libc::AF_INET, SOCK_DCCP, IPPROTO_DCCP, &any4),
        listener("dccp6", libc::AF_INET6, SOCK_DCCP, IPPROTO_DCCP, &any6),
        listener("vsock-stream", libc::AF_VSOCK, stream, 0, &vsock),
        listener(
            "vsock-seqpacket",
            libc::AF_VSOCK,
            packets,
            0,
            &Addr::vsock(u32::MAX, site.vsock_seqpacket_port()),
        ),
        listener("unix-stream", libc::AF_UNIX, stream, 0, &path("stream")),
        listener("unix-seqpacket", libc::AF_UNIX, packets, 0, &path("seqpacket")),
        listener("unix-abstract-stream", libc::AF_UNIX, stream, 0, &named("stream")),
        listener("unix-abstract-seqpacket", libc::AF_UNIX, packets, 0, &named("seqpacket")),
        datagrams("udp4", libc::AF_INET, libc::SOCK_DGRAM, 0, &any4),
        datagrams("udp6", libc::AF_INET6, libc::SOCK_DGRAM, 0, &any6),
        datagrams("udplite4", libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE, &any4),
        datagrams("udplite6", libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE, &any6),
        datagrams("unix-dgram", libc::AF_UNIX, libc::SOCK_DGRAM, 0, &path("dgram")),
        datagrams("unix-abstract-dgram", libc::AF_UNIX, libc::SOCK_DGRAM, 0, &named("dgram")),
        datagrams(
            "netlink",
            libc::AF_NETLINK,
            libc::SOCK_RAW,
            libc::NETLINK_USERSOCK,
            &Addr::netlink(site.netlink_pid(), 0),
        ),
        datagrams("rds", AF_RDS, packets, 0, &home),
        datagrams("tipc", AF_TIPC, libc::SOCK_RDM, 0, &tipc_service(port)),
        ("lend", listener_at("lend", libc::AF_UNIX, stream, 0, &path("lend")).map(|fd| (fd, Port::Lender))),
    ]
}

fn listener(name: &'static str, family: i32, kind: i32, protocol: i32, at: &Addr) -> Opened {
    listener_at(name, family, kind, protocol, at).map(|fd| (fd, Port::Listener(name)))
}

fn listener_at(name: &str, family: i32, kind: i32, protocol: i32, at: &Addr) -> Result<OwnedFd, Refused> {
    let fd = sys::socket(family, kind | libc::SOCK_NONBLOCK, protocol)?;
    prepare(name, &fd)?;
    sys::bind(&fd, at)?;
    sys::listen(&fd)?;
    Ok(fd)
}

fn datagrams(name: &'static str, family: i32, kind: i32, protocol: i32, at: &Addr) -> Opened {
    let fd = sys::socket(family, kind | libc::SOCK_NONBLOCK, protocol)?;
    prepare(name, &fd)?;
    sys::bind(&fd, at)?;
    if name == "netlink" {
        // After the bind, which forgets groups. Only the privileged may hear one; without it unicast still comes.
        drop(sys::set_int(&fd, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, NETLINK_GROUP.cast_signed()));
    }
    Ok((fd, Port::Datagrams(name)))
}

/// What a socket needs before it can hear all that the ways say.
fn prepare(name: &str, fd: &OwnedFd) -> Result<(), Refused> {
    let loopback = sys::ifindex("lo")?.to_ne_bytes();
    if name.starts_with("tcp") {
        sys::set_int(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        sys::set_int(fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, 16)?;
    }
    if matches!(name, "tcp6" | "udp6" | "udplite6" | "sctp6" | "dccp6") {
        sys::set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    if name.starts_with("dccp") {
        sys::setsockopt(fd, SOL_DCCP, DCCP_SOCKOPT_SERVICE, &DCCP_SERVICE.to_be_bytes())?;
    }
    match name {
        "udp4" => {
            let group = [&MULTICAST_V4.octets()[..], &[0; 4], &loopback].concat();
            sys::setsockopt(fd, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &group)
        }
        "udp6" => {
            let group = [&MULTICAST_V6.octets()[..], &loopback].concat();
            sys::setsockopt(fd, libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, &group)
        }
        _ => Ok(()),
    }
}

fn accept(fd: RawFd) -> Option<(OwnedFd, Option<String>)> {
    let mut from = [0_u8; 128];
    let mut len: libc::socklen_t = 128;
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: `from` has the room that `len` tells.
    let got = unsafe { libc::accept4(fd, from.as_mut_ptr().cast(), &raw mut len, flags) };
    let connection = sys::own("accept", got).ok()?;
    Some((connection, peer(&from, len)))
}

fn receive(fd: RawFd) -> Option<(Vec<u8>, Option<String>)> {
    let mut buffer = vec![0; 65536];
    let mut from = [0_u8; 128];
    let mut len: libc::socklen_t = 128;
    let (at, size, name) = (buffer.as_mut_ptr().cast(), buffer.len(), from.as_mut_ptr().cast());
    // SAFETY: both buffers have the room that their lengths tell.
    let got = unsafe { libc::recvfrom(fd, at, size, libc::MSG_DONTWAIT, name, &raw mut len) };
    buffer.truncate(usize::try_from(got).ok()?);
    Some((buffer, peer(&from, len)))
}

/// The sender's address in words, where it has one.
fn peer(from: &[u8; 128], len: libc::socklen_t) -> Option<String> {
    let family = i32::from(u16::from_ne_bytes([from[0], from[1]]));
    let port = u16::from_be_bytes([from[2], from[3]]);
    let word = |at: usize| u32::from_ne_bytes([from[at], from[at + 1], from[at + 2], from[at + 3]]);
    match family {
        libc::AF_INET => Some(
            SocketAddr::new(Ipv4Addr::from(<[u8; 4]>::try_from(&from[4..8]).ok()?).into(), port).to_string(),
        ),
        libc::AF_INET6 => Some(
            SocketAddr::new(Ipv6Addr::from(<[u8; 16]>::try_from(&from[8..24]).ok()?).into(), port)
                .to_string(),
        ),
        libc::AF_VSOCK => Some(format!("vsock:{}:{}", word(8), word(4))),
        libc::AF_NETLINK => Some(format!("netlink:{}", word(4))),
        _ if len <= 2 => None,
        _ => Some(format!("family-{family}")),
    }
}

/// The default port, for who starts receivers.
pub const PORT: u16 = ctx::PORT;
/// Connections that say nothing are not collected without end.
const PORTS_MAX: usize = 2048;
