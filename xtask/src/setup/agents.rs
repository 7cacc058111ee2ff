//! Makes the disk with real agents, from npm and PyPI, that guests mount at /opt/agents. What lies on it is said by
//! tests/agents/agents.json; why each thing is there, by the README beside it.

mod install;
mod plan;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use self::install::Tools;
use self::plan::Plan;
use crate::cache::{self, Cache};
use crate::product;
use crate::setup::image::as_root;
use crate::setup::packages::{E2FSPROGS, require};
use crate::step::{run, step};

/// What an entry in the cache holds; another number makes new entries.
const LAYOUT: &str = "1";
const DISK: &str = "agents.img";
/// Size of the file system; the file is sparse, about 750 MB are in use.
const SIZE: &str = "1G";

/// The disk, made if it is not there.
pub fn ensure(cache: &Cache) -> Result<PathBuf> {
    let source = product::root().join("tests/agents");
    let plan = Plan::read(&source)?;
    let name = format!("agents-{}", recipe(&plan)?);
    let entry = match cache.find(&name) {
        Some(entry) => entry,
        None => {
            require(&[E2FSPROGS])?;
            let tools = Tools::find()?;
            step("making the disk of real agents (about a minute and 750 MB, once)", || {
                cache.ensure(&name, |entry| make(&plan, &source, &tools, entry))
            })?
        }
    };
    Ok(entry.join(DISK))
}

/// What the disk is made from, as a short hash: changed packages make another disk, changed settings do not.
fn recipe(plan: &Plan) -> Result<String> {
    let mut recipe = tempfile::NamedTempFile::new().context("make a temporary file")?;
    let text = format!("{LAYOUT} {SIZE}\n{}", plan.text()?);
    std::io::Write::write_all(&mut recipe, text.as_bytes()).context("write the recipe")?;
    let sum = cache::sha256(recipe.path())?;
    Ok(sum.chars().take(12).collect())
}

fn make(plan: &Plan, source: &Path, tools: &Tools, entry: &Path) -> Result<()> {
    let tree = entry.join("tree");
    fs::create_dir(&tree).with_context(|| format!("make {}", tree.display()))?;
    step("bringing node", || install::node(plan, &tree))?;
    for agent in &plan.agents {
        step(&format!("bringing {}", agent.title), || install::agent(plan, agent, source, tools, &tree))?;
    }
    let disk = entry.join(DISK);
    step("packing the agents", || pack(&tree, &disk))?;
    fs::remove_dir_all(&tree).with_context(|| format!("remove {}", tree.display()))
}

/// The tree's owner, whoever that is here, is root in the guest.
fn pack(tree: &Path, disk: &Path) -> Result<()> {
    let mut mke2fs = as_root("/sbin/mke2fs");
    mke2fs
        .args(["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E", "root_owner=0:0", "-d"])
        .arg(tree);
    run(mke2fs.arg(disk).arg(SIZE))
}
