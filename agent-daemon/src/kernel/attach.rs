//! Loading and attaching: which programs each mode needs, how the mode is found, and how one build takes over from
//! another without a gap.

mod names;

use std::{
    collections::BTreeMap,
    fs::File,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use agent_common::{
    contract::CONTRACT,
    limits::{SEEDS_MAX, TASKS_MAX},
};
use anyhow::{Context as _, Result, bail};
use aya::programs::links::{FdLink, PinnedLink};
use tracing::{debug, warn};

use super::{
    KernelMode,
    btf::Btf,
    leftover::Leftover,
    object::{Changes, Object, Program},
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
/// Recognise each stage of an exec.
const STAGES: &str = "bprm_check_security";
/// Refuse in the call.
const LSM: &[&str] = &[
    "socket_create",
    "socket_connect",
    "socket_sendmsg",
    "socket_setsockopt",
    "socket_listen",
    "socket_bind",
    "unix_stream_connect",
    "unix_may_send",
];
/// Refuse at the cgroup, and tell what is offered.
const CGROUP: &[&str] =
    &["connect4", "connect6", "sendmsg4", "sendmsg6", "sock_create", "bind4", "bind6", "inet_sock_set_state"];
/// Know addresses by their names: both modes, see `names`.
const NAMES: &[&str] = &["names_egress", "names_ingress"];
/// Maps that outlive the daemon: all but the programs' own work areas.
const MAPS: &[&str] = &[
    "ADDRESSES",
    "AGENT_SERVERS",
    "ASKERS",
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
    "NAME_IDS",
    "NAME_RULES",
    "OWNERS",
    "PATHS",
    "PREFIX_RULES",
    "PROGRESS",
    "QUESTIONS",
    "RECORD",
    "RESOLVERS",
    "ROLES",
    "RUNS",
    "SEEDS",
    "SHARES",
    "SOCKET_RULES",
    "SPOKEN",
    "SUBMITTED",
    "SUFFIXES",
    "TASKS",
    "UNIX_RULES",
];

/// Where the kernel lists its active security modules.
const LSM_LIST: &str = "/sys/kernel/security/lsm";
const SECURITYFS: &str = "/sys/kernel/security";

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Look at the processes of this cgroup (v2 directory) alone.
    pub scope: Option<PathBuf>,
    /// Why cgroup mode is to be taken although BPF LSM may be there.
    pub without_lsm: Option<String>,
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
    /// What is yet to be loaded, and the kernel's types to load it by; until all is attached.
    unloaded: Option<(Object, Btf)>,
    /// The object for as long as we live where nothing is pinned: its maps are found nowhere else.
    unpinned_object: Option<Object>,
    given: Given,
    /// Programs until they are attached; with their links where nothing is pinned.
    programs: BTreeMap<&'static str, Program>,
    names: Names,
    root: PathBuf,
}

/// The programs of a mode, in the order in which they are attached.
struct Names {
    follow: Vec<&'static str>,
    refuse: &'static [&'static str],
}

impl Names {
    fn all(&self) -> impl Iterator<Item = &'static str> {
        self.follow.iter().chain(self.refuse).copied()
    }
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
    let btf = Btf::of_running_kernel()?;
    let reason = options.without_lsm.clone().unwrap_or_else(|| lsm_missing(pin_dir));
    let mode = if reason.is_empty() { KernelMode::Lsm } else { KernelMode::Cgroup };
    prepare_as(mode, reason, btf, options, pin_dir)
}

/// BPF LSM is active, but the kernel takes our programs for it not.
#[derive(Debug, thiserror::Error)]
#[error("BPF LSM is active but its programs were refused")]
pub struct LsmRefused;

/// Why BPF LSM cannot be used; empty when it can.
fn lsm_missing(pin_dir: Option<&Path>) -> String {
    match lsm_list() {
        Ok(list) if list.trim().split(',').any(|module| module == "bpf") => String::new(),
        Ok(list) => format!("`bpf` is not among the active security modules ({})", list.trim()),
        // It was there since this boot, as pins are.
        Err(_) if pin_dir.is_some_and(|root| pins::holds(root, STAGES)) => String::new(),
        Err(error) => format!("{LSM_LIST} cannot be read ({error:#}), so BPF LSM counts as absent"),
    }
}

