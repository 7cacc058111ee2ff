//! What the journal costs: events a second and processor time for sealed, signed and synced records, beside plain appends
//! of the same bytes. `cargo run --release -p agent-daemon --example journal -- [EVENTS] [DIR]`

use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
use chaperone::{
    config::settings::Keep,
    event::Event,
    record::{
        Recorder,
        journal::{Journal, Settings, key, segment, verify},
        progress::Progress,
    },
};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let count: usize = args.next().map_or(Ok(200_000), |text| text.parse())?;
    let dir = args.next().map_or_else(|| std::env::temp_dir().join("chaperone-journal"), PathBuf::from);
    drop(fs::remove_dir_all(&dir));
    fs::create_dir_all(&dir)?;
    let typical: Vec<Event> = include_str!("../tests/events/session.ndjson")
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;

    let mut plain = File::create(dir.join("plain"))?;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    tell("plain appends", count, || {
        for (at, event) in typical.iter().cycle().take(count).enumerate() {
            event.write_line(&mut batch);
            if at % BATCH == BATCH - 1 {
                plain.write_all(&batch)?;
                bytes += batch.len();
                batch.clear();
            }
        }
        plain.write_all(&batch)?;
        Ok(plain.sync_data()?)
    })?;
    println!("{:24} {:>8} bytes each", "", (bytes + batch.len()) / count);
    fs::remove_file(dir.join("plain"))?;

    let settings = Settings {
        events_file: dir.join("log/events.ndjson"),
        bytes_max: 64 << 20,
        key_dir: dir.join("key"),
        keep: Keep { bytes_max: u64::MAX, ..Keep::default() },
    };
    let events_file = settings.events_file.clone();
    let mut recorder = Recorder::new(Some(Journal::open(settings, Progress::of_our_own()?)?));
    tell("journal, synced", count, || {
        let mut due = Instant::now();
        for (at, event) in typical.iter().cycle().take(count).enumerate() {
            recorder.append(&mut event.clone());
            if at % BATCH == BATCH - 1 {
                recorder.flush();
            }
            if at % BATCH == 0 && Instant::now() >= due {
                due = Instant::now() + Duration::from_secs(1);
                recorder.tick();
            }
            if at % MILLION == MILLION - 1 {
                println!("{:24} {:>8} KiB at most until event {}", "", peak()?, at + 1);
            }
        }
        recorder.end();
        Ok(())
    })?;
    drop(recorder);
    let key = fs::read_to_string(key::public_key(&dir.join("key")))?;
    let keys = [key::PublicKey::parse(&key).map_err(anyhow::Error::msg)?];
    // Compressing goes on beside: what is counted above has a part of it.
    let question = verify::Question { events_file: &events_file, keys: &keys, expect: None };
    let mut whole = false;
    tell("verify", count, || {
        whole = verify::verify(&question, |_, _| {})?.whole;
        Ok(())
    })?;
    println!("{:24} {whole}, {} segments", "whole", segment::all(&events_file)?.len());
    Ok(())
}

fn tell(what: &str, count: usize, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        anyhow::Ok(micros)
    };
    // The peak until now is none of this one's.
    fs::write("/proc/self/clear_refs", "5")?;
    let (before, begun) = (used()?, Instant::now());
    work()?;
    let (took, after) = (begun.elapsed().as_secs_f64(), used()?);
    let per_thousand = (after - before) as f64 / 1000.0 / (count as f64 / 1000.0);
    println!(
        "{what:24} {:>8.0} events/s {per_thousand:>8.3} ms CPU per thousand, {} KiB at most",
        count as f64 / took,
        peak()?
    );
    Ok(())
}

/// The most that was resident, in KiB.
fn peak() -> Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.unwrap_or_default().trim().trim_end_matches(" kB").to_owned())
}

/// As many as the pipeline takes at a time.
const BATCH: usize = 512;
const MILLION: usize = 1_000_000;
