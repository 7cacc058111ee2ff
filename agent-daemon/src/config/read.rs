//! From nodes to documents: the one place that knows which field stands where.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    document::{
        AgentDocument, AgentKind, AgentSpec, Answer, ApiVersion, Defaults, MatchSpec, Metadata, Mode,
        NameRule, Names, Network, PromotionDocument, PromotionKind, PromotionSpec, Protocol, Rest,
        RoleDocument, RoleKind, RoleSpec, RuleSpec, Spanned, Spoken,
    },
    fields::{self, Fields},
    problem::{Problem, Problems, quoted},
    reaction,
    settings::{self, Config},
    yaml::Node,
};

/// A document of any kind.
#[derive(Clone, Debug)]
pub enum Document {
    Agent(AgentDocument),
    Role(RoleDocument),
    Promotion(PromotionDocument),
    Daemon(Config),
}

/// The document of a node; `None` when it cannot be used, which has then been reported.
pub fn document(node: &Node, problems: &mut Problems) -> Option<Document> {
    let mut top = Fields::of(node, "a document", problems)?;
    let version = top.need("apiVersion").and_then(|node| {
        fields::word(node, "apiVersion", &[(ApiVersion::V1.name(), ApiVersion::V1)], problems)
    });
    let kind = top.need("kind").and_then(|node| fields::word(node, "kind", KINDS, problems));
    let metadata = match kind {
        Some(Kind::Daemon) | None => {
            top.get("metadata");
            None
        }
        Some(_) => top.need("metadata").and_then(|node| metadata(node, problems)),
    };
    let spec = top.need("spec");
    let document = match kind {
        None => None,
        Some(Kind::Agent) => spec.and_then(|node| agent_spec(node, problems)).and_then(|spec| {
            let (api_version, metadata) = (version?, metadata?);
            Some(Document::Agent(AgentDocument { api_version, kind: AgentKind::Agent, metadata, spec }))
        }),
        Some(Kind::Role) => spec.and_then(|node| role_spec(node, problems)).and_then(|spec| {
            let (api_version, metadata) = (version?, metadata?);
            Some(Document::Role(RoleDocument { api_version, kind: RoleKind::Role, metadata, spec }))
        }),
        Some(Kind::Promotion) => spec.and_then(|node| promotion_spec(node, problems)).and_then(|spec| {
            let (api_version, metadata) = (version?, metadata?);
            let kind = PromotionKind::Promotion;
            Some(Document::Promotion(PromotionDocument { api_version, kind, metadata, spec }))
        }),
        Some(Kind::Daemon) => spec.and_then(|node| settings::config(node, problems)).map(Document::Daemon),
    };
    top.finish(problems);
    document
}

#[derive(Clone, Copy)]
enum Kind {
    Agent,
    Role,
    Promotion,
    Daemon,
}
const KINDS: &[(&str, Kind)] =
    &[("Agent", Kind::Agent), ("Role", Kind::Role), ("Promotion", Kind::Promotion), ("Daemon", Kind::Daemon)];

fn metadata(node: &Node, problems: &mut Problems) -> Option<Metadata> {
    let mut fields = Fields::of(node, "metadata", problems)?;
    let name = fields.need("name").and_then(|node| name(node, "metadata.name", problems));
    let labels = fields.get("labels").map(|node| labels(node, problems)).unwrap_or_default();
    fields.finish(problems);
    Some(Metadata { name: name?, labels })
}

fn name(node: &Node, what: &'static str, problems: &mut Problems) -> Option<Spanned<String>> {
    let text = fields::text(node, what, problems)?;
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let ends = [text.chars().next(), text.chars().next_back()];
    let good = text.len() <= NAME_CHARS_MAX
        && text.chars().all(inner)
        && ends.iter().all(|c| c.is_some_and(|c| c.is_ascii_alphanumeric()));
    if !good {
        let remedy = "lower-case letters, digits, `-` and `.`, at most 63, a letter or digit first and last";
        problems.push(Problem::new(&node.place, format!("{what} cannot be {}", quoted(&text)), remedy));
        return None;
    }
    Some(Spanned { value: text, place: node.place.clone() })
}

fn labels(node: &Node, problems: &mut Problems) -> BTreeMap<String, String> {
    let Some(fields) = Fields::of(node, "labels", problems) else { return BTreeMap::new() };
    let entries = fields.rest();
    if entries.len() > LABELS_MAX {
        let what = format!("{} labels, at most {LABELS_MAX}", entries.len());
        problems.push(Problem::new(&node.place, what, "remove some"));
    }
    let read = entries
        .into_iter()
        .filter_map(|(key, _, value)| Some((key.to_string(), fields::text(value, "a label", problems)?)));
    read.collect()
}

