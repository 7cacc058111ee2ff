//! Recognition: by executable, script, cgroup and request; of files that are replaced or come later.

use std::{fs, os::unix::fs::symlink, thread, time::Duration};

use anyhow::{Result, ensure};

use super::{TRY_CONNECT, agent, daemon, end_marked, launcher, origin, place, run, start, was_refused};
use crate::{
    case::{Case, Outcome, case},
    guest::Shared,
    harness::{find_marked, marked_command, script},
};

pub const CASES: &[Case<Shared>] = &[
    case("a_script_is_recognised_and_its_interpreter_is_not", scripts),
    case("an_executable_is_recognised_through_every_name", executables),
    case("a_copy_of_an_agents_file_is_nobody", copies),
    case("a_replaced_file_is_recognised_at_once", replaced),
    case("a_file_that_appears_later_is_recognised", appears),
    case("a_cgroup_is_recognised_at_its_first_exec", cgroups),
    case("run_makes_an_instance_and_is_refused_inside_one", requested),
    case("an_agent_below_another_has_its_own_role", below),
    case("an_agent_that_executes_itself_stays_one_instance", itself),
    case("what_ran_before_the_daemon_is_labelled_and_refused", before),
    case("a_path_in_a_mount_namespace_of_its_own_makes_no_agent", mounted),
];

fn scripts(shared: &mut Shared) -> Result<Outcome> {
    let place = place("scripts")?;
    let bot = place.join("bot");
    script(&bot, &format!("#!/bin/bash\n{TRY_CONNECT}\n"))?;
    let mut daemon = daemon(shared, agent("bot", &[format!("exe: {}", bot.display())]))?;
    let (_, text) = run(&[&bot.to_string_lossy()])?;
    ensure!(was_refused(&text)?, "the script's connect passed");
    let event = daemon.wait(0, "the exec of the script", |e| e["recognised"].is_string())?;
    ensure!(event["recognised"] == "script", "recognised by {}", event["recognised"]);
    ensure!(event["exe"].as_str().is_some_and(|exe| exe.ends_with("/bash")), "exe {}", event["exe"]);
    ensure!(event["script"] == bot.to_string_lossy().as_ref(), "script {}", event["script"]);
    let (_, text) = run(&["/bin/bash", "-c", TRY_CONNECT])?;
    ensure!(!was_refused(&text)?, "a shell that is nobody's was refused");
    let ended = daemon.wait(0, "the instance's end", |e| e["exit"]["instance_ended"] == true)?;
    ensure!(ended["instance"] == event["instance"], "another instance ended");
    let refusal = daemon.wait(0, "the refusal", |e| e["kind"] == "net_connect" && e["verdict"] == "deny")?;
    ensure!(refusal["instance"] == event["instance"] && refusal["decision"]["errno"] == "EPERM", "{refusal}");
    Ok(Outcome::Held)
}

fn executables(shared: &mut Shared) -> Result<Outcome> {
    let place = place("executables")?;
    let file = place.join("program");
    fs::copy("/bin/bash", &file)?;
    let daemon = daemon(shared, agent("bot", &[format!("exe: {}", file.display())]))?;
    let (link, hard) = (place.join("link"), place.join("hard"));
    symlink(&file, &link)?;
    fs::hard_link(&file, &hard)?;
    for name in [&file, &link, &hard] {
        let (_, text) = run(&[&name.to_string_lossy(), "-c", TRY_CONNECT])?;
        ensure!(was_refused(&text)?, "{} was not recognised", name.display());
    }
    let by_descriptor = format!("exec 5<{}; /proc/self/fd/5 -c '{TRY_CONNECT}'", file.display());
    let (_, text) = run(&["/bin/bash", "-c", &by_descriptor])?;
    ensure!(was_refused(&text)?, "through a descriptor it was not recognised");
    drop(daemon);
    Ok(Outcome::Held)
}

fn copies(shared: &mut Shared) -> Result<Outcome> {
    let place = place("copies")?;
    let (file, copy) = (place.join("program"), place.join("elsewhere"));
    fs::copy("/bin/bash", &file)?;
    fs::copy(&file, &copy)?;
    let _daemon = daemon(shared, agent("bot", &[format!("exe: {}", file.display())]))?;
    let (_, text) = run(&[&copy.to_string_lossy(), "-c", TRY_CONNECT])?;
    ensure!(!was_refused(&text)?, "a copy was taken for the agent");
    Ok(Outcome::Held)
}

