//! The running kernel's BTF, indexed in one pass: where each type begins, and the few that are looked for by name.
//!
//! A full parse builds a hundred thousand objects, and a look-up by name walks them all: most of a start. This keeps the
//! bytes as they came and remembers only structs that `agent_common::offsets` names and what programs can be attached to.

use std::{collections::HashMap, ops::Range, path::Path};

use agent_common::offsets::{FIELDS, UPID_STRUCT};
use anyhow::{Context as _, Result, bail, ensure};

/// Where a kernel shows its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const HEADER_BYTES: usize = 24;
const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;
/// Bytes of a type with its members, rather less than they are: room for their starts is made at once.
const TYPE_BYTES_TYPICAL: usize = 20;

const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_TYPEDEF: u32 = 8;
const KIND_FUNC: u32 = 12;

/// What LSM programs are attached to: functions of this prefix.
const LSM: &[u8; 8] = b"bpf_lsm_";
/// What tracing programs are attached to: typedefs of this prefix.
const TRACE: &[u8; 8] = b"btf_trac";

/// The types with an index.
pub struct Btf {
    bytes: Vec<u8>,
    types: Range<usize>,
    strings: Range<usize>,
    /// Position of each type id in the types; id 0 is void.
    starts: Vec<u32>,
    /// Structs that are looked for, by name.
    structs: HashMap<&'static [u8], u32>,
    /// Functions and typedefs that programs can be attached to.
    hooks: Vec<u32>,
}

impl Btf {
    /// Reads the running kernel's.
    ///
    /// # Errors
    /// When the kernel shows none (CONFIG_DEBUG_INFO_BTF), or one that is not understood.
    pub fn of_running_kernel() -> Result<Self> {
        let bytes = std::fs::read(Path::new(VMLINUX)).with_context(|| {
            format!("read {VMLINUX}: the kernel must be built with CONFIG_DEBUG_INFO_BTF=y")
        })?;
        Self::parse(bytes).with_context(|| format!("parse {VMLINUX}"))
    }

    pub fn parse(bytes: Vec<u8>) -> Result<Self> {
        ensure!(
            bytes.len() >= HEADER_BYTES && word(&bytes, 0)? & 0xffff == 0xeb9f,
            "not BTF of this byte order"
        );
        let head = word(&bytes, 4)? as usize;
        let section = |at: usize| -> Result<Range<usize>> {
            let start = head + word(&bytes, at)? as usize;
            let end = start + word(&bytes, at + 4)? as usize;
            ensure!(end <= bytes.len(), "a section reaches past the end");
            Ok(start..end)
        };
        let (types, strings) = (section(8)?, section(16)?);
        let (structs, hooks) = (HashMap::new(), Vec::new());
        let mut btf = Self { starts: vec![0], structs, hooks, bytes, types, strings };
        btf.index()?;
        Ok(btf)
    }

    fn index(&mut self) -> Result<()> {
        let named = FIELDS.iter().map(|(structure, _)| structure.as_bytes()).chain([UPID_STRUCT.as_bytes()]);
        let wanted: HashMap<&[u8], &'static [u8]> = named.map(|name| (name, name)).collect();
        // Of ten thousand names few begin as one that is wanted: those alone are looked up.
        let mut begins = [false; 256];
        for first in wanted.keys().filter_map(|name| name.get(..2)) {
            begins[usize::from(first[0] ^ first[1].rotate_left(4))] = true;
        }
        let types = self.bytes.get(self.types.clone()).context("cut short")?;
        let strings = self.bytes.get(self.strings.clone()).context("cut short")?;
        let mut starts = Vec::with_capacity(types.len() / TYPE_BYTES_TYPICAL);
        starts.push(0);
        let mut at = 0;
        while at < types.len() {
            let head: &[u8; 8] = types.get(at..).and_then(|rest| rest.first_chunk()).context("cut short")?;
            let [n0, n1, n2, n3, i0, i1, _, i3] = *head;
            let kind = u32::from(i3 & 0x1f);
            let name = || strings.get(u32::from_le_bytes([n0, n1, n2, n3]) as usize..).unwrap_or_default();
            let id = starts.len() as u32;
            match kind {
                KIND_STRUCT => {
                    let name = name();
                    if let [first, second, ..] = *name
                        && begins[usize::from(first ^ second.rotate_left(4))]
                        && let Some(name) = wanted.get(until_nul(name))
                    {
                        self.structs.entry(*name).or_insert(id);
                    }
                }
                KIND_FUNC if name().starts_with(LSM) => self.hooks.push(id),
                KIND_TYPEDEF if name().starts_with(TRACE) => self.hooks.push(id),
                _ => {}
            }
            starts.push(at as u32);
            at += TYPE_BYTES + trailer_bytes(kind, usize::from(u16::from_le_bytes([i0, i1])))?;
        }
        self.starts = starts;
        Ok(())
    }

