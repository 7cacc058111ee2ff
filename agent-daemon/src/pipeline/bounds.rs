//! Every map, queue and buffer: its bound, and what happens to what comes when the bound is reached.
//!
//! The one list: `chaperone doctor --bounds` prints it, docs/OPERATING.md shows it, metrics say how full each is.
//! Reasons for the numbers stand beside them, those of the kernel side in `agent-common/src/limits.rs`.

use agent_common::limits;

use super::{BATCH_EVENTS_MAX, COMMANDS_WAITING_MAX, Pipeline, REQUESTS_WAITING_MAX, content};
use crate::{
    baseline::{alert, context, watch},
    config::files::{FILE_BYTES_MAX, FILES_MAX},
    control::{api::BoundView, server},
    identity::{
        channel::{CHANNELS_MAX, NAMES_OF_ALL_MAX},
        lineage::{CGROUPS_MAX, IMAGES_MAX, RESOLVED_MAX},
    },
    kernel::measure::Measured,
    record::{followers::LINES_WAITING_MAX, journal::BATCH_BYTES_MAX, metrics::VERDICTS_MAX},
};

/// Something bounded.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// A map's name as it stands, anything else in lower case.
    pub name: &'static str,
    pub holds: &'static str,
    /// [`UNBOUNDED`] for what grows with the host's tasks and sockets and with nothing else.
    pub bound: u64,
    pub at_bound: &'static str,
}

/// One entry for each task or socket that there is: the kernel's own bounds hold.
pub const UNBOUNDED: u64 = 0;

impl Bound {
    /// Whether it is a map of the kernel side.
    #[must_use]
    pub fn is_map(&self) -> bool {
        self.name.starts_with(|c: char| c.is_ascii_uppercase())
    }
}

const fn bound(name: &'static str, holds: &'static str, bound: u64, at_bound: &'static str) -> Bound {
    Bound { name, holds, bound, at_bound }
}

const REFUSED_CHANGE: &str =
    "the change of configuration is an error before anything is written; what was in force stays";

