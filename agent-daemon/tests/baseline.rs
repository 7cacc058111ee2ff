//! `chaperone baseline` as it is called: killed at any moment, with bad input, and the same twice.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "baseline/events.rs"]
mod events;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use events::{Events, Plan};
use tempfile::TempDir;

const SMALL: Plan = Plan { roles: 3, endpoints: 60, acts: 60, second_step: 20 };

struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn events(&self, name: &str, plan: Plan, seed: u64, lines: u64) -> PathBuf {
        let (mut events, mut text) = (Events::new(plan, seed), String::new());
        (0..lines).for_each(|_| events.line(&mut text));
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chaperone"));
        command.arg("baseline").args(words).current_dir(self.directory.path()).stdin(Stdio::null());
        command
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn wrong(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "{words:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Everything that the store has of a learned file, its instances and positions included.
fn contents(store: &Path) -> Vec<String> {
    let db = rusqlite::Connection::open(store).unwrap();
    let mut all = Vec::new();
    for (table, columns) in [
        ("role", "name || tally || sources || roster || contents"),
        ("behaviour", "role || ' ' || behaviour || ' ' || first || ' ' || last || ' ' || rest || shown"),
        ("live", "boot || instance || state"),
        ("position", "file || role || bytes || ' ' || lines"),
    ] {
        let mut statement = db.prepare(&format!("SELECT {columns} FROM {table} ORDER BY 1")).unwrap();
        all.extend(statement.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap));
    }
    all
}

#[test]
fn killed_at_any_moment_it_has_learned_every_line_once() {
    let place = Place::new();
    let lines = 4_000;
    place.events("e", SMALL, 7, lines);
    place.ok(&["learn", "--from", "e", "--store", "straight.db", "--flush-lines", "50"]);
    let expected = contents(&place.path("straight.db"));
    assert!(expected.len() > 100);
    let (mut kills, mut rounds, mut random) = (0, 0, 88_172_645_463_325_252_u64);
    while kills < 60 {
        rounds += 1;
        let store = format!("killed-{rounds}.db");
        loop {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let words = ["learn", "--from", "e", "--store", &store, "--flush-lines", "50"];
            let mut child =
                place.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_micros(5_000 + random % 80_000));
            child.kill().unwrap();
            let status = child.wait().unwrap();
            if status.code() == Some(0) {
                break;
            }
            assert_eq!(status.code(), None, "it ended by itself: {status}");
            kills += 1;
        }
        assert!(contents(&place.path(&store)) == expected, "round {rounds}");
    }
    // Of whole learnings alone it would say nothing.
    assert!(kills > 2 * rounds, "{kills} kills in {rounds} rounds");
}

#[test]
fn a_file_that_grows_and_is_renamed_is_learned_once() {
    let place = Place::new();
    let whole = fs::read(place.events("e", SMALL, 3, 3_000)).unwrap();
    place.ok(&["learn", "--from", "e", "--store", "straight.db"]);
    for cut in [whole.len() / 3, whole.len() / 2, whole.len()] {
        fs::write(place.path("grows"), &whole[..cut]).unwrap();
        place.ok(&["learn", "--from", "grows", "--store", "grown.db"]);
    }
    fs::rename(place.path("grows"), place.path("grows.1")).unwrap();
    let again = place.ok(&["learn", "--from", "grows.1", "--store", "grown.db"]);
    assert!(again.contains("0 events learned, 3,000 lines had been learned before"), "{again}");
    assert!(contents(&place.path("grown.db")) == contents(&place.path("straight.db")));
    fs::write(place.path("grows.1"), &whole[..whole.len() / 2]).unwrap();
    let short = place.wrong(&["learn", "--from", "grows.1", "--store", "grown.db"]);
    assert!(short.contains("shorter than what was learned of it"), "{short}");
}

#[test]
fn roles_one_by_one_or_together_give_the_same() {
    let place = Place::new();
    place.events("e", SMALL, 5, 3_000);
    place.ok(&["learn", "--from", "e", "--store", "all.db"]);
    place.ok(&["learn", "--role", "role-1", "--from", "e", "--store", "one.db"]);
    let part = place.ok(&["show", "-o", "json", "--store", "one.db"]);
    assert!(part.contains("role-1") && !part.contains("role-0"), "{part}");
    place.ok(&["learn", "--from", "e", "--store", "one.db"]);
    place.ok(&["learn", "--role", "role-1", "--role", "role-2", "--from", "e", "--store", "one.db"]);
    let export = |store| place.ok(&["export", "--store", store]);
    assert_eq!(export("one.db"), export("all.db"));
}

