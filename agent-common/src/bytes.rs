//! What readers of bytes need that run in the kernel as well as in user space.

/// An ASCII letter in lower case, every other byte as it is.
#[must_use]
#[inline(always)]
pub const fn lower(byte: u32) -> u32 {
    if matches!(byte, 0x41..=0x5a) { byte + 0x20 } else { byte }
}

/// Hides a value's range from the compiler, so that a mask which only the verifier needs is not optimised away.
#[must_use]
#[inline(always)]
pub fn opaque(value: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: moves a register onto itself, which ends what the compiler knows of `value`.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    value
}
