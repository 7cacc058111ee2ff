//! The net family: what the role names is reached, what it does not name gets nothing out, and both are told.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::endpoints,
    case::{Case, Outcome, case},
    guest::{Shared, process},
    harness::{Daemon, Start, program, script},
};

pub const CASES: &[Case<Shared>] = &[
    case("no_way_out_passes_that_the_role_does_not_name", not_named),
    case("every_way_out_that_the_role_names_arrives", named),
    case("explain_and_the_kernel_agree", explained),
    case("alert_and_observe_let_pass_and_tell", softened),
    case("a_verdict_is_counted", counted),
];

pub const HOST_CASES: &[Case<()>] = &[
    case("cgroup_mode_refuses_and_allows_within_its_scope", scoped),
    case("doctor_says_what_this_host_gives", doctor),
];

fn ways(shared: &Shared, named: bool) -> Result<Outcome> {
    let lines = endpoints::lines(&shared.mode, named, &[])?;
    let wrong: Vec<String> = lines
        .iter()
        .filter(|line| !line.good)
        .map(|line| {
            format!("{} is {} ({:?}, {:?})", line.way, line.got, line.errno, line.received).to_lowercase()
        })
        .collect();
    ensure!(wrong.is_empty(), "{} of {}: {}", wrong.len(), lines.len(), wrong.join(", "));
    let tried = lines.iter().filter(|line| line.got != "unsupported").count();
    ensure!(tried > 100, "only {tried} ways could be tried");
    Ok(Outcome::Held)
}

fn not_named(shared: &mut Shared) -> Result<Outcome> {
    ways(shared, false)
}

fn named(shared: &mut Shared) -> Result<Outcome> {
    ways(shared, true)
}

const RULES: &str = r#"    rules:
      - { to: 127.0.0.0/8:9, protocol: tcp, verdict: allow }
      - { to: 127.0.1.0/24, verdict: deny }
      - { to: 127.0.1.7, verdict: allow }
      - { to: "127.0.2.1:9", protocol: udp, verdict: allow }
      - { to: "[::1]:9", verdict: alert }
"#;

/// Endpoints whose answers differ by prefix, port, protocol and family.
const ENDPOINTS: &[&str] = &[
    "127.0.0.1:9",
    "127.0.0.1:10",
    "127.0.1.1:9",
    "127.0.1.7:9",
    "127.0.1.7:11",
    "127.0.2.1:9",
    "127.0.2.1:12",
    "[::1]:9",
    "[::1]:10",
];

fn explained(shared: &mut Shared) -> Result<Outcome> {
    let bot = PathBuf::from("/run/chaperone-explained");
    script(&bot, "#!/bin/sh\nexec \"$@\"\n")?;
    let documents = agent(&bot, "enforce", RULES);
    let mut daemon =
        Daemon::start(&Start { documents, mode: Some(shared.mode.clone()), ..Start::default() })?;
    let own = std::env::current_exe()?;
    for (way, protocol) in [("tcp", "tcp"), ("udp", "udp")] {
        for to in ENDPOINTS {
            let way = format!(
                "{way}{}{}",
                if to.starts_with('[') { 6 } else { 4 },
                if way == "udp" { "-sendto" } else { "" }
            );
            let output = daemon.cli(&[
                "role",
                "explain",
                "--role",
                "bot",
                "--to",
                to,
                "--protocol",
                protocol,
                "-o",
                "json",
            ])?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let explained: serde_json::Value =
                serde_json::from_str(&text).with_context(|| format!("explain said {text}"))?;
            let from = daemon.seen.len();
            Command::new(&bot).arg(&own).args(["act", &way, "--to", to]).output()?;
            let event = daemon.wait(from, &format!("{way} {to}"), |e| e["network"].is_object())?;
            ensure!(
                explained["verdict"] == event["verdict"],
                "{way} {to}: explain says {}, the kernel {}",
                explained["verdict"],
                event["verdict"]
            );
        }
    }
    Ok(Outcome::Held)
}

fn softened(shared: &mut Shared) -> Result<Outcome> {
    for (mode, verdict) in [("alert", "alert"), ("observe", "allow")] {
        let bot = PathBuf::from("/run/chaperone-softened");
        script(&bot, &format!("#!/bin/bash\n{}\n", process::TRY_CONNECT))?;
        let documents = agent(&bot, mode, "    rules: []\n");
        let mut daemon =
            Daemon::start(&Start { documents, mode: Some(shared.mode.clone()), ..Start::default() })?;
        let output = Command::new(&bot).output()?;
        ensure!(!process::was_refused(&String::from_utf8_lossy(&output.stderr))?, "{mode} refused");
        let event = daemon.wait(0, "the connect", |e| e["kind"] == "net_connect")?;
        ensure!(event["verdict"] == verdict, "{mode}: {}", event["verdict"]);
        ensure!(event["decision"]["wanted"] == "deny", "what the rule wanted is not told: {event}");
    }
    Ok(Outcome::Held)
}