fn agent_spec(node: &Node, problems: &mut Problems) -> Option<AgentSpec> {
    let mut fields = Fields::of(node, "an agent's spec", problems)?;
    let description = fields.get("description").and_then(|node| fields::text(node, "description", problems));
    let owner = fields.need("owner").and_then(|node| fields::text(node, "owner", problems));
    let version = fields.get("version").and_then(|node| fields::text(node, "version", problems));
    let role = fields.get("role").and_then(|node| name(node, "role", problems));
    let mut matches = Vec::new();
    for item in fields.get("match").map_or(&[][..], |node| fields::items(node, "match", problems)) {
        if let Some(value) = match_spec(item, problems) {
            matches.push(Spanned { value, place: item.place.clone() });
        }
    }
    fields.finish(problems);
    // What cannot be read is reported; the rest goes on, so that it is checked too.
    Some(AgentSpec { description, owner: owner.unwrap_or_default(), version, role, matches })
}

fn match_spec(node: &Node, problems: &mut Problems) -> Option<MatchSpec> {
    let mut fields = Fields::of(node, "a match entry", problems)?;
    let mut given = Vec::new();
    let mut count = 0;
    for (name, make) in WAYS {
        if let Some(node) = fields.get(name) {
            count += 1;
            given.extend(fields::text(node, name, problems).map(make));
        }
    }
    let unknown = fields.rest().len();
    fields.finish(problems);
    if count > 1 || (count == 0 && unknown == 0) {
        let what =
            format!("a match entry names {count} of exe, unit, cgroup and container, it must name one");
        problems.push(Problem::new(
            &node.place,
            what,
            "write one entry per way: [ { exe: … }, { unit: … } ]",
        ));
        return None;
    }
    given.pop()
}

