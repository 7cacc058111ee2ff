//! Prometheus' text exposition of the counters.

use std::{collections::BTreeMap, fmt::Write};

use agent_common::{identity::Origin, verdict::Verdict};

use super::{Metrics, UNDECODABLE};
use crate::event::Kind;

/// What is not counted but looked up when somebody asks.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    pub version: &'static str,
    pub mode: String,
    pub started_unix_s: f64,
    pub generation: u64,
    pub agents: usize,
    pub roles: usize,
    /// Live instances by agent.
    pub instances: BTreeMap<String, u64>,
    /// Live tasks of instances.
    pub tasks: u64,
    pub followers: usize,
    pub followers_cut: u64,
    pub unwritten: u64,
    pub cgroups: usize,
    pub images: usize,
    pub resident_bytes: u64,
    /// Events handed to the ring buffer, and events that found it full, by kind.
    pub submitted: BTreeMap<String, u64>,
    pub lost: BTreeMap<String, u64>,
    /// Named counters of the kernel side.
    pub named: BTreeMap<String, u64>,
}

/// All of it as text (format 0.0.4).
#[must_use]
pub fn render(metrics: &Metrics, gauges: &Gauges) -> String {
    let mut out = Text(String::with_capacity(8192));
    let g = gauges;
    out.family("chaperone_info", "gauge", "Version and mode of the running daemon.");
    out.value("chaperone_info", &[("version", g.version), ("mode", &g.mode)], 1.0);
    out.single("chaperone_start_time_seconds", "gauge", "Start of the daemon, unix time.", g.started_unix_s);
    out.single(
        "chaperone_resident_memory_bytes",
        "gauge",
        "Resident memory of the daemon.",
        g.resident_bytes as f64,
    );

    out.family("chaperone_events_total", "counter", "Events read from the kernel side, by kind and origin.");
    for (kind, name) in Kind::ALL {
        for (slot, count) in
            metrics.received[kind.index()].iter().enumerate().filter(|(_, count)| **count > 0)
        {
            let origin = u8::try_from(slot).ok().and_then(Origin::from_raw).map_or("unknown", Origin::name);
            out.value("chaperone_events_total", &[("kind", name), ("origin", origin)], *count as f64);
        }
    }
    let recorded = metrics.recorded as f64;
    out.single("chaperone_events_recorded_total", "counter", "Events given to file and followers.", recorded);
    out.family("chaperone_events_submitted_total", "counter", "Events handed to the ring buffer, by kind.");
    for (kind, count) in &g.submitted {
        out.value("chaperone_events_submitted_total", &[("kind", kind)], *count as f64);
    }
    out.family("chaperone_events_lost_total", "counter", "Events lost, by kind (or reason) and place.");
    for (kind, count) in &g.lost {
        out.value("chaperone_events_lost_total", &[("kind", kind), ("place", "ring")], *count as f64);
    }
    for (reason, count) in UNDECODABLE.iter().zip(metrics.undecodable) {
        out.value("chaperone_events_lost_total", &[("kind", reason), ("place", "decode")], count as f64);
    }
    out.value("chaperone_events_lost_total", &[("kind", "line"), ("place", "file")], g.unwritten as f64);

    out.family(
        "chaperone_verdicts_total",
        "counter",
        "Verdicts on acts of agents, by agent, role and verdict.",
    );
    let mut verdicts: Vec<_> = metrics.verdicts.iter().collect();
    verdicts
        .sort_by(|(a_key, a), (b_key, b)| (&a.agent, &a.role, a_key.2).cmp(&(&b.agent, &b.role, b_key.2)));
    for ((_, _, verdict), of) in verdicts {
        let verdict = Verdict::from_raw(*verdict).map_or("unknown", Verdict::name);
        let labels = [("agent", &*of.agent), ("role", &*of.role), ("verdict", verdict)];
        out.value("chaperone_verdicts_total", &labels, of.count as f64);
    }

    out.family("chaperone_instances", "gauge", "Live instances, by agent.");
    for (agent, count) in &g.instances {
        out.value("chaperone_instances", &[("agent", agent)], *count as f64);
    }
    out.single("chaperone_agent_tasks", "gauge", "Live tasks of all instances.", g.tasks as f64);
    out.single("chaperone_agents", "gauge", "Registered agents.", g.agents as f64);
    out.single("chaperone_roles", "gauge", "Roles in force.", g.roles as f64);
    let generation = g.generation as f64;
    out.single(
        "chaperone_policy_generation",
        "gauge",
        "Configurations put in force since the start.",
        generation,
    );
    out.family("chaperone_policy_reloads_total", "counter", "Configurations read, by result.");
    for (result, count) in [("in_force", metrics.policy_changed), ("rejected", metrics.policy_rejected)] {
        out.value("chaperone_policy_reloads_total", &[("result", result)], count as f64);
    }
    out.single("chaperone_followers", "gauge", "Clients that follow events.", g.followers as f64);
    let cut = g.followers_cut as f64;
    out.single("chaperone_followers_cut_total", "counter", "Followers cut off for being slow.", cut);
    out.single("chaperone_known_cgroups", "gauge", "Cgroups whose path is known.", g.cgroups as f64);
    out.single("chaperone_known_images", "gauge", "Program images whose path is known.", g.images as f64);
    out.family("chaperone_kernel_total", "counter", "Named counters of the kernel side.");
    for (name, count) in &g.named {
        out.value("chaperone_kernel_total", &[("counter", name)], *count as f64);
    }
    out.0
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Ids, Subject};

    #[test]
    fn counters_read_as_prometheus_wants_them() {
        let mut metrics = Metrics::default();
        metrics.received(Kind::NetConnect, Origin::Agent as u8);
        metrics.undecodable("kind");
        let subject = Subject {
            agent: Some("a\"b".into()),
            role: Some("r".into()),
            ids: Ids { agent: 1, role: 2, cgroup: 0 },
            ..Subject::default()
        };
        let event = Event { verdict: Some(Verdict::Deny.into()), subject: Some(subject), ..Event::default() };
        metrics.judged(&event);
        metrics.judged(&event);
        let text = render(&metrics, &Gauges { version: "1", mode: "lsm".to_owned(), ..Gauges::default() });
        for line in [
            "chaperone_info{version=\"1\",mode=\"lsm\"} 1",
            "chaperone_events_total{kind=\"net_connect\",origin=\"agent\"} 1",
            "chaperone_verdicts_total{agent=\"a\\\"b\",role=\"r\",verdict=\"deny\"} 2",
            "chaperone_events_lost_total{kind=\"kind\",place=\"decode\"} 1",
            "chaperone_followers 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        let families: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
        assert!(text.lines().filter(|l| !l.starts_with('#')).all(|l| {
            let name = l.split(['{', ' ']).next().unwrap();
            families.iter().any(|f| f.split(' ').next() == Some(name))
        }));
    }
}