fn counted(shared: &mut Shared) -> Result<Outcome> {
    let bot = PathBuf::from("/run/chaperone-counted");
    script(&bot, &format!("#!/bin/bash\n{0}\n{0}\n{0}\n", format!("({})", process::TRY_CONNECT)))?;
    let documents = agent(&bot, "enforce", "    rules: []\n");
    let mut daemon =
        Daemon::start(&Start { documents, mode: Some(shared.mode.clone()), ..Start::default() })?;
    Command::new(&bot).output()?;
    daemon.settle()?;
    let denied = "chaperone_verdicts_total{agent=\"bot\",role=\"bot\",verdict=\"deny\"}";
    ensure!(daemon.metrics()?.value(denied)? == 3.0, "another number of verdicts");
    Ok(Outcome::Held)
}

fn agent(bot: &Path, mode: &str, rules: &str) -> String {
    format!(
        "apiVersion: chaperone/v1\nkind: Agent\nmetadata: {{ name: bot }}\nspec: {{ owner: tests, role: bot, match: \
         [ {{ exe: {} }} ] }}\n---\napiVersion: chaperone/v1\nkind: Role\nmetadata: {{ name: bot }}\nspec:\n  mode: \
         {mode}\n  network:\n    default: deny\n    defaults: {{ unix: allow }}\n{rules}",
        bot.display()
    )
}

/// A cgroup of the test's own; removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let root = mounts
            .lines()
            .find(|line| line.contains(" - cgroup2 "))
            .and_then(|line| line.split(' ').nth(4))
            .context("no cgroup v2 hierarchy is mounted")?;
        let path = Path::new(root).join(format!("chaperone-host-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }

    /// A shell that joins the cgroup and then executes.
    fn shell(&self, command: &str) -> Result<String> {
        let join = format!("echo $$ > {}/cgroup.procs; exec {command}", self.0.display());
        let output = Command::new("/bin/bash").args(["-c", &join]).output()?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.0));
    }
}

fn scoped(_: &mut ()) -> Result<Outcome> {
    let place = std::env::temp_dir().join(format!("chaperone-host-{}", std::process::id()));
    fs::create_dir_all(&place)?;
    let bot = place.join("bot");
    script(&bot, "#!/bin/bash\n\"$@\"\n")?;
    let cgroup = Cgroup::make()?;
    let rules = "    rules: [ { to: \"127.0.0.8:9\", verdict: allow } ]\n";
    let start = Start {
        documents: agent(&bot, "enforce", rules),
        mode: Some("cgroup".to_owned()),
        scope: Some(cgroup.0.clone()),
        ..Start::default()
    };
    let mut daemon = Daemon::start(&start)?;
    let by_bot = |command: &str| cgroup.shell(&format!("{} {command}", bot.display()));
    let connect = |to: &str| format!("/bin/bash -c 'exec 3<>/dev/tcp/{to}/9'");
    ensure!(process::was_refused(&by_bot(&connect("127.0.0.9"))?)?, "the agent's connect passed");
    ensure!(!process::was_refused(&by_bot(&connect("127.0.0.8"))?)?, "the named endpoint was refused");
    ensure!(!process::was_refused(&cgroup.shell(&connect("127.0.0.9"))?)?, "who is nobody's was refused");
    let own = std::env::current_exe()?;
    for way in
        ["udp4-sendto", "udp6-sendto", "udp4-unspec", "raw4-icmp", "uring-connect", "tcp4-fastopen-sendto"]
    {
        let text = by_bot(&format!("{} act {way} --port 9", own.display()))?;
        ensure!(text.contains("\"refused\"") || text.contains("\"unsupported\""), "{way} passed: {text}");
    }
    let event = daemon.wait(0, "the refusal", |e| e["verdict"] == "deny" && e["kind"] == "net_connect")?;
    ensure!(event["decision"]["place"] == "cgroup", "{event}");
    // Nobody outside the scope is looked at.
    let outside = Command::new(&bot).args(["/bin/bash", "-c", process::TRY_CONNECT]).output()?;
    ensure!(!process::was_refused(&String::from_utf8_lossy(&outside.stderr))?, "the scope leaks");
    daemon.settle()?;
    let all: Vec<_> = daemon.seen.iter().filter(|e| e["origin"].is_string()).collect();
    ensure!(all.iter().all(|e| e["origin"] == "agent" || e["origin"] == "human"), "{} events", all.len());
    drop(daemon);
    drop(fs::remove_dir_all(&place));
    Ok(Outcome::Held)
}

fn doctor(_: &mut ()) -> Result<Outcome> {
    let output = Command::new(program("chaperone")?).arg("doctor").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lsm = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let mode = if lsm.split(',').any(|module| module.trim() == "bpf") { "lsm mode" } else { "cgroup mode" };
    ensure!(text.contains(mode), "doctor does not say {mode}: {text}");
    ensure!(mode == "lsm mode" || text.contains("not seen"), "the gaps of cgroup mode are not named: {text}");
    Ok(Outcome::Held)
}
