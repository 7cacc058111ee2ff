//! What a connection says first, compared with the names that the role allows: the segment that says another one never
//! leaves.

mod clients;
mod heard;
mod ways;

use anyhow::{Result, ensure};

pub use self::{
    clients::{by_node, clients},
    ways::{every, passed},
};
use super::Stage;
use crate::{case::Outcome, guest::Shared};

const RULES: &str = r#"
      - { to: "127.0.0.64/26:53", verdict: allow }
      - { to: "*.erp.example.test:443", verdict: allow }
"#;

/// A server that echoes what comes, a ClientHello by hand, and what becomes of some bytes on a connection by name.
const SAY: &str = r#"
import threading
def serve(port=443, at='0.0.0.0'):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((at, port)); s.listen(64)
    def echo(c):
        try:
            while True:
                d = c.recv(65536)
                if not d: break
                c.sendall(d)
        except OSError: pass
        c.close()
    def accept():
        while True:
            c, _ = s.accept()
            threading.Thread(target=echo, args=(c,), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
def hello(name=None, more=(), record=16384):
    ext = list(more)
    if name is not None:
        n = name.encode()
        ext.insert(0, (0, struct.pack('>HBH', len(n) + 3, 0, len(n)) + n))
    e = b''.join(struct.pack('>HH', k, len(d)) + d for k, d in ext)
    b = b'\3\3' + b'\7' * 32 + b'\0' + b'\0\2\x13\1' + b'\1\0' + struct.pack('>H', len(e)) + e
    m = b'\1' + struct.pack('>I', len(b))[1:] + b
    return b''.join(b'\x16\3\1' + struct.pack('>H', len(m[i:i+record])) + m[i:i+record] for i in range(0, len(m), record))
def say(to, parts, port=443, wait=4.0):
    if isinstance(parts, bytes): parts = [parts]
    try:
        s = socket.create_connection((to, port), 5)
    except OSError as e:
        return 'connect ' + errno.errorcode.get(e.errno, repr(e))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.settimeout(wait)
    want = sum(map(len, parts)); got = 0
    try:
        for p in parts:
            s.sendall(p)
            if len(parts) > 1: time.sleep(0.002)
        while got < want:
            d = s.recv(65536)
            if not d: break
            got += len(d)
    except OSError: pass
    s.close()
    return 'all' if got == want else str(got)
"#;

/// Serves in a process of nobody's.
fn serve(at: &str) -> Result<std::process::Child> {
    let program =
        format!("{}\n{SAY}\nserve({at})\nprint('ready', flush=True)\ntime.sleep(600)", super::CLIENT);
    let mut server = std::process::Command::new("python3")
        .args(["-c", &program])
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(output) = server.stdout.take() {
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)?;
    }
    ensure!(line.trim() == "ready", "the server said {line:?}");
    Ok(server)
}

/// With a role and a server of nobody's that echoes.
fn with_server(shared: &Shared, rules: &str, then: impl FnOnce(&mut Stage) -> Result<()>) -> Result<Outcome> {
    with_server_at(shared, rules, "", then)
}

/// The same, not at port 443 of every address.
fn with_server_at(
    shared: &Shared,
    rules: &str,
    at: &str,
    then: impl FnOnce(&mut Stage) -> Result<()>,
) -> Result<Outcome> {
    let mut stage = Stage::with(shared, false, rules)?;
    let mut server = serve(at)?;
    let held = then(&mut stage);
    server.kill()?;
    server.wait()?;
    held.map(|()| Outcome::Held)
}

pub fn fronting(shared: &mut Shared) -> Result<Outcome> {
    with_server(shared, RULES, |stage| {
        let from = stage.daemon.seen.len();
        let got = stage.bot(&format!(
            "{SAY}\nname = 'a-127-70-0-1.erp.example.test'\nprint(say(name, hello('b.erp.example.test')), say(name, \
             hello('evil.test')))"
        ))?;
        ensure!(got == "all 0", "an allowed name and another one: {got}");
        let event = stage.daemon.wait(from, "what was spoken", |e| e["kind"] == "spoken")?;
        ensure!(
            event["verdict"] == "deny"
                && event["spoken"]["finding"] == "mismatch"
                && event["tls"]["server_name"] == "evil.test"
                && event["network"]["address"] == "127.70.0.1"
                && event["decision"]["source"] == "spoken"
                && event["agent"] == "bot",
            "{event}"
        );
        ensure!(stage.counter("spoken_met")? >= 1 && stage.counter("spoken_unmet")? == 1, "counters");
        ensure!(stage.counter("spoken_segments_dropped")? >= 1, "nothing was dropped");
        // Over UDP nothing is read, and that is told.
        stage.bot("s = asker()\ns.connect(('a-127-70-0-1.erp.example.test', 443))\ns.send(b'QUIC')")?;
        for (protocol, unread) in [("udp", true), ("tcp", false)] {
            let event = stage.daemon.wait(from, protocol, |e| {
                let network = &e["network"];
                let there = network["address"] == "127.70.0.1" && network["port"] == 443;
                e["kind"] == "net_connect" && there && network["protocol"] == protocol
            })?;
            ensure!(event["verdict"] == "allow" && (event["network"]["unread"] == true) == unread, "{event}");
        }
        Ok(())
    })
}

