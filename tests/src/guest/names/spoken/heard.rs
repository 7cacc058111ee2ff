//! The other end of what is spoken: a server of TLS and HTTP at every address of this host, of both protocols, that
//! writes down what came to each.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

/// Answers `heard` to whoever has asked, over TLS or without.
pub struct Heard {
    server: Child,
}

impl Heard {
    /// Starts it, as nobody's agent, and routes the addresses of IPv6 here that names of the tests have.
    pub fn start() -> Result<Self> {
        run("ip", &["-6", "route", "replace", "local", V6, "dev", "lo"])?;
        let key = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=heard -keyout \
                   /run/heard.key -out /run/heard.crt";
        run("openssl", &key.split_whitespace().collect::<Vec<_>>())?;
        let mut server = Command::new("python3").args(["-c", SERVER, FILE]).stdout(Stdio::piped()).spawn()?;
        let output = server.stdout.take().context("its output")?;
        let heard = Self { server };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line.trim() == "listening", "the server said {line:?}");
        Ok(heard)
    }

    /// What came to each address so far: lines of an address and `bytes`, or `tls` or `http` and a name.
    pub fn lines(&self) -> Result<Vec<String>> {
        // What is under way may still arrive.
        std::thread::sleep(ARRIVES_MAX);
        let text = fs::read_to_string(FILE).context("read what was heard")?;
        Ok(text.lines().map(ToOwned::to_owned).collect())
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
        drop(run("ip", &["-6", "route", "del", "local", V6, "dev", "lo"]));
        for file in [FILE, "/run/heard.key", "/run/heard.crt"] {
            drop(fs::remove_file(file));
        }
    }
}

fn run(program: &str, words: &[&str]) -> Result<()> {
    let output = Command::new(program).args(words).output().with_context(|| format!("run {program}"))?;
    ensure!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Where the tests' name server puts names that are asked for by IPv6.
const V6: &str = "fd78::/64";
const FILE: &str = "/run/heard";
const ARRIVES_MAX: Duration = Duration::from_secs(2);

const SERVER: &str = r#"
import socket, ssl, sys, threading
said = open(sys.argv[1], 'w', buffering=1)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain('/run/heard.crt', '/run/heard.key')
tls.sni_callback = lambda s, name, _: setattr(s, 'name_said', name)
ANSWER = b'HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nheard'
def request(c):
    got = b''
    while b'\r\n\r\n' not in got:
        more = c.recv(4096)
        if not more: break
        got += more
    return got
def one(c):
    at = c.getsockname()[0].replace('::ffff:', '')
    try:
        c.settimeout(30)
        first = c.recv(1, socket.MSG_PEEK)
        if not first: return
        said.write(f'{at} bytes\n')
        if first == b'\x16':
            c = tls.wrap_socket(c, server_side=True)
            said.write(f'{at} tls {getattr(c, "name_said", None)}\n')
            request(c)
        else:
            hosts = [l[5:].strip() for l in request(c).decode('latin1').split('\r\n') if l.lower().startswith('host:')]
            said.write(f'{at} http {" ".join(hosts)}\n')
        c.sendall(ANSWER)
    except OSError: pass
    finally: c.close()
s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
# TCP_FASTOPEN
s.setsockopt(socket.IPPROTO_TCP, 23, 16)
s.bind(('::', 443)); s.listen(64)
print('listening', flush=True)
while True:
    threading.Thread(target=one, args=(s.accept()[0],), daemon=True).start()
"#;
