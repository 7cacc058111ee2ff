//! The part of agents.json that says what lies on the disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
pub struct Plan {
    /// Where the disk is mounted: paths of its files begin so in the guest.
    pub prefix: String,
    pub node: Node,
    pub agents: Vec<Agent>,
    /// Files of Python packages, by name, each line with version and hash.
    #[serde(skip_deserializing)]
    requirements: BTreeMap<String, String>,
}

#[derive(Deserialize, Serialize)]
pub struct Node {
    #[serde(flatten)]
    pub package: Package,
    /// Files of the package and where they go.
    pub keep: BTreeMap<String, String>,
}

#[derive(Deserialize, Serialize)]
pub struct Agent {
    pub name: String,
    pub title: String,
    pub install: Install,
}

/// In the order in which it is done.
#[derive(Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Install {
    pub npm: Vec<Package>,
    pub pip: Option<Pip>,
    pub link: BTreeMap<String, String>,
    /// Lines of files.
    pub write: BTreeMap<String, Vec<String>>,
    /// From below the agent to an absolute path on the disk as the guest has it.
    #[serde(rename = "move")]
    pub moves: BTreeMap<String, String>,
    pub delete: Vec<String>,
}

#[derive(Deserialize, Serialize)]
pub struct Package {
    pub package: String,
    /// Installed under another name.
    #[serde(rename = "as")]
    pub alias: Option<String>,
    pub version: String,
    pub integrity: String,
}

#[derive(Deserialize, Serialize)]
pub struct Pip {
    pub requirements: String,
    pub target: String,
    #[serde(default)]
    pub compile: bool,
}

impl Plan {
    pub fn read(source: &Path) -> Result<Self> {
        let path = source.join("agents.json");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let mut plan: Self =
            serde_json::from_str(&text).with_context(|| format!("understand {}", path.display()))?;
        for pip in plan.agents.iter().filter_map(|agent| agent.install.pip.as_ref()) {
            let path = source.join(&pip.requirements);
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            plan.requirements.insert(pip.requirements.clone(), text);
        }
        Ok(plan)
    }

    /// All of it, in a form that is the same for the same plan.
    pub fn text(&self) -> Result<String> {
        serde_json::to_string(self).context("write the plan down")
    }
}

impl Package {
    /// The name below node_modules.
    pub fn name(&self) -> &str {
        self.alias.as_ref().unwrap_or(&self.package)
    }

    /// What npm calls it.
    pub fn spec(&self) -> String {
        let Self { package, version, .. } = self;
        match &self.alias {
            Some(alias) => format!("{alias}@npm:{package}@{version}"),
            None => format!("{package}@{version}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_in_the_repository_is_read_and_every_package_is_pinned() {
        let plan = Plan::read(&crate::product::root().join("tests/agents")).unwrap();
        let packages = plan.agents.iter().flat_map(|agent| &agent.install.npm).chain([&plan.node.package]);
        for package in packages {
            assert!(package.integrity.starts_with("sha512-"), "{}", package.spec());
            assert!(package.version.starts_with(|c: char| c.is_ascii_digit()), "{}", package.spec());
        }
        assert_eq!(plan.requirements.len(), 1);
        assert!(plan.text().unwrap().contains("--hash=sha256:"));
    }
}
