//! The one grammar of a rule's `to`: what a rule names, in a form that cannot be wrong any more.

use std::net::{IpAddr, Ipv6Addr};

use agent_common::{
    limits::UNIX_PATH_BYTES,
    rule::{ANY, Class},
};

use super::number;
use crate::config::problem::{Fault, nearest_name, quoted};

/// What a rule names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Endpoint {
        prefix: Prefix,
        /// Sorted, each once; none for every port.
        ports: Vec<u16>,
    },
    Unix {
        /// As the kernel has it: an abstract name begins with NUL. No closing NUL.
        name: Vec<u8>,
        exact: bool,
    },
    /// What has a key of its own: see [`agent_common::rule::SocketKey`].
    Socket { class: Class, a: u32, b: u32 },
}

/// Addresses with the same first bits; IPv4 is v4-mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// Zero behind the prefix.
    pub address: [u8; 16],
    /// 0 to 128.
    pub bits: u8,
}

impl Prefix {
    /// The prefix of that length that holds the address.
    #[must_use]
    pub fn of(address: [u8; 16], bits: u8) -> Self {
        let bits = bits.min(128);
        let mask = if bits == 0 { 0 } else { u128::MAX << (128 - u32::from(bits)) };
        Self { address: (u128::from_be_bytes(address) & mask).to_be_bytes(), bits }
    }

    #[must_use]
    pub fn contains(&self, address: [u8; 16]) -> bool {
        Self::of(address, self.bits).address == self.address
    }
}

/// The 16 bytes by which rules know an address.
#[must_use]
pub fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// What the text of a `to` names.
pub fn target(text: &str) -> Result<Target, Fault> {
    match text {
        "packet" => return Ok(socket(Class::Packet, 0, 0)),
        "netlink" => return Ok(socket(Class::Netlink, 0, 0)),
        "routing" => return Ok(socket(Class::Routing, 0, 0)),
        _ => {}
    }
    match text.split_once(':') {
        Some(("unix", name)) => unix(name),
        Some(("vsock", rest)) => vsock(rest),
        Some(("raw", "*")) => Ok(socket(Class::Raw, ANY, ANY)),
        Some(("raw", name)) => Ok(socket(Class::Raw, number::protocol(name)?, 0)),
        Some(("protocol", name)) => protocol(name),
        Some(("family", name)) => Ok(socket(Class::Family, number::family(name)?, 0)),
        _ => endpoint(text),
    }
}

fn socket(class: Class, a: u32, b: u32) -> Target {
    Target::Socket { class, a, b }
}

fn protocol(name: &str) -> Result<Target, Fault> {
    let number = number::protocol(name)?;
    if number::BY_ADDRESS.contains(&number) {
        let remedy = "write an address, `*` for every one, and `protocol: tcp`, `udp` or `icmp` beside it";
        return Err(Fault::new(format!("protocol:{name} is ruled by address"), remedy));
    }
    Ok(socket(Class::Protocol, number, 0))
}

fn vsock(rest: &str) -> Result<Target, Fault> {
    let form = || {
        Fault::new(format!("{} is not a vsock endpoint", quoted(rest)), "write vsock:CID:PORT, `*` for every")
    };
    let (cid, port) = rest.split_once(':').ok_or_else(form)?;
    let part = |text: &str| match text {
        "*" => Ok(ANY),
        // u32::MAX is VMADDR_CID_ANY: no one can be reached there.
        _ => text.parse::<u32>().ok().filter(|n| *n != ANY && !text.starts_with('+')).ok_or_else(form),
    };
    Ok(socket(Class::Vsock, part(cid)?, part(port)?))
}

fn unix(text: &str) -> Result<Target, Fault> {
    let fault = |what: &str, remedy: &str| {
        Err(Fault::new(format!("unix:{} {what}", quoted(text).trim_matches('`')), remedy))
    };
    let (stem, exact) = match text.strip_suffix('*') {
        Some(stem) => (stem, false),
        None => (text, true),
    };
    if stem.contains('*') {
        return fault("has a * that is not at its end", "a prefix ends with *, nothing else may hold one");
    }
    let name = match stem.strip_prefix('@') {
        Some(name) => [&[0], name.as_bytes()].concat(),
        None if !stem.starts_with('/') => {
            return fault("names no socket", "write an absolute path, or @NAME for an abstract name");
        }
        None if stem.contains("//") || stem.split('/').any(|part| part == "." || part == "..") => {
            return fault("is not a plain path", "write it without `.`, `..` and `//`");
        }
        None if exact && stem.ends_with('/') => {
            return fault("is a directory's name", "end it with /* for everything below");
        }
        None => stem.as_bytes().to_vec(),
    };
    if exact && name == [0] {
        return fault("names no socket", "write @NAME, or @* for every abstract name");
    }
    if name.len() > UNIX_PATH_BYTES {
        return fault("is too long for a socket", "at most 108 bytes (UNIX_PATH_BYTES), as unix(7) has it");
    }
    Ok(Target::Unix { name, exact })
}

fn endpoint(text: &str) -> Result<Target, Fault> {
    let (host, ports) = split(text)?;
    let prefix = if host == "*" { Prefix { address: [0; 16], bits: 0 } } else { prefix(host, text)? };
    let ports = ports.map(self::ports).transpose()?.unwrap_or_default();
    Ok(Target::Endpoint { prefix, ports })
}

