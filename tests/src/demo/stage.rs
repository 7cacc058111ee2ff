//! What the demo plays on: the example configuration, a daemon, the scripted model, the web servers, the agent's program.

use std::{
    fs::{self, File},
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};
use serde_json::Value;

use super::{terminal::Seat, wait_until, web::Web};
use crate::harness;

/// Everything but the person's terminal; dropping it ends and removes all that it made.
pub struct Stage {
    pub web: Web,
    /// Holds chaperone.yaml, agents/ and roles/.
    pub config: PathBuf,
    /// The agent's program, as the registry names it.
    pub agent: PathBuf,
    pub model_url: String,
    pub user: User,
    pub directory: PathBuf,
    events_file: PathBuf,
    /// Its journal's key and newest checkpoint.
    journal: PathBuf,
    chaperone: PathBuf,
    cgroup: Option<PathBuf>,
    /// What lies in a directory of ours and goes with us.
    temporary: Option<PathBuf>,
    model: Option<Child>,
    daemon: Option<Child>,
}

impl Stage {
    /// In a guest: where an administrator would put things. `host`: below directories and a cgroup of our own.
    pub fn set(host: bool) -> Result<Self> {
        ensure!(geteuid().is_root(), "the demo loads kernel programs: run it as root");
        let me = User::from_uid(geteuid())?.context("root has no entry in /etc/passwd")?;
        let alice = if host { None } else { User::from_name("alice")? };
        let temporary =
            host.then(|| std::env::temp_dir().join(format!("chaperone-demo-{}", std::process::id())));
        let root = temporary.clone().unwrap_or_else(|| PathBuf::from("/"));
        let below = |path: &str| root.join(path);
        let user = alice.unwrap_or(me);
        let home = if host { below("home") } else { user.dir.clone() };
        let mut stage = Self {
            web: Web::serve()?,
            config: below("etc/chaperone"),
            agent: below("opt/demo-agent/bin/demo-agent"),
            model_url: String::new(),
            directory: home.join("work"),
            events_file: below("var/log/chaperone/events.ndjson"),
            journal: below("var/lib/chaperone/journal"),
            chaperone: harness::program("chaperone")?,
            cgroup: None,
            model: None,
            daemon: None,
            temporary,
            user,
        };
        let model_port = stage.start_model(&below("var/tmp/demo-model"))?;
        stage.model_url = format!("http://127.0.0.1:{model_port}/v1");
        stage.install(model_port, &home)?;
        if host {
            stage.make_cgroup()?;
        }
        stage.start_daemon(&below("var/log/chaperone/daemon.log"))?;
        Ok(stage)
    }

