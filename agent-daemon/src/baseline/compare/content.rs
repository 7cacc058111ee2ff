//! The same executable or script with content that it was never seen to have.

use super::{Finding, Nearness, Rules, What, seen_by};
use crate::baseline::{
    behaviour::{Behaviour, Program, path::generalise},
    learn::{Baselines, Model},
    observation::{Act, Observation},
};

/// A finding where that is so.
pub fn other_content(
    baselines: &Baselines,
    model: &Model,
    rules: &Rules,
    seen: &Observation,
) -> Option<Finding> {
    let Act::Identified { path, content } = &seen.act else { return None };
    let exe = generalise(path);
    let known = model.contents_of(&exe);
    if known.is_empty() || known.iter().any(|(there, _)| there == content) {
        return None;
    }
    // Of a program that is new itself, the content is no news.
    let runs_it = |behaviour: &Behaviour| match behaviour {
        Behaviour::Exec { child: Program::File { exe: there, script }, .. } => {
            script.as_ref().unwrap_or(there) == &exe || *there == exe
        }
        _ => false,
    };
    let usual = model.behaviours().filter(|(_, evidence)| model.is_usual(evidence, &rules.support));
    let behaviour = usual.map(|(behaviour, _)| behaviour).find(|behaviour| runs_it(behaviour))?;
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
