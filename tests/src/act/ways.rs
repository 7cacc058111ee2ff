//! The table of all ways: one row each, kept beside the functions in the themed files.

use serde::Serialize;

use crate::act::{
    compat,
    ctx::{Ctx, Dest},
    family, inet, kernelmade, packet, passed, raw, routing, sctp,
    sys::Outcome,
    tunnel, udp, unix, uring,
};

/// One way in which a process can send a byte or reach another.
pub struct Way {
    pub name: &'static str,
    pub family: Family,
    pub needs: Needs,
    pub to: Dest,
    pub seen: Seen,
    pub run: fn(&Ctx) -> Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Inet,
    Inet6,
    Raw,
    Packet,
    Vsock,
    Unix,
    Netlink,
    Other,
}

/// What a host must offer for the way to be tried at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Needs {
    pub root: bool,
    pub module: Option<&'static str>,
    /// The first kernel that has it.
    pub kernel: Option<(u32, u32)>,
    /// A sysctl without which the kernel refuses everybody.
    pub setting: Option<&'static str>,
}

/// What the receiving end sees of an act that was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Seen {
    /// The token itself.
    Token,
    /// A packet or a connection whose bytes are not the actor's to choose.
    Packet,
    /// The same, but only where the host is set up for it (a peer, an interface); its absence proves nothing.
    Maybe,
    /// Nothing: the act ends inside this host's kernel.
    Nothing,
}

/// A row with the commonest needs: none, and a token that arrives.
pub const fn way(name: &'static str, family: Family, to: Dest, run: fn(&Ctx) -> Outcome) -> Way {
    Way {
        name,
        family,
        needs: Needs { root: false, module: None, kernel: None, setting: None },
        to,
        seen: Seen::Token,
        run,
    }
}

impl Way {
    pub const fn root(mut self) -> Self {
        self.needs.root = true;
        self
    }

    pub const fn module(mut self, module: &'static str) -> Self {
        self.needs.module = Some(module);
        self
    }

    pub const fn kernel(mut self, major: u32, minor: u32) -> Self {
        self.needs.kernel = Some((major, minor));
        self
    }

    pub const fn setting(mut self, setting: &'static str) -> Self {
        self.needs.setting = Some(setting);
        self
    }

    pub const fn seen(mut self, seen: Seen) -> Self {
        self.seen = seen;
        self
    }
}

pub fn all() -> impl Iterator<Item = &'static Way> {
    TABLES.iter().copied().flatten()
}

pub fn find(name: &str) -> Option<&'static Way> {
    all().find(|way| way.name == name)
}

const TABLES: &[&[Way]] = &[
    inet::WAYS,
    udp::WAYS,
    uring::WAYS,
    compat::WAYS,
    passed::WAYS,
    raw::WAYS,
    packet::WAYS,
    routing::WAYS,
    sctp::WAYS,
    unix::WAYS,
    family::WAYS,
    family::OPENS,
    tunnel::WAYS,
    kernelmade::WAYS,
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_way_has_its_own_name() {
        let names: HashSet<_> = all().map(|way| way.name).collect();
        assert_eq!(names.len(), all().count());
    }
}
