//! Names with other people's resolvers and clients: what the role names is connected to at the first packet, what it does
//! not name is refused and nothing of it arrives.

pub mod clients;
mod far;
pub mod resolvers;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use self::{
    clients::{AT_THE_END, CLIENTS, Client, PYTHON},
    far::Far,
    resolvers::{Nscd, Resolvers, WAYS, Way},
};
use super::documents;
use crate::{
    act::dns,
    case::Outcome,
    guest::Shared,
    harness::{Daemon, Start, script},
};

/// What one client came to by one way.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    pub resolver: &'static str,
    pub client: &'static str,
    pub kernel: String,
    pub mode: String,
    /// Names, half of them allowed.
    pub tried: usize,
    /// Connects to addresses of names that the role names.
    pub connected: usize,
    /// Connects to addresses of other names.
    pub refused: usize,
    pub false_refusals: usize,
    pub false_passes: usize,
    /// Names that were not resolved, or not as they are, and connects that failed otherwise.
    pub odd: usize,
    /// Answers that were believed.
    pub believed: u64,
    /// Answers that were not, by counter.
    pub not_believed: BTreeMap<String, u64>,
    pub seconds: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
}

impl Row {
    #[must_use]
    pub fn wrong(&self) -> usize {
        self.false_refusals + self.false_passes + self.odd
    }
}

/// A name that was never asked for, with addresses of its own.
struct Name {
    text: String,
    allowed: bool,
    addresses: Vec<IpAddr>,
}

/// An agent, its daemon, resolvers, and the other end.
pub struct Stage {
    daemon: Daemon,
    far: Far,
    resolvers: Resolvers,
    nscd: Option<Nscd>,
    mode: String,
    server: &'static str,
    way: &'static str,
    since: Instant,
    used: u32,
    /// The counters as they were after the row before.
    counted: BTreeMap<String, u64>,
}

const RULES: &str = r#"
      - { to: "127.0.0.0/8:53", verdict: allow }
      - { to: "[::1]:53", verdict: allow }
      - { to: "10.77.0.0/24:53", verdict: allow }
      - { to: "[fd77::/64]:53", verdict: allow }
      - { to: "*.named.test:443", protocol: tcp, verdict: allow }
"#;

/// Time within which a daemon looks at resolv.conf for certain.
const LOOKS: Duration = Duration::from_secs(3);

/// Names that one address octet counts.
const OCTET: u32 = 250;

impl Stage {
    pub fn set(mode: &str) -> Result<Self> {
        let far = Far::set()?;
        let mut resolvers = Resolvers::start()?;
        let nscd = resolvers.choose(&WAYS[0])?;
        script(&PathBuf::from(super::BOT), "#!/bin/sh\nexec \"$@\"\n")?;
        let start = Start {
            documents: documents(RULES),
            mode: Some(mode.to_owned()),
            pinned: false,
            ..Start::default()
        };
        let daemon = Daemon::start(&start)?;
        let (way, server) = (WAYS[0].name, WAYS[0].server);
        let mut stage = Self {
            daemon,
            far,
            resolvers,
            nscd,
            mode: mode.to_owned(),
            server,
            way,
            since: Instant::now(),
            used: 0,
            counted: BTreeMap::new(),
        };
        stage.counted = stage.counters()?;
        Ok(stage)
    }

