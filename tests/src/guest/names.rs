//! The names family: what the role names by its name is reached at the first packet, what it does not name is not, and
//! no lie about a name is believed.

mod asked;
mod elsewhere;
mod needed;
pub mod real;
pub mod spoken;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    case::{Case, Outcome, case},
    guest::Shared,
    harness::{Daemon, Start, script},
};

pub const CASES: &[Case<Shared>] = &[
    case("names_that_the_role_names_are_reached_at_the_first_packet", reached),
    case("names_wildcards_chains_ports_and_denied_prefixes_hold", held),
    case("names_of_answers_over_tcp_are_believed", asked::over_tcp),
    case("names_expire_and_outlive_the_daemon", expire),
    case("names_are_learnt_only_while_a_role_names_a_host", needed::attached),
    case("names_spoken_otherwise_than_allowed_are_refused", spoken::fronting),
    case("names_spoken_are_read_however_they_are_cut", spoken::forms),
    case("names_spoken_are_judged_by_mode_and_by_what_the_role_says", spoken::told),
    case("names_spoken_to_port_53_are_compared", spoken::to_port_53),
    case("names_spoken_by_every_way_of_sending_are_compared", spoken::every),
    case("names_spoken_on_a_socket_that_is_passed_are_compared", spoken::passed),
];

/// What user space makes of answers and files, and what other people's programs make of all of it.
pub const FURTHER: &[Case<Shared>] = &[
    case("names_of_liars_are_not_believed_and_each_is_counted", lies),
    case("names_are_asked_for_as_the_role_says", asked::as_the_role_says),
    case("names_of_a_containers_resolver_hold_where_the_settings_name_it", elsewhere::held),
    case("names_of_the_hosts_file_hold_as_it_stands", asked::by_file),
    case("names_spoken_by_other_peoples_clients_are_compared", spoken::clients),
    case("names_are_learnt_only_while_needed_also_unpinned", needed::unpinned),
    case("names_by_real_resolvers_and_clients_hold_at_the_first_packet", real::clients),
];

/// Fresh names, one after the other.
const FRESH: usize = 400;

/// What the cases' clients need: one connect by name or address, told by what came of it; a question by hand.
const CLIENT: &str = r#"
import errno, socket, struct, sys, os, time
def connect(to, port=9):
    try:
        socket.create_connection((to, port), 5).close()
        return "connected"
    except OSError as e:
        return {errno.EPERM: "refused", errno.ECONNREFUSED: "passed"}.get(e.errno, repr(e))
def wire(name):
    return b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0"
def question(name, id=7):
    return struct.pack(">HHHHHH", id, 0x100, 1, 0, 0, 0) + wire(name) + struct.pack(">HH", 1, 1)
def answer(name, address, id=7):
    return (struct.pack(">HHHHHH", id, 0x8180, 1, 1, 0, 0) + wire(name) + struct.pack(">HH", 1, 1)
        + b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 300, 4) + socket.inet_aton(address))
def asker():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(2)
    return s
def ask(name, server):
    s = asker()
    s.sendto(question(name), (server, 53))
    try:
        s.recv(2048)
    except OSError:
        pass
    time.sleep(0.05)
"#;

const RULES: &str = r#"
      - { to: "127.0.0.64/26:53", verdict: allow }
      - { to: "api.example.test:9", verdict: allow }
      - { to: "*.ERP.example.test:9", protocol: tcp, verdict: allow }
      - { to: "no.erp.example.test", verdict: deny }
      - { to: "127.99.0.0/16", verdict: deny }
      - { to: "127.0.0.1", protocol: udp, verdict: allow }
      - { to: "raw:*", verdict: allow }
"#;

const BOT: &str = "/run/chaperone-names";

