//! Clients of other people's: each reads names, one a line, and prints a name and what came of each connect.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// A client, as an agent runs it.
pub struct Client {
    pub name: &'static str,
    pub words: &'static [&'static str],
    /// Connects to every address of a name, not to the first that goes.
    pub every_address: bool,
    /// One process for all names.
    pub once: bool,
    /// A file without which it cannot be tried.
    pub needs: Option<&'static str>,
}

const SHELL: Client = Client { name: "", words: &[], every_address: false, once: false, needs: None };

pub const PYTHON: Client =
    Client { name: "python", words: &["python3", "-c", IN_PYTHON], every_address: true, once: true, ..SHELL };

/// Asks when a name is known for three seconds more at its resolver, and connects six later.
pub const AT_THE_END: Client =
    Client { name: "python, from the cache at its end", words: &["python3", "-c", LATE], ..PYTHON };

pub const NODE: Client = Client {
    name: "node",
    words: &[NODE_PROGRAM, "-e", IN_NODE],
    once: true,
    needs: Some(NODE_PROGRAM),
    ..SHELL
};

pub const CLIENTS: [Client; 8] = [
    PYTHON,
    Client { name: "curl", words: &["bash", "-c", IN_CURL], ..SHELL },
    Client { name: "getent", words: &["bash", "-c", BY_GETENT], every_address: true, ..SHELL },
    Client { name: "bash", words: &["bash", "-c", IN_BASH], ..SHELL },
    Client { name: "dig", words: &["bash", "-c", BY_DIG], every_address: true, ..SHELL },
    Client { name: "musl", words: &[MUSL], every_address: true, once: true, needs: Some(MUSL) },
    NODE,
    Client {
        name: "resolvectl",
        words: &["bash", "-c", BY_D_BUS],
        every_address: true,
        needs: Some(D_BUS),
        ..SHELL
    },
];

/// On the disk of real agents.
const NODE_PROGRAM: &str = "/opt/agents/bin/node";
/// In guests with systemd.
const D_BUS: &str = "/run/dbus/system_bus_socket";
const MUSL: &str = "/usr/local/bin/chaperone-musl";

impl Client {
    /// Whether this guest has it.
    pub fn is_here(&self) -> bool {
        self.needs.is_none_or(|file| Path::new(file).exists())
    }

    /// What it says, run by an agent's launcher.
    pub fn run(&self, launcher: &Path, names: &str) -> Result<String> {
        let mut command = Command::new(launcher);
        command.args(self.words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {}", self.name))?;
        let mut input = child.stdin.take().context("its input")?;
        let names = names.to_owned();
        // What it says must be read meanwhile.
        let feeding = std::thread::spawn(move || input.write_all(names.as_bytes()));
        let output = child.wait_with_output()?;
        feeding.join().ok().context("feed names")??;
        ensure!(output.status.success(), "{} ended with {}", self.name, output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

const IN_PYTHON: &str = r#"
import errno, socket, sys
def connect(family, kind, protocol, at):
    with socket.socket(family, kind, protocol) as s:
        s.settimeout(10)
        try:
            s.connect(at)
            return "connected"
        except OSError as e:
            return "refused" if e.errno == errno.EPERM else errno.errorcode.get(e.errno, "timeout")
for name in sys.stdin.read().split():
    try:
        found = socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
    except OSError as e:
        print(name, str(e).replace(" ", "_"))
        continue
    print(name, *[connect(*one[:3], one[4]) for one in found])
"#;

const IN_NODE: &str = r#"
const names = require("fs").readFileSync(0, "utf8").split("\n").filter(Boolean);
const one = async (name) => {
    try {
        await fetch(`http://${name}:443/`);
        return "connected";
    } catch (error) {
        const codes = (error.cause?.errors ?? [error.cause ?? error]).map((one) => one.code ?? one.message);
        return codes.every((code) => code === "EPERM") ? "refused" : codes.join("_");
    }
};
(async () => {
    for (const name of names) console.log(name, await one(name));
})();
"#;

const LATE: &str = r#"
import errno, socket, sys, time
name = sys.stdin.read().strip()
ask = lambda: [one[4] for one in socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)]
def connect(at):
    try:
        socket.create_connection(at[:2], 10).close()
        return "connected"
    except OSError as e:
        return "refused" if e.errno == errno.EPERM else errno.errorcode.get(e.errno, "timeout")
ask()
time.sleep(62)
found = ask()
time.sleep(6)
print(name, *[connect(at) for at in found])
"#;

/// Something that connects answers in words; `$told` has what was said of a connect.
macro_rules! in_shell {
    ($body:literal) => {
        concat!(
            "word() { case $told in *'not permitted'*) echo refused;; '') echo connected;; \
             *) echo \"${told// /_}\" | tail -1;; esac; }\n\
             connect() { told=$( { exec 3<>\"/dev/tcp/$1/443\"; } 2>&1 ) && told=; word; }\n\
             while read -r name; do\n",
            $body,
            "\ndone"
        )
    };
}

const IN_CURL: &str = in_shell!(
    r#"told=$(curl -sSv -m 10 -o /dev/null "http://$name:443/" 2>&1) && told=; echo "$name" $(word)"#
);
const IN_BASH: &str = in_shell!(r#"echo "$name" $(connect "$name")"#);
const BY_GETENT: &str = in_shell!(
    r#"echo "$name" $(for at in $(getent ahosts "$name" | sed -n 's/ *STREAM.*//p'); do connect "$at"; done)"#
);
/// Asks in capitals, as those who guess at 0x20 do.
const BY_DIG: &str = in_shell!(
    r#"echo "$name" $(for at in $(dig +short "${name^^}" A "${name^^}" AAAA); do connect "$at"; done)"#
);
const BY_D_BUS: &str = in_shell!(
    r#"echo "$name" $(for at in $(resolvectl query --legend=no "$name" | grep -oE '(10\.8|fd78:)[0-9a-f.:]+'); do
           connect "$at"; done)"#
);
