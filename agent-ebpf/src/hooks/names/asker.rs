//! Agents' sockets that ask: those whose last target was port 53, with who it was that sent there.
//!
//! Noted in the call itself, since a packet does not say whose it is, and a socket may change hands.

use agent_common::{event::Subject, identity::Label};
use aya_ebpf::{
    bindings::{__sk_buff, BPF_LOCAL_STORAGE_GET_F_CREATE, bpf_sock_addr},
    helpers::generated::bpf_sk_storage_get,
};

use super::packet::DOMAIN;
use crate::{
    kernel::{self, Ptr, offset},
    maps::ASKERS,
    subject,
};

/// Notes the agent's socket where it is about to send to `port`.
#[inline(always)]
pub fn mark(label: &Label, sk: Ptr, port: u16) {
    if label.instance != 0 && port == DOMAIN {
        note(label, sk);
    }
}

/// The same, where the socket has been connected before.
#[inline(always)]
pub fn mark_connected(label: &Label, sk: Ptr) {
    mark(label, sk, u16::from_be(kernel::load::<u16>(sk, offset!(sock_dport))));
}

/// As [`mark`], for the socket of a cgroup hook; the port in network order, as the context has it.
///
/// # Safety
/// `ctx` is the context of a cgroup sock_addr hook.
#[inline(always)]
pub unsafe fn mark_at_cgroup(label: &Label, ctx: *mut bpf_sock_addr, port: u32) {
    // SAFETY: the caller's.
    let sk = unsafe { (*ctx).__bindgen_anon_1.sk };
    if !sk.is_null() && port as u16 == DOMAIN.to_be() {
        note(label, sk.cast_const().cast());
    }
}

/// A function of its own, for its part of the stack.
#[inline(never)]
pub fn note(label: &Label, sk: Ptr) {
    let flags = u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE);
    // SAFETY: `sk` has the kernel's type and is not null.
    let asker =
        unsafe { bpf_sk_storage_get(ASKERS.as_ptr(), sk.cast_mut().cast(), core::ptr::null_mut(), flags) };
    // SAFETY: the helper gives null or a value that lives as long as the socket.
    if let Some(asker) = unsafe { asker.cast::<Subject>().as_mut() } {
        subject::describe(asker, label);
    }
}

/// Who last sent to a resolver through the packet's socket, if it is an agent.
#[inline(always)]
pub fn of(skb: *mut __sk_buff) -> Option<&'static Subject> {
    // SAFETY: the context of a cgroup skb hook; the socket is not null where storage is asked for.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return None;
        }
        let asker = bpf_sk_storage_get(ASKERS.as_ptr(), sk.cast(), core::ptr::null_mut(), 0);
        asker.cast::<Subject>().as_ref()
    }
}