/// An agent whose role has these rules.
fn documents(rules: &str) -> String {
    format!(
        "apiVersion: chaperone/v1\nkind: Agent\nmetadata: {{ name: bot }}\nspec: {{ owner: tests, role: bot, match: \
         [ {{ exe: {BOT} }} ] }}\n---\napiVersion: chaperone/v1\nkind: Role\nmetadata: {{ name: bot }}\nspec:\n  mode: \
         enforce\n  network:\n    default: deny\n    defaults: {{ unix: allow }}\n    rules:{rules}"
    )
}

/// An agent, its daemon, and the resolver that the host is configured for.
struct Stage {
    daemon: Daemon,
    bot: PathBuf,
    servers: Vec<Child>,
}

impl Stage {
    fn set(shared: &Shared, pinned: bool) -> Result<Self> {
        Self::with(shared, pinned, RULES)
    }

    fn with(shared: &Shared, pinned: bool, rules: &str) -> Result<Self> {
        Self::with_settings(shared, pinned, rules, "")
    }

    fn with_settings(shared: &Shared, pinned: bool, rules: &str, settings: &str) -> Result<Self> {
        fs::write(
            "/etc/resolv.conf",
            "options timeout:2 attempts:1\nnameserver 127.0.0.77\nnameserver 127.0.0.79\nnameserver 127.0.0.80\n",
        )?;
        let bot = PathBuf::from(BOT);
        script(&bot, "#!/bin/sh\nexec \"$@\"\n")?;
        let start = Start {
            documents: documents(rules),
            settings: settings.to_owned(),
            mode: Some(shared.mode.clone()),
            pinned,
            ..Start::default()
        };
        let mut stage = Self { daemon: Daemon::start(&start)?, bot, servers: Vec::new() };
        stage.serve("127.0.0.77:53", &[])?;
        Ok(stage)
    }

    /// Starts a name server that is nobody's agent.
    fn serve(&mut self, listen: &str, more: &[&str]) -> Result<()> {
        self.serve_in(&[], listen, more)
    }

    /// The same by way of another program, such as one that enters a namespace.
    fn serve_in(&mut self, before: &[&str], listen: &str, more: &[&str]) -> Result<()> {
        let this = std::env::current_exe()?.display().to_string();
        let words = [before, &[&this, "act", "dns", "--listen", listen]].concat();
        let mut server =
            Command::new(words[0]).args(&words[1..]).args(more).stdout(Stdio::piped()).spawn()?;
        let output = server.stdout.take().context("the server's output")?;
        self.servers.push(server);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line.trim() == "listening", "the name server said {line:?}");
        Ok(())
    }

    /// What a Python program says that the agent runs.
    fn bot(&self, program: &str) -> Result<String> {
        self.bot_by(&[], program)
    }

    fn bot_by(&self, before: &[&str], program: &str) -> Result<String> {
        let mut command = Command::new(&self.bot);
        command.args(before).args(["python3", "-c"]).arg(format!("{CLIENT}\n{program}"));
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        ensure!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
        Ok(text)
    }

    /// A counter of the kernel side.
    fn counter(&self, name: &str) -> Result<u64> {
        self.daemon.metrics()?.counter(name)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for server in &mut self.servers {
            drop(server.kill());
            drop(server.wait());
        }
        drop(fs::remove_file("/etc/resolv.conf"));
    }
}