#[test]
fn findings_of_a_recorded_file_are_the_same_to_the_bit() {
    let place = Place::new();
    place.events("e", SMALL, 7, 6_000);
    place.events("new", Plan { endpoints: 80, acts: 90, ..SMALL }, 8, 3_000);
    place.ok(&["learn", "--from", "e", "--store", "s.db"]);
    let before = contents(&place.path("s.db"));
    let find = || place.ok(&["compare", "--from", "new", "--store", "s.db", "-o", "json"]);
    let (one, two) = (find(), find());
    assert!(one.lines().count() > 100 && one == two);
    assert!(one.contains("new_endpoint"));
    let people = place.ok(&["compare", "--from", "new", "--store", "s.db"]);
    assert!(people.lines().count() < one.lines().count() && people.contains("findings: "), "{people}");
    assert!(contents(&place.path("s.db")) == before, "comparing teaches nothing");
}

#[test]
fn hosts_are_merged_by_export_and_import_and_twice_is_once() {
    let place = Place::new();
    for (name, seed) in [("a", 1), ("b", 2)] {
        let path = place.events(name, SMALL, seed, 2_000);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replace("00000000-0000-4000", &format!("0000000{seed}-0000-4000"))).unwrap();
        place.ok(&["learn", "--from", name, "--store", &format!("{name}.db")]);
        fs::write(
            place.path(&format!("{name}.json")),
            place.ok(&["export", "--store", &format!("{name}.db")]),
        )
        .unwrap();
    }
    place.ok(&["learn", "--from", "a", "b", "--store", "both.db"]);
    place.ok(&["import", "a.json", "b.json", "--store", "merged.db"]);
    let shown = |store| {
        let all: serde_json::Value =
            serde_json::from_str(&place.ok(&["show", "--role", "role-1", "-o", "json", "--store", store]))
                .unwrap();
        all["behaviours"].clone()
    };
    assert_eq!(shown("merged.db").as_array().map(Vec::len), shown("both.db").as_array().map(Vec::len));
    let once = place.ok(&["export", "--store", "merged.db"]);
    place.ok(&["import", "b.json", "a.json", "--store", "merged.db"]);
    assert_eq!(place.ok(&["export", "--store", "merged.db"]), once);
    let diff = place.ok(&["diff", "role-1", "role-2", "--store", "merged.db"]);
    assert!(diff.contains("d0-1.net") && diff.contains("d0-2.net"), "{diff}");
    let newer = once.replace("\"version\":1", "\"version\":9");
    fs::write(place.path("newer.json"), newer).unwrap();
    assert!(
        place
            .wrong(&["import", "a.json", "newer.json", "--store", "fresh.db"])
            .contains("upgrade Chaperone here")
    );
    assert_eq!(place.ok(&["export", "--store", "fresh.db"]), "", "all or nothing");
}

#[test]
fn what_was_seen_in_a_window_or_of_an_instance_is_forgotten_and_not_learned_again() {
    let place = Place::new();
    place.events("e", Plan { second_step: 100, ..SMALL }, 7, 3_000);
    place.ok(&["learn", "--from", "e", "--store", "s.db"]);
    assert!(place.wrong(&["forget", "--role", "role-1", "--store", "s.db"]).contains("say what to forget"));
    let exported = || place.ok(&["export", "--role", "role-1", "--store", "s.db"]);
    assert!(exported().contains("i-0000000100000003"));
    place.ok(&["forget", "--role", "role-1", "--instance", "i-0000000100000003", "--store", "s.db"]);
    place.ok(&["learn", "--from", "e", "--store", "s.db"]);
    assert!(!exported().contains("i-0000000100000003"));
    place.ok(&["forget", "--role", "role-1", "--until", "2026-01-01T00:00:00Z", "--store", "s.db"]);
    assert!(!exported().contains("2026-01-01") && exported().contains("2026-01-02"));
    place.ok(&["forget", "--role", "role-1", "--all", "--store", "s.db"]);
    assert!(
        place
            .wrong(&["export", "--role", "role-1", "--store", "s.db"])
            .contains("nothing has been learned of a role")
    );
    place.ok(&["learn", "--role", "role-1", "--from", "e", "--store", "s.db"]);
    assert!(exported().contains("i-0000000100000003"));
}

#[test]
fn bad_input_is_told_with_its_place_and_the_rest_is_learned() {
    let place = Place::new();
    let good = fs::read_to_string(place.events("good", SMALL, 7, 500)).unwrap();
    // A foreign line, and a last one that was cut off; a clock that was set back a year in between.
    let back = good.replace("\"2026-", "\"2025-");
    let cut = &good[..good.len() - 20];
    fs::write(place.path("bad"), format!("first\n{back}not an event\n{cut}")).unwrap();
    let output = place.run(&["learn", "--from", "bad", "--store", "s.db"]);
    let (told, out) = (text(&output.stderr), text(&output.stdout));
    assert!(output.status.success() && out.contains("999 events learned"), "{out}{told}");
    assert!(told.contains("bad:1: not an event") && told.contains("bad:502: not an event"), "{told}");
    assert!(told.contains("the last line has no end"), "{told}");
    let shown = place.ok(&["show", "--role", "role-1", "-o", "json", "--store", "s.db"]);
    assert!(shown.contains("2025-01") && shown.contains("2026-01"), "{shown}");
    assert!(place.wrong(&["learn", "--from", "none", "--store", "s.db"]).contains("open none"));
    assert!(place.wrong(&["show", "--store", "none.db"]).contains("nothing has been learned yet"));
    assert!(place.wrong(&["show", "--store", "good"]).contains("not a baseline store"));
    fs::write(place.path("empty"), "").unwrap();
    assert!(place.ok(&["learn", "--from", "empty", "--store", "s.db"]).contains("0 events learned"));
    fs::write(place.path("table.yaml"), "- { what: new_endpoint, severity: huge }\n").unwrap();
    let wrong = place.wrong(&["compare", "--from", "good", "--severities", "table.yaml", "--store", "s.db"]);
    assert!(wrong.contains("table.yaml:1"), "{wrong}");
}

