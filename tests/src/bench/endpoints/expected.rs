//! What each way is expected to meet, and why where it is not simply the rule's answer.

/// An answer and the reason when it is not the rule's.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    pub answer: &'static str,
    pub why: Option<&'static str>,
}

/// What a way meets in a mode, by an agent whose role names its target or nothing at all.
pub fn of(way: &str, mode: &str, named: bool) -> Expected {
    if named {
        return Expected { answer: "allow", why: None };
    }
    if mode == "cgroup" && way == "tunnel-l2tp" {
        return Expected {
            answer: "deny",
            why: Some("its kernel socket connects as the task that asked for it"),
        };
    }
    let passes = PASSES.iter().chain(if mode == "cgroup" { CGROUP_PASSES } else { &[] });
    match passes.copied().find(|(pattern, _)| matches(pattern, way)) {
        Some((_, why)) => Expected { answer: "allow", why: Some(why) },
        None => Expected { answer: "deny", why: None },
    }
}

/// A trailing `*` stands for any ending.
fn matches(pattern: &str, way: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => way.starts_with(beginning),
        None => pattern == way,
    }
}

/// Passes in both modes under a role that names nothing.
const PASSES: &[(&str, &str)] = &[
    ("netlink-kernel", "netlink to the kernel is allowed by default: it leaves no host"),
    ("open-netlink-*", "netlink to the kernel is allowed by default: it leaves no host"),
    ("igmp-join", "a report that the kernel makes of itself"),
    ("tun", "a file, not a socket; needs CAP_NET_ADMIN"),
    ("tap", "a file, not a socket; needs CAP_NET_ADMIN"),
    ("tunnel-*", "made over netlink by CAP_NET_ADMIN; the kernel sends"),
    ("mount-*", "made by CAP_SYS_ADMIN; the kernel sends"),
];

/// Passes in cgroup mode too, whose hooks see connect, addressed sends and creation of internet sockets alone.
const CGROUP_PASSES: &[(&str, &str)] = &[
    ("unix-*", "no cgroup hook"),
    ("inbound-tcp4", "the other side is asked over a unix socket, and it chose the connection"),
    ("lent-tcp4-connected", "asked for over a unix socket; connected by an outsider"),
    ("lent-udp4-connected", "asked for over a unix socket; connected by an outsider"),
    ("uring-connect-unix", "no cgroup hook"),
    ("ia32-connect-unix", "no cgroup hook"),
    ("packet-*", "no cgroup hook"),
    ("lent-packet", "no cgroup hook"),
    ("xdp", "no cgroup hook"),
    ("vsock-*", "no cgroup hook"),
    ("netlink-*", "no cgroup hook"),
    ("lent-raw4", "made by an outsider; a raw socket's sends pass no cgroup hook"),
    ("ping4", "an echo socket's addressed sends pass no cgroup hook"),
    ("ping6", "an echo socket's addressed sends pass no cgroup hook"),
    ("rds4", "no cgroup hook"),
    ("tipc", "no cgroup hook"),
    ("alg", "no cgroup hook"),
    ("can", "no cgroup hook"),
    ("qrtr", "no cgroup hook"),
    ("open-*", "no cgroup hook"),
];
