//! Agents' own servers: a socket of port 53 through which an agent has sent, or that it has connected, is no resolver's.
//!
//! Marked in the call itself, before the packet goes out, so that it is known where that is read.

use agent_common::identity::Label;
use aya_ebpf::{
    bindings::{__sk_buff, BPF_LOCAL_STORAGE_GET_F_CREATE, bpf_sock_addr},
    helpers::generated::bpf_sk_storage_get,
};

use super::packet::DOMAIN;
use crate::{
    kernel::{self, Ptr, offset},
    maps::AGENT_SERVERS,
};

/// Marks the agent's socket, given as the kernel's own type, where its port is that of name servers.
#[inline(always)]
pub fn mark(label: &Label, sk: Ptr) {
    if label.instance != 0 && kernel::load::<u16>(sk, offset!(sock_num)) == DOMAIN {
        put(sk.cast_mut().cast());
    }
}

/// As [`mark`], for the socket of a cgroup hook.
///
/// # Safety
/// `ctx` is the context of a cgroup sock_addr hook.
#[inline(always)]
pub unsafe fn mark_at_cgroup(ctx: *mut bpf_sock_addr) {
    // SAFETY: the caller's.
    unsafe {
        let sk = (*ctx).__bindgen_anon_1.sk;
        if !sk.is_null() && (*sk).src_port == u32::from(DOMAIN) {
            put(sk.cast());
        }
    }
}

#[inline(always)]
fn put(sk: *mut core::ffi::c_void) {
    let flags = u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE);
    // SAFETY: `sk` has the kernel's type and is not null.
    unsafe { bpf_sk_storage_get(AGENT_SERVERS.as_ptr(), sk.cast(), core::ptr::null_mut(), flags) };
}

/// Whether the packet's socket is marked.
#[inline(always)]
pub fn sent_by_agent(skb: *mut __sk_buff) -> bool {
    // SAFETY: the context of a cgroup skb hook; the socket is not null.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        sk.is_null()
            || !bpf_sk_storage_get(AGENT_SERVERS.as_ptr(), sk.cast(), core::ptr::null_mut(), 0).is_null()
    }
}
