//! What an operator meets: configuration in any state, metrics, a host that guarantees less than before.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::process::{TRY_CONNECT, was_refused};
use crate::{
    case::{Case, Outcome, case},
    guest::Shared,
    harness::{Daemon, Start, program, script},
};

pub const CASES: &[Case<Shared>] = &[
    case("bad_input_is_told_with_place_and_remedy_and_what_was_in_force_stays", bad_input),
    case("metrics_count_every_act_and_nobody_is_unlabelled_after_the_start", metrics),
    case("a_host_that_guarantees_less_than_before_says_so_once", guarantees),
    case("bpf_lsm_is_found_where_securityfs_is_not_mounted", unmounted),
];

/// A file that is put beside good ones, and what is told of it: where, what, and what to do.
struct Row {
    name: &'static str,
    put: fn(&Path) -> std::io::Result<()>,
    told: [&'static str; 3],
}

const ROWS: &[Row] = &[
    Row {
        name: "an unknown field",
        put: |path| fs::write(path, role("x", "{ default: deny, ruels: [] }")),
        told: ["x.yaml:4:", "has no field `ruels`", "did you mean `rules`?"],
    },
    Row {
        name: "a wrong prefix",
        put: |path| {
            fs::write(path, role("x", "{ default: deny, rules: [ { to: 10.1.2.3/16, verdict: allow } ] }"))
        },
        told: ["x.yaml:4:", "`10.1.2.3/16` has bits set behind its prefix", "write 10.1.0.0/16"],
    },
    Row {
        name: "a wrong port",
        put: |path| {
            fs::write(
                path,
                role("x", "{ default: deny, rules: [ { to: \"10.1.2.3:70000\", verdict: allow } ] }"),
            )
        },
        told: ["x.yaml:4:", "`70000` is not a port", "write PORT"],
    },
    Row {
        name: "two agents for one file",
        put: |path| fs::write(path, agent("x", "bot", "/run/chaperone-bad-input")),
        told: ["x.yaml:4:", "both claim", "all.yaml:4"],
    },
    Row {
        name: "a role that does not exist",
        put: |path| fs::write(path, agent("x", "bott", "/nowhere/x")),
        told: ["x.yaml:4:", "there is no role `bott`", "did you mean `bot`?"],
    },
    Row {
        name: "a huge file",
        put: |path| fs::write(path, "# ".repeat(1 << 20)),
        told: ["x.yaml:", "is larger than 1024 KiB", "split it"],
    },
    Row {
        name: "not UTF-8",
        put: |path| fs::write(path, b"a: 1\nb: \xff\xfe\n"),
        told: ["x.yaml:2:", "is not UTF-8", "save it as UTF-8"],
    },
    Row {
        name: "a link to nowhere",
        put: |path| symlink("nowhere", path),
        told: ["x.yaml:", "cannot be read: No such file", "a symlink may lead nowhere"],
    },
    Row {
        name: "half of a file",
        put: |path| fs::write(path, &role("x", "{ default: deny }")[..90]),
        told: ["x.yaml:4:", "", ""],
    },
    Row {
        name: "an empty file",
        put: |path| fs::write(path, ""),
        told: ["x.yaml:", "holds no document", "an empty one is taken for half-written"],
    },
    Row {
        name: "a directory",
        put: |path| fs::create_dir(path),
        told: ["x.yaml:", "is not a regular file", "replace it by a file"],
    },
    Row {
        name: "a named pipe",
        put: |path| Ok(nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR)?),
        told: ["x.yaml:", "is not a regular file", "replace it by a file"],
    },
];

fn role(name: &str, network: &str) -> String {
    format!(
        "apiVersion: chaperone/v1\nkind: Role\nmetadata: {{ name: {name} }}\nspec: {{ mode: enforce, network: {network} }}\n"
    )
}

fn agent(name: &str, role: &str, exe: &str) -> String {
    format!(
        "apiVersion: chaperone/v1\nkind: Agent\nmetadata: {{ name: {name} }}\nspec: {{ owner: tests, role: {role}, match: \
         [ {{ exe: {exe} }} ] }}\n"
    )
}

fn bot(path: &str, shared: &Shared) -> Result<(PathBuf, Daemon)> {
    let bot = PathBuf::from(path);
    script(&bot, &format!("#!/bin/bash\n{TRY_CONNECT}\n"))?;
    let documents =
        agent("bot", "bot", path) + "---\n" + &role("bot", "{ default: deny, defaults: { unix: allow } }");
    let start = Start { documents, mode: Some(shared.mode.clone()), ..Start::default() };
    Ok((bot, Daemon::start(&start)?))
}

fn refused(bot: &Path) -> Result<bool> {
    was_refused(&String::from_utf8_lossy(&Command::new(bot).output()?.stderr))
}

