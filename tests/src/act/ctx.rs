//! What every way is given: where to, with which token, and the defaults that the receiver shares.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    path::PathBuf,
    str::FromStr,
};

use anyhow::{Context, bail};

use crate::act::sys::{Addr, Refused};

/// Where a way sends to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Inet(SocketAddr),
    Unix(UnixName),
    Vsock {
        cid: u32,
        port: u32,
    },
    Netlink(u32),
    /// The way names no address: a device, or the kernel itself.
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnixName {
    Path(PathBuf),
    Abstract(String),
}

impl FromStr for Target {
    type Err = anyhow::Error;

    /// `ADDR:PORT`, `[ADDR]:PORT`, `unix:/path`, `unix:@name`, `vsock:CID:PORT`, `netlink:PID` or `none`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "none" {
            return Ok(Self::Nothing);
        }
        if let Some(name) = text.strip_prefix("unix:@") {
            return Ok(Self::Unix(UnixName::Abstract(name.to_owned())));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(UnixName::Path(path.into())));
        }
        if let Some(pid) = text.strip_prefix("netlink:") {
            return Ok(Self::Netlink(pid.parse().context("netlink:PID")?));
        }
        if let Some(rest) = text.strip_prefix("vsock:") {
            let Some((cid, port)) = rest.split_once(':') else { bail!("{text}: expected vsock:CID:PORT") };
            return Ok(Self::Vsock {
                cid: cid.parse().context("vsock CID")?,
                port: port.parse().context("vsock PORT")?,
            });
        }
        text.parse()
            .map(Self::Inet)
            .with_context(|| format!("{text}: expected ADDR:PORT, unix:, vsock:, netlink: or none"))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(to) => write!(f, "{to}"),
            Self::Unix(UnixName::Path(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(UnixName::Abstract(name)) => write!(f, "unix:@{name}"),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
            Self::Netlink(pid) => write!(f, "netlink:{pid}"),
            Self::Nothing => write!(f, "none"),
        }
    }
}

/// One act: the way's name and all that it may need.
#[derive(Debug, Clone)]
pub struct Ctx {
    pub way: &'static str,
    pub to: Target,
    /// Where ways with two destinations go first; a test names an allowed one here. The same as `to` when not given.
    pub first: Target,
    pub token: String,
    /// The token is all that is put on the wire.
    pub bare: bool,
    pub site: Site,
}

impl Ctx {
    /// What is put on the wire: [`MARKER`] is what the receiver's packet capture looks for.
    pub fn payload(&self) -> Vec<u8> {
        if self.bare {
            return self.token.clone().into_bytes();
        }
        format!("{MARKER}{}\n", self.token).into_bytes()
    }

    pub fn v4(&self) -> Result<SocketAddrV4, Refused> {
        v4(&self.to)
    }

    pub fn v6(&self) -> Result<SocketAddrV6, Refused> {
        v6(&self.to)
    }

    pub fn first_v4(&self) -> Result<SocketAddrV4, Refused> {
        v4(&self.first)
    }

    pub fn first_v6(&self) -> Result<SocketAddrV6, Refused> {
        v6(&self.first)
    }

    pub fn inet(&self) -> Result<SocketAddr, Refused> {
        match self.to {
            Target::Inet(to) => Ok(to),
            _ => Err(wrong_target()),
        }
    }

    /// The destination as a socket address, whatever its family.
    pub fn addr(&self) -> Result<Addr, Refused> {
        match &self.to {
            Target::Inet(to) => Ok(Addr::inet(*to)),
            Target::Unix(UnixName::Path(path)) => Ok(Addr::unix_path(path.as_os_str().as_encoded_bytes())),
            Target::Unix(UnixName::Abstract(name)) => Ok(Addr::unix_abstract(name.as_bytes())),
            Target::Vsock { cid, port } => Ok(Addr::vsock(*cid, *port)),
            Target::Netlink(pid) => Ok(Addr::netlink(*pid, 0)),
            Target::Nothing => Err(wrong_target()),
        }
    }
}

fn v4(target: &Target) -> Result<SocketAddrV4, Refused> {
    match target {
        Target::Inet(SocketAddr::V4(to)) => Ok(*to),
        _ => Err(wrong_target()),
    }
}

fn v6(target: &Target) -> Result<SocketAddrV6, Refused> {
    match target {
        Target::Inet(SocketAddr::V6(to)) => Ok(*to),
        _ => Err(wrong_target()),
    }
}

