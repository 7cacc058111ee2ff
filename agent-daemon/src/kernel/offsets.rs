//! Field offsets of the running kernel, as its BTF has them.

use agent_common::offsets::{FIELDS, Offsets, UPID_STRUCT};
use anyhow::{Context as _, Result, ensure};

use super::btf::Btf;

/// What the kernel side needs to know of kernel structs.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub offsets: Offsets,
    /// Bytes of `struct upid`.
    pub upid_bytes: u32,
}

impl Layout {
    /// Looks the layout up.
    ///
    /// # Errors
    /// When a field is not there under any name known here.
    pub fn of(btf: &Btf) -> Result<Self> {
        let mut values = [0u32; FIELDS.len()];
        let mut missing = Vec::new();
        for (value, (structure, members)) in values.iter_mut().zip(FIELDS) {
            match members.split('|').find_map(|member| btf.offset(structure, member)) {
                Some(offset) => *value = offset,
                None => missing.push(format!("{structure}.{members}")),
            }
        }
        ensure!(missing.is_empty(), "this kernel's BTF has no {}", missing.join(", "));
        let upid_bytes = btf.size(UPID_STRUCT).context("this kernel's BTF has no struct upid")?;
        Ok(Self { offsets: Offsets::from_values(values), upid_bytes })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::kernel::btf::VMLINUX;

    #[test]
    fn the_running_kernel_has_every_field() {
        if !Path::new(VMLINUX).exists() {
            return;
        }
        let layout = Layout::of(&Btf::of_running_kernel().unwrap()).unwrap();
        assert_eq!(layout.upid_bytes, 16);
        assert_ne!(layout.offsets.task_tgid, 0);
    }
}