/// All of them.
pub const BOUNDS: &[Bound] = &[
    bound(
        "LABELS",
        "labels of tasks",
        UNBOUNDED,
        "a newborn for which there is no memory takes its parent's label when it first acts; counted (label_allocation_failed)",
    ),
    bound(
        "OWNERS",
        "who holds a unix socket",
        UNBOUNDED,
        "without memory the peer of a unix socket is told as unknown; rules go by name and hold",
    ),
    bound(
        "FLOWS",
        "last target told of a socket",
        UNBOUNDED,
        "without memory each datagram is told, not the first alone; verdicts are given to each in any case",
    ),
    bound(
        "INSTANCES",
        "live instances",
        limits::INSTANCES_MAX as u64,
        "a further instance is enforced by its label's agent and role; counted (instance_table_full)",
    ),
    bound(
        "TASKS",
        "tasks of agents, and of those whose connects are recorded, in cgroup mode; in lsm mode it is not used and holds 1",
        limits::TASKS_MAX as u64,
        "who bears a further task of an agent is killed, and the task takes its place; others go on with their connects unrecorded; counted (task_table_full)",
    ),
    bound("ROLES", "roles in force; half, so that old and new fit", limits::ROLES_MAX as u64, REFUSED_CHANGE),
    bound(
        "EXACT_RULES",
        "rules with one address and port; half",
        limits::EXACT_RULES_MAX as u64,
        REFUSED_CHANGE,
    ),
    bound(
        "PREFIX_RULES",
        "rules with an address prefix; half",
        limits::PREFIX_RULES_MAX as u64,
        REFUSED_CHANGE,
    ),
    bound("UNIX_RULES", "rules on unix sockets; half", limits::UNIX_RULES_MAX as u64, REFUSED_CHANGE),
    bound("SOCKET_RULES", "rules on other sockets; half", limits::SOCKET_RULES_MAX as u64, REFUSED_CHANGE),
    bound("NAME_IDS", "host names of rules; half", limits::NAMES_MAX as u64, REFUSED_CHANGE),
    bound("NAME_RULES", "rules by host name; half", limits::NAME_RULES_MAX as u64, REFUSED_CHANGE),
    bound(
        "RESOLVERS",
        "servers whose answers give addresses their names",
        limits::RESOLVERS_MAX as u64,
        "the change is told in the log; answers of a server that is not in it are not believed",
    ),
    bound(
        "ADDRESSES",
        "addresses known by a name that rules have",
        limits::ADDRESSES_MAX as u64,
        "a further address is not known by its name, so that no rule by name allows it; counted (name_addresses_full)",
    ),
    bound(
        "QUESTIONS",
        "DNS questions that wait for their answer",
        limits::QUESTIONS_MAX as u64,
        "the oldest is forgotten, and its answer is not believed; counted (name_answers_unasked)",
    ),
    bound(
        "AGENT_SERVERS",
        "sockets of port 53 that agents have used",
        UNBOUNDED,
        "without memory such a socket is not told from others; it must still have the address and port of a configured resolver",
    ),
    bound(
        "ASKERS",
        "sockets through which agents ask resolvers",
        UNBOUNDED,
        "without memory a question is nobody's: it is not told, and the role's `names` do not hold for it",
    ),
    bound(
        "NAME_WORK",
        "work areas per CPU for DNS messages",
        4,
        "a message is not read: an agent's question is refused, an answer gives no name; counted (name_work_areas_busy)",
    ),
    bound(
        "SPOKEN",
        "connections that a rule allows by name, and what they said",
        UNBOUNDED,
        "without memory the connect is refused, since nobody could read what it says; counted (spoken_unnoted)",
    ),
    bound("FILES", "files that are agents; half", limits::FILES_MAX as u64, REFUSED_CHANGE),
    bound("PATHS", "paths that are agents; half", limits::PATHS_MAX as u64, REFUSED_CHANGE),
    bound("BASENAMES", "names of those files; half", limits::PATHS_MAX as u64, REFUSED_CHANGE),
    bound(
        "SUFFIXES",
        "steps of path patterns that are agents; half",
        limits::SUFFIXES_MAX as u64,
        REFUSED_CHANGE,
    ),
    bound(
        "CGROUP_NAMES",
        "names of cgroups that are agents; half",
        limits::CGROUPS_MAX as u64,
        REFUSED_CHANGE,
    ),
    bound(
        "CGROUP_PATHS",
        "paths of cgroups that are agents; half",
        limits::CGROUPS_MAX as u64,
        REFUSED_CHANGE,
    ),
    bound(
        "CGROUPS",
        "live cgroups of agents",
        limits::CGROUPS_LIVE_MAX as u64,
        "an agent in a further cgroup is recognised by the cgroup's own name; counted (cgroup_table_full)",
    ),
    bound(
        "RUNS",
        "`chaperone run` requests that wait for their exec",
        limits::RUNS_MAX as u64,
        "a further `chaperone run` is refused and starts nothing",
    ),
    bound(
        "SEEDS",
        "labels of processes older than the daemon",
        limits::SEEDS_MAX as u64,
        "the daemon does not start, and says so",
    ),
    bound("RECORD", "what is recorded per origin", 4, "fixed"),
    bound("SHARES", "shares of the ring buffer outside every instance, by origin", 4, "fixed"),
    bound(
        "EVENTS",
        "bytes of events that wait to be read",
        limits::RING_BYTES as u64,
        "a further event is lost and counted by kind and instance, of who holds more than is free first; the verdict was given before",
    ),
    bound(
        "SCRATCH",
        "work areas per CPU",
        4,
        "an event is lost and counted; an executed file is known by its identity alone, not by its path; a unix socket's name counts as unreadable, which only the default of its class fits; counted (work_areas_busy)",
    ),
    bound("events_batch", "events written at once", BATCH_EVENTS_MAX as u64, "the rest is the next batch"),
    bound(
        "file_batch_bytes",
        "bytes written at once to the event file",
        BATCH_BYTES_MAX as u64,
        "written early; what cannot be written is counted as lost (place file)",
    ),
    bound(
        "follower_lines",
        "lines that wait for one follower",
        LINES_WAITING_MAX as u64,
        "the follower is cut off and told so; its lost lines are counted (place follower); nobody waits for it",
    ),
    bound(
        "clients",
        "clients of the control socket that are root",
        server::CLIENTS_MAX as u64,
        "a further one is told 503 and may try again",
    ),
    bound(
        "guests",
        "clients of the control socket that are not root",
        server::GUESTS_MAX as u64,
        "the same; root's places are its own",
    ),
    bound(
        "refusals",
        "clients that are being told no",
        server::REFUSED_MAX as u64,
        "a further one is cut off without a word",
    ),
    bound("scrapers", "clients of the metrics port", server::SCRAPERS_MAX as u64, "a further one is cut off"),
    bound(
        "header_bytes",
        "bytes of a request's header",
        server::HEADER_BYTES_MAX as u64,
        "431, and the connection ends",
    ),
    bound(
        "body_bytes",
        "bytes of a request's body",
        server::BODY_BYTES_MAX as u64,
        "413, and the connection ends",
    ),
    bound(
        "commands_waiting",
        "clients' questions that wait for the pipeline",
        COMMANDS_WAITING_MAX as u64,
        "the client waits, for ten seconds at most: then 503",
    ),
    bound(
        "requests_waiting",
        "reloads that wait for the pipeline",
        REQUESTS_WAITING_MAX as u64,
        "the watcher waits; a reload reads what is on the disk by then",
    ),
    bound(
        "config_file_bytes",
        "bytes of a configuration file",
        FILE_BYTES_MAX,
        "the file is an error; what was in force stays",
    ),
    bound(
        "config_files",
        "files of a configuration directory",
        FILES_MAX as u64,
        "the directory is an error; what was in force stays",
    ),
    bound(
        "cgroups_known",
        "cgroups whose path the daemon remembers",
        CGROUPS_MAX as u64,
        "those that have not been seen lately are forgotten; what lives is read again from /sys/fs/cgroup when it is asked for",
    ),
    bound(
        "names_answered",
        "addresses that instances were answered for, with their names",
        RESOLVED_MAX as u64,
        "the oldest is forgotten: a connect to it is told without `network.name`; verdicts do not use it",
    ),
    bound(
        "domains_asked_below",
        "instances × registered domains whose questions are counted (dns_channel)",
        CHANNELS_MAX as u64,
        "the one begun first is begun anew: what was asked before does not count any more",
    ),
    bound(
        "names_asked_for",
        "different names below those domains that are told apart (dns_channel)",
        NAMES_OF_ALL_MAX as u64,
        "the domain begun first is begun anew",
    ),
    bound(
        "images_known",
        "program images whose path the daemon remembers",
        IMAGES_MAX as u64,
        "those that nobody runs any more are forgotten, then the oldest of people and the system: their events lack `exe` until the next exec; verdicts do not use it",
    ),
    bound(
        "verdicts_counted",
        "agents × roles × verdicts that are counted one by one",
        VERDICTS_MAX as u64,
        "further ones are counted together, as (other)",
    ),
    bound(
        "baseline_roles",
        "roles of which something is learned",
        4_096,
        "acts of a further role are counted, neither learned nor compared",
    ),
    bound(
        "baseline_behaviours",
        "behaviours learned of all roles; of a role 8,192, of one sort of one program 1,024",
        131_072,
        "endpoints and names are folded; then one gives way that a single instance has shown, counted (docs/BASELINES.md)",
    ),
    bound(
        "baseline_instances",
        "instances whose acts are put in their context",
        context::INSTANCES_MAX as u64,
        "one is forgotten, and its next act begins it anew",
    ),
    bound(
        "baseline_causes",
        "causes of findings that are joined",
        alert::CAUSES_MAX as u64,
        "the one not found for longest is forgotten, and would be told as new",
    ),
    bound(
        "baseline_new_causes",
        "new causes of findings of a role in a second",
        watch::NEW_CAUSES_PER_SECOND_MAX as u64,
        "further ones are one finding, `flood`, with their number; counted (chaperone_findings_flooded_total)",
    ),
    bound(
        "programs_waiting",
        "execs whose programs wait to be identified",
        content::JOBS_MAX as u64,
        "the program is left unidentified until it is executed again; counted (chaperone_programs_unidentified_total)",
    ),
    bound(
        "programs_known",
        "files whose content is known",
        content::KNOWN_MAX as u64,
        "all are forgotten, and read again when they are executed",
    ),
    bound(
        "programs_told",
        "roles × paths × contents that were told",
        content::TOLD_MAX as u64,
        "all are forgotten, and told again",
    ),
    bound(
        "findings_counted",
        "roles × what differs × severities that findings are counted by",
        watch::COUNTED_MAX as u64,
        "further ones are counted together, as (other)",
    ),
];

