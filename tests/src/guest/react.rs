//! What a role has done about findings: the whole tree is stopped or ended, and nothing beside it.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    baselines::{bot, run},
    promoted::rewrite,
};
use crate::{
    case::{Case, Outcome, case},
    guest::Shared,
    harness::{Daemon, find_marked, marked_command, tell, wait_until},
};

pub const CASES: &[Case<Shared>] = &[
    case("a_finding_stops_the_whole_tree_and_nothing_beside_it", stop),
    case("a_finding_ends_the_whole_tree_and_what_is_usual_does_not", kill),
];

/// The same programs of the kernel, in other shapes of trees.
pub const FURTHER: &[Case<Shared>] = &[
    case("what_resists_is_stopped_too", resists),
    case("one_that_continues_the_rest_is_stopped_with_it", continues),
    case("what_began_below_is_stopped_too_and_what_is_above_is_not", below),
    case("without_enforcing_nothing_is_done_about_a_finding", alert),
];

const USUAL: &str = "127.0.0.9/9";
const OTHER: &str = "127.0.0.77/9";

fn role(mode: &str, baseline: &str) -> String {
    format!("{{ mode: {mode}, network: {{ default: allow }}, baseline: {baseline} }}")
}

/// A daemon for whose agent one call is usual, and the program and the shape of the tree with it.
fn taught(path: &str, shared: &Shared, spec: &str) -> Result<(std::path::PathBuf, Daemon)> {
    let (bot, mut daemon) = bot(path, &shared.mode, spec)?;
    // What the tree does beside the call is usual too.
    for round in 0..3 {
        let mut tree = Tree::grow(&bot, &format!("taught-{round}"))?;
        let from = daemon.seen.len();
        tree.act(USUAL)?;
        daemon.wait(from, "the usual call", |e| e["network"]["address"] == "127.0.0.9")?;
        tree.end();
        daemon.settle()?;
    }
    Ok((bot, daemon))
}

/// The same, and then findings have consequences: one of a rate, at the turn of a minute, must not end what is being taught.
fn taught_then(path: &str, shared: &Shared, baseline: &str) -> Result<(std::path::PathBuf, Daemon)> {
    let (bot, mut daemon) = taught(path, shared, &role("alert", baseline))?;
    super::promoted::change(&mut daemon, path, &role("enforce", baseline))?;
    Ok((bot, daemon))
}

/// An agent with a child, and one that left its session and its parent.
struct Tree {
    root: Child,
    marks: [u32; 2],
    fifo: std::path::PathBuf,
}

impl Tree {
    fn grow(bot: &Path, token: &str) -> Result<Self> {
        let fifo = std::env::temp_dir().join(format!("{token}.fifo"));
        drop(fs::remove_file(&fifo));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU)?;
        let (child, away) = (format!("{token}-child"), format!("{token}-away"));
        let script = format!(
            "( {} ) & setsid bash -c '( {} ) & ' ; while true; do read to < {}; (exec 3<>/dev/tcp/$to) 2>/dev/null; done",
            marked_command(&child, 600),
            marked_command(&away, 600),
            fifo.display()
        );
        let root = Command::new(bot)
            .args(["do", "bash", "-c", &script])
            .stdin(Stdio::null())
            .spawn()
            .context("start the agent")?;
        // From here on it is ended with this.
        let mut tree = Self { root, marks: [0; 2], fifo };
        tree.marks = [find_marked(&child)?, find_marked(&away)?];
        Ok(tree)
    }

    /// Has it call.
    fn act(&mut self, to: &str) -> Result<()> {
        tell(&self.fifo, to)
    }

    fn pids(&self) -> [u32; 3] {
        [self.root.id(), self.marks[0], self.marks[1]]
    }

    fn end(&mut self) {
        for pid in self.pids().into_iter().filter(|pid| *pid > 0) {
            let pid = nix::unistd::Pid::from_raw(pid as i32);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        drop(self.root.kill());
        drop(self.root.wait());
        drop(fs::remove_file(&self.fifo));
        // The loop is a child of the script, and waits for the fifo that has gone.
        for pid in running(&self.fifo.display().to_string()) {
            let pid = nix::unistd::Pid::from_raw(pid as i32);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.end();
    }
}

/// Processes with this text in their command line.
fn running(text: &str) -> Vec<u32> {
    let own = std::process::id();
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != own && String::from_utf8_lossy(&line).contains(text)
    })
    .collect()
}