fn reached(shared: &mut Shared) -> Result<Outcome> {
    let mut stage = Stage::set(shared, false)?;
    let text = stage.bot(&format!(
        "wrong = []\nfor n in range({FRESH}):\n  a = f'127-7-{{n // 200}}-{{n % 200 + 1}}'\n  \
         b = f'127-8-{{n // 200}}-{{n % 200 + 1}}'\n  \
         for name, wanted in ((f'n{{n}}-{{a}}.ttl900.erp.example.test', 'passed'), (f'n{{n}}-{{b}}.other.test', 'refused')):\n    \
         got = connect(name)\n    if got != wanted: wrong.append((name, got))\nprint(wrong[:5], len(wrong))"
    ))?;
    ensure!(text == "[] 0", "{FRESH} fresh names, and as many that the role does not name: {text}");
    ensure!(stage.counter("name_answers_believed")? >= 2 * FRESH as u64, "answers were not believed");
    let output = stage.daemon.cli(&["names", "-o", "json"])?;
    let shown: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).context("what names shows")?;
    ensure!(shown.len() == FRESH, "{} addresses are known by name", shown.len());
    let whole = |row: &serde_json::Value| {
        row["patterns"] == serde_json::json!(["*.erp.example.test"]) && row["resolver"] == "127.0.0.77"
    };
    ensure!(shown.iter().all(whole), "{:?}", shown.first());
    let event = stage.daemon.wait(0, "an allowed connect", |e| {
        e["kind"] == "net_connect" && e["decision"]["rule"]["text"] == "*.ERP.example.test:9 tcp allow"
    })?;
    ensure!(event["verdict"] == "allow", "{event}");
    Ok(Outcome::Held)
}

