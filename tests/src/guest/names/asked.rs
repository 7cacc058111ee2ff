//! Asking is an act of its own: told, judged by the role, and what was answered is told with the connect that follows.

use std::fs;

use anyhow::{Result, ensure};

use super::{RULES, Stage};
use crate::{case::Outcome, guest::Shared};

/// The usual rules, and what may be asked for beside what they name.
fn rules() -> String {
    let names = "\n  names:\n    default: deny\n    rules:\n      - { name: \"*.search.test\", verdict: allow }\n      \
                 - { name: secret.erp.example.test, verdict: deny }\n";
    format!("{}{names}", RULES.trim_end())
}

/// Ways to ask, each told by what came of it.
const ASKING: &str = r#"
import errno
def sent(send):
    try:
        send()
        return "sent"
    except OSError as e:
        return {errno.EPERM: "refused"}.get(e.errno, repr(e))
def of(name, server="127.0.0.77", make=asker, kind=1):
    return sent(lambda: make().sendto(question(name)[:-4] + struct.pack(">HH", kind, 1), (server, 53)))
def connected(name):
    s = asker()
    s.connect(("127.0.0.77", 53))
    return sent(lambda: s.send(question(name)))
def stream(name, split=False):
    s = socket.create_connection(("127.0.0.77", 53), 2)
    s.settimeout(4)
    data = question(name)
    data = struct.pack(">H", len(data)) + data
    if split:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            s.send(bytes([byte]))
    else:
        s.send(data)
    try:
        return "answered" if s.recv(2048) else "closed"
    except OSError:
        return "unanswered"
def with_options():
    s = asker()
    s.setsockopt(socket.IPPROTO_IP, 4, b"\x01\x01\x01\x00")
    return s
"#;

