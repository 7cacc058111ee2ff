//! What this host's kernel gives, read from /proc and /sys alone: no program is loaded, and no root is needed to ask.

pub mod guarantee;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::KernelMode;

/// One thing that Chaperone needs or can use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capability {
    pub name: &'static str,
    pub state: State,
    /// What was found.
    pub found: String,
    /// What depends on it.
    pub needed_for: &'static str,
    /// The command or setting that would give it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// Whether it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Present,
    Missing,
    /// Could not be told: what asks is not allowed to see it.
    Unknown,
}

/// All that was found, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Host {
    pub kernel: String,
    pub capabilities: Vec<Capability>,
    /// The mode that a daemon would take; `None` when it could not run.
    pub mode: Option<KernelMode>,
}

/// Looks at this host.
#[must_use]
pub fn probe() -> Host {
    probe_at(Path::new("/"))
}

/// Looks at the host whose /proc and /sys lie below `root`.
#[must_use]
pub fn probe_at(root: &Path) -> Host {
    let files = Files { root };
    let kernel = files.line("proc/sys/kernel/osrelease").unwrap_or_default();
    let capabilities = vec![
        files.btf(),
        files.privilege(),
        files.lockdown(),
        files.cgroup(),
        files.pid_namespace(),
        files.lsm_built(&kernel),
        files.lsm_active(),
        files.loginuid(),
        files.bpf_file_system(),
    ];
    let mode = mode(&capabilities);
    Host { kernel, capabilities, mode }
}

/// Without these nothing runs; without BPF LSM what runs refuses at the cgroup.
fn mode(capabilities: &[Capability]) -> Option<KernelMode> {
    let missing = |name: &str| capabilities.iter().any(|c| c.name == name && c.state == State::Missing);
    if [BTF, PRIVILEGE, LOCKDOWN, CGROUP].into_iter().any(missing) {
        return None;
    }
    let active = capabilities.iter().any(|c| c.name == LSM_ACTIVE && c.state == State::Present);
    Some(if active { KernelMode::Lsm } else { KernelMode::Cgroup })
}

struct Files<'a> {
    root: &'a Path,
}

