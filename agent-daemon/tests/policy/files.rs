//! Files in whatever state: read, or a clear error; never a panic, a wait or something left out in silence.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use chaperone::{
    config::{Arguments, Config, Documents, problem::Problems},
    policy,
};

use super::{agent, role};

const ROLE: &str = "apiVersion: chaperone/v1\nkind: Role\nmetadata: { name: r }\nspec: { mode: observe, network: { default: allow } }\n";

/// A configuration directory with a good role.
fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a scratch directory");
    for name in ["agents", "roles"] {
        fs::create_dir(dir.path().join(name)).expect("a scratch directory");
    }
    fs::write(dir.path().join("roles/r.yaml"), ROLE).expect("a scratch directory");
    dir
}

fn problems(dir: &Path) -> Problems {
    let (documents, found) = Documents::read(dir, None);
    policy::build(&documents, found).err().unwrap_or_default()
}

/// The only problem of a directory with one more role file.
fn problem_with(make: impl FnOnce(&Path)) -> String {
    let dir = directory();
    make(&dir.path().join("roles/x.yaml"));
    let problems = problems(dir.path());
    assert_eq!(problems.0.len(), 1, "{problems}");
    problems.0[0].to_string().replace(&dir.path().display().to_string(), "")
}

#[test]
fn no_directory_is_an_empty_registry() {
    let dir = tempfile::tempdir().unwrap();
    let (documents, found) = Documents::read(&dir.path().join("nowhere"), None);
    let (registry, table) = policy::build(&documents, found).unwrap();
    assert_eq!((registry.agents().len(), registry.roles().len(), table.roles.len()), (0, 1, 1));
}

#[test]
fn both_endings_are_read_and_what_editors_leave_behind_is_not() {
    let dir = directory();
    fs::write(dir.path().join("agents/a.yml"), agent("a", "r", "[]")).unwrap();
    for name in [".a.yaml.swp", ".hidden.yaml", "a.yaml~", "a.yaml.rpmsave", "README"] {
        fs::write(dir.path().join("agents").join(name), "{{{").unwrap();
    }
    symlink("user@host.1234", dir.path().join("agents/.#a.yaml")).unwrap();
    let (documents, found) = Documents::read(dir.path(), None);
    let (registry, _) = policy::build(&documents, found).unwrap();
    assert!(registry.agent_named("a").is_some());
    assert_eq!(registry.agents().len(), 1);
}

#[test]
fn several_documents_in_a_file() {
    let dir = directory();
    let text = agent("a", "r", "[]")
        + "---\n"
        + &agent("b", "s", "[]")
        + "---\n"
        + &role("s", "alert", "{ default: deny }");
    fs::write(dir.path().join("agents/all.yaml"), text).unwrap();
    assert_eq!(problems(dir.path()), Problems::default());
}

