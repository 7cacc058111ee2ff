//! What somebody asks about: an instance, a program image, a process, an endpoint, a finding, or everything.

use std::{fmt, net::IpAddr, str::FromStr};

use super::needles::Needle;
use crate::event::{
    Event, Kind,
    word::{ExecId, InstanceId, Time},
};

/// The subject of a trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    Instance(InstanceId),
    Exec(ExecId),
    /// A process id, at a time; without one, the latest process that had it.
    Pid(u32, Option<Time>),
    /// Addresses of this prefix, at a port.
    Network(IpAddr, u8, Option<u16>),
    /// A name and all below it, at a port.
    Name(String, Option<u16>),
    /// A finding by its number, or the act that was found; of the daemon's start that a time falls into, or the latest.
    Finding(u64, Option<Time>),
    /// All that is recorded.
    Everything,
}

impl Wanted {
    /// Whether the event itself is what was asked about, and not only of the same tree.
    #[must_use]
    pub fn is(&self, event: &Event) -> bool {
        let subject = event.subject.as_ref();
        match self {
            // The whole of it is wanted: nothing stands out.
            Self::Instance(_) | Self::Everything => false,
            Self::Exec(id) => subject.and_then(|s| s.exec_id) == Some(*id),
            Self::Pid(pid, _) => subject.is_some_and(|s| s.pid == *pid),
            Self::Network(network, bits, port) => {
                let reached = event.network.as_ref().is_some_and(|n| {
                    n.address.is_some_and(|address| within(address, *network, *bits))
                        && port.is_none_or(|port| n.port == Some(u32::from(port)))
                });
                let answered = port.is_none()
                    && event.dns.as_ref().is_some_and(|dns| {
                        dns.answers.iter().any(|answer| within(answer.address, *network, *bits))
                    });
                reached || answered
            }
            Self::Name(name, port) => {
                let reached = event.network.as_ref().is_some_and(|n| {
                    n.name.as_deref().is_some_and(|n| below(n, name))
                        && port.is_none_or(|port| n.port == Some(u32::from(port)))
                });
                let asked = event.dns.as_ref().is_some_and(|dns| below(&dns.name, name));
                let said = event
                    .tls
                    .as_ref()
                    .and_then(|tls| tls.server_name.as_deref())
                    .or(event.http.as_ref().and_then(|http| http.host.as_deref()))
                    .is_some_and(|n| below(n, name));
                reached || asked || said
            }
            Self::Finding(seq, _) => {
                event.seq == *seq && (event.kind == Kind::Finding || event.verdict.is_some())
                    || event.finding.as_ref().is_some_and(|found| found.of.seq == *seq)
            }
        }
    }

    /// Needles of which one is in every line that [`Wanted::is`] may say yes to; none where any line may be.
    #[must_use]
    pub fn needles(&self) -> Vec<Needle> {
        let texts = match self {
            Self::Instance(id) => vec![id.to_string()],
            Self::Exec(id) => vec![id.to_string()],
            Self::Pid(pid, _) => vec![format!("\"pid\":{pid}"), format!("\"child_pid\":{pid}")],
            Self::Network(address, bits, _) if *bits == width(*address) => vec![format!("\"{address}\"")],
            Self::Network(network, bits, _) => return vec![Needle::Within(*network, *bits)],
            Self::Name(name, _) => vec![name.clone()],
            Self::Finding(seq, _) => vec![format!("\"seq\":{seq}")],
            Self::Everything => Vec::new(),
        };
        texts.into_iter().map(Needle::Text).collect()
    }
}

