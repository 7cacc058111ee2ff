//! What the events, the model's log and the servers tell of one run.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    drive::Ran,
    ends::{Hit, NAMED, UNNAMED},
};

pub struct Seen<'a> {
    pub ran: &'a Ran<'a>,
    pub events: &'a [Value],
    pub model: Vec<&'a Value>,
    hits: &'a [Hit],
}

impl<'a> Seen<'a> {
    pub fn new(ran: &'a Ran<'a>, events: &'a [Value], log: &'a [Value], hits: &'a [Hit]) -> Self {
        let model = log.iter().filter(|request| request["script"] == ran.agent.name).collect();
        Self { ran, events, model, hits }
    }

    /// All program starts, of everybody.
    pub fn execs(&self) -> impl Iterator<Item = &'a Value> {
        self.events.iter().filter(|event| event["kind"] == "process_exec")
    }

    /// The exec by which a process became the program that it was started as.
    fn start(&self, pid: u32) -> Result<&'a Value> {
        self.execs().find(|event| event["pid"] == pid).with_context(|| format!("process {pid} has no exec"))
    }

    /// The agent's own first exec.
    pub fn first(&self) -> Result<&'a Value> {
        self.start(self.ran.pid)
    }

    /// The instance that began with it.
    pub fn instance(&self) -> Result<&'a str> {
        let first = self.first()?;
        first["instance"]
            .as_str()
            .with_context(|| format!("its first exec belongs to nobody: {}", tell(first)))
    }

    /// Everything that its instance did.
    pub fn of_instance(&self) -> Result<Vec<&'a Value>> {
        let instance = self.instance()?;
        Ok(self.events.iter().filter(|event| event["instance"] == instance).collect())
    }

    /// The execs below one, it included, by who executed whom: nothing that a label has a say in.
    fn below(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut known = BTreeSet::from([root["exec_id"].as_str().unwrap_or_default()]);
        let mut found = vec![root];
        // Executed before executing: one pass in the order of the events is enough.
        for exec in self.execs() {
            let (Some(id), Some(parent)) = (exec["exec_id"].as_str(), exec["parent_exec_id"].as_str()) else {
                continue;
            };
            if known.contains(parent) && known.insert(id) {
                found.push(exec);
            }
        }
        found
    }

    /// The agent's whole tree.
    pub fn tree_of_agent(&self) -> Result<Vec<&'a Value>> {
        Ok(self.below(self.first()?))
    }

    /// What ran in the person's terminal, without the program that keeps it.
    pub fn tree_of_person(&self) -> Result<Vec<&'a Value>> {
        Ok(self.below(self.start(self.ran.person)?).split_off(1))
    }

    /// Attempts of the instance to reach a server or socket.
    pub fn attempts(&self) -> Result<Vec<&'a Value>> {
        let reaches = |event: &&Value| {
            let kind = event["kind"].as_str().unwrap_or_default();
            kind.starts_with("net_") || kind.starts_with("unix_")
        };
        Ok(self.of_instance()?.into_iter().filter(reaches).collect())
    }

    /// How many connections for its page came to a server, from a person or not.
    pub fn arrived(&self, server: std::net::SocketAddrV4, person: bool) -> usize {
        self.hits.iter().filter(|hit| hit.is(server, &self.ran.agent.name, person)).count()
    }

    /// Connections to the unnamed server that are nobody's: no agent's and no person's request.
    pub fn arrived_silently(&self) -> usize {
        self.hits.iter().filter(|hit| hit.server == UNNAMED && hit.request.is_empty()).count()
    }

    /// The results of its tool calls, as the agent told them to its model at last.
    pub fn results(&self) -> Vec<&'a str> {
        let longest =
            self.model.iter().filter_map(|request| request["results"].as_array()).max_by_key(|r| r.len());
        longest.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// What the role would refuse, each once, but for the server that it is meant to.
    pub fn would_be_refused(&self) -> Vec<String> {
        let mut found = BTreeMap::new();
        for event in self.attempts().unwrap_or_default() {
            if event["decision"]["wanted"] == "deny" || event["verdict"] == "deny" {
                *found.entry(tell(event)).or_insert(0) += 1;
            }
        }
        found.into_iter().map(|(what, times)| format!("{times} × {what}")).collect()
    }

    /// The agent's tree for people: one line per exec.
    pub fn tree(&self) -> Vec<String> {
        let mut depths = BTreeMap::new();
        let mut lines = Vec::new();
        for exec in self.tree_of_agent().unwrap_or_default() {
            let [id, parent] =
                ["exec_id", "parent_exec_id"].map(|name| exec[name].as_str().unwrap_or_default());
            let depth = depths.get(parent).map_or(0, |depth| depth + 1);
            depths.insert(id, depth);
            lines.push(format!("{}{}", "  ".repeat(depth), tell(exec)));
        }
        lines
    }
}

/// Whether an event is about this server.
pub fn is_to(event: &Value, server: std::net::SocketAddrV4) -> bool {
    event["network"]["address"] == server.ip().to_string() && event["network"]["port"] == server.port()
}

/// Whether an exec runs exactly this program, by the last part of its path.
pub fn runs(exec: &Value, program: &str) -> bool {
    exec["exe"].as_str().and_then(|exe| exe.rsplit('/').next()).is_some_and(|name| name == program)
}

/// Whether an exec is of curl, with this page of one of the two servers.
pub fn fetches(exec: &Value, agent: &str) -> bool {
    let pages = [NAMED, UNNAMED].map(|server| format!("http://{server}/{agent}"));
    let words = exec["argv"].as_array();
    runs(exec, "curl")
        && words.is_some_and(|words| words.iter().any(|word| pages.iter().any(|page| word == page)))
}

/// An event in a few words.
pub fn tell(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let of = |name: &str| text(&event[name]);
    let mut told = format!("{} pid {} {} {}", of("kind"), event["pid"], of("origin"), of("exe"));
    if let Some(words) = event["argv"].as_array() {
        let line: Vec<String> = words.iter().skip(1).map(text).collect();
        told += &format!(" [{}]", line.join(" ").chars().take(80).collect::<String>());
    }
    for name in ["script", "recognised", "instance", "verdict"] {
        if let Some(value) = event[name].as_str() {
            told += &format!(" {name} {value}");
        }
    }
    if event["network"].is_object() {
        let network = &event["network"];
        let [class, family] = ["class", "family"].map(|name| text(&network[name]));
        told += &format!(" to {class} {family} {} {}", text(&network["address"]), network["port"]);
    }
    if event["unix"].is_object() {
        told += &format!(" to unix:{}", text(&event["unix"]["path"]));
    }
    told.replace('\n', " ")
}