impl Pipeline {
    /// The list with what is in use now.
    pub(super) fn bounds(&self, measured: &Measured) -> Vec<BoundView> {
        let view = |bound: &Bound| BoundView {
            bound: self.limit(bound, measured),
            used: self.used(bound.name, measured),
            ..bound.view()
        };
        BOUNDS.iter().map(view).collect()
    }

    /// The bound as it is on this host: a table may be made smaller where fewer tasks can be.
    pub(super) fn limit(&self, bound: &Bound, measured: &Measured) -> u64 {
        let map = measured.maps.iter().find(|map| map.name == bound.name && bound.bound > UNBOUNDED);
        map.map_or(bound.bound, |map| map.entries_max)
    }

    /// How much is in use; `None` for what is never more than a moment's work.
    pub(super) fn used(&self, name: &str, measured: &Measured) -> Option<u64> {
        let (table, registry) = (&self.in_force.table, self.kernel.identifying());
        let line = &self.line;
        let used = match name {
            "EVENTS" => return measured.ring.map(|ring| ring.waiting_bytes),
            "INSTANCES" => line.lineage.instances().count(),
            "ROLES" => table.roles.len(),
            "EXACT_RULES" => table.exact.len(),
            "PREFIX_RULES" => table.prefixes.len(),
            "UNIX_RULES" => table.unix.len(),
            "SOCKET_RULES" => table.sockets.len(),
            "NAME_IDS" => table.hosts.len(),
            "NAME_RULES" => table.by_name.len(),
            "FILES" => registry.files.len(),
            "PATHS" => registry.paths.len(),
            "BASENAMES" => registry.basenames.len(),
            "SUFFIXES" => registry.steps.0.len(),
            "CGROUP_NAMES" => registry.cgroup_names.len(),
            "CGROUP_PATHS" => registry.cgroup_paths.len(),
            "follower_lines" => line.recorder.followers.waiting_most(),
            "cgroups_known" => line.lineage.cgroups.len(),
            "images_known" => line.lineage.images.len(),
            "baseline_roles" => line.watch.as_ref()?.baselines.models.len(),
            "baseline_behaviours" => line.watch.as_ref()?.baselines.len(),
            "baseline_instances" => line.watch.as_ref()?.baselines.context.len(),
            "baseline_causes" => line.watch.as_ref()?.alerts.len(),
            "findings_counted" => line.watch.as_ref()?.found.len(),
            "verdicts_counted" => line.recorder.metrics.verdicts_counted(),
            map => return measured.entries(map),
        };
        Some(used as u64)
    }
}