/// The list of active modules. A container, or a host that does not mount it, shows none until we do.
fn lsm_list() -> Result<String> {
    if let Ok(list) = std::fs::read_to_string(LSM_LIST) {
        return Ok(list);
    }
    pins::mount_kernels_own("securityfs", SECURITYFS, None)?;
    std::fs::read_to_string(LSM_LIST).context("read it")
}

fn prepare_as(
    mode: KernelMode,
    reason: String,
    btf: Btf,
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
    let given = Given { layout: Layout::of(&btf)?, mode, mnt_ns, scope };
    let names = match mode {
        KernelMode::Lsm => Names { follow: [&[STAGES], FOLLOW].concat(), refuse: LSM },
        KernelMode::Cgroup => Names { follow: FOLLOW.to_vec(), refuse: CGROUP },
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
        Some(pins) if names.all().all(|name| pins.link(name).exists()) => Adopted::Same,
        Some(pins) if pins.has_any() => Adopted::Other,
        _ => Adopted::Nothing,
    };
    let unloaded = match adopted {
        Adopted::Same => None,
        _ => Some((given.open(pins.as_ref()).map_err(|error| refused(error, mode, adopted))?, btf)),
    };
    let programs = BTreeMap::new();
    let mut prepared = Programs {
        mode,
        reason,
        pins,
        unpinned,
        adopted,
        unloaded,
        unpinned_object: None,
        given,
        programs,
        names,
        root,
    };
    prepared.load(true).map_err(|error| refused(error, mode, adopted))?;
    Ok(prepared)
}

/// Another mode may be tried after this error, unless something is in force: that stays, and the start fails.
fn refused(error: anyhow::Error, mode: KernelMode, adopted: Adopted) -> anyhow::Error {
    match (mode, adopted) {
        (KernelMode::Lsm, Adopted::Nothing) => error.context(LsmRefused),
        _ => error,
    }
}

impl Given {
    /// What maps are shared by: the layout, and who is looked at how.
    fn contract(&self) -> u64 {
        let (level, id) = self.scope;
        let rooms = u64::from(tasks_max(self.mode)) << 32 | u64::from(seeds_max());
        let parts = [CONTRACT, self.mode as u64, u64::from(level) << 32 | u64::from(id), rooms];
        pins::build_number(&[bytemuck::cast_slice(&parts), MAPS.join(" ").as_bytes()])
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

    /// The kernel object with its maps, told what it is to know.
    fn open(&self, pins: Option<&Pins>) -> Result<Object> {
        let cgroup_mode = u32::from(self.mode == KernelMode::Cgroup).to_ne_bytes();
        let (upid, mnt) = (self.layout.upid_bytes.to_ne_bytes(), self.mnt_ns.to_ne_bytes());
        let (level, id) = (self.scope.0.to_ne_bytes(), self.scope.1.to_ne_bytes());
        Object::open(
            OBJECT,
            &Changes {
                globals: vec![
                    ("OFFSETS", bytemuck::bytes_of(&self.layout.offsets)),
                    ("CGROUP_MODE", &cgroup_mode),
                    ("HOST_MNT_NS", &mnt),
                    ("UPID_BYTES", &upid),
                    ("SCOPE_LEVEL", &level),
                    ("SCOPE_ID", &id),
                ],
                max_entries: vec![("TASKS", tasks_max(self.mode)), ("SEEDS", seeds_max())],
                pinned: pins.map(|pins| (pins, MAPS)),
            },
        )
        .context("load the kernel object")
    }
}

impl Programs {
    /// Where the maps are taken from.
    pub fn maps(&self) -> Result<Maps<'_>> {
        match (&self.unloaded, &self.pins) {
            (Some((object, _)), _) => Ok(Maps::Loaded(object)),
            (None, Some(pins)) => Ok(Maps::Pinned(pins.maps())),
            (None, None) => bail!("neither loaded nor pinned"),
        }
    }

    /// Loads what follows, or what refuses.
    fn load(&mut self, follow: bool) -> Result<()> {
        let Some((object, btf)) = &mut self.unloaded else { return Ok(()) };
        let names = if follow { &self.names.follow } else { self.names.refuse };
        for name in names {
            let program = object.load(name, Some(btf)).with_context(|| format!("load {name}"))?;
            self.programs.insert(name, program);
        }
        Ok(())
    }

