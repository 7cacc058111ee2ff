//! What agents offer to others: sockets that listen, and datagram sockets at ports of their choosing.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{
    case::{Case, Outcome, case},
    guest::{Shared, baselines},
};

pub const CASES: &[Case<Shared>] = &[
    case("what_an_agent_offers_is_told_and_what_it_asks_for_is_not", told),
    case("a_listener_that_the_role_has_never_had_is_found", found),
];

/// Opens what its arguments say, `tcp,ADDRESS,PORT`; with `-` for the address nothing is bound.
const SERVER: &str = "\
import socket, sys
for what in sys.argv[1:]:
    kind, address, port = what.split(',')
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM if kind in ('tcp', 'bound') else socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address != '-':
        s.bind((address, int(port)))
    if kind == 'tcp':
        s.listen(1)
";

const ALERT: &str = "{ mode: alert, network: { default: allow } }";

fn told(shared: &mut Shared) -> Result<Outcome> {
    let (bot, mut daemon) = baselines::bot("/run/chaperone-offers", &shared.mode, ALERT)?;
    let offers = [
        "tcp,0.0.0.0,8001",
        "tcp,127.0.0.1,8002",
        "tcp,::,8003",
        "tcp,::ffff:127.0.0.1,8004",
        "tcp,127.0.0.1,0",
        "tcp,-,0",
        "udp,0.0.0.0,8005",
        "udp,::1,8006",
    ];
    // A client's sockets: a stream that is bound and does not listen, and datagrams from whatever port there is.
    let others = ["bound,127.0.0.1,8007", "udp,127.0.0.1,0", "udp,-,0"];
    let all: Vec<&str> = ["do", "python3", "-c", SERVER].into_iter().chain(offers).chain(others).collect();
    baselines::run(&bot, &all)?;
    // The same by somebody outside every instance.
    let outside =
        std::process::Command::new("python3").args(["-c", SERVER, "tcp,127.0.0.1,8008"]).status()?;
    ensure!(outside.success(), "the one outside: {outside}");
    daemon.settle()?;
    let listened: Vec<(String, String, u64)> = daemon
        .seen
        .iter()
        .filter(|e| e["kind"] == "net_listen")
        .map(|e| {
            let network = &e["network"];
            (text(&network["op"]), text(&network["address"]), network["port"].as_u64().unwrap_or(u64::MAX))
        })
        .collect();
    let wanted: Vec<(String, String, u64)> = [
        ("listen", "0.0.0.0", 8001),
        ("listen", "127.0.0.1", 8002),
        ("listen", "::", 8003),
        ("listen", "127.0.0.1", 8004),
        ("listen", "127.0.0.1", u64::MAX),
        ("listen", "0.0.0.0", 0),
        ("bind", "0.0.0.0", 8005),
        ("bind", "::1", 8006),
    ]
    .map(|(op, address, port)| (op.to_owned(), address.to_owned(), port))
    .into();
    let same = listened.len() == wanted.len()
        && listened.iter().zip(&wanted).all(|(is, want)| {
            // The kernel has chosen one already where bind(2) came first.
            is.0 == want.0 && is.1 == want.1 && (is.2 == want.2 || want.2 == u64::MAX && is.2 > 1023)
        });
    ensure!(same, "told: {listened:?}, wanted: {wanted:?}");
    let one = daemon.seen.iter().find(|e| e["kind"] == "net_listen").cloned().unwrap_or_default();
    ensure!(one["agent"] == "bot" && one["exe"].as_str().is_some_and(|exe| exe.contains("python")), "{one}");
    ensure!(one.get("verdict").is_none() && one.get("decision").is_none(), "it was judged: {one}");
    Ok(Outcome::Held)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn found(shared: &mut Shared) -> Result<Outcome> {
    let (bot, mut daemon) = baselines::bot("/run/chaperone-listener", &shared.mode, ALERT)?;
    let serve = |what: &[&str]| {
        let all: Vec<&str> =
            ["do", "python3", "-c", SERVER].into_iter().chain(what.iter().copied()).collect();
        baselines::run(&bot, &all)
    };
    for _ in 0..2 {
        serve(&["tcp,127.0.0.1,8011", "tcp,127.0.0.1,0"])?;
    }
    daemon.settle()?;
    let from = daemon.seen.len();
    // Another port of the kernel's choosing is the same.
    serve(&["tcp,127.0.0.1,8011", "tcp,127.0.0.1,0"])?;
    daemon.settle()?;
    let new = |from: usize, seen: &[Value]| -> Vec<(String, String, String)> {
        let found = seen[from..].iter().filter(|e| e["finding"]["what"] == "new_listener");
        found
            .map(|e| {
                let finding = &e["finding"];
                (text(&finding["behaviour"]), text(&finding["nearest"]["how"]), text(&finding["severity"]))
            })
            .collect()
    };
    ensure!(new(from, &daemon.seen).is_empty(), "what is usual was found: {:?}", new(from, &daemon.seen));
    let from = daemon.seen.len();
    serve(&["tcp,0.0.0.0,4444"])?;
    daemon.settle()?;
    let found = new(from, &daemon.seen);
    let as_wanted = matches!(&found[..], [(behaviour, _, severity)]
        if behaviour.ends_with("-> 0.0.0.0:4444/tcp") && behaviour.starts_with("listen ") && severity == "high");
    ensure!(as_wanted, "found: {found:?}");
    Ok(Outcome::Held)
}
