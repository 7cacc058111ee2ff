//! Sockets that are not unix sockets, in lsm mode: creation, connect, sends with an address.

use agent_common::{
    event::net::{Op, Place},
    identity::{Label, hash_bytes},
    rule::{Class, Policy},
    verdict::{self, Hits},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};

use super::{
    address::{self, Meaning, Socket},
    family, flow, routing,
};
use crate::{
    enforce,
    hooks::names::server,
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
    let sk: Ptr = kernel::load(ctx.arg::<*const u8>(0), offset!(socket_sk));
    if sk.is_null() {
        return enforce::pass(previous);
    }
    server::mark(label, sk);
    judge(label, sk, ctx.arg::<*const u8>(1), ctx.arg::<i32>(2) as u32, Op::Connect)
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
    let msg: Ptr = ctx.arg::<*const u8>(1);
    let name: Ptr = kernel::load(msg, offset!(msg_name));
    let refused = routing::control_messages(label, sk, msg);
    if refused != 0 {
        return refused;
    }
    if name.is_null() {
        return unaddressed(label, sk);
    }
    judge(label, sk, name, kernel::load::<u32>(msg, offset!(msg_namelen)), Op::Send)
}

/// A send without an address. On most sockets the address was judged before; what writes frames or packets of its
/// own needs none.
#[inline(always)]
fn unaddressed(label: &Label, sk: Ptr) -> i32 {
    let socket = Socket::read(sk);
    let class = socket.class();
    match class {
        Class::Raw | Class::Packet | Class::Protocol | Class::Family => {
            by_class(label, rules::policy(label), socket, class, Op::Send, false)
        }
        _ => 0,
    }
}

#[inline(always)]
fn judge(label: &Label, sk: Ptr, address: Ptr, bytes: u32, op: Op) -> i32 {
    let socket = Socket::read(sk);
    let class = socket.class();
    match class {
        Class::Unix => 0,
        Class::Endpoint => endpoint(label, sk, socket, address, bytes, op),
        Class::Vsock => vsock(label, socket, address, bytes, op),
        Class::Netlink => netlink(label, socket, address, bytes, op),
        _ if label.instance == 0 => 0,
        _ => by_class(label, rules::policy(label), socket, class, op, false),
    }
}

/// An internet endpoint. People's connects come here too when they are recorded; they have no policy.
#[inline(always)]
fn endpoint(label: &Label, sk: Ptr, socket: Socket, address: Ptr, bytes: u32, op: Op) -> i32 {
    let mut target = socket.target(Class::Endpoint);
    let meaning = address::inet(socket, address, bytes, matches!(op, Op::Send));
    if let Meaning::To(address, port) = meaning {
        target.address = address;
        target.port = u32::from(port);
    }
    if let Meaning::None = meaning {
        return 0;
    }
    let cookie: u64 = kernel::load(sk, offset!(sock_cookie));
    if label.instance == 0 {
        return enforce::net(label, None, &target, op, Place::Lsm, enforce::UNGOVERNED, cookie, true);
    }
    let policy = rules::policy(label);
    let decision = match (meaning, policy) {
        (Meaning::To(address, port), Some(policy)) => {
            // An echo socket's "port" is the caller's to choose and means nothing.
            let protocol = socket.rule_protocol();
            let port = if protocol == super::protocol::ICMP as u8 { 0 } else { port };
            let hits = rules::endpoint(policy, protocol, port, &address, || kernel::netns_of(sk));
            verdict::decide(Some(policy), Class::Endpoint, &hits)
        }
        _ => verdict::decide_unreadable(policy),
    };
    let tell =
        matches!(op, Op::Connect) || flow::first_on(sk, hash_bytes(&target.address) ^ u64::from(target.port));
    enforce::net(label, policy, &target, op, Place::Lsm, decision, cookie, tell)
}

/// struct sockaddr_vm (linux/vm_sockets.h): family, reserved, port, cid.
#[inline(always)]
fn vsock(label: &Label, socket: Socket, address: Ptr, bytes: u32, op: Op) -> i32 {
    if label.instance == 0 {
        return 0;
    }
    let mut target = socket.target(Class::Vsock);
    let policy = rules::policy(label);
    let decision = match (kernel::read::<u32>(address, 4), kernel::read::<u32>(address, 8), policy) {
        (Some(port), Some(cid), Some(policy)) if bytes >= 12 => {
            target.port = port;
            target.cid = cid;
            verdict::decide(Some(policy), Class::Vsock, &rules::socket(policy, Class::Vsock, cid, port))
        }
        _ => verdict::decide_unreadable(policy),
    };
    enforce::net(label, policy, &target, op, Place::Lsm, decision, 0, true)
}

/// struct sockaddr_nl (linux/netlink.h): family, pad, pid, groups. Port 0 without groups is the kernel itself; all
/// else reaches other processes and is judged as a family of its own.
#[inline(always)]
fn netlink(label: &Label, socket: Socket, address: Ptr, bytes: u32, op: Op) -> i32 {
    if label.instance == 0 {
        return 0;
    }
    let policy = rules::policy(label);
    let port = kernel::read::<u32>(address, 4).unwrap_or(u32::MAX);
    let groups = kernel::read::<u32>(address, 8).unwrap_or(u32::MAX);
    let class = if bytes >= 12 && port == 0 && groups == 0 { Class::Netlink } else { Class::Family };
    let mut target = socket.target(class);
    target.cid = port;
    let hits =
        hits(policy, class, if matches!(class, Class::Family) { u32::from(family::NETLINK) } else { 0 });
    let decision = verdict::decide(policy, class, &hits);
    enforce::net(label, policy, &target, op, Place::Lsm, decision, 0, false)
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
    enforce::net(label, policy, &socket.target(class), op, Place::Lsm, decision, 0, tell)
}

#[inline(always)]
pub fn hits(policy: Option<&Policy>, class: Class, number: u32) -> Hits {
    match policy {
        Some(policy) => rules::socket(policy, class, number, 0),
        None => Hits::default(),
    }
}
