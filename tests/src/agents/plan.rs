//! The agents as tests/agents/agents.json has them: how they are started, and the documents they are registered with.

use std::{collections::BTreeMap, fs, io::Read as _, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ends;

#[derive(Deserialize)]
pub struct Plan {
    pub prefix: String,
    pub path: String,
    task: String,
    pub agents: Vec<Agent>,
}

#[derive(Deserialize)]
pub struct Agent {
    pub name: String,
    pub title: String,
    /// What a person would start; a link leads to one of `recognise`.
    pub exe: String,
    recognise: Vec<String>,
    env: BTreeMap<String, String>,
    /// Lines of files below the home.
    files: BTreeMap<String, Vec<String>>,
    command: Vec<String>,
    install: Value,
}

impl Plan {
    pub fn read() -> Result<Self> {
        serde_json::from_str(AGENTS).context("understand agents.json")
    }

    /// What the model answers with, by agent.
    pub fn scripts(&self) -> Value {
        let mut scripts = serde_json::Map::new();
        for agent in &self.agents {
            let steps = agent.commands().map(|command| json!({ "shell": command }));
            let steps: Vec<Value> = steps.into_iter().chain([json!({ "say": "done" })]).collect();
            scripts.insert(agent.name.clone(), steps.into());
        }
        Value::Object(scripts)
    }

    /// One document per agent, and the role of all of them.
    pub fn documents(&self, mode: &str) -> String {
        let mut text = String::new();
        for agent in &self.agents {
            // One entry for each program that is the agent: the launcher, and what it executes.
            let entries: String = agent.programs().map(|path| format!("    - exe: {path}\n")).collect();
            text += &format!(
                "apiVersion: chaperone/v1\nkind: Agent\nmetadata: {{ name: {} }}\nspec:\n  owner: tests@example.com\n  \
                 version: \"{}\"\n  role: {ROLE}\n  match:\n{entries}---\n",
                agent.name,
                agent.version()
            );
        }
        text + &role(mode)
    }
}

impl Agent {
    /// The commands of its script; the second is allowed, the third refused.
    pub fn commands(&self) -> [String; 3] {
        [
            "id".into(),
            format!("curl -sS -m 20 http://{}/{}", ends::NAMED, self.name),
            format!("curl -sS -m 20 http://{}/{}", ends::UNNAMED, self.name),
        ]
    }

    /// Its version: of its first npm package, or of the Python package with its name.
    pub fn version(&self) -> &str {
        let pinned = || {
            let prefix = format!("{}==", self.name);
            REQUIREMENTS.lines().find_map(|line| line.strip_prefix(&prefix))?.split_whitespace().next()
        };
        self.install["npm"][0]["version"].as_str().or_else(pinned).unwrap_or("unknown")
    }

    /// One entry for each program that is the agent: first what a person starts, as they name it (cgroup mode knows a
    /// script by no other name), then what that executes.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        let real = fs::canonicalize(&self.exe).unwrap_or_default();
        let others = self.recognise.iter().filter(move |path| Path::new(path) != real);
        std::iter::once(&self.exe).chain(others).map(String::as_str)
    }

    /// How it is to be recognised: `script` where a person starts a `#!` file.
    pub fn launched_by(&self) -> Result<&'static str> {
        let mut head = [0; 2];
        let mut file = fs::File::open(&self.exe).with_context(|| format!("open {}", self.exe))?;
        file.read_exact(&mut head).with_context(|| format!("read {}", self.exe))?;
        Ok(if head == *b"#!" { "script" } else { "exe" })
    }

    /// Lays its files into a home and gives its command line and environment; the model answers by this script.
    pub fn prepare(
        &self,
        plan: &Plan,
        home: &Path,
        script: &str,
    ) -> Result<(Vec<String>, BTreeMap<String, String>)> {
        let fill = |text: &str| {
            text.replace("{port}", &ends::MODEL.port().to_string())
                .replace("{home}", &home.display().to_string())
                .replace("{script}", &format!("/{script}"))
                .replace("{task}", &plan.task)
        };
        for (name, lines) in &self.files {
            let path = home.join(name);
            fs::create_dir_all(path.parent().context("a file has a directory")?)?;
            fs::write(&path, fill(&(lines.join("\n") + "\n")))
                .with_context(|| format!("write {}", path.display()))?;
        }
        let mut environment: BTreeMap<String, String> =
            self.env.iter().map(|(name, value)| (name.clone(), fill(value))).collect();
        for (name, value) in
            [("PATH", plan.path.as_str()), ("LANG", "C.UTF-8"), ("HOME", &home.to_string_lossy())]
        {
            environment.insert(name.into(), value.into());
        }
        Ok((self.command.iter().map(|word| fill(word)).collect(), environment))
    }
}

/// The role: the model's endpoint and one server. Nothing else, for none of the agents asks for more on its own host: run
/// with `--alert`, none connects to a unix socket, looks a name up or sends a datagram.
fn role(mode: &str) -> String {
    let (model, named) = (ends::MODEL, ends::NAMED);
    format!(
        "apiVersion: chaperone/v1\nkind: Role\nmetadata: {{ name: {ROLE} }}\nspec:\n  mode: {mode}\n  network:\n    \
         default: deny\n    rules:\n      - {{ to: \"{model}\", protocol: tcp, verdict: allow }}\n      \
         - {{ to: \"{named}\", protocol: tcp, verdict: allow }}\n"
    )
}

pub const ROLE: &str = "coding";
const AGENTS: &str = include_str!("../../agents/agents.json");
const REQUIREMENTS: &str = include_str!("../../agents/mini-swe-agent.requirements.txt");
