//! The kernel object on its way into the kernel: its maps at once, its programs one by one.
//!
//! With the parts of aya's loader and not the whole: that parses all types of the kernel before it begins, a hundred
//! million instructions, and walks through them for each program.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::maps::{Map, MapData};
use aya_obj::{
    EbpfSectionKind, Function, Object as Parsed, ProgramSection,
    btf::BtfFeatures,
    generated::{bpf_attach_type, bpf_prog_type},
};
use bytemuck::Zeroable as _;

use super::{
    btf::Btf,
    pins::Pins,
    sys::{self, ProgramLoad},
};

/// What is put in place of the object's own words before it is loaded.
#[derive(Default)]
pub struct Changes<'a> {
    /// Frozen globals by name.
    pub globals: Vec<(&'static str, &'a [u8])>,
    /// Entries of maps by name.
    pub max_entries: Vec<(&'static str, u32)>,
    /// Maps that are pinned, and taken from their pins where there are any.
    pub pinned: Option<(&'a Pins, &'static [&'static str])>,
}

/// The object with its maps made.
pub struct Object {
    parsed: Parsed,
    btf: OwnedFd,
    maps: HashMap<String, MapData>,
}

/// A program in the kernel, attached or not.
pub struct Program {
    program: OwnedFd,
    attach_type: bpf_attach_type,
    link: Option<OwnedFd>,
}

impl Object {
    pub fn open(bytes: &[u8], changes: &Changes<'_>) -> Result<Self> {
        let mut parsed = Parsed::parse(bytes).context("parse the kernel object")?;
        let globals = changes.globals.iter().map(|(name, value)| (*name, (*value, true)));
        parsed.patch_map_data(globals.collect())?;
        // Kernels that have what we need besides (6.1) have all of it.
        let all = BtfFeatures::new(true, true, true, true, true, true, true, true);
        let btf = parsed.fixup_and_sanitize_btf(&all)?.context("the kernel object has no BTF")?.to_bytes();
        let btf = sys::load_btf(&btf).context("load the object's BTF")?;
        let mut made = HashMap::new();
        let mut definitions = HashMap::new();
        for (name, mut definition) in parsed.maps.drain() {
            if let Some((_, entries)) = changes.max_entries.iter().find(|(map, _)| *map == name) {
                definition.set_max_entries(*entries);
            }
            let map =
                make(&name, &definition, btf.as_fd(), changes).with_context(|| format!("make map {name}"))?;
            made.insert(name.clone(), map);
            definitions.insert(name, definition);
        }
        let text: HashSet<usize> = parsed.functions.keys().map(|(section, _)| *section).collect();
        let maps = definitions.iter().filter_map(|(name, definition)| {
            Some((name.as_str(), made.get(name)?.fd().as_fd().as_raw_fd(), definition))
        });
        parsed.relocate_maps(maps, &text)?;
        parsed.relocate_calls(&text)?;
        Ok(Self { parsed, btf, maps: made })
    }

    /// A map, whose descriptor the programs need no longer than until they are loaded.
    pub fn take_map(&self, name: &str) -> Result<Map> {
        let map = self.maps.get(name).with_context(|| format!("the kernel object has no map {name}"))?;
        let descriptor = map.fd().as_fd().try_clone_to_owned().context("copy a descriptor")?;
        Ok(Map::from_map_data(MapData::from_fd(descriptor)?)?)
    }

    /// Loads one program; `kernel` is asked where a hook's number comes from the kernel's types.
    pub fn load(&self, name: &str, kernel: Option<&Btf>) -> Result<Program> {
        let types = || kernel.context("the kernel's types are not at hand");
        let program = self.parsed.programs.get(name).context("not in the kernel object")?;
        let (kind, attach_type, attach_btf_id) = match &program.section {
            ProgramSection::Lsm { .. } => {
                (bpf_prog_type::BPF_PROG_TYPE_LSM, bpf_attach_type::BPF_LSM_MAC, types()?.lsm_hook(name)?)
            }
            ProgramSection::BtfTracePoint => (
                bpf_prog_type::BPF_PROG_TYPE_TRACING,
                bpf_attach_type::BPF_TRACE_RAW_TP,
                types()?.tracepoint(name)?,
            ),
            ProgramSection::CgroupSockAddr { attach_type } => {
                (bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, (*attach_type).into(), 0)
            }
            ProgramSection::CgroupSock { attach_type } => {
                (bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK, (*attach_type).into(), 0)
            }
            ProgramSection::CgroupSkb { attach_type: Some(attach_type) } => {
                (bpf_prog_type::BPF_PROG_TYPE_CGROUP_SKB, (*attach_type).into(), 0)
            }
            other => bail!("has an unexpected section {other:?}"),
        };
        let function = self.parsed.functions.get(&program.function_key()).context("has no instructions")?;
        let mut load = ProgramLoad {
            kind: kind as u32,
            license: program.license.as_ptr() as u64,
            attach_type: attach_type as u32,
            btf: self.btf.as_raw_fd(),
            attach_btf_id,
            ..ProgramLoad::zeroed()
        };
        // The kernel keeps 15 bytes.
        for (to, from) in load.name.iter_mut().take(15).zip(name.bytes()) {
            *to = from;
        }
        Ok(Program { program: verified(load, function)?, attach_type, link: None })
    }
}

impl Program {
    /// Attaches it; to `cgroup` where it is a cgroup's.
    pub fn attach(&mut self, cgroup: BorrowedFd<'_>) -> Result<()> {
        let program = self.program.as_fd();
        self.link = Some(match self.attach_type {
            bpf_attach_type::BPF_LSM_MAC | bpf_attach_type::BPF_TRACE_RAW_TP => sys::attach(program)?,
            of_cgroup => sys::attach_to_cgroup(program, cgroup, of_cgroup as u32)?,
        });
        Ok(())
    }

    /// Leaves its link, and so the program, in force when this value is gone.
    pub fn pin(&self, path: &Path) -> Result<()> {
        let link = self.link.as_ref().context("it is not attached")?;
        sys::pin(link.as_fd(), path).with_context(|| format!("pin {}", path.display()))
    }

    pub fn id(&self) -> Option<u32> {
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.program.as_raw_fd())).ok()?;
        text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
    }
}

