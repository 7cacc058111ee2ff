//! An internet endpoint as a baseline has it: by name where it has one, else by address, as narrow as can be.

use std::{
    fmt::{self, Display},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use crate::event::Name;

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    pub protocol: Name,
    pub port: Port,
    pub host: Host,
}

/// A host, or hosts that were folded together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    Name(Name),
    /// Every name below this domain.
    Below(Name),
    /// Addresses that share their first bits; all bits for one address.
    Net(IpAddr, u8),
}

/// A port, or what stands for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// The protocol has none.
    None,
    Number(u32),
    /// One that the kernel gave a server of this host which did not choose: above 32767, and where it is reached of
    /// loopback addresses alone.
    Ephemeral,
}

impl Endpoint {
    /// An endpoint as it was reached.
    #[must_use]
    pub fn reached(address: IpAddr, port: Option<u32>, protocol: Name, name: Option<Name>) -> Self {
        let port = match port {
            Some(port) if address.is_loopback() && port >= EPHEMERAL_MIN => Port::Ephemeral,
            Some(port) => Port::Number(port),
            None => Port::None,
        };
        let name = name.filter(|name| !name.is_empty()).map(plain);
        let host = name.map_or(Host::Net(address, bits(address)), Host::Name);
        Self { protocol, port, host }
    }

    /// An endpoint of this host that is offered to others; port 0 is one that the kernel chooses.
    #[must_use]
    pub fn offered(address: IpAddr, port: u32, protocol: Name) -> Self {
        let port = if port == 0 || port >= EPHEMERAL_MIN { Port::Ephemeral } else { Port::Number(port) };
        Self { protocol, port, host: Host::Net(address, bits(address)) }
    }

    /// The same port of other hosts.
    #[must_use]
    pub fn with_host(&self, host: Host) -> Self {
        Self { host, ..self.clone() }
    }
}

impl Host {
    /// What may stand for it together with its neighbours, narrowest first: the names below its registered domain, or
    /// its network of /24 and /16 (IPv6: /64 and /48). Nothing wider ever does.
    #[must_use]
    pub fn folds(&self) -> Vec<Self> {
        match self {
            // The domain itself is not below itself.
            Self::Name(name) => {
                let domain = registered(name).filter(|domain| *domain != &**name);
                domain.map(|domain| Self::Below(domain.into())).into_iter().collect()
            }
            Self::Below(_) => Vec::new(),
            Self::Net(address, have) => {
                let widths: [u8; 2] = if address.is_ipv4() { [24, 16] } else { [64, 48] };
                widths.iter().filter(|width| *width < have).map(|width| network(*address, *width)).collect()
            }
        }
    }
}

/// The domain that somebody has registered, by the Public Suffix List.
#[must_use]
pub fn registered(name: &str) -> Option<&str> {
    psl::domain_str(name)
}

/// The name so that its text is no other host's: agents choose what they ask for. What is usual in no host name is
/// written as `%` and two hexadecimal digits, and so is the first character of a name that reads as an address.
fn plain(name: Name) -> Name {
    let usual = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    let address = name.parse::<IpAddr>().is_ok();
    if !address && name.chars().all(usual) {
        return name;
    }
    let mut out = String::with_capacity(name.len() * 3);
    for (at, c) in name.char_indices() {
        if usual(c) && !(address && at == 0) {
            out.push(c);
        } else {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|byte| out.push_str(&format!("%{byte:02X}")));
        }
    }
    out.into()
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn network(address: IpAddr, width: u8) -> Host {
    let address = match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(width)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(width)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    };
    Host::Net(address, width)
}

impl Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host, self.port, self.protocol)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let endpoint = || {
            let (rest, protocol) = text.rsplit_once('/')?;
            let (host, port) = rest.rsplit_once(':')?;
            Some(Self { protocol: protocol.into(), port: port.parse().ok()?, host: host.parse().ok()? })
        };
        endpoint().ok_or_else(|| format!("`{text}` is not an endpoint, such as api.example.com:443/tcp"))
    }
}

impl Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("-"),
            Self::Number(port) => write!(f, "{port}"),
            Self::Ephemeral => f.write_str("ephemeral"),
        }
    }
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "-" => Ok(Self::None),
            "ephemeral" => Ok(Self::Ephemeral),
            _ => text.parse().map(Self::Number).map_err(|_| format!("`{text}` is not a port")),
        }
    }
}

impl Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Below(domain) => write!(f, "*.{domain}"),
            Self::Net(IpAddr::V4(address), 32) => write!(f, "{address}"),
            Self::Net(IpAddr::V4(address), width) => write!(f, "{address}/{width}"),
            Self::Net(IpAddr::V6(address), 128) => write!(f, "[{address}]"),
            Self::Net(IpAddr::V6(address), width) => write!(f, "[{address}/{width}]"),
        }
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(domain) = text.strip_prefix("*.") {
            return Ok(Self::Below(domain.into()));
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let (address, width) = bare.split_once('/').map_or((bare, None), |(a, width)| (a, Some(width)));
        match (address.parse::<IpAddr>(), width.map(str::parse)) {
            (Ok(address), None) => Ok(Self::Net(address, bits(address))),
            (Ok(address), Some(Ok(width))) if width <= bits(address) => Ok(network(address, width)),
            (Err(_), None) if !text.is_empty() && !text.contains(['/', ' ', '[', ']']) => {
                Ok(Self::Name(text.into()))
            }
            _ => Err(format!("`{text}` is not a host")),
        }
    }
}

/// Linux gives ports from here on to sockets that did not choose one (`ip_local_port_range`).
const EPHEMERAL_MIN: u32 = 32_768;
