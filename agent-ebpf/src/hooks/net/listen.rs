//! What agents offer: internet sockets that listen, and datagram sockets bound to a port of the caller's choosing. It is
//! told and never refused.

use agent_common::{
    event::net::{Op, Place},
    identity::Label,
};
use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use super::{
    address::{self, Socket, Words},
    family, kind, protocol,
};
use crate::{
    enforce,
    kernel::{self, Ptr, offset},
    subject,
};

/// linux/tcp_states.h
const TCP_LISTEN: i32 = 10;

/// In cgroup mode, whose hooks see no listen(2). Every change of a TCP socket's state comes here, most of them where no
/// task's doing is the cause: this one happens in the call.
///
/// match-proto:v6.1:include/trace/events/sock.h:inet_sock_set_state(const struct sock *sk, const int oldstate,
/// const int newstate)
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    if ctx.arg::<i32>(2) == TCP_LISTEN && kernel::in_scope() {
        listens(ctx.arg::<*const u8>(0));
    }
    0
}

/// A socket is about to listen. Port 0: the kernel chooses one.
#[inline(always)]
pub fn listens(sk: Ptr) {
    let socket = Socket::read(sk);
    if !matches!(socket.family, family::INET | family::INET6) {
        return;
    }
    let Some(label) = subject::agent() else { return };
    let address = match socket.family {
        family::INET => address::mapped(kernel::peek(sk, offset!(sock_rcv_saddr))),
        _ => kernel::peek::<Words>(sk, offset!(sock_v6_rcv_saddr)),
    };
    tell(label, socket, address, kernel::peek(sk, offset!(sock_num)), Op::Listen, Place::Lsm);
}

/// A socket is about to be bound to an address, of which the kernel has a copy. A stream that is bound offers nothing
/// until it listens.
#[inline(always)]
pub fn binds(sk: Ptr, address: Ptr, bytes: u32) {
    let socket = Socket::read(sk);
    if !datagrams(socket) || bytes < 8 {
        return;
    }
    // Whatever family the address says it has: inet_bind takes some that are not the socket's.
    let port = u16::from_be(kernel::peek(address, 2));
    if port == 0 {
        return;
    }
    let Some(label) = subject::agent() else { return };
    let address = match socket.family {
        family::INET => address::mapped(kernel::peek(address, 4)),
        _ => kernel::peek::<Words>(address, 8),
    };
    tell(label, socket, address, port, Op::Bind, Place::Lsm);
}

/// Whether what is bound takes datagrams from others; an echo socket's port is a number of its own.
#[inline(always)]
pub fn datagrams(socket: Socket) -> bool {
    matches!(socket.family, family::INET | family::INET6)
        && socket.kind == kind::DGRAM
        && !matches!(socket.protocol, protocol::ICMP | protocol::ICMPV6)
}

#[inline(always)]
pub fn tell(label: &Label, socket: Socket, address: Words, port: u16, op: Op, place: Place) {
    let mut target = socket.target(socket.class());
    (target.address, target.port) = (address, u32::from(port));
    enforce::net(label, None, &target, op, place, enforce::UNGOVERNED, subject::uid(), true);
}
