//! Who already runs: every process that is older than the daemon, judged from /proc.

use std::{
    collections::{BTreeMap, HashMap},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use agent_common::identity::{Instance, Label, Match, Origin, Recognised, Seed, evidence, match_flags};
use procfs::process::{Process, StatFlags, all_processes};

use super::{
    identified::Identities,
    naming::{Files, cgroup_root},
    registry::is_interpreter,
};

/// A process as /proc shows it.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    pub pid: u32,
    pub ppid: u32,
    /// Since boot, in ticks of 10 ms.
    pub start_ticks: u64,
    pub tty: bool,
    pub loginuid: Option<u32>,
    /// Path of its cgroup in the unified hierarchy, and the cgroup's id.
    pub cgroup: String,
    pub cgroup_id: u64,
    /// Identity (inode, device) and path of the executable file.
    pub exe: Option<((u64, u32), PathBuf)>,
    /// The file that its first argument names, behind every symlink, when its executable is an interpreter's.
    pub script: Option<((u64, u32), PathBuf)>,
    pub comm: String,
}

/// A process with the label that it gets.
#[derive(Clone, Debug)]
pub struct Running {
    pub pid: u32,
    pub comm: String,
    pub exe: Option<PathBuf>,
    pub seed: Seed,
    /// The instance that begins with it.
    pub begins: Option<Instance>,
    /// The container's cgroup, when it begins by that.
    pub container: Option<u64>,
    seen: Option<Image>,
}

/// What a process runs: its start, and the identity of its executable and script.
type Image = (u64, Option<(u64, u32)>, Option<(u64, u32)>);

impl Running {
    /// Whether the process still runs what it was judged by.
    #[must_use]
    pub fn is_as_seen(&self, files: &Files) -> bool {
        let now = Process::new(self.pid as i32).ok();
        let now = now.and_then(|process| show(&process, files, None));
        now.is_some_and(|now| Some(now.image()) == self.seen)
    }
}

impl Shown {
    fn image(&self) -> Image {
        let identity = |file: &Option<((u64, u32), PathBuf)>| file.as_ref().map(|(identity, _)| *identity);
        (self.start_ticks, identity(&self.exe), identity(&self.script))
    }
}

/// The process ids that /proc shows.
#[must_use]
pub fn pids() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// All processes, parents before children where both are shown.
#[must_use]
pub fn running() -> Vec<Shown> {
    let (files, root) = (Files::now(), cgroup_root().ok());
    let Ok(processes) = all_processes() else { return Vec::new() };
    let mut shown: Vec<Shown> =
        processes.flatten().filter_map(|process| show(&process, &files, root.as_deref())).collect();
    shown.sort_by_key(|process| (process.start_ticks, process.pid));
    shown
}

fn show(process: &Process, files: &Files, root: Option<&Path>) -> Option<Shown> {
    let stat = process.stat().ok()?;
    let pid = process.pid as u32;
    let shown = Shown {
        pid,
        ppid: stat.ppid as u32,
        start_ticks: stat.starttime,
        tty: stat.tty_nr != 0,
        comm: stat.comm,
        ..Shown::default()
    };
    // Half of a small host's processes are the kernel's own, which have no file and are nobody's work.
    if stat.flags & StatFlags::PF_KTHREAD.bits() != 0 {
        return Some(shown);
    }
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let cgroup = process
        .cgroups()
        .ok()
        .and_then(|cgroups| cgroups.into_iter().find(|cgroup| cgroup.hierarchy == 0))
        .map(|cgroup| cgroup.pathname)
        .unwrap_or_default();
    let cgroup_id = root
        .and_then(|root| std::fs::metadata(root.join(cgroup.trim_start_matches('/'))).ok())
        .map_or(0, |metadata| metadata.ino());
    let exe_path = std::fs::read_link(proc.join("exe")).ok();
    let exe = exe_path.and_then(|path| Some((files.identity(&proc.join("exe"))?, path)));
    let interpreted = exe.as_ref().is_some_and(|(_, path)| is_interpreter(path));
    Some(Shown {
        loginuid: login_uid(pid),
        cgroup,
        cgroup_id,
        script: if interpreted { script(process, &proc, files) } else { None },
        exe,
        ..shown
    })
}

