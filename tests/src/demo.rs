//! The demo: a real kernel tells an agent's curl from a person's, and refuses the agent what its role does not name.

mod screen;
mod stage;
mod terminal;
mod web;

use std::{
    fs::File,
    io::{BufRead as _, BufReader, IsTerminal as _, Read as _, Write as _},
    os::unix::net::UnixStream,
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use serde_json::Value;

use self::{
    screen::{From, Screen, plain, without_columns},
    stage::Stage,
    terminal::Terminal,
};

/// Show what Chaperone does, and check that it does it.
///
/// Exit status: 0 when everything was seen that is told, 1 otherwise.
#[derive(Debug, Args)]
pub struct Demo {
    /// Leave everything running
    #[arg(long)]
    keep: bool,
    /// On this host instead of a guest: within a cgroup and directories of its own, on loopback
    #[arg(long, conflicts_with = "keep")]
    host: bool,
    /// Write as for a terminal of this width, wherever the output goes
    #[arg(long, value_name = "COLUMNS")]
    terminal: Option<u16>,
    /// The process that stays, and tells by its standard input how it went
    #[arg(long, hide = true)]
    stay: bool,
}

impl Demo {
    pub fn run(self) -> Result<ExitCode> {
        if self.keep && !self.stay {
            return hand_over(self.terminal);
        }
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            let action = SigAction::new(SigHandler::Handler(interrupt), SaFlags::empty(), SigSet::empty());
            // SAFETY: the handler stores one flag and does nothing else.
            unsafe { sigaction(signal, &action) }?;
        }
        let own = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let screen = Arc::new(Screen::new(self.terminal.or(own.then_some(COLUMNS))));
        let stage = Stage::set(self.host)?;
        let mut play = Play::new(&stage, Arc::clone(&screen))?;
        let held = play.show(self.host)?;
        if !self.stay {
            return Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        play.leave_running()?;
        // The write end of a pair that `hand_over` reads.
        let mut told = File::from(std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned()?);
        told.write_all(&[u8::from(!held)])?;
        while !INTERRUPTED.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_secs(1));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Lets a process of its own play and stay, and ends with its result.
fn hand_over(terminal: Option<u16>) -> Result<ExitCode> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["demo", "--keep", "--stay"]).stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
    if let Some(columns) = terminal {
        command.args(["--terminal", &columns.to_string()]);
    }
    let mut child = command.spawn().context("start the demo")?;
    drop(command);
    let mut result = [0];
    if ours.read_exact(&mut result).is_err() {
        let status = child.wait()?;
        bail!("the demo ended before its end ({status})");
    }
    Ok(ExitCode::from(result[0]))
}

/// One performance.
struct Play<'a> {
    stage: &'a Stage,
    screen: Arc<Screen>,
    terminal: Terminal,
    follower: Child,
    checks: Vec<(&'static str, bool)>,
    start: Instant,
}

