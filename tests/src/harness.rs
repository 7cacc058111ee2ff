//! A daemon with a configuration, in a directory of its own: its events, its verdicts, and what processes are labelled.

mod metrics;

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

pub use self::metrics::Metrics;

/// How a daemon is started.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// YAML documents of agents and roles.
    pub documents: String,
    /// Further lines of the settings' `spec`, such as `  record: …`.
    pub settings: String,
    /// `lsm`, `cgroup`, or whatever the host gives.
    pub mode: Option<String>,
    /// Look at this cgroup alone.
    pub scope: Option<PathBuf>,
    /// Leave it in force when the daemon ends, until [`Daemon::detach`]; else it ends with the daemon.
    pub pinned: bool,
    /// At this size a segment of the journal is closed; 0 for never.
    pub events_file_bytes_max: u64,
    /// Where its directory is made, instead of the place for temporary files.
    pub place: Option<PathBuf>,
}

/// A running daemon; dropping it ends it, and what it has left in force.
pub struct Daemon {
    pub directory: PathBuf,
    start: Start,
    /// What it was before it was changed.
    pid_max: Option<u32>,
    child: Child,
    events: File,
    /// All events read so far.
    pub seen: Vec<Value>,
}

impl Daemon {
    /// Starts a daemon and waits until it enforces.
    pub fn start(start: &Start) -> Result<Self> {
        let place = start.place.clone().unwrap_or_else(std::env::temp_dir);
        let directory = place.join(format!("chaperone-{}-{}", std::process::id(), unique()));
        fs::create_dir_all(directory.join("agents")).context("make the configuration's directory")?;
        fs::create_dir_all(directory.join("roles"))?;
        let this = directory.display();
        let pins = if start.pinned { PIN_DIR } else { "off" };
        let settings = format!(
            "apiVersion: chaperone/v1\nkind: Daemon\nspec:\n  config_dir: {this}\n  state_dir: {this}/state\n  \
             events_file: {this}/events.ndjson\n  events_file_bytes_max: {}\n  control_socket: {this}/control.sock\n  pin_dir: {pins}\n{}",
            start.events_file_bytes_max, start.settings
        );
        fs::write(directory.join("chaperone.yaml"), settings)?;
        if !start.documents.is_empty() {
            fs::write(directory.join("agents/all.yaml"), &start.documents)?;
        }
        let path = directory.join("events.ndjson");
        File::create_new(&path).context("make the event file")?;
        let events = File::open(&path)?;
        let child = spawn(&directory, start, &program("chaperone")?, &[])?;
        let mut daemon =
            Self { events, directory, start: start.clone(), pid_max: None, child, seen: Vec::new() };
        daemon.wait_until_ready(0)?;
        Ok(daemon)
    }

    /// Ends it without a word, as a crash does.
    pub fn crash(&mut self) -> Result<()> {
        self.child.kill().context("kill the daemon")?;
        self.child.wait().context("wait for the daemon")?;
        Ok(())
    }

    /// Starts it again after [`Self::crash`] or [`Self::stop`], and waits until it is ready.
    pub fn restart(&mut self, arguments: &[&str]) -> Result<()> {
        let from = self.begin(arguments)?;
        self.wait_until_ready(from)
    }

    /// As [`Self::restart`], in such a way that it shares no maps with the one before it: in the other mode, or, where
    /// there is but one, as on a host that has room for half as many tasks, and back again.
    pub fn restart_with_another_contract(&mut self) -> Result<()> {
        let lsm = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default().contains("bpf");
        if lsm {
            let other = if self.start.mode.as_deref() == Some("cgroup") { "lsm" } else { "cgroup" };
            self.start.mode = Some(other.to_owned());
            return self.restart(&[]);
        }
        let number = |path| -> Result<u32> { Ok(fs::read_to_string(path)?.trim().parse()?) };
        let (max, threads) = (number(PID_MAX)?, number("/proc/sys/kernel/threads-max")?);
        let other = self.pid_max.take().unwrap_or_else(|| {
            self.pid_max = Some(max);
            max.min(threads) / 2
        });
        fs::write(PID_MAX, other.to_string()).context("change pid_max")?;
        self.restart(&[])
    }

