//! One role, compiled by itself: its defaults, its rules under policy id 0, their texts.

use std::collections::BTreeMap;

use agent_common::{
    event::spoken::Finding,
    identity::{HASH_START, hash_step},
    name::{ASKING, NameRuleKey},
    rule::{
        CLASSES, Class, ExactKey, Mode, PREFIX_KEY_HEAD_BITS, Policy, PrefixKey, Rule, SocketKey,
        UNIX_NAME_BYTES, UnixKey, absent, spoken::bits,
    },
    verdict::Verdict,
};

use super::{
    own,
    parse::{self, HostName, Target},
    table::{RuleText, Table, UNIX_KEY_HEAD_BITS, unix_bytes, unix_exact},
};
use crate::config::{
    document::{
        Answer, NameRule, PromotionDocument, Protocol, Rest, RoleDocument, RoleSpec, RuleSpec, Spoken,
    },
    problem::{Place, Problem, Problems, quoted},
};

/// One role's part of the table, under policy id 0.
#[derive(Default)]
pub struct Draft {
    pub policy: Policy,
    pub rules: Table,
    pub texts: Vec<RuleText>,
}

/// The built-in role `unregistered`: observe, everything allowed.
pub fn built_in() -> Draft {
    let defaults = [Verdict::Allow as u8; CLASSES];
    let policy = Policy { mode: Mode::Observe as u8, defaults, absent: absent::ASKING, ..Policy::default() };
    Draft { policy, ..Draft::default() }
}

/// What a role says and what was promoted for it, with what is wrong with them.
pub fn draft(role: &RoleDocument, promotion: Option<&PromotionDocument>, problems: &mut Problems) -> Draft {
    let network = &role.spec.network;
    let defaults = defaults(&role.spec).map(|v| v as u8);
    let spoken = spoken(&network.spoken);
    let policy = Policy { mode: role.spec.mode as u8, defaults, spoken, ..Policy::default() };
    let mut draft = Draft { policy, ..Draft::default() };
    let on_names = role.spec.names.as_ref().map_or(&[][..], |names| &names.rules);
    let promoted = promotion.map_or(0, |promotion| promotion.spec.rules.len() + promotion.spec.names.len());
    let count = network.rules.len() + on_names.len() + promoted;
    if count > RULES_PER_ROLE_MAX {
        let what = format!("the role has {count} rules, at most {RULES_PER_ROLE_MAX}");
        problems.push(Problem::new(&role.metadata.name.place, what, "join addresses to prefixes"));
        return draft;
    }
    for to in &network.unfinished {
        if let Err(fault) = parse::target(&to.value) {
            problems.push(fault.at(&to.place));
        }
    }
    for (index, rule) in network.rules.iter().enumerate() {
        let by_name = matches!(parse::target(&rule.to.value), Ok(parse::Target::Host { .. }));
        draft.texts.push(RuleText { by_name, ..RuleText::new(rule_text(rule), place(rule)) });
        if let Err(problem) = draft.add(rule, index as u16) {
            problems.push(problem);
        }
    }
    for (index, rule) in on_names.iter().enumerate() {
        let place = rule.place.as_ref().unwrap_or(&rule.name.place);
        draft.texts.push(RuleText::new(asking_text(rule), place));
        if let Err(problem) = draft.add_asking(rule, (network.rules.len() + index) as u16) {
            problems.push(problem);
        }
    }
    draft.ask_for_what_is_named(role.spec.names.is_some());
    if let Some(promotion) = promotion {
        draft.promoted(role, promotion, problems);
        draft.ask_for_what_is_named(role.spec.names.is_some());
    }
    if role.spec.names.is_none() && draft.rules.by_name.is_empty() {
        draft.policy.absent |= absent::ASKING;
    }
    draft
}