    /// A verb of the command line, for this daemon.
    pub fn chaperone(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.chaperone);
        command.args(words);
        if self.temporary.is_some() {
            command.arg("--config").arg(&self.config);
        }
        command
    }

    /// What a verb answers machines.
    pub fn ask(&self, words: &[&str]) -> Result<String> {
        let output = self.chaperone(words).stdin(Stdio::null()).output().context("run chaperone")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "chaperone {}: {said}", words.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// All events so far.
    pub fn events(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.events_file).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).context("an event is not JSON")).collect()
    }

    /// Where the person sits.
    pub fn seat(&self) -> Seat {
        let tools = self.agent.parent().unwrap_or(Path::new("/")).display();
        Seat {
            prompt: format!("{}$ ", self.user.name),
            env: vec![
                ("PATH".to_owned(), format!("{tools}:/usr/local/bin:/usr/bin:/bin")),
                ("MODEL_URL".to_owned(), self.model_url.clone()),
                // A proxy's address would be what curl connects to.
                ("no_proxy".to_owned(), "*".to_owned()),
            ],
            user: self.user.clone(),
            directory: self.directory.clone(),
            cgroup: self.cgroup.clone(),
        }
    }

    /// What of the work that goes on a process is doing: terminal and directory, as /proc has them.
    pub fn place_of(pid: u32) -> Result<(u32, PathBuf)> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, after) = stat.rsplit_once(')').context("/proc has no stat of this form")?;
        let tty = after.split_whitespace().nth(4).context("no terminal in /proc")?.parse()?;
        Ok((tty, fs::read_link(format!("/proc/{pid}/cwd"))?))
    }

    /// The model that says what the agent is to run.
    fn start_model(&mut self, directory: &Path) -> Result<u16> {
        let port = self.web.port;
        fs::create_dir_all(directory)?;
        let file = |name: &str| directory.join(name);
        let run = |url: &str| serde_json::json!({ "shell": format!("curl -sS http://{url}") });
        let script = serde_json::json!([
            run(&format!("127.0.0.2:{port}/slow")),
            run(&format!("127.0.0.2:{port}/report")),
            run(&format!("127.0.0.3:{port}/report")),
            { "say": "the first server answered, the second could not be reached" },
        ]);
        fs::write(file("script.json"), script.to_string())?;
        fs::write(file("model_endpoint.py"), MODEL_ENDPOINT)?;
        let ready = file("ready");
        drop(fs::remove_file(&ready));
        let log = File::create(file("log"))?;
        // In a guest everything is free; a host may have something at that port.
        let port = if self.temporary.is_some() { "0" } else { "8089" };
        let mut command = Command::new(PYTHON);
        command.args([
            "model_endpoint.py",
            "--script",
            "script.json",
            "--log",
            "log.ndjson",
            "--ready",
            "ready",
        ]);
        command.args(["--port", port]).current_dir(directory);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        self.model = Some(child.with_context(|| format!("start the scripted model: is {PYTHON} there?"))?);
        let mut found = None;
        wait_until("the scripted model listens", START_MAX, || {
            found = fs::read_to_string(&ready).ok().and_then(|text| text.strip_suffix('\n')?.parse().ok());
            Ok(found.is_some())
        })?;
        found.context("the scripted model says no port")
    }

    /// Puts the agent's program and the configuration where they belong.
    fn install(&self, model_port: u16, home: &Path) -> Result<()> {
        fs::create_dir_all(self.agent.parent().context("the agent lies in a directory")?)?;
        harness::script(&self.agent, AGENT)?;
        fs::create_dir_all(&self.directory)?;
        for directory in [home, &self.directory] {
            chown(directory, Some(self.user.uid.as_raw()), Some(self.user.gid.as_raw()))?;
        }
        let agent = AGENT_YAML.replace("AGENT", &self.agent.display().to_string());
        let role = ROLE_YAML
            .replace("MODEL_PORT", &model_port.to_string())
            .replace("WEB_PORT", &self.web.port.to_string());
        let ours = [("agents/demo-agent.yaml", agent.as_str()), ("roles/demo.yaml", role.as_str())];
        for (name, text) in EXAMPLES.iter().copied().chain(ours) {
            let path = self.config.join(name);
            fs::create_dir_all(path.parent().context("a file lies in a directory")?)?;
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        if let Some(ours) = &self.temporary {
            let ours = ours.display();
            let settings = format!(
                "apiVersion: chaperone/v1\nkind: Daemon\nspec:\n  config_dir: {ours}/etc/chaperone\n  state_dir: \
                 {ours}/var/lib/chaperone\n  events_file: {ours}/var/log/chaperone/events.ndjson\n  \
                 control_socket: {ours}/run/control.sock\n  pin_dir: off\n"
            );
            fs::write(self.config.join("chaperone.yaml"), settings)?;
            fs::create_dir_all(format!("{ours}/run"))?;
        }
        Ok(())
    }

    /// A cgroup that holds what the demo starts, and nothing else.
    fn make_cgroup(&mut self) -> Result<()> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let unified = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let root = unified
            .and_then(|line| line.split(' ').nth(4))
            .context("cgroup v2 is not mounted on this host")?;
        let cgroup = Path::new(root).join(format!("chaperone-demo-{}", std::process::id()));
        fs::create_dir(&cgroup).with_context(|| format!("make the cgroup {}", cgroup.display()))?;
        self.cgroup = Some(cgroup);
        Ok(())
    }

    /// Starts the daemon and waits until it enforces.
    fn start_daemon(&mut self, log: &Path) -> Result<()> {
        fs::create_dir_all(log.parent().context("the log lies in a directory")?)?;
        drop(fs::remove_file(&self.events_file));
        // Or the journal would miss the records of the demo before.
        drop(fs::remove_file(self.events_file.with_extension("ndjson.head")));
        drop(fs::remove_dir_all(&self.journal));
        let file = File::create(log)?;
        let mut command = self.chaperone(&["daemon"]);
        if let Some(cgroup) = &self.cgroup {
            command.arg("--scope").arg(cgroup).args(["--metrics", "off"]);
        }
        let mut daemon = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()?;
        let ready = wait_until("the daemon enforces", START_MAX, || {
            if let Some(status) = daemon.try_wait()? {
                bail!("the daemon ended ({status})");
            }
            Ok(self.events()?.iter().any(|event| event["kind"] == "daemon_started"))
        });
        self.daemon = Some(daemon);
        ready.with_context(|| fs::read_to_string(log).unwrap_or_default())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for child in [self.daemon.take(), self.model.take()].into_iter().flatten() {
            end(child);
        }
        if let Some(cgroup) = &self.cgroup {
            remove_cgroup(cgroup);
        }
        if let Some(ours) = &self.temporary {
            drop(fs::remove_dir_all(ours));
        }
    }
}

fn end(mut child: Child) {
    let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
    let ended = wait_until("it ends", END_MAX, || Ok(child.try_wait()?.is_some()));
    if ended.is_err() {
        drop(child.kill());
        drop(child.wait());
    }
}

/// Ends what is left in a cgroup of ours: only what we started can be in it.
fn remove_cgroup(cgroup: &Path) {
    let _ = wait_until("the cgroup is empty", END_MAX, || {
        let members = fs::read_to_string(cgroup.join("cgroup.procs"))?;
        for pid in members.lines().filter_map(|line| line.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        Ok(fs::remove_dir(cgroup).is_ok())
    });
}

const MODEL_ENDPOINT: &str = include_str!("../../agents/model_endpoint.py");
const AGENT: &str = include_str!("agent.py");
const AGENT_YAML: &str = include_str!("agent.yaml");
const ROLE_YAML: &str = include_str!("role.yaml");
/// The configuration that is shipped as an example, beside the demo's own agent.
const EXAMPLES: &[(&str, &str)] = &[
    ("chaperone.yaml", include_str!("../../../deploy/etc/chaperone/chaperone.yaml")),
    ("agents/coding-agent.yaml", include_str!("../../../deploy/etc/chaperone/agents/coding-agent.yaml")),
    ("agents/invoice-bot.yaml", include_str!("../../../deploy/etc/chaperone/agents/invoice-bot.yaml")),
    ("roles/coding.yaml", include_str!("../../../deploy/etc/chaperone/roles/coding.yaml")),
    ("roles/invoice-review.yaml", include_str!("../../../deploy/etc/chaperone/roles/invoice-review.yaml")),
];
/// The system's own: the agent's `#!` line names it too.
const PYTHON: &str = "/usr/bin/python3";
const START_MAX: Duration = Duration::from_secs(60);
const END_MAX: Duration = Duration::from_secs(10);
