//! The kernel object on its way into the kernel: its maps as they are wanted, its programs one by one.
//!
//! With the parts of aya's loader and not the whole: that parses all types of the kernel before it begins, a hundred
//! million instructions, and walks through them for each program.

use std::{
    cell::OnceCell,
    collections::HashSet,
    fs,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::maps::{Map, MapData};
use aya_obj::{
    EbpfSectionKind, Function, Object as Parsed, ProgramSection,
    btf::BtfFeatures,
    generated::{BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE, bpf_attach_type, bpf_insn, bpf_prog_type},
};
use bytemuck::Zeroable as _;
use tracing::debug;

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

/// The object, whose maps are made when they are first wanted: those that one program alone reads take nobody else's time.
pub struct Object {
    parsed: Parsed,
    /// Sections that hold instructions.
    text: HashSet<usize>,
    /// Programs whose functions stand behind them.
    linked: HashSet<String>,
    btf: OwnedFd,
    /// In programs' instructions each stands by its place here until they are loaded.
    maps: Vec<LazyMap>,
}

struct LazyMap {
    name: String,
    definition: aya_obj::Map,
    /// Where it is taken from when it is there, and else pinned.
    pin: Option<PathBuf>,
    made: OnceCell<MapData>,
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
        let mut maps = Vec::new();
        for (name, mut definition) in parsed.maps.drain() {
            if let Some((_, entries)) = changes.max_entries.iter().find(|(map, _)| *map == name) {
                definition.set_max_entries(*entries);
            }
            let pin = match changes.pinned {
                Some((pins, names)) if names.contains(&name.as_str()) => Some(pins.map(&name)),
                _ => None,
            };
            maps.push(LazyMap { name, definition, pin, made: OnceCell::new() });
        }
        let text: HashSet<usize> = parsed.functions.keys().map(|(section, _)| *section).collect();
        let places = maps.iter().enumerate();
        parsed.relocate_maps(
            places.map(|(at, map)| (map.name.as_str(), at as RawFd, &map.definition)),
            &text,
        )?;
        debug!("the kernel object is read");
        Ok(Self { parsed, text, linked: HashSet::new(), btf, maps })
    }

    /// Puts the functions that a program calls behind it, once, and when it is loaded: most programs are not what the
    /// first exec waits for, or are never loaded.
    fn link(&mut self, name: &str) -> Result<()> {
        if !self.linked.insert(name.to_owned()) {
            return Ok(());
        }
        let (this, others): (Vec<_>, _) = self.parsed.programs.drain().partition(|(other, _)| other == name);
        self.parsed.programs.extend(this);
        let linked = self.parsed.relocate_calls(&self.text);
        self.parsed.programs.extend(others);
        Ok(linked?)
    }

    /// A map, whose descriptor the programs need no longer than until they are loaded.
    pub fn take_map(&self, name: &str) -> Result<Map> {
        let map = self.maps.iter().find(|map| map.name == name);
        let map = map.with_context(|| format!("the kernel object has no map {name}"))?;
        let descriptor = map.descriptor(self.btf.as_fd())?;
        let descriptor = descriptor.try_clone_to_owned().context("copy a descriptor")?;
        Ok(Map::from_map_data(MapData::from_fd(descriptor)?)?)
    }

    /// Loads one program; `kernel` is asked where a hook's number comes from the kernel's types.
    pub fn load(&mut self, name: &str, kernel: Option<&Btf>) -> Result<Program> {
        self.link(name)?;
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
        let instructions = self.with_maps(&function.instructions)?;
        let program = Program { program: verified(load, &instructions, function)?, attach_type, link: None };
        debug!(name, steps = program.verified(), "program loaded");
        Ok(program)
    }

    /// Instructions with maps' descriptors in the maps' places.
    fn with_maps(&self, instructions: &[bpf_insn]) -> Result<Vec<bpf_insn>> {
        let mut instructions = instructions.to_vec();
        for instruction in &mut instructions {
            let names_a_map =
                matches!(u32::from(instruction.src_reg()), BPF_PSEUDO_MAP_FD | BPF_PSEUDO_MAP_VALUE);
            if u32::from(instruction.code) == LOAD_WIDE && names_a_map {
                let map = self.maps.get(instruction.imm as usize).context("names a map that is not there")?;
                instruction.imm = map.descriptor(self.btf.as_fd())?.as_raw_fd();
            }
        }
        Ok(instructions)
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
        self.told("prog_id:")
    }

    /// Instructions that the verifier has followed.
    fn verified(&self) -> Option<u32> {
        self.told("verified_insns:")
    }

    /// A number that the kernel tells of the program.
    fn told(&self, what: &str) -> Option<u32> {
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.program.as_raw_fd())).ok()?;
        text.lines().find_map(|line| line.strip_prefix(what)?.trim().parse().ok())
    }
}

/// Loads a program's instructions. A log of the verifier costs more than the verification: it is asked for when the
/// program was refused, and then with the lines of the source.
fn verified(mut load: ProgramLoad, instructions: &[bpf_insn], function: &Function) -> Result<OwnedFd> {
    let (functions, lines) = (function.func_info.func_info_bytes(), function.line_info.line_info_bytes());
    load.instructions = instructions.as_ptr() as u64;
    load.instructions_count = instructions.len() as u32;
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

impl LazyMap {
    fn descriptor(&self, btf: BorrowedFd<'_>) -> Result<BorrowedFd<'_>> {
        if self.made.get().is_none() {
            let made = self.make(btf).with_context(|| format!("make map {}", self.name))?;
            debug!(name = self.name, "map made");
            let _ = self.made.set(made);
        }
        Ok(self.made.get().context("it is there")?.fd().as_fd())
    }

    fn make(&self, btf: BorrowedFd<'_>) -> Result<MapData> {
        if let Some(pin) = &self.pin
            && pin.exists()
        {
            return MapData::from_pin(pin).with_context(|| format!("open {}", pin.display()));
        }
        let map = MapData::create(self.definition.clone(), &self.name, Some(btf))?;
        if self.definition.section_kind() == EbpfSectionKind::Rodata {
            sys::fill_and_freeze(map.fd().as_fd(), self.definition.data())?;
        }
        if let Some(pin) = &self.pin {
            map.pin(pin).with_context(|| format!("pin {}", pin.display()))?;
        }
        Ok(map)
    }
}

/// The instruction that loads a number of 64 bits: BPF_LD | BPF_DW | BPF_IMM.
const LOAD_WIDE: u32 = 0x18;
const LOAD_ATTEMPTS_MAX: u32 = 5;
/// The end of a verifier's log, where it says why.
const LOG_BYTES_TOLD: usize = 4096;
/// Kernels before 6.4 give up where the log is full.
const LOG_BYTES: usize = 16 << 20;
