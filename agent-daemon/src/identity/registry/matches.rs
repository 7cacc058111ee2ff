//! What may identify an agent: each entry by itself, and that no two agents claim the same.

use std::{collections::BTreeMap, path::Path};

use agent_common::{
    identity::{Match, PathKey},
    limits::{CGROUP_NAME_BYTES, CGROUPS_MAX, FILES_MAX, SUFFIX_DEPTH_MAX, SUFFIX_NAME_BYTES},
};

use crate::{
    config::{
        Documents,
        document::{MatchSpec, Spanned},
        problem::{Fault, Place, Problem, Problems, quoted},
    },
    identity::patterns::{Known, NoPattern, Pattern, Steps},
};

/// Reports every `match` entry that cannot identify an agent, and those that two agents have in common.
pub fn check(documents: &Documents, problems: &mut Problems) {
    let mut claims = Claims::default();
    let (mut files, mut cgroups, mut patterns) = (0, 0, Vec::new());
    for agent in &documents.agents {
        let name = agent.metadata.name.value.as_str();
        for spec in &agent.spec.matches {
            if let Err(fault) = check_one(&spec.value, documents) {
                problems.push(fault.at(&spec.place));
                continue;
            }
            match &spec.value {
                MatchSpec::Exe(path) if Pattern::is_meant(path) => {
                    if let Ok(pattern) = Pattern::parse(&path.to_string_lossy()) {
                        patterns.push(Known { pattern, found: Match::default(), registered: true });
                    }
                }
                MatchSpec::Exe(_) => files += 1,
                _ => cgroups += 1,
            }
            claims.claim(name, spec, documents, problems);
        }
    }
    let bounds =
        [("exe entries", files, FILES_MAX, "FILES_MAX"), ("cgroups", cgroups, CGROUPS_MAX, "CGROUPS_MAX")];
    let Some(last) = documents.agents.last() else { return };
    if let Err(many) = Steps::of(&patterns) {
        let what = format!("the path patterns of all agents together have {many} (half of SUFFIXES_MAX)");
        let remedy = "write fewer `*`, shorter patterns, or whole paths";
        problems.push(Problem::new(&last.metadata.name.place, what, remedy));
    }
    for (what, count, max, bound) in bounds {
        if count > max {
            let what = format!("all agents together have {count} {what}, at most {max} ({bound})");
            problems.push(Problem::new(&last.metadata.name.place, what, "remove some"));
        }
    }
}

fn check_one(spec: &MatchSpec, documents: &Documents) -> Result<(), Fault> {
    match spec {
        MatchSpec::Exe(path) if Pattern::is_meant(path) => pattern(&path.to_string_lossy()),
        MatchSpec::Exe(path) => {
            plain_path("exe", path)?;
            not_an_interpreter(path, None)?;
            match documents.executables.get(path) {
                Some(file) => not_an_interpreter(&file.path, Some(path)),
                None => Ok(()),
            }
        }
        MatchSpec::Unit(unit) => {
            let kind = unit.strip_suffix(".service").or_else(|| unit.strip_suffix(".scope"));
            match kind {
                Some(name) if !name.is_empty() && !unit.contains('/') => cgroup_name(unit),
                _ => {
                    let what = format!("unit cannot be {}", quoted(unit));
                    let remedy =
                        "write NAME.service or NAME.scope; for a slice write `cgroup: /…/NAME.slice`";
                    Err(Fault::new(what, remedy))
                }
            }
        }
        MatchSpec::Cgroup(path) => cgroup(path),
        MatchSpec::Container(id) => {
            let hex = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            if hex && (CONTAINER_DIGITS_MIN..=CONTAINER_DIGITS_MAX).contains(&id.len()) {
                return Ok(());
            }
            let what = format!("container cannot be {}", quoted(id));
            Err(Fault::new(what, "write the id, or its first 12 to 64 digits, in lower-case hexadecimal"))
        }
    }
}

fn pattern(text: &str) -> Result<(), Fault> {
    let pattern = Pattern::parse(text).map_err(|why| {
        let remedy = match why {
            NoPattern::NotPlain => {
                "write it as `**/DIRECTORY/FILE`, without `.`, `..`, `//` and a second `**`"
            }
            NoPattern::PartOfName => {
                "`*` stands for one whole component: write it alone, or the name in full"
            }
            NoPattern::FileAlone => "name at least the directory that it lies in: `**/DIRECTORY/FILE`",
            NoPattern::TooDeep => {
                return too_much(text, why, SUFFIX_DEPTH_MAX, "components (SUFFIX_DEPTH_MAX)");
            }
            NoPattern::LongName => {
                return too_much(text, why, SUFFIX_NAME_BYTES - 1, "bytes each (SUFFIX_NAME_BYTES)");
            }
            NoPattern::NoAnchor => "write out the file's name, or that of its directory",
        };
        Fault::new(format!("exe {} {why}", quoted(text)), remedy)
    })?;
    not_an_interpreter(Path::new(pattern.file_name()), None)?;
    if pattern.names().all(is_common) {
        let what = format!("exe {} holds only names that other programs have too", quoted(text));
        return Err(Fault::new(what, "write one more component that is this agent's own, or the whole path"));
    }
    Ok(())
}

