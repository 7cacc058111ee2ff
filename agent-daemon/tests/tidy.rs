//! Keeps the source as docs/ARCHITECTURE.md says it is: who may import whom, who alone may do what, and its form.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Module of the daemon → the modules it may import besides itself; `cli`, which stands on all of them, is not listed.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("event", &[]),
    ("config", &["event"]),
    ("baseline", &["config", "event"]),
    ("trail", &["config", "event"]),
    ("identity", &["config", "event"]),
    ("policy", &["baseline", "config", "event", "identity"]),
    ("kernel", &["config", "event", "identity", "policy"]),
    ("record", &["config", "event"]),
    ("control", &["baseline", "config", "event", "identity", "kernel", "policy", "record"]),
    ("pipeline", &["baseline", "config", "control", "event", "identity", "kernel", "policy", "record"]),
    (
        "daemon",
        &["baseline", "config", "control", "event", "identity", "kernel", "pipeline", "policy", "record"],
    ),
];

/// A word, where it is looked for, and the only files that may have it there. A folder ends in `/`.
const ONLY_IN: &[(&str, &str, &[&str])] = &[
    ("aya", "agent-daemon/src/", &["agent-daemon/src/kernel.rs", "agent-daemon/src/kernel/"]),
    // Refusing, and telling.
    ("EPERM", "agent-ebpf/src/", &["agent-ebpf/src/enforce.rs"]),
    ("EACCES", "agent-ebpf/src/", &[]),
    ("REFUSE", "agent-ebpf/src/", &["agent-ebpf/src/hooks/net/cgroup.rs"]),
    // An agent's task that cgroup mode's table has no room for: ended, since no hook could refuse it anything.
    ("bpf_send_signal", "agent-ebpf/src/", &["agent-ebpf/src/subject.rs"]),
    ("bpf_override_return", "agent-ebpf/src/", &[]),
    ("bpf_probe_write_user", "agent-ebpf/src/", &[]),
    ("EVENTS", "agent-ebpf/src/", &["agent-ebpf/src/emit.rs", "agent-ebpf/src/maps.rs"]),
    ("bpf_ringbuf_output", "agent-ebpf/src/", &["agent-ebpf/src/emit.rs"]),
    ("bpf_ringbuf_reserve", "agent-ebpf/src/", &["agent-ebpf/src/emit.rs"]),
    ("bpf_ringbuf_submit", "agent-ebpf/src/", &["agent-ebpf/src/emit.rs"]),
    // Reading kernel memory.
    (
        "bpf_probe_read_kernel",
        "agent-ebpf/src/",
        &[
            "agent-ebpf/src/kernel.rs",
            "agent-ebpf/src/path.rs",
            "agent-ebpf/src/hooks/net/unix.rs",
            "agent-ebpf/src/hooks/process/recognise.rs",
        ],
    ),
    // Policy has no edge to the world: the same documents give the same table.
    ("tokio", "agent-daemon/src/policy", &[]),
    ("fs", "agent-daemon/src/policy", &[]),
    ("now", "agent-daemon/src/policy", &[]),
    // What a baseline learns and finds depends on events alone.
    ("tokio", "agent-daemon/src/baseline", &[]),
    ("now", "agent-daemon/src/baseline", &[]),
    (
        "fs",
        "agent-daemon/src/baseline",
        &["agent-daemon/src/baseline/store.rs", "agent-daemon/src/baseline/store/"],
    ),
    (
        "rusqlite",
        "agent-daemon/src/",
        &["agent-daemon/src/baseline/store.rs", "agent-daemon/src/baseline/store/"],
    ),
    // A trail is made of lines and nothing else.
    ("fs", "agent-daemon/src/trail", &[]),
    ("now", "agent-daemon/src/trail", &[]),
    // One owner of state.
    ("Mutex", "agent-daemon/src/", &[]),
    ("RwLock", "agent-daemon/src/", &[]),
];

/// Maps that say what is allowed and who is an agent: written by the daemon's `kernel/tables` alone.
const POLICY_MAPS: &[&str] = &[
    "ROLES",
    "EXACT_RULES",
    "PREFIX_RULES",
    "UNIX_RULES",
    "SOCKET_RULES",
    "NAME_IDS",
    "NAME_RULES",
    "RESOLVERS",
    "FILES",
    "BASENAMES",
    "PATHS",
    "SUFFIXES",
    "CGROUP_NAMES",
    "CGROUP_PATHS",
];

const LINES_MAX: usize = 600;

