//! Source routing: options by which a packet takes its first hop elsewhere than to the address that was judged.
//!
//! IPv4's loose and strict source route go by setsockopt(IP_OPTIONS) or a control message; IPv6's routing header by
//! setsockopt, by a control message, or inside a flow label's options. Neither asks for a privilege.

use agent_common::{event::net::Op, identity::Label, limits, rule::Class};
use aya_ebpf::{macros::lsm, programs::LsmContext};

use super::{address::Socket, family, inet::by_class};
use crate::{
    enforce,
    kernel::{self, Ptr, offset},
    rules, subject,
};

const SOL_IP: i32 = 0;
const IP_OPTIONS: i32 = 4;
const IP_RETOPTS: i32 = 7;
const SOL_IPV6: i32 = 41;
const IPV6_2292RTHDR: i32 = 5;
const IPV6_2292PKTOPTIONS: i32 = 6;
const IPV6_FLOWLABEL_MGR: i32 = 32;
const IPV6_RTHDRDSTOPTS: i32 = 55;
const IPV6_RTHDR: i32 = 57;

/// match-proto:v6.1:security/security.c:int security_socket_setsockopt(struct socket *sock, int level, int optname)
#[lsm(hook = "socket_setsockopt")]
pub fn socket_setsockopt(ctx: LsmContext) -> i32 {
    let (level, option): (i32, i32) = (ctx.arg(1), ctx.arg(2));
    let previous: i32 = ctx.arg(3);
    if previous != 0 || !routes(level, option) {
        return enforce::pass(previous);
    }
    let Some(label) = subject::agent() else { return enforce::pass(previous) };
    let sk: Ptr = kernel::load(ctx.arg::<*const u8>(0), offset!(socket_sk));
    if sk.is_null() {
        return enforce::pass(previous);
    }
    by_class(label, rules::policy(label), Socket::read(sk), Class::Routing, Op::Option, true)
}

#[inline(always)]
fn routes(level: i32, option: i32) -> bool {
    match level {
        SOL_IP => matches!(option, IP_OPTIONS | IP_RETOPTS),
        SOL_IPV6 => matches!(
            option,
            IPV6_2292RTHDR | IPV6_2292PKTOPTIONS | IPV6_FLOWLABEL_MGR | IPV6_RTHDRDSTOPTS | IPV6_RTHDR
        ),
        _ => false,
    }
}

/// Looks through the control messages of a send (the kernel's copy). More than the bound is refused like a route.
#[inline(always)]
pub fn control_messages(label: &Label, sk: Ptr, msg: Ptr) -> i32 {
    let control: Ptr = kernel::load(msg, offset!(msg_control));
    let bytes: u64 = kernel::load(msg, offset!(msg_controllen));
    if control.is_null() || bytes < HEAD { 0 } else { each(label, sk, control, bytes) }
}

/// A function of its own for its part of the stack.
#[inline(never)]
fn each(label: &Label, sk: Ptr, control: Ptr, bytes: u64) -> i32 {
    let socket = Socket::read(sk);
    if socket.family != family::INET && socket.family != family::INET6 {
        return 0;
    }
    let mut look = Look { at: control as u64, left: bytes, harmless: 0 };
    kernel::repeat(limits::CMSGS_MAX, next, &mut look);
    if look.harmless != 0 {
        return 0;
    }
    by_class(label, rules::policy(label), socket, Class::Routing, Op::Send, false)
}

/// How far the control messages of a send were looked through.
#[repr(C)]
struct Look {
    at: u64,
    left: u64,
    /// Not 0 once all of them were, and none is a route.
    harmless: u64,
}

/// One control message. A callback, which the verifier looks at once.
extern "C" fn next(_step: u64, look: *mut Look) -> u64 {
    // SAFETY: `repeat` hands over a pointer to a live value.
    let look = unsafe { &mut *look };
    if look.left < HEAD {
        look.harmless = 1;
        return 1;
    }
    let here = look.at as Ptr;
    let length = kernel::peek::<u64>(here, 0);
    let level = kernel::read::<i32>(here, 8).unwrap_or(SOL_IP);
    let kind = kernel::read::<i32>(here, 12).unwrap_or(IP_RETOPTS);
    if routes(level, kind) {
        return 1;
    }
    let whole = length.wrapping_add(7) & !7;
    if length < HEAD || whole >= look.left {
        look.harmless = 1;
        return 1;
    }
    look.at += whole;
    look.left -= whole;
    0
}

/// sizeof(struct cmsghdr).
const HEAD: u64 = 16;