/// A connection by name to the port of resolvers is one like any other; a question there is neither TLS nor HTTP.
pub fn to_port_53(shared: &mut Shared) -> Result<Outcome> {
    let rules =
        format!("{RULES}      - {{ to: \"*.dns.example.test:53\", protocol: tcp, verdict: allow }}\n");
    with_server_at(shared, &rules, "53, '127.76.0.1'", |stage| {
        let from = stage.daemon.seen.len();
        let got = stage.bot(&format!(
            "{SAY}\nname = 'd-127-76-0-1.dns.example.test'\nasks = question('a.test')\nasks = struct.pack('>H', \
             len(asks)) + asks\nprint(*[say(name, what, port=53) for what in (hello('b.dns.example.test'), \
             hello('evil.test'), asks)])"
        ))?;
        ensure!(got == "all 0 all", "an allowed name, another one and a question: {got}");
        for (finding, verdict) in [("mismatch", "deny"), ("other", "allow")] {
            let event = stage
                .daemon
                .wait(from, finding, |e| e["kind"] == "spoken" && e["spoken"]["finding"] == finding)?;
            ensure!(event["verdict"] == verdict && event["network"]["port"] == 53, "{event}");
        }
        Ok(())
    })
}

/// What is said, how it is cut, and whether it comes through.
const FORMS: &[(&str, &str, bool)] = &[
    ("in two segments, cut in the name", "cut(hello('b.erp.example.test'), 70)", true),
    ("another name, cut in it", "cut(hello('evil.test'), 65)", false),
    ("byte by byte", "[bytes([b]) for b in hello('b.erp.example.test')]", true),
    ("another name byte by byte", "[bytes([b]) for b in hello('evil.test')]", false),
    ("in records of 20 bytes", "hello('b.erp.example.test', record=20)", true),
    ("another name in records of 20 bytes", "hello('evil.test', record=20)", false),
    ("behind 4 kB of another extension", "hello('b.erp.example.test', [(21, bytes(4000))])", true),
    ("another name behind 4 kB", "hello(None, [(21, bytes(4000)), (0, sni('evil.test'))])", false),
    ("more than is read", "hello(None, [(21, bytes(12000)), (0, sni('b.erp.example.test'))])", false),
    ("a name of another port's rule", "hello('other.test')", false),
    ("a name that is denied", "hello('no.erp.example.test')", false),
    ("no name", "hello()", false),
    ("two names", "hello('b.erp.example.test', [(0, sni('evil.test'))])", false),
    ("an encrypted one beside an allowed name", "hello('b.erp.example.test', [(0xfe0d, bytes(90))])", false),
    ("another protocol", "b'SSH-2.0-test\\r\\n'", true),
    ("a request", "b'GET / HTTP/1.1\\r\\nhost: B.erp.example.test:443\\r\\n\\r\\n'", true),
    ("a request for another host", "b'GET / HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n'", false),
    ("a request to go on to another host", "b'CONNECT evil.test:443 HTTP/1.1\\r\\n\\r\\n'", false),
    ("a request without a host", "b'GET / HTTP/1.0\\r\\n\\r\\n'", false),
    ("two hosts", "b'GET / HTTP/1.1\\r\\nHost: b.erp.example.test\\r\\nHost: evil.test\\r\\n\\r\\n'", false),
];

const MORE: &str = "
def cut(b, at): return [b[:at], b[at:]]
def sni(name):
    n = name.encode()
    return struct.pack('>HBH', len(n) + 3, 0, len(n)) + n
";

