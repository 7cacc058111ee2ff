//! Addresses, prefixes and ports: the part of a rule's `to` that names internet endpoints.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::problem::{Fault, nearest_name, quoted};

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

/// The address that a send to this one reaches: the unspecified address stands for this host itself, and the kernel
/// side judges it as the loopback address.
#[must_use]
pub fn destination(address: IpAddr) -> [u8; 16] {
    match address.to_canonical() {
        IpAddr::V4(v4) if v4.is_unspecified() => address_bytes(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(v6) if v6.is_unspecified() => address_bytes(Ipv6Addr::LOCALHOST.into()),
        _ => address_bytes(address),
    }
}

/// Prefix and ports (sorted, each once; none for every port) of `ADDRESS[/LENGTH][:PORTS]`.
pub fn endpoint(text: &str) -> Result<(Prefix, Vec<u16>), Fault> {
    let (host, ports) = split(text)?;
    let prefix = if host == "*" { Prefix { address: [0; 16], bits: 0 } } else { prefix(host, text)? };
    let ports = ports.map(self::ports).transpose()?.unwrap_or_default();
    Ok((prefix, ports))
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
    if prefix.bits == 128 && address.to_canonical().is_unspecified() {
        let what = format!("{} as a destination is this host itself", quoted(host));
        return Err(Fault::new(what, "write 127.0.0.1 or ::1, by which it is judged"));
    }
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
        format!("{} is not a whole name", quoted(host)),
        "write the name that resolvers are asked for, such as api.example.com; or an address",
    )
}

/// `80`, `80,443`, `8000-8010`, or a list of both.
pub fn ports(text: &str) -> Result<Vec<u16>, Fault> {
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

/// What else a `to` may begin with, for the remedy of a misspelt one.
const KINDS: &[&str] = &["unix", "vsock", "raw", "protocol", "family"];
/// Ports that one rule may name.
pub const PORTS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_prefixes_with_ports() {
        for (text, address, bits, ports) in [
            ("10.20.0.0/16:5432", "::ffff:10.20.0.0", 112, &[5432][..]),
            ("10.1.2.3:443", "::ffff:10.1.2.3", 128, &[443]),
            ("10.1.2.3", "::ffff:10.1.2.3", 128, &[]),
            ("0.0.0.0/0:53", "::ffff:0.0.0.0", 96, &[53]),
            ("[2001:db8::/32]:443", "2001:db8::", 32, &[443]),
            ("[2001:db8::1]", "2001:db8::1", 128, &[]),
            ("2001:db8::1", "2001:db8::1", 128, &[]),
            ("2001:db8::/32", "2001:db8::", 32, &[]),
            ("::ffff:10.0.0.0/104", "::ffff:10.0.0.0", 104, &[]),
            ("*:443", "::", 0, &[443]),
            ("*", "::", 0, &[]),
            ("*:80,443", "::", 0, &[80, 443]),
            ("*:443,8000-8002,8001", "::", 0, &[443, 8000, 8001, 8002]),
        ] {
            let address: Ipv6Addr = address.parse().expect(address);
            let expected = (Prefix { address: address.octets(), bits }, ports.to_vec());
            assert_eq!(endpoint(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_a_remedy() {
        let names = "write the name that resolvers are asked for, such as api.example.com; or an address";
        let ports = "write PORT, FIRST-LAST or a list, such as :443 or :80,8000-8010";
        let v4 = "four numbers from 0 to 255 without leading zeros, such as 10.1.2.3 or 10.1.0.0/16";
        for (text, remedy) in [
            ("localhost", names),
            ("localhost:443", names),
            ("10.1.2.3/16", "write 10.1.0.0/16 for the network, 10.1.2.3 for the one host"),
            ("[2001:db8::1/32]:443", "write 2001:db8::/32 for the network, 2001:db8::1 for the one host"),
            ("10.1.2.3/33", "0 to 32 for this address"),
            ("10.1.2.0/+8", "0 to 32 for this address"),
            ("::/0", "write * for every address of both families, 2000::/3 for all global IPv6 addresses"),
            (
                "[::/8]:443",
                "write * for every address of both families, 2000::/3 for all global IPv6 addresses",
            ),
            ("10.1.2.300:443", v4),
            ("010.1.2.3", v4),
            (":443", v4),
            ("", v4),
            ("10.1.2.3:0", ports),
            ("10.1.2.3:65536", ports),
            ("10.1.2.3:", ports),
            ("10.1.2.3:90-80", ports),
            ("10.1.2.3:80,", ports),
            ("10.1.2.3:*", "leave the port out for every port"),
            ("*:1-300", "each port is a rule of its own in the kernel; leave the port out for every port"),
            ("2001:db8::x:443", "an IPv6 address with a port is written [ADDRESS]:PORT"),
            ("[2001:db8::1:443", "write [ADDRESS/LENGTH]:PORT, such as [2001:db8::/32]:443"),
            ("0.0.0.0:80", "write 127.0.0.1 or ::1, by which it is judged"),
            ("::", "write 127.0.0.1 or ::1, by which it is judged"),
            ("fe80::1%eth0", "leave out the zone: rules hold for every interface"),
            ("https://10.1.2.3", "write ADDRESS:PORT"),
            ("unxi:/run/x", "did you mean `unix`?"),
            ("packets", "did you mean `packet`?"),
        ] {
            let fault = endpoint(text).expect_err(text);
            assert_eq!(fault.remedy, remedy, "{text}: {}", fault.what);
        }
    }
}