/// The default of each class, in the order of [`Class`].
fn defaults(spec: &RoleSpec) -> [Verdict; CLASSES] {
    let network = &spec.network;
    let given = &network.defaults;
    let rest = network.default.answer();
    let routing = if network.default == Rest::Allow { Answer::Allow } else { Answer::Deny };
    let mut defaults = [Verdict::Deny; CLASSES];
    for class in Class::ALL {
        let answer = match class {
            Class::Endpoint => rest,
            Class::Raw => given.raw.unwrap_or(rest),
            Class::Packet => given.packet.unwrap_or(rest),
            Class::Vsock => given.vsock.unwrap_or(rest),
            Class::Unix => given.unix.unwrap_or(rest),
            Class::Netlink => given.netlink.unwrap_or(Answer::Allow),
            Class::Protocol => given.protocol.unwrap_or(rest),
            Class::Family => given.family.unwrap_or(rest),
            Class::Routing => given.routing.unwrap_or(routing),
            Class::Name => spec.names.as_ref().map_or(Answer::Allow, |names| names.default.answer()),
        };
        defaults[*class as usize - 1] = verdict(answer);
    }
    defaults
}

/// What becomes of connections by what they say first.
fn spoken(given: &Spoken) -> u8 {
    [
        (Finding::Mismatch, given.mismatch.unwrap_or(Answer::Deny)),
        (Finding::Ech, given.ech.unwrap_or(Answer::Deny)),
        (Finding::Other, given.other.unwrap_or(Answer::Allow)),
    ]
    .into_iter()
    .map(|(finding, answer)| bits(finding, verdict(answer)))
    .sum()
}

fn verdict(answer: Answer) -> Verdict {
    match answer {
        Answer::Allow => Verdict::Allow,
        Answer::Alert => Verdict::Alert,
        Answer::Deny => Verdict::Deny,
    }
}

impl Draft {
    fn add(&mut self, rule: &RuleSpec, index: u16) -> Result<(), Problem> {
        let target = parse::target(&rule.to.value).map_err(|fault| fault.at(&rule.to.place))?;
        let value = |prefix_len| Rule { verdict: verdict(rule.verdict) as u8, prefix_len, index };
        if let (Some(protocol), false) =
            (&rule.protocol, matches!(target, Target::Endpoint { .. } | Target::Host { .. }))
        {
            let remedy = "remove `protocol`: it belongs to addresses and host names";
            return Err(Problem::new(
                &protocol.place,
                "this rule names neither an address nor a host",
                remedy,
            ));
        }
        match target {
            Target::Socket { class, a, b } => {
                let key = SocketKey { policy: 0, class: class as u8, _pad: [0; 3], a, b };
                insert(&mut self.rules.sockets, key, value(0), rule, &self.texts)
            }
            Target::Unix { name, exact } => {
                // An exact name is the whole key, padding and all: an abstract name may go on behind a NUL.
                let bytes = if exact { UNIX_NAME_BYTES } else { name.len() };
                let bits = UNIX_KEY_HEAD_BITS + 8 * bytes as u32;
                let bytes_of = if exact { unix_exact } else { unix_bytes };
                let key = UnixKey { policy: 0, name: bytes_of(&name) };
                insert(&mut self.rules.unix, (bits, key), value(0), rule, &self.texts)
            }
            Target::Host { name, ports } => {
                self.rules.hosts.insert(name.key(), name.id());
                for protocol in protocols(rule, &ports)? {
                    for &port in if ports.is_empty() { &[0][..] } else { &ports } {
                        let pattern = name.id();
                        let key = NameRuleKey { pattern, policy: 0, port, protocol: protocol as u8, _pad: 0 };
                        insert(&mut self.rules.by_name, key, value(name.length()), rule, &self.texts)?;
                    }
                }
                Ok(())
            }
            Target::Endpoint { prefix, ports } => {
                for protocol in protocols(rule, &ports)? {
                    for &port in if ports.is_empty() { &[0][..] } else { &ports } {
                        let (protocol, address) = (protocol as u8, prefix.address);
                        if port != 0 && prefix.bits == 128 {
                            let key = ExactKey { policy: 0, port, protocol, _pad: 0, address };
                            insert(&mut self.rules.exact, key, value(128), rule, &self.texts)?;
                        } else {
                            let key = PrefixKey { policy: 0, port, protocol, _pad: 0, address };
                            let bits = PREFIX_KEY_HEAD_BITS + u32::from(prefix.bits);
                            insert(
                                &mut self.rules.prefixes,
                                (bits, key),
                                value(prefix.bits),
                                rule,
                                &self.texts,
                            )?;
                        }
                    }
                }
                Ok(())
            }
        }
    }

