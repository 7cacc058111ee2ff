//! Makes a file of events, or takes one that is there, and says what trails in it take, in time, in processor time of
//! both threads, and in memory: `cargo run --release -p agent-daemon --example trail -- FILE[.gz] EVENTS`.

use std::{fs::File, io::Write as _, path::PathBuf, time::Instant};

use agent_common::identity::Origin;
use chaperone::{
    cli::trail::{read::Source, trail},
    event::{
        Event, Kind, Subject,
        net::Network,
        process::Exec,
        word::{ExecId, InstanceId, Time},
    },
};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};

const BEGIN: u64 = 1_769_849_952_000_000_000;
const INSTANCES: u64 = 2_000;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = PathBuf::from(arguments.next().unwrap_or_else(|| "events.ndjson".to_owned()));
    let events: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    if !file.exists() {
        write(&file, events)?;
    }
    let gib = file.metadata()?.len() as f64 / f64::from(1 << 30);
    println!("{events} events, {gib:.2} GiB");
    let late = Time(BEGIN + events * STEP_NS * 95 / 100);
    for (id, since) in [
        ("i-0000000000000142", None),
        ("i-0000000000000142", Some(late)),
        ("x-0000000000150042", None),
        ("pid:20077", None),
        ("203.0.113.77", None),
        ("203.0.113.0/28", None),
    ] {
        let wanted = id.parse().map_err(anyhow::Error::msg)?;
        let source = Source::file(&file, since, None);
        // The peak until now is none of this one's.
        std::fs::write("/proc/self/clear_refs", "5")?;
        let (begin, used) = (Instant::now(), used()?);
        let told = match trail(&wanted, &source) {
            Ok(trail) => format!("{} events, {} nodes", trail.counts.events, trail.nodes.len()),
            Err(error) => format!("{error:#}").lines().next().unwrap_or_default().to_owned(),
        };
        let since = if since.is_some() { " of the last twentieth" } else { "" };
        let (took, used) = (begin.elapsed().as_secs_f64(), self::used()? - used);
        println!("{id}{since}: {took:.2} s, {used:.2} s CPU, {} KiB at most, {told}", peak()?);
    }
    Ok(())
}

/// Seconds of the processor that this process has used.
fn used() -> anyhow::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6)
}

fn peak() -> anyhow::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.unwrap_or_default().trim().trim_end_matches(" kB").to_owned())
}

/// Instances that execute and connect by turns.
fn write(path: &PathBuf, events: u64) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut line = Vec::new();
    for n in 0..events {
        let (instance, exec) = (0x100 + n % INSTANCES, n % 2 == 0);
        let subject = Subject {
            origin: Origin::Agent.into(),
            instance: InstanceId::some(instance),
            agent: Some("coding-agent".into()),
            role: Some("coding".into()),
            exec_id: ExecId::some(0x10_0000 + n / 4),
            parent_exec_id: ExecId::some(instance),
            pid: 20_000 + (n % 30_000) as u32,
            uid: Some(1000),
            comm: "git".into(),
            exe: Some("/usr/bin/git".into()),
            cgroup: Some("/system.slice/coding-agent.service".into()),
            ..Subject::default()
        };
        let mut event = Event {
            time: Time(BEGIN + n * STEP_NS),
            seq: n + 1,
            kind: if exec { Kind::ProcessExec } else { Kind::NetConnect },
            host: "build-7".into(),
            boot_id: "5f0c2a9e-7d0e-4a53-9a52-6a1c1d5c8e01".into(),
            subject: Some(subject),
            ..Event::default()
        };
        if exec {
            let argv = ["git", "log", "--oneline", "--", "agent-daemon/src/event.rs"];
            let argv = argv.map(Into::into).to_vec();
            event.exec = Some(Exec { argv, cwd: "/srv/work/repository".into(), ..Exec::default() }.into());
        } else {
            let address = format!("203.0.113.{}", n / INSTANCES % 250).parse().ok();
            event.network = Some(Network { address, port: Some(443), ..Network::default() });
        }
        line.clear();
        event.write_line(&mut line);
        out.write_all(&line)?;
    }
    Ok(out.flush()?)
}

/// From one event to the next: ten million are four months.
const STEP_NS: u64 = 1_000_000_000;
