//! The resolvers that this host is configured for: whose answers give addresses their names.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr},
};

use tracing::{info, warn};

use super::Pipeline;
use crate::kernel::Kernel;

/// Where a host says so: resolv.conf, and systemd-resolved's own, which have its stub and whom it asks in turn.
const FILES: &[&str] =
    &["/etc/resolv.conf", "/run/systemd/resolve/stub-resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Reads the files as they are now.
#[must_use]
pub fn configured() -> BTreeSet<IpAddr> {
    let mut all = BTreeSet::new();
    for (at, path) in FILES.iter().enumerate() {
        let found = servers(&fs::read_to_string(path).unwrap_or_default());
        if at == 0 && found.is_empty() {
            // resolv.conf(5): without a server, the one on this host.
            all.insert(Ipv4Addr::LOCALHOST.into());
        }
        all.extend(found);
    }
    all
}

/// The `nameserver` lines of a resolv.conf; a zone behind an address is of no interest.
fn servers(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next()).flatten()
    });
    lines.filter_map(|word| word.split('%').next()?.parse().ok()).collect()
}

/// Whether a change is to be believed yet: a file that is being written anew is empty, or not there, for a moment, and
/// means another resolver then. So it must be seen twice.
fn settled(now: &BTreeSet<IpAddr>, seen: &mut BTreeSet<IpAddr>) -> bool {
    let twice = now == seen;
    seen.clone_from(now);
    twice
}

/// Makes the kernel side believe them and nobody else.
pub fn believe(kernel: &mut Kernel, servers: &BTreeSet<IpAddr>) {
    if let Err(error) = kernel.resolve_by(servers) {
        warn!(
            error = format!("{error:#}"),
            "the resolvers cannot all be told to the kernel side; what they answer may not be believed"
        );
    }
}

impl Pipeline {
    /// Takes out of the kernel side's table what has expired.
    pub(super) fn forget_names(&mut self) {
        if let Err(error) = self.kernel.forget_names(self.in_force.table.reads_names()) {
            warn!(error = format!("{error:#}"), "names that have expired cannot be taken out");
        }
    }

    /// They have been told to the kernel side.
    pub fn know_resolvers(&mut self, servers: BTreeSet<IpAddr>) {
        self.resolvers = servers;
    }

    /// Looks whether they have changed; of interest while a role names a host.
    pub(super) fn follow_resolvers(&mut self) {
        let now = configured();
        if now != self.resolvers && settled(&now, &mut self.resolvers_seen) {
            if !self.resolvers.is_empty() {
                info!(resolvers = ?now, "other resolvers are configured");
            }
            // What could not be told is said once; the next change tells all of it again.
            believe(&mut self.kernel, &now);
            self.resolvers = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_when_it_is_seen_twice() {
        let set = |last: u8| BTreeSet::from([IpAddr::from([192, 0, 2, last])]);
        let mut seen = BTreeSet::new();
        let told: Vec<bool> = [1, 2, 1, 1, 2, 2].map(set).iter().map(|now| settled(now, &mut seen)).collect();
        assert_eq!(told, [false, false, false, true, false, true]);
    }

    #[test]
    fn servers_are_read_as_the_c_library_does() {
        let text = "# nameserver 192.0.2.9\nsearch example.com\nnameserver 127.0.0.53\n nameserver\t2001:db8::53 \n\
                    nameserver fe80::1%eth0\nnameserver here\nnameservers 192.0.2.8\noptions edns0\n";
        let found: Vec<String> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.53", "2001:db8::53", "fe80::1"]);
    }
}
