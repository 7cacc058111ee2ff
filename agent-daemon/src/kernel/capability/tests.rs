//! Hosts of a few files, and what follows from them.

use super::*;

/// A host of a few files.
fn host(lsm: &str, lockdown: &str, caps: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("proc/sys/kernel/osrelease", "6.12.1\n"),
        ("proc/self/status", &format!("Name:\tx\nCapEff:\t{caps}\n")),
        ("proc/self/mountinfo", "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
        ("proc/self/loginuid", "0"),
        ("sys/kernel/btf/vmlinux", ""),
        ("sys/kernel/security/lsm", lsm),
        ("sys/kernel/security/lockdown", lockdown),
        ("boot/config-6.12.1", "CONFIG_BPF_LSM=y\n"),
    ] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn capability<'a>(host: &'a Host, name: &str) -> &'a Capability {
    host.capabilities.iter().find(|c| c.name == name).unwrap()
}

#[test]
fn the_mode_follows_from_what_is_there() {
    let all = "000001ffffffffff";
    for (lsm, lockdown, caps, mode) in [
        ("capability,bpf", "[none] integrity confidentiality", all, Some(KernelMode::Lsm)),
        ("capability,apparmor", "[none] integrity confidentiality", all, Some(KernelMode::Cgroup)),
        ("", "[none]", all, Some(KernelMode::Cgroup)),
        ("capability,bpf", "none integrity [confidentiality]", all, None),
        ("capability,bpf", "[none]", "0", None),
    ] {
        assert_eq!(probe_at(host(lsm, lockdown, caps).path()).mode, mode, "{lsm} {lockdown} {caps}");
    }
}

#[test]
fn what_is_missing_comes_with_what_would_give_it() {
    let dir = host("capability,apparmor", "[none]", "000001ffffffffff");
    let found = probe_at(dir.path());
    let active = capability(&found, LSM_ACTIVE);
    assert_eq!(active.state, State::Missing);
    assert!(active.remedy.contains("lsm=capability,apparmor,bpf"), "{}", active.remedy);
    assert_eq!(capability(&found, "BPF LSM built in").state, State::Present);
    assert_eq!(capability(&found, "BPF file system").remedy, "mount -t bpf bpf /sys/fs/bpf");
    let nothing = probe_at(Path::new("/nonexistent"));
    assert!(nothing.mode.is_none() && capability(&nothing, LSM_ACTIVE).state == State::Unknown);
}