impl FromStr for Wanted {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("i-") && text.len() == 18 {
            return text.parse().map(Self::Instance);
        }
        if text.starts_with("x-") && text.len() == 18 {
            return text.parse().map(Self::Exec);
        }
        if let Some(rest) = text.strip_prefix("pid:") {
            let (pid, at) = number_at(rest)?;
            let pid = u32::try_from(pid).map_err(|_| format!("{pid} is no process id"))?;
            return Ok(Self::Pid(pid, at));
        }
        if let Some(rest) = text.strip_prefix("finding:") {
            return number_at(rest).map(|(seq, at)| Self::Finding(seq, at));
        }
        network(text)
            .or_else(|| name(text))
            .ok_or_else(|| format!("`{text}` is no subject of a trail: {FORMS}"))
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |at: &Option<Time>| at.map(|at| format!("@{at}")).unwrap_or_default();
        let port = |port: &Option<u16>| port.map(|port| format!(":{port}")).unwrap_or_default();
        match self {
            Self::Instance(id) => id.fmt(f),
            Self::Exec(id) => id.fmt(f),
            Self::Pid(pid, time) => write!(f, "pid:{pid}{}", at(time)),
            Self::Network(address, bits, to) => match (address, *bits == width(*address)) {
                (address, false) => write!(f, "{address}/{bits}{}", port(to)),
                (IpAddr::V6(address), true) if to.is_some() => write!(f, "[{address}]{}", port(to)),
                (address, true) => write!(f, "{address}{}", port(to)),
            },
            Self::Name(name, to) => write!(f, "{name}{}", port(to)),
            Self::Finding(seq, time) => write!(f, "finding:{seq}{}", at(time)),
            Self::Everything => f.write_str("everything"),
        }
    }
}

fn number_at(text: &str) -> Result<(u64, Option<Time>), String> {
    let (number, at) = text.split_once('@').map_or((text, None), |(number, at)| (number, Some(at)));
    let number = number.parse().map_err(|_| format!("`{number}` is not a number: {FORMS}"))?;
    Ok((number, at.map(str::parse).transpose()?))
}

fn network(text: &str) -> Option<Wanted> {
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Some(Wanted::Network(address, width(address), None));
    }
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        return Some(Wanted::Network(socket.ip(), width(socket.ip()), Some(socket.port())));
    }
    let (address, bits) = text.split_once('/')?;
    let (bits, port) = bits.split_once(':').map_or((bits, None), |(bits, port)| (bits, Some(port)));
    let address: IpAddr = address.parse().ok()?;
    let bits: u8 = bits.parse().ok().filter(|bits| *bits <= width(address))?;
    Some(Wanted::Network(address, bits, port.map(str::parse).transpose().ok()?))
}

fn name(text: &str) -> Option<Wanted> {
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let port = port.map(str::parse).transpose().ok()?;
    let name = name.trim_start_matches("*.").trim_end_matches('.').to_ascii_lowercase();
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    (plain && name.contains('.')).then_some(Wanted::Name(name, port))
}

fn below(name: &str, top: &str) -> bool {
    name.strip_suffix(top).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

pub(super) fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        _ => return false,
    };
    let drop = width - u32::from(bits);
    drop == 128 || (address ^ network) >> drop == 0
}

/// What may be asked for.
pub const FORMS: &str = "an instance (i-0001000000000042), an exec id (x-…), pid:4711 or pid:4711@2026-01-31T12:00:00Z, \
    203.0.113.7:443, 203.0.113.0/24, api.example.com, finding:SEQ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_and_written_alike() {
        for text in [
            "i-0001000000000042",
            "x-0001000000000042",
            "pid:4711",
            "pid:4711@2026-01-31T12:00:00.000000000Z",
            "203.0.113.7",
            "203.0.113.7:443",
            "203.0.113.0/24",
            "203.0.113.0/24:443",
            "2001:db8::1",
            "[2001:db8::1]:443",
            "api.example.com",
            "api.example.com:443",
            "finding:12",
        ] {
            assert_eq!(text.parse::<Wanted>().unwrap().to_string(), text);
        }
        for text in ["", "pid:x", "finding:", "203.0.113.0/33", "a b.c", "word", "pid:1@noon"] {
            assert!(text.parse::<Wanted>().is_err(), "{text}");
        }
    }

    #[test]
    fn prefixes_and_names_hold_what_is_below_them_and_no_more() {
        let of = |a: &str, n: &str, bits| within(a.parse().unwrap(), n.parse().unwrap(), bits);
        assert!(of("203.0.113.7", "203.0.113.0", 24) && !of("203.0.114.7", "203.0.113.0", 24));
        assert!(of("::1", "::", 0) && !of("::1", "0.0.0.0", 0));
        assert!(below("a.example.com", "example.com") && !below("badexample.com", "example.com"));
    }
}