#[test]
fn empty_and_half_written_files() {
    let empty = "/roles/x.yaml: holds no document (write a document, or remove the file: an empty one is taken for half-written)";
    assert_eq!(problem_with(|path| fs::write(path, "").unwrap()), empty);
    assert_eq!(problem_with(|path| fs::write(path, "# soon\n---\n").unwrap()), empty);
    // All written before the first is read: one that has just been written is waited for.
    let cuts = (1..ROLE.trim_end().len()).map(|cut| {
        let dir = directory();
        fs::write(dir.path().join("roles/r.yaml"), &ROLE[..cut]).unwrap();
        (cut, dir)
    });
    for (cut, dir) in cuts.collect::<Vec<_>>() {
        assert!(!problems(dir.path()).is_empty(), "{}", &ROLE[..cut]);
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_one_or_the_other_or_an_error() {
    let dir = directory();
    let path = dir.path().join("roles/x.yaml");
    // Two contents of one length, written in place, a part at a time: a mixture of them would be good YAML too.
    let rules = |verdict: &str| {
        let rules: Vec<String> =
            (0..200).map(|i| format!("{{ to: \"10.0.0.{i}:443\", verdict: {verdict} }}")).collect();
        role("x", "enforce", &format!("{{ default: deny, rules: [ {} ] }}", rules.join(",\n    ")))
    };
    let contents = [rules("allow"), rules("alert")];
    fs::write(&path, &contents[0]).unwrap();
    // When the writer wrote last, and the longest it was away, in milliseconds: on a busy machine it may be put aside
    // half-way, and then nothing tells the file from one that is whole.
    let begun = Instant::now();
    let (end, last, away) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let shared = Arc::new((end, last, away));
    let (writes, to, theirs) = (contents.clone(), path.clone(), shared.clone());
    let writer = std::thread::spawn(move || {
        let file = fs::OpenOptions::new().write(true).open(to).unwrap();
        let (end, last, away) = &*theirs;
        while !end.load(Relaxed) {
            for content in &writes {
                for (at, part) in content.as_bytes().chunks(1000).enumerate() {
                    file.write_all_at(part, at as u64 * 1000).unwrap();
                    let now = begun.elapsed().as_millis() as u64;
                    away.fetch_max(now - last.swap(now, Relaxed), Relaxed);
                }
            }
        }
    });
    let (end, last, away) = &*shared;
    let mut refused = 0;
    for _ in 0..20 {
        away.store(0, Relaxed);
        let (documents, problems) = Documents::read(dir.path(), None);
        let since = (begun.elapsed().as_millis() as u64).saturating_sub(last.load(Relaxed));
        let rules = documents.roles.iter().flat_map(|role| &role.spec.network.rules);
        let mixed = rules.map(|rule| rule.verdict as u8).collect::<BTreeSet<_>>().len() > 1;
        // A file's times are those of the last tick, which may be 10 ms before.
        assert!(!mixed || away.load(Relaxed).max(since) >= 10, "a mixture was read");
        if !problems.is_empty() {
            assert!(problems.to_string().contains("is being changed while it is read"), "{problems}");
            refused += 1;
        }
    }
    end.store(true, Relaxed);
    writer.join().unwrap();
    assert!(refused > 0);
    // What has settled is read.
    assert_eq!(problems(dir.path()), Problems::default());
}

#[test]
fn huge_and_foreign_files() {
    let large = format!("# {}\n{ROLE}", "x".repeat(1 << 20));
    assert_eq!(
        problem_with(|path| fs::write(path, large).unwrap()),
        "/roles/x.yaml: is larger than 1024 KiB (split it into several files)"
    );
    assert_eq!(
        problem_with(|path| fs::write(path, b"a: 1\nb: \xff\xfe\n").unwrap()),
        "/roles/x.yaml:2: is not UTF-8 (save it as UTF-8)"
    );
    assert_eq!(
        problem_with(|path| fs::create_dir(path).unwrap()),
        "/roles/x.yaml: is not a regular file (replace it by a file, or rename it)"
    );
    let dir = directory();
    fs::write(dir.path().join("roles/r.yaml"), format!("\u{feff}{ROLE}")).unwrap();
    assert_eq!(problems(dir.path()), Problems::default());
}

#[test]
fn a_named_pipe_does_not_stop_the_daemon() {
    let problem = problem_with(|path| {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR).unwrap();
    });
    assert_eq!(problem, "/roles/x.yaml: is not a regular file (replace it by a file, or rename it)");
}

#[test]
fn an_unreadable_file_is_told_not_passed_over() {
    // Root may read everything.
    if nix::unistd::geteuid().is_root() {
        return;
    }
    let problem = problem_with(|path| {
        fs::write(path, ROLE).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    });
    assert!(problem.starts_with("/roles/x.yaml: cannot be read: Permission denied"), "{problem}");
}

#[test]
fn symlinks_are_followed_and_told_with_what_they_lead_to() {
    let dir = directory();
    let real = dir.path().join("real.txt");
    fs::write(&real, role("s", "enforcing", "{ default: deny }")).unwrap();
    symlink(&real, dir.path().join("roles/x.yaml")).unwrap();
    let problems = problems(dir.path());
    assert_eq!(problems.0.len(), 1);
    let file = problems.0[0].place.file.to_string();
    let expected =
        format!("{}/roles/x.yaml -> {}", dir.path().display(), real.canonicalize().unwrap().display());
    assert_eq!(file, expected);
    let broken = problem_with(|path| symlink("nowhere", path).unwrap());
    assert!(broken.starts_with("/roles/x.yaml: cannot be read: No such file"), "{broken}");
    let circle = problem_with(|path| symlink(path, path).unwrap());
    assert!(circle.starts_with("/roles/x.yaml: cannot be read: Too many"), "{circle}");
}

#[test]
fn two_names_of_one_program_are_one_claim() {
    let dir = directory();
    let program = dir.path().join("program");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    let (link, hard) = (dir.path().join("link"), dir.path().join("hard"));
    symlink(&program, &link).unwrap();
    fs::hard_link(&program, &hard).unwrap();
    for other in [link, hard] {
        let text = agent("a", "r", &format!("[ {{ exe: {} }} ]", program.display()))
            + "---\n"
            + &agent("b", "r", &format!("[ {{ exe: {} }} ]", other.display()));
        fs::write(dir.path().join("agents/a.yaml"), text).unwrap();
        let problems = problems(dir.path());
        assert_eq!(problems.0.len(), 1, "{problems}");
        assert!(problems.0[0].what.starts_with("the agents `b` and `a` both claim"), "{problems}");
    }
}

#[test]
fn a_link_to_an_interpreter_is_no_way_around() {
    let dir = directory();
    let link = dir.path().join("my-agent");
    let node = dir.path().join("node");
    fs::write(&node, "").unwrap();
    symlink(&node, &link).unwrap();
    fs::write(
        dir.path().join("agents/a.yaml"),
        agent("a", "r", &format!("[ {{ exe: {} }} ]", link.display())),
    )
    .unwrap();
    let problems = problems(dir.path());
    assert!(problems.0[0].what.contains("runs every program of its kind"), "{problems}");
}

#[test]
fn files_that_somebody_names_must_exist() {
    let dir = directory();
    let (documents, found) =
        Documents::read_paths(&[dir.path().join("roles/nowhere.yaml"), dir.path().into()]);
    assert_eq!(documents.roles.len(), 1);
    assert_eq!(policy::build(&documents, found).unwrap_err().0.len(), 1);
}

#[test]
fn settings_have_defaults_and_errors_like_everything_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chaperone.yaml");
    assert_eq!(Config::load(&path), Ok(Config::default()));
    let write = |spec: &str| {
        fs::write(&path, format!("apiVersion: chaperone/v1\nkind: Daemon\nspec:\n{spec}")).unwrap();
        Config::load(&path)
    };
    let config = write(
        "  control_group: 1000\n  record: { human: { argv: program }, system: { argv: true } }\n  login_programs: [ /bin/login ]\n  mask_words: [ pin ]\n  events_file_bytes_max: 0\n",
    )
    .unwrap();
    assert_eq!(config.control_group.as_deref(), Some("1000"));
    assert!(
        config.record.human.argv == Arguments::Program
            && config.record.human.processes
            && !config.record.system.processes
    );
    assert_eq!(config.record.system.argv, Arguments::Masked);
    assert_eq!((config.login_programs.len(), config.events_file_bytes_max), (1, 0));
    for (spec, expected) in [
        (
            "  sinks: { a: { to: \"journald:\", kinds: [ net, proces_exec ] } }\n",
            "4:48: a kind cannot be `proces_exec` (did you mean `process_exec`?)",
        ),
        (
            "  sinks: { a: { to: \"journald:\", verdicts: [ dney ] } }\n",
            "4:46: a verdict cannot be `dney` (did you mean `deny`?)",
        ),
        (
            "  sinks: { a: { to: \"journald:\", severity_min: hihg } }\n",
            "4:48: severity_min cannot be `hihg` (did you mean `high`?)",
        ),
        (
            "  sinks: { a: { to: \"journald:\", kinds: [] } }\n",
            "4:41: kinds is empty (name at least one, or leave kinds out: then all are sent)",
        ),
        (
            "  sinks: { a: { to: \"journald:\", knids: [ net ] } }\n",
            "4:34: a sink has no field `knids` (did you mean `kinds`?)",
        ),
        ("  record: { humans: {} }\n", "4:13: record has no field `humans` (did you mean `human`?)"),
        ("  record: { human: { argv: yes } }\n", "4:28: argv cannot be `yes` (known: none, program, masked)"),
        ("  events_file: events\n", "4:16: events_file cannot be `events` (write an absolute path)"),
        (
            "  events_file_bytes_max: 5\n",
            "4:26: events_file_bytes_max cannot be 5 (at least 1048576, or 0 for no bound)",
        ),
        (
            "  events_file_bytes_max: many\n",
            "4:26: events_file_bytes_max must be a whole number, this is a text (write a whole number)",
        ),
        (
            "  mask_words: [ a ]\n",
            "4:17: a mask word cannot be `a` (at least three characters, or it masks nearly everything)",
        ),
    ] {
        let problems = write(spec).unwrap_err();
        assert_eq!(problems.0.len(), 1, "{problems}");
        assert!(problems.to_string().ends_with(expected), "{problems}\n{expected}");
    }
    fs::write(&path, ROLE).unwrap();
    assert!(Config::load(&path).is_err());
}
