//! Installs one agent below a tree, by npm's and pip's own means of pinning and checking.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::plan::{Agent, Package, Pip, Plan};
use crate::setup::packages::{NPM, PYTHON, pip_install, require, venv};
use crate::step::{note, output, run};

/// The guest's Python: only its own bytecode saves it from compiling at every start.
const PYTHON_IN_GUEST: &str = "3.11";

/// Programs of this machine that bring the agents.
pub struct Tools {
    /// A virtual environment, for its pip; gone when dropped.
    venv: tempfile::TempDir,
    /// A Python of the guest's version, if there is one.
    compiler: Option<PathBuf>,
}

impl Tools {
    pub fn find() -> Result<Self> {
        if output(Command::new("npm").arg("--version")).is_err() {
            require(&[NPM])?;
        }
        let venv = venv()?;
        let of_version = format!("python{PYTHON_IN_GUEST}");
        let compiler = [PYTHON, &of_version].into_iter().find(|python| is_of_guest(python));
        Ok(Self { venv, compiler: compiler.map(PathBuf::from) })
    }
}

fn is_of_guest(python: &str) -> bool {
    let version =
        output(Command::new(python).args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]));
    version.is_ok_and(|version| version.trim() == PYTHON_IN_GUEST)
}

/// One node for all agents.
pub fn node(plan: &Plan, tree: &Path) -> Result<()> {
    let place = tempfile::tempdir_in(tree).context("make a directory for node")?;
    npm(std::slice::from_ref(&plan.node.package), place.path())?;
    let package = place.path().join("node_modules").join(plan.node.package.name());
    for (from, to) in &plan.node.keep {
        let to = tree.join(to);
        make_parent(&to)?;
        fs::rename(package.join(from), &to).with_context(|| format!("put {} in its place", to.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

pub fn agent(plan: &Plan, agent: &Agent, source: &Path, tools: &Tools, tree: &Path) -> Result<()> {
    let place = tree.join(&agent.name);
    fs::create_dir(&place).with_context(|| format!("make {}", place.display()))?;
    let install = &agent.install;
    if !install.npm.is_empty() {
        npm(&install.npm, &place)?;
    }
    if let Some(packages) = &install.pip {
        pip(packages, &source.join(&packages.requirements), tools, &place)?;
    }
    for (link, target) in &install.link {
        let link = place.join(link);
        make_parent(&link)?;
        symlink(target, &link).with_context(|| format!("make {}", link.display()))?;
    }
    for (name, lines) in &install.write {
        let path = place.join(name);
        make_parent(&path)?;
        let mode = if name.starts_with("bin/") { 0o755 } else { 0o644 };
        fs::write(&path, lines.join("\n") + "\n").with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    for (from, to) in &install.moves {
        let below = to.strip_prefix(&plan.prefix).with_context(|| format!("{to} is not on the disk"))?;
        let to = tree.join(below.trim_start_matches('/'));
        make_parent(&to)?;
        fs::rename(place.join(from), &to).with_context(|| format!("put {} in its place", to.display()))?;
    }
    for name in &install.delete {
        let path = place.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("remove {}", path.display()))?;
    }
    match &install.pip {
        Some(packages) if packages.compile => compile(plan, packages, agent, tools, tree),
        _ => Ok(()),
    }
}

/// Installs exactly these packages; npm checks each against the registry's word, and we that word against ours.
fn npm(packages: &[Package], place: &Path) -> Result<()> {
    let mut npm = Command::new("npm");
    npm.args(["install", "--omit=dev", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"]);
    npm.args(["--os=linux", "--cpu=x64", "--prefix"]).arg(place);
    run(npm.args(packages.iter().map(Package::spec)))?;

    let path = place.join("node_modules/.package-lock.json");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let lock: Lock = serde_json::from_str(&text).with_context(|| format!("understand {}", path.display()))?;
    let found: BTreeMap<&str, &str> = lock
        .packages
        .iter()
        .map(|(path, locked)| (path.trim_start_matches("node_modules/"), locked.integrity.as_str()))
        .collect();
    let wanted: BTreeMap<&str, &str> =
        packages.iter().map(|package| (package.name(), package.integrity.as_str())).collect();
    if found != wanted {
        bail!("npm installed something else than agents.json names: {found:?} instead of {wanted:?}");
    }
    Ok(())
}

/// What npm says it has installed.
#[derive(Deserialize)]
struct Lock {
    packages: BTreeMap<String, Locked>,
}

#[derive(Deserialize)]
struct Locked {
    #[serde(default)]
    integrity: String,
}

/// Installs wheels for the guest's Python, whatever Python is here; pip checks each against its hash.
fn pip(packages: &Pip, requirements: &Path, tools: &Tools, place: &Path) -> Result<()> {
    let mut install = pip_install(tools.venv.path());
    install.args(["--implementation", "cp", "--python-version", PYTHON_IN_GUEST]);
    for platform in ["manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64"] {
        install.args(["--platform", platform]);
    }
    install.arg("--target").arg(place.join(&packages.target)).arg("--requirement").arg(requirements);
    run(&mut install)
}

/// Bytecode with the paths that the guest will see.
fn compile(plan: &Plan, packages: &Pip, agent: &Agent, tools: &Tools, tree: &Path) -> Result<()> {
    let Some(python) = &tools.compiler else {
        note(&format!(
            "there is no Python {PYTHON_IN_GUEST} here to compile {}: it starts minutes later in guests",
            agent.title
        ));
        return Ok(());
    };
    let mut compile = Command::new(python);
    compile.args(["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s"]).arg(tree);
    run(compile.args(["-p", &plan.prefix]).arg(tree.join(&agent.name).join(&packages.target)))
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().with_context(|| format!("{} has no parent", path.display()))?;
    fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))
}
