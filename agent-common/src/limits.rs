//! Every bound of the kernel side, with its reason and what happens when it is reached.

/// Live agent instances. At the bound a recognised program still runs under its agent's role, found through the
/// label's agent id, but cannot be addressed on its own; counted as `instance_table_full`.
pub const INSTANCES_MAX: u32 = 16_384;
/// Executable and script files that identify agents. Exceeding it is an error at load, nothing is dropped.
pub const FILES_MAX: u32 = 16_384;
/// Paths (and file names) that identify agents. Exceeding it is an error at load.
pub const PATHS_MAX: u32 = 16_384;
/// Steps of path patterns that identify agents, twice what may be in force: a change lays the new beside the old. The
/// built-in catalogue takes some 150. Exceeding it is an error at load.
pub const SUFFIXES_MAX: u32 = 8_192;
/// Components of a path pattern: the longest of the built-in catalogue has 7.
pub const SUFFIX_DEPTH_MAX: usize = 8;
/// Bytes of a pattern's component, the closing NUL included.
pub const SUFFIX_NAME_BYTES: usize = 64;
/// Names and paths of cgroups that identify agents. Exceeding it is an error at load.
pub const CGROUPS_MAX: u32 = 16_384;
/// Live cgroups of agents, those below them included. The kernel takes some 100 kB for each, so that who makes them to
/// fill the table is out of memory first; at the bound a cgroup is known by its own name, counted as
/// `cgroup_table_full`.
pub const CGROUPS_LIVE_MAX: u32 = 65_536;
/// Roles in force, each with the policy it had before a change until the old rules are gone.
pub const ROLES_MAX: u32 = 4_096;
/// Rules with a single address and port.
pub const EXACT_RULES_MAX: u32 = 262_144;
/// Rules with an address prefix.
pub const PREFIX_RULES_MAX: u32 = 262_144;
/// Rules on unix sockets.
pub const UNIX_RULES_MAX: u32 = 65_536;
/// Rules on socket classes and vsock endpoints.
pub const SOCKET_RULES_MAX: u32 = 65_536;
/// Tasks of agents and people as cgroup mode keeps them (by thread id): the kernel's own bound on pids. The daemon makes the table
/// smaller where the host's `pid_max` or `threads-max` is.
pub const TASKS_MAX: u32 = 4_194_304;
/// Processes that ran before the daemon and have not acted since.
pub const SEEDS_MAX: u32 = 262_144;
/// `chaperone run` requests that have not reached their exec yet.
pub const RUNS_MAX: u32 = 1_024;

/// Bytes of the ring buffer. A power of two and a multiple of the page size, as the kernel asks.
pub const RING_BYTES: u32 = 4 << 20;
/// While less than this waits in it, everybody may write; above, nobody may hold more than is free, so that any number
/// of floods leave room for one more (dynamic thresholds, as switches share their buffers). What is over is lost and
/// counted, for the one that floods.
pub const RING_BYTES_UNSHARED: u32 = RING_BYTES / 8;

/// A path as the kernel's own limit has it (PATH_MAX).
pub const PATH_BYTES_MAX: usize = 4096;
/// Bytes of a path in `PATHS` and `CGROUP_PATHS`, which hold it whole: a hash could be met by a path that somebody made
/// for it. The longest such path has two bytes less: one that a string read has cut looks one byte longer.
pub const PATH_KEY_BYTES: usize = 256;
/// Bytes of a path that an event carries; a longer one is marked `truncated` and carries the hash of the whole.
pub const PATH_BYTES_KEPT: usize = 512;
/// Bytes of argv that an event carries; see `PATH_BYTES_KEPT`.
pub const ARGV_BYTES_KEPT: usize = 1024;
/// Components of a path that the kernel side walks; a deeper one is marked `truncated`.
pub const PATH_DEPTH_MAX: u32 = 64;
/// Bytes of one path component (NAME_MAX).
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of a file name by which the kernel decides whether a path is worth walking.
pub const BASENAME_BYTES: usize = 32;
/// `sun_path` of unix(7).
pub const UNIX_PATH_BYTES: usize = 108;
/// Control messages of one send that are looked through for source routing; more than that is refused.
pub const CMSGS_MAX: u32 = 8;
/// Length of a cgroup's own name (one component), such as a systemd unit's.
pub const CGROUP_NAME_BYTES: usize = 128;
