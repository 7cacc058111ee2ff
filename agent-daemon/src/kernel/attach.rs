//! Loading and attaching: which programs each mode needs, how the mode is found, and how one build takes over from
//! another without a gap.

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use agent_common::{contract::CONTRACT, limits::AGENT_TASKS_MAX};
use anyhow::{Context as _, Result, bail};
use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{
        CgroupAttachMode, Program,
        links::{FdLink, PinnedLink},
    },
};
use tracing::warn;

use super::{
    KernelMode,
    offsets::Layout,
    pins::{self, Pins},
    raw::Maps,
};
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
/// Know addresses by their names: both modes.
const NAMES: &[&str] = &["names_egress", "names_ingress"];
/// Maps that outlive the daemon: all but the programs' own work areas.
const MAPS: &[&str] = &[
    "ADDRESSES",
    "AGENT_SERVERS",
    "AGENT_TASKS",
    "BASENAMES",
    "CGROUPS",
    "CGROUP_NAMES",
    "CGROUP_PATHS",
    "COUNTERS",
    "EVENTS",
    "EXACT_RULES",
    "EXEC_IDS",
    "FILES",
    "FLOWS",
    "INSTANCES",
    "LABELS",
    "LOST",
    "LOST_TOLD",
    "NAME_IDS",
    "NAME_RULES",
    "OWNERS",
    "PATHS",
    "PREFIX_RULES",
    "QUESTIONS",
    "RECORD",
    "RESOLVERS",
    "ROLES",
    "RUNS",
    "SEEDS",
    "SHARES",
    "SOCKET_RULES",
    "SUBMITTED",
    "SUFFIXES",
    "UNIX_RULES",
];

/// Where the kernel lists its active security modules.
const LSM_LIST: &str = "/sys/kernel/security/lsm";

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Look at the processes of this cgroup (v2 directory) alone.
    pub scope: Option<PathBuf>,
    /// Take cgroup mode although BPF LSM is there.
    pub without_lsm: bool,
    /// Load the programs anew although the same ones are attached.
    pub anew: bool,
}

/// Programs that are loaded, or were found attached.
pub struct Programs {
    pub mode: KernelMode,
    /// Why it is not lsm mode; empty in lsm mode.
    pub reason: String,
    pins: Option<Pins>,
    /// Why nothing is pinned; empty when it is.
    pub unpinned: String,
    /// What was attached when we came.
    pub adopted: Adopted,
    /// Holds programs and links where nothing is pinned, and programs until they are attached.
    ebpf: Option<Ebpf>,
    names: Vec<&'static str>,
    root: PathBuf,
}

/// What a daemon finds of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// Nothing was attached.
    Nothing,
    /// The same build: programs and maps go on as they are.
    Same,
    /// Another build, whose programs are replaced one by one; over the same maps where the contract is the same.
    Other,
}

/// Values that the programs are given before loading.
struct Given {
    layout: Layout,
    mode: KernelMode,
    mnt_ns: u32,
    scope: (u32, u32),
}

/// Finds or loads the programs of the strongest mode that the host gives. `pin_dir` is where they outlive the daemon.
pub fn prepare(options: &Options, pin_dir: Option<&Path>) -> Result<Programs> {
    let layout = Layout::of_running_kernel()?;
    let reason = if options.without_lsm { "asked for with --mode cgroup".to_string() } else { lsm_missing() };
    if !reason.is_empty() {
        return prepare_as(KernelMode::Cgroup, reason, layout, options, pin_dir);
    }
    prepare_as(KernelMode::Lsm, reason, layout, options, pin_dir).or_else(|error| {
        if error.is::<pins::Taken>() {
            return Err(error);
        }
        let reason = format!("BPF LSM is active but its programs were refused: {error:#}");
        prepare_as(KernelMode::Cgroup, reason, layout, options, pin_dir)
    })
}

/// Why BPF LSM cannot be used; empty when it can.
fn lsm_missing() -> String {
    match std::fs::read_to_string(LSM_LIST) {
        Ok(list) if list.trim().split(',').any(|module| module == "bpf") => String::new(),
        Ok(list) => format!("`bpf` is not among the active security modules ({})", list.trim()),
        Err(error) => format!("{LSM_LIST} cannot be read ({error}), so BPF LSM counts as absent"),
    }
}