    /// What was promoted, but for what the role's own rules decide, whatever they say: people have thought of that.
    fn promoted(&mut self, role: &RoleDocument, promotion: &PromotionDocument, problems: &mut Problems) {
        let own = self.rules.clone();
        let mut keep = |result: Result<(), Problem>| result.unwrap_or_else(|problem| problems.push(problem));
        let rules = promotion.spec.rules.iter().filter(|_| role.spec.network.default == Rest::Baseline);
        for rule in rules {
            let text = RuleText { promoted: true, ..RuleText::new(rule_text(rule), place(rule)) };
            match parse::target(&rule.to.value) {
                Ok(Target::Socket { .. }) => {
                    let what = format!("a promotion cannot name {}", quoted(&rule.to.value));
                    let remedy = "write it into the role: raw, packet and other sockets reach far";
                    keep(Err(Problem::new(&rule.to.place, what, remedy)));
                }
                Ok(target) => {
                    let by_name = matches!(target, Target::Host { .. });
                    if protocols_of(rule, &target).is_ok_and(|all| own::decides(&own, &target, &all)) {
                        continue;
                    }
                    self.texts.push(RuleText { by_name, ..text });
                    keep(self.add(rule, (self.texts.len() - 1) as u16));
                }
                Err(fault) => keep(Err(fault.at(&rule.to.place))),
            }
        }
        let asked = role.spec.names.as_ref().is_some_and(|names| names.default == Rest::Baseline);
        for rule in promotion.spec.names.iter().filter(|_| asked) {
            match HostName::parse(&rule.name.value) {
                Ok(name) if own::decides_asking(&own, &name) => {}
                Ok(name) if self.rules.by_name.contains_key(&asking(name.id())) => {}
                Ok(_) => {
                    let place = rule.place.as_ref().unwrap_or(&rule.name.place);
                    self.texts.push(RuleText { promoted: true, ..RuleText::new(asking_text(rule), place) });
                    keep(self.add_asking(rule, (self.texts.len() - 1) as u16));
                }
                Err(fault) => keep(Err(fault.at(&rule.name.place))),
            }
        }
    }

    /// A rule on asking for a name.
    fn add_asking(&mut self, rule: &NameRule, index: u16) -> Result<(), Problem> {
        let name = HostName::parse(&rule.name.value).map_err(|fault| fault.at(&rule.name.place))?;
        self.rules.hosts.insert(name.key(), name.id());
        let value = Rule { verdict: verdict(rule.verdict) as u8, prefix_len: name.length(), index };
        match self.rules.by_name.insert(asking(name.id()), value) {
            None => Ok(()),
            Some(first) => {
                let at = self.texts.get(usize::from(first.index)).map(|text| text.place.to_string());
                let what = format!("{} is named twice", quoted(&rule.name.value));
                let remedy = format!("leave one of them out; the other is at {}", at.unwrap_or_default());
                Err(Problem::new(&rule.name.place, what, remedy))
            }
        }
    }

    /// What rules on endpoints name may be asked for where they let it be reached, at whatever port; unless a rule on
    /// asking says otherwise. Nothing is refused for a role that says nothing of asking (`judged` is false).
    fn ask_for_what_is_named(&mut self, judged: bool) {
        let mut named: BTreeMap<u64, Rule> = BTreeMap::new();
        for (key, rule) in self.rules.by_name.iter().filter(|(key, _)| key.protocol != ASKING) {
            let known = named.entry(key.pattern).or_insert(*rule);
            if rule.verdict < known.verdict {
                *known = *rule;
            }
        }
        let refused = |rule: &Rule| rule.verdict == Verdict::Deny as u8;
        for (pattern, rule) in named.into_iter().filter(|(_, rule)| judged || !refused(rule)) {
            self.rules.by_name.entry(asking(pattern)).or_insert(rule);
        }
    }

