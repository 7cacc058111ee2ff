//! Host names: the part of a rule's `to` that names what resolvers are asked for, in the one form that they are known by.

use agent_common::{
    identity::{HASH_START, hash_step},
    limits::HOST_NAME_BYTES,
    name::NameKey,
    rule::WHOLE_NAME,
};

use super::address;
use crate::config::problem::{Fault, quoted};

/// One host, or with a leading `*.` all below it: lower case, IDN as punycode, no dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// The name that a text means.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let fault = |what: &str, remedy: &str| Err(Fault::new(format!("{} {what}", quoted(text)), remedy));
        let (stem, below) = match text.strip_prefix("*.") {
            Some(stem) => (stem, true),
            None => (text, false),
        };
        if stem.contains('*') {
            return fault(
                "has a * that is not its first label",
                "write *.example.com for all below example.com",
            );
        }
        let stem = stem.strip_suffix('.').unwrap_or(stem);
        if !below && !stem.contains('.') {
            return fault(
                "is not a whole name",
                "write the name that resolvers are asked for, such as api.example.com; or an address",
            );
        }
        let Ok(ascii) = idna::domain_to_ascii(stem) else {
            return fault("is not a host name", "labels of letters, digits and -, divided by dots");
        };
        let label = |label: &str| {
            let plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
            (1..=63).contains(&label.len()) && label.bytes().all(plain)
        };
        if !ascii.split('.').all(label) {
            return fault("is not a host name", "labels of 1 to 63 letters, digits and -, divided by dots");
        }
        let name = if below { format!("*.{ascii}") } else { ascii };
        if name.len() > TEXT_BYTES_MAX {
            return fault("is too long", "a name has at most 253 bytes");
        }
        Ok(Self(name))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for all below a name.
    #[must_use]
    pub fn is_below(&self) -> bool {
        self.0.starts_with('*')
    }

    /// Its key in `NAME_IDS`.
    #[must_use]
    pub fn key(&self) -> NameKey {
        let mut key = NameKey { text: [0; HOST_NAME_BYTES] };
        key.text[..self.0.len()].copy_from_slice(self.0.as_bytes());
        key
    }

    /// The number that rules know it by. Made of the name itself, so that it stays the same over changes and restarts;
    /// names of one configuration that shared one would be an error.
    #[must_use]
    pub fn id(&self) -> u64 {
        let hash = self.0.bytes().fold(HASH_START, hash_step);
        // 0 stands for none.
        hash.max(1)
    }

    /// How specific it is, as [`agent_common::rule::Rule::prefix_len`] has it.
    #[must_use]
    pub fn length(&self) -> u8 {
        if self.is_below() { self.0.len().min(usize::from(WHOLE_NAME - 1)) as u8 } else { WHOLE_NAME }
    }

    /// Itself and the wildcards that it lies below, the most specific first: what the kernel side looks up.
    #[must_use]
    pub fn patterns(&self) -> Vec<Self> {
        let dots = self.0.match_indices('.').take(agent_common::limits::NAME_SUFFIXES_MAX);
        std::iter::once(self.clone()).chain(dots.map(|(at, _)| Self(format!("*{}", &self.0[at..])))).collect()
    }
}

/// Name and ports of `NAME[:PORTS]`, where the text is one: what is no address and could be none.
pub fn endpoint(text: &str) -> Option<Result<(HostName, Vec<u16>), Fault>> {
    let (host, ports) = match text.split_once(':') {
        Some((host, ports)) => (host, Some(ports)),
        None => (text, None),
    };
    let digits = |c: char| c.is_ascii_digit() || matches!(c, '.' | '/' | '*' | '%');
    let odd = |c: char| c.is_whitespace() || matches!(c, '/' | '[' | ']' | '%');
    let named =
        host.contains('.') && !host.contains(odd) && (host.starts_with("*.") || !host.chars().all(digits));
    if !named || ports.is_some_and(|ports| ports.contains([':', '/'])) {
        return None;
    }
    let name = match HostName::parse(host) {
        Ok(name) => name,
        Err(fault) => return Some(Err(fault)),
    };
    Some(ports.map(address::ports).transpose().map(|ports| (name, ports.unwrap_or_default())))
}

/// As text: 255 bytes on the wire.
const TEXT_BYTES_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        for (text, name) in [
            ("api.example.com", "api.example.com"),
            ("API.Example.COM.", "api.example.com"),
            ("*.ERP.example.com", "*.erp.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("_sip._tcp.example.com", "_sip._tcp.example.com"),
            ("*.local", "*.local"),
        ] {
            assert_eq!(HostName::parse(text).map(|name| name.0).as_deref(), Ok(name), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused_with_a_remedy() {
        let long = format!("{}.example.com", "a".repeat(64));
        let longer = [&"a".repeat(60)[..]; 5].join(".");
        for text in ["localhost", "a..b", ".a.b", "a.*.b", "x.*", "*.*.a", "a b.c", "*.", &long, &longer] {
            assert!(HostName::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_and_other_words_are_left_to_others() {
        for text in [
            "10.1.2.3:443",
            "10.1.2.300",
            "*",
            "*:443",
            "10.0.0.0/8",
            "2001:db8::x:443",
            "packets",
            "fe80::1%e.0",
        ] {
            assert!(endpoint(text).is_none(), "{text}");
        }
        let (name, ports) = endpoint("*.example.com:80,443").unwrap().unwrap();
        assert_eq!((name.as_str(), &ports[..]), ("*.example.com", &[80, 443][..]));
        assert!(endpoint("api.example.com:0").unwrap().is_err());
    }

    #[test]
    fn a_name_meets_itself_and_all_above_it() {
        let name = HostName::parse("a.b.example.com").unwrap();
        let met: Vec<String> = name.patterns().into_iter().map(|pattern| pattern.0).collect();
        assert_eq!(met, ["a.b.example.com", "*.b.example.com", "*.example.com", "*.com"]);
    }
}
