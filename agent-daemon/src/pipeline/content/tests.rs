//! What ran is identified, and never what lies there by now.

use std::{fs, time::Duration};

use super::*;
use crate::event::word::Time;

fn job(path: &Path, time: Time) -> Job {
    let file = File::open(path).unwrap();
    let (key, generation) = Files::now().of_open(&file).unwrap();
    let subject = Subject {
        role: Some("r".into()),
        exe: Some(path.to_str().unwrap().into()),
        // Of no process.
        pid: u32::MAX,
        ..Subject::default()
    };
    let file = process::File { dev: key.dev, inode: key.ino, generation };
    Job { subject, file, of: Reference { time, seq: 7 } }
}

fn wait_a_tick() {
    std::thread::sleep(Duration::from_millis(30));
}

#[test]
fn a_program_is_told_once_and_again_with_other_content() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    fs::write(&path, "abc").unwrap();
    wait_a_tick();
    let mut worker = Worker::default();
    let event = worker.identify(&job(&path, Time::now())).unwrap().unwrap();
    let program = event.program.unwrap();
    assert_eq!(
        &*program.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "FIPS 180-2, appendix B.1"
    );
    assert_eq!((program.bytes, program.of.seq, program.package), (3, 7, None));
    assert!(worker.identify(&job(&path, Time::now())).unwrap().is_none());
    fs::write(&path, "abcd").unwrap();
    wait_a_tick();
    assert!(worker.identify(&job(&path, Time::now())).unwrap().is_some(), "written in place");
}

#[test]
fn what_was_replaced_or_written_since_is_not_taken_for_what_ran() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    fs::write(&path, "abc").unwrap();
    let mut worker = Worker::default();
    wait_a_tick();
    let ran = Time::now();
    let before = job(&path, ran);
    wait_a_tick();
    fs::write(&path, "xyz").unwrap();
    assert_eq!(worker.identify(&job(&path, ran)).unwrap_err(), Reason::Changed);
    fs::write(dir.path().join("new"), "abc").unwrap();
    fs::rename(dir.path().join("new"), &path).unwrap();
    assert_eq!(worker.identify(&before).unwrap_err(), Reason::Gone);
    fs::remove_file(&path).unwrap();
    assert_eq!(worker.identify(&before).unwrap_err(), Reason::Gone);
}

#[test]
fn what_a_process_runs_is_read_from_the_process() {
    let own = std::env::current_exe().unwrap();
    let mut job = job(&own, Time::now());
    job.subject.pid = std::process::id();
    // Whatever its path leads to by now.
    job.subject.exe = Some("/nowhere".into());
    let event = Worker::default().identify(&job).unwrap().unwrap();
    assert_eq!(event.program.unwrap().bytes, fs::metadata(&own).unwrap().len());
}

#[test]
fn what_is_no_file_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    fs::write(&path, "abc").unwrap();
    let before = job(&path, Time::now());
    fs::remove_file(&path).unwrap();
    // Opened, it would wait for somebody who writes.
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(Worker::default().identify(&before).unwrap_err(), Reason::Gone);
    let mut device = job(&std::env::current_exe().unwrap(), Time::now());
    device.subject.exe = Some("/dev/zero".into());
    assert_eq!(Worker::default().identify(&device).unwrap_err(), Reason::Gone);
}

#[test]
fn what_was_written_just_before_it_ran_may_have_been_written_since() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    fs::write(&path, "abc").unwrap();
    let changed = fs::metadata(&path).unwrap();
    let changed = Time(changed.ctime() as u64 * 1_000_000_000 + changed.ctime_nsec() as u64);
    assert_eq!(Worker::default().identify(&job(&path, changed)).unwrap_err(), Reason::Changed);
    assert!(Worker::default().identify(&job(&path, Time(changed.0 + TICK_NS))).is_ok());
}
