//! The configuration in force: registry, table, and the names that events are given from them.

use std::sync::Arc;

use agent_common::rule::Mode;

use crate::{
    event::{AgentState, Name},
    identity::{
        lineage::{NamedRule, Names},
        registry::{Registry, UNREGISTERED},
    },
    policy::table::Table,
};

/// Registry and table that the kernel side was given last.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    pub registry: Registry,
    pub table: Table,
    pub names: Arc<Names>,
    /// Counts configurations put in force, from 1.
    pub generation: u64,
}

impl InForce {
    /// The first configuration.
    #[must_use]
    pub fn new(registry: Registry, table: Table) -> Self {
        let names = Arc::new(names(&registry, &table));
        Self { registry, table, names, generation: 1 }
    }

    /// Takes the place of what was in force until now.
    pub fn succeed(&mut self, mut registry: Registry, table: Table) {
        let mut names = names(&registry, &table);
        names.follow(Arc::unwrap_or_clone(std::mem::take(&mut self.names)));
        registry.succeed(std::mem::take(&mut self.registry));
        *self = Self { registry, table, names: Arc::new(names), generation: self.generation + 1 };
    }

    /// Whether another configuration would change nothing.
    #[must_use]
    pub fn is_same(&self, registry: &Registry, table: &Table) -> bool {
        table.diff(&self.table).is_empty()
            && table.names.rules == self.table.names.rules
            && table.names.reactions == self.table.names.reactions
            && table.names.by_baseline == self.table.names.by_baseline
            && self.registry.agents().eq(registry.agents())
    }

    /// How many agents are registered.
    #[must_use]
    pub fn agents(&self) -> usize {
        self.registry.agents().len()
    }

    /// How many roles are in force beside the built-in one.
    #[must_use]
    pub fn roles(&self) -> usize {
        self.registry.roles().filter(|(_, name)| *name != UNREGISTERED).count()
    }
}

fn names(registry: &Registry, table: &Table) -> Names {
    let mut names = Names::default();
    for agent in registry.agents() {
        names.add_agent(agent.id, &agent.name, None);
    }
    for agent in registry.unregistered() {
        names.add_agent(agent.id, &agent.name, Some(AgentState::Unregistered));
    }
    for (id, name) in registry.roles() {
        let policy = table.roles.get(&id);
        let mode = policy.and_then(|p| Mode::from_raw(p.mode)).unwrap_or(Mode::Enforce);
        names.add_role(id, name, mode);
    }
    for (role, reactions) in &table.names.reactions {
        names.add_reactions(*role, *reactions);
    }
    for ((policy, index), rule) in &table.names.rules {
        let (text, source) = (rule.text.clone(), Name::from(rule.place.to_string()));
        let named = NamedRule { text, source, by_name: rule.by_name, promoted: rule.promoted };
        names.add_rule(*policy, *index, named);
    }
    names
}