    /// The id of the function that LSM programs of a hook are attached to.
    pub fn lsm_hook(&self, hook: &str) -> Result<u32> {
        self.hook(LSM, hook).with_context(|| format!("this kernel has no LSM hook {hook}"))
    }

    /// The id of the typedef that tracing programs of a tracepoint are attached to.
    pub fn tracepoint(&self, name: &str) -> Result<u32> {
        self.hook(b"btf_trace_", name).with_context(|| format!("this kernel has no tracepoint {name}"))
    }

    fn hook(&self, prefix: &[u8], name: &str) -> Option<u32> {
        let name = [prefix, name.as_bytes()].concat();
        let types = self.bytes.get(self.types.clone())?;
        self.hooks
            .iter()
            .copied()
            .find(|id| self.start(*id).is_some_and(|start| until_nul(self.rest_from(types, start)) == name))
    }

    pub fn size(&self, structure: &str) -> Option<u32> {
        self.word(self.start(*self.structs.get(structure.as_bytes())?)? + 8)
    }

    /// Byte offset of a dotted member path.
    pub fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        let mut id = *self.structs.get(structure.as_bytes())?;
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
        let types = self.bytes.get(self.types.clone())?;
        let start = self.start(self.unmodified(id)?)?;
        let info = self.word(start + 4)?;
        let kind = (info >> 24) & 0x1f;
        if kind != KIND_STRUCT && kind != KIND_UNION {
            return None;
        }
        // With kind_flag set the upper byte of the offset is a bit field's width.
        let mask = if info >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
        for index in 0..(info & 0xffff) as usize {
            let at = start + TYPE_BYTES + index * MEMBER_BYTES;
            let name = until_nul(self.rest_from(types, at));
            let (member_type, bytes) = (self.word(at + 4)?, (self.word(at + 8)? & mask) / 8);
            if name == wanted.as_bytes() {
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
            let kind = (self.word(start + 4)? >> 24) & 0x1f;
            if !MODIFIERS.contains(&kind) {
                return Some(id);
            }
            id = self.word(start + 8)?;
        }
        None
    }

    fn start(&self, id: u32) -> Option<usize> {
        (id != 0).then(|| self.starts.get(id as usize).map(|start| *start as usize)).flatten()
    }

    /// A word of the types.
    fn word(&self, at: usize) -> Option<u32> {
        word(self.bytes.get(self.types.clone())?, at).ok()
    }

    /// The strings from the one on that the word at `at` names.
    fn rest_from(&self, types: &[u8], at: usize) -> &[u8] {
        let name = word(types, at).map_or(usize::MAX, |name| name as usize);
        let strings = self.bytes.get(self.strings.clone()).unwrap_or_default();
        strings.get(name..).unwrap_or_default()
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
    &bytes[..end]
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
    fn rubbish_is_an_error() {
        assert!(Btf::parse(vec![0; 64]).is_err());
        assert!(Btf::parse(vec![0x9f, 0xeb, 1, 0]).is_err());
    }

    #[test]
    fn hooks_are_found_by_their_whole_names() {
        if !Path::new(VMLINUX).exists() {
            return;
        }
        let btf = Btf::of_running_kernel().unwrap();
        assert_ne!(
            btf.tracepoint("sched_process_exec").unwrap(),
            btf.tracepoint("sched_process_exit").unwrap()
        );
        assert!(btf.tracepoint("sched_process_exe").is_err());
    }
}
