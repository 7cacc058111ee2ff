//! The one truth table: what becomes of an act, given the policy and the rules that were found for it.
//!
//! The kernel hook, `role explain`, dry run and replay call [`decide`]; only the look-ups before it differ.

use crate::{
    event::spoken::Finding,
    rule::{Class, Mode, Policy, Rule, spoken},
};

vocabulary! {
    /// What is done with an act.
    pub enum Verdict {
        Allow = 1 => "allow",
        /// Allowed and told as an alert.
        Alert = 2 => "alert",
        /// Frozen until a person decides.
        Hold = 3 => "hold",
        Deny = 4 => "deny",
        Kill = 5 => "kill",
    }
}

vocabulary! {
    /// What gave a decision.
    pub enum Source {
        /// A rule of the role; `Decision::rule` says which.
        Rule = 1 => "rule",
        /// The role's default for the class.
        Default = 2 => "default",
        /// The peer belongs to the same instance.
        Own = 3 => "own_instance",
        /// The role has no policy in force: refused.
        NoPolicy = 4 => "no_policy",
        /// No role governs who acts: a person, or the system.
        Ungoverned = 6 => "ungoverned",
        /// The address could not be read: refused in enforce mode.
        Unreadable = 5 => "unreadable",
        /// What the connection said first, by `network.spoken` of the role.
        Spoken = 7 => "spoken",
        /// A rule that was promoted from the role's baseline. To the kernel it is a rule as any other; what reads its
        /// decisions knows where the rule comes from.
        Baseline = 8 => "baseline",
    }
}

/// The verdict on one act, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is done.
    pub verdict: Verdict,
    /// What the rule or default says; differs from `verdict` outside enforce mode.
    pub wanted: Verdict,
    pub source: Source,
    /// The rule's place in the role's list when `source` is [`Source::Rule`].
    pub rule: u16,
}

/// The rules that the look-ups found for one act; which ones there can be depends on the class.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hits {
    /// The most specific rule that names this port (or this very socket).
    pub specific: Rule,
    /// The most specific rule for every port (or every socket of the class).
    pub general: Rule,
    /// The rule that decides by the names under which the address is known; see [`stricter`].
    pub name: Rule,
}

/// What becomes of an act of `class` under `policy` (`None`: the role has none in force), given what was found.
///
/// The longer address prefix wins; at the same length the rule that names the port; without a rule for the address, the
/// one for its names; without that, the class's default. A number that this build does not know is a refusal.
#[must_use]
#[inline(always)]
pub fn decide(policy: Option<&Policy>, class: Class, hits: &Hits) -> Decision {
    let Some(policy) = policy else {
        return Decision { verdict: Verdict::Deny, wanted: Verdict::Deny, source: Source::NoPolicy, rule: 0 };
    };
    let general = hits.specific.is_none()
        || (!hits.general.is_none() && hits.general.prefix_len > hits.specific.prefix_len);
    let rule = if general { hits.general } else { hits.specific };
    let rule = if rule.is_none() { hits.name } else { rule };
    let (raw, source) = if rule.is_none() {
        (policy.defaults[class as usize - 1], Source::Default)
    } else {
        (rule.verdict, Source::Rule)
    };
    settle(policy.mode, Verdict::from_raw(raw).unwrap_or(Verdict::Deny), source, rule.index)
}

/// Of the rules for two names of one address, the one that counts: nobody knows which of the two is meant, so it is the
/// stricter one; of two that say the same, the more specific.
#[must_use]
#[inline(always)]
pub const fn stricter(one: Rule, other: Rule) -> Rule {
    // The raw numbers rise with what is refused, and 0 is no rule.
    let other_counts =
        other.verdict > one.verdict || (other.verdict == one.verdict && other.prefix_len > one.prefix_len);
    if other_counts { other } else { one }
}

/// What becomes of an act whose target could not be read: refused wherever the role is enforced.
#[must_use]
#[inline(always)]
pub fn decide_unreadable(policy: Option<&Policy>) -> Decision {
    match policy {
        Some(policy) => settle(policy.mode, Verdict::Deny, Source::Unreadable, 0),
        None => decide(None, Class::Endpoint, &Hits::default()),
    }
}

/// What becomes of a connection by what it said first: `rule` is the one for the name, none where the finding decides.
#[must_use]
#[inline(always)]
pub fn decide_spoken(policy: Option<&Policy>, rule: Rule, finding: Option<Finding>) -> Decision {
    let Some(policy) = policy else {
        return decide(None, Class::Endpoint, &Hits::default());
    };
    match finding {
        None => settle(policy.mode, Verdict::Allow, Source::Rule, rule.index),
        // A rule that denies this very name.
        Some(Finding::Mismatch)
            if !rule.is_none() && spoken::verdict(policy.spoken, Finding::Mismatch) == Verdict::Deny =>
        {
            settle(policy.mode, Verdict::Deny, Source::Rule, rule.index)
        }
        Some(finding) => settle(policy.mode, spoken::verdict(policy.spoken, finding), Source::Spoken, 0),
    }
}