pub fn forms(shared: &mut Shared) -> Result<Outcome> {
    let rules = format!(
        "{RULES}      - {{ to: \"other.test:80\", verdict: allow }}\n      - {{ to: \"no.erp.example.test\", verdict: \
         deny }}\n      - {{ to: \"127.71.9.0/24\", verdict: allow }}\n"
    );
    with_server(shared, &rules, |stage| {
        let mut wrong = Vec::new();
        for (at, (what, said, passes)) in FORMS.iter().enumerate() {
            let got = stage
                .bot(&format!("{SAY}{MORE}\nprint(say('f-127-71-0-{}.erp.example.test', {said}))", at + 1))?;
            if (got == "all") != *passes {
                wrong.push(format!("{what}: {got}"));
            }
        }
        let got = stage.bot(&format!("{SAY}\nprint(say('127.71.9.1', hello('evil.test')))"))?;
        if got != "all" {
            wrong.push(format!("to an address that a rule allows: {got}"));
        }
        for (what, more) in [("fast open", FAST_OPEN), ("a child's", CHILD), ("sendfile", SENDFILE)] {
            let got = stage.bot(&format!("{SAY}{MORE}{more}"))?;
            if got != "0 all" {
                wrong.push(format!("{what}: {got}"));
            }
        }
        // A person says what he likes.
        let person = format!("{}\n{SAY}\nprint(say('127.71.0.1', hello('evil.test')))", super::CLIENT);
        let output = std::process::Command::new("python3").args(["-c", &person]).output()?;
        if output.stdout != b"all\n" {
            wrong.push(format!("a person: {output:?}"));
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(())
    })
}

/// Data with the connect itself.
const FAST_OPEN: &str = "
def fast(name):
    to = socket.gethostbyname('o-127-71-1-1.erp.example.test')
    s = socket.socket()
    s.sendto(hello(name), socket.MSG_FASTOPEN, (to, 443))
    s.settimeout(4)
    try: return 'all' if len(s.recv(65536)) == len(hello(name)) else 'part'
    except OSError: return '0'
print(fast('evil.test'), fast('b.erp.example.test'))";

/// A process that has the socket from another one.
const CHILD: &str = "
def child(name):
    s = socket.create_connection(('c-127-71-1-2.erp.example.test', 443), 5)
    s.settimeout(4)
    if os.fork() == 0:
        s.sendall(hello(name)); os._exit(0)
    os.wait()
    try: return 'all' if len(s.recv(65536)) == len(hello(name)) else 'part'
    except OSError: return '0'
print(child('evil.test'), child('b.erp.example.test'))";

/// From a file, whose pages are not copied.
const SENDFILE: &str = "
def file(name):
    s = socket.create_connection(('s-127-71-1-3.erp.example.test', 443), 5)
    s.settimeout(4)
    with open('/run/spoken-hello', 'wb') as f: f.write(hello(name))
    with open('/run/spoken-hello', 'rb') as f: os.sendfile(s.fileno(), f.fileno(), 0, 4096)
    try: return 'all' if len(s.recv(65536)) == len(hello(name)) else 'part'
    except OSError: return '0'
print(file('evil.test'), file('b.erp.example.test'))";

/// A role that is only to alert, and one that says of each finding what becomes of it.
pub fn told(shared: &mut Shared) -> Result<Outcome> {
    with_server(shared, RULES, |stage| {
        let enforced = super::documents(RULES);
        let say = format!(
            "{SAY}\nn = 't-127-72-0-1.erp.example.test'\nprint(say(n, hello('evil.test')), say(n, \
             hello('b.erp.example.test', [(0xfe0d, bytes(90))])), say(n, b'SSH-2.0-x\\r\\n'))"
        );
        let roles = [
            (
                "alert",
                enforced.replace("mode: enforce", "mode: alert"),
                "all all all",
                ["alert", "alert", "allow"],
            ),
            ("observe", enforced.replace("mode: enforce", "mode: observe"), "all all all", ["allow"; 3]),
            ("enforce", enforced.clone(), "0 0 all", ["deny", "deny", "allow"]),
            (
                "its own",
                enforced.replace(
                    "    rules:",
                    "    spoken: { mismatch: alert, ech: allow, other: deny }\n    rules:",
                ),
                "all all 0",
                ["alert", "allow", "deny"],
            ),
        ];
        for (what, documents, wanted, verdicts) in roles {
            let from = stage.daemon.seen.len();
            stage.daemon.rewrite(&documents)?;
            if what != "enforce" || from > 0 {
                stage.daemon.wait(from, "the change", |e| e["kind"] == "policy_changed")?;
            }
            let got = stage.bot(&say)?;
            ensure!(got == wanted, "{what}: {got}");
            for (finding, verdict) in ["mismatch", "ech", "other"].into_iter().zip(verdicts) {
                let event = stage
                    .daemon
                    .wait(from, finding, |e| e["kind"] == "spoken" && e["spoken"]["finding"] == finding)?;
                ensure!(event["verdict"] == verdict, "{what}: {event}");
                ensure!((event["tls"]["ech"] == true) == (finding == "ech"), "{what}: {event}");
            }
        }
        Ok(())
    })
}
