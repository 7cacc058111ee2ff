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
    let mount_namespace = fs::metadata("/proc/self/ns/mnt").unwrap().ino() as u32;
    Job { subject, file, script: None, mount_namespace, of: Reference { time, seq: 7 } }
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
    let event = worker.identify(&job(&path, Time::now()), Part::Image).unwrap().unwrap();
    let program = event.program.unwrap();
    assert_eq!(
        &*program.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "FIPS 180-2, appendix B.1"
    );
    assert_eq!((program.bytes, program.of.seq, program.package), (3, 7, None));
    assert!(worker.identify(&job(&path, Time::now()), Part::Image).unwrap().is_none());
    fs::write(&path, "abcd").unwrap();
    wait_a_tick();
    assert!(worker.identify(&job(&path, Time::now()), Part::Image).unwrap().is_some(), "written in place");
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
    assert_eq!(worker.identify(&job(&path, ran), Part::Image).unwrap_err(), Reason::Changed);
    fs::write(dir.path().join("new"), "abc").unwrap();
    fs::rename(dir.path().join("new"), &path).unwrap();
    assert_eq!(worker.identify(&before, Part::Image).unwrap_err(), Reason::Gone);
    fs::remove_file(&path).unwrap();
    assert_eq!(worker.identify(&before, Part::Image).unwrap_err(), Reason::Gone);
}

#[test]
fn what_a_process_runs_is_read_from_the_process() {
    let own = std::env::current_exe().unwrap();
    let mut job = job(&own, Time::now());
    job.subject.pid = std::process::id();
    // Whatever its path leads to by now.
    job.subject.exe = Some("/nowhere".into());
    let event = Worker::default().identify(&job, Part::Image).unwrap().unwrap();
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
    assert_eq!(Worker::default().identify(&before, Part::Image).unwrap_err(), Reason::Gone);
    let mut device = job(&std::env::current_exe().unwrap(), Time::now());
    device.subject.exe = Some("/dev/zero".into());
    assert_eq!(Worker::default().identify(&device, Part::Image).unwrap_err(), Reason::Gone);
}

#[test]
fn what_was_written_just_before_it_ran_may_have_been_written_since() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    fs::write(&path, "abc").unwrap();
    let changed = fs::metadata(&path).unwrap();
    let changed = Time(changed.ctime() as u64 * 1_000_000_000 + changed.ctime_nsec() as u64);
    assert_eq!(Worker::default().identify(&job(&path, changed), Part::Image).unwrap_err(), Reason::Changed);
    assert!(Worker::default().identify(&job(&path, Time(changed.0 + TICK_NS)), Part::Image).is_ok());
}

fn script(dir: &Path, time: Time) -> Job {
    let path = dir.join("script");
    let mut job = job(&std::env::current_exe().unwrap(), time);
    job.subject.script = Some("./script".into());
    job.script = Some(dir.join("./script"));
    fs::metadata(path).unwrap();
    job
}

#[test]
fn a_script_is_identified_by_its_path_while_nothing_came_there_since() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script");
    fs::write(&path, "abc").unwrap();
    wait_a_tick();
    let ran = Time::now();
    let mut worker = Worker::default();
    let event = worker.identify(&script(dir.path(), ran), Part::Script).unwrap().unwrap();
    let program = event.program.unwrap();
    assert_eq!((&*program.path, &program.sha256[..8], program.bytes), ("./script", "ba7816bf", 3));
    // The same by the process's own view of files.
    let mut running = script(dir.path(), ran);
    (running.subject.pid, running.mount_namespace) = (std::process::id(), 0);
    assert!(Worker::default().identify(&running, Part::Script).unwrap().is_some());
    let elsewhere = Job { mount_namespace: 1, ..script(dir.path(), ran) };
    assert_eq!(Worker::default().identify(&elsewhere, Part::Script).unwrap_err(), Reason::Gone);
    // Another that was there before, under another name.
    fs::write(dir.path().join("older"), "xyz").unwrap();
    wait_a_tick();
    let ran = Time::now();
    wait_a_tick();
    fs::rename(dir.path().join("older"), &path).unwrap();
    assert_eq!(worker.identify(&script(dir.path(), ran), Part::Script).unwrap_err(), Reason::Changed);
    assert!(worker.identify(&job(&path, Time::now()), Part::Script).unwrap().is_none(), "no script");
}
