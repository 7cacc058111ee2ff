//! Names used as a channel: what an instance asks for below one domain, and whether that is more than names are for.
//!
//! Who wants to carry data out through a resolver writes it into the labels of names below a domain of his own, and
//! never asks for the same name twice. Pure, by the time of the events.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use crate::event::{
    Event, Kind, Name,
    names::Channel,
    word::{InstanceId, Time},
};

/// What instances have asked for lately, by registered domain.
#[derive(Debug, Default)]
pub struct Channels {
    windows: BTreeMap<(u64, Name), Window>,
    /// Names in all of them.
    names: usize,
}

/// What one instance has asked for below one domain since its window began.
#[derive(Debug)]
struct Window {
    began: Time,
    questions: u64,
    /// Hashes of the names that were asked for.
    names: BTreeSet<u64>,
    /// Bytes before the domain, each name once.
    bytes: u64,
    longest: usize,
    free_form: u64,
    /// How many times more than is told at first is told next.
    told: u64,
}

impl Channels {
    /// Takes in a question; what is to be told of its domain now, if anything.
    pub fn observe(&mut self, event: &Event) -> Option<Channel> {
        let instance = event.subject.as_ref()?.instance?;
        let dns = event.dns.as_ref().filter(|_| event.kind == Kind::DnsQuery)?;
        let domain = registered(&dns.name)?;
        let key = (instance.0, Name::from(domain));
        let over = |window: &Window| event.time.0.saturating_sub(window.began.0) > WINDOW_NS;
        if self.windows.get(&key).is_some_and(over) {
            self.remove(&key);
        }
        let is_new = !self.windows.contains_key(&key);
        while is_new && self.windows.len() >= CHANNELS_MAX || self.names >= NAMES_OF_ALL_MAX {
            self.forget_oldest();
        }
        let window = self.windows.entry(key).or_insert_with(|| Window::at(event.time));
        let before = window.names.len();
        window.add(&dns.name, domain, dns.kind.as_deref());
        self.names += window.names.len() - before;
        window.tell(event.time, domain)
    }

    /// Forgets an instance that has ended.
    pub fn forget(&mut self, instance: InstanceId) {
        self.windows.retain(|key, _| key.0 != instance.0);
        self.names = self.windows.values().map(|window| window.names.len()).sum();
    }

    fn forget_oldest(&mut self) {
        let oldest = self.windows.iter().min_by_key(|(_, window)| window.began.0).map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &(u64, Name)) {
        self.names -= self.windows.remove(key).map_or(0, |window| window.names.len());
    }
}

impl Window {
    fn at(began: Time) -> Self {
        Self { began, questions: 0, names: BTreeSet::new(), bytes: 0, longest: 0, free_form: 0, told: 1 }
    }

    fn add(&mut self, name: &str, domain: &str, kind: Option<&str>) {
        self.questions += 1;
        self.free_form += u64::from(kind.is_some_and(|kind| FREE_FORM.contains(&kind)));
        let before = name.len().saturating_sub(domain.len() + 1);
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        if self.names.len() < NAMES_MAX && self.names.insert(hasher.finish()) {
            self.bytes += before as u64;
        }
        self.longest = self.longest.max(before);
    }

    /// Once when a bound is passed, and again at each doubling.
    fn tell(&mut self, now: Time, domain: &str) -> Option<Channel> {
        let names = self.names.len() as u64;
        let passed = names >= NAMES * self.told
            || self.bytes >= BYTES * self.told
            || self.free_form >= FREE_FORM_QUESTIONS * self.told;
        if !passed {
            return None;
        }
        self.told *= 2;
        Some(Channel {
            domain: domain.into(),
            seconds: now.0.saturating_sub(self.began.0) / 1_000_000_000,
            questions: self.questions,
            names,
            bytes: self.bytes,
            longest: self.longest as u64,
            free_form: self.free_form,
        })
    }
}

/// The domain that somebody has registered: one label more than what the Public Suffix List has.
fn registered(name: &str) -> Option<&str> {
    psl::domain_str(name)
}

