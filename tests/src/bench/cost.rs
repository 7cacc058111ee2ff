//! Cost: instructions per operation, bare, with the kernel programs alone, and with the daemon; and what else it takes.

mod machine;
mod scale;
mod size;

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde::Serialize;
use serde_json::{Value, json};

use self::{
    machine::{Machine, Measured},
    size::Sizes,
};
use crate::act::cost::Op;

/// One operation of one origin, in instructions.
#[derive(Debug, Serialize)]
struct Row {
    who: Who,
    op: Op,
    #[serde(flatten)]
    beside: Beside,
    bare: u64,
    kernel_only: u64,
    with_daemon: u64,
    /// The daemon's own processor time, deferred work included.
    daemon: u64,
    /// What the two add to `bare`, in percent.
    kernel_percent: f64,
    whole_percent: f64,
    /// How far the measurements of one value lie apart, in percent: the worst of the row's.
    apart_percent: f64,
}

/// What is in force and lives while it is measured.
#[derive(Debug, Clone, Copy, Serialize)]
struct Beside {
    rules: u32,
    /// Hosts that the role names.
    names: u32,
    /// Addresses that are known by a name.
    addresses: u32,
    instances: u32,
}

const ONE: Beside = Beside { rules: 1, names: 0, addresses: 0, instances: 1 };

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Who {
    /// Outside every instance, nobody's terminal.
    Other,
    Agent,
}

const OPS: [Op; 4] = [Op::Exec, Op::Connect, Op::Open, Op::Getpid];
/// What passes the programs for names.
const TALK: [Op; 4] = [Op::Connect, Op::Hello, Op::Bulk, Op::Stream];

/// Measures everything, or the start and the parts named in `CHAPERONE_COST`: `table`, `names`, `spoken`,
/// `scale`, `rules`, `instances`, `memory`.
pub fn run() -> Result<Value> {
    let parts = std::env::var("CHAPERONE_COST")
        .unwrap_or_else(|_| "table,names,spoken,scale,rules,instances,memory".to_owned());
    let wanted = |part: &str| parts.split(',').any(|named| named == part);
    let mut machine = Machine::prepare()?;
    // Whatever init has begun ends meanwhile; the clock leaps over idle time.
    std::thread::sleep(WARM_UP);
    let mut bare = BTreeMap::new();
    if ["table", "names", "scale", "instances", "rules"].into_iter().any(wanted) {
        for op in OPS {
            bare.insert(op as u8, machine.measure(Who::Other, op)?);
        }
    }
    if wanted("names") || wanted("spoken") {
        for op in TALK {
            bare.insert(op as u8, machine.measure(Who::Other, op)?);
        }
    }
    let start = machine.start(&documents(1))?;
    eprintln!("start {start}");
    if std::env::var_os("CHAPERONE_ACCOUNT").is_some() {
        eprintln!("{}", machine.daemon()?.log());
    }
    let mut rows = Vec::new();
    let mut sizes = Sizes::default();
    let mut resident = BTreeMap::from([("at start", machine.resident()?)]);
    if wanted("table") {
        rows.extend(table(&mut machine, &bare, &OPS, ONE, &mut sizes)?);
    }
    if wanted("names") {
        // By default, so that the address is looked up among those that have names.
        let by_name = documents(1).replace(LAST, NAMES).replace("default: deny", "default: allow");
        machine.replace(&by_name)?;
        let beside = Beside { rules: 2, names: 2, ..ONE };
        rows.extend(table(&mut machine, &bare, &TALK, beside, &mut Sizes::default())?);
        machine.replace(&documents(1))?;
    }
    if wanted("spoken") {
        // Allowed by its one name alone, so that what is said first is compared.
        scale::lay(&mut machine, 1, 1, 1)?;
        let beside = Beside { names: 1, addresses: 1, ..ONE };
        rows.extend(table(&mut machine, &bare, &TALK, beside, &mut Sizes::default())?);
        machine.replace(&documents(1))?;
    }
    if wanted("scale") {
        for (roles, names, addresses) in [(1, 1, 1), SCALE] {
            scale::lay(&mut machine, roles, names, addresses)?;
            let beside = Beside { names: roles * names, addresses, ..ONE };
            rows.extend(table(&mut machine, &bare, &OPS[1..2], beside, &mut Sizes::default())?);
            resident.insert(if roles == 1 { "one name" } else { "10000 names" }, machine.resident()?);
            eprintln!("maps {} kB", machine.maps_kb()?);
        }
        machine.replace(&documents(1))?;
    }
    // Before there is a crowd: what a rule costs shows beside one rule and nothing else.
    if wanted("rules") {
        machine.replace(&documents(RULES))?;
        rows.extend(table(
            &mut machine,
            &bare,
            &OPS[..2],
            Beside { rules: RULES, ..ONE },
            &mut Sizes::default(),
        )?);
        resident.insert("with 10000 rules", machine.resident()?);
        machine.replace(&documents(1))?;
    }
    if wanted("instances") {
        machine.crowd(INSTANCES)?;
        resident.insert("1000 live processes", machine.resident()?);
        rows.extend(table(
            &mut machine,
            &bare,
            &OPS[..2],
            Beside { instances: INSTANCES, ..ONE },
            &mut Sizes::default(),
        )?);
    }
    if wanted("memory") {
        machine.crowd(if wanted("instances") { PROCESSES - INSTANCES } else { PROCESSES })?;
        resident.insert("10000 live processes", machine.resident()?);
    }
    let mut report = json!({
        "unit": "instructions",
        "rows": rows,
        "start": start,
        "resident_kb": resident,
        "kernel_maps_kb": machine.maps_kb()?,
        "binary_kb": machine.binary_kb()?,
        "idle_per_second": machine.idle()?,
    });
    if let Some(report) = report.as_object_mut() {
        report.insert("bytes".to_owned(), sizes.json());
    }
    Ok(report)
}