impl Bound {
    /// Without what is in use: where no daemon runs.
    #[must_use]
    pub fn view(&self) -> BoundView {
        BoundView {
            name: self.name.to_owned(),
            holds: self.holds.to_owned(),
            bound: self.bound,
            at_bound: self.at_bound.to_owned(),
            used: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_stands_once_and_says_what_happens() {
        let names: BTreeSet<&str> = BOUNDS.iter().map(|bound| bound.name).collect();
        assert_eq!(names.len(), BOUNDS.len());
        for bound in BOUNDS {
            assert!(!bound.holds.is_empty() && !bound.at_bound.contains("not enforced"), "{bound:?}");
        }
    }

    #[test]
    fn every_map_of_the_kernel_side_has_its_bound() {
        // Counters: one slot for each kind, fixed by the contract, nothing can come too much.
        let fixed = ["SUBMITTED", "LOST", "PROGRESS", "COUNTERS", "EXEC_IDS"];
        let maps = include_str!("../../../agent-ebpf/src/maps.rs");
        let mut there = 0;
        for name in maps.lines().filter_map(|line| line.strip_prefix("pub static ")?.split(':').next()) {
            there += 1;
            let stated = BOUNDS.iter().any(|bound| bound.name == name && bound.is_map());
            assert!(stated || fixed.contains(&name), "{name} has no bound here");
        }
        assert!(there > 20, "{there}");
    }
}
