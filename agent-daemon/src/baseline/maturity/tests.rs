//! The estimates against draws from distributions that are known.

use super::*;
use crate::{
    baseline::{
        behaviour::Behaviour,
        learn::Bounds,
        observation::{Act, Observation},
    },
    event::{Kind, word::InstanceId},
};

fn seen(second: u64, instance: u64) -> Observation {
    Observation {
        time: Time(second * 1_000_000_000),
        kind: Kind::Unknown,
        host: "h".into(),
        boot: "b".into(),
        seq: 0,
        role: Some("r".into()),
        instance: Some(InstanceId(instance)),
        exec: None,
        parent: None,
        uid: None,
        exe: None,
        script: None,
        refused: false,
        act: Act::Other,
    }
}

struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Instances of `acts` acts each, of behaviours whose chance falls as 1/rank.
fn draw(random: &mut Random, instances: u64, acts: u64, kinds: u32) -> (Model, Vec<f64>) {
    let weights: Vec<f64> = (1..=kinds).map(|rank| 1.0 / f64::from(rank)).collect();
    let sum: f64 = weights.iter().sum();
    let chances: Vec<f64> = weights.iter().map(|weight| weight / sum).collect();
    let mut model = Model::default();
    for instance in 0..instances {
        for act in 0..acts {
            let mut left = random.unit();
            let which = chances
                .iter()
                .position(|chance| {
                    left -= chance;
                    left <= 0.0
                })
                .unwrap_or(0);
            let behaviour = Behaviour::User(which as u32);
            model.learn(&seen(instance * 100 + act, instance), &[behaviour], &Bounds::default());
        }
    }
    (model, chances)
}

#[test]
fn the_estimate_is_near_the_truth_and_its_interval_mostly_holds_it() {
    let mut random = Random(88_172_645_463_325_252);
    let (mut held_act, mut held_instance, mut error, runs) = (0, 0, 0.0, 60);
    for _ in 0..runs {
        let (model, chances) = draw(&mut random, 60, 5, 300);
        let maturity = Maturity::of(&model);
        let unseen: f64 = chances
            .iter()
            .enumerate()
            .filter(|(at, _)| model.find(&Behaviour::User(*at as u32)).is_none())
            .map(|(_, chance)| chance)
            .sum();
        let next = 1.0 - (1.0 - unseen).powi(5);
        held_act += u32::from((maturity.next_act.low..=maturity.next_act.high).contains(&unseen));
        held_instance +=
            u32::from((maturity.next_instance.low..=maturity.next_instance.high).contains(&next));
        error += maturity.next_act.estimate - unseen;
    }
    assert!((error / f64::from(runs)).abs() < 0.02, "{error}");
    assert!(
        held_act * 10 >= runs * 8 && held_instance * 10 >= runs * 8,
        "{held_act} {held_instance} of {runs}"
    );
}

#[test]
fn nothing_known_is_no_maturity_and_the_same_over_and_over_becomes_stable() {
    let maturity = Maturity::of(&Model::default());
    assert_eq!((maturity.next_act, maturity.next_instance), (UNKNOWN, UNKNOWN));
    assert!(!maturity.is_stable(&Stable::default()));
    let mut model = Model::default();
    let mut stable_after = None;
    for instance in 0..40 {
        model.learn(&seen(10 * instance, instance), &[Behaviour::User(0)], &Bounds::default());
        if stable_after.is_none() && Maturity::of(&model).is_stable(&Stable::default()) {
            stable_after = Some(instance);
        }
    }
    assert_eq!(stable_after, Some(10));
    model.learn(&seen(1000, 99), &[Behaviour::User(1)], &Bounds::default());
    let maturity = Maturity::of(&model);
    assert!(!maturity.is_stable(&Stable::default()));
    assert_eq!((maturity.instances_alone, maturity.instances_since, maturity.seen_once), (1, 0, 1));
}