/// `T` for a stopped one, `Z` for one that has ended; nothing for one that is gone.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn reaction(daemon: &mut Daemon, from: usize, effect: &str) -> Result<Value> {
    let done = daemon.wait(from, effect, |e| e["kind"] == "reaction" && e["reaction"]["effect"] == effect)?;
    let of = &done["reaction"]["of"]["seq"];
    let act = daemon.seen.iter().find(|e| e["seq"] == *of).context("no event is what the reaction is of")?;
    ensure!(
        act["network"]["address"].as_str().is_some_and(|to| to.contains(".77"))
            && act["instance"] == done["instance"],
        "{act}"
    );
    // Recorded first: the act, then what was found of it, then what was done.
    let at = |wanted: &dyn Fn(&Value) -> bool| daemon.seen.iter().position(wanted);
    let act = at(&|e| e["seq"] == *of);
    let found = at(&|e| e["kind"] == "finding" && e["finding"]["of"]["seq"] == *of);
    let reacted = at(&|e| e["seq"] == done["seq"]);
    ensure!(act < found && found < reacted, "{act:?} {found:?} {reacted:?}");
    ensure!(done["reaction"]["incomplete"].is_null(), "{done}");
    Ok(done)
}

fn stop(shared: &mut Shared) -> Result<Outcome> {
    let (bot, mut daemon) = taught_then("/run/chaperone-react-stop", shared, "{ stop: medium }")?;
    // Another instance of the same agent, a person's process: neither is of the tree.
    let other = Tree::grow(&bot, "react-other")?;
    let mut beside =
        Command::new("bash").args(["-c", &marked_command("react-beside", 600)]).spawn().context("sleep")?;
    let rounds: usize = match std::env::var("CHAPERONE_ROUNDS") {
        Ok(text) => text.parse().context("CHAPERONE_ROUNDS is a number")?,
        Err(_) => ROUNDS,
    };
    let mut after = Vec::new();
    for round in 0..rounds {
        let mut tree = Tree::grow(&bot, &format!("react-{round}"))?;
        daemon.settle()?;
        let from = daemon.seen.len();
        tree.act(USUAL)?;
        daemon.wait(from, "the usual call", |e| e["network"]["address"] == "127.0.0.9")?;
        daemon.settle()?;
        let found: Vec<&Value> = daemon.seen[from..].iter().filter(|e| e["kind"] == "finding").collect();
        ensure!(
            tree.pids().iter().all(|pid| state(*pid) != Some('T')),
            "round {round}: {:?} for what is usual: {found:?}",
            tree.pids().map(state)
        );
        let from = daemon.seen.len();
        // Another one each time: what two instances have done is usual.
        tree.act(&format!("127.0.77.{round}/9"))?;
        let done = reaction(&mut daemon, from, "stop")?;
        ensure!(tree.pids().iter().all(|pid| state(*pid) == Some('T')), "{:?}", tree.pids().map(state));
        ensure!(done["reaction"]["processes"].as_u64() >= Some(3), "{done}");
        after.push(done["reaction"]["after_ns"].as_u64().context("a time")?);
        for pid in other.pids().into_iter().chain([beside.id(), std::process::id()]) {
            ensure!(
                !matches!(state(pid), Some('T' | 'Z') | None),
                "{pid} of another tree is {:?}",
                state(pid)
            );
        }
    }
    beside.kill()?;
    beside.wait()?;
    after.sort_unstable();
    let reactions = daemon.metrics()?.value("chaperone_reactions_total{effect=\"stop\"}")?;
    ensure!(reactions == rounds as f64, "{reactions} reactions are counted of {rounds}");
    let ms = |ns: u64| ns as f64 / 1e6;
    println!(
        "   from the act to the last process stopped: median {:.1} ms, most {:.1} ms, of {rounds}",
        ms(after[after.len() / 2]),
        ms(after[after.len() - 1])
    );
    Ok(Outcome::Held)
}

