//! Loading and attaching: which programs each mode needs, and how the mode is found.

use std::{
    fs::File,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use agent_common::limits::AGENT_TASKS_MAX;
use anyhow::{Context as _, Result, bail};
use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{CgroupAttachMode, Program},
};

use super::{KernelMode, offsets::Layout};
use crate::identity::naming::cgroup_root;

/// The kernel programs, built with this binary.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/chaperone-ebpf"));

/// Follow and recognise: both modes.
const FOLLOW: &[&str] =
    &["task_newtask", "sched_process_exec", "sched_process_exit", "cgroup_mkdir", "cgroup_rmdir"];
/// Recognise each stage of an exec, and refuse in the call.
const LSM: &[&str] = &[
    "bprm_check_security",
    "socket_create",
    "socket_connect",
    "socket_sendmsg",
    "socket_setsockopt",
    "socket_listen",
    "socket_bind",
    "unix_stream_connect",
    "unix_may_send",
];
/// Refuse at the cgroup.
const CGROUP: &[&str] = &["connect4", "connect6", "sendmsg4", "sendmsg6", "sock_create"];

/// Where the kernel lists its active security modules.
const LSM_LIST: &str = "/sys/kernel/security/lsm";

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Look at the processes of this cgroup (v2 directory) alone.
    pub scope: Option<PathBuf>,
    /// Take cgroup mode although BPF LSM is there.
    pub without_lsm: bool,
}

/// What was loaded.
pub struct Attached {
    pub ebpf: Ebpf,
    pub mode: KernelMode,
    /// Why it is not lsm mode; empty in lsm mode.
    pub reason: String,
}

/// Loads and attaches the programs of the strongest mode that the host gives.
pub fn attach(options: &Options) -> Result<Attached> {
    let layout = Layout::of_running_kernel()?;
    let btf = Btf::from_sys_fs().context("read the kernel's BTF")?;
    let reason = if options.without_lsm { "asked for with --mode cgroup".to_string() } else { lsm_missing() };
    if reason.is_empty() {
        match attach_as(KernelMode::Lsm, &layout, &btf, options) {
            Ok(ebpf) => return Ok(Attached { ebpf, mode: KernelMode::Lsm, reason }),
            Err(error) => {
                let reason = format!("BPF LSM is active but its programs were refused: {error:#}");
                let ebpf = attach_as(KernelMode::Cgroup, &layout, &btf, options)?;
                return Ok(Attached { ebpf, mode: KernelMode::Cgroup, reason });
            }
        }
    }
    let ebpf = attach_as(KernelMode::Cgroup, &layout, &btf, options)?;
    Ok(Attached { ebpf, mode: KernelMode::Cgroup, reason })
}

/// Why BPF LSM cannot be used; empty when it can.
fn lsm_missing() -> String {
    match std::fs::read_to_string(LSM_LIST) {
        Ok(list) if list.trim().split(',').any(|module| module == "bpf") => String::new(),
        Ok(list) => format!("`bpf` is not among the active security modules ({})", list.trim()),
        Err(error) => format!("{LSM_LIST} cannot be read ({error}), so BPF LSM counts as absent"),
    }
}

