//! Sockets that are not unix sockets, in lsm mode: creation, connect, sends with an address.

use agent_common::{
    event::net::{Op, Place},
    identity::{Label, hash_bytes},
    rule::{Class, Policy},
    verdict::{self, Decision, Hits},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};

use super::{
    address::{self, Meaning, Socket},
    family, flow, routing,
};
use crate::{
    enforce,
    hooks::names::{asker, server, spoken},
    kernel::{self, Ptr, offset},
    rules, subject,
};

/// What has no address to be judged by later is judged when the socket is made.
///
/// match-proto:v6.1:security/security.c:int security_socket_create(int family, int type, int protocol, int kern)
#[lsm(hook = "socket_create")]
pub fn socket_create(ctx: LsmContext) -> i32 {
    let (family, kind, protocol, kern): (i32, i32, i32, i32) =
        (ctx.arg(0), ctx.arg(1), ctx.arg(2), ctx.arg(3));
    let previous: i32 = ctx.arg(4);
    if previous != 0 || kern != 0 {
        return enforce::pass(previous);
    }
    let socket = Socket { family: family as u16, kind: kind as u16, protocol: protocol as u16 };
    if socket.is_common() {
        return enforce::pass(previous);
    }
    let class = socket.class();
    if matches!(class, Class::Endpoint | Class::Unix | Class::Netlink | Class::Vsock) {
        return enforce::pass(previous);
    }
    let Some(label) = subject::agent() else { return enforce::pass(previous) };
    by_class(label, rules::policy(label), socket, class, Op::Create, true)
}

/// match-proto:v6.1:security/security.c:int security_socket_connect(struct socket *sock, struct sockaddr *address,
/// int addrlen)
/// `address` is the kernel's copy; io_uring and the 32-bit calls come here too.
#[lsm(hook = "socket_connect")]
pub fn socket_connect(ctx: LsmContext) -> i32 {
    let previous: i32 = ctx.arg(3);
    if previous != 0 {
        return enforce::pass(previous);
    }
    let Some(label) = subject::current() else { return enforce::pass(previous) };
    if label.instance == 0 && !crate::emit::recorded(label.origin, agent_common::event::record::NET) {
        return enforce::pass(previous);
    }
    connect(label, ctx.arg::<*const u8>(0), ctx.arg::<*const u8>(1), ctx.arg::<i32>(2) as u32)
}

/// What nobody else pays: a function of its own, so that those outside save no registers for it.
#[inline(never)]
fn connect(label: &Label, socket: Ptr, address: Ptr, bytes: u32) -> i32 {
    // Before the ways part: for each of them the verifier would follow the pointer again.
    let uid = subject::typed_uid();
    let sk: Ptr = kernel::load(socket, offset!(socket_sk));
    if sk.is_null() {
        return 0;
    }
    server::mark(label, sk);
    judge(label, uid, sk, address::typed_head(address, bytes), address, bytes, Op::Connect)
}

/// Every send passes here, with or without an address: sendto, sendmsg, sendmmsg, write, io_uring, TCP fast open.
///
/// match-proto:v6.1:security/security.c:int security_socket_sendmsg(struct socket *sock, struct msghdr *msg, int size)
#[lsm(hook = "socket_sendmsg")]
pub fn socket_sendmsg(ctx: LsmContext) -> i32 {
    let previous: i32 = ctx.arg(3);
    let Some(label) = subject::agent() else { return enforce::pass(previous) };
    if previous != 0 {
        return enforce::pass(previous);
    }
    let sk: Ptr = kernel::load(ctx.arg::<*const u8>(0), offset!(socket_sk));
    if sk.is_null() {
        return enforce::pass(previous);
    }
    server::mark(label, sk);
    asker::mark_connected(label, sk);
    let msg: Ptr = ctx.arg::<*const u8>(1);
    let name: Ptr = kernel::load(msg, offset!(msg_name));
    let refused = routing::control_messages(label, sk, msg);
    if refused != 0 {
        return refused;
    }
    send(label, sk, name, kernel::load::<u32>(msg, offset!(msg_namelen)))
}

/// A function of its own, as `connect`, and for its part of the stack.
#[inline(never)]
fn send(label: &Label, sk: Ptr, name: Ptr, bytes: u32) -> i32 {
    // Without an address: on most sockets it was judged before; what writes frames or packets of its own needs none.
    if name.is_null() {
        let class = Socket::read(sk).class();
        if !matches!(class, Class::Raw | Class::Packet | Class::Protocol | Class::Family) {
            return 0;
        }
    }
    judge(label, subject::uid(), sk, address::head(name, bytes), name, bytes, Op::Send)
}

