//! Prometheus' text exposition of the counters.
//!
//! Labels are bounded: kinds, origins, places, hooks and bounds are lists in the code; agents and roles come from the
//! registry and are counted together above a number; an instance, a process, an address or a path is never a label.

use std::{collections::BTreeMap, fmt::Write};

use agent_common::{identity::Origin, verdict::Verdict};

use super::{Metrics, OTHER, UNDECODABLE};
use crate::{event::Kind, record::journal::Standing};

/// What is not counted but looked up when somebody asks.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    pub version: &'static str,
    pub mode: String,
    pub started_unix_s: f64,
    pub generation: u64,
    /// Mistakes in the configuration on the disk, which is not in force.
    pub problems: usize,
    pub agents: usize,
    pub roles: usize,
    /// Live instances by agent.
    pub instances: BTreeMap<String, u64>,
    /// Live processes of instances, and one more for each that was found running.
    pub tasks: u64,
    /// Live processes by the origin that their label says.
    pub processes: BTreeMap<&'static str, u64>,
    pub followers: usize,
    pub followers_cut: u64,
    /// Lines that followers lost.
    pub follower_lines_lost: u64,
    /// Lines that the event file lost.
    pub unwritten: u64,
    /// How it stands with the journal; `None` where there is none.
    pub journal: Option<Standing>,
    pub resident_bytes: u64,
    /// Memory of maps and programs.
    pub kernel_bytes: u64,
    /// Bytes that wait in the ring buffer, and its size.
    pub ring: Option<(u64, u64)>,
    /// Runs of each hook; none while the kernel does not count them.
    pub hooks: Vec<Hook>,
    pub guarantees: Vec<Guarantee>,
    pub bounds: Vec<Bound>,
    /// Events handed to the ring buffer, and events that found it full, by kind.
    pub submitted: BTreeMap<String, u64>,
    pub lost: BTreeMap<String, u64>,
    /// Named counters of the kernel side.
    pub named: BTreeMap<String, u64>,
    pub baselines: Baselines,
    pub sinks: Vec<Sink>,
}

/// How it stands with one sink.
#[derive(Clone, Debug, Default)]
pub struct Sink {
    pub name: String,
    /// Whether the last send was taken.
    pub up: bool,
    /// Events that were sent, again ones too.
    pub sent: u64,
    pub failures: u64,
    /// Events that it does not want.
    pub filtered: u64,
    /// Events that were gone before they were read.
    pub missed: u64,
    /// Events that its other end refuses.
    pub refused: u64,
    /// Recorded events that its other end has not acknowledged.
    pub waiting: u64,
}

