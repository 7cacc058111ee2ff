//! One life of a guest whose power is cut: the journal as the last cut left it is checked, and then a daemon records an
//! agent's acts at speed, until the next cut. What is surely on the disk is told to the host, which remembers it.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::harness::{program, script};

/// Checks the journal on a disk, and then records there until the power is cut.
#[derive(Debug, Args)]
pub struct Power {
    /// The disk, an ext4 that outlives the guest.
    #[arg(long)]
    disk: PathBuf,
    /// A record that was surely on the disk: number and hash.
    #[arg(long, value_name = "SEQ:HASH")]
    promised: Option<String>,
    /// Only check.
    #[arg(long)]
    check: bool,
    /// Harm the journal before it is checked: `middle` or `end`.
    #[arg(long)]
    harm: Option<String>,
}

const MOUNTED: &str = "/mnt";
const PLACE: &str = "/run/power";

impl Power {
    pub fn run(self) -> Result<ExitCode> {
        let status = Command::new("mount").args(["-t", "ext4"]).arg(&self.disk).arg(MOUNTED).status()?;
        ensure!(status.success(), "the disk cannot be mounted after the cut");
        say("mounted");
        configure()?;
        if let Some(harm) = &self.harm {
            harm_journal(harm)?;
        }
        let fault = self.look().err();
        if let Some(fault) = fault {
            say(&format!("FAULT {}", format!("{fault:#}").replace('\n', " | ")));
            return Ok(ExitCode::FAILURE);
        }
        if self.check {
            return Ok(ExitCode::SUCCESS);
        }
        record()
    }

    /// What the last cut has left.
    fn look(&self) -> Result<()> {
        if !Path::new(MOUNTED).join("state/journal/public.pem").exists() || segments()?.is_empty() {
            ensure!(self.promised.is_none(), "there is no journal, and {:?} was on the disk", self.promised);
            say("checked {}");
            return Ok(());
        }
        let mut verify = chaperone()?;
        verify.args(["journal", "verify", "-o", "json", "--config", PLACE]);
        if let Some(promised) = &self.promised {
            verify.args(["--expect", promised]);
        }
        let output = verify.output().context("run chaperone journal verify")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let Ok(report) = serde_json::from_str::<Value>(&text) else {
            // A journal whose first record never came to the disk is none yet.
            let empty = records()?.is_empty() && self.promised.is_none();
            ensure!(empty, "verify: {text} {}", String::from_utf8_lossy(&output.stderr));
            say("checked {}");
            return Ok(());
        };
        let unsigned_yet = report["checkpoints"] == 0 && self.promised.is_none();
        let whole = report["whole"] == true || unsigned_yet;
        ensure!(whole, "not whole: {} ; {}", report["broken"], names()?);
        ensure!(report["gaps"]["missing"] == 0, "records are gone that were on the disk: {report}");
        let counts = account(&records()?)?;
        say(&format!(
            "checked {}",
            serde_json::json!({
                "records": report["records"], "last_seq": report["last_seq"], "unfinished": report["unfinished_bytes"],
                "torn": report["gaps"]["torn_bytes"], "unsigned": report["unsigned"], "starts": counts.0, "acts": counts.1,
            })
        ));
        Ok(())
    }
}

/// Numbers go on, no act is there twice, and each start says from when on nothing was recorded; starts and acts.
fn account(records: &[Value]) -> Result<(usize, usize)> {
    let (mut acts, mut starts) = (HashMap::new(), 0);
    let mut before: Option<&Value> = None;
    let mut gap_from = None;
    for record in records {
        if let Some(before) = before {
            let (was, is) = (before["seq"].as_u64(), record["seq"].as_u64());
            ensure!(is == was.map(|was| was + 1), "record {was:?} is followed by {is:?}");
        }
        if record["kind"] == "journal_opened" {
            if let (Some(before), true) = (before, record["journal"]["last_record"].is_string()) {
                let told = &record["journal"]["last_record"];
                ensure!(
                    *told == before["time"],
                    "the gap is told from {told}, and is from {}",
                    before["time"]
                );
                gap_from = Some(told.clone());
            }
        } else if record["kind"] == "daemon_started" {
            starts += 1;
            if let Some(from) = gap_from.take() {
                let told = &record["daemon"]["previous"];
                ensure!(told["last_record"] == from, "the start tells {told}, the last record was of {from}");
                ensure!(told["orderly"] != true, "a power cut was taken for an end in order: {told}");
            }
        } else if record["kind"] == "net_connect" && record["agent"] == "bot" {
            let of = format!("{} {}", record["boot_id"], record["network"]["address"]);
            if let Some(first) = acts.insert(of.clone(), record["seq"].clone()) {
                bail!("{of} is recorded twice: {first} and {}", record["seq"]);
            }
        }
        before = Some(record);
    }
    Ok((starts, acts.len()))
}