fn prepare_as(
    mode: KernelMode,
    reason: String,
    layout: Layout,
    options: &Options,
    pin_dir: Option<&Path>,
) -> Result<Programs> {
    let (root, scope) = match &options.scope {
        Some(scope) => (scope.clone(), scope_of(scope)?),
        None => (cgroup_root()?, (0, 0)),
    };
    // The host's mounts, also when the daemon itself runs in a container with the host's pids.
    // Where init may not be looked at (a daemon with fewer capabilities than init), our own, in which paths are resolved.
    let mnt_ns = std::fs::metadata("/proc/1/ns/mnt")
        .or_else(|_| std::fs::metadata("/proc/self/ns/mnt"))
        .context("read the mount namespace in which paths identify agents")?
        .ino() as u32;
    let given = Given { layout, mode, mnt_ns, scope };
    let names = match mode {
        KernelMode::Lsm => [LSM, NAMES, FOLLOW].concat(),
        KernelMode::Cgroup => [CGROUP, NAMES, FOLLOW].concat(),
    };
    let (pins, unpinned) = match pin_dir {
        None => (None, "pin_dir is off".to_string()),
        Some(directory) => match Pins::open(directory, given.contract(), given.build(options.anew)) {
            Ok(pins) => (Some(pins), String::new()),
            Err(error) if error.is::<pins::Taken>() => return Err(error),
            Err(error) => {
                let why = format!("{error:#}");
                warn!("nothing outlives the daemon: {why}");
                (None, why)
            }
        },
    };
    let adopted = match &pins {
        Some(pins) if pins.has_all(&names) => Adopted::Same,
        Some(pins) if pins.has_any() => Adopted::Other,
        _ => Adopted::Nothing,
    };
    let ebpf = if adopted == Adopted::Same { None } else { Some(given.load(&names, pins.as_ref())?) };
    Ok(Programs { mode, reason, pins, unpinned, adopted, ebpf, names, root })
}

impl Given {
    /// What maps are shared by: the layout, and who is looked at how.
    fn contract(&self) -> u64 {
        let (level, id) = self.scope;
        let tasks = u64::from(agent_tasks_max(self.mode));
        let parts = [CONTRACT, self.mode as u64, u64::from(level) << 32 | u64::from(id), tasks];
        pins::build_number(&[bytemuck::cast_slice(&parts)])
    }

    /// `anew` makes it a build of its own.
    fn build(&self, anew: bool) -> u64 {
        let nonce = if anew { std::process::id() } else { 0 };
        let numbers = [self.layout.upid_bytes, self.mnt_ns, nonce];
        pins::build_number(&[
            OBJECT,
            bytemuck::bytes_of(&self.layout.offsets),
            bytemuck::cast_slice(&numbers),
        ])
    }

    fn load(&self, names: &[&str], pins: Option<&Pins>) -> Result<Ebpf> {
        let btf = Btf::from_sys_fs().context("read the kernel's BTF")?;
        let cgroup_mode = u32::from(self.mode == KernelMode::Cgroup).to_ne_bytes();
        let (upid, mnt) = (self.layout.upid_bytes.to_ne_bytes(), self.mnt_ns.to_ne_bytes());
        let (level, id) = (self.scope.0.to_ne_bytes(), self.scope.1.to_ne_bytes());
        let mut loader = EbpfLoader::new();
        loader
            .btf(Some(&btf))
            .allow_unsupported_maps()
            .map_max_entries("AGENT_TASKS", agent_tasks_max(self.mode))
            .override_global("OFFSETS", bytemuck::bytes_of(&self.layout.offsets), true)
            .override_global("CGROUP_MODE", &cgroup_mode[..], true)
            .override_global("HOST_MNT_NS", &mnt[..], true)
            .override_global("UPID_BYTES", &upid[..], true)
            .override_global("SCOPE_LEVEL", &level[..], true)
            .override_global("SCOPE_ID", &id[..], true);
        if let Some(pins) = pins {
            for map in MAPS {
                loader.map_pin_path(map, pins.map(map));
            }
        }
        let mut ebpf = loader.load(OBJECT).context("load the kernel object")?;
        for name in names {
            load(&mut ebpf, name, &btf).with_context(|| format!("load {name}"))?;
        }
        Ok(ebpf)
    }
}

