//! What each mode does about each way out, and about recognising agents; why not more.

use agent_common::rule::Class;
use serde::Serialize;

use super::{Host, LSM_ACTIVE, LSM_BUILT};
use crate::kernel::KernelMode;

/// What a mode does about one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guarantee {
    /// The kind of rule that is meant for it; `agent` for what is about recognising agents.
    pub rule: &'static str,
    /// The way, as metrics and events name it.
    pub way: &'static str,
    /// The way in words.
    pub what: &'static str,
    pub guarantee: Strength,
    /// Why it is no stronger.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: &'static str,
    /// What would make it stronger on this host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// How strong it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strength {
    /// In the system call itself; nothing passes.
    RefusedInTheCall,
    /// Recognised inside exec, before the first instruction.
    RecognisedAtItsStart,
    /// By a cgroup hook on the call's way; nothing passes.
    RefusedAtTheCgroup,
    /// The process is ended as soon as it is noticed.
    KilledAfter,
    /// Told as an event, not refused.
    SeenOnly,
    /// Taken for a program of whoever started it.
    NotRecognised,
    /// Neither refused nor seen.
    NotSeen,
}

impl Strength {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RefusedInTheCall => "refused in the call",
            Self::RecognisedAtItsStart => "recognised at its start",
            Self::RefusedAtTheCgroup => "refused at the cgroup",
            Self::KilledAfter => "killed after",
            Self::SeenOnly => "seen only",
            Self::NotRecognised => "not recognised",
            Self::NotSeen => "not seen",
        }
    }

    /// As metrics and events name it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::RefusedInTheCall => "refused_in_the_call",
            Self::RecognisedAtItsStart => "recognised_at_its_start",
            Self::RefusedAtTheCgroup => "refused_at_the_cgroup",
            Self::KilledAfter => "killed_after",
            Self::SeenOnly => "seen_only",
            Self::NotRecognised => "not_recognised",
            Self::NotSeen => "not_seen",
        }
    }

    /// Whether no mode gives more.
    #[must_use]
    pub fn is_full(self) -> bool {
        matches!(self, Self::RefusedInTheCall | Self::RecognisedAtItsStart)
    }
}

/// What a mode guarantees, way by way. `remedy` is what would give lsm mode: see [`remedy`].
#[must_use]
pub fn of(mode: KernelMode, remedy: &str) -> Vec<Guarantee> {
    let ways = WAYS
        .iter()
        .map(|way| (way.rule.name(), way.way, way.what, Strength::RefusedInTheCall, "", way.cgroup));
    let agents = AGENTS.iter().map(|way| ("agent", way.way, way.what, way.lsm.0, way.lsm.1, way.cgroup));
    ways.chain(agents)
        .map(|(rule, way, what, in_lsm, why_in_lsm, at_cgroup)| {
            let (guarantee, reason) = match mode {
                KernelMode::Lsm => (in_lsm, why_in_lsm),
                KernelMode::Cgroup => at_cgroup,
            };
            // More of it in lsm mode is what lsm mode would remedy.
            let remedy = if guarantee > in_lsm { remedy.to_owned() } else { String::new() };
            Guarantee { rule, way, what, guarantee, reason, remedy }
        })
        .collect()
}

/// What would give lsm mode here; empty where it is there. `mode_reason` is why a running daemon has not taken it.
#[must_use]
pub fn remedy(host: &Host, mode_reason: &str) -> String {
    if mode_reason.contains("--mode cgroup") {
        return "start the daemon without --mode cgroup".to_owned();
    }
    let of = |name: &str| host.capabilities.iter().find(|c| c.name == name).map_or("", |c| c.remedy.as_str());
    let given = [of(LSM_BUILT), of(LSM_ACTIVE)].into_iter().find(|remedy| !remedy.is_empty());
    match given {
        Some(remedy) => remedy.to_owned(),
        None if mode_reason.is_empty() => String::new(),
        None => format!("the kernel has BPF LSM but not for this daemon: {mode_reason}"),
    }
}