impl<'a> Play<'a> {
    fn new(stage: &'a Stage, screen: Arc<Screen>) -> Result<Self> {
        let start = Instant::now();
        let mut command = stage.chaperone(FOLLOW);
        let output = screen.attach(&mut command, 0)?;
        let follower = command.spawn().context("follow the events")?;
        drop(command);
        let shown = Arc::clone(&screen);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                shown.from(From::Events, line.trim_end());
            }
        });
        let terminal = Terminal::open(&stage.seat(), Arc::clone(&screen))?;
        wait_until("the events are followed", WAIT_MAX, || {
            Ok(stage.ask(&["metrics"])?.lines().any(|line| line == "chaperone_followers 1"))
        })?;
        Ok(Self { stage, screen, terminal, follower, checks: Vec::new(), start })
    }

    /// All of it; whether everything that was told was so.
    fn show(&mut self, host: bool) -> Result<bool> {
        let mode = self.introduce()?;
        self.both_at_once()?;
        self.refuse()?;
        self.person_goes_on()?;
        self.explain()?;
        self.count()?;
        self.sum_up(&mode, host)
    }

    /// Leaves the agent at work in the person's terminal, where nobody looks.
    fn leave_running(&mut self) -> Result<()> {
        drop(self.follower.kill());
        drop(self.follower.wait());
        self.screen.mute();
        self.terminal.enter("demo-agent --every 15 'Compare the two reports' &")
    }

    fn introduce(&self) -> Result<String> {
        let events = self.stage.events()?;
        let started = events.iter().find(|event| event["kind"] == "daemon_started").context("no daemon")?;
        let daemon = &started["daemon"];
        let word = |name: &str| daemon[name].as_str().unwrap_or("?").to_owned();
        let (mode, port) = (word("mode"), self.stage.web.port);
        let place =
            if mode == "lsm" { "in the system call (BPF LSM)" } else { "at the cgroup (no BPF LSM here)" };
        self.screen.heading(&format!(
            "Chaperone {} on Linux {}: it refuses {place}",
            word("version"),
            word("kernel")
        ));
        let user = &self.stage.user.name;
        for line in [
            format!(
                "The agent `demo-agent` has the role `demo`: it may reach 127.0.0.2:{port}, and its model. No rule"
            ),
            format!(
                "names 127.0.0.3:{port}. {user} starts it in a terminal, and types the same commands beside it."
            ),
            format!("    |  what {user}'s terminal shows"),
            format!("    >  what the daemon tells meanwhile: chaperone {}", FOLLOW.join(" ")),
        ] {
            self.screen.line(&line);
        }
        Ok(mode)
    }

    /// The same command by a person and by the agent, at the same time: nothing but lineage differs.
    fn both_at_once(&mut self) -> Result<()> {
        let slow = format!("curl -sS http://127.0.0.2:{}/slow", self.stage.web.port);
        self.screen.heading("One user, one terminal, one directory, one command");
        self.terminal.run(&format!("{slow} &"))?;
        self.terminal.enter("demo-agent 'Compare the two reports'")?;
        wait_until("both wait for the slow report", WAIT_MAX, || Ok(self.stage.web.waiting() == 2))?;

        self.screen.heading("Two curls run. Whose is which?");
        let all: Vec<Value> = serde_json::from_str(&self.stage.ask(&["ps", "-o", "json"])?)?;
        let is_slow = |process: &&Value| {
            process["argv"].as_array().is_some_and(|argv| {
                argv.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ") == slow
            })
        };
        let curls: Vec<&Value> = all.iter().filter(is_slow).collect();
        let place = |curl: &Value| {
            let pid = curl["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
            Ok((curl["uid"].clone(), curl["argv"].clone(), Stage::place_of(pid)?))
        };
        let places = curls.iter().map(|curl| place(curl)).collect::<Result<Vec<_>>>()?;
        let of = |origin: &str| curls.iter().filter(|curl| curl["origin"] == origin).count();
        self.checks.push((
            "two curls ran at once with the same user, terminal, directory and arguments",
            places.len() == 2 && places[0] == places[1],
        ));
        self.checks.push((
            "one of them is the agent's and one the person's, and the tree says which",
            of("agent") == 1 && of("human") == 1,
        ));
        self.tree(&all)
    }

    /// `chaperone ps`, what the demo started alone: in a guest that is nearly everything, on a host next to nothing.
    fn tree(&self, all: &[Value]) -> Result<()> {
        self.screen.command("chaperone ps");
        let mut lines = self.screen.run(self.stage.chaperone(&["ps"]), TREE_DEPTH)?;
        lines.retain(|line| self.is_ours(all, line));
        let column =
            |line: &String, what: &str| plain(line).split_once(what).map(|(left, _)| left.chars().count());
        // The branch that we hang on is of no interest, nor how deep.
        let branch = lines.get(1).and_then(|line| column(line, "└─ ").or(column(line, "├─ ")));
        let command = lines.first().and_then(|line| column(line, "COMMAND"));
        for (at, line) in lines.iter().enumerate() {
            match (at, command, branch) {
                (1.., Some(from), Some(branch)) => {
                    let line = without_columns(line, from, branch + BRANCH);
                    self.screen.from(From::Shown, &without_columns(&line, self.screen.width(), usize::MAX));
                }
                _ => self.screen.from(From::Shown, line),
            }
        }
        Ok(())
    }

    /// Whether a line of `ps` is about what the demo started, or its heading.
    fn is_ours(&self, all: &[Value], line: &str) -> bool {
        let plain = plain(line);
        let Some(pid) = plain.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()) else {
            return true;
        };
        let us = u64::from(std::process::id());
        let mut at = pid;
        for _ in 0..all.len() {
            if at == us {
                return pid != u64::from(self.follower.id()) && !plain.ends_with(" ps");
            }
            match all.iter().find(|process| process["pid"] == at).and_then(|process| process["ppid"].as_u64())
            {
                Some(parent) => at = parent,
                None => return false,
            }
        }
        false
    }

    /// The agent goes on: one endpoint named, one not.
    fn refuse(&mut self) -> Result<()> {
        self.screen
            .heading("The agent goes on: the endpoint that its role names, then the one that it does not");
        let before = self.terminal.lines().len();
        self.stage.web.release();
        self.terminal.wait_prompt()?;
        let said = self.terminal.lines()[before..].join("\n");
        self.checks.push(("the agent reached the endpoint that its role names", said.contains(NAMED_SAYS)));
        let refused = said.contains("curl: (7)") && !said.contains(NOT_NAMED_SAYS);
        self.checks.push((
            "its curl to the other one failed, and nothing of it arrived there",
            refused && self.stage.web.at_not_named() == 0,
        ));
        wait_until("the refusal is told", WAIT_MAX, || Ok(!self.refusals()?.is_empty()))
            .or_else(|_| anyhow::Ok(()))?;
        let told = self.refusals()?;
        self.checks.push((
            "the refusal was told as an event: agent, role, endpoint, errno",
            told.len() == 1 && told.iter().all(|event| self.is_the_refusal(event)),
        ));
        Ok(())
    }

    /// The same two commands, typed by the person in the same terminal.
    fn person_goes_on(&mut self) -> Result<()> {
        let port = self.stage.web.port;
        self.screen.heading(&format!("{} types the same two commands", self.stage.user.name));
        let named = self.terminal.run(&format!("curl -sS http://127.0.0.2:{port}/report"))?;
        let other = self.terminal.run(&format!("curl -sS http://127.0.0.3:{port}/report"))?;
        let arrived = self.stage.web.at_not_named() == 1;
        thread::sleep(EVENTS_COME);
        self.checks.push((
            "the person reached both from the same terminal; nothing of the person was refused",
            named.contains(NAMED_SAYS)
                && other.contains(NOT_NAMED_SAYS)
                && arrived
                && self.refusals()?.len() == 1,
        ));
        Ok(())
    }

    fn explain(&mut self) -> Result<()> {
        self.screen.heading("Why? The same function that the kernel calls, asked from outside");
        let port = self.stage.web.port;
        let mut verdicts = Vec::new();
        for address in ["127.0.0.2", "127.0.0.3"] {
            let to = format!("{address}:{port}");
            let words = ["role", "explain", "--role", "demo", "--to", &to, "--protocol", "tcp"];
            self.screen.command(&format!("chaperone {}", words.join(" ")));
            for line in self.screen.run(self.stage.chaperone(&words), 0)? {
                self.screen.from(From::Shown, &line);
            }
            let answer: Value =
                serde_json::from_str(&self.stage.ask(&[&words[..], &["-o", "json"]].concat())?)?;
            verdicts.push(answer["verdict"].clone());
        }
        self.checks.push(("`role explain` says the same of both endpoints", verdicts == ["allow", "deny"]));
        Ok(())
    }

    fn count(&mut self) -> Result<()> {
        self.screen.heading("And in numbers, for Prometheus");
        self.screen.command("chaperone metrics | grep verdicts_total");
        let text = self.stage.ask(&["metrics"])?;
        let lines: Vec<&str> =
            text.lines().filter(|line| line.starts_with("chaperone_verdicts_total{")).collect();
        for line in &lines {
            self.screen.from(From::Shown, line);
        }
        let denied = "chaperone_verdicts_total{agent=\"demo-agent\",role=\"demo\",verdict=\"deny\"} 1";
        self.checks.push(("the metric counts one refusal", lines.contains(&denied)));
        Ok(())
    }

    fn sum_up(&self, mode: &str, host: bool) -> Result<bool> {
        self.screen.heading("What was just seen");
        for (what, holds) in &self.checks {
            self.screen.check(what, *holds);
        }
        let held = self.checks.iter().all(|(_, holds)| *holds);
        let seconds = self.start.elapsed().as_secs_f32();
        self.screen.line("");
        if !held {
            self.screen.line("The demo did NOT show what it is to show: see the lines marked NO.");
            return Ok(false);
        }
        self.screen.line(&format!(
            "All of it in {seconds:.0} s; the kernel gave every verdict, before the call went on."
        ));
        if mode != "lsm" {
            self.screen.line(
                "In cgroup mode fewer ways out are refused than in lsm mode: chaperone doctor lists them.",
            );
        }
        self.screen.heading("What to type next");
        let shell = ("cargo xtask demo --shell", "stay in the guest with all of this running; then, there:");
        let inside = [
            ("chaperone ps", "the tree, with whose doing each process is"),
            ("chaperone events -f", "what happens, as it happens; the agent goes on every 15 s"),
            ("chaperone doctor", "what this kernel guarantees, way by way"),
            ("chaperone agent show demo-agent", "who is registered, and which instances live"),
        ];
        let here = if host { &inside[2..3] } else { &inside[..] };
        for (command, what) in std::iter::once(&shell).chain(here) {
            self.screen.line(&format!("    {command:<34}{what}"));
        }
        self.screen.line("README.md has the rest.");
        Ok(true)
    }

    fn refusals(&self) -> Result<Vec<Value>> {
        Ok(self.stage.events()?.into_iter().filter(|event| event["verdict"] == "deny").collect())
    }

    fn is_the_refusal(&self, event: &Value) -> bool {
        event["origin"] == "agent"
            && event["agent"] == "demo-agent"
            && event["role"] == "demo"
            && event["network"]["address"] == "127.0.0.3"
            && event["network"]["port"] == self.stage.web.port
            && event["decision"]["errno"] == "EPERM"
    }
}

impl Drop for Play<'_> {
    fn drop(&mut self) {
        drop(self.follower.kill());
        drop(self.follower.wait());
    }
}

/// Waits until something is so, or says what did not come.
fn wait_until(what: &str, longest: Duration, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + longest;
    while !is_so()? {
        if INTERRUPTED.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        if Instant::now() > end {
            bail!("waited {} s in vain until {what}", longest.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupt(_: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// What the audience follows.
const FOLLOW: &[&str] = &["events", "-f", "--kind", "net"];
/// What the two servers answer.
const NAMED_SAYS: &str = "the server that the role names";
const NOT_NAMED_SAYS: &str = "the server that the role does not name";
/// How deep in the tree the demo may stand, in columns.
const TREE_DEPTH: u16 = 60;
/// Columns of a branch in the tree.
const BRANCH: usize = 3;
/// A terminal of unknown width.
const COLUMNS: u16 = 120;
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Long enough for an event to come that must not come.
const EVENTS_COME: Duration = Duration::from_millis(500);