    /// As [`Self::restart`], without waiting; answers where in `seen` its events will begin.
    pub fn begin(&mut self, arguments: &[&str]) -> Result<usize> {
        self.read()?;
        let from = self.seen.len();
        self.child = spawn(&self.directory, &self.start, &program("chaperone")?, arguments)?;
        Ok(from)
    }

    /// Waits for a `daemon_started` from the index on.
    fn wait_until_ready(&mut self, from: usize) -> Result<()> {
        let end = Instant::now() + READY_MAX;
        loop {
            self.read()?;
            let started = self.seen[from..].iter().find(|event| event["kind"] == "daemon_started");
            // The next change of configuration must not be taken for the first.
            let in_force = self.seen[from..].iter().any(|event| event["kind"] == "policy_changed");
            if let Some(started) = started
                && in_force
                && self.directory.join("control.sock").exists()
            {
                let (wanted, got) = (self.start.mode.as_deref(), started["daemon"]["mode"].as_str());
                ensure!(
                    wanted.is_none() || wanted == got,
                    "the daemon runs in {got:?} mode, not {wanted:?}: {}",
                    started["daemon"]["mode_reason"]
                );
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || Instant::now() > end {
                bail!("the daemon did not get ready: {}", self.log());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it said on stdout and stderr.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("daemon.log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads the events that came since the last call into `seen`.
    pub fn read(&mut self) -> Result<()> {
        let mut text = String::new();
        let bytes = self.events.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text[..whole].lines() {
            self.seen.push(serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?);
        }
        // Half a line is read again: it is cut off if its writer was killed.
        self.events.seek(SeekFrom::Current(whole as i64 - bytes as i64))?;
        Ok(())
    }

    /// Waits for an event that was not there before index `from` of `seen`.
    pub fn wait(&mut self, from: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let end = Instant::now() + EVENT_MAX;
        loop {
            self.read()?;
            if let Some(event) = self.seen[from..].iter().find(|event| wanted(event)) {
                return Ok(event.clone());
            }
            if Instant::now() > end {
                let last: Vec<String> = self.seen[from..].iter().rev().take(12).rev().map(short).collect();
                bail!("no event came that is {what}; the last: {}", last.join(" ; "));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets everything that has happened reach the file.
    pub fn settle(&mut self) -> Result<()> {
        let end = Instant::now() + SETTLED_MAX;
        loop {
            let mut before = usize::MAX;
            while before != self.seen.len() {
                before = self.seen.len();
                thread::sleep(Duration::from_millis(300));
                self.read()?;
            }
            // A batch may take longer than that. Who answers this writes them too: one that has ended has nothing to wait for.
            match self.metrics() {
                Ok(metrics) if metrics.value("chaperone_ring_waiting_bytes")? == 0.0 => return self.read(),
                Err(_) if self.child.try_wait()?.is_some() => return self.read(),
                Err(error) => ensure!(Instant::now() < end, "the daemon does not say what waits: {error:#}"),
                Ok(_) => ensure!(Instant::now() < end, "events still wait in the ring buffer"),
            }
        }
    }

    /// Runs a verb of the command line against this daemon.
    pub fn cli(&self, words: &[&str]) -> Result<Output> {
        Command::new(program("chaperone")?)
            .args(words)
            .arg("--config")
            .arg(&self.directory)
            .stdin(Stdio::null())
            .output()
            .context("run chaperone")
    }

    /// What `ps -o json` says of a process: an object with `origin`, `evidence`, `instance`, `agent`, …
    pub fn label(&self, pid: u32) -> Result<Value> {
        let all = self.processes()?;
        all.into_iter()
            .find(|process| process["pid"] == pid)
            .with_context(|| format!("ps does not show process {pid}"))
    }

    /// All processes as `ps -o json` shows them.
    pub fn processes(&self) -> Result<Vec<Value>> {
        let output = self.cli(&["ps", "-a", "-o", "json"])?;
        ensure!(output.status.success(), "ps: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        match serde_json::from_str::<Value>(&text) {
            Ok(Value::Array(all)) => Ok(all),
            Ok(Value::Object(mut all)) => match all.remove("processes") {
                Some(Value::Array(all)) => Ok(all),
                _ => bail!("ps gave an object without processes"),
            },
            _ => text.lines().map(|line| serde_json::from_str(line).context("ps gave no JSON")).collect(),
        }
    }

    /// Writes new documents in place of the old ones; the daemon sees the change by itself.
    pub fn rewrite(&self, documents: &str) -> Result<()> {
        let (new, now) = (self.directory.join("new"), self.directory.join("agents/all.yaml"));
        fs::write(&new, documents)?;
        fs::rename(new, now).context("replace the documents")
    }

    /// Ends it as systemd would.
    pub fn stop(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let end = Instant::now() + READY_MAX;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < end, "the daemon did not end within {} s", READY_MAX.as_secs());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.stop().is_err() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
        if let Some(max) = self.pid_max {
            drop(fs::write(PID_MAX, max.to_string()));
        }
        if self.start.pinned {
            drop(self.cli(&["detach"]));
        }
        drop(fs::remove_dir_all(&self.directory));
    }
}

fn spawn(directory: &Path, start: &Start, program: &Path, arguments: &[&str]) -> Result<Child> {
    let log = File::options().create(true).append(true).open(directory.join("daemon.log"))?;
    let mut command = Command::new(program);
    command.arg("daemon").arg("--config").arg(directory).args(arguments);
    if !arguments.contains(&"--metrics") {
        command.args(["--metrics", "off"]);
    }
    if start.mode.as_deref() == Some("cgroup") {
        command.args(["--mode", "cgroup"]);
    }
    if let Some(scope) = &start.scope {
        command.arg("--scope").arg(scope);
    }
    if std::env::var_os("CHAPERONE_ACCOUNT").is_some() {
        command.arg("-v");
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("start chaperone daemon")?;
    // As its unit has it: what it watches must not be able to starve it.
    // SAFETY: takes numbers; a process that is gone already is seen by its end.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, child.id(), DAEMON_NICE) };
    Ok(child)
}

/// A process that waits to be looked at: its argv carries a token, so that it is found whatever its pid namespace.
pub const MARK: &str = "chaperone-mark";

/// The process whose command line holds a token, as the initial pid namespace numbers it.
pub fn find_marked(token: &str) -> Result<u32> {
    let end = Instant::now() + EVENT_MAX;
    let wanted = format!("{MARK}-{token}");
    loop {
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            // The process itself, not a shell whose script mentions the token.
            if line.split(|byte| *byte == 0).next() == Some(wanted.as_bytes()) {
                return Ok(pid);
            }
        }
        ensure!(Instant::now() < end, "no process with token {token} appeared");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A shell command line that becomes the marked process: `sleep` under the token's name.
#[must_use]
pub fn marked_command(token: &str, seconds: u32) -> String {
    format!("exec -a {MARK}-{token} sleep {seconds}")
}

/// A program of the product, on PATH or beside this one.
pub fn program(name: &str) -> Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name(name);
    if beside.exists() {
        return Ok(beside);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|path| path.exists())
        .with_context(|| format!("{name} is neither on PATH nor beside this program"))
}

/// A process that is ended when this is dropped.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits until something holds, for a minute at most.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        ensure!(Instant::now() < end, "it did not come to pass: {what}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Writes a line to a FIFO that somebody reads, or soon does.
pub fn tell(fifo: &Path, line: &str) -> Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let end = Instant::now() + EVENT_MAX;
    loop {
        let opened = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(fifo);
        match opened {
            Ok(mut fifo) => return writeln!(fifo, "{line}").context("write to the FIFO"),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) && Instant::now() < end => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error).context("nobody reads the FIFO"),
        }
    }
}

/// Writes an executable file.
pub fn script(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).context("make it executable")
}

/// An event in a few words, for failures.
fn short(event: &Value) -> String {
    let field = |name: &str| event[name].as_str().unwrap_or("-").to_string();
    format!("{} {} {} {}", field("kind"), field("origin"), field("comm"), field("verdict"))
}

fn unique() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

const PID_MAX: &str = "/proc/sys/kernel/pid_max";
/// Where a daemon pins that is to outlive itself. Two at once would be in each other's way, here as elsewhere.
pub const PIN_DIR: &str = "/sys/fs/bpf/chaperone";
/// `Nice=` of deploy/systemd/chaperone.service.
const DAEMON_NICE: i32 = -10;
const READY_MAX: Duration = Duration::from_secs(240);
const EVENT_MAX: Duration = Duration::from_secs(20);
/// Also for a storm's events, and a daemon that stands for a while.
const SETTLED_MAX: Duration = Duration::from_secs(120);