/// Who logged in before this process came to be, as audit has it; `None` where nobody did.
#[must_use]
pub fn login_uid(pid: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

/// The script that an interpreter runs is its first argument that is not an option (execve of a `#!` file puts it
/// there), found below the process's own root and working directory.
fn script(process: &Process, proc: &Path, files: &Files) -> Option<((u64, u32), PathBuf)> {
    let arguments = process.cmdline().ok()?;
    let argument = arguments.iter().skip(1).find(|argument| !argument.starts_with('-'))?;
    files.argument(proc, argument)
}

/// Labels for those that have none yet. `label` answers for those that have; `next` numbers exec ids.
pub fn judge(
    shown: &[Shown],
    identified: &Identities,
    label: impl Fn(u32) -> Option<Label>,
    next: &mut u64,
) -> Vec<Running> {
    let mut known: HashMap<u32, Label> = HashMap::new();
    let mut containers: BTreeMap<u64, u64> = BTreeMap::new();
    let mut found = Vec::new();
    for process in shown {
        if let Some(label) = label(process.pid) {
            known.insert(process.pid, label);
            continue;
        }
        let parent = known.get(&process.ppid).copied().unwrap_or_default();
        let (label, begins) = judge_one(process, &parent, identified, &mut containers, next);
        known.insert(process.pid, label);
        found.push(Running {
            pid: process.pid,
            comm: process.comm.clone(),
            exe: process.exe.as_ref().map(|(_, path)| path.clone()),
            seed: Seed { label, start_ticks: process.start_ticks },
            container: (containers.get(&process.cgroup_id) == Some(&label.instance))
                .then_some(process.cgroup_id),
            begins,
            seen: Some(process.image()),
        });
    }
    found
}

fn judge_one(
    process: &Shown,
    parent: &Label,
    identified: &Identities,
    containers: &mut BTreeMap<u64, u64>,
    next: &mut u64,
) -> (Label, Option<Instance>) {
    *next += 1;
    let exec_id = SEED_CPU << 48 | *next;
    let mut label = Label { exec_id, parent_exec_id: parent.exec_id, ..Label::default() };
    let (matched, login_program) = recognise(process, parent, identified, containers, exec_id);
    // The end of a path leads out of no role.
    let leads_out =
        |matched: &Match| matched.flags & match_flags::PATTERN == 0 || parent.role == matched.role;
    if let Some(matched) = matched
        && (parent.instance == 0 || parent.agent != matched.agent && leads_out(&matched))
    {
        label.instance = exec_id;
        label.agent = matched.agent;
        label.role = matched.role;
        label.origin = Origin::Agent as u8;
        label.evidence = evidence::LINEAGE | evidence::SEEDED | evidence::PROGRAM;
        let instance = Instance {
            parent: parent.instance,
            started_ns: process.start_ticks * 10_000_000,
            tasks: 1,
            agent: matched.agent,
            role: matched.role,
            root_pid: process.pid,
            entry: matched.entry,
            how: Recognised::Seed as u8,
            ..Instance::default()
        };
        return (label, Some(instance));
    }
    if parent.instance != 0 {
        label.instance = parent.instance;
        label.agent = parent.agent;
        label.role = parent.role;
        label.origin = Origin::Agent as u8;
        label.evidence = evidence::LINEAGE | evidence::SEEDED;
        return (label, None);
    }
    let (origin, why) = origin(process, parent, login_program);
    label.origin = origin as u8;
    label.evidence = why | evidence::SEEDED;
    (label, None)
}

/// Exec ids of seeds have a CPU number that no kernel has.
const SEED_CPU: u64 = 0xffff;

fn recognise(
    process: &Shown,
    parent: &Label,
    identified: &Identities,
    containers: &mut BTreeMap<u64, u64>,
    exec_id: u64,
) -> (Option<Match>, bool) {
    let by_file = |file: &Option<((u64, u32), PathBuf)>| {
        let (key, path) = file.as_ref()?;
        identified.file(*key, path)
    };
    let matched = by_file(&process.script).or_else(|| by_file(&process.exe));
    if let Some(matched) = matched {
        let login_program = matched.flags & match_flags::LOGIN_PROGRAM != 0;
        return ((!login_program).then_some(matched), login_program);
    }
    let by_end = |file: &Option<((u64, u32), PathBuf)>| {
        let path = file.as_ref()?.1.to_string_lossy();
        identified.pattern(Path::new(path.strip_suffix(DELETED).unwrap_or(&path)))
    };
    let by_end = by_end(&process.script).or_else(|| by_end(&process.exe));
    if parent.instance != 0 || parent.origin == Origin::Human as u8 {
        return (by_end, false);
    }
    let by_cgroup = identified.cgroups.get(&process.cgroup_id).copied().filter(|matched| {
        matched.flags & match_flags::CONTAINER == 0
            || *containers.entry(process.cgroup_id).or_insert(exec_id) == exec_id
    });
    (by_cgroup.or(by_end), false)
}

/// What /proc appends to the path of a file that is gone, as that of a version which an update has replaced.
const DELETED: &str = " (deleted)";

fn origin(process: &Shown, parent: &Label, login_program: bool) -> (Origin, u16) {
    let login = if process.loginuid.is_some() { evidence::LOGINUID } else { 0 };
    if parent.origin == Origin::Human as u8 {
        return (Origin::Human, (parent.evidence & !evidence::SEEDED) | login);
    }
    if login_program {
        return (Origin::System, login);
    }
    if process.tty {
        return (Origin::Human, evidence::TERMINAL | login);
    }
    let in_session = process.cgroup.rsplit('/').next().is_some_and(|name| name.starts_with("session-"));
    if login != 0 && in_session {
        return (Origin::Human, evidence::SESSION | login);
    }
    (Origin::System, login)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::patterns::{Known, Pattern, Steps};

    fn process(pid: u32, ppid: u32) -> Shown {
        Shown { pid, ppid, start_ticks: u64::from(pid), ..Shown::default() }
    }

    fn agent(number: u32) -> Match {
        Match { agent: number, role: 7, ..Match::default() }
    }

    fn judged(shown: &[Shown], known: &Identities) -> BTreeMap<u32, Running> {
        let mut next = 0;
        judge(shown, known, |_| None, &mut next).into_iter().map(|running| (running.pid, running)).collect()
    }

    #[test]
    fn children_of_a_running_agent_belong_to_its_instance() {
        let mut known = Identities::default();
        known.files.insert((5, 1), agent(3));
        let mut root = process(10, 1);
        root.exe = Some(((5, 1), "/opt/a".into()));
        let found = judged(&[process(1, 0), root, process(11, 10), process(12, 11), process(13, 1)], &known);
        let instance = found[&10].seed.label.instance;
        assert_ne!(instance, 0);
        assert_eq!(found[&12].seed.label.instance, instance);
        assert_eq!(found[&13].seed.label.origin, Origin::System as u8);
        assert!(found[&10].begins.is_some() && found[&12].begins.is_none());
    }

    #[test]
    fn a_script_counts_and_not_its_interpreter() {
        let mut known = Identities::default();
        known.files.insert((9, 1), agent(3));
        let mut run = process(10, 1);
        run.exe = Some(((2, 1), "/usr/bin/node".into()));
        run.script = Some(((9, 1), "/opt/a/cli.js".into()));
        let mut other = process(11, 1);
        other.exe = Some(((2, 1), "/usr/bin/node".into()));
        let found = judged(&[run, other], &known);
        assert_eq!(found[&10].seed.label.agent, 3);
        assert_eq!(found[&11].seed.label.instance, 0);
    }

    #[test]
    fn the_end_of_a_path_counts_last_and_leads_out_of_no_role() {
        let pattern = Pattern::parse("**/known/versions/*").unwrap();
        let found = Match { role: 9, flags: match_flags::PATTERN, ..agent(5) };
        let steps = Steps::of(&[Known { pattern, found, registered: false }]).unwrap();
        let mut known = Identities { steps, ..Identities::default() };
        known.files.insert((9, 1), agent(3));
        known.cgroups.insert(77, agent(4));
        let mut bot = process(10, 1);
        bot.exe = Some(((9, 1), "/opt/bot".into()));
        let at = |pid, ppid, path: &str| Shown {
            exe: Some(((u64::from(pid), 1), path.into())),
            ..process(pid, ppid)
        };
        let below = at(11, 10, "/home/a/known/versions/1");
        let free = at(12, 1, "/home/a/known/versions/1 (deleted)");
        let mut unit = at(13, 1, "/home/a/known/versions/1");
        unit.cgroup_id = 77;
        let found = judged(&[bot, below, free, unit], &known);
        let agents = [11, 12, 13].map(|pid| found[&pid].seed.label.agent);
        assert_eq!(agents, [3, 5, 4], "the bot's child, a stranger's, the unit's");
    }

    #[test]
    fn a_terminal_or_a_login_session_is_a_person_and_cron_is_not() {
        let mut shell = process(10, 1);
        shell.tty = true;
        let mut remote = process(11, 1);
        remote.loginuid = Some(1000);
        remote.cgroup = "/user.slice/user-1000.slice/session-3.scope".to_string();
        let mut cron = process(12, 1);
        cron.loginuid = Some(1000);
        cron.cgroup = "/system.slice/cron.service".to_string();
        let found = judged(&[shell, remote, cron, process(13, 10)], &Identities::default());
        let origin = |pid: u32| Origin::from_raw(found[&pid].seed.label.origin).unwrap();
        assert_eq!((origin(10), origin(11), origin(12)), (Origin::Human, Origin::Human, Origin::System));
        assert_eq!(origin(13), Origin::Human, "a person's child");
    }

    #[test]
    fn who_entered_a_container_later_is_not_its_agent() {
        let mut known = Identities::default();
        known.cgroups.insert(77, Match { flags: match_flags::CONTAINER, ..agent(4) });
        let mut first = process(10, 1);
        first.cgroup_id = 77;
        let mut later = process(20, 1);
        later.cgroup_id = 77;
        let found = judged(&[first, process(11, 10), later], &known);
        assert_eq!(found[&10].seed.label.agent, 4);
        assert_eq!(found[&11].seed.label.agent, 4);
        assert_eq!(found[&20].seed.label.instance, 0);
    }
}
