//! Processes that are older than the daemon.

use std::fs;

use anyhow::Result;

use super::{
    cases,
    score::{Seen, Who},
    stage::{HOME, Stage},
};
use crate::harness::Daemon;

/// What they do, each by an agent and a person in one terminal and by the system. `GO` waits for the daemon.
const ROWS: &[(&str, &str)] = &[
    ("it runs", "LEAF; true"),
    ("below other shells", "bash -c \"sh -c 'LEAF; true'; true\""),
    ("in a session of its own", "setsid --wait LEAF"),
    ("in a pipeline", "true | LEAF | cat"),
    ("in other namespaces", "unshare -muipf LEAF"),
    ("its child executes itself all the while", "set -- LEAF; HOME/again $2; true"),
    ("it starts something all the while", "until [ -e HOME/go ]; do bash -c true; done; LEAF; true"),
    ("it starts something new", "GO; LEAF; true"),
    ("it executes something new", "GO; exec LEAF"),
    ("it starts a daemon", "GO; setsid --fork LEAF; sleep 900"),
    ("its orphan starts something new", "(GO; LEAF) & exec sleep 900"),
];

const GO: &str = "until [ -e HOME/go ]; do sleep 0.2; done";

/// A thread that ends after the daemon's start, and a process that is started afterwards.
const THREADED: &str = "#!/usr/bin/python3
import os, subprocess, sys, threading, time
def wait():
    while not os.path.exists('HOME/go'):
        time.sleep(0.2)
thread = threading.Thread(target=wait)
thread.start()
thread.join()
time.sleep(0.2)
subprocess.run(['bash', sys.argv[1]])
";

/// Starts them; call before the daemon's start.
pub fn before(stage: &mut Stage) -> Result<()> {
    crate::harness::script(format!("{HOME}/threaded").as_ref(), &THREADED.replace("HOME", HOME))?;
    crate::harness::script(
        format!("{HOME}/again").as_ref(),
        &format!("#!/bin/bash\n[ -e {HOME}/go ] && exec {HOME}/leaf $1\nexec {HOME}/again $1\n"),
    )?;
    fs::write(format!("{HOME}/threaded.py"), THREADED.replace("HOME", HOME))?;
    let mut lines = Vec::new();
    for (name, text) in ROWS {
        let text = text.replace("GO", GO);
        for agent in ["bot", "native"] {
            let name = format!("older than the daemon: {name}, by an agent ({agent})");
            let case = stage.case(&name, Who::Agent, agent, &text)?;
            lines.push(format!("{HOME}/{agent} {case}"));
        }
        let case =
            stage.case(&format!("older than the daemon: {name}, by a person"), Who::Human, "", &text)?;
        lines.push(format!("/bin/bash {case}"));
        let case =
            stage.case(&format!("older than the daemon: {name}, by the system"), Who::System, "", &text)?;
        stage.background(&format!("exec /bin/bash {case}"))?;
    }
    let thread = "older than the daemon: a thread of it ends, then it starts something new";
    let case = stage.case(&format!("{thread}, by an agent"), Who::Agent, "threaded", "LEAF; true")?;
    lines.push(format!("{HOME}/threaded {case}"));
    let case = stage.case(&format!("{thread}, by a person"), Who::Human, "", "LEAF; true")?;
    lines.push(format!("python3 {HOME}/threaded.py {case}"));
    let case = stage.case(&format!("{thread}, by the system"), Who::System, "", "LEAF; true")?;
    stage.background(&format!("exec python3 {HOME}/threaded.py {case}"))?;
    stage.terminal(&lines)?;
    // Those that do not wait for the daemon are there; the others are shells that sleep by then.
    let running = ROWS.iter().filter(|(_, text)| !text.contains("GO") && !text.contains("HOME")).count();
    stage.wait(running * 4);
    Ok(())
}

/// Lets them go on and looks at all; then a person gets the process id of one of them.
pub fn after(stage: &mut Stage, daemon: &Daemon) -> Result<Vec<Seen>> {
    fs::write(format!("{HOME}/go"), "")?;
    let mut seen = stage.look(daemon)?;
    let former =
        seen.iter().find(|seen| seen.got == "agent" && seen.case.contains("it runs")).map(|seen| seen.pid);
    if let Some(pid) = former {
        seen.extend(cases::take_id(stage, daemon, pid, Who::Human, "agent older than the daemon")?);
    }
    Ok(seen)
}