/// Host and ports: an IPv6 address needs brackets to have ports.
fn split(text: &str) -> Result<(&str, Option<&str>), Fault> {
    if let Some(rest) = text.strip_prefix('[') {
        let form = || {
            let remedy = "write [ADDRESS/LENGTH]:PORT, such as [2001:db8::/32]:443";
            Fault::new(format!("{} is not an endpoint", quoted(text)), remedy)
        };
        let (host, rest) = rest.split_once(']').ok_or_else(form)?;
        return match rest.strip_prefix(':') {
            Some(ports) => Ok((host, Some(ports))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(form()),
        };
    }
    match text.split_once(':') {
        Some((host, ports)) if !ports.contains(':') => Ok((host, Some(ports))),
        _ => Ok((text, None)),
    }
}

fn prefix(host: &str, text: &str) -> Result<Prefix, Fault> {
    let (address_text, bits_text) = match host.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (host, None),
    };
    let address: IpAddr = address_text.parse().map_err(|_| not_an_address(address_text, text))?;
    let width: u8 = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits_text {
        None => width,
        Some(bits) => match bits.parse::<u8>() {
            Ok(number) if number <= width && bits.bytes().all(|byte| byte.is_ascii_digit()) => number,
            _ => {
                let what = format!("/{} is not a prefix length", quoted(bits).trim_matches('`'));
                return Err(Fault::new(what, format!("0 to {width} for this address")));
            }
        },
    };
    let whole = address_bytes(address);
    let mapped_bits = bits + (128 - width);
    let prefix = Prefix::of(whole, mapped_bits);
    if prefix.address != whole {
        let corrected = if width == 32 {
            Ipv6Addr::from(prefix.address).to_ipv4_mapped().map(|v4| v4.to_string()).unwrap_or_default()
        } else {
            Ipv6Addr::from(prefix.address).to_string()
        };
        let what = format!("{} has bits set behind its prefix", quoted(host));
        let remedy = format!("write {corrected}/{bits} for the network, {address} for the one host");
        return Err(Fault::new(what, remedy));
    }
    // IPv4 lies inside ::ffff:0:0/96: a rule that says ::/0 and means IPv6 would speak for IPv4 too.
    let mapped = Prefix::of(address_bytes([0, 0, 0, 0].into()), 96);
    if width == 128 && mapped_bits < 96 && prefix.contains(mapped.address) {
        let what = format!("{} also holds every IPv4 address", quoted(host));
        let remedy = "write * for every address of both families, 2000::/3 for all global IPv6 addresses";
        return Err(Fault::new(what, remedy));
    }
    Ok(prefix)
}

fn not_an_address(host: &str, text: &str) -> Fault {
    let what = format!("{} is not an address", quoted(host));
    if text.contains("://") {
        return Fault::new(format!("{} is a URL", quoted(text)), "write ADDRESS:PORT");
    }
    if let Some((kind, _)) = text.split_once(':')
        && let Some(kind) = nearest_name(kind, KINDS.iter().copied())
    {
        return Fault::new(what, format!("did you mean `{kind}`?"));
    }
    if let Some(word) = nearest_name(text, ["packet", "netlink", "routing"]) {
        return Fault::new(what, format!("did you mean `{word}`?"));
    }
    if host.contains('%') {
        return Fault::new(what, "leave out the zone: rules hold for every interface");
    }
    let like_v4 = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if host.contains(':') {
        return Fault::new(what, "an IPv6 address with a port is written [ADDRESS]:PORT");
    }
    if like_v4 || host.is_empty() {
        return Fault::new(
            what,
            "four numbers from 0 to 255 without leading zeros, such as 10.1.2.3 or 10.1.0.0/16",
        );
    }
    Fault::new(
        format!("{} is a name", quoted(host)),
        "names are not supported by this version: give addresses",
    )
}

/// `80`, `80,443`, `8000-8010`, or a list of both.
fn ports(text: &str) -> Result<Vec<u16>, Fault> {
    let fault = |what: String| {
        Err(Fault::new(what, "write PORT, FIRST-LAST or a list, such as :443 or :80,8000-8010"))
    };
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (port(first), port(last)) else {
            if part == "*" {
                return Err(Fault::new("`:*` is not a port", "leave the port out for every port"));
            }
            return fault(format!("{} is not a port from 1 to 65535", quoted(part)));
        };
        if first > last {
            return fault(format!("the range {} runs backwards", quoted(part)));
        }
        if usize::from(last - first) >= PORTS_MAX {
            return too_many();
        }
        all.extend(first..=last);
    }
    all.sort_unstable();
    all.dedup();
    if all.len() > PORTS_MAX { too_many() } else { Ok(all) }
}

fn too_many() -> Result<Vec<u16>, Fault> {
    let remedy = "each port is a rule of its own in the kernel; leave the port out for every port";
    Err(Fault::new(format!("more than {PORTS_MAX} ports"), remedy))
}

fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

const KINDS: &[&str] = &["unix", "vsock", "raw", "protocol", "family"];
/// Ports that one rule may name.
pub const PORTS_MAX: usize = 256;