/// Loads a program's instructions. A log of the verifier costs more than the verification: it is asked for when the
/// program was refused, and then with the lines of the source.
fn verified(mut load: ProgramLoad, function: &Function) -> Result<OwnedFd> {
    let (functions, lines) = (function.func_info.func_info_bytes(), function.line_info.line_info_bytes());
    load.instructions = function.instructions.as_ptr() as u64;
    load.instructions_count = function.instructions.len() as u32;
    load.func_info = functions.as_ptr() as u64;
    load.func_info_bytes = function.func_info_rec_size as u32;
    load.func_info_count = function.func_info.len() as u32;
    for _attempt in 0..LOAD_ATTEMPTS_MAX {
        match sys::load_program(&load) {
            Ok(program) => return Ok(program),
            // A signal has come in between.
            Err(error) if error.raw_os_error() == Some(nix::libc::EAGAIN) => {}
            Err(_) => break,
        }
    }
    let mut log = vec![0u8; LOG_BYTES];
    load.log = log.as_mut_ptr() as u64;
    load.log_bytes = LOG_BYTES as u32;
    load.log_level = 1;
    load.line_info = lines.as_ptr() as u64;
    load.line_info_bytes = function.line_info_rec_size as u32;
    load.line_info_count = function.line_info.len() as u32;
    sys::load_program(&load).map_err(|error| {
        let end = log.iter().position(|byte| *byte == 0).unwrap_or(LOG_BYTES);
        let told = String::from_utf8_lossy(&log[end.saturating_sub(LOG_BYTES_TOLD)..end]);
        anyhow!("{error}; the verifier's last words: {}", told.trim())
    })
}

fn make(
    name: &str,
    definition: &aya_obj::Map,
    btf: BorrowedFd<'_>,
    changes: &Changes<'_>,
) -> Result<MapData> {
    let pin = match changes.pinned {
        Some((pins, names)) if names.contains(&name) => Some(pins.map(name)),
        _ => None,
    };
    if let Some(pin) = &pin
        && pin.exists()
    {
        return MapData::from_pin(pin).with_context(|| format!("open {}", pin.display()));
    }
    let map = MapData::create(definition.clone(), name, Some(btf))?;
    if definition.section_kind() == EbpfSectionKind::Rodata {
        sys::fill_and_freeze(map.fd().as_fd(), definition.data())?;
    }
    if let Some(pin) = &pin {
        map.pin(pin).with_context(|| format!("pin {}", pin.display()))?;
    }
    Ok(map)
}

const LOAD_ATTEMPTS_MAX: u32 = 5;
/// The end of a verifier's log, where it says why.
const LOG_BYTES_TOLD: usize = 4096;
/// Kernels before 6.4 give up where the log is full.
const LOG_BYTES: usize = 16 << 20;
