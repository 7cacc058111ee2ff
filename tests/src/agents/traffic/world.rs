//! The names and servers that the runs reach, all on loopback.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// A resolver, and servers that end with this process.
pub struct World {
    resolver: Child,
}

impl World {
    pub fn start() -> Result<Self> {
        for (port, answer) in [(8080, page as fn(TcpStream)), (4444, shell)] {
            let listener =
                TcpListener::bind(("0.0.0.0", port)).with_context(|| format!("listen on {port}"))?;
            thread::spawn(move || {
                for connection in listener.incoming().flatten() {
                    thread::spawn(move || answer(connection));
                }
            });
        }
        let mut command = Command::new("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root"]);
        command.args(["--no-resolv", "--no-hosts", "--bind-interfaces", "--listen-address=127.0.0.1"]);
        command.args(NAMES.map(|(name, address)| format!("--host-record={name},{address}")));
        let resolver = command.stdin(Stdio::null()).spawn().context("start dnsmasq")?;
        fs::write("/etc/resolv.conf", "options timeout:10 attempts:1\nnameserver 127.0.0.1\n")?;
        let end = Instant::now() + Duration::from_secs(30);
        while UdpSocket::bind("127.0.0.1:53").is_ok() {
            ensure!(Instant::now() < end, "dnsmasq does not listen");
            thread::sleep(Duration::from_millis(100));
        }
        Ok(Self { resolver })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        drop(self.resolver.kill());
        drop(self.resolver.wait());
    }
}

/// A page, or a program where one is asked for.
fn page(mut connection: TcpStream) {
    drop(connection.set_read_timeout(Some(Duration::from_secs(10))));
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match connection.read(&mut buffer) {
            Ok(count @ 1..) => request.extend_from_slice(&buffer[..count]),
            _ => break,
        }
    }
    let body = if request.starts_with(b"GET /tool ") { "#!/bin/sh\nexit 0\n" } else { "hello\n" };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // Who has gone by now has still been here.
    drop(connection.write_all((head + body).as_bytes()));
}

/// The other end of a reverse shell: one command.
fn shell(mut connection: TcpStream) {
    drop(connection.write_all(b"exit\n"));
}

/// Those of usual work, then those of deviations.
const NAMES: [(&str, &str); 6] = [
    ("api.corp.example", "127.0.1.1"),
    ("git.corp.example", "127.0.1.2"),
    ("packages.example.org", "127.0.1.3"),
    ("artefacts.corp.example", "127.0.1.4"),
    ("drop.example.net", "127.0.9.9"),
    ("beacon.example.com", "127.0.9.10"),
];