fn attach_as(mode: KernelMode, layout: &Layout, btf: &Btf, options: &Options) -> Result<Ebpf> {
    let root = match &options.scope {
        Some(scope) => scope.clone(),
        None => cgroup_root()?,
    };
    let (level, id) = match &options.scope {
        Some(scope) => scope_of(scope)?,
        None => (0, 0),
    };
    // The host's mounts, also when the daemon itself runs in a container with the host's pids.
    // Where init may not be looked at (a daemon with fewer capabilities than init), our own, in which paths are resolved.
    let host_mnt_ns = std::fs::metadata("/proc/1/ns/mnt")
        .or_else(|_| std::fs::metadata("/proc/self/ns/mnt"))
        .context("read the mount namespace in which paths identify agents")?
        .ino() as u32;
    let offsets = bytemuck::bytes_of(&layout.offsets);
    let cgroup_mode = u32::from(mode == KernelMode::Cgroup).to_ne_bytes();
    let (upid, mnt) = (layout.upid_bytes.to_ne_bytes(), host_mnt_ns.to_ne_bytes());
    let (level, id) = (level.to_ne_bytes(), id.to_ne_bytes());
    let mut ebpf = EbpfLoader::new()
        .btf(Some(btf))
        .allow_unsupported_maps()
        .map_max_entries("AGENT_TASKS", agent_tasks_max(mode))
        .override_global("OFFSETS", offsets, true)
        .override_global("CGROUP_MODE", &cgroup_mode[..], true)
        .override_global("HOST_MNT_NS", &mnt[..], true)
        .override_global("UPID_BYTES", &upid[..], true)
        .override_global("SCOPE_LEVEL", &level[..], true)
        .override_global("SCOPE_ID", &id[..], true)
        .load(OBJECT)
        .context("load the kernel object")?;
    let names = match mode {
        KernelMode::Lsm => [LSM, FOLLOW].concat(),
        KernelMode::Cgroup => [CGROUP, FOLLOW].concat(),
    };
    for name in &names {
        load(&mut ebpf, name, btf).with_context(|| format!("load {name}"))?;
    }
    // Refusing first: a task that is followed but not yet judged would be a gap.
    for name in &names {
        attach_one(&mut ebpf, name, &root).with_context(|| format!("attach {name}"))?;
    }
    Ok(ebpf)
}

/// Room for every task that the host can have: its buckets are taken at once, 64 MB for the most there could ever be.
/// In lsm mode nobody reads the table.
fn agent_tasks_max(mode: KernelMode) -> u32 {
    let host = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
        text.and_then(|text| text.trim().parse::<u32>().ok()).unwrap_or(AGENT_TASKS_MAX)
    };
    match mode {
        KernelMode::Lsm => 1,
        KernelMode::Cgroup => host("pid_max").min(host("threads-max")).clamp(1, AGENT_TASKS_MAX),
    }
}

fn load(ebpf: &mut Ebpf, name: &str, btf: &Btf) -> Result<()> {
    match ebpf.program_mut(name).context("not in the kernel object")? {
        Program::Lsm(program) => program.load(name, btf)?,
        Program::BtfTracePoint(program) => program.load(name, btf)?,
        Program::CgroupSockAddr(program) => program.load()?,
        Program::CgroupSock(program) => program.load()?,
        other => bail!("has an unexpected type {:?}", other.prog_type()),
    }
    Ok(())
}

fn attach_one(ebpf: &mut Ebpf, name: &str, root: &Path) -> Result<()> {
    // Links take no flags and always leave other programs at the cgroup.
    let cgroup = || File::open(root).with_context(|| format!("open {}", root.display()));
    match ebpf.program_mut(name).context("not in the kernel object")? {
        Program::Lsm(program) => {
            program.attach()?;
        }
        Program::BtfTracePoint(program) => {
            program.attach()?;
        }
        Program::CgroupSockAddr(program) => {
            program.attach(cgroup()?, CgroupAttachMode::Single)?;
        }
        Program::CgroupSock(program) => {
            program.attach(cgroup()?, CgroupAttachMode::Single)?;
        }
        other => bail!("has an unexpected type {:?}", other.prog_type()),
    }
    Ok(())
}

/// Depth below the root, and id, of a cgroup.
fn scope_of(directory: &Path) -> Result<(u32, u32)> {
    let root = cgroup_root()?;
    let below = directory
        .strip_prefix(&root)
        .with_context(|| format!("{} is not below {}", directory.display(), root.display()))?;
    let metadata =
        std::fs::metadata(directory).with_context(|| format!("read cgroup {}", directory.display()))?;
    let id = u32::try_from(metadata.ino()).context("the cgroup's id has more than 32 bits")?;
    Ok((below.components().count() as u32, id))
}