    /// Attaches what follows processes and recognises agents, as far as it is not attached yet.
    pub fn follow(&mut self) -> Result<()> {
        self.attach(true)
    }

    /// Loads and attaches what refuses; call when everything that runs is labelled.
    pub fn enforce(&mut self) -> Result<()> {
        self.load(false).map_err(|error| refused(error, self.mode, self.adopted))?;
        self.attach(false)?;
        let object = self.unloaded.take().map(|(object, _)| object);
        self.unpinned_object = object.filter(|_| self.pins.is_none());
        Ok(())
    }

    /// Each program of ours is attached before its predecessor is detached: while both are, both give the verdict, and
    /// what one has labelled the other leaves alone.
    fn attach(&mut self, follow: bool) -> Result<()> {
        if self.unloaded.is_none() {
            return Ok(());
        }
        let root = File::open(&self.root).with_context(|| format!("open {}", self.root.display()))?;
        let names = if follow { &self.names.follow } else { self.names.refuse };
        for name in names {
            // A start that did not come to its end may have attached some.
            if !self.pins.as_ref().is_some_and(|pins| pins.link(name).exists()) {
                let program = self.programs.get_mut(name).with_context(|| format!("{name} is not loaded"))?;
                program.attach(root.as_fd()).with_context(|| format!("attach {name}"))?;
                debug!(name, "program attached");
                if let Some(pins) = &self.pins {
                    program.pin(&pins.link(name))?;
                }
            }
            if let Some(pins) = &self.pins {
                pins.succeed(name)?;
                // The link has it.
                self.programs.remove(name);
            }
        }
        Ok(())
    }

    /// The attached programs' ids, each with its name.
    pub fn ids(&self) -> BTreeMap<u32, &'static str> {
        let id = |name: &str| match &self.pins {
            Some(pins) => {
                let link = FdLink::from(PinnedLink::from_pin(pins.link(name)).ok()?);
                Some(link.info().ok()?.program_id())
            }
            None => self.programs.get(name)?.id(),
        };
        self.names.all().chain(NAMES.iter().copied()).filter_map(|name| Some((id(name)?, name))).collect()
    }

    /// Detaches what other builds have left; call when all that runs is labelled.
    pub fn retire_others(&self) -> Result<Vec<Leftover>> {
        let others = self.pins.as_ref().map_or(Ok(Vec::new()), Pins::retire_others)?;
        let open = |contract: &PathBuf| match Leftover::open(contract) {
            Ok(left) => Some(left),
            Err(error) => {
                let (error, path) = (format!("{error:#}"), contract.display());
                warn!(error, %path, "what another build has left cannot be read, and stays for the next start");
                None
            }
        };
        Ok(others.iter().filter_map(open).collect())
    }
}

/// Room for every task that the host can have: a table's buckets are taken at once, 64 MB for the most there could ever be.
/// In lsm mode nobody reads the table of tasks.
fn tasks_max(mode: KernelMode) -> u32 {
    match mode {
        KernelMode::Lsm => 1,
        KernelMode::Cgroup => host_tasks_max(),
    }
}

fn seeds_max() -> u32 {
    host_tasks_max().min(SEEDS_MAX)
}

fn host_tasks_max() -> u32 {
    let host = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
        text.and_then(|text| text.trim().parse::<u32>().ok()).unwrap_or(TASKS_MAX)
    };
    host("pid_max").min(host("threads-max")).clamp(1, TASKS_MAX)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::MAPS;

    /// One that is forgotten begins empty with each new build: agents that ran would be nobody's to its programs.
    #[test]
    fn all_maps_outlive_the_daemon_but_work_areas() {
        let maps = include_str!("../../../agent-ebpf/src/maps.rs");
        let all = maps.lines().filter_map(|line| line.strip_prefix("pub static ")?.split(':').next());
        let kept: BTreeSet<&str> = all.filter(|name| !["SCRATCH", "NAME_WORK"].contains(name)).collect();
        assert_eq!(kept, MAPS.iter().copied().collect());
    }
}
