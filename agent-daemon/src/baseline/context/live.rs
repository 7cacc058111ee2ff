//! One running instance: its program images, how deep and broad they go, and what it did in this minute.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write,
};

use serde::{Deserialize, Serialize};

use crate::{
    baseline::{
        behaviour::{Behaviour, Endpoint, Program},
        observation::Observation,
    },
    event::word::{ExecId, Time},
};

/// One running instance.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Live {
    images: BTreeMap<ExecId, Image>,
    /// In the order in which they began to be known.
    order: VecDeque<ExecId>,
    minute: u64,
    execs: u32,
    /// Hashes of this minute's endpoints.
    endpoints: BTreeSet<u64>,
    users: BTreeSet<u32>,
    depth: u32,
    fan_out: u32,
    execs_per_minute: u32,
    endpoints_per_minute: u32,
    /// It is among those that changed since the store was last written.
    #[serde(skip)]
    pub changed: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Image {
    #[serde(with = "text")]
    program: Program,
    depth: u32,
    children: u32,
}

impl Live {
    /// A new image, and who executed it. Sizes are told when the instance reaches the next power of two.
    pub fn exec(
        &mut self,
        seen: &Observation,
        begins: bool,
        program: &Program,
        found: &mut Vec<Behaviour>,
    ) -> Program {
        let (mut by, mut depth) =
            (if begins { Program::Outside } else { Program::Unknown }, u32::from(!begins));
        if !begins && let Some(parent) = seen.parent.and_then(|parent| self.images.get_mut(&parent)) {
            by = parent.program.clone();
            depth = parent.depth + 1;
            parent.children += 1;
            let children = parent.children.next_power_of_two();
            grown(&mut self.fan_out, children, Behaviour::FanOut, found);
        }
        grown(&mut self.depth, depth.next_power_of_two(), Behaviour::Depth, found);
        if let Some(id) = seen.exec {
            self.know(id, Image { program: program.clone(), depth, children: 0 });
        }
        self.at(seen.time);
        self.execs = self.execs.saturating_add(1);
        grown(&mut self.execs_per_minute, floor(self.execs), Behaviour::ExecsPerMinute, found);
        by
    }

    /// The image that acts, as it was executed; one that ran before is known from now on.
    pub fn image(&mut self, seen: &Observation, program: &Program) -> Program {
        let Some(id) = seen.exec else { return program.clone() };
        if *program == Program::Unknown
            && let Some(image) = self.images.get(&id)
        {
            return image.program.clone();
        }
        if !self.images.contains_key(&id) {
            self.know(id, Image { program: program.clone(), depth: 0, children: 0 });
        }
        program.clone()
    }

    /// An endpoint of this minute.
    pub fn endpoint(&mut self, time: Time, endpoint: &Endpoint, found: &mut Vec<Behaviour>) {
        self.at(time);
        if self.endpoints.len() < ENDPOINTS_MAX && self.endpoints.insert(fnv(endpoint)) {
            let count = self.endpoints.len() as u32;
            grown(&mut self.endpoints_per_minute, floor(count), Behaviour::EndpointsPerMinute, found);
        }
    }

    /// Whether it is the first time that it acts as this user.
    pub fn user(&mut self, uid: u32) -> bool {
        self.users.len() < USERS_MAX && self.users.insert(uid)
    }

    fn know(&mut self, id: ExecId, image: Image) {
        if self.images.insert(id, image).is_none() {
            self.order.push_back(id);
            if self.order.len() > IMAGES_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.images.remove(&oldest);
            }
        }
    }

    /// Another minute, earlier or later, begins its counts anew: a clock that is set back makes no rate.
    fn at(&mut self, time: Time) {
        let minute = time.0 / MINUTE_NS;
        if minute != self.minute {
            self.minute = minute;
            self.execs = 0;
            self.endpoints.clear();
        }
    }
}

/// Tells a size once for each power of two that an instance reaches; 1 is no size to speak of.
fn grown(known: &mut u32, size: u32, behaviour: fn(u32) -> Behaviour, found: &mut Vec<Behaviour>) {
    if size > (*known).max(1) {
        *known = size;
        found.push(behaviour(size));
    }
}

fn floor(count: u32) -> u32 {
    count.checked_ilog2().map_or(0, |log| 1 << log)
}

/// 64-bit FNV-1a of its text: the same in every build, for it is stored. The text itself is never put together.
fn fnv(endpoint: &Endpoint) -> u64 {
    struct Hash(u64);
    impl Write for Hash {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            for byte in text.bytes() {
                self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
            Ok(())
        }
    }
    let mut hash = Hash(0xcbf2_9ce4_8422_2325);
    let _ = write!(hash, "{endpoint}");
    hash.0
}

mod text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::Program;

    pub fn serialize<S: Serializer>(program: &Program, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(program)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Program, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

const MINUTE_NS: u64 = 60 * 1_000_000_000;
/// Program images of an instance that are told apart; the oldest goes first.
const IMAGES_MAX: usize = 512;
/// Endpoints of a minute that are told apart: more is not a rate that one would need to tell from this.
const ENDPOINTS_MAX: usize = 1_024;
const USERS_MAX: usize = 64;
