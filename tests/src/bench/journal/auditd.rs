//! Debian's auditd with its own settings, unpacked and not installed, and one rule.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{Load, Row, WARM_UP, count, per_thousand, quiet};
use crate::{act::cost::processor_ns, harness::program};

/// A running auditd that records connects of the tests' program.
pub struct Auditd {
    child: Child,
    flush: &'static str,
}

/// Whether there is one.
pub fn there() -> bool {
    Path::new(ROOT).join("sbin/auditd").exists()
}

impl Auditd {
    pub fn start(flush: &'static str) -> Result<Self> {
        let settings = fs::read_to_string(Path::new(ROOT).join("etc/audit/auditd.conf"))?;
        // One file, so that what was recorded can be counted; no mail is sent from a guest.
        let settings: String = settings
            .lines()
            .filter(|line| {
                !["flush", "max_log_file", "space_left", "admin_space_left", "plugin_dir"]
                    .iter()
                    .any(|name| line.starts_with(name))
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let settings = format!(
            "{settings}flush = {flush}\nmax_log_file = 0\nmax_log_file_action = ignore\nspace_left = 2\nspace_left_action = ignore\n\
             admin_space_left = 1\nadmin_space_left_action = ignore\nplugin_dir = {CONFIG}/plugins.d\n"
        );
        fs::create_dir_all(format!("{CONFIG}/plugins.d"))?;
        fs::create_dir_all("/var/log/audit")?;
        fs::write(format!("{CONFIG}/auditd.conf"), settings)?;
        drop(fs::remove_file(LOG));
        let said = File::create(SAID)?;
        let child = of("auditd")
            .args(["-n", "-c", CONFIG])
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .context("start auditd")?;
        let mut auditd = Self { child, flush };
        auditd.wait_until_ready()?;
        let exe = format!("exe={}", program("chaperone-tests")?.canonicalize()?.display());
        // As Debian's audit.rules has it, and one rule.
        control(&["-D"])?;
        control(&["-b", "8192"])?;
        control(&["--backlog_wait_time", "60000"])?;
        control(&["-a", "always,exit", "-F", "arch=b64", "-S", "connect", "-F", &exe, "-k", KEY])?;
        Load::perform(Some(WARM_UP))?;
        Ok(auditd)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(30);
        let ours = format!("pid {}", self.child.id());
        while !control(&["-s"]).is_ok_and(|said| said.lines().any(|line| line == ours)) {
            ensure!(
                Instant::now() < until && self.child.try_wait()?.is_none(),
                "auditd did not get ready: {}",
                fs::read_to_string(SAID).unwrap_or_default()
            );
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    pub fn measure(&mut self, rate: Option<u64>) -> Result<Row> {
        let from = drained()?;
        let kernel = kauditd()?;
        let used = || processor_ns(self.child.id()) + processor_ns(kernel);
        let before = used();
        let lost = of_status("lost ")?;
        let load = Load::perform(rate)?;
        drained()?;
        let used = used() - before;
        let (bytes, lines) = count(LOG.as_ref(), from, "type=SYSCALL")?;
        // An act is several records: what the kernel lost of them it counts itself, and acts are missing beside.
        eprintln!("the kernel counts {} records lost", of_status("lost ")? - lost);
        let what = if self.flush == "sync" { "auditd, sync" } else { "auditd, incremental_async" };
        Ok(Row {
            recorded: lines,
            lost: load.asked.saturating_sub(lines),
            bytes_each: bytes / lines.max(1),
            recorder_ms: per_thousand(used, load.asked),
            ..load.row(what, rate)
        })
    }
}

impl Drop for Auditd {
    fn drop(&mut self) {
        drop(control(&["-D"]));
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        drop(self.child.wait());
    }
}

fn of(name: &str) -> Command {
    let mut command = Command::new(format!("{ROOT}/sbin/{name}"));
    let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|dir| format!("{ROOT}/{dir}"));
    command.env("LD_LIBRARY_PATH", libraries.join(":"));
    command
}

fn control(words: &[&str]) -> Result<String> {
    let output = of("auditctl").args(words).stdin(Stdio::null()).output().context("start auditctl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "auditctl {}: {said}", words.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

/// A count of the kernel's: `lost `, `backlog `.
fn of_status(name: &str) -> Result<u64> {
    let said = control(&["-s"])?;
    let line = said.lines().find_map(|line| line.strip_prefix(name));
    line.context("auditctl -s does not tell that")?.trim().parse().context("what auditctl -s tells")
}

/// Waits until the kernel has handed over all, and all is written; answers how much that is.
fn drained() -> Result<u64> {
    loop {
        let written = quiet(LOG.as_ref())?;
        if of_status("backlog ")? == 0 && quiet(LOG.as_ref())? == written {
            return Ok(written);
        }
    }
}

/// The kernel's thread that hands records over.
fn kauditd() -> Result<u32> {
    let all = fs::read_dir("/proc")?.flatten();
    let is = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "kauditd")
    };
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(is)
        .context("the kernel has no kauditd")
}

pub const FLUSHES: [&str; 2] = ["incremental_async", "sync"];
const ROOT: &str = "/opt/auditd";
const CONFIG: &str = "/var/tmp/auditd";
const SAID: &str = "/var/tmp/auditd.said";
const LOG: &str = "/var/log/audit/audit.log";
const KEY: &str = "bench";
