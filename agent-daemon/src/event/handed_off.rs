//! Who works on behalf of others: sockets and programs by which a process gives work to something outside its tree.

use std::net::IpAddr;

/// The broker behind a unix socket (`@` starts an abstract name), if it is one that acts for its callers.
#[must_use]
pub fn by_socket(path: &str) -> Option<&'static str> {
    SOCKETS.iter().find(|(_, pattern)| matches(pattern, path)).map(|(word, _)| *word)
}

/// The broker that a program speaks to, by the program's own name.
#[must_use]
pub fn by_program(exe: &str) -> Option<&'static str> {
    let name = exe.rsplit('/').next().unwrap_or(exe);
    PROGRAMS.iter().find(|(_, program)| *program == name).map(|(word, _)| *word)
}

/// `ssh` for a connect to port 22 of this host itself.
#[must_use]
pub fn by_endpoint(address: IpAddr, port: u32, own: &[IpAddr]) -> Option<&'static str> {
    (port == SSH_PORT && (address.is_loopback() || address.is_unspecified() || own.contains(&address)))
        .then_some("ssh")
}

/// Every broker with its sockets and programs, for the reference.
#[must_use]
pub fn brokers() -> Vec<(&'static str, Vec<&'static str>, Vec<&'static str>)> {
    let mut all: Vec<&str> = SOCKETS.iter().chain(PROGRAMS).map(|(broker, _)| *broker).collect();
    all.sort_unstable();
    all.dedup();
    let of = |table: &[(&str, &'static str)], broker: &str| {
        table.iter().filter(|(b, _)| *b == broker).map(|(_, name)| *name).collect()
    };
    all.into_iter().map(|broker| (broker, of(SOCKETS, broker), of(PROGRAMS, broker))).collect()
}

/// Whether `path` is of the pattern: `*` stands for any part of one component.
fn matches(pattern: &str, path: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == path };
    let Some(path) = path.strip_prefix(head) else { return false };
    let component = path.find('/').unwrap_or(path.len());
    (0..=component).filter(|at| path.is_char_boundary(*at)).any(|at| matches(rest, &path[at..]))
}

const SSH_PORT: u32 = 22;

/// Word, and the name the broker's socket is bound to.
const SOCKETS: &[(&str, &str)] = &[
    ("docker", "/run/docker.sock"),
    ("docker", "/var/run/docker.sock"),
    ("docker", "/run/user/*/docker.sock"),
    ("containerd", "/run/containerd/containerd.sock"),
    ("containerd", "/run/k3s/containerd/containerd.sock"),
    ("podman", "/run/podman/podman.sock"),
    ("podman", "/run/user/*/podman/podman.sock"),
    ("crio", "/run/crio/crio.sock"),
    ("crio", "/var/run/crio/crio.sock"),
    ("buildkit", "/run/buildkit/buildkitd.sock"),
    ("lxd", "/var/lib/lxd/unix.socket"),
    ("lxd", "/var/snap/lxd/common/lxd/unix.socket"),
    ("incus", "/var/lib/incus/unix.socket"),
    ("libvirt", "/run/libvirt/libvirt-sock"),
    ("libvirt", "/run/libvirt/virtqemud-sock"),
    ("systemd", "/run/systemd/private"),
    ("systemd", "/run/systemd/io.systemd.*"),
    ("systemd", "/run/user/*/systemd/private"),
    ("dbus", "/run/dbus/system_bus_socket"),
    ("dbus", "/var/run/dbus/system_bus_socket"),
    ("dbus", "/run/user/*/bus"),
    ("dbus", "/tmp/dbus-*"),
    ("dbus", "@/tmp/dbus-*"),
    ("dbus", "@dbus-*"),
    ("snapd", "/run/snapd.socket"),
    ("tmux", "/tmp/tmux-*/*"),
    ("tmux", "/run/tmux/*/*"),
    ("screen", "/run/screen/S-*/*"),
    ("screen", "/var/run/screen/S-*/*"),
    ("screen", "/tmp/screens/S-*/*"),
    ("zellij", "/run/user/*/zellij/*/*"),
    ("ssh_agent", "/tmp/ssh-*/agent.*"),
    ("ssh_agent", "/run/user/*/ssh-agent.socket"),
    ("ssh_agent", "/run/user/*/openssh_agent"),
    ("ssh_agent", "/run/user/*/keyring/ssh"),
    ("ssh_agent", "/run/user/*/gcr/ssh"),
    ("ssh_agent", "/home/*/.ssh/agent/*"),
    ("ssh_agent", "/root/.ssh/agent/*"),
    ("gpg_agent", "/run/user/*/gnupg/S.gpg-agent*"),
    ("gpg_agent", "/home/*/.gnupg/S.gpg-agent*"),
    ("gpg_agent", "/root/.gnupg/S.gpg-agent*"),
    ("x11", "/tmp/.X11-unix/*"),
    ("x11", "@/tmp/.X11-unix/*"),
    ("wayland", "/run/user/*/wayland-*"),
    ("cups", "/run/cups/cups.sock"),
    ("postfix", "/var/spool/postfix/public/*"),
];

/// Word, and the name of a program whose whole purpose is to ask that broker.
const PROGRAMS: &[(&str, &str)] = &[
    ("cron", "crontab"),
    ("at", "at"),
    ("at", "batch"),
    ("systemd", "systemd-run"),
    ("systemd", "systemctl"),
    ("systemd", "machinectl"),
    ("dbus", "busctl"),
    ("dbus", "dbus-send"),
    ("dbus", "gdbus"),
    ("docker", "docker"),
    ("docker", "docker-compose"),
    ("podman", "podman"),
    ("containerd", "ctr"),
    ("containerd", "nerdctl"),
    ("crio", "crictl"),
    ("kubernetes", "kubectl"),
    ("kubernetes", "helm"),
    ("kubernetes", "oc"),
    ("lxd", "lxc"),
    ("incus", "incus"),
    ("libvirt", "virsh"),
    ("tmux", "tmux"),
    ("screen", "screen"),
    ("zellij", "zellij"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_its_component() {
        for (path, word) in [
            ("/run/docker.sock", Some("docker")),
            ("/run/user/1000/bus", Some("dbus")),
            ("/run/user/1000/a/bus", None),
            ("/tmp/tmux-1000/default", Some("tmux")),
            ("@/tmp/.X11-unix/X0", Some("x11")),
            ("/tmp/ssh-XXXXabc/agent.123", Some("ssh_agent")),
            ("/run/docker.sock.bak", None),
            ("", None),
        ] {
            assert_eq!(by_socket(path), word, "{path}");
        }
    }

    #[test]
    fn only_this_hosts_own_sshd_is_outside_the_tree() {
        let own = ["192.0.2.7".parse().unwrap()];
        for (address, port, word) in [
            ("127.0.0.1", 22, Some("ssh")),
            ("192.0.2.7", 22, Some("ssh")),
            ("192.0.2.8", 22, None),
            ("::1", 80, None),
        ] {
            assert_eq!(by_endpoint(address.parse().unwrap(), port, &own), word, "{address}:{port}");
        }
        assert_eq!(by_program("/usr/bin/crontab"), Some("cron"));
        assert_eq!(by_program("/usr/bin/cat"), None);
    }
}
