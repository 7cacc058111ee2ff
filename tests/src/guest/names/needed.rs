//! What learns names is in force only while a role names a host, whoever finds it so, and a change that needs it and
//! cannot have it changes nothing.

use std::{
    fs::{self, File},
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::{RULES, Stage, documents};
use crate::{act::sys, case::Outcome, guest::Shared, harness::PIN_DIR};

/// The role's rules without those by name.
const NAMELESS: &str = r#"
      - { to: "127.0.0.64/26:53", verdict: allow }
      - { to: "127.99.0.0/16", verdict: allow }
"#;

pub fn attached(shared: &mut Shared) -> Result<Outcome> {
    let mut stage = Stage::with(shared, true, NAMELESS)?;
    let by_address = "connect('127.99.0.1')";
    expect(&stage, 0, "without names", &format!("{by_address}, connect('a-127-60-0-1.erp.example.test')"))?;

    // Nobody can attach beside one who has the place for himself.
    let alone = Alone::attach()?;
    let from = stage.daemon.seen.len();
    stage.daemon.rewrite(&documents(RULES))?;
    let refused = stage.daemon.wait(from, "a refused change", |e| e["kind"] == "policy_rejected")?;
    let told = refused.to_string();
    for words in ["all.yaml:", "names a host", "names_egress", "bpftool", "the configuration before it"] {
        ensure!(told.contains(words), "the refusal does not say {words:?}: {told}");
    }
    expect(&stage, 0, "after a refused change", &format!("{by_address}, connect('127.60.0.1')"))?;
    // What is watched may be read again by itself from here on.
    let from = stage.daemon.seen.len();
    drop(alone);

    let named = "connect('NAME.erp.example.test'), connect('127.61.9.9')";
    let with = |name: &str| named.replace("NAME", name);
    stage.daemon.rewrite(&documents(RULES))?;
    stage.daemon.wait(from, "the change", |e| e["kind"] == "policy_changed")?;
    expect(&stage, 1, "with names", &with("b-127-61-0-1"))?;
    stage.daemon.crash()?;
    expect(&stage, 1, "without the daemon", &with("c-127-61-0-2"))?;
    stage.daemon.restart(&[])?;
    expect(&stage, 1, "after a restart", &with("d-127-61-0-3"))?;
    stage.daemon.stop()?;
    stage.daemon.restart(&["--anew"])?;
    expect(&stage, 1, "after an upgrade", &with("e-127-61-0-4"))?;
    stage.daemon.stop()?;
    stage.daemon.rewrite(&documents(NAMELESS))?;
    stage.daemon.restart(&[])?;
    expect(&stage, 0, "restarted without names", &format!("{by_address}, connect('127.61.0.4')"))?;
    stage.daemon.stop()?;
    stage.daemon.rewrite(&documents(RULES))?;
    stage.daemon.restart(&["--anew"])?;
    expect(&stage, 1, "upgraded with names", &with("f-127-61-0-5"))?;
    change(&mut stage, NAMELESS)?;
    expect(&stage, 0, "without names again", &format!("{by_address}, connect('127.61.0.5')"))?;
    Ok(Outcome::Held)
}

pub fn unpinned(shared: &mut Shared) -> Result<Outcome> {
    let mut stage = Stage::with(shared, false, NAMELESS)?;
    change(&mut stage, RULES)?;
    let got = stage.bot("print(connect('a-127-62-0-1.erp.example.test'), connect('127.62.0.2'))")?;
    ensure!(got == "passed refused", "with names: {got}");
    change(&mut stage, NAMELESS)?;
    let believed = stage.counter("name_answers_believed")?;
    let got = stage.bot("print(connect('b-127-62-0-3.erp.example.test'))")?;
    ensure!(got == "refused", "without names: {got}");
    ensure!(stage.counter("name_answers_believed")? == believed, "an answer was read that no role needs");
    Ok(Outcome::Held)
}

/// Puts other rules in force.
fn change(stage: &mut Stage, rules: &str) -> Result<()> {
    stage.daemon.read()?;
    let from = stage.daemon.seen.len();
    // The daemon may have been refused the very same.
    stage.daemon.rewrite(&format!("{}# {from}\n", documents(rules)))?;
    stage.daemon.wait(from, "a change of policy", |e| e["kind"] == "policy_changed").map(drop)
}

/// How many builds have each program attached, and that the first of two connects passes and the second does not.
fn expect(stage: &Stage, builds: usize, when: &str, connects: &str) -> Result<()> {
    for program in ["names_egress", "names_ingress"] {
        let found = below(Path::new(PIN_DIR), program)?;
        ensure!(found == builds, "{when}: {program} is attached {found} times, not {builds}");
    }
    let got = stage.bot(&format!("print({connects})"))?;
    ensure!(got == "passed refused", "{when}: {got}");
    Ok(())
}

/// Links of a program's name, in all builds of all contracts.
fn below(directory: &Path, program: &str) -> Result<usize> {
    let mut found = 0;
    for entry in fs::read_dir(directory).context("list what is pinned")?.flatten() {
        if entry.path().is_dir() {
            found += below(&entry.path(), program)?;
        } else if entry.file_name() == program {
            found += 1;
        }
    }
    Ok(found)
}

/// A program of somebody else's at the root cgroup, attached so that it suffers no other.
struct Alone {
    root: File,
    program: OwnedFd,
}

impl Alone {
    fn attach() -> Result<Self> {
        // r0 = 1; exit
        let instructions: [u64; 2] = [0x0000_0001_0000_00b7, 0x0000_0000_0000_0095];
        let license = c"GPL";
        let mut load = [0u64; 9];
        load[0] = CGROUP_SKB | (instructions.len() as u64) << 32;
        load[1] = instructions.as_ptr() as u64;
        load[2] = license.as_ptr() as u64;
        let refused = |refused: sys::Refused| anyhow!("{refused}");
        let program = sys::own("load", bpf(PROG_LOAD, &load)).map_err(refused)?;
        let alone = Self { root: File::open("/sys/fs/cgroup").context("open the root cgroup")?, program };
        sys::call("attach", bpf(PROG_ATTACH, &alone.place())).map_err(refused)?;
        Ok(alone)
    }

    /// Where it is attached, without flags.
    fn place(&self) -> [u64; 2] {
        let (root, program) = (self.root.as_raw_fd() as u64, self.program.as_raw_fd() as u64);
        [root | program << 32, EGRESS]
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        bpf(PROG_DETACH, &self.place());
    }
}

/// `attributes` is `union bpf_attr`, as far as it is filled; what it points to outlives the call.
fn bpf<const N: usize>(command: libc::c_long, attributes: &[u64; N]) -> i64 {
    // SAFETY: the callers above give the attributes of their command.
    unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) }
}

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
/// BPF_PROG_TYPE_CGROUP_SKB.
const CGROUP_SKB: u64 = 8;
/// BPF_CGROUP_INET_EGRESS.
const EGRESS: u64 = 1;
