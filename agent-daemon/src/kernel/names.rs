//! Addresses that are known by a name: what the kernel side has learnt from resolvers' answers.

use std::{collections::BTreeSet, net::IpAddr, os::fd::AsRawFd as _};

use agent_common::name::{AddressKey, CLAIMED, Group, Known};
use anyhow::{Context as _, Result};

use super::{
    Kernel,
    raw::{Hash, Maps},
};

/// The table of addresses, and whose they are.
pub struct Names {
    addresses: Hash<AddressKey, Known>,
    netns: u64,
    /// Whether the last look found no address: a look walks the whole table, as large as it may become.
    empty: bool,
}

impl Names {
    pub(super) fn take(maps: &mut Maps<'_>) -> Result<Self> {
        Ok(Self { addresses: Hash::take(maps, "ADDRESSES")?, netns: own_netns()?, empty: false })
    }
}

impl Kernel {
    /// Makes these the servers whose answers count in the daemon's own network namespace, the host's.
    pub fn resolve_by(&mut self, servers: &BTreeSet<IpAddr>) -> Result<()> {
        let (rules, names) = self.rules()?;
        rules.resolve_by(names.netns, servers)
    }

    /// Addresses that are known by a name, and the time on their clock.
    #[must_use]
    pub fn known_names(&self) -> (u64, Vec<(AddressKey, Known)>) {
        let now = super::boot_ns();
        let mut all = self.rules.as_ref().map(|(_, names)| names.addresses.entries()).unwrap_or_default();
        all.retain(|(_, known)| known.groups.iter().any(|group| Group::in_force(group.expires_ns, now)));
        (now, all)
    }

    /// Takes out what has expired for so long that no answer under way can be about to renew it. While nobody learns
    /// names there is nothing once all has gone.
    pub fn forget_names(&mut self, learning: bool) -> Result<()> {
        let (_, names) = self.rules()?;
        if names.empty && !learning {
            return Ok(());
        }
        names.empty = true;
        let now = super::boot_ns();
        let old = |group: &Group| {
            group.expires_ns != CLAIMED && group.expires_ns.saturating_add(FORGOTTEN_AFTER_NS) < now
        };
        for (key, known) in names.addresses.entries() {
            if known.groups.iter().all(old) {
                names.addresses.remove(key)?;
            } else {
                names.empty = false;
            }
        }
        Ok(())
    }
}

/// The cookie of the daemon's network namespace.
fn own_netns() -> Result<u64> {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))
        .or_else(|_| std::net::UdpSocket::bind(("::1", 0)))
        .context("make a socket, to learn the network namespace")?;
    let mut cookie = 0u64;
    let mut bytes = size_of::<u64>() as nix::libc::socklen_t;
    // SAFETY: the value and its length are as the option has them, and outlive the call.
    let status = unsafe {
        nix::libc::getsockopt(
            socket.as_raw_fd(),
            nix::libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut bytes,
        )
    };
    nix::errno::Errno::result(status).context("ask for the network namespace's cookie")?;
    Ok(cookie)
}

const SO_NETNS_COOKIE: nix::libc::c_int = 71;
const FORGOTTEN_AFTER_NS: u64 = 600 * 1_000_000_000;