impl Files<'_> {
    fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    fn text(&self, below: &str) -> Option<String> {
        fs::read_to_string(self.path(below)).ok()
    }

    fn line(&self, below: &str) -> Option<String> {
        self.text(below).map(|text| text.trim().to_owned())
    }

    fn btf(&self) -> Capability {
        let there = self.path("sys/kernel/btf/vmlinux").exists();
        Capability {
            name: BTF,
            state: state(there),
            found: if there { "/sys/kernel/btf/vmlinux" } else { "no /sys/kernel/btf/vmlinux" }.to_owned(),
            needed_for: "finding kernel fields, and every program",
            remedy: unless(there, "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y"),
        }
    }

    fn privilege(&self) -> Capability {
        let status = self.text("proc/self/status").unwrap_or_default();
        let caps = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let caps = caps.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default();
        let lacking: Vec<&str> =
            CAPABILITIES.iter().filter(|(bit, _)| caps & (1 << bit) == 0).map(|(_, name)| *name).collect();
        let there = lacking.is_empty() || caps & (1 << CAP_SYS_ADMIN) != 0;
        let found = if there {
            "this process may load programs".to_owned()
        } else {
            format!("lacks {}", lacking.join(", "))
        };
        Capability {
            name: PRIVILEGE,
            state: state(there),
            found,
            needed_for: "loading programs",
            remedy: unless(
                there,
                "run as root (sudo chaperone doctor); in a container with those capabilities",
            ),
        }
    }

    fn lockdown(&self) -> Capability {
        let found = self.line("sys/kernel/security/lockdown");
        let closed = found.as_deref().is_some_and(|text| text.contains("[confidentiality]"));
        Capability {
            name: LOCKDOWN,
            state: state(!closed),
            found: found.unwrap_or_else(|| "no kernel lockdown".to_owned()),
            needed_for: "reading kernel memory from programs",
            remedy: unless(!closed, "boot without lockdown=confidentiality (integrity is fine)"),
        }
    }

    fn cgroup(&self) -> Capability {
        let mounts = self.text("proc/self/mountinfo").unwrap_or_default();
        let root = mounts.lines().find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            right.starts_with("cgroup2 ").then(|| left.split(' ').nth(4))?
        });
        Capability {
            name: CGROUP,
            state: state(root.is_some()),
            found: root
                .map_or_else(|| "cgroup v2 is not mounted".to_owned(), |root| format!("mounted at {root}")),
            needed_for: "units and containers, and refusing in cgroup mode",
            remedy: unless(
                root.is_some(),
                "mount -t cgroup2 none /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1",
            ),
        }
    }

    fn pid_namespace(&self) -> Capability {
        let link = fs::read_link(self.path("proc/self/ns/pid")).ok();
        let initial = link.as_ref().map(|link| link.as_os_str() == INITIAL_PID_NAMESPACE);
        Capability {
            name: "host's process ids",
            state: initial.map_or(State::Unknown, state),
            found: match initial {
                Some(true) => "the initial pid namespace",
                Some(false) => "a pid namespace of its own",
                None => "unknown",
            }
            .to_owned(),
            needed_for: "matching events with processes",
            remedy: unless(initial != Some(false), "run on the host, or the container with --pid=host"),
        }
    }

    fn lsm_built(&self, kernel: &str) -> Capability {
        let config = self.text(&format!("boot/config-{kernel}"));
        let built = config.as_deref().map(|text| text.lines().any(|line| line == "CONFIG_BPF_LSM=y"));
        // What is active was built, whatever the file says or whether there is one.
        let built = if self.active_modules().is_some_and(|m| has_bpf(&m)) { Some(true) } else { built };
        Capability {
            name: LSM_BUILT,
            state: built.map_or(State::Unknown, state),
            found: match built {
                Some(true) => "CONFIG_BPF_LSM=y".to_owned(),
                Some(false) => "CONFIG_BPF_LSM is not set".to_owned(),
                None => format!("no /boot/config-{kernel} to tell"),
            },
            needed_for: "lsm mode",
            remedy: unless(
                built != Some(false),
                "boot a kernel built with CONFIG_BPF_LSM=y (those of Debian 12, Ubuntu 22.04, RHEL 9 and later are)",
            ),
        }
    }

    fn lsm_active(&self) -> Capability {
        let Some(modules) = self.active_modules() else {
            return Capability {
                name: LSM_ACTIVE,
                state: State::Unknown,
                found: "/sys/kernel/security/lsm cannot be read".to_owned(),
                needed_for: "lsm mode: refusing in the call itself",
                remedy: "mount -t securityfs securityfs /sys/kernel/security, and ask as root".to_owned(),
            };
        };
        let active = has_bpf(&modules);
        // Adding to what is active keeps the host's other modules.
        let line = format!(
            "add lsm={modules},bpf to the kernel command line (GRUB: GRUB_CMDLINE_LINUX in /etc/default/grub, then \
             update-grub) and reboot"
        );
        Capability {
            name: LSM_ACTIVE,
            state: state(active),
            found: modules,
            needed_for: "lsm mode: refusing in the call itself",
            remedy: unless(active, &line),
        }
    }

    fn active_modules(&self) -> Option<String> {
        self.line("sys/kernel/security/lsm").filter(|text| !text.is_empty())
    }

    fn loginuid(&self) -> Capability {
        let there = self.path("proc/self/loginuid").exists();
        Capability {
            name: "audit login uid",
            state: state(there),
            found: if there { "/proc/self/loginuid" } else { "no /proc/self/loginuid" }.to_owned(),
            needed_for: "telling people from the system without a terminal",
            remedy: unless(there, "boot a kernel built with CONFIG_AUDIT=y; pam_loginuid sets it at login"),
        }
    }

    fn bpf_file_system(&self) -> Capability {
        let mounts = self.text("proc/self/mountinfo").unwrap_or_default();
        let there = mounts.lines().any(|line| line.contains(" - bpf "));
        Capability {
            name: "BPF file system",
            state: state(there),
            found: if there { "mounted" } else { "not mounted" }.to_owned(),
            needed_for: "keeping programs and maps across restarts of the daemon",
            remedy: unless(there, "mount -t bpf bpf /sys/fs/bpf"),
        }
    }
}

fn state(there: bool) -> State {
    if there { State::Present } else { State::Missing }
}

fn unless(there: bool, remedy: &str) -> String {
    if there { String::new() } else { remedy.to_owned() }
}

fn has_bpf(modules: &str) -> bool {
    modules.split(',').any(|module| module == "bpf")
}

const BTF: &str = "BTF";
const PRIVILEGE: &str = "privilege";
const LOCKDOWN: &str = "lockdown";
const CGROUP: &str = "cgroup v2";
const LSM_BUILT: &str = "BPF LSM built in";
const LSM_ACTIVE: &str = "BPF LSM active";
/// PROC_PID_INIT_INO: the same on every kernel.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";
const CAP_SYS_ADMIN: u32 = 21;
/// Bits of CapEff.
const CAPABILITIES: &[(u32, &str)] =
    &[(12, "CAP_NET_ADMIN"), (CAP_SYS_ADMIN, "CAP_SYS_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

#[cfg(test)]
mod tests;
