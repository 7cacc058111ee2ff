//! Which usual behaviour is nearest to a new one.

use super::{Nearness, Rules};
use crate::baseline::{
    behaviour::{Behaviour, Endpoint, Host, Program, registered},
    learn::Model,
};

/// The nearest usual behaviour and how it is near; the narrowest nearness that there is.
pub fn nearest(model: &Model, rules: &Rules, new: &Behaviour) -> (Nearness, Option<Behaviour>) {
    if let Some((there, _)) = model.find(new) {
        return (Nearness::SeenBefore, Some(there.clone()));
    }
    if new.size().is_some() {
        let smaller = model.of_group(new).filter(|(_, evidence)| model.is_usual(evidence, &rules.support));
        return match smaller.last() {
            Some((there, _)) => (Nearness::Smaller, Some(there.clone())),
            None => (Nearness::None, None),
        };
    }
    let mut best: Option<(Nearness, &Behaviour)> = None;
    let mut look = |there, evidence| {
        if let Some(near) = near(new, there)
            // Usual is looked at last, for it costs most; of equals the first counts.
            && best.is_none_or(|(known, _)| near < known)
            && model.is_usual(evidence, &rules.support)
        {
            best = Some((near, there));
        }
    };
    model.of_group(new).for_each(|(there, evidence)| look(there, evidence));
    for program in model.programs_of(new.sort()).filter(|program| new.by() != Some(*program)) {
        if let Some((there, evidence)) = model.find_any(&[by(program, new)]) {
            look(there, evidence);
        }
    }
    match best {
        Some((near, there)) => (near, Some(there.clone())),
        None => (Nearness::None, None),
    }
}

/// The same, done by another program.
fn by(by: &Program, new: &Behaviour) -> Behaviour {
    let (by, new) = (by.clone(), new.clone());
    match new {
        Behaviour::Exec { child, .. } => Behaviour::Exec { by, child },
        Behaviour::Connect { to, .. } => Behaviour::Connect { by, to },
        Behaviour::Name { name, .. } => Behaviour::Name { by, name },
        Behaviour::Unix { path, .. } => Behaviour::Unix { by, path },
        Behaviour::Socket { what, .. } => Behaviour::Socket { by, what },
        Behaviour::Listen { on, .. } => Behaviour::Listen { by, on },
        whole => whole,
    }
}

fn near(new: &Behaviour, there: &Behaviour) -> Option<Nearness> {
    let same_program = new.by() == there.by();
    match (new, there) {
        (Behaviour::Connect { to: new, .. }, Behaviour::Connect { to: there, .. })
        | (Behaviour::Listen { on: new, .. }, Behaviour::Listen { on: there, .. }) => match same_program {
            true => endpoint(new, there),
            false => (new == there).then_some(Nearness::OtherProgram),
        },
        (Behaviour::Name { name: new, .. }, Behaviour::Name { name: there, .. }) => match same_program {
            true => {
                same_domain(new, there.strip_prefix("*.").unwrap_or(there)).then_some(Nearness::SameDomain)
            }
            false => (new == there).then_some(Nearness::OtherProgram),
        },
        (Behaviour::Exec { by: new_by, child: new }, Behaviour::Exec { by, child: there }) => {
            if new == there {
                let same_file = new_by.exe().is_some() && new_by.exe() == by.exe();
                return Some(if same_file { Nearness::SameFile } else { Nearness::OtherProgram });
            }
            (same_program && new.exe().is_some() && new.exe() == there.exe()).then_some(Nearness::SameFile)
        }
        (Behaviour::Unix { path: new, .. }, Behaviour::Unix { path: there, .. })
        | (Behaviour::Socket { what: new, .. }, Behaviour::Socket { what: there, .. }) => {
            (new == there).then_some(Nearness::OtherProgram)
        }
        _ => None,
    }
}

fn endpoint(new: &Endpoint, there: &Endpoint) -> Option<Nearness> {
    let same_port = new.port == there.port && new.protocol == there.protocol;
    match (&new.host, &there.host) {
        (Host::Name(new), Host::Name(there) | Host::Below(there)) if same_port && same_domain(new, there) => {
            Some(Nearness::SameDomain)
        }
        (new, there) if new == there => Some(Nearness::SameHostOtherPort),
        (new @ Host::Net(..), there @ Host::Net(..)) if same_port => {
            let narrow = new.folds().into_iter().next()?;
            (there.folds().first() == Some(&narrow) || *there == narrow).then_some(Nearness::SameNetwork)
        }
        _ => None,
    }
}

fn same_domain(one: &str, other: &str) -> bool {
    registered(one).is_some_and(|domain| registered(other) == Some(domain))
}
