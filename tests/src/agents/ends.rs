//! The other ends: the scripted model, and two servers on loopback that write down whoever arrives.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

pub const MODEL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8089);
/// The server that the role names.
pub const NAMED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 8080);
/// The server that it does not name.
pub const UNNAMED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 3), 8081);

/// One connection that arrived.
#[derive(Debug, Clone)]
pub struct Hit {
    pub server: SocketAddrV4,
    /// The request's first line and headers; empty when nothing was sent.
    pub request: String,
}

impl Hit {
    /// Whether it is for this agent's page, and whether a person asked: theirs says so in its User-Agent.
    pub fn is(&self, server: SocketAddrV4, agent: &str, person: bool) -> bool {
        self.server == server
            && self.request.starts_with(&format!("GET /{agent} "))
            && self.request.contains(PERSON) == person
    }
}

/// What curl calls itself when a person runs it.
pub const PERSON: &str = "a-person";

/// The two servers; they end with this process.
pub struct Servers {
    hits: Arc<Mutex<Vec<Hit>>>,
}

impl Servers {
    pub fn start() -> Result<Self> {
        let hits = Arc::new(Mutex::new(Vec::new()));
        for server in [NAMED, UNNAMED] {
            let listener = TcpListener::bind(server).with_context(|| format!("listen at {server}"))?;
            let hits = Arc::clone(&hits);
            thread::spawn(move || {
                for connection in listener.incoming().flatten() {
                    let request = answer(connection);
                    if let Ok(mut hits) = hits.lock() {
                        hits.push(Hit { server, request });
                    }
                }
            });
        }
        Ok(Self { hits })
    }

    pub fn hits(&self) -> Vec<Hit> {
        self.hits.lock().map(|hits| hits.clone()).unwrap_or_default()
    }
}

/// Reads a request and answers it; gives what was read, however little that is.
fn answer(mut connection: TcpStream) -> String {
    drop(connection.set_read_timeout(Some(Duration::from_secs(10))));
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match connection.read(&mut buffer) {
            Ok(count @ 1..) => request.extend_from_slice(&buffer[..count]),
            _ => break,
        }
    }
    // Who has gone by now has still arrived.
    drop(connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n"));
    String::from_utf8_lossy(&request).into_owned()
}

/// The scripted model; it ends when dropped.
pub struct Model {
    child: Child,
    log: PathBuf,
}

impl Model {
    pub fn start(place: &Path, scripts: &Value) -> Result<Self> {
        let [program, script, log, ready] =
            ["model.py", "script.json", "model.ndjson", "ready"].map(|name| place.join(name));
        fs::write(&program, PROGRAM)?;
        fs::write(&script, scripts.to_string())?;
        let mut command = Command::new("python3");
        command.arg(&program).arg("--script").arg(&script).arg("--log").arg(&log);
        command.args(["--port", &MODEL.port().to_string(), "--ready"]).arg(&ready);
        let child = command.stdin(Stdio::null()).spawn().context("start the scripted model")?;
        let mut model = Self { child, log };
        let end = Instant::now() + READY_MAX;
        while !ready.exists() {
            if model.child.try_wait()?.is_some() || Instant::now() > end {
                bail!("the scripted model did not get ready");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(model)
    }

    /// The requests so far, each with what the agent told of the results.
    pub fn log(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.log).context("read what the model wrote down")?;
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        whole
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")))
            .collect()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const PROGRAM: &str = include_str!("../../agents/model_endpoint.py");
const READY_MAX: Duration = Duration::from_secs(60);
