//! Names behind the numbers that the kernel side sends, made once per configuration.

use agent_common::rule::Mode;

use super::ids::IdMap;
use crate::{
    config::reaction::Reactions,
    event::{
        AgentState, Name,
        word::{UNKNOWN, Word},
    },
};

/// What is told of a rule.
#[derive(Clone, Debug, Default)]
pub struct NamedRule {
    pub text: Name,
    /// `FILE:LINE`; empty where nobody wrote it.
    pub source: Name,
    /// It names a host.
    pub by_name: bool,
    /// It was promoted from a baseline.
    pub promoted: bool,
}

/// Agent, role and rule names by number.
#[derive(Clone, Debug)]
pub struct Names {
    agents: IdMap<u32, (Name, Option<AgentState>)>,
    roles: IdMap<u32, (Name, Mode)>,
    /// By policy id and place in the role's list.
    rules: IdMap<(u32, u16), NamedRule>,
    /// By role; none of the configuration before.
    reactions: IdMap<u32, Reactions>,
    /// The configuration before this one: events decided under it may still be under way.
    before: Option<Box<Self>>,
    unknown: Name,
}

impl Default for Names {
    fn default() -> Self {
        let (agents, roles, rules) = (IdMap::default(), IdMap::default(), IdMap::default());
        Self { agents, roles, rules, reactions: IdMap::default(), before: None, unknown: Name::from(UNKNOWN) }
    }
}

impl Names {
    /// Adds an agent, with its state unless it is registered and active.
    pub fn add_agent(&mut self, id: u32, name: &str, state: Option<AgentState>) {
        self.agents.insert(id, (Name::from(name), state));
    }

    /// Adds a role.
    pub fn add_role(&mut self, id: u32, name: &str, mode: Mode) {
        self.roles.insert(id, (Name::from(name), mode));
    }

    /// Adds what a role has done about findings.
    pub fn add_reactions(&mut self, role: u32, reactions: Reactions) {
        self.reactions.insert(role, reactions);
    }

    /// What a role has done about findings.
    #[must_use]
    pub fn reactions(&self, role: u32) -> Option<&Reactions> {
        self.reactions.get(&role)
    }

    /// Adds a rule.
    pub fn add_rule(&mut self, policy: u32, index: u16, rule: NamedRule) {
        self.rules.insert((policy, index), rule);
    }

    /// Keeps the names that were in force until now, for events that are still under way.
    pub fn follow(&mut self, mut previous: Self) {
        previous.before = None;
        self.before = Some(Box::new(previous));
    }

    /// The agent's name, or `unknown`.
    #[must_use]
    pub fn agent(&self, id: u32) -> Name {
        self.find(|names| names.agents.get(&id)).map_or(&self.unknown, |(name, _)| name).clone()
    }

    /// The agent's state unless it is registered and active.
    #[must_use]
    pub fn agent_state(&self, id: u32) -> Option<Word<AgentState>> {
        self.find(|names| names.agents.get(&id)).and_then(|(_, state)| state.map(Word::from))
    }

    /// The role's name, or `unknown`.
    #[must_use]
    pub fn role(&self, id: u32) -> Name {
        self.find(|names| names.roles.get(&id)).map_or(&self.unknown, |(name, _)| name).clone()
    }

    /// The role's mode.
    #[must_use]
    pub fn mode(&self, role: u32) -> Option<Word<Mode>> {
        self.find(|names| names.roles.get(&role)).map(|(_, mode)| Word::from(*mode))
    }

    /// A rule, if it is one of a policy that is or was just in force.
    #[must_use]
    pub fn rule(&self, policy: u32, index: u16) -> Option<&NamedRule> {
        self.find(|names| names.rules.get(&(policy, index)))
    }

    /// The word for what is not known.
    #[must_use]
    pub fn unknown(&self) -> Name {
        self.unknown.clone()
    }

    fn find<'a, T>(&'a self, of: impl Fn(&'a Self) -> Option<&'a T>) -> Option<&'a T> {
        of(self).or_else(|| self.before.as_deref().and_then(of))
    }
}
