//! `cargo xtask power`: cuts a guest's power at random moments, and sees at the next boot that its journal holds.
//!
//! The machine is killed: what its kernel has written to the disk stays, what its page cache holds is gone.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::guest::{Cut, Guest, Host, Script, Stream};
use crate::product::{self, Product};
use crate::step::{note, run as command};

/// Room for the journal that is kept, and what a start writes.
const DISK_BYTES: u64 = 192 << 20;
/// A guest that was not cut by then never came to the word that the cut waits for.
const LIFE_MAX: Duration = Duration::from_secs(480);

#[derive(Args)]
pub struct Power {
    /// How often the power is cut
    #[arg(long, default_value_t = 20, value_name = "N")]
    cuts: u32,
    /// Repeat a run's moments
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Harm the journal before the last boot (`middle`, `end`): the run must fail then
    #[arg(long, hide = true, value_name = "HOW")]
    harm: Option<String>,
}

/// What one life of the guest has told.
#[derive(Default)]
struct Told {
    held: Vec<u8>,
    checked: Value,
    promised: Option<(u64, String)>,
    fault: Option<String>,
}

/// What is counted over all lives.
#[derive(Default)]
struct Sum {
    cuts: [u32; MOMENTS.len()],
    unfinished: u32,
    checks: u32,
    promises: u32,
    lost: u64,
}

/// When a cut comes: the word that the guest says before, the longest time after it in ms, and of how many cuts it is.
const MOMENTS: [(&str, Option<&str>, u64, u64); 4] = [
    ("boot", None, 6_000, 1),
    ("check", Some("mounted"), 1_500, 1),
    ("start", Some("starting"), 8_000, 3),
    ("running", Some("running"), 14_000, 7),
];

pub fn run(arguments: &Power) -> Result<ExitCode> {
    let host = Host::ready()?;
    let product = product::build()?;
    let passed = cuts(arguments, &host, &product, &mut |line| println!("{line}"))?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// So many cuts for the whole test: what was said, and whether it held.
pub fn few(cuts_wanted: u32, host: &Host, product: &Product) -> Result<(bool, String)> {
    let mut text = String::new();
    let arguments = Power { cuts: cuts_wanted, seed: None, harm: None };
    let passed = cuts(&arguments, host, product, &mut |line| {
        text += line;
        text.push('\n');
    })?;
    Ok((passed, text))
}

fn cuts(arguments: &Power, host: &Host, product: &Product, say: &mut dyn FnMut(&str)) -> Result<bool> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64);
    let seed = arguments.seed.unwrap_or(clock % 1_000_000);
    say(&format!("seed {seed}: --seed {seed} cuts at the same moments"));
    let mut random = Random(seed);
    let place = product::target_directory()?.join("xtask-power");
    fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
    let disk = place.join(format!("disk-{}", std::process::id()));
    make_disk(&disk)?;
    let (mut sum, mut promised) = (Sum::default(), None);
    for life in 0..=arguments.cuts {
        let last = life == arguments.cuts;
        let drawn = random.moment();
        // The first life is long enough for something to be promised, or a short run could see nothing.
        let (at, moment) = if life == 0 { first() } else { drawn };
        let cut = (!last).then_some(moment);
        let harm = arguments.harm.as_deref().filter(|_| last);
        let told = live(&disk, cut, promised.as_ref(), harm, host, product)?;
        // Of the empty disk nothing is known.
        sum.checks += u32::from(told.checked["records"].is_u64());
        let number = |name: &str| told.checked[name].as_u64().unwrap_or(0);
        sum.unfinished += u32::from(number("unfinished") > 0);
        let name = if last { "none" } else { MOMENTS[at].0 };
        let until = told.promised.as_ref().map_or(0, |(seq, _)| *seq);
        say(&format!(
            "life {life:>3}: found {} records to {}, {} starts, {} acts, {} unsigned, {} bytes unfinished; cut {name} + {} ms; on the disk to {until}",
            number("records"),
            number("last_seq"),
            number("starts"),
            number("acts"),
            number("unsigned"),
            number("unfinished"),
            if last { 0 } else { moment.after.as_millis() },
        ));
        if let Some(fault) = told.fault {
            let before = promised.map_or(0, |(seq, _): (u64, String)| seq);
            say(&format!(
                "FAILED power cuts: {fault} (promised was {before}; the disk is {})",
                disk.display()
            ));
            return Ok(false);
        }
        if told.checked.is_object() {
            let before = promised.as_ref().map_or(0, |(seq, _)| *seq);
            sum.lost += before.saturating_sub(number("last_seq"));
        }
        if !last {
            sum.cuts[at] += 1;
        }
        sum.promises += u32::from(told.promised.is_some());
        promised = told.promised.or(promised);
    }
    fs::remove_file(&disk).with_context(|| format!("remove {}", disk.display()))?;
    let hit: Vec<String> =
        MOMENTS.iter().zip(sum.cuts).map(|((name, ..), count)| format!("{name} {count}")).collect();
    say(&format!(
        "cuts {} ({}), checks {}, lives with something on the disk {}, torn ends {}, promised and lost {}",
        arguments.cuts,
        hit.join(", "),
        sum.checks,
        sum.promises,
        sum.unfinished,
        sum.lost
    ));
    let held = sum.lost == 0 && sum.checks > 0 && sum.promises > 0;
    say(if held {
        "ok power_cuts_leave_the_journal_whole"
    } else {
        "FAILED power cuts: records are lost that were promised, or nothing was promised or checked"
    });
    Ok(held)
}