/// What was found, and how it stands with what that rests on.
#[derive(Clone, Debug, Default)]
pub struct Baselines {
    /// Whether events are learned and compared.
    pub on: bool,
    /// Role, what differs, severity, acts.
    pub found: Vec<(String, &'static str, &'static str, u64)>,
    /// Acts that differ and came too many to be looked at.
    pub flooded: u64,
    pub write_failures: u64,
    /// Roles that go by their baseline, and the version of what was promoted; 0 for none.
    pub promoted: Vec<(String, u32)>,
    /// Programs of agents that were not identified, by reason.
    pub unidentified: Vec<(&'static str, u64)>,
    /// Reactions, by effect.
    pub reactions: Vec<(&'static str, u64)>,
    /// Those of them that left something of the instance, likewise.
    pub incomplete: Vec<(&'static str, u64)>,
}

/// How often one hook ran, and for how long in all.
#[derive(Clone, Debug, Default)]
pub struct Hook {
    pub name: String,
    pub runs: u64,
    pub seconds: f64,
}

/// What is done about one way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Guarantee {
    pub rule: &'static str,
    pub way: &'static str,
    pub guarantee: &'static str,
}

/// How full something is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bound {
    pub name: &'static str,
    pub used: u64,
    pub max: u64,
}

/// All of it as text (format 0.0.4).
#[must_use]
pub fn render(metrics: &Metrics, gauges: &Gauges) -> String {
    let mut out = Text(String::with_capacity(16 << 10));
    daemon(&mut out, gauges);
    guarantees(&mut out, gauges);
    events(&mut out, metrics, gauges);
    journal(&mut out, gauges);
    verdicts(&mut out, metrics);
    who(&mut out, gauges);
    policy(&mut out, metrics, gauges);
    baselines(&mut out, &gauges.baselines);
    sinks(&mut out, &gauges.sinks);
    kernel(&mut out, gauges);
    out.0
}

fn daemon(out: &mut Text, g: &Gauges) {
    out.family("chaperone_info", "gauge", "Version and mode of the running daemon.");
    out.value("chaperone_info", &[("version", g.version), ("mode", &g.mode)], 1.0);
    out.single("chaperone_start_time_seconds", "gauge", "Start of the daemon, unix time.", g.started_unix_s);
    let (resident, kernel) = (g.resident_bytes as f64, g.kernel_bytes as f64);
    out.single("chaperone_resident_memory_bytes", "gauge", "Resident memory of the daemon.", resident);
    let help = "Kernel memory of maps and programs, as the kernel states it.";
    out.single("chaperone_kernel_memory_bytes", "gauge", help, kernel);
}

fn guarantees(out: &mut Text, g: &Gauges) {
    let name = "chaperone_guarantee_info";
    out.family(name, "gauge", "What this host lets be done about each way, by kind of rule.");
    for Guarantee { rule, way, guarantee } in &g.guarantees {
        out.value(name, &[("rule", rule), ("way", way), ("guarantee", guarantee)], 1.0);
    }
}

fn events(out: &mut Text, metrics: &Metrics, g: &Gauges) {
    out.family("chaperone_events_total", "counter", "Events read from the kernel side, by kind and origin.");
    for (kind, name) in Kind::ALL {
        for (slot, count) in
            metrics.received[kind.index()].iter().enumerate().filter(|(_, count)| **count > 0)
        {
            let origin = u8::try_from(slot).ok().and_then(Origin::from_raw).map_or(UNNAMED, Origin::name);
            out.value("chaperone_events_total", &[("kind", name), ("origin", origin)], *count as f64);
        }
    }
    let recorded = metrics.recorded as f64;
    out.single("chaperone_events_recorded_total", "counter", "Events given to file and followers.", recorded);
    let name = "chaperone_events_submitted_total";
    out.family(name, "counter", "Events handed to the ring buffer, by kind.");
    for (kind, count) in &g.submitted {
        out.value(name, &[("kind", kind)], *count as f64);
    }
    let name = "chaperone_events_lost_total";
    out.family(name, "counter", "Events lost, by kind (or reason) and place.");
    let mut lost = |kind: &str, place: &str, count: u64| {
        out.value(name, &[("kind", kind), ("place", place)], count as f64);
    };
    g.lost.iter().for_each(|(kind, count)| lost(kind, "ring", *count));
    UNDECODABLE.iter().zip(metrics.undecodable).for_each(|(reason, count)| lost(reason, "decode", count));
    lost("line", "file", g.unwritten);
    lost("line", "follower", g.follower_lines_lost);
    if let Some((waiting, size)) = g.ring {
        let help = "Bytes of events that wait in the ring buffer.";
        out.single("chaperone_ring_waiting_bytes", "gauge", help, waiting as f64);
        out.single("chaperone_ring_size_bytes", "gauge", "Bytes that the ring buffer holds.", size as f64);
    }
    out.single("chaperone_followers", "gauge", "Clients that follow events.", g.followers as f64);
    let cut = g.followers_cut as f64;
    out.single("chaperone_followers_cut_total", "counter", "Followers cut off for being slow.", cut);
}

fn journal(out: &mut Text, g: &Gauges) {
    let Some(Standing { seq, unsigned, sync_failures, removed_early }) = g.journal else { return };
    out.single("chaperone_journal_seq", "gauge", "Number of the journal's last record.", seq as f64);
    let help = "Records that no checkpoint signs yet.";
    out.single("chaperone_journal_unsigned_records", "gauge", help, unsigned as f64);
    let help = "Times that the journal could not be brought to the disk.";
    out.single("chaperone_journal_sync_failures_total", "counter", help, sync_failures as f64);
    let help = "Times that segments were removed earlier than they are to be kept.";
    out.single("chaperone_journal_removed_early_total", "counter", help, removed_early as f64);
}

fn verdicts(out: &mut Text, metrics: &Metrics) {
    let name = "chaperone_verdicts_total";
    let help = "Verdicts in events that were read, by agent, role and verdict.";
    out.family(name, "counter", help);
    // By what is shown: two numbers of one name, such as agents that are gone, are one series.
    let mut shown: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    for ((_, _, verdict), of) in &metrics.verdicts {
        let verdict = Verdict::from_raw(*verdict).map_or(UNNAMED, Verdict::name);
        *shown.entry((&of.agent, &of.role, verdict)).or_default() += of.count;
    }
    for ((agent, role, verdict), count) in shown {
        out.value(name, &[("agent", agent), ("role", role), ("verdict", verdict)], count as f64);
    }
}

fn who(out: &mut Text, g: &Gauges) {
    out.family("chaperone_instances", "gauge", "Live instances, by agent.");
    for (agent, count) in &g.instances {
        out.value("chaperone_instances", &[("agent", agent)], *count as f64);
    }
    let help =
        "Live processes of all instances, and one for each instance that was found running at a start.";
    out.single("chaperone_agent_tasks", "gauge", help, g.tasks as f64);
    out.family("chaperone_processes", "gauge", "Live processes, by the origin that their label says.");
    for (origin, count) in &g.processes {
        out.value("chaperone_processes", &[("origin", origin)], *count as f64);
    }
}

fn policy(out: &mut Text, metrics: &Metrics, g: &Gauges) {
    out.single("chaperone_agents", "gauge", "Registered agents.", g.agents as f64);
    out.single("chaperone_roles", "gauge", "Roles in force.", g.roles as f64);
    let help = "Configurations put in force since the start.";
    out.single("chaperone_policy_generation", "gauge", help, g.generation as f64);
    let name = "chaperone_policy_reloads_total";
    out.family(name, "counter", "Configurations read, by result.");
    for (result, count) in [("in_force", metrics.policy_changed), ("rejected", metrics.policy_rejected)] {
        out.value(name, &[("result", result)], count as f64);
    }
    let help =
        "Mistakes in the configuration on the disk; while there are any, the one before it is in force.";
    out.single("chaperone_policy_problems", "gauge", help, g.problems as f64);
}

fn baselines(out: &mut Text, b: &Baselines) {
    let help = "Whether agents' acts are learned and compared with what is usual.";
    out.single("chaperone_baselines_on", "gauge", help, f64::from(u8::from(b.on)));
    let name = "chaperone_findings_total";
    out.family(name, "counter", "Acts that differ from what is usual for the role.");
    for (role, what, severity, count) in &b.found {
        let role = if role.is_empty() { OTHER } else { role };
        out.value(name, &[("role", role), ("what", what), ("severity", severity)], *count as f64);
    }
    let help = "Acts that differ and came too many to be looked at one by one.";
    out.single("chaperone_findings_flooded_total", "counter", help, b.flooded as f64);
    let help = "Writes of the store of baselines that failed; what they held is written later.";
    out.single("chaperone_baseline_write_failures_total", "counter", help, b.write_failures as f64);
    let name = "chaperone_programs_unidentified_total";
    out.family(
        name,
        "counter",
        "Programs that agents executed and whose content was not found out, by reason.",
    );
    for (reason, count) in &b.unidentified {
        out.value(name, &[("reason", reason)], *count as f64);
    }
    let name = "chaperone_promotion_version";
    out.family(
        name,
        "gauge",
        "Version of what was promoted, of each role that goes by its baseline; 0 for none.",
    );
    for (role, version) in &b.promoted {
        out.value(name, &[("role", role)], f64::from(*version));
    }
    let name = "chaperone_reactions_total";
    out.family(name, "counter", "Instances stopped or ended because of a finding, by effect.");
    for (effect, count) in &b.reactions {
        out.value(name, &[("effect", effect)], *count as f64);
    }
    let name = "chaperone_reactions_incomplete_total";
    out.family(name, "counter", "Reactions that left something of the instance, by effect.");
    for (effect, count) in &b.incomplete {
        out.value(name, &[("effect", effect)], *count as f64);
    }
}

fn sinks(out: &mut Text, sinks: &[Sink]) {
    type Value = fn(&Sink) -> f64;
    let families: [(&str, &str, &str, Value); 7] = [
        ("chaperone_sink_up", "gauge", "Whether the sink took what was last sent.", |s| {
            f64::from(u8::from(s.up))
        }),
        ("chaperone_sink_events_total", "counter", "Events sent to the sink, again ones too.", |s| {
            s.sent as f64
        }),
        ("chaperone_sink_failures_total", "counter", "Connects and sends that failed.", |s| {
            s.failures as f64
        }),
        ("chaperone_sink_filtered_total", "counter", "Events that the sink does not want.", |s| {
            s.filtered as f64
        }),
        ("chaperone_sink_missed_total", "counter", "Events that were gone before they were read.", |s| {
            s.missed as f64
        }),
        ("chaperone_sink_refused_total", "counter", "Events that the other end refuses.", |s| {
            s.refused as f64
        }),
        ("chaperone_sink_waiting", "gauge", "Events that the sink has not acknowledged.", |s| {
            s.waiting as f64
        }),
    ];
    for (name, kind, help, value) in families.into_iter().filter(|_| !sinks.is_empty()) {
        out.family(name, kind, help);
        for sink in sinks {
            out.value(name, &[("sink", &sink.name)], value(sink));
        }
    }
}

fn kernel(out: &mut Text, g: &Gauges) {
    if !g.hooks.is_empty() {
        let name = "chaperone_hook_runs_total";
        out.family(name, "counter", "Runs of each kernel program, while kernel.bpf_stats_enabled is 1.");
        for hook in &g.hooks {
            out.value(name, &[("hook", &hook.name)], hook.runs as f64);
        }
        let name = "chaperone_hook_seconds_total";
        out.family(name, "counter", "Time in each kernel program, while kernel.bpf_stats_enabled is 1.");
        for hook in &g.hooks {
            out.value(name, &[("hook", &hook.name)], hook.seconds);
        }
    }
    out.family("chaperone_bound_used", "gauge", "How much of each bounded thing is in use.");
    for bound in &g.bounds {
        out.value("chaperone_bound_used", &[("bound", bound.name)], bound.used as f64);
    }
    out.family("chaperone_bound_limit", "gauge", "The bound of each bounded thing.");
    for bound in &g.bounds {
        out.value("chaperone_bound_limit", &[("bound", bound.name)], bound.max as f64);
    }
    out.family("chaperone_kernel_total", "counter", "Named counters of the kernel side.");
    for (name, count) in &g.named {
        out.value("chaperone_kernel_total", &[("counter", name)], *count as f64);
    }
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.value(name, &[], value);
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if at == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

/// A number that has no word.
const UNNAMED: &str = "unknown";

#[cfg(test)]
mod tests;
