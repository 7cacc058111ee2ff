//! Addresses that are known by a name: what the kernel side has learnt from resolvers' answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    os::fd::AsRawFd as _,
};

use agent_common::name::{AddressKey, CLAIMED, EVERYWHERE, FOR_GOOD, Group, Known};
use anyhow::{Context as _, Result, anyhow};

use super::{
    Kernel,
    raw::{Hash, Maps},
};
use crate::policy::{address::address_bytes, host::HostName};

/// The table of addresses, and whose they are.
pub struct Names {
    addresses: Hash<AddressKey, Known>,
    netns: u64,
    /// Resolvers that the settings name.
    everywhere: Vec<IpAddr>,
    /// Whether the last look found no address: a look walks the whole table, as large as it may become.
    empty: bool,
}

impl Names {
    pub(super) fn take(maps: &mut Maps<'_>, everywhere: &[IpAddr]) -> Result<Self> {
        let addresses = Hash::take(maps, "ADDRESSES")?;
        Ok(Self { addresses, netns: own_netns()?, everywhere: everywhere.to_vec(), empty: false })
    }
}

impl Kernel {
    /// Makes these the servers whose answers count in the daemon's own network namespace, the host's, beside those of the
    /// settings, whose answers count in each.
    pub fn resolve_by(&mut self, servers: &BTreeSet<IpAddr>) -> Result<()> {
        let (rules, names) = self.rules()?;
        let key = |netns| move |server: &IpAddr| AddressKey { netns, address: address_bytes(*server) };
        let everywhere = names.everywhere.iter().map(key(EVERYWHERE));
        rules.resolve_by(&servers.iter().map(key(names.netns)).chain(everywhere).collect())
    }

    /// Addresses that are known by a name, and the time on their clock.
    #[must_use]
    pub fn known_names(&self) -> (u64, Vec<(AddressKey, Known)>) {
        let now = super::boot_ns();
        let mut all = self.rules.as_ref().map(|(_, names)| names.addresses.entries()).unwrap_or_default();
        all.retain(|(_, known)| known.groups.iter().any(|group| Group::in_force(group.expires_ns, now)));
        (now, all)
    }

    /// Makes these the addresses that are known by a name without any answer, each with the names that it has and the
    /// patterns that they meet.
    ///
    /// # Errors
    /// When the table has no room for an address, or the address none for a name; the others are known.
    pub fn name_for_good(&mut self, wanted: &BTreeMap<IpAddr, Vec<(&HostName, Vec<u64>)>>) -> Result<()> {
        let (_, names) = self.rules()?;
        let netns = names.netns;
        let keys = wanted
            .iter()
            .map(|(address, sets)| (AddressKey { netns, address: address_bytes(*address) }, sets.as_slice()));
        let wanted: BTreeMap<AddressKey, &[(&HostName, Vec<u64>)]> = keys.collect();
        let mut told = Ok(());
        for (key, known) in names.addresses.entries() {
            if key.netns == netns && !wanted.contains_key(&key) {
                told = told.and(names.settle(key, known, &[]));
            }
        }
        for (key, sets) in wanted {
            let known = names.addresses.get(key)?.unwrap_or_else(bytemuck::Zeroable::zeroed);
            names.empty = false;
            told = told.and(names.settle(key, known, sets));
        }
        told
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

impl Names {
    /// Writes what an address carries for good; nothing where it is so already. The kernel side may add an answer's
    /// names at the same moment, which are then lost until the next answer.
    fn settle(&mut self, key: AddressKey, before: Known, sets: &[(&HostName, Vec<u64>)]) -> Result<()> {
        let (now, mut known) = (super::boot_ns(), before);
        let mut room = Ok(());
        // One that is being written is written by nobody any more once this lies in its place.
        let gone = |group: &&mut Group| group.since_ns == FOR_GOOD || group.expires_ns == CLAIMED;
        for group in known.groups.iter_mut().filter(gone) {
            *group = Group::default();
        }
        for (name, patterns) in sets {
            let free = |group: &&mut Group| group.expires_ns <= now;
            match known.groups.iter_mut().find(free) {
                Some(group) => {
                    group.patterns[..patterns.len()].copy_from_slice(patterns);
                    (group.expires_ns, group.since_ns) = (NEVER_NS, FOR_GOOD);
                    known.name = name.key().text;
                    known.resolver = [0; 16];
                }
                None => room = Err(anyhow!("{} has too many names at a time", name.as_str())),
            }
        }
        // Verdicts stop at the first group that was never used.
        known.groups.sort_by_key(|group| group.expires_ns == 0);
        if known.groups == before.groups {
            return room;
        }
        self.addresses.put(key, known)?;
        room
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
/// Later than any answer's.
const NEVER_NS: u64 = CLAIMED - 1;
const FORGOTTEN_AFTER_NS: u64 = 600 * 1_000_000_000;
