//! What each mode does about each way out.

use agent_common::rule::Class;
use serde::Serialize;

use crate::kernel::KernelMode;

/// What a mode does about one way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Guarantee {
    pub way: &'static str,
    pub class: &'static str,
    pub guarantee: Strength,
}

/// How strong a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strength {
    /// In the system call itself; nothing passes.
    RefusedInTheCall,
    /// By a cgroup hook on the call's way; nothing passes.
    RefusedAtTheCgroup,
    /// Neither refused nor seen.
    NotSeen,
}

impl Strength {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RefusedInTheCall => "refused in the call",
            Self::RefusedAtTheCgroup => "refused at the cgroup",
            Self::NotSeen => "not seen",
        }
    }
}

/// What a mode guarantees, way by way.
#[must_use]
pub fn of(mode: KernelMode) -> Vec<Guarantee> {
    WAYS.iter()
        .map(|(way, class, at_cgroup)| Guarantee {
            way,
            class: class.name(),
            guarantee: match (mode, at_cgroup) {
                (KernelMode::Lsm, _) => Strength::RefusedInTheCall,
                (KernelMode::Cgroup, true) => Strength::RefusedAtTheCgroup,
                (KernelMode::Cgroup, false) => Strength::NotSeen,
            },
        })
        .collect()
}

/// Way out, the class of rule for it, and whether a cgroup hook sees it.
const WAYS: &[(&str, Class, bool)] = &[
    ("TCP connect, also by fast open, MPTCP and io_uring", Class::Endpoint, true),
    ("UDP connect", Class::Endpoint, true),
    ("UDP send with an address of its own", Class::Endpoint, true),
    ("ICMP echo socket, connect", Class::Endpoint, true),
    ("ICMP echo socket, send with an address of its own", Class::Endpoint, false),
    ("raw IP socket", Class::Raw, true),
    ("SCTP, DCCP and other IP protocols", Class::Protocol, true),
    ("packet and XDP sockets", Class::Packet, false),
    ("vsock", Class::Vsock, false),
    ("unix sockets", Class::Unix, false),
    ("netlink", Class::Netlink, false),
    ("other address families", Class::Family, false),
    ("source routing", Class::Routing, false),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_rule_has_a_guarantee_in_each_mode() {
        for class in Class::ALL {
            assert!(WAYS.iter().any(|(_, of, _)| of == class), "{class:?}");
        }
        assert!(of(KernelMode::Lsm).iter().all(|g| g.guarantee == Strength::RefusedInTheCall));
    }
}