    /// Makes the host resolve in this way, and waits until the daemon has seen it.
    pub fn choose(&mut self, way: &Way) -> Result<()> {
        self.nscd = None;
        // What is changed before it has looked for the first time it takes for what was.
        std::thread::sleep(LOOKS.saturating_sub(self.since.elapsed()));
        let told = self.told()?;
        self.nscd = self.resolvers.choose(way)?;
        let other = std::mem::replace(&mut self.server, way.server) != way.server;
        self.way = way.name;
        let end = Instant::now() + Duration::from_secs(20);
        while other && self.told()? == told {
            ensure!(Instant::now() < end, "the daemon does not see that {} is the resolver", way.server);
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// How often the daemon has told of other resolvers.
    fn told(&self) -> Result<usize> {
        let log = fs::read_to_string(self.daemon.directory.join("daemon.log"))?;
        Ok(log.matches("other resolvers are configured").count())
    }

    /// Lets an agent's client connect to as many fresh names, allowed and not in turn.
    pub fn row(&mut self, client: &Client, names: usize) -> Result<Row> {
        let names = (0..names).map(|at| self.one(at)).collect();
        self.judged(client, names)
    }

    fn judged(&mut self, client: &Client, names: Vec<Name>) -> Result<Row> {
        drop(self.far.arrived()?);
        let start = Instant::now();
        let text: String = names.iter().map(|name| format!("{}\n", name.text)).collect();
        let said = client.run(&PathBuf::from(super::BOT), &text)?;
        let seconds = start.elapsed().as_secs();
        let mut row = Row {
            resolver: self.way,
            client: client.name,
            kernel: nix::sys::utsname::uname().context("uname")?.release().to_string_lossy().into_owned(),
            mode: self.mode.clone(),
            tried: names.len(),
            seconds,
            ..Row::default()
        };
        judge(&mut row, client, &names, &said, &self.far.arrived()?);
        let now = self.counters()?;
        for (name, count) in &now {
            let (name, more) = (name.clone(), count - self.counted.get(name).unwrap_or(&0));
            if name == "name_answers_believed" {
                row.believed = more;
            } else if more != 0 {
                row.not_believed.insert(name, more);
            }
        }
        self.counted = now;
        Ok(row)
    }
    fn one(&mut self, at: usize) -> Name {
        let number = self.used;
        self.used += 1;
        let v4 = Ipv4Addr::from_bits(FIRST.to_bits() + number / OCTET * 256 + number % OCTET + 1);
        let v6 = IpAddr::from(dns::v6(v4));
        let (kind, addresses) = match at % 6 / 2 {
            0 => ("n", vec![v4.into()]),
            1 => ("six", vec![v6]),
            _ => ("dual", vec![v4.into(), v6]),
        };
        let allowed = at.is_multiple_of(2);
        let below = if allowed { "named" } else { "other" };
        let [a, b, c, d] = v4.octets();
        Name { text: format!("{kind}{number}-{a}-{b}-{c}-{d}.{below}.test"), allowed, addresses }
    }

    /// What the kernel side has counted of answers and addresses.
    fn counters(&self) -> Result<BTreeMap<String, u64>> {
        let text = self.daemon.metrics()?.0;
        let pair = |line: &str| {
            let (name, count) = line.split_once("counter=\"")?.1.split_once("\"} ")?;
            name.starts_with("name").then(|| Some((name.to_owned(), count.trim().parse().ok()?)))?
        };
        let found: BTreeMap<String, u64> = text.lines().filter_map(pair).collect();
        ensure!(found.contains_key("name_answers_believed"), "no counters of names in the metrics");
        Ok(found)
    }
}

/// Adds what a client said, and what arrived.
fn judge(row: &mut Row, client: &Client, names: &[Name], said: &str, arrived: &BTreeSet<IpAddr>) {
    let said: BTreeMap<&str, Vec<&str>> = said
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, words)| (name, words.split(' ').collect()))
        .collect();
    for name in names {
        let words = said.get(name.text.as_str()).cloned().unwrap_or_default();
        let count = |wanted: &str| words.iter().filter(|word| **word == wanted).count();
        let (connected, refused) = (count("connected"), count("refused"));
        let reached = name.addresses.iter().filter(|address| arrived.contains(address)).count();
        let whole = if client.every_address { name.addresses.len() } else { 1 };
        let wrong = row.wrong();
        if name.allowed {
            row.connected += connected;
            row.false_refusals += refused;
            row.odd +=
                usize::from(words.len() != whole || connected + refused != whole || reached < connected);
        } else {
            row.refused += refused;
            row.false_passes += connected.max(reached);
            row.odd += usize::from(words.len() != whole || connected + refused != whole);
        }
        if row.wrong() != wrong && row.examples.len() < EXAMPLES {
            row.examples.push(format!("{} {words:?}, {reached} of {:?} reached", name.text, name.addresses));
        }
    }
}

const FIRST: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 0);
const EXAMPLES: usize = 5;

/// Names for each client of a case: one of each kind, allowed and not.
const NAMES: usize = 6;
/// Names in a row, in a case.
const ROW: usize = 300;
const ROW_SHORT: usize = 60;