fn replaced(shared: &mut Shared) -> Result<Outcome> {
    let place = place("replaced")?;
    let (file, new) = (place.join("program"), place.join("program.dpkg-new"));
    fs::copy("/bin/bash", &file)?;
    let _daemon = daemon(shared, agent("bot", &[format!("exe: {}", file.display())]))?;
    for _ in 0..5 {
        // As a package manager does it, and executed in the same breath: the daemon has had no time to look.
        fs::copy("/bin/bash", &new)?;
        let replace = format!("mv {0}.dpkg-new {0} && {0} -c '{TRY_CONNECT}'", file.display());
        let (_, text) = run(&["/bin/bash", "-c", &replace])?;
        ensure!(was_refused(&text)?, "the new file was not recognised");
    }
    Ok(Outcome::Held)
}

fn appears(shared: &mut Shared) -> Result<Outcome> {
    let place = place("appears")?;
    let file = place.join("later/bin/program");
    let _daemon = daemon(shared, agent("bot", &[format!("exe: {}", file.display())]))?;
    fs::create_dir_all(place.join("later/bin"))?;
    fs::copy("/bin/bash", &file)?;
    let (_, text) = run(&[&file.to_string_lossy(), "-c", TRY_CONNECT])?;
    ensure!(was_refused(&text)?, "the file that came later was not recognised");
    Ok(Outcome::Held)
}

fn cgroups(shared: &mut Shared) -> Result<Outcome> {
    let documents =
        [agent("unit", &["unit: case.service".into()]), agent("path", &["cgroup: /case/path".into()])]
            .concat();
    let daemon = daemon(shared, documents)?;
    let root = std::path::Path::new("/sys/fs/cgroup");
    for below in ["case.service", "case/path", "case/other"] {
        let cgroup = root.join(below);
        fs::create_dir_all(&cgroup)?;
        let enter = format!("echo $$ > {}/cgroup.procs; exec /bin/bash -c '{TRY_CONNECT}'", cgroup.display());
        let (_, text) = run(&["/bin/bash", "-c", &enter])?;
        ensure!(was_refused(&text)? != below.ends_with("other"), "{below}: {text}");
        fs::remove_dir(&cgroup)?;
    }
    fs::remove_dir(root.join("case"))?;
    drop(daemon);
    Ok(Outcome::Held)
}

fn requested(shared: &mut Shared) -> Result<Outcome> {
    let daemon = daemon(shared, agent("bot", &[]))?;
    let config = daemon.directory.to_string_lossy().into_owned();
    let chaperone = crate::harness::program("chaperone")?;
    let chaperone = chaperone.to_string_lossy();
    let as_bot = |command: &str| {
        run(&[&chaperone, "run", "--config", &config, "--agent", "bot", "--", "/bin/bash", "-c", command])
    };
    let (_, text) = as_bot(TRY_CONNECT)?;
    ensure!(was_refused(&text)?, "run did not make an agent");
    let (status, text) = as_bot(&format!("{chaperone} run --config {config} --agent bot -- true"))?;
    ensure!(status != Some(0) && text.contains("inside"), "run inside an instance: {status:?} {text}");
    let (status, text) = run(&[&chaperone, "run", "--config", &config, "--agent", "bto", "--", "/bin/true"])?;
    ensure!(status != Some(0) && text.contains("bot"), "no nearest name for a wrong one: {text}");
    Ok(Outcome::Held)
}

fn below(shared: &mut Shared) -> Result<Outcome> {
    let place = place("below")?;
    let (outer, inner) = (place.join("outer"), place.join("inner"));
    launcher(&outer)?;
    script(&inner, &format!("#!/bin/bash\n{TRY_CONNECT}\n"))?;
    let open =
        agent("inner", &[format!("exe: {}", inner.display())]).replace("default: deny", "default: allow");
    let documents = agent("outer", &[format!("exe: {}", outer.display())]) + &open;
    let mut daemon = daemon(shared, documents)?;
    let (_, text) = run(&[&outer.to_string_lossy(), &inner.to_string_lossy()])?;
    ensure!(!was_refused(&text)?, "the inner agent has its parent's authority");
    let first =
        daemon.wait(0, "the outer agent", |e| e["agent"] == "outer" && e["recognised"].is_string())?;
    let second =
        daemon.wait(0, "the inner agent", |e| e["agent"] == "inner" && e["recognised"].is_string())?;
    ensure!(second["parent_instance"] == first["instance"], "its parent instance is not recorded: {second}");
    let (_, text) = run(&[&outer.to_string_lossy(), "/bin/bash", "-c", TRY_CONNECT])?;
    ensure!(was_refused(&text)?, "the outer agent was not refused");
    Ok(Outcome::Held)
}