/// One boot, up to its cut.
fn live(
    disk: &Path,
    cut: Option<Cut>,
    promised: Option<&(u64, String)>,
    harm: Option<&str>,
    host: &Host,
    product: &Product,
) -> Result<Told> {
    // The disk is the fourth: neither files go back nor agents come.
    let mut line = "exec chaperone-tests power --disk /dev/vdd".to_owned();
    if let Some((seq, hash)) = promised {
        line += &format!(" --promised {seq}:{hash}");
    }
    if cut.is_none() {
        line += " --check";
    }
    if let Some(harm) = harm {
        line += &format!(" --harm {harm}");
    }
    let guest = Guest { disk: Some(disk.to_owned()), cut, timeout: LIFE_MAX, ..Guest::default() };
    let mut told = Told::default();
    let mut hear = |stream: Stream, bytes: &[u8]| {
        if stream == Stream::Stdout {
            told.hear(bytes);
        }
    };
    let output = guest.run(host, Some(product), &Script::line(&line), &mut hear)?;
    if !output.cut && output.status != 0 && told.fault.is_none() {
        bail!("the guest's script ended with {}", output.status);
    }
    Ok(told)
}

impl Told {
    fn hear(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        while let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.held[..end]).into_owned();
            self.held.drain(..=end);
            match line.split_once(' ') {
                Some(("checked", text)) => self.checked = serde_json::from_str(text).unwrap_or_default(),
                Some(("FAULT", text)) => self.fault = Some(text.to_owned()),
                Some(("promised", text)) => {
                    let parts = text.split_once(':');
                    self.promised = parts.and_then(|(seq, hash)| Some((seq.parse().ok()?, hash.to_owned())));
                }
                Some(_) => note(&line),
                None => {}
            }
        }
    }
}

fn make_disk(at: &Path) -> Result<()> {
    let file = File::create(at).with_context(|| format!("make {}", at.display()))?;
    file.set_len(DISK_BYTES).with_context(|| format!("size {}", at.display()))?;
    command(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(at))
}

/// While events are recorded, after at least one checkpoint.
fn first() -> (usize, Cut) {
    let at = MOMENTS.len() - 1;
    (at, Cut { word: Some("promised"), after: Duration::from_secs(6) })
}

/// Numbers that a seed repeats (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A kind of moment, as often as the table has it, and its time.
    fn moment(&mut self) -> (usize, Cut) {
        let mut drawn = self.next() % MOMENTS.iter().map(|(.., share)| share).sum::<u64>();
        let mut at = 0;
        while drawn >= MOMENTS[at].3 {
            drawn -= MOMENTS[at].3;
            at += 1;
        }
        let (_, word, ms_max, _) = MOMENTS[at];
        (at, Cut { word, after: Duration::from_millis(self.next() % ms_max) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_moments_and_all_kinds_come() {
        let draw = |seed| {
            let mut random = Random(seed);
            (0..100).map(|_| random.moment()).map(|(at, cut)| (at, cut.after)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!((0..MOMENTS.len()).all(|kind| draw(7).iter().any(|(at, _)| *at == kind)));
    }
}
