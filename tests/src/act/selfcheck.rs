//! All ways against a receiver, one after the other: what the kernel said and what arrived.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use crate::act::{
    Format, Report, SiteArgs, Verdict,
    receive::{Line, Ready},
    sys,
    ways::{self, Seen, Way},
};

/// Runs a receiver and all ways against it.
#[derive(Debug, Args)]
pub struct Selfcheck {
    /// Only ways whose name begins so (may be given several times)
    #[arg(long)]
    only: Vec<String>,
    /// Only ways that need no root
    #[arg(long)]
    unprivileged: bool,
    /// Load the modules and make the settings that ways need (in a guest or a network namespace of its own)
    #[arg(long)]
    prepare: bool,
    /// Words to put before each act, for instance what starts an agent
    #[arg(long)]
    prefix: Option<String>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    site: SiteArgs,
}

#[derive(Debug, Serialize)]
pub struct Row {
    pub way: &'static str,
    pub to: String,
    pub outcome: Verdict,
    pub errno: Option<String>,
    pub step: Option<String>,
    pub seen: Seen,
    pub received: Received,
    /// The kernel said yes and the receiver saw it, or this kernel has no such thing.
    pub good: bool,
    pub ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Received {
    Token,
    Packet,
    Nothing,
}

impl Selfcheck {
    /// All ways, each performed by what `prefix` starts, in a guest prepared for them.
    pub fn behind(prefix: &Path, only: &[&str]) -> anyhow::Result<Vec<Row>> {
        let this = Self {
            only: only.iter().map(ToString::to_string).collect(),
            unprivileged: false,
            prepare: true,
            prefix: Some(prefix.display().to_string()),
            output: Format::Json,
            site: SiteArgs { port: crate::act::ctx::PORT, iface: "lo".to_owned() },
        };
        this.rows().map(|(rows, _)| rows)
    }

    pub fn run(self) -> anyhow::Result<ExitCode> {
        let (rows, ready) = self.rows()?;
        match self.output {
            Format::Json => println!("{}", serde_json::to_string(&rows)?),
            Format::Table => print(&rows, &ready),
        }
        let good = rows.iter().all(|row| row.good);
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn rows(&self) -> anyhow::Result<(Vec<Row>, Ready)> {
        if self.prepare {
            prepare();
        }
        let place = std::env::temp_dir().join(format!("chaperone-selfcheck-{}", std::process::id()));
        fs::create_dir_all(&place)?;
        let mut receiver = Receiver::start(&place, &self.site)?;
        let chosen = ways::all().filter(|way| self.wants(way));
        let rows: anyhow::Result<Vec<Row>> = chosen.map(|way| self.check(way, &mut receiver)).collect();
        receiver.stop();
        drop(fs::remove_dir_all(&place));
        Ok((rows?, receiver.ready))
    }

    fn wants(&self, way: &Way) -> bool {
        let named = self.only.is_empty() || self.only.iter().any(|only| way.name.starts_with(only));
        named && !(self.unprivileged && way.needs.root)
    }

    fn check(&self, way: &'static Way, receiver: &mut Receiver) -> anyhow::Result<Row> {
        let start = Instant::now();
        let token = format!("{}-{}", way.name, std::process::id());
        receiver.read()?;
        let report = self.act(way, &token)?;
        let lines = receiver.wait_for(&token, way.seen, report.outcome)?;
        let came = lines.iter().filter(|line| line.t_ns >= report.start_ns && !is_leftover(line));
        let received = came.fold(Received::Nothing, |most, line| match (&line.token, most) {
            (Some(found), _) if *found == token => Received::Token,
            (None, Received::Nothing) => Received::Packet,
            _ => most,
        });
        let arrived = match way.seen {
            Seen::Token => received == Received::Token,
            Seen::Packet => received != Received::Nothing,
            Seen::Maybe | Seen::Nothing => true,
        };
        let good = match report.outcome {
            Verdict::Sent => arrived,
            Verdict::Unsupported => received == Received::Nothing,
            Verdict::Refused | Verdict::Failed => false,
        };
        Ok(Row {
            way: way.name,
            to: report.to,
            outcome: report.outcome,
            errno: report.errno,
            step: report.step,
            seen: way.seen,
            received,
            good,
            ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    fn act(&self, way: &Way, token: &str) -> anyhow::Result<Report> {
        let own = std::env::current_exe().context("find this program")?.to_string_lossy().into_owned();
        let prefix = self.prefix.iter().flat_map(|prefix| prefix.split_whitespace()).map(str::to_owned);
        let port = self.site.port.to_string();
        let words = ["act", way.name, "--token", token, "--port", &port, "--iface", &self.site.iface];
        let mut words = prefix.chain([own]).chain(words.map(str::to_owned));
        let program = words.next().context("--prefix names no program")?;
        let child = Command::new(program).args(words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let text = output_of(child, ACT_MAX)?;
        match text.lines().rev().find_map(|line| serde_json::from_str(line).ok()) {
            Some(report) => Ok(report),
            None => Ok(Report {
                way: way.name.to_owned(),
                to: String::new(),
                ok: false,
                outcome: Verdict::Failed,
                errno: None,
                step: Some("no answer".to_owned()),
                sent: 0,
                start_ns: sys::now_ns(),
                end_ns: sys::now_ns(),
            }),
        }
    }
}

/// Answers of the kernel, and the end of a connection that an earlier act began: what begins one carries SYN.
fn is_leftover(line: &Line) -> bool {
    let goes_on =
        line.protocol.as_deref() == Some("tcp") && line.detail.is_some_and(|flags| flags & TCP_SYN == 0);
    line.answer || (goes_on && line.token.is_none())
}

/// What a child printed; a child that takes too long is ended.
fn output_of(mut child: Child, max: Duration) -> anyhow::Result<String> {
    let end = Instant::now() + max;
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            break;
        }
        thread::sleep(Duration::from_millis(2));
    }
    let mut text = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut text)?;
    }
    Ok(text)
}

/// The receiver's process and the part of its log that was not read yet.
struct Receiver {
    child: Child,
    log: fs::File,
    rest: String,
    ready: Ready,
}

impl Receiver {
    fn start(place: &Path, site: &SiteArgs) -> anyhow::Result<Self> {
        let (log, ready) = (place.join("log"), place.join("ready"));
        let own = std::env::current_exe().context("find this program")?;
        let child = Command::new(own)
            .args(["receive", "--port", &site.port.to_string(), "--iface", &site.iface, "--log"])
            .arg(&log)
            .arg("--ready")
            .arg(&ready)
            .spawn()
            .context("start the receiver")?;
        let ready = wait_for_file(&ready)?;
        let log = fs::File::open(&log).context("open the receiver's log")?;
        Ok(Self { child, log, rest: String::new(), ready: serde_json::from_str(&ready)? })
    }