fn too_much(text: &str, why: NoPattern, max: usize, of: &str) -> Fault {
    Fault::new(format!("exe {} {why}", quoted(text)), format!("at most {max} {of}"))
}

/// Whether a component says nothing of whose it is.
fn is_common(name: &str) -> bool {
    let stem = SCRIPTS.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    let stem = stem.trim_start_matches(['.', '@']);
    is_interpreter(Path::new(stem)) || COMMON.contains(&unversioned(stem)) || COMMON.contains(&stem)
}

fn cgroup(path: &Path) -> Result<(), Fault> {
    plain_path("cgroup", path)?;
    let shown = quoted(&path.to_string_lossy());
    if path.starts_with("/sys/fs/cgroup") {
        let remedy = "leave out /sys/fs/cgroup: the path starts below it";
        return Err(Fault::new(format!("cgroup cannot be {shown}"), remedy));
    }
    if path.parent().is_none() || WIDE_CGROUPS.iter().any(|wide| path == Path::new(wide)) {
        let what = format!("the cgroup {shown} holds far more than an agent");
        return Err(Fault::new(what, "name the unit, or a cgroup of the agent's own"));
    }
    cgroup_name(&path.file_name().unwrap_or_default().to_string_lossy())
}

fn plain_path(what: &str, path: &Path) -> Result<(), Fault> {
    let text = path.to_string_lossy();
    let fault = |why: &str, remedy: &str| Err(Fault::new(format!("{what} {} {why}", quoted(&text)), remedy));
    if !text.starts_with('/') {
        let pattern = if what == "exe" { ", or with **/ for the end of a path" } else { "" };
        return fault("is not an absolute path", &format!("begin it with /{pattern}"));
    }
    if text.split('/').any(|part| part == "." || part == "..") || text.contains("//") {
        return fault("is not a plain path", "write it without `.`, `..` and `//`");
    }
    if text.len() > 1 && text.ends_with('/') {
        return fault("ends with /", "name the file itself");
    }
    if path.as_os_str().len() > PathKey::LONGEST {
        let remedy =
            format!("at most {} bytes (PathKey::LONGEST): a link to it may be shorter", PathKey::LONGEST);
        return fault("is too long", &remedy);
    }
    Ok(())
}

fn cgroup_name(name: &str) -> Result<(), Fault> {
    if name.len() < CGROUP_NAME_BYTES {
        return Ok(());
    }
    let remedy = format!("at most {} bytes (CGROUP_NAME_BYTES)", CGROUP_NAME_BYTES - 1);
    Err(Fault::new(format!("the cgroup name {} is too long", quoted(name)), remedy))
}

/// An interpreter runs people's programs too: recognising it would make agents of them.
fn not_an_interpreter(path: &Path, through: Option<&Path>) -> Result<(), Fault> {
    if !is_interpreter(path) {
        return Ok(());
    }
    let lead =
        through.map(|from| format!("{} leads to ", quoted(&from.to_string_lossy()))).unwrap_or_default();
    let shown = quoted(&path.to_string_lossy());
    let what = format!("{lead}{shown} runs every program of its kind, not only this agent");
    Err(Fault::new(what, "name the script instead (`exe` takes a file that begins with #!), or the unit"))
}

/// Whether a program runs whatever it is given.
#[must_use]
pub fn is_interpreter(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    GENERIC.contains(&unversioned(&name)) || GENERIC.contains(&&*name)
}

/// `python3.11` → `python`.
fn unversioned(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '_'))
}

/// What agents claim, to see two of them claim the same.
#[derive(Default)]
struct Claims<'a> {
    taken: BTreeMap<Claim, (&'a str, &'a Place)>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Spec(MatchSpec),
    /// Device and inode: two paths may be one file.
    File(u64, u64),
}

