//! What cgroup mode can refuse: connects and addressed datagrams of internet sockets, and the making of raw ones.
//!
//! Attached to the root cgroup. These hooks have no task storage, so agents' tasks, and those whose
//! connects are recorded, are looked up by their address.

use agent_common::{
    event::{
        net::{Op, Place},
        record,
    },
    identity::Label,
    rule::Class,
    verdict,
};
use aya_ebpf::{
    helpers::generated::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_netns_cookie},
    macros::{cgroup_sock, cgroup_sock_addr},
    programs::{SockAddrContext, SockContext},
};

use super::{
    address::{self, Socket, Words},
    family, inet, listen,
};
use crate::{
    emit, enforce,
    hooks::names::{asker, server, spoken},
    kernel::{self, Ptr, offset},
    maps::{SEEDS, TASKS},
    rules, subject,
};

/// The answers of a cgroup hook.
const ALLOW: i32 = 1;
const REFUSE: i32 = 0;

/// The label of the current task when it is an agent's, or one whose connects are recorded.
#[inline(always)]
fn noted() -> Option<&'static Label> {
    // SAFETY: takes nothing.
    let task = unsafe { bpf_get_current_task() };
    // SAFETY: entries of a map stay readable for the program's run.
    if let Some(label) = unsafe { TASKS.get(&task) } {
        return Some(label);
    }
    // SAFETY: takes nothing.
    let ids = unsafe { bpf_get_current_pid_tgid() };
    // SAFETY: as above.
    let seed = unsafe { SEEDS.get(&((ids >> 32) as u32)) }?;
    // One that is left of a process with the same number says nothing.
    let leader = kernel::follow(task as Ptr, offset!(task_leader));
    let wanted = seed.label.instance != 0 || emit::recorded(seed.label.origin, record::NET);
    (wanted && subject::is_of(seed, kernel::peek(leader, offset!(task_start)))).then_some(&seed.label)
}

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    v4(&ctx, Op::Connect)
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    v6(&ctx, Op::Connect)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    v4(&ctx, Op::Send)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    v6(&ctx, Op::Send)
}

#[cgroup_sock_addr(bind4)]
pub fn bind4(ctx: SockAddrContext) -> i32 {
    // SAFETY: the context of a cgroup sock_addr hook.
    let address = address::mapped(unsafe { (*ctx.sock_addr).user_ip4 });
    binds(&ctx, family::INET, address)
}

#[cgroup_sock_addr(bind6)]
pub fn bind6(ctx: SockAddrContext) -> i32 {
    binds(&ctx, family::INET6, v6_address(&ctx))
}

/// What is bound is told, and never refused here.
#[inline(always)]
fn binds(ctx: &SockAddrContext, family: u16, address: Words) -> i32 {
    let Some(label) = noted().filter(|label| label.instance != 0) else { return ALLOW };
    // SAFETY: the context of a cgroup sock_addr hook.
    let (port, kind, protocol) = unsafe {
        let ctx = &*ctx.sock_addr;
        (ctx.user_port, ctx.type_, ctx.protocol)
    };
    let socket = Socket { family, kind: kind as u16, protocol: protocol as u16 };
    let port = u16::from_be(port as u16);
    if port != 0 && listen::datagrams(socket) {
        listen::tell(label, socket, address, port, Op::Bind, Place::Cgroup);
    }
    ALLOW
}

/// Raw sockets are judged when they are made; bpf_sock tells family, type and protocol.
#[cgroup_sock(sock_create)]
pub fn sock_create(ctx: SockContext) -> i32 {
    let Some(label) = noted().filter(|label| label.instance != 0) else { return ALLOW };
    // SAFETY: the context of a cgroup sock hook.
    let sock = unsafe { &*ctx.sock };
    let socket =
        Socket { family: sock.family as u16, kind: sock.type_ as u16, protocol: sock.protocol as u16 };
    let class = socket.class();
    if matches!(class, Class::Endpoint) {
        return ALLOW;
    }
    let policy = rules::policy(label);
    let decision = verdict::decide(policy, class, &inet::hits(policy, class, socket.number(class)));
    answer(enforce::net(
        label,
        policy,
        &socket.target(class),
        Op::Create,
        Place::Cgroup,
        decision,
        subject::uid(),
        true,
    ))
}