/// Starts the daemon and an agent, and tells what is surely on the disk, until the power goes.
fn record() -> Result<ExitCode> {
    let log = fs::File::create(Path::new(PLACE).join("log"))?;
    let mut command = chaperone()?;
    command.args(["daemon", "--metrics", "off", "--config", PLACE]).stdin(Stdio::null());
    let mut daemon = command.stdout(log.try_clone()?).stderr(log).spawn().context("start the daemon")?;
    say("starting");
    let mut told = BTreeSet::new();
    let (mut agent, end) = (None, Instant::now() + LIFE_MAX);
    while Instant::now() < end {
        if let Some(status) = daemon.try_wait()? {
            let log = fs::read_to_string(Path::new(PLACE).join("log"))?.replace('\n', " | ");
            say(&format!("FAULT the daemon ended ({status}): {log}"));
            return Ok(ExitCode::FAILURE);
        }
        if agent.is_none() && Path::new(PLACE).join("control.sock").exists() {
            agent = Some(Command::new(BOT).stdin(Stdio::null()).stderr(Stdio::null()).spawn()?);
            say("running");
        }
        let head = fs::read(format!("{MOUNTED}/log/events.ndjson.head")).unwrap_or_default();
        if let Ok(head) = serde_json::from_slice::<Value>(&head)
            && let (Some(seq), Some(hash)) = (head["seq"].as_u64(), head["hash"].as_str())
            && told.insert(seq)
        {
            say(&format!("promised {seq}:{hash}"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    say("FAULT nobody has cut the power");
    Ok(ExitCode::FAILURE)
}

fn configure() -> Result<()> {
    for directory in ["agents", "roles"] {
        fs::create_dir_all(Path::new(PLACE).join(directory))?;
    }
    fs::write(Path::new(PLACE).join("chaperone.yaml"), SETTINGS)?;
    fs::write(Path::new(PLACE).join("agents/all.yaml"), DOCUMENTS)?;
    script(Path::new(BOT), AGENT)
}

/// Alters a byte in the middle of the oldest segment, or takes away the newest records, which were promised.
fn harm_journal(how: &str) -> Result<()> {
    let segments = segments()?;
    match how {
        "middle" => {
            let oldest = segments.first().context("there is nothing to harm")?;
            let mut bytes = fs::read(oldest)?;
            let middle = bytes.len() / 2;
            *bytes.get_mut(middle).context("the oldest segment is empty")? ^= 1;
            fs::write(oldest, bytes).context("harm the journal")
        }
        "end" => segments.iter().rev().take(2).try_for_each(|path| {
            // It may be there compressed too.
            let _ = fs::remove_file(path.with_added_extension("gz"));
            fs::remove_file(path).with_context(|| format!("remove {}", path.display()))
        }),
        _ => bail!("harm the middle or the end"),
    }
}

/// The journal's files, the oldest first.
fn segments() -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(Path::new(MOUNTED).join("log")) else { return Ok(Vec::new()) };
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let all = entries.flatten().map(|entry| entry.path());
    let mut all: Vec<PathBuf> = all
        .filter(|path| {
            let name = name(path);
            name.starts_with("events-") && (name.ends_with(".ndjson") || name.ends_with(".gz"))
        })
        .collect();
    all.sort();
    // Of one that is there twice, for its compressing was cut off, the plain one.
    all.dedup_by_key(|path| name(path).trim_end_matches(".gz").to_owned());
    let active = Path::new(MOUNTED).join("log/events.ndjson");
    all.extend(active.exists().then_some(active));
    Ok(all)
}

/// All whole records.
fn records() -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for path in segments()? {
        let bytes = if path.extension().is_some_and(|ending| ending == "gz") {
            Command::new("zcat").arg(&path).output().context("run zcat")?.stdout
        } else {
            fs::read(&path)?
        };
        let text = String::from_utf8_lossy(&bytes);
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        all.extend(whole.filter_map(|line| serde_json::from_str(line).ok()));
    }
    Ok(all)
}

/// What lies there, for a fault.
fn names() -> Result<String> {
    let output = Command::new("ls").args(["-la", &format!("{MOUNTED}/log")]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).replace('\n', " | "))
}

fn chaperone() -> Result<Command> {
    Ok(Command::new(program("chaperone")?))
}

/// The host takes line by line.
fn say(line: &str) {
    println!("{line}");
}

const BOT: &str = "/run/power-bot";
/// Calls another address each time, so that each act is known by its own.
const AGENT: &str = "#!/bin/bash\nfor a in {1..250}; do for b in {0..250}; do for c in {1..250}; do\n\
                     : 3<>/dev/tcp/127.$a.$b.$c/9\ndone; done; done\n";
const SETTINGS: &str = "apiVersion: chaperone/v1\nkind: Daemon\nspec:\n  config_dir: /run/power\n  \
                        state_dir: /mnt/state\n  events_file: /mnt/log/events.ndjson\n  \
                        events_file_bytes_max: 1048576\n  journal: { bytes_max: 6000000, keep_days_min: 0 }\n  \
                        control_socket: /run/power/control.sock\n";
const DOCUMENTS: &str = "apiVersion: chaperone/v1\nkind: Agent\nmetadata: { name: bot }\n\
                         spec: { owner: tests, role: bot, match: [ { exe: /run/power-bot } ] }\n---\n\
                         apiVersion: chaperone/v1\nkind: Role\nmetadata: { name: bot }\n\
                         spec: { mode: enforce, network: { default: allow } }\n";
const LIFE_MAX: Duration = Duration::from_secs(440);
