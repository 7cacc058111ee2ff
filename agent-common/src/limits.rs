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
/// Processes that ran before the daemon and have not acted since. The daemon makes the table smaller where the host's
/// `pid_max` or `threads-max` is.
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

/// Bytes of a host name in keys and texts: the longest name has 253, and the kernel compares whole words.
pub const HOST_NAME_BYTES: usize = 256;
/// Bytes of a DNS message that is read, one less than this: what EDNS lets a server send at most, as resolvers have it.
/// A longer one is not believed.
pub const DNS_MESSAGE_BYTES: usize = 4096;
/// Addresses of one answer. Round-robin answers of large services carry up to some twenty; further ones are not known by
/// their name, counted as `name_addresses_cut`.
pub const DNS_ANSWERS_MAX: usize = 32;
/// Compression pointers followed for the name of one record.
pub const DNS_JUMPS_MAX: u32 = 16;
/// Steps of reading one message, one byte of a name each: 32 uncompressed names of 60 bytes and their chain. A longer
/// one counts as malformed.
pub const DNS_STEPS_MAX: u32 = 4_096;
/// Suffixes of a name that wildcards are looked up for, the longest first: names with more labels meet no shorter one.
pub const NAME_SUFFIXES_MAX: usize = 16;
/// Patterns that one name may meet over all roles: itself and wildcards, the most specific first. Further ones do not
/// count for it, counted as `name_patterns_cut`.
pub const PATTERNS_PER_NAME: usize = 6;
/// Sets of patterns that one address may carry at a time: names of shared hosts. One more is not known, counted as
/// `name_groups_full`.
pub const GROUPS_PER_ADDRESS: usize = 8;
/// Addresses known by a name that rules have. At the bound a further one is not known by its name, counted as
/// `name_addresses_full`; the daemon takes out what has expired.
pub const ADDRESSES_MAX: u32 = 131_072;
/// Questions under way. At the bound the oldest is forgotten, and its answer counts as unasked.
pub const QUESTIONS_MAX: u32 = 8_192;
/// Names and wildcards of all roles, twice what may be in force: a change lays the new beside the old.
pub const NAMES_MAX: u32 = 131_072;
/// Rules by name, one for each port and protocol; twice, likewise.
pub const NAME_RULES_MAX: u32 = 262_144;
/// Resolvers that the host is configured for: resolv.conf has three, systemd-resolved one for each of its links.
pub const RESOLVERS_MAX: u32 = 256;
/// How long an answer may be waited for; clients give up after 5 s, with attempts of their own.
pub const QUESTION_MAX_S: u64 = 30;
/// An address is known by its name for so long beyond the answer's time to live. A cache that is asked without a packet
/// (systemd-resolved by nss-resolve, nscd, which forgets up to 15 s late) gives the address out until that has passed,
/// and an application connects from the answer that it holds, not from the time to live in it.
pub const NAME_KEPT_S: u64 = 60;
/// And at most so long in all, whatever the answer says.
pub const NAME_TTL_MAX_S: u64 = 86_400;
/// Bytes of a connection in which its server name or host is looked for: a ClientHello with post-quantum keys has some
/// 2 kB, requests with cookies more, whose host stands first. What says none within them counts as saying none.
pub const SPOKEN_BYTES_MAX: u32 = 8_192;