#[inline(always)]
fn v4(ctx: &SockAddrContext, op: Op) -> i32 {
    let Some(label) = noted() else { return ALLOW };
    // SAFETY: the context of a cgroup sock_addr hook.
    let (address, port, kind, protocol) = unsafe {
        let ctx = &*ctx.sock_addr;
        (ctx.user_ip4, ctx.user_port, ctx.type_, ctx.protocol)
    };
    if label.instance != 0 {
        // SAFETY: as above.
        unsafe { server::mark_at_cgroup(ctx.sock_addr) };
        // SAFETY: as above.
        unsafe { asker::mark_at_cgroup(label, ctx.sock_addr, port) };
    }
    judge(ctx, label, family::INET, kind, protocol, address::mapped(address), port, op)
}

#[inline(always)]
fn v6(ctx: &SockAddrContext, op: Op) -> i32 {
    let Some(label) = noted() else { return ALLOW };
    // SAFETY: the context of a cgroup sock_addr hook.
    let (port, kind, protocol) = unsafe {
        let ctx = &*ctx.sock_addr;
        (ctx.user_port, ctx.type_, ctx.protocol)
    };
    if label.instance != 0 {
        // SAFETY: as above.
        unsafe { server::mark_at_cgroup(ctx.sock_addr) };
        // SAFETY: as above.
        unsafe { asker::mark_at_cgroup(label, ctx.sock_addr, port) };
    }
    judge(ctx, label, family::INET6, kind, protocol, v6_address(ctx), port, op)
}

#[inline(always)]
fn v6_address(ctx: &SockAddrContext) -> Words {
    // SAFETY: the context of a cgroup sock_addr hook.
    let words = unsafe {
        let ctx = &*ctx.sock_addr;
        [
            core::ptr::read_volatile(&raw const ctx.user_ip6[0]),
            core::ptr::read_volatile(&raw const ctx.user_ip6[1]),
            core::ptr::read_volatile(&raw const ctx.user_ip6[2]),
            core::ptr::read_volatile(&raw const ctx.user_ip6[3]),
        ]
    };
    [0, 2].map(|at| u64::from(words[at]) | u64::from(words[at + 1]) << 32)
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "inlined; a struct would be built on a stack of 512 bytes")]
fn judge(
    ctx: &SockAddrContext,
    label: &Label,
    family: u16,
    kind: u32,
    protocol: u32,
    address: Words,
    port: u32,
    op: Op,
) -> i32 {
    let socket = Socket { family, kind: kind as u16, protocol: protocol as u16 };
    let class = socket.class();
    let mut target = socket.target(class);
    target.address = address::settle(address);
    let port = u16::from_be(port as u16);
    target.port = u32::from(port);
    if label.instance == 0 {
        if matches!(op, Op::Connect)
            && matches!(class, Class::Endpoint)
            && emit::recorded(label.origin, record::NET)
        {
            enforce::net(label, None, &target, op, Place::Cgroup, enforce::UNGOVERNED, subject::uid(), true);
        }
        return ALLOW;
    }
    let policy = rules::policy(label);
    let decision = match policy {
        Some(policy) if matches!(class, Class::Endpoint) => {
            let protocol = socket.rule_protocol();
            let port = if protocol == super::protocol::ICMP as u8 { 0 } else { port };
            // SAFETY: the context of a cgroup sock_addr hook.
            let netns = || unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) };
            let hits = rules::endpoint(policy, protocol, port, &target.address, netns);
            let decision = verdict::decide(Some(policy), class, &hits);
            // SAFETY: as above.
            let sk = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
            let by_name = spoken::awaited(protocol, &hits, decision);
            if by_name && (sk.is_null() || !spoken::note(sk.cast(), label, subject::uid(), u32::from(port))) {
                verdict::decide_unreadable(Some(policy))
            } else {
                decision
            }
        }
        _ => verdict::decide(policy, class, &inet::hits(policy, class, socket.number(class))),
    };
    // A send is told each time: these hooks have no typed socket to remember the last target on.
    answer(enforce::net(label, policy, &target, op, Place::Cgroup, decision, subject::uid(), true))
}

#[inline(always)]
fn answer(errno: i32) -> i32 {
    if errno == 0 { ALLOW } else { REFUSE }
}
