//! The cases that run in every guest.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    rows::{OPENS_A_TERMINAL, RECOGNISED, RECOGNISED_SHAPES, ROWS},
    score::{Seen, Who},
    stage::{CONTAINER, HOME, Stage},
};
use crate::harness::{Daemon, program};

/// Processes that are looked at at one time: what a guest of 1 GB holds easily.
const BATCH: usize = 60;

/// Every row of the table, and every birth, by an agent and a person in the same terminal, and by the system.
pub fn pairs(stage: &mut Stage, daemon: &Daemon) -> Result<Vec<Seen>> {
    let tests = program("chaperone-tests")?.display().to_string();
    let mut rows: Vec<(String, String, bool)> = Vec::new();
    for row in ROWS {
        rows.push((row.name.to_owned(), row.text.to_owned(), row.system));
    }
    for shape in shapes()? {
        let text = format!("{tests} act shape {shape} -- /bin/bash LEAF; true");
        let system = !OPENS_A_TERMINAL.contains(&shape.as_str());
        rows.push((format!("born as {shape}"), text, system));
    }
    let mut seen = Vec::new();
    for batch in rows.chunks(BATCH / 3) {
        let mut lines = Vec::new();
        for (name, text, system) in batch {
            for (at, agent) in ["bot", "native"].into_iter().enumerate() {
                // Both kinds of program do plain things; one of them is enough for the rest.
                if at == 0 || seen.is_empty() {
                    let case = stage.case(&format!("{name}, by an agent"), Who::Agent, agent, text)?;
                    lines.push(format!("{HOME}/{agent} {case}"));
                }
            }
            let case = stage.case(&format!("{name}, by a person"), Who::Human, "", text)?;
            lines.push(format!("/bin/bash {case}"));
            if *system {
                let case = stage.case(&format!("{name}, by the system"), Who::System, "", text)?;
                stage.background(&format!("exec /bin/bash {case}"))?;
            }
        }
        stage.terminal(&lines)?;
        seen.extend(stage.look(daemon)?);
    }
    Ok(seen)
}

