//! Unix sockets: judged by the name the peer is bound to and by who the peer is, never by the spelling of the caller.

use agent_common::{
    event::net::{Op, Unix},
    identity::{Label, Origin, Owner},
    limits::UNIX_PATH_BYTES,
    rule::{Class, UNIX_NAME_BYTES},
    verdict::{self, Hits},
};
use aya_ebpf::{
    bindings::BPF_LOCAL_STORAGE_GET_F_CREATE,
    helpers::generated::{bpf_get_current_pid_tgid, bpf_probe_read_kernel, bpf_sk_storage_get},
    macros::lsm,
    programs::LsmContext,
};

use super::{family, flow, listen};
use crate::{
    emit::{self, Scratch},
    enforce,
    kernel::{self, Ptr, offset},
    maps::OWNERS,
    path, rules, subject,
};

/// match-proto:v6.1:security/security.c:int security_socket_listen(struct socket *sock, int backlog)
#[lsm(hook = "socket_listen")]
pub fn socket_listen(ctx: LsmContext) -> i32 {
    let sk: Ptr = kernel::load(ctx.arg::<*const u8>(0), offset!(socket_sk));
    if !own(sk) {
        listen::listens(sk);
    }
    enforce::pass(ctx.arg::<i32>(2))
}

/// match-proto:v6.1:security/security.c:int security_socket_bind(struct socket *sock, struct sockaddr *address,
/// int addrlen)
#[lsm(hook = "socket_bind")]
pub fn socket_bind(ctx: LsmContext) -> i32 {
    let sk: Ptr = kernel::load(ctx.arg::<*const u8>(0), offset!(socket_sk));
    if !own(sk) {
        listen::binds(sk, ctx.arg::<*const u8>(1), ctx.arg::<i32>(2) as u32);
    }
    enforce::pass(ctx.arg::<i32>(3))
}

/// Notes on a unix socket who it belongs to, for those who will connect to it; false for any other.
#[inline(always)]
fn own(sk: Ptr) -> bool {
    if sk.is_null() {
        return true;
    }
    if kernel::load::<u16>(sk, offset!(sock_family)) != family::UNIX {
        return false;
    }
    let Some(label) = subject::current() else { return true };
    let mut owner = Owner {
        instance: label.instance,
        exec_id: label.exec_id,
        // SAFETY: takes nothing.
        pid: (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32,
        origin: u32::from(label.origin),
    };
    // SAFETY: `sk` has the kernel's type and is not null; `owner` is on the stack.
    let slot = unsafe {
        bpf_sk_storage_get(
            OWNERS.as_ptr(),
            sk.cast_mut().cast(),
            (&raw mut owner).cast(),
            u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE),
        )
    }
    .cast::<Owner>();
    // SAFETY: null or a value that lives as long as the socket.
    if let Some(slot) = unsafe { slot.as_mut() } {
        *slot = owner;
    }
    true
}

/// Streams and sequenced packets.
///
/// match-proto:v6.1:security/security.c:int security_unix_stream_connect(struct sock *sock, struct sock *other,
/// struct sock *newsk)
#[lsm(hook = "unix_stream_connect")]
pub fn unix_stream_connect(ctx: LsmContext) -> i32 {
    let previous: i32 = ctx.arg(3);
    if previous != 0 {
        return enforce::pass(previous);
    }
    judge(ctx.arg::<*const u8>(0), ctx.arg::<*const u8>(1), Op::Connect)
}

/// Datagrams: each connect and each send.
///
/// match-proto:v6.1:security/security.c:int security_unix_may_send(struct socket *sock, struct socket *other)
#[lsm(hook = "unix_may_send")]
pub fn unix_may_send(ctx: LsmContext) -> i32 {
    let previous: i32 = ctx.arg(2);
    if previous != 0 {
        return enforce::pass(previous);
    }
    let from: Ptr = kernel::load(ctx.arg::<*const u8>(0), offset!(socket_sk));
    let to: Ptr = kernel::load(ctx.arg::<*const u8>(1), offset!(socket_sk));
    if from.is_null() || to.is_null() {
        return enforce::pass(previous);
    }
    judge(from, to, Op::Send)
}