type Way = (&'static str, fn(String) -> MatchSpec);
const WAYS: [Way; 4] = [
    ("exe", |text| MatchSpec::Exe(PathBuf::from(text))),
    ("unit", MatchSpec::Unit),
    ("cgroup", |text| MatchSpec::Cgroup(PathBuf::from(text))),
    ("container", MatchSpec::Container),
];

fn role_spec(node: &Node, problems: &mut Problems) -> Option<RoleSpec> {
    let mut fields = Fields::of(node, "a role's spec", problems)?;
    let description = fields.get("description").and_then(|node| fields::text(node, "description", problems));
    let mode = fields.need("mode").and_then(|node| {
        let words: Vec<_> = Mode::ALL.iter().map(|mode| (mode.name(), *mode)).collect();
        fields::word(node, "mode", &words, problems)
    });
    let network = fields.need("network").and_then(|node| network(node, problems));
    let names = fields.get("names").and_then(|node| names(node, problems));
    let baseline = fields.get("baseline").and_then(|node| reaction::read(node, problems));
    fields.finish(problems);
    Some(RoleSpec { description, mode: mode.unwrap_or(Mode::Enforce), network: network?, names, baseline })
}

fn promotion_spec(node: &Node, problems: &mut Problems) -> Option<PromotionSpec> {
    let mut fields = Fields::of(node, "a promotion's spec", problems)?;
    let mut spec = PromotionSpec::default();
    for item in fields.get("rules").map_or(&[][..], |node| fields::items(node, "rules", problems)) {
        if let Ok(rule) = rule(item, problems) {
            only_allows(rule.verdict, item, problems);
            spec.rules.push(rule);
        }
    }
    for item in fields.get("names").map_or(&[][..], |node| fields::items(node, "names", problems)) {
        if let Some(rule) = name_rule(item, problems) {
            only_allows(rule.verdict, item, problems);
            spec.names.push(rule);
        }
    }
    fields.finish(problems);
    Some(spec)
}

fn only_allows(verdict: Answer, node: &Node, problems: &mut Problems) {
    if verdict != Answer::Allow {
        let what = format!("a promotion cannot say `{}`", verdict.name());
        problems.push(Problem::new(&node.place, what, "write it into the role: its own rules go before"));
    }
}

fn names(node: &Node, problems: &mut Problems) -> Option<Names> {
    let mut fields = Fields::of(node, "names", problems)?;
    let default = fields.need("default").and_then(|node| rest(node, problems));
    let items = fields.get("rules").map_or(&[][..], |node| fields::items(node, "rules", problems));
    let rules = items.iter().filter_map(|item| name_rule(item, problems)).collect();
    fields.finish(problems);
    Some(Names { default: default.unwrap_or(Rest::Deny), rules })
}

fn name_rule(node: &Node, problems: &mut Problems) -> Option<NameRule> {
    let mut fields = Fields::of(node, "a rule on names", problems)?;
    let name = fields.need("name").and_then(|node| spanned(node, "name", problems));
    let verdict = fields.need("verdict").and_then(|node| answer(node, "verdict", problems));
    fields.finish(problems);
    Some(NameRule { name: name?, verdict: verdict?, place: Some(node.place.clone()) })
}

fn network(node: &Node, problems: &mut Problems) -> Option<Network> {
    let mut fields = Fields::of(node, "network", problems)?;
    let default = fields.need("default").and_then(|node| rest(node, problems));
    let defaults = fields.get("defaults").and_then(|node| defaults(node, problems)).unwrap_or_default();
    let spoken = fields.get("spoken").and_then(|node| spoken(node, problems)).unwrap_or_default();
    let (mut rules, mut unfinished) = (Vec::new(), Vec::new());
    for item in fields.get("rules").map_or(&[][..], |node| fields::items(node, "rules", problems)) {
        match rule(item, problems) {
            Ok(rule) => rules.push(rule),
            Err(to) => unfinished.extend(to),
        }
    }
    fields.finish(problems);
    Some(Network { default: default.unwrap_or(Rest::Deny), defaults, spoken, rules, unfinished })
}

fn defaults(node: &Node, problems: &mut Problems) -> Option<Defaults> {
    let mut fields = Fields::of(node, "defaults", problems)?;
    let mut read = |name| fields.get(name).and_then(|node| answer(node, name, problems));
    let defaults = Defaults {
        unix: read("unix"),
        netlink: read("netlink"),
        vsock: read("vsock"),
        raw: read("raw"),
        packet: read("packet"),
        protocol: read("protocol"),
        family: read("family"),
        routing: read("routing"),
    };
    fields.finish(problems);
    Some(defaults)
}

fn spoken(node: &Node, problems: &mut Problems) -> Option<Spoken> {
    let mut fields = Fields::of(node, "spoken", problems)?;
    let mut read = |name| fields.get(name).and_then(|node| answer(node, name, problems));
    let spoken = Spoken { mismatch: read("mismatch"), ech: read("ech"), other: read("other") };
    fields.finish(problems);
    Some(spoken)
}

/// A rule, or what it names when the rest of it cannot be read.
fn rule(node: &Node, problems: &mut Problems) -> Result<RuleSpec, Option<Spanned<String>>> {
    let mut fields = Fields::of(node, "a rule", problems).ok_or(None)?;
    let to = fields.need("to").and_then(|node| spanned(node, "to", problems));
    let protocol = fields.get("protocol").map(|node| {
        let words: Vec<_> = Protocol::ALL.iter().map(|protocol| (protocol.name(), *protocol)).collect();
        let value = fields::word(node, "protocol", &words, problems)?;
        Some(Spanned { value, place: node.place.clone() })
    });
    let verdict = fields.need("verdict").and_then(|node| answer(node, "verdict", problems));
    fields.finish(problems);
    match (to, protocol, verdict) {
        (Some(to), None, Some(verdict)) => {
            Ok(RuleSpec { to, protocol: None, verdict, place: Some(node.place.clone()) })
        }
        (Some(to), Some(Some(protocol)), Some(verdict)) => {
            Ok(RuleSpec { to, protocol: Some(protocol), verdict, place: Some(node.place.clone()) })
        }
        (to, ..) => Err(to),
    }
}

/// A text and where it stands.
fn spanned(node: &Node, what: &'static str, problems: &mut Problems) -> Option<Spanned<String>> {
    Some(Spanned { value: fields::text(node, what, problems)?, place: node.place.clone() })
}

fn answer(node: &Node, what: &'static str, problems: &mut Problems) -> Option<Answer> {
    let words: Vec<_> = Answer::ALL.iter().map(|answer| (answer.name(), *answer)).collect();
    word_but_hold(node, what, &words, problems)
}

fn rest(node: &Node, problems: &mut Problems) -> Option<Rest> {
    let words: Vec<_> = Rest::ALL.iter().map(|rest| (rest.name(), *rest)).collect();
    word_but_hold(node, "default", &words, problems)
}

fn word_but_hold<T: Copy>(
    node: &Node,
    what: &'static str,
    words: &[(&'static str, T)],
    problems: &mut Problems,
) -> Option<T> {
    if let super::yaml::Data::Scalar { text, .. } = &node.data
        && text == "hold"
    {
        let remedy = "`hold` needs approvals, which this version does not have; use deny or alert";
        problems.push(Problem::new(&node.place, format!("{what} cannot be `hold`"), remedy));
        return None;
    }
    fields::word(node, what, words, problems)
}

const NAME_CHARS_MAX: usize = 63;
const LABELS_MAX: usize = 32;
