//! The process family: bytes → event.

use agent_common::{
    event::{
        Text,
        process::{CgroupCreated, Exec, Exit, Fork, exec_flags},
        text_flags,
    },
    identity::Recognised,
};

use super::{Reading, Texts, Undecodable, fixed, readable, some_unless_max};
use crate::config::Arguments;
use crate::event::{
    Event, Name, handed_off,
    process::{self, File, NewCgroup},
    word::{InstanceId, Word},
};

pub(super) fn exec(whole: &[u8], reading: &Reading, event: &mut Event) -> Result<(), Undecodable> {
    let raw: Exec = fixed(whole)?;
    let mut texts = Texts::after::<Exec>(whole);
    let exe = texts.next("exe", &raw.exe, event)?;
    let script = texts.next("script", &raw.script, event)?;
    let argv = texts.next("argv", &raw.argv, event)?;
    let cwd = texts.next("cwd", &raw.cwd, event)?;
    let (argv, argv_masked) = arguments(argv, &raw.argv, reading);
    if reading.argv != Arguments::Masked {
        event.truncated.retain(|t| &*t.field != "argv");
    } else if argv_masked > 0 {
        // A hash of the whole would let a short secret be found by trying.
        event.truncated.iter_mut().filter(|t| &*t.field == "argv").for_each(|t| t.hash = None);
    }

    let n = &raw.namespaces;
    let uid = raw.header.subject.uid;
    event.exec = Some(Box::new(process::Exec {
        ppid: raw.ppid,
        argv,
        argv_masked,
        cwd: shown(path(cwd, &raw.cwd), reading),
        recognised: (raw.recognised != Recognised::No as u8).then(|| Word::from_raw(raw.recognised)),
        match_entry: (raw.recognised != Recognised::No as u8).then_some(raw.entry),
        parent_instance: InstanceId::some(raw.parent_instance),
        gid: raw.gid,
        euid: (raw.euid != uid).then_some(raw.euid),
        egid: (raw.egid != raw.gid).then_some(raw.egid),
        session_id: some_unless_max(raw.session_id),
        tty: process::tty_name(raw.tty),
        file: File { dev: raw.file.dev, inode: raw.file.ino, generation: raw.file.generation },
        namespaces: process::Namespaces {
            mnt: n.mnt,
            pid: n.pid,
            net: n.net,
            user: n.user,
            uts: n.uts,
            ipc: n.ipc,
            cgroup: n.cgroup,
            time: n.time,
        },
        nameless: raw.flags & exec_flags::NAMELESS != 0,
        setid: raw.flags & exec_flags::SETID != 0,
    }));

    let exe = shown(path(exe, &raw.exe), reading);
    let script = (!script.is_empty()).then(|| shown(path(script, &raw.script), reading));
    if raw.header.subject.instance != 0 {
        // What an agent starts this way acts through somebody else; a person who does so is a person either way.
        event.handed_off =
            script.iter().chain([&exe]).find_map(|p| handed_off::by_program(p)).map(Name::from);
    }
    if let Some(subject) = &mut event.subject {
        subject.exe = Some(Name::from(exe));
        subject.script = script.map(Name::from);
    }
    Ok(())
}

pub(super) fn exit(whole: &[u8], event: &mut Event) -> Result<(), Undecodable> {
    let raw: Exit = fixed(whole)?;
    event.exit = Some(process::Exit::from_status(raw.status, raw.instance_ended != 0));
    Ok(())
}

pub(super) fn fork(whole: &[u8], event: &mut Event) -> Result<(), Undecodable> {
    let raw: Fork = fixed(whole)?;
    event.fork = Some(process::Fork { child_pid: raw.child_pid, clone_flags: raw.clone_flags });
    Ok(())
}

pub(super) fn cgroup(whole: &[u8], event: &mut Event) -> Result<(), Undecodable> {
    let raw: CgroupCreated = fixed(whole)?;
    let bytes = Texts::after::<CgroupCreated>(whole).next("new_cgroup.path", &raw.path, event)?;
    event.new_cgroup = Some(NewCgroup { id: raw.cgroup_id, path: path(bytes, &raw.path) });
    Ok(())
}

/// NUL-separated arguments as a list, without secrets.
fn arguments(bytes: &[u8], text: &Text, reading: &Reading) -> (Vec<Box<str>>, u32) {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() || reading.argv == Arguments::None {
        return (Vec::new(), 0);
    }
    let wanted = if reading.argv == Arguments::Program { 1 } else { usize::MAX };
    let mut argv: Vec<Box<str>> = bytes.split(|b| *b == 0).take(wanted).map(readable).collect();
    let cut = text.flags & text_flags::TRUNCATED != 0 && wanted > 1;
    let masked = reading.masks.mask(&mut argv, cut);
    (argv, masked)
}

/// A path as it is recorded: a token in it is masked too.
fn shown(path: Box<str>, reading: &Reading) -> Box<str> {
    reading.masks.shapes(&path).map_or(path, Box::from)
}

/// A path; one whose beginning was cut starts with `…/`, one whose file is gone ends with ` (deleted)`.
fn path(bytes: &[u8], text: &Text) -> Box<str> {
    let path = readable(bytes.strip_suffix(&[0]).unwrap_or(bytes));
    let (tail, deleted) = (text.flags & text_flags::TAIL != 0, text.flags & text_flags::DELETED != 0);
    if !tail && !deleted {
        return path;
    }
    format!("{}{path}{}", if tail { "…" } else { "" }, if deleted { " (deleted)" } else { "" }).into()
}