/// Every origin's operations with what is in force now; `bare` was measured before.
fn table(
    machine: &mut Machine,
    bare: &BTreeMap<u8, Measured>,
    ops: &[Op],
    beside: Beside,
    sizes: &mut Sizes,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for op in ops {
        for who in [Who::Other, Who::Agent] {
            let before = sizes.before(machine)?;
            let whole = machine.measure(who, *op)?;
            if who == Who::Agent {
                sizes.after(machine, *op, before)?;
            }
            machine.signal(Signal::SIGSTOP)?;
            let alone = machine.measure(who, *op);
            machine.signal(Signal::SIGCONT)?;
            let alone = alone?;
            machine.settle();
            let bare = bare.get(&(*op as u8)).context("every operation was measured bare")?;
            let row = row(who, *op, beside, bare, &alone, &whole);
            eprintln!("{}", serde_json::to_string(&row)?);
            rows.push(row);
        }
    }
    Ok(rows)
}

fn row(who: Who, op: Op, beside: Beside, bare: &Measured, alone: &Measured, whole: &Measured) -> Row {
    let percent =
        |now: u64| ((now as f64 - bare.whole as f64) / bare.whole as f64 * 100_000.0).round() / 1000.0;
    Row {
        who,
        op,
        beside,
        bare: bare.whole,
        kernel_only: alone.whole,
        with_daemon: whole.whole,
        daemon: whole.daemon,
        kernel_percent: percent(alone.whole),
        whole_percent: percent(whole.whole),
        apart_percent: [bare, alone, whole].map(|m| m.apart_percent).into_iter().fold(0.0, f64::max),
    }
}

/// An agent whose role allows what the operations reach, by the last of so many rules.
fn documents(rules: u32) -> String {
    let mut text = format!(
        "apiVersion: chaperone/v1\nkind: Agent\nmetadata: {{ name: cost }}\nspec: {{ owner: tests, role: cost, match: [ {{ \
         exe: {} }} ] }}\n---\napiVersion: chaperone/v1\nkind: Role\nmetadata: {{ name: cost }}\nspec:\n  mode: \
         enforce\n  network:\n    default: deny\n    defaults: {{ unix: allow }}\n    rules:\n",
        machine::LAUNCHER
    );
    for n in 1..rules {
        // Half of them single addresses, half prefixes.
        let (a, b, prefix) = (n / 250, n % 250, if n % 2 == 0 { "" } else { "/28" });
        let last = if n % 2 == 0 { 1 } else { 16 };
        let _ = writeln!(text, "      - {{ to: \"10.{a}.{b}.{last}{prefix}:443\", verdict: allow }}");
    }
    let _ = writeln!(text, "      - {LAST}");
    text
}

/// What allows the operations' connects.
const LAST: &str = "{ to: 127.0.0.0/8, verdict: allow }";
/// Two hosts in its place.
const NAMES: &str =
    "{ to: \"api.example.com:443\", verdict: allow }\n      - { to: \"*.example.org:443\", verdict: allow }";
/// Roles, names that each of them has, addresses known by a name.
const SCALE: (u32, u32, u32) = (100, 100, 100_000);
const WARM_UP: Duration = Duration::from_secs(20);
const RULES: u32 = 10_000;
const INSTANCES: u32 = 1_000;
const PROCESSES: u32 = 10_000;