#[inline(always)]
fn judge(from: Ptr, to: Ptr, op: Op) -> i32 {
    let Some(label) = subject::current() else { return 0 };
    if label.instance == 0 {
        // Only what touches an agent is recorded of people, and that is told by the agent's own acts.
        return 0;
    }
    // SAFETY: `to` has the kernel's type and is not null.
    let owner = unsafe {
        bpf_sk_storage_get(OWNERS.as_ptr(), to.cast_mut().cast(), core::ptr::null_mut(), 0)
            .cast::<Owner>()
            .as_ref()
    };
    if let Some(owner) = owner
        && owner.instance == label.instance
    {
        return 0;
    }
    let Some(scratch) = emit::acquire() else {
        // Every scratch of this CPU is in use by preempted programs: the class's default decides.
        let policy = rules::policy(label);
        let mut event = NAMELESS;
        return enforce::unix(label, policy, &mut event, verdict::decide_unreadable(policy), true);
    };
    let answer = named(label, scratch, from, to, owner, op);
    emit::release(scratch);
    answer
}

const NAMELESS: Unix = {
    // SAFETY: `Unix` is plain old data.
    unsafe { core::mem::zeroed() }
};

#[inline(always)]
fn named(label: &Label, scratch: &mut Scratch, from: Ptr, to: Ptr, owner: Option<&Owner>, op: Op) -> i32 {
    let known = read_name(scratch, to);
    let policy = rules::policy(label);
    let Some(name_bytes) = known else {
        // A socketpair's other end, or one that was never bound: not an address anyone chose.
        return 0;
    };
    scratch.unix.name_bytes = name_bytes;
    scratch.unix.op = op as u8;
    (
        scratch.unix.peer_instance,
        scratch.unix.peer_exec_id,
        scratch.unix.peer_pid,
        scratch.unix.peer_origin,
    ) = match owner {
        Some(owner) => (owner.instance, owner.exec_id, owner.pid, owner.origin as u8),
        None => (0, 0, listener_pid(to), Origin::Unknown as u8),
    };
    let hits = match policy {
        Some(policy) => {
            scratch.key.prefix_len = 32 + 8 * UNIX_NAME_BYTES as u32;
            scratch.key.data.policy = policy.id;
            if name_bytes as usize > UNIX_PATH_BYTES { Hits::default() } else { rules::unix(&scratch.key) }
        }
        None => Hits::default(),
    };
    let decision = verdict::decide(policy, Class::Unix, &hits);
    let tell = matches!(op, Op::Connect) || flow::first_on(from, to as u64);
    enforce::unix(label, policy, &mut scratch.unix, decision, tell)
}

/// The name `to` is bound to, into the event and the key; its length. A path is the socket file's path in its own
/// mount namespace; a longer one than `sun_path` keeps its length, and no rule is found for it.
#[inline(always)]
fn read_name(scratch: &mut Scratch, to: Ptr) -> Option<u16> {
    scratch.key.data.name = [0; UNIX_NAME_BYTES];
    scratch.unix.name = [0; UNIX_PATH_BYTES];
    let path = kernel::field(to, offset!(unix_path));
    let (from, bytes) = if kernel::read_ptr(path, offset!(path_dentry)).is_some() {
        scratch.path.walk(path);
        if scratch.path.flags != 0 {
            return Some(u16::MAX);
        }
        (scratch.path.walked_ptr(), scratch.path.walked())
    } else {
        let address = kernel::read_ptr(to, offset!(unix_addr))?;
        let bytes = kernel::peek::<u32>(address, offset!(unix_address_len)) as usize;
        // sun_family comes first.
        (kernel::field(address, offset!(unix_address_name) + 2), bytes.saturating_sub(2))
    };
    if bytes == 0 {
        return None;
    }
    let kept = if bytes > UNIX_PATH_BYTES { UNIX_PATH_BYTES } else { bytes };
    let kept = path::opaque(kept) & 0x7f;
    let kept = if kept > UNIX_PATH_BYTES { UNIX_PATH_BYTES } else { kept };
    // SAFETY: at most UNIX_PATH_BYTES into buffers of at least that.
    unsafe {
        bpf_probe_read_kernel((&raw mut scratch.unix.name).cast(), kept as u32, from.cast());
        bpf_probe_read_kernel((&raw mut scratch.key.data.name).cast(), kept as u32, from.cast());
    }
    scratch.key.data.name[UNIX_NAME_BYTES - 1] = kept as u8;
    Some(bytes as u16)
}

/// The process that listens, when it did so before the daemon: `sk_peer_pid` of a listening socket.
#[inline(always)]
fn listener_pid(sk: Ptr) -> u32 {
    match kernel::read_ptr(sk, offset!(sock_peer_pid)) {
        Some(pid) => kernel::peek::<u32>(pid, offset!(pid_numbers)),
        None => 0,
    }
}