fn shapes() -> Result<Vec<String>> {
    let output = Command::new(program("chaperone-tests")?).args(["act", "shape", "--list"]).output()?;
    let text = String::from_utf8(output.stdout).context("the list of shapes")?;
    Ok(text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

/// An agent's program, executed in every way and by a person as well as by the system.
pub fn recognised(stage: &mut Stage, daemon: &mut Daemon) -> Result<Vec<Seen>> {
    let (tests, chaperone) = (program("chaperone-tests")?, program("chaperone")?);
    let run = format!("{} run --agent run --config {}", chaperone.display(), daemon.directory.display());
    let mut rows: Vec<(String, &'static str, String)> = Vec::new();
    for (name, agent, text) in RECOGNISED {
        rows.push(((*name).to_owned(), agent, text.replace("RUN", &run).replace("HOME", HOME)));
    }
    for shape in RECOGNISED_SHAPES {
        let text = format!("{} act shape {shape} -- {HOME}/native CASE", tests.display());
        rows.push((format!("born as {shape}"), "native", text));
    }
    let mut seen = Vec::new();
    for batch in rows.chunks(BATCH / 2) {
        let mut lines = Vec::new();
        for (name, agent, text) in batch {
            let person =
                stage.case(&format!("agent started by a person: {name}"), Who::Agent, agent, "LEAF; true")?;
            lines.push(starter(&text.replace("CASE", &person), &person)?);
            let system = stage.case(
                &format!("agent started by the system: {name}"),
                Who::Agent,
                agent,
                "LEAF; true",
            )?;
            let line = starter(&text.replace("CASE", &system), &system)?;
            stage.background(&format!("exec {line}"))?;
        }
        stage.terminal(&lines)?;
        seen.extend(stage.look(daemon)?);
    }
    parents_recorded(daemon, &mut seen)?;
    Ok(seen)
}

/// A script that starts the agent, so that no quoting is lost on the way.
fn starter(text: &str, case: &str) -> Result<String> {
    let file = format!("{case}.start");
    fs::write(&file, format!("{text}\ntrue\n"))?;
    Ok(format!("/bin/bash {file}"))
}

/// An agent below an agent has the instance that started it written down.
fn parents_recorded(daemon: &mut Daemon, seen: &mut [Seen]) -> Result<()> {
    daemon.settle()?;
    for seen in seen.iter_mut().filter(|seen| seen.case.contains("agent below an agent")) {
        let begins = |event: &&Value| {
            event["kind"] == "process_exec"
                && event["instance"].as_str() == seen.instance.as_deref()
                && event["recognised"].is_string()
        };
        let parent = daemon.seen.iter().find(begins).map(|event| event["parent_instance"].is_string());
        if parent != Some(true) {
            seen.got = "agent without a parent instance".to_owned();
        }
    }
    Ok(())
}

/// A container of an agent, and those who come into it from outside.
pub fn container(stage: &mut Stage, daemon: &Daemon) -> Result<Vec<Seen>> {
    let cgroup = format!("/sys/fs/cgroup/attribution/{CONTAINER}");
    fs::create_dir_all(&cgroup).with_context(|| format!("make {cgroup}"))?;
    // As a runtime does: it is there before anything runs in it, and time passes.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let enter = format!("echo $$ > {cgroup}/cgroup.procs");
    let case = stage.case(
        "in its container: what it was started with",
        Who::Agent,
        "boxed",
        &format!(
            "{enter}; exec unshare -muipf --propagation private bash -c 'mount --bind / /mnt && mount -t proc proc \
             /mnt/proc && exec chroot /mnt LEAF'"
        ),
    )?;
    stage.background(&format!("exec /bin/bash {case}"))?;
    let inside = stage.last_pid()?;
    let nsenter = format!("exec nsenter --target {inside} --mount --uts --ipc --pid");
    let rows = [
        ("nsenter by a person", Who::Human, format!("{nsenter} LEAF")),
        ("nsenter into its cgroup too, by a person", Who::Human, format!("{enter}; {nsenter} LEAF")),
        ("a shell of a person in it", Who::Human, format!("{enter}; {nsenter} bash -c 'LEAF; true'")),
    ];
    let mut lines = Vec::new();
    for (name, who, text) in rows {
        let case = stage.case(&format!("in an agent's container: {name}"), who, "", &text)?;
        lines.push(format!("/bin/bash {case}"));
    }
    let case = stage.case(
        "in an agent's container: another agent, started by a person with nsenter",
        Who::Agent,
        "bot",
        "LEAF; true",
    )?;
    lines.push(format!("/bin/bash {}", {
        let file = format!("{case}.start");
        fs::write(&file, format!("{enter}; {nsenter} {HOME}/bot {case}\n"))?;
        file
    }));
    stage.terminal(&lines)?;
    let case = stage.case(
        "in an agent's container: entered by a runtime without a terminal (docker exec)",
        Who::System,
        "",
        &format!("{enter}; {nsenter} LEAF"),
    )?;
    stage.background(&format!("exec /bin/bash {case}"))?;
    let case = stage.case(
        "in an agent's container: entered by a runtime with a terminal (docker exec -it)",
        Who::Human,
        "",
        &format!("{enter}; {nsenter} LEAF"),
    )?;
    let tests = program("chaperone-tests")?;
    stage.background(&format!("exec {} act shape pty -- /bin/bash {case}", tests.display()))?;
    let seen = stage.look(daemon);
    drop(fs::remove_dir(&cgroup));
    drop(fs::remove_dir(Path::new("/sys/fs/cgroup/attribution")));
    seen
}

/// What is typed into an interactive shell, by whoever holds the other end of its terminal.
pub fn typed(stage: &mut Stage, daemon: &Daemon) -> Result<Vec<Seen>> {
    let text = "{ sleep 1; echo 'LEAF; exit'; while sleep 1; do echo; done; } | script -qfc 'bash --norc -i' /dev/null";
    let case = stage.case("typed into an interactive shell, by a person", Who::Human, "", text)?;
    stage.background(&format!("exec /bin/bash {case}"))?;
    let case = stage.case("typed into an interactive shell, by an agent", Who::Agent, "bot", text)?;
    stage.background(&format!("exec {HOME}/bot {case}"))?;
    let text = "{ sleep 1; echo 'HOME/bot HOME/typed; exit'; while sleep 1; do echo; done; } | script -qfc 'bash \
                --norc -i' /dev/null";
    let inner = stage.case("an agent started from an interactive shell", Who::Agent, "bot", "LEAF; true")?;
    fs::rename(&inner, format!("{HOME}/typed"))?;
    fs::write(&inner, text.replace("HOME", HOME))?;
    stage.background(&format!("exec /bin/bash {inner}"))?;
    // Put there by a package manager: a new file takes the place of the old, and is started at once.
    let case = stage.case("a program that was just replaced", Who::Agent, "native", "LEAF; true")?;
    stage.background(&format!(
        "cp /bin/bash {HOME}/new; mv {HOME}/new {HOME}/native; exec {HOME}/native {case}"
    ))?;
    let case = stage.case("a program that was not there before", Who::Agent, "late", "LEAF; true")?;
    stage.background(&format!(
        "cp /bin/bash {HOME}/new2; mv {HOME}/new2 {HOME}/late; exec {HOME}/late {case}"
    ))?;
    stage.look(daemon)
}

/// A process that gets the id which another one of another origin has just had.
pub fn reused(stage: &mut Stage, daemon: &Daemon) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for (first, second) in [(Who::Agent, Who::Human), (Who::Human, Who::Agent), (Who::Agent, Who::System)] {
        let case = stage.case("the first of an id", first, "bot", "LEAF; true")?;
        start(stage, first, &case)?;
        let pid = stage.last_pid()?;
        seen.extend(stage.look(daemon)?);
        seen.extend(take_id(stage, daemon, pid, second, first.word())?);
    }
    Ok(seen)
}

fn start(stage: &mut Stage, who: Who, case: &str) -> Result<()> {
    match who {
        Who::Agent => stage.terminal(&[format!("{HOME}/bot {case}")]),
        Who::Human => stage.terminal(&[format!("/bin/bash {case}")]),
        Who::System => stage.background(&format!("exec /bin/bash {case}")),
    }
}

/// Starts processes until one has the id.
pub fn take_id(stage: &mut Stage, daemon: &Daemon, pid: u32, who: Who, before: &str) -> Result<Vec<Seen>> {
    let name = format!("{} with the process id of a former {before}", who.word());
    let text = format!(
        "for i in $(seq 300); do echo {} > /proc/sys/kernel/ns_last_pid; {{ [ $BASHPID = {pid} ] && exec LEAF; }} & \
         wait; done; exec LEAF",
        pid - 1
    );
    let case = stage.case(&name, who, "bot", &text)?;
    start(stage, who, &case)?;
    let seen = stage.look(daemon)?;
    ensure!(seen.iter().all(|seen| seen.pid == pid), "no process got the id {pid}: {seen:?}");
    Ok(seen)
}