fn bad_input(shared: &mut Shared) -> Result<Outcome> {
    let (bot, mut daemon) = bot("/run/chaperone-bad-input", shared)?;
    let path = daemon.directory.join("agents/x.yaml");
    for Row { name, put, told } in ROWS {
        let from = daemon.seen.len();
        put(&path).with_context(|| (*name).to_owned())?;
        let event = daemon.wait(from, name, |e| e["kind"] == "policy_rejected")?;
        let problems = event["policy"]["problems"].to_string().replace("\\\"", "\"");
        for part in told {
            ensure!(problems.contains(part), "{name}: no `{part}` in {problems}");
        }
        ensure!(refused(&bot)?, "{name}: the agent's connect passed");
        let doctor = daemon.cli(&["doctor"])?;
        let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
        ensure!(text.contains("configuration refused:") && !doctor.status.success(), "{name}: {text}");
        let from = daemon.seen.len();
        if path.is_dir() {
            fs::remove_dir(&path)?
        } else {
            fs::remove_file(&path)?
        };
        daemon.wait(from, "the end of it", |e| e["kind"] == "policy_changed")?;
    }
    ensure!(refused(&bot)?, "the agent's connect passed in the end");
    Ok(Outcome::Held)
}

fn metrics(shared: &mut Shared) -> Result<Outcome> {
    const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";
    fs::write(SWITCH, "0")?;
    let (bot, daemon) = bot("/run/chaperone-metrics", shared)?;
    let before = daemon.metrics()?;
    for name in ["acts_unlabelled", "births_unlabelled", "label_allocation_failed", "cgroup_table_full"] {
        ensure!(before.counter(name)? == 0, "{name} is not 0");
    }
    ensure!(before.value("chaperone_processes{origin=\"none\"}")? == 0.0, "a process has no label");
    ensure!(before.value("chaperone_ring_size_bytes")? >= 4096.0, "no ring buffer");
    ensure!(before.value("chaperone_kernel_memory_bytes")? > 1e6, "no kernel memory");
    ensure!(
        !before.0.contains("chaperone_hook_runs_total"),
        "hooks are timed though the kernel does not count"
    );
    fs::write(SWITCH, "1")?;
    ensure!(refused(&bot)?, "the agent's connect passed");
    let after = daemon.metrics()?;
    fs::write(SWITCH, "0")?;
    for hook in ["sched_process_exec", "task_newtask"] {
        let of = |family: &str| format!("chaperone_hook_{family}_total{{hook=\"{hook}\"}}");
        ensure!(
            after.value(&of("runs"))? >= 1.0 && after.value(&of("seconds"))? > 0.0,
            "{hook} was not timed"
        );
    }
    let guarantee = if shared.is_lsm() { "refused_in_the_call" } else { "not_seen" };
    let line = format!("chaperone_guarantee_info{{rule=\"unix\",way=\"unix\",guarantee=\"{guarantee}\"}}");
    ensure!(after.value(&line)? == 1.0, "another guarantee");
    let deny = "chaperone_verdicts_total{agent=\"bot\",role=\"bot\",verdict=\"deny\"}";
    ensure!(after.value(deny)? == 1.0, "another number of verdicts");
    Ok(Outcome::Held)
}

fn unmounted(shared: &mut Shared) -> Result<Outcome> {
    if !shared.is_lsm() {
        return Ok(Outcome::Skipped("there is nothing to find in cgroup mode".to_owned()));
    }
    nix::mount::umount("/sys/kernel/security")?;
    let started = bot("/run/chaperone-unmounted", shared);
    // It was mounted again by the daemon, or is for the cases after this.
    let found = fs::exists("/sys/kernel/security/lsm")?;
    if !found {
        nix::mount::mount(
            Some("securityfs"),
            "/sys/kernel/security",
            Some("securityfs"),
            nix::mount::MsFlags::empty(),
            None::<&str>,
        )?;
    }
    let (path, daemon) = started?;
    ensure!(found && refused(&path)?, "not refused: {}", daemon.log());
    Ok(Outcome::Held)
}

fn guarantees(shared: &mut Shared) -> Result<Outcome> {
    if !shared.is_lsm() {
        return Ok(Outcome::Skipped("there is nothing to lose in cgroup mode".to_owned()));
    }
    let (_, mut daemon) = bot("/run/chaperone-guarantees", shared)?;
    daemon.stop()?;
    for (mode, before, now, told) in [
        ("cgroup", "refused_in_the_call", "not_seen", 1),
        ("cgroup", "", "", 0),
        ("lsm", "not_seen", "refused_in_the_call", 1),
    ] {
        daemon.settle()?;
        let from = daemon.seen.len();
        let mut command = Command::new(program("chaperone")?);
        command.arg("daemon").arg("--config").arg(&daemon.directory).args(["--metrics", "off"]);
        if mode == "cgroup" {
            command.args(["--mode", "cgroup"]);
        }
        let mut again = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let end = Instant::now() + START_MAX;
        let started = loop {
            match daemon.wait(from, "the start", |e| e["kind"] == "policy_changed") {
                Err(_) if Instant::now() < end && again.try_wait()?.is_none() => {}
                started => break started,
            }
        };
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(again.id() as i32),
            nix::sys::signal::Signal::SIGTERM,
        )?;
        again.wait()?;
        started?;
        daemon.settle()?;
        let changed: Vec<_> =
            daemon.seen[from..].iter().filter(|e| e["kind"] == "guarantee_changed").cloned().collect();
        ensure!(changed.len() == told, "{mode}: {} events, not {told}", changed.len());
        for event in changed {
            let changes = event["guarantees"]["changes"].as_array().cloned().unwrap_or_default();
            let unix = changes.iter().find(|change| change["rule"] == "unix").cloned().unwrap_or_default();
            ensure!(unix["before"] == before && unix["now"] == now, "{mode}: {event}");
        }
    }
    Ok(Outcome::Held)
}

const START_MAX: Duration = Duration::from_secs(240);
