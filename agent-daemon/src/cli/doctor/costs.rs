//! What the daemon costs, and how full what is bounded is.

use anstyle::Style;
use serde_json::{Value, json};

use crate::{
    cli::render::{BAD, DIM, Table, WARN, paint},
    control::api::{BoundView, Status},
    kernel::measure,
    pipeline::bounds::{BOUNDS, Bound, UNBOUNDED},
};

/// Of the running daemon, or without what is in use.
pub(super) fn bounds(status: Option<&Status>) -> Vec<BoundView> {
    status.map_or_else(|| BOUNDS.iter().map(Bound::view).collect(), |status| status.bounds.clone())
}

/// Memory on both sides; nothing where no daemon runs.
pub(super) fn memory(status: Option<&Status>) -> Value {
    status.map_or(Value::Null, |status| {
        json!({
            "resident_bytes": status.resident_bytes,
            "kernel_bytes": status.kernel.bytes(),
            "kernel_bytes_from": "memlock in /proc/PID/fdinfo: of full maps before 6.4, of maps as they are since",
        })
    })
}

/// Every bound, one a line.
pub(super) fn bounds_table(status: Option<&Status>) -> String {
    let mut table = Table::with_headings(&["NAME", "USED", "BOUND", "HOLDS; AT THE BOUND"]);
    for of in bounds(status) {
        let used = of.used.map_or_else(|| "-".to_owned(), |used| used.to_string());
        let bound = if of.bound == UNBOUNDED { "tasks, sockets".to_owned() } else { of.bound.to_string() };
        table.row([
            (Style::new(), of.name.clone()),
            (fill(&of), used),
            (Style::new(), bound),
            (DIM, format!("{}; {}", of.holds, of.at_bound)),
        ]);
    }
    table.render(usize::MAX)
}

/// Memory on both sides, what is nearly full, and whether hooks are timed.
pub(super) fn costs(status: &Status) -> String {
    let kernel = &status.kernel;
    let maps: u64 = kernel.maps.iter().map(|map| map.bytes).sum();
    let mut out = format!(
        "\nmemory: {} resident, {} in the kernel ({} maps {}, {} programs {})\n",
        mib(status.resident_bytes),
        mib(kernel.bytes()),
        kernel.maps.len(),
        mib(maps),
        kernel.hooks.len(),
        mib(kernel.bytes() - maps),
    );
    let mut largest: Vec<_> = kernel.maps.iter().collect();
    largest.sort_by_key(|map| std::cmp::Reverse(map.bytes));
    let largest: Vec<String> =
        largest.iter().take(LARGEST_SHOWN).map(|map| format!("{} {}", map.name, mib(map.bytes))).collect();
    let largest = format!(
        "largest: {}; as the kernel states it (memlock in fdinfo), before 6.4 for full maps",
        largest.join(", ")
    );
    out.push_str(&format!("  {}\n", paint(DIM, largest)));
    let nearly: Vec<&BoundView> = status.bounds.iter().filter(|of| share(of) >= NEARLY).collect();
    for of in &nearly {
        let text = format!("{} holds {} of {}:", of.name, of.used.unwrap_or_default(), of.bound);
        out.push_str(&format!("  {} {}\n", paint(fill(of), text), of.at_bound));
    }
    if nearly.is_empty() {
        let text = format!("{} bounds, none half reached (chaperone doctor --bounds)", status.bounds.len());
        out.push_str(&format!("  {}\n", paint(DIM, text)));
    }
    if !measure::runs_are_counted() {
        let text = "hooks are not timed: sysctl kernel.bpf_stats_enabled=1 does it, for every BPF program of the host";
        out.push_str(&format!("  {}\n", paint(DIM, text)));
    }
    out
}

/// In per cent.
fn share(of: &BoundView) -> u64 {
    of.used.filter(|_| of.bound != UNBOUNDED && of.name != EVENTS).unwrap_or_default() * 100 / of.bound.max(1)
}

fn fill(of: &BoundView) -> Style {
    match share(of) {
        FULL.. => BAD,
        NEARLY.. => WARN,
        _ => Style::new(),
    }
}

fn mib(bytes: u64) -> String {
    let tenths = (bytes * 10).div_ceil(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// It fills and empties with every batch: what does not fit is counted as lost.
const EVENTS: &str = "EVENTS";
/// Per cent of a bound from which it is named. Maps that a change of configuration fills twice are full at half.
const NEARLY: u64 = 40;
const FULL: u64 = 90;
const LARGEST_SHOWN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearly_full_is_named_with_what_happens() {
        let of =
            |name: &str, used| BoundView { name: name.to_owned(), bound: 100, used, ..BoundView::default() };
        let mut status = Status { bounds: vec![of("A", Some(39)), of("B", None)], ..Status::default() };
        assert!(costs(&status).contains("2 bounds, none half reached"));
        status.bounds.push(BoundView { at_bound: "it is killed".to_owned(), ..of("C", Some(95)) });
        let text = anstream::adapter::strip_str(&costs(&status)).to_string();
        assert!(text.contains("C holds 95 of 100: it is killed") && !text.contains("A holds"), "{text}");
        assert_eq!((mib(0), mib(1), mib(1 << 20)), ("0.0 MiB".into(), "0.1 MiB".into(), "1.0 MiB".into()));
    }

    #[test]
    fn without_a_daemon_the_bounds_are_told_all_the_same() {
        let table = anstream::adapter::strip_str(&bounds_table(None)).to_string();
        assert!(table.lines().count() == BOUNDS.len() + 1 && table.contains("INSTANCES"), "{table}");
    }
}