#[inline(always)]
fn settle(mode: u8, wanted: Verdict, source: Source, rule: u16) -> Decision {
    let verdict = match (Mode::from_raw(mode), wanted) {
        (_, Verdict::Allow) | (Some(Mode::Observe), _) => Verdict::Allow,
        (Some(Mode::Alert), _) => Verdict::Alert,
        _ => wanted,
    };
    Decision { verdict, wanted, source, rule }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::CLASSES;

    fn policy(mode: Mode, default: Verdict) -> Policy {
        Policy { id: 7, mode: mode as u8, defaults: [default as u8; CLASSES], absent: 0, ..Policy::default() }
    }

    fn rule(verdict: Verdict, prefix_len: u8, index: u16) -> Rule {
        Rule { verdict: verdict as u8, prefix_len, index }
    }

    #[test]
    fn without_a_rule_the_default_of_the_class_decides() {
        let mut p = policy(Mode::Enforce, Verdict::Deny);
        p.defaults[Class::Unix as usize - 1] = Verdict::Allow as u8;
        assert_eq!(decide(Some(&p), Class::Endpoint, &Hits::default()).verdict, Verdict::Deny);
        assert_eq!(decide(Some(&p), Class::Unix, &Hits::default()).verdict, Verdict::Allow);
    }

    #[test]
    fn the_longer_prefix_wins_and_the_port_breaks_a_tie() {
        let p = policy(Mode::Enforce, Verdict::Deny);
        let hits = Hits {
            specific: rule(Verdict::Allow, 104, 0),
            general: rule(Verdict::Deny, 112, 1),
            ..Hits::default()
        };
        assert_eq!(decide(Some(&p), Class::Endpoint, &hits).rule, 1);
        let hits = Hits {
            specific: rule(Verdict::Allow, 112, 0),
            general: rule(Verdict::Deny, 112, 1),
            ..Hits::default()
        };
        assert_eq!(decide(Some(&p), Class::Endpoint, &hits).rule, 0);
    }

    #[test]
    fn a_name_counts_where_no_address_rule_does_and_never_against_one() {
        let p = policy(Mode::Enforce, Verdict::Deny);
        let name = rule(Verdict::Allow, 255, 4);
        let hits = Hits { name, ..Hits::default() };
        assert_eq!(decide(Some(&p), Class::Endpoint, &hits), Decision { rule: 4, ..allow_by_rule() });
        let general = rule(Verdict::Deny, 0, 1);
        let hits = Hits { general, name, ..Hits::default() };
        assert_eq!(decide(Some(&p), Class::Endpoint, &hits).verdict, Verdict::Deny);
    }

    fn allow_by_rule() -> Decision {
        Decision { verdict: Verdict::Allow, wanted: Verdict::Allow, source: Source::Rule, rule: 0 }
    }

    #[test]
    fn of_two_names_of_an_address_the_stricter_counts() {
        let (allow, deny) = (rule(Verdict::Allow, 255, 0), rule(Verdict::Deny, 10, 1));
        assert_eq!(stricter(allow, deny), deny);
        assert_eq!(stricter(deny, allow), deny);
        assert_eq!(stricter(Rule::NONE, allow), allow);
        assert_eq!(stricter(allow, Rule::NONE), allow);
        let less = rule(Verdict::Allow, 9, 2);
        assert_eq!(stricter(less, allow), allow);
    }

    #[test]
    fn modes_soften_a_refusal_but_keep_what_was_wanted() {
        for (mode, verdict) in
            [(Mode::Observe, Verdict::Allow), (Mode::Alert, Verdict::Alert), (Mode::Enforce, Verdict::Deny)]
        {
            let p = policy(mode, Verdict::Deny);
            let decision = decide(Some(&p), Class::Endpoint, &Hits::default());
            assert_eq!((decision.verdict, decision.wanted), (verdict, Verdict::Deny));
        }
    }

    #[test]
    fn no_policy_and_unknown_numbers_refuse() {
        assert_eq!(decide(None, Class::Endpoint, &Hits::default()).verdict, Verdict::Deny);
        let mut p = policy(Mode::Enforce, Verdict::Allow);
        p.defaults = [99; CLASSES];
        assert_eq!(decide(Some(&p), Class::Raw, &Hits::default()).verdict, Verdict::Deny);
        p.mode = 77;
        p.defaults = [Verdict::Deny as u8; CLASSES];
        assert_eq!(decide(Some(&p), Class::Raw, &Hits::default()).verdict, Verdict::Deny);
    }
}
