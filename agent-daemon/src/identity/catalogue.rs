//! The built-in catalogue: known agents, as the data files beside the source have them.

use super::registry::{Agent, Registry};
use crate::config::{
    Documents,
    problem::{Problem, Problems},
};

/// A catalogue's files: what they are called in reports, and their text.
const FILES: &[(&str, &str)] = &[
    ("catalogue/agents.yaml", include_str!("../../catalogue/agents.yaml")),
    ("catalogue/mcp-servers.yaml", include_str!("../../catalogue/mcp-servers.yaml")),
];

/// All known agents, or what is wrong with the data files.
pub fn known() -> Result<Vec<Agent>, Problems> {
    let (mut documents, mut problems) = (Documents::default(), Problems::default());
    for (name, text) in FILES {
        documents.add(name, text, &mut problems);
    }
    let registry = Registry::new(&documents)?;
    for agent in registry.agents() {
        // Without them nobody can say whether an entry still holds.
        for label in LABELS {
            if !agent.labels.contains_key(*label) {
                let what = format!("the agent `{}` lacks the label `{label}`", agent.name);
                problems.push(Problem::new(
                    &agent.source,
                    what,
                    "say where it is known from, and since when",
                ));
            }
        }
    }
    problems.settle(registry.agents().cloned().collect(), &documents.texts)
}

/// What every entry says of itself.
const LABELS: &[&str] = &["source", "date"];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::identity::{identified, patterns::Pattern, registry::MatchSpec};

    #[test]
    fn every_entry_is_a_pattern_with_source_and_date() {
        let known = known().unwrap_or_else(|problems| panic!("{problems}"));
        assert!(known.len() > 12);
        for agent in &known {
            let date = &agent.labels["date"];
            assert!(date.len() == 10 && date.starts_with("202"), "{}: date {date}", agent.name);
            assert!(!agent.matches.is_empty(), "{} matches nothing", agent.name);
            for spec in &agent.matches {
                // A whole path of the catalogue would go before what somebody registered.
                assert!(
                    matches!(spec, MatchSpec::Exe(path) if Pattern::is_meant(path)),
                    "{}: {spec:?}",
                    agent.name
                );
            }
        }
    }

    #[test]
    fn known_installs_are_recognised_and_what_looks_like_them_is_not() {
        let mut registry = Registry::default();
        registry.recognise_too(&known().unwrap());
        let known = identified::resolve(&registry, &[]);
        let name = |path: &str| {
            let found = known.pattern(Path::new(path))?;
            registry.unregistered().find(|agent| agent.id == found.agent).map(|agent| agent.name.as_str())
        };
        for (path, agent) in [
            ("/home/u/.local/share/claude/versions/2.1.113", "claude-code"),
            ("/usr/lib/node_modules/@anthropic-ai/claude-code/cli.js", "claude-code"),
            ("/home/u/.nvm/versions/node/v22.1.0/lib/node_modules/@openai/codex/bin/codex.js", "codex"),
            ("/o/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex", "codex"),
            ("/o/node_modules/@google/gemini-cli/bundle/gemini.js", "gemini-cli"),
            ("/home/u/.local/share/cursor-agent/versions/2026.08.04-a/cursor-agent", "cursor-cli"),
            ("/home/u/.local/share/pipx/venvs/aider-chat/bin/aider", "aider"),
            ("/n/_npx/a3/node_modules/@modelcontextprotocol/server-git/dist/index.js", "mcp-server"),
        ] {
            assert_eq!(name(path), Some(agent), "{path}");
        }
        for path in [
            "/usr/bin/node",
            "/usr/bin/python3",
            "/usr/bin/bun",
            "/home/u/bin/agent",
            "/home/u/codex.js",
            "/home/u/project/dist/index.js",
            "/home/u/project/versions/2.1.113",
            "/usr/bin/ollama",
        ] {
            assert_eq!(name(path), None, "{path}");
        }
    }
}