/// A way out: what a mode other than lsm does about it, and why no more.
struct Way {
    rule: Class,
    way: &'static str,
    what: &'static str,
    cgroup: (Strength, &'static str),
}

const fn way(rule: Class, way: &'static str, what: &'static str, cgroup: (Strength, &'static str)) -> Way {
    Way { rule, way, what, cgroup }
}

/// A hook on the way of the call refuses it as surely, but names fewer details.
const AT_CGROUP: (Strength, &str) = (Strength::RefusedAtTheCgroup, "");
const fn unseen(why: &'static str) -> (Strength, &'static str) {
    (Strength::NotSeen, why)
}

const WAYS: &[Way] = &[
    way(Class::Endpoint, "tcp_connect", "TCP connect, also by fast open, MPTCP and io_uring", AT_CGROUP),
    way(Class::Endpoint, "udp_connect", "UDP connect", AT_CGROUP),
    way(Class::Endpoint, "udp_send", "UDP send with an address of its own", AT_CGROUP),
    way(Class::Endpoint, "icmp_connect", "ICMP echo socket, connect", AT_CGROUP),
    way(
        Class::Endpoint,
        "icmp_send",
        "ICMP echo socket, send with an address of its own",
        unseen("no cgroup hook is on the way of an ICMP send"),
    ),
    way(Class::Name, "name", "question to a resolver, UDP or TCP of port 53", AT_CGROUP),
    way(Class::Raw, "raw", "raw IP socket", AT_CGROUP),
    way(Class::Protocol, "protocol", "SCTP, DCCP and other IP protocols", AT_CGROUP),
    way(Class::Packet, "packet", "packet and XDP sockets", unseen("cgroup hooks see internet sockets alone")),
    way(Class::Vsock, "vsock", "vsock", unseen("cgroup hooks see internet sockets alone")),
    way(Class::Unix, "unix", "unix sockets", unseen("cgroup hooks see internet sockets alone")),
    way(Class::Netlink, "netlink", "netlink", unseen("cgroup hooks see internet sockets alone")),
    way(Class::Family, "family", "other address families", unseen("cgroup hooks see internet sockets alone")),
    way(
        Class::Routing,
        "routing",
        "source routing",
        unseen("no hook on socket options is attached in this mode"),
    ),
];

/// What is about agents and not about a way out.
struct About {
    way: &'static str,
    what: &'static str,
    lsm: (Strength, &'static str),
    cgroup: (Strength, &'static str),
}

const RECOGNISED: (Strength, &str) = (Strength::RecognisedAtItsStart, "");

const AGENTS: &[About] = &[
    About { way: "program", what: "start of an agent's program", lsm: RECOGNISED, cgroup: RECOGNISED },
    About {
        way: "script",
        what: "start of an agent's `#!` script by its registered path",
        lsm: RECOGNISED,
        cgroup: RECOGNISED,
    },
    About {
        way: "script_by_another_path",
        what: "the same through a link that is not registered, or a relative path",
        lsm: RECOGNISED,
        cgroup: (
            Strength::NotRecognised,
            "without BPF LSM only the path given to execve and the interpreter are seen; register the links too",
        ),
    },
    About {
        way: "task_without_room",
        what: "acts of agents' tasks beyond the bound of their table",
        lsm: (Strength::RefusedInTheCall, ""),
        cgroup: (
            Strength::KilledAfter,
            "cgroup hooks find agents by a table (TASKS); a task that it has no room for is ended",
        ),
    },
    About {
        way: "handed_off_work",
        what: "work that an agent hands to cron, systemd-run, docker, a tmux server, …",
        lsm: (Strength::SeenOnly, "asking is told and can be refused; what the other side does is its own"),
        cgroup: (Strength::SeenOnly, "told where a known program asks; asking by a unix socket is not seen"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_rule_has_a_guarantee_in_each_mode() {
        for class in Class::ALL {
            assert!(WAYS.iter().any(|way| way.rule == *class), "{class:?}");
        }
        let lsm = of(KernelMode::Lsm, "");
        assert!(lsm.iter().filter(|g| g.rule != "agent").all(|g| g.guarantee == Strength::RefusedInTheCall));
    }

    #[test]
    fn what_is_weaker_says_why_and_what_would_help() {
        for mode in [KernelMode::Lsm, KernelMode::Cgroup] {
            for of in of(mode, "boot with bpf") {
                let stated = of.guarantee.is_full() || of.guarantee == Strength::RefusedAtTheCgroup;
                assert!(stated || !of.reason.is_empty(), "{of:?}");
                assert!(of.remedy.is_empty() || !of.guarantee.is_full(), "{of:?}");
            }
        }
        let cgroup = of(KernelMode::Cgroup, "boot with bpf");
        let script = cgroup.iter().find(|g| g.way == "script_by_another_path").unwrap();
        assert_eq!((script.guarantee.name(), script.remedy.as_str()), ("not recognised", "boot with bpf"));
    }

    #[test]
    fn words_are_those_of_the_json_and_ways_are_told_apart() {
        let all = of(KernelMode::Cgroup, "");
        for of in &all {
            assert_eq!(serde_json::to_value(of.guarantee).unwrap(), of.guarantee.word());
            assert_eq!(all.iter().filter(|other| other.way == of.way).count(), 1, "{}", of.way);
        }
    }
}
