//! Static names: what this host's `/etc/hosts` says of names that rules have. No resolver is asked for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
};

use tracing::warn;

use super::Pipeline;
use crate::{
    event::Name,
    kernel::Kernel,
    policy::{host::HostName, table::Table},
};

/// Where hosts(5) has them.
const FILE: &str = "/etc/hosts";

/// What the file says; nothing where it cannot be read.
#[derive(Debug)]
pub struct Reading {
    stamp: Stamp,
    /// Address → its names.
    hosts: BTreeMap<IpAddr, BTreeSet<HostName>>,
}

impl Reading {
    #[must_use]
    pub fn now() -> Self {
        // Taken before: what changes meanwhile is read at the next look.
        let stamp = stamp();
        Self { stamp, hosts: parse(&fs::read_to_string(FILE).unwrap_or_default()) }
    }
}

/// Names without a dot cannot stand in a rule.
fn parse(text: &str) -> BTreeMap<IpAddr, BTreeSet<HostName>> {
    let mut all: BTreeMap<IpAddr, BTreeSet<HostName>> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
        let names = words.filter(|word| !word.starts_with('*')).filter_map(|word| HostName::parse(word).ok());
        all.entry(address.to_canonical()).or_default().extend(names);
    }
    all.retain(|_, names| !names.is_empty());
    all
}

/// Makes the kernel side know them by the names that a table's rules have.
pub fn honour(kernel: &mut Kernel, table: &Table, reading: &Reading) {
    let met = |name: &HostName| -> Vec<u64> {
        let known =
            name.patterns().into_iter().filter_map(|pattern| table.hosts.get(&pattern.key()).copied());
        known.take(agent_common::limits::PATTERNS_PER_NAME).collect()
    };
    let mut wanted = BTreeMap::new();
    for (address, names) in &reading.hosts {
        let sets: Vec<(&HostName, Vec<u64>)> =
            names.iter().map(|name| (name, met(name))).filter(|(_, set)| !set.is_empty()).collect();
        if !sets.is_empty() {
            wanted.insert(*address, sets);
        }
    }
    if let Err(error) = kernel.name_for_good(&wanted) {
        warn!(
            error = format!("{error:#}"),
            "the names of /etc/hosts cannot all be told to the kernel side; rules by such a name allow nothing"
        );
    }
}

/// By what a change of the file is seen without reading it: file, length, last change in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp([i128; 4]);

/// Nothing where there is no file.
fn stamp() -> Stamp {
    fs::metadata(FILE).map_or(Stamp::default(), |file| {
        let changed = i128::from(file.ctime()) * 1_000_000_000 + i128::from(file.ctime_nsec());
        Stamp([file.dev().into(), file.ino().into(), file.len().into(), changed])
    })
}

impl Pipeline {
    /// Looks whether the file has changed, or what rules name; while no role names a host, it says nothing.
    pub(super) fn follow_hosts(&mut self) {
        let reads = self.in_force.table.reads_names();
        let now = if reads { stamp() } else { Stamp::default() };
        // What could not be told is told again when something changes, and not each second.
        if self.hosts == Some(now) {
            return;
        }
        let nothing = Reading { stamp: now, hosts: BTreeMap::new() };
        let reading = if reads { Reading::now() } else { nothing };
        honour(&mut self.kernel, &self.in_force.table, &reading);
        self.know_hosts(&reading);
    }

    /// Events have the names of a reading that the kernel side has been told.
    pub fn know_hosts(&mut self, reading: &Reading) {
        let first = |names: &BTreeSet<HostName>| names.first().map(|name| Name::from(name.as_str()));
        let named = reading.hosts.iter().filter_map(|(address, names)| Some((*address, first(names)?)));
        self.line.lineage.resolved.set_static(named.collect());
        self.hosts = Some(reading.stamp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_of_addresses_are_read_and_the_rest_is_passed_over() {
        let text = "127.0.0.1 localhost\n# 192.0.2.9 no.example.com\n192.0.2.1\tA.example.com a b.example.com. # c.example.com\n\
                    2001:db8::1 a.example.com\n::ffff:192.0.2.1 d.example.com\nrubbish e.example.com\n192.0.2.3\n*.x 1\n";
        let found = parse(text);
        let names = |address: &str| -> Vec<&str> {
            found[&address.parse::<IpAddr>().unwrap()].iter().map(HostName::as_str).collect()
        };
        assert_eq!(found.len(), 2);
        assert_eq!(names("192.0.2.1"), ["a.example.com", "b.example.com", "d.example.com"]);
        assert_eq!(names("2001:db8::1"), ["a.example.com"]);
    }
}
