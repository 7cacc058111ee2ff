//! What two baselines have that the other has not.

use serde::Serialize;

use super::{behaviour::Behaviour, evidence::Breadth, learn::Model, support::Support};

/// A behaviour that is usual in one and not in the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub behaviour: Behaviour,
    /// What the first knows of it, and the second.
    pub in_a: Option<Breadth>,
    pub in_b: Option<Breadth>,
    /// Which of them has it as usual.
    pub usual_in: Side,
}

/// One of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    A,
    B,
}

/// Everything that is usual in one alone, in order. What a wider behaviour of the other stands for is in both.
#[must_use]
pub fn diff(a: &Model, b: &Model, support: &Support) -> Vec<Difference> {
    let usual = |model: &Model, behaviour: &Behaviour| {
        model.find(behaviour).is_some_and(|(_, evidence)| model.is_usual(evidence, support))
    };
    let breadth =
        |model: &Model, behaviour: &Behaviour| model.find(behaviour).map(|(_, evidence)| evidence.breadth());
    let only = |one: &Model, other: &Model, side| -> Vec<Difference> {
        let lacks = |(behaviour, evidence): &(&Behaviour, &_)| {
            one.is_usual(evidence, support) && !usual(other, behaviour)
        };
        let difference = |(behaviour, _): (&Behaviour, &_)| Difference {
            behaviour: behaviour.clone(),
            in_a: breadth(a, behaviour),
            in_b: breadth(b, behaviour),
            usual_in: side,
        };
        one.behaviours().filter(lacks).map(difference).collect()
    };
    let mut all = only(a, b, Side::A);
    all.extend(only(b, a, Side::B));
    all.sort_by(|one, other| one.behaviour.cmp(&other.behaviour));
    all
}