fn wrong_target() -> Refused {
    Refused::new("target", libc::EINVAL)
}

/// What actor and receiver must agree on; all of it follows from the port, so two pairs can run side by side.
#[derive(Debug, Clone)]
pub struct Site {
    pub port: u16,
    pub iface: String,
}

impl Site {
    /// Where the receiver's unix sockets lie.
    pub fn dir(&self) -> PathBuf {
        PathBuf::from(format!("/tmp/chaperone-act-{}", self.port))
    }

    pub fn unix(&self, kind: &str) -> PathBuf {
        self.dir().join(format!("{kind}.sock"))
    }

    pub fn abstract_name(&self, kind: &str) -> String {
        format!("chaperone-act-{}-{kind}", self.port)
    }

    /// The port id that the receiver's netlink socket binds, above what the kernel's own choice (the pid) would be.
    pub fn netlink_pid(&self) -> u32 {
        0x4000_0000 | u32::from(self.port)
    }

    /// Stream and seqpacket share the port numbers of vsock.
    pub fn vsock_seqpacket_port(&self) -> u32 {
        u32::from(self.port) + 1
    }

    pub fn v4(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port)
    }

    pub fn v6(&self) -> SocketAddrV6 {
        SocketAddrV6::new(Ipv6Addr::LOCALHOST, self.port, 0, 0)
    }
}

/// Where a way goes when `--to` is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dest {
    V4,
    V6,
    /// 0.0.0.0 and ::, which the kernel takes for this host.
    Any4,
    Any6,
    Multicast4,
    Multicast6,
    Broadcast4,
    UnixPath(&'static str),
    UnixAbstract(&'static str),
    Vsock,
    VsockSeqpacket,
    Netlink,
    Kernel,
    Nothing,
}

impl Dest {
    pub fn target(self, site: &Site) -> Target {
        let inet = |ip: IpAddr| Target::Inet(SocketAddr::new(ip, site.port));
        match self {
            Self::V4 => inet(Ipv4Addr::LOCALHOST.into()),
            Self::V6 => inet(Ipv6Addr::LOCALHOST.into()),
            Self::Any4 => inet(Ipv4Addr::UNSPECIFIED.into()),
            Self::Any6 => inet(Ipv6Addr::UNSPECIFIED.into()),
            Self::Multicast4 => inet(MULTICAST_V4.into()),
            Self::Multicast6 => inet(MULTICAST_V6.into()),
            Self::Broadcast4 => inet(Ipv4Addr::new(127, 255, 255, 255).into()),
            Self::UnixPath(kind) => Target::Unix(UnixName::Path(site.unix(kind))),
            Self::UnixAbstract(kind) => Target::Unix(UnixName::Abstract(site.abstract_name(kind))),
            Self::Vsock => Target::Vsock { cid: 1, port: site.port.into() },
            Self::VsockSeqpacket => Target::Vsock { cid: 1, port: site.vsock_seqpacket_port() },
            Self::Netlink => Target::Netlink(site.netlink_pid()),
            Self::Kernel => Target::Netlink(0),
            Self::Nothing => Target::Nothing,
        }
    }
}

pub const PORT: u16 = 47474;
pub const MARKER: &str = "chaperone-act token=";
/// Administratively scoped, so it never leaves a site.
pub const MULTICAST_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 71, 71);
pub const MULTICAST_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0, 0x4747);
/// The multicast group of the netlink way (bit 0: group 1).
pub const NETLINK_GROUP: u32 = 1;

/// The token in bytes that were received, if they carry one.
pub fn token_in(bytes: &[u8]) -> Option<String> {
    let marker = MARKER.as_bytes();
    let start = bytes.windows(marker.len()).position(|window| window == marker)? + marker.len();
    let token = bytes[start..].iter().take_while(|byte| byte.is_ascii_graphic());
    Some(token.map(|byte| char::from(*byte)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_as_they_are_written() {
        for text in ["127.0.0.1:1", "[::1]:2", "unix:/a/b", "unix:@x", "vsock:1:9", "netlink:7", "none"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert!("127.0.0.1".parse::<Target>().is_err());
    }

    #[test]
    fn token_is_found_in_the_middle_of_a_packet() {
        assert_eq!(token_in(b"\x45\0chaperone-act token=t1\nrest").as_deref(), Some("t1"));
        assert_eq!(token_in(b"chaperone-act"), None);
    }
}