    /// Hash of everything in it and of whose it is; the policy id is made of it.
    pub fn content(&self, role: u32) -> u64 {
        let mut hash = HASH_START;
        let mut feed = |bytes: &[u8]| hash = bytes.iter().fold(hash, |hash, byte| hash_step(hash, *byte));
        feed(bytemuck::bytes_of(&role));
        feed(bytemuck::bytes_of(&self.policy));
        for (key, rule) in &self.rules.exact {
            feed(bytemuck::bytes_of(key));
            feed(bytemuck::bytes_of(rule));
        }
        for ((bits, key), rule) in &self.rules.prefixes {
            feed(&bits.to_ne_bytes());
            feed(bytemuck::bytes_of(key));
            feed(bytemuck::bytes_of(rule));
        }
        for ((bits, key), rule) in &self.rules.unix {
            feed(&bits.to_ne_bytes());
            feed(bytemuck::bytes_of(key));
            feed(bytemuck::bytes_of(rule));
        }
        for (key, rule) in &self.rules.by_name {
            feed(bytemuck::bytes_of(key));
            feed(bytemuck::bytes_of(rule));
        }
        for (key, rule) in &self.rules.sockets {
            feed(bytemuck::bytes_of(key));
            feed(bytemuck::bytes_of(rule));
        }
        hash
    }
}

/// The key of what becomes of asking for a name.
fn asking(pattern: u64) -> NameRuleKey {
    NameRuleKey { pattern, policy: 0, port: 0, protocol: ASKING, _pad: 0 }
}

/// Without a protocol a rule speaks for TCP and UDP, and for ICMP echo where it names no port.
fn protocols(rule: &RuleSpec, ports: &[u16]) -> Result<Vec<Protocol>, Problem> {
    match &rule.protocol {
        None if ports.is_empty() => Ok(vec![Protocol::Tcp, Protocol::Udp, Protocol::Icmp]),
        None => Ok(vec![Protocol::Tcp, Protocol::Udp]),
        Some(protocol) if protocol.value == Protocol::Icmp && !ports.is_empty() => {
            Err(Problem::new(&rule.to.place, "icmp has no ports", "leave the port out"))
        }
        Some(protocol) => Ok(vec![protocol.value]),
    }
}

/// Lays a rule under its key. The first of several that say the same stays; what contradicts it is a problem.
fn insert<K: Ord>(
    map: &mut BTreeMap<K, Rule>,
    key: K,
    value: Rule,
    rule: &RuleSpec,
    texts: &[RuleText],
) -> Result<(), Problem> {
    let first = *map.entry(key).or_insert(value);
    if first.verdict == value.verdict {
        return Ok(());
    }
    let first = &texts[usize::from(first.index)];
    let what = format!("this names the same as `{}`, with another verdict", first.text);
    Err(Problem::new(place(rule), what, format!("keep one; the other is at {}", first.place)))
}

/// The protocols of a rule, by what it names.
fn protocols_of(rule: &RuleSpec, target: &Target) -> Result<Vec<Protocol>, Problem> {
    match target {
        Target::Endpoint { ports, .. } | Target::Host { ports, .. } => protocols(rule, ports),
        Target::Unix { .. } | Target::Socket { .. } => Ok(Vec::new()),
    }
}

fn asking_text(rule: &NameRule) -> String {
    format!("asking for {} {}", rule.name.value, rule.verdict.name())
}

fn rule_text(rule: &RuleSpec) -> String {
    let protocol =
        rule.protocol.as_ref().map(|protocol| format!(" {}", protocol.value.name())).unwrap_or_default();
    format!("{}{protocol} {}", rule.to.value, rule.verdict.name())
}

fn place(rule: &RuleSpec) -> &Place {
    rule.place.as_ref().unwrap_or(&rule.to.place)
}

/// A rule's index has 16 bits.
const RULES_PER_ROLE_MAX: usize = 1 << 16;
