//! The registered agents and the names of roles, by number and by name.

use std::collections::{BTreeMap, VecDeque};

pub use agent_common::identity::UNREGISTERED;
use agent_common::identity::name_id;
use serde::Serialize;

pub use crate::config::document::MatchSpec;
use crate::config::{
    Documents,
    document::{AgentDocument, Spanned},
    problem::{Place, Problem, Problems, nearest},
};

mod matches;

pub use matches::is_interpreter;

/// An agent: registered, or of the built-in catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Agent {
    pub name: String,
    /// [`name_id`] of the name: what labels and maps carry.
    pub id: u32,
    pub role: String,
    pub role_id: u32,
    pub owner: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// In the order of the file: an entry's place is what labels call `entry`.
    pub matches: Vec<MatchSpec>,
    /// Where it is registered.
    pub source: Place,
}

/// All registered agents, and those of the built-in catalogue that nobody registered.
#[derive(Clone, Debug)]
pub struct Registry {
    agents: BTreeMap<u32, Agent>,
    unregistered: BTreeMap<u32, Agent>,
    roles: BTreeMap<u32, String>,
    /// Agents and roles that a reload removed, for events that come late.
    past_agents: Past,
    past_roles: Past,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            agents: BTreeMap::new(),
            unregistered: BTreeMap::new(),
            roles: BTreeMap::from([(name_id(UNREGISTERED), UNREGISTERED.to_string())]),
            past_agents: Past::default(),
            past_roles: Past::default(),
        }
    }
}

impl Registry {
    /// The registry of all documents, or everything that is wrong with their agents.
    pub fn new(documents: &Documents) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut registry = Self::default();
        for role in &documents.roles {
            let name = &role.metadata.name.value;
            registry.roles.insert(name_id(name), name.clone());
        }
        for document in &documents.agents {
            let agent = registry.agent_of(document, &mut problems);
            if let Some(first) = registry.agents.get(&agent.id) {
                problems.push(same_number(&agent, first));
                continue;
            }
            registry.agents.insert(agent.id, agent);
        }
        matches::check(documents, &mut problems);
        problems.settle(registry, &documents.texts)
    }

    fn agent_of(&self, document: &AgentDocument, problems: &mut Problems) -> Agent {
        let spec = &document.spec;
        if let Some(Spanned { value, place }) = &spec.role
            && !self.roles.values().any(|role| role == value)
        {
            let remedy = format!(
                "{}; or add the role's file",
                nearest(value, self.roles.values().map(String::as_str))
            );
            problems.push(Problem::new(place, format!("there is no role `{value}`"), remedy));
        }
        let role = spec.role.as_ref().map_or(UNREGISTERED, |role| &role.value);
        let name = &document.metadata.name;
        Agent {
            name: name.value.clone(),
            id: name_id(&name.value),
            role: role.to_string(),
            role_id: name_id(role),
            owner: spec.owner.clone(),
            version: spec.version.clone(),
            description: spec.description.clone(),
            labels: document.metadata.labels.clone(),
            matches: spec.matches.iter().map(|spec| spec.value.clone()).collect(),
            source: name.place.clone(),
        }
    }

    /// Takes up known agents. One that is registered under the name counts as it was registered.
    pub fn recognise_too(&mut self, known: &[Agent]) {
        let unknown = known.iter().filter(|agent| !self.agents.contains_key(&agent.id));
        self.unregistered = unknown.map(|agent| (agent.id, agent.clone())).collect();
    }

    /// Known agents that nobody registered.
    pub fn unregistered(&self) -> impl ExactSizeIterator<Item = &Agent> {
        self.unregistered.values()
    }

    /// All registered agents, by number.
    pub fn agents(&self) -> impl ExactSizeIterator<Item = &Agent> {
        self.agents.values()
    }

    #[must_use]
    pub fn agent(&self, id: u32) -> Option<&Agent> {
        self.agents.get(&id)
    }

    #[must_use]
    pub fn agent_named(&self, name: &str) -> Option<&Agent> {
        self.agents.get(&name_id(name)).filter(|agent| agent.name == name)
    }

    /// Whether an agent of this number is registered or known.
    #[must_use]
    pub fn knows(&self, id: u32) -> bool {
        self.agents.contains_key(&id) || self.unregistered.contains_key(&id)
    }

    /// The name of an agent, also of one that a reload removed not long ago.
    #[must_use]
    pub fn agent_name(&self, id: u32) -> Option<&str> {
        let known = self.agents.get(&id).or_else(|| self.unregistered.get(&id));
        known.map(|agent| agent.name.as_str()).or_else(|| self.past_agents.name(id))
    }

    /// All roles: number and name.
    pub fn roles(&self) -> impl ExactSizeIterator<Item = (u32, &str)> {
        self.roles.iter().map(|(id, name)| (*id, name.as_str()))
    }

    /// The name of a role, also of one that a reload removed not long ago.
    #[must_use]
    pub fn role_name(&self, id: u32) -> Option<&str> {
        self.roles.get(&id).map(String::as_str).or_else(|| self.past_roles.name(id))
    }

    /// Takes up what the registry before it knew by name and this one no longer does.
    pub fn succeed(&mut self, before: Self) {
        self.past_agents = before.past_agents;
        for (id, agent) in before.agents.into_iter().chain(before.unregistered) {
            if !self.agents.contains_key(&id) && !self.unregistered.contains_key(&id) {
                self.past_agents.remember(id, agent.name);
            }
        }
        self.past_roles = before.past_roles;
        for (id, name) in before.roles {
            if !self.roles.contains_key(&id) {
                self.past_roles.remember(id, name);
            }
        }
    }
}

fn same_number(agent: &Agent, first: &Agent) -> Problem {
    let what = if agent.name == first.name {
        format!("a second agent is called `{}`", agent.name)
    } else {
        format!(
            "the agents `{}` and `{}` have the same number in the kernel ({:#010x})",
            agent.name, first.name, agent.id
        )
    };
    Problem::new(&agent.source, what, format!("rename one; the other is at {}", first.source))
}

/// Names that are no longer in force; the oldest go first.
#[derive(Clone, Debug, Default)]
struct Past(VecDeque<(u32, String)>);

impl Past {
    fn remember(&mut self, id: u32, name: String) {
        self.0.retain(|(known, _)| *known != id);
        if self.0.len() == PAST_MAX {
            self.0.pop_front();
        }
        self.0.push_back((id, name));
    }

    fn name(&self, id: u32) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| *known == id).map(|(_, name)| name.as_str())
    }
}

/// Removed names that are kept: an event is decoded within seconds, a reload removes a handful.
const PAST_MAX: usize = 1024;