#[test]
fn modules_import_only_what_stands_below_them() {
    let mut wrong = Vec::new();
    for (module, allowed) in MAY_IMPORT {
        let files = sources("agent-daemon/src/").into_iter().filter(|(path, _)| belongs(path, module));
        for (path, text) in files {
            for import in imports(&product(&text)) {
                if import != *module && !allowed.contains(&import.as_str()) {
                    wrong.push(format!("{path} imports {import}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_of_the_daemon_has_an_import_rule() {
    let lib = read("agent-daemon/src/lib.rs");
    let modules: BTreeSet<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let ruled: BTreeSet<&str> = MAY_IMPORT.iter().map(|(module, _)| *module).chain(["cli"]).collect();
    assert_eq!(modules, ruled);
}

#[test]
fn what_one_file_alone_may_do_no_other_does() {
    let mut wrong = Vec::new();
    for (word, below, only) in ONLY_IN {
        for (path, text) in sources(below) {
            let allowed =
                only.iter().any(|place| path == *place || place.ends_with('/') && path.starts_with(place));
            if !allowed && has_word(&product(&text), word) {
                wrong.push(format!("{path} names {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn kernel_programs_never_write_policy_maps_and_of_the_daemon_only_tables_does() {
    let mut wrong = Vec::new();
    for (path, text) in sources("agent-ebpf/src/") {
        let text = product(&text);
        for map in POLICY_MAPS {
            for write in ["insert", "remove", "get_ptr_mut"] {
                if text.contains(&format!("{map}.{write}(")) {
                    wrong.push(format!("{path} writes {map}"));
                }
            }
        }
    }
    // Nothing outside this folder can open a map: it alone names aya.
    for (path, text) in sources("agent-daemon/src/kernel") {
        let named = POLICY_MAPS.iter().find(|map| product(&text).contains(&format!("take(maps, \"{map}\")")));
        if let Some(map) = named.filter(|_| !path.starts_with("agent-daemon/src/kernel/tables")) {
            wrong.push(format!("{path} opens {map}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_hook_answers_by_enforce_alone() {
    let mut wrong = Vec::new();
    for (path, text) in sources("agent-ebpf/src/hooks/") {
        for (at, line) in product(&text).lines().enumerate() {
            // A negative literal or constant as a value is an errno that did not come from `enforce`.
            let line = line.trim();
            let refuses = line.starts_with('-') || line.starts_with("return -") || line.contains("=> -");
            if refuses {
                wrong.push(format!("{path}:{}: {line}", at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_says_what_it_owns_and_is_short_enough_to_read() {
    let mut wrong = Vec::new();
    for (path, text) in all_sources() {
        if !text.starts_with("//! ") {
            wrong.push(format!("{path} does not open with `//!`"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{path} has {lines} lines"));
        }
        for (at, line) in text.lines().enumerate() {
            if line.ends_with([' ', '\t']) {
                wrong.push(format!("{path}:{}: white space at the end", at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let mut wrong = Vec::new();
    for (path, text) in all_sources().into_iter().filter(|(path, _)| !is_test(path)) {
        for (at, line) in product(&text).lines().enumerate() {
            if line.contains(".unwrap()") || line.contains(".unwrap_err()") {
                wrong.push(format!("{path}:{}", at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_map_names_every_folder_and_file_that_it_speaks_of() {
    let map = read("docs/ARCHITECTURE.md");
    let mut wrong = Vec::new();
    for word in map.split(|c: char| c.is_whitespace() || "`(),;:|".contains(c)) {
        let word = word.trim_end_matches('.');
        let ours = ["agent-common/", "agent-ebpf/", "agent-daemon/", "tests/", "xtask/", "deploy/", "docs/"];
        if ours.iter().any(|top| word.starts_with(top))
            && !word.contains(['*', '{', '<', '…'])
            && !root().join(word).exists()
        {
            wrong.push(word.to_owned());
        }
    }
    for entry in fs::read_dir(root()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir()
            && !name.starts_with('.')
            && name != "target"
            && !map.contains(&format!("{name}/"))
        {
            wrong.push(format!("{name}/ is not on the map"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Rust files whose path starts so, with their text.
fn sources(below: &str) -> Vec<(String, String)> {
    all_sources().into_iter().filter(|(path, _)| path.starts_with(below)).collect()
}

fn all_sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for top in ["agent-common", "agent-ebpf", "agent-daemon", "tests", "xtask"] {
        walk(&root().join(top), &mut found);
    }
    let relative = |path: &PathBuf| {
        path.strip_prefix(root()).expect("every source is below the root").to_string_lossy().into_owned()
    };
    found
        .iter()
        .map(|path| (relative(path), fs::read_to_string(path).expect("a source can be read")))
        .collect()
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a folder can be read").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Whether a file of the daemon is the module's, `foo.rs` or below `foo/`.
fn belongs(path: &str, module: &str) -> bool {
    let file = format!("agent-daemon/src/{module}.rs");
    path == file || path.starts_with(&format!("agent-daemon/src/{module}/"))
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("/proof.rs")
}

/// The text without its tests, its comments and its strings' escapes: what the product is made of. Lines stay lines.
fn product(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        if line.trim_start() == "#[cfg(test)]" {
            break;
        }
        let code = if line.trim_start().starts_with("//") { "" } else { line };
        let code = code.split_once(" // ").map_or(code, |(code, _)| code);
        out.push_str(code);
        out.push('\n');
    }
    out
}

fn has_word(text: &str, word: &str) -> bool {
    let part_of_a_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(part_of_a_word) && !after.is_some_and(part_of_a_word)
    })
}

/// Modules named behind `crate::`, one by one or in braces.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, start) in text.match_indices("crate::") {
        let rest = &text[at + start.len()..];
        match rest.strip_prefix('{') {
            Some(list) => found.extend(heads(list)),
            None => found.extend(head(rest)),
        }
    }
    found
}

/// The first word of each item of a list that ends with its closing brace.
fn heads(list: &str) -> Vec<String> {
    let (mut depth, mut item_starts, mut found) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '}' | ',' if depth == 0 => {
                found.extend(head(&list[item_starts..at]));
                item_starts = at + 1;
                if c == '}' {
                    break;
                }
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    found
}

/// The module that a path begins with; types and macros of the crate's root are none.
fn head(path: &str) -> Option<String> {
    let word: String = path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    word.starts_with(char::is_lowercase).then_some(word)
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::one::A;\nuse crate::{two, three::{B, c},\n four};\nfn f() { crate::five::g() }";
    assert_eq!(imports(text).into_iter().collect::<Vec<_>>(), ["five", "four", "one", "three", "two"]);
}