impl<'a> Claims<'a> {
    fn claim(
        &mut self,
        agent: &'a str,
        spec: &'a Spanned<MatchSpec>,
        documents: &Documents,
        problems: &mut Problems,
    ) {
        let claim = match &spec.value {
            MatchSpec::Exe(path) => match documents.executables.get(path) {
                Some(file) => Claim::File(file.dev, file.ino),
                None => Claim::Spec(spec.value.clone()),
            },
            other => Claim::Spec(other.clone()),
        };
        let taken = self.taken.get(&claim).or_else(|| self.same_container(&spec.value));
        let Some((other, place)) = taken else {
            self.taken.insert(claim, (agent, &spec.place));
            return;
        };
        let what = if *other == agent {
            format!("{} stands in the agent `{agent}` twice", said(&spec.value))
        } else {
            format!("the agents `{agent}` and `{other}` both claim {}", said(&spec.value))
        };
        problems.push(Problem::new(&spec.place, what, format!("keep one; the other is at {place}")));
    }

    /// A container that is named by prefixes of different length.
    fn same_container(&self, spec: &MatchSpec) -> Option<&(&'a str, &'a Place)> {
        let MatchSpec::Container(id) = spec else { return None };
        self.taken.iter().find_map(|(claim, taken)| match claim {
            Claim::Spec(MatchSpec::Container(other)) if id.starts_with(other) || other.starts_with(id) => {
                Some(taken)
            }
            _ => None,
        })
    }
}

fn said(spec: &MatchSpec) -> String {
    match spec {
        MatchSpec::Exe(path) => format!("exe {}", quoted(&path.to_string_lossy())),
        MatchSpec::Unit(unit) => format!("unit {}", quoted(unit)),
        MatchSpec::Cgroup(path) => format!("cgroup {}", quoted(&path.to_string_lossy())),
        MatchSpec::Container(id) => format!("container {}", quoted(id)),
    }
}

/// Programs that run whatever they are given; versions (`python3.11`, `node-20`) are cut off before the comparison.
const GENERIC: &[&str] = &[
    "R",
    "Rscript",
    "ash",
    "awk",
    "bash",
    "bun",
    "bunx",
    "busybox",
    "bwrap",
    "chroot",
    "csh",
    "dash",
    "deno",
    "doas",
    "docker",
    "dotnet",
    "electron",
    "elixir",
    "env",
    "erl",
    "fish",
    "flatpak",
    "gawk",
    "gjs",
    "guile",
    "iex",
    "ipython",
    "java",
    "julia",
    "ksh",
    "lua",
    "luajit",
    "mawk",
    "mksh",
    "mono",
    "nice",
    "node",
    "nodejs",
    "nohup",
    "npm",
    "npx",
    "ocaml",
    "perl",
    "php",
    "pipx",
    "pnpm",
    "pnpx",
    "podman",
    "pwsh",
    "pypy",
    "python",
    "qjs",
    "quickjs",
    "rbash",
    "ruby",
    "runc",
    "scala",
    "screen",
    "setsid",
    "sh",
    "ssh",
    "sshd",
    "stdbuf",
    "su",
    "sudo",
    "systemd",
    "systemd-run",
    "tclsh",
    "tcsh",
    "timeout",
    "tini",
    "tmux",
    "ts-node",
    "tsx",
    "unshare",
    "uv",
    "uvx",
    "wasmtime",
    "wish",
    "xargs",
    "yarn",
    "zsh",
];
/// Files and directories that many programs have, without version, leading dot and the end of a script's name.
const COMMON: &[&str] = &[
    "agent",
    "app",
    "apps",
    "assistant",
    "bin",
    "bot",
    "build",
    "bundle",
    "cache",
    "cargo",
    "cli",
    "config",
    "current",
    "debug",
    "dist",
    "etc",
    "go",
    "home",
    "index",
    "latest",
    "lib",
    "lib64",
    "libexec",
    "local",
    "main",
    "mcp",
    "nvm",
    "node_modules",
    "npm",
    "opt",
    "out",
    "package",
    "packages",
    "program",
    "project",
    "release",
    "root",
    "run",
    "sbin",
    "scripts",
    "server",
    "share",
    "site-packages",
    "src",
    "srv",
    "start",
    "target",
    "tmp",
    "tool",
    "tools",
    "usr",
    "user",
    "var",
    "vendor",
    "venv",
    "venvs",
    "version",
    "versions",
    "work",
    "workspace",
];
const SCRIPTS: &[&str] = &[".js", ".mjs", ".cjs", ".ts", ".py", ".sh", ".rb", ".pl"];
/// Cgroups that systemd and container runtimes make for everything of a kind.
const WIDE_CGROUPS: &[&str] = &[
    "/system.slice",
    "/user.slice",
    "/machine.slice",
    "/init.scope",
    "/kubepods",
    "/kubepods.slice",
    "/docker",
    "/lxc",
];
const CONTAINER_DIGITS_MIN: usize = 12;
const CONTAINER_DIGITS_MAX: usize = 64;