/// Record types whose answers carry whatever one likes.
const FREE_FORM: &[&str] = &["TXT", "NULL", "CNAME", "MX", "SRV", "ANY", "NAPTR"];
const WINDOW_NS: u64 = 600 * 1_000_000_000;
/// Different names below one domain in ten minutes, for a first telling.
pub const NAMES: u64 = 100;
/// Bytes in the labels of different names before the domain, likewise.
pub const BYTES: u64 = 4_096;
/// Questions of a type that carries whatever one likes, likewise.
pub const FREE_FORM_QUESTIONS: u64 = 50;
/// Names of one domain that are told apart: what is beyond is counted as questions alone.
const NAMES_MAX: usize = 4_096;
/// Domains of instances that are watched at a time; beyond it the one that was begun first is begun anew.
pub const CHANNELS_MAX: usize = 4_096;
/// Names of all domains together, likewise: a few megabytes.
pub const NAMES_OF_ALL_MAX: usize = 262_144;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Subject, names::Dns};

    fn question(second: u64, name: &str, kind: &str) -> Event {
        Event {
            kind: Kind::DnsQuery,
            time: Time(second * 1_000_000_000),
            subject: Some(Subject { instance: Some(InstanceId(7)), ..Subject::default() }),
            dns: Some(Box::new(Dns { name: name.into(), kind: Some(kind.into()), ..Dns::default() })),
            ..Event::default()
        }
    }

    #[test]
    fn many_names_of_one_domain_are_told_and_again_when_they_have_doubled() {
        let mut channels = Channels::default();
        let told: Vec<u64> = (0..450)
            .filter_map(|at| channels.observe(&question(at, &format!("n{at}.evil.co.uk"), "A")))
            .map(|channel| channel.names)
            .collect();
        assert_eq!(told, [NAMES, 2 * NAMES, 4 * NAMES]);
    }

    #[test]
    fn few_long_names_and_free_form_questions_are_told_with_their_figures() {
        let mut channels = Channels::default();
        let long =
            |at| format!("{at:03}{}.{}.{}.t.example.com", "a".repeat(60), "b".repeat(60), "c".repeat(60));
        let told: Vec<Channel> =
            (0..30).filter_map(|at| channels.observe(&question(at, &long(at), "A"))).collect();
        assert_eq!(told.len(), 1);
        assert_eq!((&*told[0].domain, told[0].names, told[0].longest), ("example.com", 22, 187));
        let told: Vec<Channel> =
            (0..60).filter_map(|at| channels.observe(&question(at, "c2.example.org", "TXT"))).collect();
        assert_eq!((told.len(), told[0].questions, told[0].names), (1, FREE_FORM_QUESTIONS, 1));
    }

    #[test]
    fn the_same_names_over_and_over_and_slow_ones_are_what_names_are_for() {
        let mut channels = Channels::default();
        for at in 0..100_000 {
            let name = format!("host{}.example.com", at % 20);
            assert_eq!(channels.observe(&question(at / 100, &name, "AAAA")), None);
        }
        for at in 0..1_000 {
            assert_eq!(channels.observe(&question(at * 60, &format!("n{at}.example.net"), "A")), None);
        }
    }

    #[test]
    fn windows_are_bounded() {
        let mut channels = Channels::default();
        for at in 0..CHANNELS_MAX as u64 + 10 {
            channels.observe(&question(at, &format!("www.d{at}.com"), "A"));
        }
        assert_eq!(channels.windows.len(), CHANNELS_MAX);
        channels.forget(InstanceId(7));
        assert!(channels.windows.is_empty());
        // Many names of many domains.
        for at in 0..NAMES_OF_ALL_MAX as u64 + 1_000 {
            channels.observe(&question(1, &format!("n{at}.d{}.com", at / NAMES_MAX as u64), "A"));
        }
        let names = |channels: &Channels| channels.windows.values().map(|w| w.names.len()).sum::<usize>();
        assert!(channels.names <= NAMES_OF_ALL_MAX && channels.names == names(&channels));
        assert!(channels.names > NAMES_OF_ALL_MAX - 2 * NAMES_MAX);
        // One whose time is over begins anew, and frees what it held.
        channels.observe(&question(10_000, "n.d63.com", "A"));
        assert_eq!(channels.names, names(&channels));
    }
}