/// An act with an address, which begins with `head`. People's connects come here too when they are recorded: they have
/// no policy, and only those of internet sockets are told.
///
/// One end for all classes: the verifier looks at it once for each way that leads there.
#[inline(always)]
fn judge(label: &Label, uid: u32, sk: Ptr, head: Option<u64>, address: Ptr, bytes: u32, op: Op) -> i32 {
    let socket = Socket::read(sk);
    let mut class = socket.class();
    let outside = label.instance == 0;
    if matches!(class, Class::Unix) || outside && !matches!(class, Class::Endpoint) {
        return 0;
    }
    let policy = if outside { None } else { rules::policy(label) };
    let mut tell = false;
    let mut target = socket.target(class);
    let decision = match class {
        Class::Endpoint => {
            let meaning = address::inet(socket, head, address, bytes, matches!(op, Op::Send));
            if let Meaning::None = meaning {
                return 0;
            }
            if let Meaning::To(address, port) = meaning {
                (target.address, target.port) = (address, u32::from(port));
                asker::mark(label, sk, port);
            }
            target.cookie = kernel::load(sk, offset!(sock_cookie));
            tell = matches!(op, Op::Connect) || outside || {
                let address: [u8; 16] = bytemuck::cast(target.address);
                flow::first_on(sk, hash_bytes(&address) ^ u64::from(target.port))
            };
            let (decision, by_name) = endpoint(outside, policy, sk, socket, meaning);
            if by_name && !spoken::note(sk.cast_mut().cast(), label, uid, target.port) {
                verdict::decide_unreadable(policy)
            } else {
                decision
            }
        }
        Class::Vsock => {
            tell = true;
            // struct sockaddr_vm (linux/vm_sockets.h): family, reserved, port, cid.
            match (kernel::read::<u32>(address, 4), kernel::read::<u32>(address, 8), policy) {
                (Some(port), Some(cid), Some(policy)) if bytes >= 12 => {
                    (target.port, target.cid) = (port, cid);
                    verdict::decide(Some(policy), class, &rules::socket(policy, class, cid, port))
                }
                _ => verdict::decide_unreadable(policy),
            }
        }
        _ => {
            let mut number = socket.number(class);
            if matches!(class, Class::Netlink) {
                // struct sockaddr_nl (linux/netlink.h): family, pad, pid, groups. Port 0 without groups is the kernel
                // itself; all else reaches other processes and is judged as a family of its own.
                let port = kernel::read::<u32>(address, 4).unwrap_or(u32::MAX);
                let groups = kernel::read::<u32>(address, 8).unwrap_or(u32::MAX);
                if bytes < 12 || port != 0 || groups != 0 {
                    (class, number) = (Class::Family, u32::from(family::NETLINK));
                    target = socket.target(class);
                }
                target.cid = port;
            }
            verdict::decide(policy, class, &hits(policy, class, number))
        }
    };
    enforce::net(label, policy, &target, op, Place::Lsm, decision, uid, tell)
}

/// What becomes of an act on an internet endpoint, and whether what is said on it first is to be compared.
#[inline(always)]
fn endpoint(
    outside: bool,
    policy: Option<&Policy>,
    sk: Ptr,
    socket: Socket,
    meaning: Meaning,
) -> (Decision, bool) {
    if outside {
        return (enforce::UNGOVERNED, false);
    }
    match (meaning, policy) {
        (Meaning::To(address, port), Some(policy)) => {
            // An echo socket's "port" is the caller's to choose and means nothing.
            let protocol = socket.rule_protocol();
            let port = if protocol == super::protocol::ICMP as u8 { 0 } else { port };
            // MPTCP sends by sockets that the kernel makes behind this one, where nobody could compare what is said: no
            // name is known in the namespace 0.
            let multipath = socket.protocol == super::protocol::MPTCP;
            let netns = || if multipath { 0 } else { kernel::netns_of(sk) };
            let hits = rules::endpoint(policy, protocol, port, &address, netns);
            let decision = verdict::decide(Some(policy), Class::Endpoint, &hits);
            (decision, spoken::awaited(protocol, &hits, decision))
        }
        _ => (verdict::decide_unreadable(policy), false),
    }
}

/// What is judged by its class alone, whatever address it is given.
#[inline(always)]
pub fn by_class(
    label: &Label,
    policy: Option<&Policy>,
    socket: Socket,
    class: Class,
    op: Op,
    tell: bool,
) -> i32 {
    let hits = hits(policy, class, socket.number(class));
    let decision = verdict::decide(policy, class, &hits);
    enforce::net(label, policy, &socket.target(class), op, Place::Lsm, decision, subject::uid(), tell)
}

#[inline(always)]
pub fn hits(policy: Option<&Policy>, class: Class, number: u32) -> Hits {
    match policy {
        Some(policy) => rules::socket(policy, class, number, 0),
        None => Hits::default(),
    }
}