    /// The whole lines that came since the last call.
    fn read(&mut self) -> anyhow::Result<Vec<Line>> {
        let at = self.log.stream_position()?;
        self.log.seek(SeekFrom::Start(at))?;
        self.log.read_to_string(&mut self.rest)?;
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let lines = self.rest[..whole].lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        self.rest.drain(..whole);
        Ok(lines)
    }

    /// What came of one act: as soon as it is what an act that was let through makes, else after a while.
    fn wait_for(&mut self, token: &str, seen: Seen, outcome: Verdict) -> anyhow::Result<Vec<Line>> {
        let mut lines = Vec::new();
        let patience = if outcome == Verdict::Sent { ARRIVAL_MAX } else { SILENCE };
        let end = Instant::now() + patience;
        loop {
            lines.extend(self.read()?);
            let there = match seen {
                Seen::Token => lines.iter().any(|line| line.token.as_deref() == Some(token)),
                Seen::Packet => lines.iter().any(|line| !is_leftover(line)),
                Seen::Maybe | Seen::Nothing => outcome == Verdict::Sent,
            };
            if there || Instant::now() > end {
                return Ok(lines);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn stop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn wait_for_file(path: &PathBuf) -> anyhow::Result<String> {
    let end = Instant::now() + READY_MAX;
    while Instant::now() < end {
        if let Ok(text) = fs::read_to_string(path) {
            return Ok(text);
        }
        thread::sleep(Duration::from_millis(10));
    }
    bail!("the receiver was not ready within {} s", READY_MAX.as_secs())
}

/// What cannot be had is left: the ways then say so themselves.
fn prepare() {
    let run = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        drop(
            command
                .args(&words[1..])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status(),
        );
    };
    for way in ways::all() {
        if let Some(module) = way.needs.module {
            run(&["modprobe", module]);
        }
    }
    for module in ["vcan", "can_raw", "rds", "mip6", "algif_hash", "9p", "l2tp_netlink"] {
        run(&["modprobe", module]);
    }
    run(&["ip", "link", "set", "lo", "up"]);
    run(&["ip", "link", "add", "vcan0", "type", "vcan"]);
    run(&["ip", "link", "set", "vcan0", "up"]);
    run(&["ip", "-6", "route", "add", "local", "ff12::/16", "dev", "lo", "table", "local"]);
    for (path, value) in SETTINGS {
        drop(fs::write(path, value));
    }
}

fn print(rows: &[Row], ready: &Ready) {
    println!(
        "{:<28} {:<34} {:<12} {:<16} {:<16} {:<8} {:<8}",
        "way", "to", "outcome", "errno", "step", "seen", "received"
    );
    for row in rows {
        let outcome = format!("{:?}", row.outcome).to_lowercase();
        let (seen, received) =
            (format!("{:?}", row.seen).to_lowercase(), format!("{:?}", row.received).to_lowercase());
        let (errno, step) = (row.errno.as_deref().unwrap_or("-"), row.step.as_deref().unwrap_or("-"));
        let mark = if row.good { "" } else { "  <--" };
        println!(
            "{:<28} {:<34} {outcome:<12} {errno:<16} {step:<16} {seen:<8} {received:<8}{mark}",
            row.way, row.to
        );
    }
    let of = |verdict| rows.iter().filter(|row| row.outcome == verdict).count();
    println!(
        "{} ways: {} sent, {} unsupported, {} refused, {} failed; {} not as expected",
        rows.len(),
        of(Verdict::Sent),
        of(Verdict::Unsupported),
        of(Verdict::Refused),
        of(Verdict::Failed),
        rows.iter().filter(|row| !row.good).count(),
    );
    if !ready.missing.is_empty() {
        let missing =
            ready.missing.iter().map(|(name, errno)| format!("{name} ({errno})")).collect::<Vec<_>>();
        println!("not listened on: {}", missing.join(", "));
    }
}

/// Settings of the network namespace that let ways through which the kernel refuses to everybody by default.
const SETTINGS: &[(&str, &str)] = &[
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
    ("/proc/sys/net/ipv4/tcp_fastopen", "3"),
    ("/proc/sys/net/sctp/udp_port", "9899"),
    ("/proc/sys/net/ipv4/conf/all/accept_source_route", "1"),
    ("/proc/sys/net/ipv4/conf/lo/accept_source_route", "1"),
];
const TCP_SYN: u8 = 2;
const ACT_MAX: Duration = Duration::from_secs(20);
const ARRIVAL_MAX: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(150);
const READY_MAX: Duration = Duration::from_secs(30);