/// Every client with the commonest resolver, elsewhere one of each C library, and many names where a client sends
/// nothing itself.
pub fn clients(shared: &mut Shared) -> Result<Outcome> {
    let mut stage = Stage::set(&shared.mode)?;
    let mut rows = Vec::new();
    for (at, way) in WAYS.iter().filter(|way| way.quick).enumerate() {
        stage.choose(way)?;
        for client in CLIENTS.iter().filter(|client| client.is_here() && (at == 0 || client.once)) {
            let names = if way.keeps && client.name == PYTHON.name { ROW } else { NAMES };
            rows.push(stage.row(client, names)?);
        }
    }
    stage.daemon.wait(0, "a probe of the C library's, which sends nothing", |event| {
        let network = &event["network"];
        event["verdict"] == "deny" && network["protocol"] == "udp" && network["port"] == far::PORT
    })?;
    all_right(&rows)
}

/// systemd-resolved as its unit runs it, asked over each of its ways.
pub fn by_unit(shared: &mut Shared) -> Result<Outcome> {
    let mut stage = Stage::set(&shared.mode)?;
    let mut rows = Vec::new();
    for way in WAYS.iter().filter(|way| way.server == "127.0.0.53") {
        stage.choose(way)?;
        for client in CLIENTS.iter().filter(|client| client.is_here()) {
            rows.push(stage.row(client, NAMES)?);
        }
    }
    ensure!(rows.iter().any(|row| row.client == "resolvectl"), "there is no D-Bus");
    all_right(&rows)
}

/// One client alone, with the commonest resolver.
pub fn by(client: Client, mode: &str) -> Result<Outcome> {
    all_right(&[Stage::set(mode)?.row(&client, ROW_SHORT)?])
}

fn all_right(rows: &[Row]) -> Result<Outcome> {
    let wrong = rows.iter().filter(|row| row.wrong() != 0 || row.believed == 0);
    let wrong: Vec<String> = wrong.map(serde_json::to_string).collect::<Result<_, _>>()?;
    ensure!(!rows.is_empty() && wrong.is_empty(), "{}", wrong.join(" "));
    Ok(Outcome::Held)
}

/// A resolver gives out what it has kept until the last moment, by a way that sends nothing, and who asked connects a
/// little later.
pub fn kept(stage: &mut Stage) -> Result<Row> {
    // One of both protocols: of what is not there nothing is kept.
    let mut name = stage.one(DUAL);
    name.text = name.text.replace(".named", &format!(".ttl{KEPT_S}.named"));
    let row = stage.judged(&AT_THE_END, vec![name])?;
    ensure!(
        row.believed == 2,
        "the second answer did not come out of a cache: {} were believed",
        row.believed
    );
    Ok(row)
}

/// Where the allowed name of both protocols stands among six.
const DUAL: usize = 4;
const KEPT_S: u32 = 65;

#[cfg(test)]
mod tests {
    use super::*;

    /// What a row says of one name with one address.
    fn row(allowed: bool, said: &str, arrives: bool) -> (usize, usize, usize) {
        let at = IpAddr::from(FIRST);
        let name = Name { text: "a.test".into(), allowed, addresses: vec![at] };
        let arrived = arrives.then_some(at).into_iter().collect();
        let mut row = Row::default();
        judge(&mut row, &PYTHON, &[name], said, &arrived);
        (row.false_refusals, row.false_passes, row.odd)
    }

    #[test]
    fn what_is_wrong_is_counted() {
        assert_eq!(row(true, "a.test connected", true), (0, 0, 0));
        assert_eq!(row(true, "a.test refused", false), (1, 0, 0));
        assert_eq!(row(true, "a.test connected", false), (0, 0, 1));
        assert_eq!(row(true, "a.test connected connected", true), (0, 0, 1));
        assert_eq!(row(true, "a.test timeout", false), (0, 0, 1));
        assert_eq!(row(true, "", false), (0, 0, 1));
        assert_eq!(row(false, "a.test refused", false), (0, 0, 0));
        assert_eq!(row(false, "a.test connected", true), (0, 1, 0));
        assert_eq!(row(false, "a.test refused", true), (0, 1, 0));
        assert_eq!(row(false, "a.test timeout", false), (0, 0, 1));
        assert_eq!(row(false, "", false), (0, 0, 1));
    }
}