fn kill(shared: &mut Shared) -> Result<Outcome> {
    let (bot, mut daemon) = taught_then("/run/chaperone-react-kill", shared, "{ kill: medium }")?;
    let mut tree = Tree::grow(&bot, "react-kill")?;
    daemon.settle()?;
    let from = daemon.seen.len();
    tree.act(OTHER)?;
    let done = reaction(&mut daemon, from, "kill")?;
    ensure!(done["reaction"]["processes"].as_u64() >= Some(3), "{done}");
    let pids = tree.pids();
    wait_until("all have ended", || pids.iter().all(|pid| matches!(state(*pid), None | Some('Z'))))?;
    drop(tree);
    // A flood of children: none is left.
    let bomb = "f() { (exec 3<>/dev/tcp/127.0.0.78/9) 2>/dev/null; sleep 600 & f; }; f";
    let from = daemon.seen.len();
    let mut flood = Command::new(&bot).args(["do", "bash", "-c", bomb]).spawn().context("start a flood")?;
    daemon.wait(from, "its end", |e| e["kind"] == "reaction" && e["reaction"]["effect"] == "kill")?;
    flood.wait()?;
    let of_it = |daemon: &Daemon| -> Result<usize> {
        let all = daemon.processes()?;
        Ok(all.iter().filter(|p| p["agent"] == "bot" && p["comm"] != "").count())
    };
    let end = Instant::now() + Duration::from_secs(60);
    while of_it(&daemon)? > 0 {
        ensure!(Instant::now() < end, "{} processes are left", of_it(&daemon)?);
        thread::sleep(Duration::from_millis(100));
    }
    Ok(Outcome::Held)
}

