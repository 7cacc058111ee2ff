//! The one grammar of a rule's `to`: what a rule names, in a form that cannot be wrong any more.

use agent_common::{
    limits::UNIX_PATH_BYTES,
    rule::{ANY, Class},
};

use super::{address, host, number};
pub use super::{
    address::{Prefix, address_bytes},
    host::HostName,
};
use crate::config::problem::{Fault, quoted};

/// What a rule names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Endpoint {
        prefix: Prefix,
        /// Sorted, each once; none for every port.
        ports: Vec<u16>,
    },
    Host {
        name: HostName,
        /// As of an endpoint.
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
        _ => match host::endpoint(text) {
            Some(named) => named.map(|(name, ports)| Target::Host { name, ports }),
            None => address::endpoint(text).map(|(prefix, ports)| Target::Endpoint { prefix, ports }),
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_internet_endpoint_has_its_own_words() {
        for (text, target) in [
            ("unix:/run/x.sock", unix_target(b"/run/x.sock", true)),
            ("unix:/run/foo/*", unix_target(b"/run/foo/", false)),
            ("unix:@name", unix_target(b"\0name", true)),
            ("unix:@pre*", unix_target(b"\0pre", false)),
            ("unix:@*", unix_target(b"\0", false)),
            ("vsock:2:1024", socket(Class::Vsock, 2, 1024)),
            ("vsock:*:22", socket(Class::Vsock, ANY, 22)),
            ("vsock:*:*", socket(Class::Vsock, ANY, ANY)),
            ("raw:icmp", socket(Class::Raw, 1, 0)),
            ("raw:255", socket(Class::Raw, 255, 0)),
            ("raw:*", socket(Class::Raw, ANY, ANY)),
            ("packet", socket(Class::Packet, 0, 0)),
            ("netlink", socket(Class::Netlink, 0, 0)),
            ("protocol:sctp", socket(Class::Protocol, 132, 0)),
            ("protocol:33", socket(Class::Protocol, 33, 0)),
            ("family:bluetooth", socket(Class::Family, 31, 0)),
            ("family:99", socket(Class::Family, 99, 0)),
            ("family:netlink", socket(Class::Family, 16, 0)),
            ("routing", socket(Class::Routing, 0, 0)),
        ] {
            assert_eq!(super::target(text), Ok(target), "{text}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused_with_a_remedy() {
        for (text, remedy) in [
            ("unix:run/x.sock", "write an absolute path, or @NAME for an abstract name"),
            ("unix:/run/../x", "write it without `.`, `..` and `//`"),
            ("unix:/run/*/x", "a prefix ends with *, nothing else may hold one"),
            ("unix:/run/", "end it with /* for everything below"),
            ("unix:@", "write @NAME, or @* for every abstract name"),
            ("vsock:2", "write vsock:CID:PORT, `*` for every"),
            ("vsock:-1:4294967295", "write vsock:CID:PORT, `*` for every"),
            ("raw:icpm", "did you mean `icmp`?; or its number"),
            ("raw:300", "0 to 262"),
            (
                "protocol:tcp",
                "write an address, `*` for every one, and `protocol: tcp`, `udp` or `icmp` beside it",
            ),
            ("family:vsock", "write vsock:CID:PORT"),
            ("family:inet6", "write an address"),
        ] {
            let fault = super::target(text).expect_err(text);
            assert_eq!(fault.remedy, remedy, "{text}");
        }
        assert!(super::target(&format!("unix:/{}", "x".repeat(107))).is_ok());
        assert!(super::target(&format!("unix:/{}", "x".repeat(108))).is_err());
    }

    fn unix_target(name: &[u8], exact: bool) -> Target {
        Target::Unix { name: name.to_vec(), exact }
    }
}
