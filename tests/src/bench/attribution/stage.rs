//! Where the cases play: the agents' files, a terminal with a person, and the processes that wait to be looked at.

use std::{
    collections::HashMap,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::score::{Seen, Who};
use crate::harness::{Daemon, MARK, program, script};

/// The programs of the cases lie here: on a file system, since some are found by path.
pub const HOME: &str = "/opt/chaperone-attribution";
/// The id of the container that `boxed` runs in.
pub const CONTAINER: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

/// Files, leaves and what was started.
pub struct Stage {
    leaves: Vec<Leaf>,
    started: Vec<Child>,
    next: u32,
}

/// A process that waits to be looked at, and who it is.
#[derive(Clone)]
pub struct Leaf {
    pub case: String,
    pub expected: Who,
    /// The agent whose instance it must belong to.
    pub agent: &'static str,
    pub token: String,
}

impl Stage {
    /// Lays the programs out.
    pub fn set() -> Result<Self> {
        let home = Path::new(HOME);
        drop(fs::remove_dir_all(home));
        fs::create_dir_all(home.join("cases")).with_context(|| format!("make {HOME}"))?;
        script(&home.join("leaf"), &format!("#!/bin/bash\nexec -a {MARK}-$1 sleep 900\n"))?;
        for agent in ["bot", "inner", "boxed"] {
            // Sourced, so that the script's own process does what the case says.
            script(&home.join(agent), "#!/bin/bash\n. \"$1\"\n")?;
        }
        for native in ["native", "payload", "payload2"] {
            fs::copy("/bin/bash", home.join(native)).context("copy bash")?;
        }
        script(&home.join("launcher"), &format!("#!/bin/bash\nexec {HOME}/payload \"$@\"\n"))?;
        std::os::unix::fs::symlink("bot", home.join("linked"))?;
        fs::hard_link(home.join("native"), home.join("hardlinked"))?;
        Ok(Self { leaves: Vec::new(), started: Vec::new(), next: 0 })
    }

    /// The agents of the cases, all of a role that only watches.
    #[must_use]
    pub fn documents() -> String {
        let exes = [
            ("bot", &["bot"][..]),
            ("native", &["native"]),
            ("inner", &["inner"]),
            ("launcher", &["launcher", "payload"]),
            ("late", &["late"]),
            ("threaded", &["threaded"]),
        ];
        let mut text = String::from(ROLE);
        for (name, files) in exes {
            let entries: Vec<String> = files.iter().map(|file| format!("{{ exe: {HOME}/{file} }}")).collect();
            text += &agent(name, &entries.join(", "));
        }
        text += &agent("boxed", &format!("{{ container: {CONTAINER} }}"));
        text += &agent("unit", "{ unit: attribution-agent.service }");
        text + &agent("run", "{ exe: /nonexistent/run }")
    }

    /// A new leaf: the words that become it.
    pub fn leaf(&mut self, case: impl Into<String>, expected: Who, agent: &'static str) -> String {
        let token = format!("n{}", self.next);
        self.next += 1;
        let words = format!("{HOME}/leaf {token}");
        self.leaves.push(Leaf { case: case.into(), expected, agent, token });
        words
    }

    /// A file with what a case does; `LEAF` becomes the leaf, `HOME` the programs' directory.
    pub fn case(&mut self, case: &str, expected: Who, agent: &'static str, text: &str) -> Result<String> {
        let leaf = self.leaf(case, expected, agent);
        let file = format!("{HOME}/cases/{}.sh", self.next);
        let text = text.replace("LEAF", &leaf).replace("HOME", HOME);
        fs::write(&file, text).with_context(|| format!("write {file}"))?;
        Ok(file)
    }

    /// A person's terminal in which lines run beside each other, with its shell and directory.
    pub fn terminal(&mut self, lines: &[String]) -> Result<()> {
        self.next += 1;
        let file = format!("{HOME}/cases/terminal-{}.sh", self.next);
        let mut text = String::from("cd /root\n");
        for line in lines {
            text += &format!("{line} < /dev/tty &\n");
        }
        fs::write(&file, text + "wait\n")?;
        let mut command = Command::new(program("chaperone-tests")?);
        command.args(["act", "shape", "pty", "--", "/bin/bash", &file]);
        self.start(&mut command)
    }

    /// Outside every terminal, as something that init started.
    pub fn background(&mut self, line: &str) -> Result<()> {
        let mut command = Command::new("/bin/bash");
        command.args(["-c", line]).current_dir("/root");
        // SAFETY: setsid is safe between fork and exec.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                Ok(())
            });
        }
        self.start(&mut command)
    }

    pub fn start(&mut self, command: &mut Command) -> Result<()> {
        let log = fs::File::options().create(true).append(true).open(format!("{HOME}/log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {:?}", command.get_program()))?;
        self.started.push(child);
        Ok(())
    }

    /// Waits for the leaves and says what each is labelled; then nothing of them is left.
    pub fn look(&mut self, daemon: &Daemon) -> Result<Vec<Seen>> {
        let seen = self.see(daemon);
        self.clear();
        seen
    }

    /// Waits for the leaves and says what each is labelled. They live on.
    pub fn see(&self, daemon: &Daemon) -> Result<Vec<Seen>> {
        self.wait(self.leaves.len());
        let all = daemon.processes()?;
        let mut by_token: HashMap<String, Value> = HashMap::new();
        for process in all {
            let token = process["argv"][0].as_str().and_then(token_of).map(str::to_owned);
            if let Some(token) = token {
                by_token.insert(token, process);
            }
        }
        let seen = |leaf: &Leaf| Seen::of(leaf, by_token.get(&leaf.token));
        Ok(self.leaves.iter().map(seen).collect())
    }

    /// What the programs of the cases complained of.
    #[must_use]
    pub fn complaints() -> String {
        fs::read_to_string(format!("{HOME}/log")).unwrap_or_default()
    }

    /// Waits until so many leaves are there.
    pub fn wait(&self, count: usize) {
        let end = Instant::now() + LEAVES_MAX;
        let there = || {
            let marked = marked();
            self.leaves.iter().filter(|leaf| marked.contains_key(&leaf.token)).count()
        };
        while there() < count && Instant::now() < end {
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The process id of the last leaf that was asked for.
    pub fn last_pid(&self) -> Result<u32> {
        let Some(leaf) = self.leaves.last() else { bail!("no leaf yet") };
        crate::harness::find_marked(&leaf.token)
    }

    /// Ends the leaves, and with them all that waits for them.
    pub fn clear(&mut self) {
        for pid in marked().into_values() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        self.leaves.clear();
        let end = Instant::now() + ENDS_MAX;
        for mut child in self.started.drain(..) {
            while Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(20));
                for pid in marked().into_values() {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.clear();
        drop(fs::remove_dir_all(HOME));
    }
}

/// All marked processes by token.
fn marked() -> HashMap<String, i32> {
    let mut found = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line =
            fs::read(PathBuf::from("/proc").join(entry.file_name()).join("cmdline")).unwrap_or_default();
        let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
        if let Some(token) = std::str::from_utf8(first).ok().and_then(token_of) {
            found.insert(token.to_owned(), pid);
        }
    }
    found
}

fn token_of(word: &str) -> Option<&str> {
    word.strip_prefix(MARK)?.strip_prefix('-')
}

fn agent(name: &str, entries: &str) -> String {
    format!(
        "---\napiVersion: chaperone/v1\nkind: Agent\nmetadata: {{ name: {name} }}\n\
         spec: {{ owner: tests@example.com, role: watched, match: [ {entries} ] }}\n"
    )
}

const ROLE: &str = "apiVersion: chaperone/v1\nkind: Role\nmetadata: { name: watched }\nspec:\n  mode: observe\n  \
                    network: { default: allow }\n";
const LEAVES_MAX: Duration = Duration::from_secs(240);
const ENDS_MAX: Duration = Duration::from_secs(15);