fn held(shared: &mut Shared) -> Result<Outcome> {
    let stage = Stage::set(shared, false)?;
    let mut wrong = Vec::new();
    for (to, port, wanted) in [
        ("api.example.test", 9, "passed"),
        ("API.Example.test.", 9, "passed"),
        ("api.example.test", 10, "refused"),
        ("erp.example.test", 9, "refused"),
        ("x-127-20-0-1.erp.example.test", 9, "passed"),
        ("x.y.erp.example.test", 9, "passed"),
        ("x-127-20-0-3.y.erp.example.test", 9, "passed"),
        ("x-127-20-0-4.erp.example.test.evil.test", 9, "refused"),
        ("x-127-20-0-5.notserp.example.test", 9, "refused"),
        ("c1-127-20-0-6.erp.example.test", 9, "passed"),
        ("edge.cdn.test", 9, "refused"),
        // A denied prefix goes before every name.
        ("x-127-99-0-7.erp.example.test", 9, "refused"),
        // What is known by no name.
        ("127.20.0.9", 9, "refused"),
        // The whole name goes before the wildcard.
        ("no.erp.example.test", 9, "refused"),
    ] {
        let got = stage.bot(&format!("print(connect({to:?}, {port}))"))?;
        if got != wanted {
            wrong.push(format!("{to}:{port} is {got}, not {wanted}"));
        }
        let explained =
            stage.daemon.cli(&["role", "explain", "--role", "bot", "--to", &format!("{to}:{port}")])?;
        let text = String::from_utf8_lossy(&explained.stdout).into_owned();
        let allowed = text.starts_with("allow");
        // Where the address decides, the name alone does not tell.
        if allowed != (wanted == "passed") && !to.contains("127-99") {
            wrong.push(format!("{to}:{port}: explain says {text}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(Outcome::Held)
}

fn lies(shared: &mut Shared) -> Result<Outcome> {
    let mut stage = Stage::set(shared, false)?;
    let mut wrong = Vec::new();
    // A server that nobody configured; each lie of a configured one; agents' own servers.
    stage.serve("127.0.0.78:53", &[])?;
    let servers = [
        ("an unconfigured server", "name_answers_unconfigured", "127.0.0.78", None),
        ("another id", "name_answers_unasked", "127.0.0.79", Some("id")),
        ("another question", "name_answers_other_question", "127.0.0.79", Some("question")),
        ("a cut message", "name_answers_malformed", "127.0.0.79", Some("cut")),
    ];
    for (at, (what, counter, server, lie)) in servers.into_iter().enumerate() {
        if let Some(lie) = lie {
            stage.serve("127.0.0.79:53", &["--lie", lie])?;
        }
        let counted = stage.counter(counter)?;
        let name = format!("l-127-40-0-{}.erp.example.test", at + 1);
        let got = stage.bot(&format!("ask({name:?}, {server:?})\nprint(connect('127.40.0.{}'))", at + 1))?;
        if got != "refused" || stage.counter(counter)? == counted {
            wrong.push(format!("{what}: {got}"));
        }
        if lie.is_some()
            && let Some(mut server) = stage.servers.pop()
        {
            server.kill()?;
            server.wait()?;
        }
    }
    stage.serve("127.0.0.79:53", &["--lie", "twice"])?;
    for (what, counter, before, program) in [
        ("an answer that nobody asked for", "name_answers_unasked", &[][..],
            "ask('t-127-41-0-1.erp.example.test', '127.0.0.79')\nprint(connect('127.66.6.6'), connect('127.41.0.1'))".to_owned()),
        ("an agent's own server", "name_answers_by_agent", &[], OWN_SERVER.replace("ADDRESS", "127.42.0.1")),
        ("a server in a namespace of its own", "name_answers_unconfigured", &["unshare", "-Urn"], in_own_namespace()),
        ("a raw socket", "name_answers_forged", &[], RAW.to_owned()),
    ] {
        let counted = stage.counter(counter)?;
        let got = stage.bot_by(before, &program)?;
        let wanted = if what.starts_with("an answer") { "refused passed" } else { "refused" };
        if got != wanted || stage.counter(counter)? == counted {
            wrong.push(format!("{what}: {got}, {counter} was {counted}"));
        }
    }
    // What an agent's namespace learnt is nothing here.
    let got = stage.bot("print(connect('127.43.0.1'))")?;
    if got != "refused" {
        wrong.push(format!("from the host, after the namespace: {got}"));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    if stage.bot("print(connect('k-127-44-0-1.erp.example.test'))")? != "passed" {
        bail!("the truth is not believed any more");
    }
    Ok(Outcome::Held)
}

/// The agent is the resolver that the host is configured for, and answers itself.
const OWN_SERVER: &str = "
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('127.0.0.80', 53))
s = asker()
s.sendto(question('o.erp.example.test'), ('127.0.0.80', 53))
data, who = server.recvfrom(2048)
server.sendto(answer('o.erp.example.test', 'ADDRESS'), who)
s.recv(2048)
print(connect('ADDRESS'))";

fn in_own_namespace() -> String {
    let up = "import subprocess\nsubprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)\n";
    format!("{up}{}", OWN_SERVER.replace("ADDRESS", "127.43.0.1").replace("127.0.0.80", "127.0.0.77"))
}

/// A packet by hand, from a resolver's address that nobody serves.
const RAW: &str = "
s = asker()
s.bind(('127.0.0.1', 0))
s.sendto(question('r.erp.example.test'), ('127.0.0.80', 53))
port = s.getsockname()[1]
data = answer('r.erp.example.test', '127.45.0.1')
udp = struct.pack('>HHHH', 53, port, 8 + len(data), 0) + data
ip = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton('127.0.0.80'), socket.inet_aton('127.0.0.1'))
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
raw.sendto(ip + udp, ('127.0.0.1', 0))
time.sleep(0.2)
print(connect('127.45.0.1'))";

fn expire(shared: &mut Shared) -> Result<Outcome> {
    let mut stage = Stage::set(shared, true)?;
    let got = stage.bot(
        "print(connect('e-127-50-0-1.erp.example.test'), connect('e-127-50-0-3.ttl900.erp.example.test'))",
    )?;
    ensure!(got == "passed passed", "the named hosts are {got}");
    stage.daemon.crash()?;
    let got = stage.bot("print(connect('127.50.0.3'), connect('f-127-50-0-2.erp.example.test'))")?;
    ensure!(got == "passed passed", "without the daemon: {got}");
    stage.daemon.restart(&[])?;
    let got = stage.bot("print(connect('127.50.0.3'))")?;
    ensure!(got == "passed", "after a restart: {got}");
    // A name is known for a minute more than its answer says, here at most a second.
    std::thread::sleep(std::time::Duration::from_secs(63));
    let got = stage.bot("print(connect('127.50.0.1'), connect('g-127-50-0-1.erp.example.test'))")?;
    ensure!(got == "refused passed", "a minute later: {got}");
    Ok(Outcome::Held)
}