pub fn as_the_role_says(shared: &mut Shared) -> Result<Outcome> {
    let mut stage = Stage::with(shared, false, &rules())?;
    let mut wrong = Vec::new();
    for (what, ask, wanted) in [
        ("what a rule names", "of('api.example.test')", "sent"),
        ("in capitals", "of('API.Example.TEST')", "sent"),
        ("what lies below a wildcard", "of('a-127-50-0-1.erp.example.test')", "sent"),
        ("what may be asked for only", "of('x.search.test')", "sent"),
        ("what no rule names", "of('other.test')", "refused"),
        ("another type", "of('other.test', kind=16)", "refused"),
        ("the top of a wildcard", "of('erp.example.test')", "refused"),
        ("what a rule on asking refuses", "of('secret.erp.example.test')", "refused"),
        ("what a rule refuses to reach", "of('no.erp.example.test')", "refused"),
        ("by a socket that is connected", "connected('other.test')", "refused"),
        ("the same, named", "connected('api.example.test')", "sent"),
        ("over TCP", "stream('other.test')", "unanswered"),
        ("over TCP, named", "stream('api.example.test')", "answered"),
        ("over TCP, byte by byte", "stream('other.test', split=True)", "unanswered"),
        ("behind IP options", "of('other.test', make=with_options)", "refused"),
        ("no question at all", "sent(lambda: asker().sendto(b'exfiltrated', ('127.0.0.77', 53)))", "refused"),
        ("of another server", "of('other.test', '127.0.0.78')", "refused"),
        ("of another server, named", "of('api.example.test', '127.0.0.78')", "sent"),
        ("by the C library", "connect('a-127-51-0-1.erp.example.test')", "passed"),
    ] {
        let got = stage.bot(&format!("{ASKING}\nprint({ask})"))?;
        if got != wanted {
            wrong.push(format!("{what}: {got}, not {wanted}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    told(&mut stage)?;
    let many = "for n in range(120): of(f'x{n}.exfil.test')";
    stage.bot(&format!("{ASKING}\n{many}"))?;
    let channel = stage.daemon.wait(0, "a channel", |e| e["kind"] == "dns_channel")?;
    ensure!(
        channel["channel"]["domain"] == "exfil.test"
            && channel["channel"]["names"] == 100
            && channel["agent"] == "bot",
        "{channel}"
    );
    // A person asks what he wants, and nobody writes it down.
    stage.daemon.settle()?;
    let from = stage.daemon.seen.len();
    let mine = std::process::Command::new("python3")
        .arg("-c")
        .arg(format!("{}\n{ASKING}\nprint(of('other.test'))", super::CLIENT))
        .output()?;
    ensure!(mine.stdout == b"sent\n", "a person's question: {}", String::from_utf8_lossy(&mine.stdout));
    stage.daemon.settle()?;
    // What was refused over TCP is still sent again and told again: that is the agent's.
    let asked =
        stage.daemon.seen[from..].iter().any(|e| e["kind"] == "dns_query" && !e["instance"].is_string());
    ensure!(!asked, "a person's question was recorded");
    let explained = stage.daemon.cli(&["role", "explain", "--role", "bot", "--to", "name:other.test"])?;
    let text = String::from_utf8_lossy(&explained.stdout).into_owned();
    ensure!(text.starts_with("deny"), "explain says {text}");
    Ok(Outcome::Held)
}

/// What was told of it.
fn told(stage: &mut Stage) -> Result<()> {
    let refused = stage.daemon.wait(0, "a refused question", |e| {
        e["kind"] == "dns_query" && e["dns"]["name"] == "other.test" && e["dns"]["protocol"] == "udp"
    })?;
    ensure!(
        refused["verdict"] == "deny"
            && refused["decision"]["source"] == "default"
            && refused["decision"]["errno"] == "EPERM"
            && refused["dns"]["type"] == "A"
            && refused["dns"]["resolver"] == "127.0.0.77"
            && refused["dns"]["configured"] == true
            && refused["agent"] == "bot"
            && refused["instance"].is_string(),
        "{refused}"
    );
    let by_rule = stage.daemon.wait(0, "a question that a rule refuses", |e| {
        e["kind"] == "dns_query" && e["dns"]["name"] == "secret.erp.example.test"
    })?;
    ensure!(by_rule["decision"]["rule"]["text"] == "asking for secret.erp.example.test deny", "{by_rule}");
    stage.daemon.wait(0, "a question to another server", |e| {
        e["kind"] == "dns_query" && e["dns"]["configured"] == false && e["verdict"] == "allow"
    })?;
    stage.daemon.wait(0, "what is no question", |e| {
        e["kind"] == "dns_query" && e["unreadable"][0] == "dns.name" && e["verdict"] == "deny"
    })?;
    let answer = stage.daemon.wait(0, "an answer", |e| {
        e["kind"] == "dns_answer" && e["dns"]["answers"][0]["address"] == "127.51.0.1"
    })?;
    ensure!(
        answer["dns"]["name"] == "a-127-51-0-1.erp.example.test"
            && answer["dns"]["code"] == "NOERROR"
            && answer["dns"]["answers"][0]["ttl_s"] == 0,
        "{answer}"
    );
    let connect = stage.daemon.wait(0, "a connect to a name", |e| {
        e["kind"] == "net_connect" && e["network"]["address"] == "127.51.0.1"
    })?;
    ensure!(connect["network"]["name"] == "a-127-51-0-1.erp.example.test", "{connect}");
    Ok(())
}

/// A server that says of each answer that it is too long for a datagram.
pub fn over_tcp(shared: &mut Shared) -> Result<Outcome> {
    let mut stage = Stage::set(shared, false)?;
    for server in &mut stage.servers {
        server.kill()?;
        server.wait()?;
    }
    stage.serve("127.0.0.77:53", &["--lie", "short"])?;
    let mut got = Vec::new();
    for at in 1..=20 {
        got.push(stage.bot(&format!("print(connect('t-127-52-0-{at}.erp.example.test'))"))?);
    }
    let (wanted, counter) = match shared.mode.as_str() {
        // Whether the server on this host is an agent's cannot be known there.
        "cgroup" => ("refused", "name_answers_unattested"),
        _ => ("passed", "name_answers_believed"),
    };
    ensure!(got.iter().all(|got| got == wanted), "{got:?}");
    ensure!(stage.counter(counter)? >= 20 && stage.counter("name_answers_truncated")? >= 20, "not counted");
    Ok(Outcome::Held)
}

/// `/etc/hosts` gives names that no resolver is asked for, and takes them again.
pub fn by_file(shared: &mut Shared) -> Result<Outcome> {
    let before = fs::read_to_string(FILE).unwrap_or_default();
    let held = with_file(shared, &before);
    fs::write(FILE, before)?;
    held.map(|()| Outcome::Held)
}

fn with_file(shared: &Shared, before: &str) -> Result<()> {
    let write = |lines: &str| fs::write(FILE, format!("{before}\n{lines}"));
    write("127.53.0.1 api.example.test\n127.99.0.5 in.erp.example.test\n127.53.0.2 other.test\n")?;
    let mut stage = Stage::set(shared, true)?;
    let got =
        stage.bot("print(connect('api.example.test'), connect('127.53.0.1', 10), connect('other.test'))")?;
    ensure!(got == "passed refused refused", "at the start: {got}");
    // A denied prefix goes before every name, whoever says it.
    let got = stage.bot("print(connect('in.erp.example.test'))")?;
    ensure!(got == "refused", "in a denied prefix: {got}");
    let shown = stage.daemon.cli(&["names"])?;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    ensure!(text.contains("127.53.0.1") && text.contains("/etc/hosts"), "names shows {text}");
    let told = stage.daemon.wait(0, "a connect by the file's name", |e| {
        e["kind"] == "net_connect" && e["network"]["address"] == "127.53.0.1" && e["verdict"] == "allow"
    })?;
    ensure!(told["network"]["name"] == "api.example.test", "{told}");
    write("127.53.0.3 api.example.test\n")?;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !String::from_utf8_lossy(&stage.daemon.cli(&["names"])?.stdout).contains("127.53.0.3") {
        ensure!(std::time::Instant::now() < end, "the change of the file is not known");
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    let got = stage.bot("print(connect('api.example.test'), connect('127.53.0.1'))")?;
    ensure!(got == "passed refused", "after a change of the file: {got}");
    stage.daemon.crash()?;
    let got = stage.bot("print(connect('api.example.test'))")?;
    ensure!(got == "passed", "without the daemon: {got}");
    write("")?;
    stage.daemon.restart(&[])?;
    let got = stage.bot("print(connect('127.53.0.3'), connect('h-127-53-0-3.erp.example.test'))")?;
    ensure!(got == "refused passed", "gone from the file: {got}");
    Ok(())
}

const FILE: &str = "/etc/hosts";