/// One that ends its first thread and goes on in another.
fn resists(shared: &mut Shared) -> Result<Outcome> {
    let path = "/run/chaperone-react-resist";
    let (bot, mut daemon) = taught(path, shared, &role("alert", "{ stop: high }"))?;
    // That it runs Python is to be usual too, before anything is done about what is not.
    for _ in 0..3 {
        Command::new(&bot).args(["do", "bash", "-c", "python3 -c pass & wait"]).status()?;
    }
    super::promoted::change(&mut daemon, path, &role("enforce", "{ stop: high }"))?;
    let (go, count) = (Path::new("/run/resist.go"), Path::new("/run/resist.count"));
    let script = "import ctypes, os, socket, threading, time
def go():
    count = os.open('/run/resist.count', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        os.write(count, b'x')
        if os.path.exists('/run/resist.go'):
            socket.socket().connect_ex(('127.0.78.1', 9))
        time.sleep(0.02)
open('/run/resist.pid', 'w').write(str(os.getpid()))
threading.Thread(target=go).start()
ctypes.CDLL(None).syscall(60, 0)
";
    fs::write("/run/resist.py", script)?;
    let mut root = Command::new(&bot)
        .args(["do", "bash", "-c", "python3 /run/resist.py & wait"])
        .spawn()
        .context("start the agent")?;
    let written = || fs::metadata(count).map_or(0, |meta| meta.len());
    wait_until("it counts", || written() > 0)?;
    let first = || fs::read_to_string("/run/resist.pid").ok()?.trim().parse().ok().and_then(state);
    wait_until("its first thread ends", || first() == Some('Z'))?;
    let before = written();
    wait_until("it goes on", || written() > before)?;
    daemon.settle()?;
    let from = daemon.seen.len();
    fs::write(go, "")?;
    let done = daemon.wait(from, "the stop", |e| e["kind"] == "reaction");
    thread::sleep(Duration::from_millis(300));
    let before = written();
    thread::sleep(Duration::from_millis(500));
    let after = written();
    for process in daemon.processes()?.iter().filter(|p| p["agent"] == "bot") {
        let pid = process["pid"].as_u64().context("a pid")? as i32;
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    root.kill()?;
    root.wait()?;
    for path in [go, count, Path::new("/run/resist.py"), Path::new("/run/resist.pid")] {
        drop(fs::remove_file(path));
    }
    let done = done?;
    ensure!(done["reaction"]["incomplete"].is_null(), "{done}");
    ensure!(before > 0 && before == after, "it went on: {before} to {after}");
    Ok(Outcome::Held)
}

/// An agent that calls where its fifo says, while a child of it has it go on whenever it is stopped.
fn continues(shared: &mut Shared) -> Result<Outcome> {
    let path = "/run/chaperone-react-continue";
    let (bot, mut daemon) = taught(path, shared, &role("alert", "{ stop: high }"))?;
    let fifo = Path::new("/run/continue.fifo");
    drop(fs::remove_file(fifo));
    nix::unistd::mkfifo(fifo, nix::sys::stat::Mode::S_IRWXU)?;
    let script = "P=$$; ( while true; do kill -CONT $P; done ) & \
        while true; do read to < /run/continue.fifo; (exec 3<>/dev/tcp/$to) 2>/dev/null; done";
    let start = || Command::new(&bot).args(["do", "bash", "-c", script]).stdin(Stdio::null()).spawn();
    for _ in 0..2 {
        let mut usual = start().context("start the agent")?;
        tell(fifo, USUAL)?;
        daemon.settle()?;
        end_tree(&daemon)?;
        usual.wait()?;
    }
    super::promoted::change(&mut daemon, path, &role("enforce", "{ stop: high }"))?;
    let mut root = start().context("start the agent")?;
    daemon.settle()?;
    let from = daemon.seen.len();
    tell(fifo, "127.0.78.2/9")?;
    let done = daemon.wait(from, "the stop", |e| e["kind"] == "reaction");
    thread::sleep(Duration::from_millis(300));
    let standing: Vec<Option<char>> = tree(&daemon)?.into_iter().map(state).filter(runs).collect();
    end_tree(&daemon)?;
    root.wait()?;
    drop(fs::remove_file(fifo));
    let done = done?;
    ensure!(done["reaction"]["incomplete"].is_null(), "{done}");
    ensure!(standing.len() >= 2 && standing.iter().all(|state| *state == Some('T')), "{standing:?}");
    Ok(Outcome::Held)
}

/// One that has ended and waits for its parent, which may be stopped, is shown as its instance's still.
fn runs(state: &Option<char>) -> bool {
    !matches!(state, None | Some('Z' | 'X'))
}

/// Processes of all instances that run.
fn tree(daemon: &Daemon) -> Result<Vec<u32>> {
    let all = daemon.processes()?;
    let of_agents = all.iter().filter(|p| p["origin"] == "agent");
    Ok(of_agents.filter_map(|p| u32::try_from(p["pid"].as_u64()?).ok()).collect())
}

fn end_tree(daemon: &Daemon) -> Result<()> {
    for pid in tree(daemon)? {
        let pid = nix::unistd::Pid::from_raw(pid as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
    Ok(())
}

/// An agent starts another, which has an instance of its own below it.
fn below(shared: &mut Shared) -> Result<Outcome> {
    let (path, sub) = ("/run/chaperone-react-above", "/run/chaperone-react-below");
    let documents = |mode: &str| {
        let spec = role(mode, "{ stop: high }");
        let agent =
            |path: &str, name: &str| super::baselines::documents(path, &spec).replace("name: bot", name);
        let sub = agent(sub, "name: sub").replace("role: bot", "role: sub");
        format!("{}---\n{sub}", agent(path, "name: bot"))
    };
    let (bot, mut daemon) = bot(path, &shared.mode, &role("alert", "{ stop: high }"))?;
    daemon.rewrite(&documents("alert"))?;
    daemon
        .wait(0, "the second agent", |e| e["kind"] == "policy_changed" && e["policy"]["trigger"] == "file")?;
    let fifo = |name: &str| Path::new("/run").join(format!("react-{name}.fifo"));
    let act = "while true; do read to < $FIFO; (exec 3<>/dev/tcp/$to) 2>/dev/null; done";
    let text = format!("#!/bin/bash\nFIFO=/run/react-sub.fifo\n{act}\n");
    crate::harness::script(Path::new(sub), &text)?;
    for name in ["bot", "sub"] {
        drop(fs::remove_file(fifo(name)));
        nix::unistd::mkfifo(&fifo(name), nix::sys::stat::Mode::S_IRWXU)?;
    }
    let script = format!("FIFO=/run/react-bot.fifo; {sub} & {act}");
    let start = |daemon: &mut Daemon| -> Result<Child> {
        let from = daemon.seen.len();
        let root = Command::new(&bot).args(["do", "bash", "-c", &script]).stdin(Stdio::null()).spawn()?;
        daemon.wait(from, "the one below", |e| e["agent"] == "sub" && e["kind"] == "process_exec")?;
        Ok(root)
    };
    for _ in 0..2 {
        let mut usual = start(&mut daemon)?;
        tell(&fifo("bot"), USUAL)?;
        tell(&fifo("sub"), USUAL)?;
        daemon.settle()?;
        end_tree(&daemon)?;
        usual.wait()?;
    }
    rewrite(&mut daemon, &documents("enforce"))?;
    let standing = |daemon: &Daemon| -> Result<Vec<(String, Option<char>)>> {
        let all = daemon.processes()?;
        let agents = all.iter().filter(|p| p["origin"] == "agent");
        Ok(agents
            .map(|p| (p["agent"].as_str().unwrap_or_default().to_owned(), p["pid"].as_u64().unwrap_or(0)))
            .map(|(agent, pid)| (agent, state(pid as u32)))
            .collect())
    };
    let mut outcome = Vec::new();
    for acts in ["sub", "bot"] {
        let mut root = start(&mut daemon)?;
        daemon.settle()?;
        let from = daemon.seen.len();
        tell(&fifo(acts), "127.0.78.3/9")?;
        let done = daemon.wait(from, "the stop", |e| e["kind"] == "reaction");
        outcome.push((acts, standing(&daemon)?));
        end_tree(&daemon)?;
        root.wait()?;
        ensure!(done?["agent"] == *acts, "the stop is another's");
    }
    for name in ["bot", "sub"] {
        drop(fs::remove_file(fifo(name)));
    }
    for (acts, all) in outcome {
        for agent in ["bot", "sub"] {
            let of: Vec<_> =
                all.iter().filter(|(name, _)| name == agent).map(|(_, state)| *state).filter(runs).collect();
            let stopped = acts == "bot" || agent == "sub";
            let right = !of.is_empty() && of.iter().all(|state| (*state == Some('T')) == stopped);
            ensure!(right, "{acts} acted, of {agent}: {of:?}");
        }
    }
    Ok(Outcome::Held)
}

fn alert(shared: &mut Shared) -> Result<Outcome> {
    let (bot, mut daemon) =
        taught("/run/chaperone-react-alert", shared, &role("alert", "{ stop: info, kill: critical }"))?;
    let from = daemon.seen.len();
    run(&bot, &[OTHER])?;
    daemon.wait(from, "the finding", |e| e["kind"] == "finding")?;
    daemon.settle()?;
    ensure!(!daemon.seen.iter().any(|e| e["kind"] == "reaction"), "something was done");
    Ok(Outcome::Held)
}

/// Without `CHAPERONE_ROUNDS`.
const ROUNDS: usize = 3;
