//! docs/OPERATING.md names what there is: every metric, every counter, every log line, every bound.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use agent_common::event::Counter;
use chaperone::{
    baseline::compare::grouped,
    pipeline::bounds::{BOUNDS, UNBOUNDED},
};

#[test]
fn every_metric_is_explained_and_none_that_is_not_there() {
    let code = read("agent-daemon/src/record/metrics/text.rs");
    let known: BTreeSet<&str> = metrics(&code).collect();
    let page = read("docs/OPERATING.md");
    let told: BTreeSet<&str> = metrics(&page).collect();
    assert!(known.len() > 20, "{known:?}");
    assert_eq!(known, told);
}

#[test]
fn every_counter_of_the_kernel_side_is_explained() {
    let page = read("docs/OPERATING.md");
    for counter in Counter::ALL {
        assert!(page.contains(&format!("`{}`", counter.name())), "{}", counter.name());
    }
}

#[test]
fn every_line_that_asks_for_somebody_is_explained() {
    let page = read("docs/OPERATING.md");
    let lines: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let mut there = 0;
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        for call in ["warn!(", "error!("] {
            for said in text.split(call).skip(1) {
                // The message is the last text of the call; fields before it have none of their own.
                let call = &said[..said.find(");").unwrap_or(said.len())];
                let Some(message) = call.split('"').skip(1).step_by(2).find(|text| text.contains(' ')) else {
                    continue;
                };
                there += 1;
                let message = message.split(['{', '`', '\\', ';', ':']).next().unwrap().trim_end();
                assert!(lines.iter().any(|line| line.contains(message)), "{}: {message}", path.display());
            }
        }
    }
    assert!(there >= 12, "{there}");
}

#[test]
fn a_daemon_that_fails_is_started_again_however_often() {
    let unit = read("deploy/systemd/chaperone.service");
    let (of_unit, of_service) = unit.split_once("[Service]").unwrap();
    assert!(of_unit.lines().any(|line| line == "StartLimitIntervalSec=0"));
    assert!(of_service.lines().any(|line| line == "Restart=on-failure"));
}

#[test]
fn the_table_of_bounds_is_current() {
    let mut table = String::from("| name | bound | holds | at the bound |\n|---|---|---|---|\n");
    for of in BOUNDS {
        let bound = if of.bound == UNBOUNDED { "tasks, sockets".to_owned() } else { grouped(of.bound) };
        table.push_str(&format!("| `{}` | {bound} | {} | {} |\n", of.name, of.holds, of.at_bound));
    }
    let path = root().join("docs/OPERATING.md");
    let page = fs::read_to_string(&path).unwrap();
    let begin = page.find("<!-- bounds").map(|at| at + page[at..].find('\n').unwrap() + 1).unwrap();
    let end = page.find("<!-- end of bounds -->").unwrap();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, format!("{}\n{table}\n{}", &page[..begin], &page[end..])).unwrap();
        return;
    }
    assert!(page[begin..end].trim() == table.trim(), "UPDATE=1 cargo test -p agent-daemon --test operating");
}

fn metrics(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("chaperone_"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().flatten().map(|entry| entry.path()));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}