#[test]
fn learning_stops_when_the_role_is_stable() {
    let place = Place::new();
    place.events("e", Plan { roles: 1, endpoints: 4, acts: 40, second_step: 20 }, 7, 4_000);
    let out = place.ok(&["learn", "--until-stable", "--from", "e", "--store", "s.db"]);
    assert!(out.contains("role role-0 is stable"), "{out}");
    let rest = place.ok(&["learn", "--from", "e", "--store", "s.db"]);
    assert!(rest.contains("lines had been learned before") && !rest.contains(": 0 events"), "{rest}");
}

#[test]
fn what_is_promoted_is_a_role_and_says_what_it_would_have_refused() {
    let place = Place::new();
    place.events("e", SMALL, 7, 6_000);
    place.ok(&["learn", "--from", "e", "--store", "s.db"]);
    let promote = |more: &[&str]| -> serde_json::Value {
        let words = [
            "promote",
            "--role",
            "role-1",
            "--config",
            "etc",
            "--store",
            "s.db",
            "--against",
            "e",
            "-o",
            "json",
        ];
        serde_json::from_str(&place.ok(&[&words, more].concat())).unwrap()
    };
    // All that was seen, as rules: nothing of it would have been refused.
    let all = promote(&["--support-instances", "1", "--support-days", "1"]);
    let run = &all["dry_run"];
    assert!(run["acts"].as_u64().unwrap() > 500 && all["added"].as_u64().unwrap() > 40, "{all}");
    assert_eq!((run["refused"].as_u64(), run["unjudged"].as_u64()), (Some(0), Some(0)), "{run}");
    // What several instances have shown alone: what would have been refused is what is not usual, to the act.
    let usual = promote(&["--support-instances", "8"]);
    let (run, document) = (&usual["dry_run"], usual["document"].as_str().unwrap());
    let targets = run["targets"].as_object().unwrap();
    let acts: u64 = targets.values().map(|target| target["acts"].as_u64().unwrap()).sum();
    assert!(acts > 0 && Some(acts) == run["refused"].as_u64() && acts < run["acts"].as_u64().unwrap());
    for target in targets.keys() {
        let to = target.strip_suffix(" tcp").unwrap();
        assert!(!document.contains(&format!("\"{to}\"")), "{to} has a rule and is refused");
    }
    // What people have written goes before, and decides.
    let named = document.lines().find(|line| line.contains(".net:443")).unwrap();
    let named = named.split('"').nth(1).unwrap();
    fs::create_dir_all(place.path("etc/roles")).unwrap();
    let role = format!(
        "apiVersion: chaperone/v1\nkind: Role\nmetadata: {{ name: role-1, labels: {{ team: billing }} }}\nspec:\n  mode: enforce\n  \
         baseline: {{ stop: high, kill: critical }}\n  network:\n    \
         default: allow\n    defaults: {{ unix: alert }}\n    rules:\n      - {{ to: \"{named}\", verdict: deny }}\n"
    );
    fs::write(place.path("etc/roles/r.yaml"), role).unwrap();
    let kept = promote(&["--support-instances", "1", "--support-days", "1"]);
    let (run, document) = (&kept["dry_run"], kept["document"].as_str().unwrap());
    assert_eq!(document.matches(named).count(), 1, "{document}");
    for line in [
        "labels: {\"team\":\"billing\"}",
        "mode: enforce",
        "default: deny",
        "defaults: {\"unix\":\"alert\"}",
        "verdict: deny",
        "baseline: {\"stop\":\"high\",\"kill\":\"critical\"}",
    ] {
        assert!(document.contains(line), "{line} in {document}");
    }
    let targets = run["targets"].as_object().unwrap();
    assert_eq!(targets.keys().collect::<Vec<_>>(), [&format!("{named} tcp")]);
    // For people: the file alone on standard output, as the daemon reads it.
    let words = ["promote", "--role", "role-1", "--config", "etc", "--store", "s.db", "--to", "new.yaml"];
    assert_eq!(place.ok(&words), "");
    assert!(place.wrong(&words).contains("it must not exist yet"));
    let check = Command::new(env!("CARGO_BIN_EXE_chaperone"))
        .args(["role", "check"])
        .arg(place.path("new.yaml"))
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", text(&check.stderr));
    assert!(
        place.wrong(&["promote", "--role", "role-9", "--store", "s.db"]).contains("nothing has been learned")
    );
}