impl Programs {
    /// Where the maps are taken from.
    pub fn maps(&mut self) -> Result<Maps<'_>> {
        match (&mut self.ebpf, &self.pins) {
            (Some(ebpf), _) => Ok(Maps::Loaded(ebpf)),
            (None, Some(pins)) => Ok(Maps::Pinned(pins)),
            (None, None) => bail!("neither loaded nor pinned"),
        }
    }

    /// Attaches what is not attached yet. Each program of ours is attached before its predecessor is detached: while
    /// both are, both give the verdict, and what one has labelled the other leaves alone.
    pub fn attach(&mut self) -> Result<()> {
        let Some(ebpf) = &mut self.ebpf else { return Ok(()) };
        // Refusing first: a task that is followed but not yet judged would be a gap.
        for name in &self.names {
            // A start that did not come to its end may have attached some.
            if !self.pins.as_ref().is_some_and(|pins| pins.link(name).exists()) {
                attach_one(ebpf, name, &self.root, self.pins.as_ref())
                    .with_context(|| format!("attach {name}"))?;
            }
            if let Some(pins) = &self.pins {
                pins.succeed(name)?;
            }
        }
        if self.pins.is_some() {
            // The links have them.
            self.ebpf = None;
        }
        Ok(())
    }

    /// The attached programs' ids, each with its name.
    pub fn ids(&self) -> BTreeMap<u32, &'static str> {
        let id = |name: &str| match (&self.pins, &self.ebpf) {
            (Some(pins), _) => {
                let link = FdLink::from(PinnedLink::from_pin(pins.link(name)).ok()?);
                Some(link.info().ok()?.program_id())
            }
            (None, Some(ebpf)) => Some(ebpf.program(name)?.info().ok()?.id()),
            (None, None) => None,
        };
        self.names.iter().filter_map(|name| Some((id(name)?, *name))).collect()
    }

    /// Lets go of what other builds have left; call when all that runs is labelled.
    pub fn retire_others(&self) -> Result<()> {
        self.pins.as_ref().map_or(Ok(()), Pins::retire_others)
    }
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
        Program::CgroupSkb(program) => program.load()?,
        other => bail!("has an unexpected type {:?}", other.prog_type()),
    }
    Ok(())
}

/// Attaches a program by a link; pinned, the link is the kernel's, else it lives as long as `ebpf`.
fn attach_one(ebpf: &mut Ebpf, name: &str, root: &Path, pins: Option<&Pins>) -> Result<()> {
    // Links take no flags and always leave other programs at the cgroup.
    let cgroup = || File::open(root).with_context(|| format!("open {}", root.display()));
    macro_rules! attach {
        ($program:expr, $($argument:expr),*) => {{
            let link = $program.attach($($argument),*)?;
            match pins {
                None => None,
                Some(_) => Some(FdLink::try_from($program.take_link(link)?)?),
            }
        }};
    }
    let link = match ebpf.program_mut(name).context("not in the kernel object")? {
        Program::Lsm(program) => attach!(program,),
        Program::BtfTracePoint(program) => attach!(program,),
        Program::CgroupSockAddr(program) => attach!(program, cgroup()?, CgroupAttachMode::Single),
        Program::CgroupSock(program) => attach!(program, cgroup()?, CgroupAttachMode::Single),
        Program::CgroupSkb(program) => {
            let way = (*program.expected_attach_type()).context("says neither egress nor ingress")?;
            attach!(program, cgroup()?, way, CgroupAttachMode::Single)
        }
        other => bail!("has an unexpected type {:?}", other.prog_type()),
    };
    if let (Some(link), Some(pins)) = (link, pins) {
        let path = pins.link(name);
        link.pin(&path).with_context(|| format!("pin {}", path.display()))?;
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
