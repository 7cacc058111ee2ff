//! What a socket was last told to send to, so that a stream of datagrams to one target is told once.

use aya_ebpf::{bindings::BPF_LOCAL_STORAGE_GET_F_CREATE, helpers::generated::bpf_sk_storage_get};

use crate::{kernel::Ptr, maps::FLOWS};

/// Whether this socket's last told send went elsewhere; `target` stands for the other end.
#[inline(always)]
pub fn first_on(sk: Ptr, target: u64) -> bool {
    // SAFETY: `sk` has the kernel's type; without memory the helper gives null.
    let slot = unsafe {
        bpf_sk_storage_get(
            FLOWS.as_ptr(),
            sk.cast_mut().cast(),
            core::ptr::null_mut(),
            u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE),
        )
    }
    .cast::<u64>();
    if slot.is_null() {
        return true;
    }
    // SAFETY: null-checked; lives as long as the socket, which the caller holds.
    unsafe {
        let told = *slot == target;
        *slot = target;
        !told
    }
}