fn itself(shared: &mut Shared) -> Result<Outcome> {
    let place = place("itself")?;
    let file = place.join("program");
    fs::copy("/bin/bash", &file)?;
    let mut daemon = daemon(shared, agent("bot", &[format!("exe: {}", file.display())]))?;
    let name = file.to_string_lossy().into_owned();
    run(&[&name, "-c", &format!("{name} -c 'true'; exec {name} -c true")])?;
    let ended = |e: &serde_json::Value| e["exit"]["instance_ended"] == true;
    daemon.wait(0, "the instance's end", ended)?;
    let begun = |seen: &[serde_json::Value]| seen.iter().filter(|e| e["recognised"].is_string()).count();
    ensure!(begun(&daemon.seen) == 1, "{} instances began", begun(&daemon.seen));
    let from = daemon.seen.len();
    run(&[&name, "-c", &format!("/bin/sh -c '{name} -c true; true'; true")])?;
    daemon.settle()?;
    ensure!(begun(&daemon.seen[from..]) == 2, "through a shell it is a sub-agent, an instance of its own");
    Ok(Outcome::Held)
}

fn before(shared: &mut Shared) -> Result<Outcome> {
    let place = place("before")?;
    let (bot, go) = (place.join("bot"), place.join("go"));
    let child = format!("while [ ! -e {} ]; do sleep 0.1; done; {TRY_CONNECT}", go.display());
    script(
        &bot,
        &format!(
            "#!/bin/bash\n(setsid bash -c '{}' &)\nbash -c '{child}' 2>{}/out\nsleep 5\n",
            marked_command("before", 900),
            place.display()
        ),
    )?;
    let mut running = start(&[&bot.to_string_lossy()])?;
    let orphan = find_marked("before")?;
    let mut daemon = daemon(shared, agent("bot", &[format!("exe: {}", bot.display())]))?;
    let found = daemon.wait(0, "the agent that was found", |e| e["kind"] == "agent_found")?;
    ensure!(found["agent"] == "bot" && found["pid"] == running.id(), "{found}");
    ensure!(origin(&daemon.label(running.id())?) == "agent", "the running agent has no label");
    // Its parent had gone before anyone looked: what cannot be known is not claimed.
    let lost = daemon.label(orphan)?;
    fs::write(&go, "")?;
    let end = std::time::Instant::now() + Duration::from_secs(20);
    let mut text = String::new();
    while text.is_empty() && std::time::Instant::now() < end {
        thread::sleep(Duration::from_millis(100));
        text = fs::read_to_string(place.join("out")).unwrap_or_default();
    }
    ensure!(was_refused(&text)?, "a child that is older than the daemon was not refused");
    end_marked(orphan);
    drop(running.kill());
    drop(running.wait());
    ensure!(origin(&lost) != "-", "the orphan has no label at all");
    Ok(Outcome::Held)
}

fn mounted(shared: &mut Shared) -> Result<Outcome> {
    let place = place("mounted")?;
    let (file, other) = (place.join("program"), place.join("other"));
    fs::copy("/bin/bash", &file)?;
    fs::copy("/bin/bash", &other)?;
    let open = agent("bot", &[format!("exe: {}", file.display())]);
    let _daemon = daemon(shared, open)?;
    let mount = format!("mount --bind {} {2} && {2} -c '{1}'", other.display(), TRY_CONNECT, file.display());
    let (_, text) = run(&["unshare", "-m", "/bin/bash", "-c", &mount])?;
    ensure!(!was_refused(&text)?, "a file bound over the agent's path passed for the agent");
    let own = format!("{} -c '{TRY_CONNECT}'", file.display());
    let (_, text) = run(&["unshare", "-m", "/bin/bash", "-c", &own])?;
    ensure!(was_refused(&text)?, "the agent's own file was not recognised in another mount namespace");
    Ok(Outcome::Held)
}
