//! The same executable with content that it was never seen to have.

use super::{Finding, Nearness, Rules, What, seen_by, usual};
use crate::baseline::{
    behaviour::Behaviour,
    learn::{Baselines, Model},
    observation::{Act, Observation},
};

/// A finding where that is so.
pub fn other_content(
    baselines: &Baselines,
    model: &Model,
    rules: &Rules,
    seen: &Observation,
    behaviours: &[Behaviour],
) -> Option<Finding> {
    let (Act::Exec { content: Some(content), .. }, Some(exe)) = (&seen.act, &seen.exe) else { return None };
    let known = model.contents_of(exe);
    let behaviour = behaviours.iter().find(|behaviour| matches!(behaviour, Behaviour::Exec { .. }))?;
    // Of a program that is new itself, the content is no news.
    if known.is_empty() || known.iter().any(|(there, _)| there == content) || !usual(model, rules, behaviour)
    {
        return None;
    }
    let latest = known.iter().max_by_key(|(content, evidence)| (evidence.last, content))?;
    Some(Finding {
        time: seen.time,
        role: seen.role.clone()?,
        instance: seen.instance?,
        host: seen.host.clone(),
        boot_id: seen.boot.clone(),
        seq: seen.seq,
        what: What::NewVersion,
        behaviour: behaviour.clone(),
        severity: rules.severities.of(What::NewVersion, Nearness::OtherContent),
        how_unusual: format!("{content}, where it was {} before", latest.0),
        nearness: Nearness::OtherContent,
        nearest: None,
        seen: seen_by(baselines, model, behaviour, &seen.host),
        refused: seen.refused,
        technique: None,
        owasp: None,
    })
}
