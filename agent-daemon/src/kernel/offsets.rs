//! Field offsets of the running kernel, read from its BTF in one pass over the types.
//!
//! A full BTF parse builds a hundred thousand objects; this walks the type section once, keeps where each type
//! starts, and looks only into the structs that `agent_common::offsets::FIELDS` names.

use std::{collections::HashMap, path::Path};

use agent_common::offsets::{FIELDS, Offsets};
use anyhow::{Context as _, Result, bail, ensure};

/// Where a kernel shows its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// What the kernel side needs to know of kernel structs.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub offsets: Offsets,
    /// Bytes of `struct upid`.
    pub upid_bytes: u32,
}

impl Layout {
    /// Reads the layout of the running kernel.
    ///
    /// # Errors
    /// When the kernel shows no BTF (CONFIG_DEBUG_INFO_BTF), or a field is not there under any name known here.
    pub fn of_running_kernel() -> Result<Self> {
        Self::read(Path::new(VMLINUX))
    }

    /// As [`Self::of_running_kernel`], from a file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| {
            format!("read {}: the kernel must be built with CONFIG_DEBUG_INFO_BTF=y", path.display())
        })?;
        let btf = Btf::parse(&bytes).with_context(|| format!("parse {}", path.display()))?;
        let mut values = [0u32; FIELDS.len()];
        let mut missing = Vec::new();
        for (value, (structure, members)) in values.iter_mut().zip(FIELDS) {
            match members.split('|').find_map(|member| btf.offset(structure, member)) {
                Some(offset) => *value = offset,
                None => missing.push(format!("{structure}.{members}")),
            }
        }
        ensure!(missing.is_empty(), "this kernel's BTF has no {}", missing.join(", "));
        let upid_bytes =
            btf.size(agent_common::offsets::UPID_STRUCT).context("this kernel's BTF has no struct upid")?;
        Ok(Self { offsets: Offsets::from_values(values), upid_bytes })
    }
}

const HEADER_BYTES: usize = 24;
const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;

const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;

/// The type section with an index; borrowed from the file's bytes.
struct Btf<'a> {
    types: &'a [u8],
    /// Byte position of each type id in `types`; id 0 is void.
    starts: Vec<u32>,
    /// Structs that are looked for, by name.
    structs: HashMap<&'a str, u32>,
    strings: &'a [u8],
}

impl<'a> Btf<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self> {
        ensure!(
            bytes.len() >= HEADER_BYTES && word(bytes, 0)? & 0xffff == 0xeb9f,
            "not BTF of this byte order"
        );
        let head = word(bytes, 4)? as usize;
        let section = |at: usize| -> Result<&'a [u8]> {
            let start = head + word(bytes, at)? as usize;
            let end = start + word(bytes, at + 4)? as usize;
            bytes.get(start..end).context("a section reaches past the end")
        };
        let (types, strings) = (section(8)?, section(16)?);
        let mut btf = Self { types, starts: vec![0], structs: HashMap::new(), strings };
        let mut at = 0;
        while at < types.len() {
            let id = btf.starts.len() as u32;
            btf.starts.push(at as u32);
            let info = word(types, at + 4)?;
            let (kind, count) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
            if kind == KIND_STRUCT {
                let name = btf.string(word(types, at)?);
                if FIELDS.iter().any(|(structure, _)| *structure == name)
                    || name == agent_common::offsets::UPID_STRUCT
                {
                    btf.structs.entry(name).or_insert(id);
                }
            }
            at += TYPE_BYTES + trailer_bytes(kind, count)?;
        }
        Ok(btf)
    }

    fn size(&self, structure: &str) -> Option<u32> {
        word(self.types, self.start(*self.structs.get(structure)?)? + 8).ok()
    }

    /// Byte offset of a dotted member path.
    fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        let mut id = *self.structs.get(structure)?;
        let mut offset = 0;
        for name in path.split('.') {
            let (within, member_type) = self.member(id, name)?;
            offset += within;
            id = member_type;
        }
        Some(offset)
    }

    /// Byte offset and type of a member, looked for in anonymous structs and unions too.
    fn member(&self, id: u32, wanted: &str) -> Option<(u32, u32)> {
        let start = self.start(self.unmodified(id)?)?;
        let info = word(self.types, start + 4).ok()?;
        let kind = (info >> 24) & 0x1f;
        if kind != KIND_STRUCT && kind != KIND_UNION {
            return None;
        }
        // With kind_flag set the upper byte of the offset is a bit field's width.
        let mask = if info >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
        for index in 0..(info & 0xffff) as usize {
            let at = start + TYPE_BYTES + index * MEMBER_BYTES;
            let (name, member_type) =
                (self.string(word(self.types, at).ok()?), word(self.types, at + 4).ok()?);
            let bytes = (word(self.types, at + 8).ok()? & mask) / 8;
            if name == wanted {
                return Some((bytes, member_type));
            }
            if name.is_empty()
                && let Some((within, found)) = self.member(member_type, wanted)
            {
                return Some((bytes + within, found));
            }
        }
        None
    }

    /// The type below typedefs and qualifiers.
    fn unmodified(&self, mut id: u32) -> Option<u32> {
        const MODIFIERS: [u32; 5] = [8, 9, 10, 11, 18];
        for _ in 0..16 {
            let start = self.start(id)?;
            let kind = (word(self.types, start + 4).ok()? >> 24) & 0x1f;
            if !MODIFIERS.contains(&kind) {
                return Some(id);
            }
            id = word(self.types, start + 8).ok()?;
        }
        None
    }

    fn start(&self, id: u32) -> Option<usize> {
        (id != 0).then(|| self.starts.get(id as usize).map(|start| *start as usize)).flatten()
    }

    fn string(&self, at: u32) -> &'a str {
        let rest = self.strings.get(at as usize..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
        std::str::from_utf8(&rest[..end]).unwrap_or_default()
    }
}

/// Bytes that follow a type's fixed part (Documentation/bpf/btf.rst).
fn trailer_bytes(kind: u32, count: usize) -> Result<usize> {
    Ok(match kind {
        // ptr, fwd, typedef, volatile, const, restrict, func, float, type_tag
        2 | 7 | 8 | 9 | 10 | 11 | 12 | 16 | 18 => 0,
        // int, var, decl_tag
        1 | 14 | 17 => 4,
        // array
        3 => 12,
        KIND_STRUCT | KIND_UNION => count * MEMBER_BYTES,
        // enum, func_proto
        6 | 13 => count * 8,
        // datasec, enum64
        15 | 19 => count * 12,
        other => bail!("type kind {other} is newer than this program"),
    })
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let slice = bytes.get(at..at + 4).context("cut short")?;
    Ok(u32::from_le_bytes([slice[0], slice[1], slice[2], slice[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_every_field() {
        if !Path::new(VMLINUX).exists() {
            return;
        }
        let layout = Layout::of_running_kernel().unwrap();
        assert_eq!(layout.upid_bytes, 16);
        assert_ne!(layout.offsets.task_tgid, 0);
    }

    #[test]
    fn rubbish_is_an_error() {
        assert!(Btf::parse(&[0; 64]).is_err());
        assert!(Btf::parse(&[0x9f, 0xeb, 1, 0]).is_err());
    }
}
