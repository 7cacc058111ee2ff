//! The names under which instances know addresses, from the answers that they were given: for telling, never for a
//! verdict.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
};

use crate::event::{Name, word::InstanceId};

/// Instance and address → the name that the last answer gave it.
#[derive(Debug, Default)]
pub struct Resolved {
    names: BTreeMap<(u64, IpAddr), Name>,
    /// The oldest first; some may have gone.
    order: VecDeque<(u64, IpAddr)>,
    /// What the host's own file says, where no answer does.
    of_file: HashMap<IpAddr, Name>,
}

impl Resolved {
    /// Takes in that an answer gave `name` an address.
    pub fn insert(&mut self, instance: InstanceId, address: IpAddr, name: &Name) {
        let key = (instance.0, address);
        if self.names.insert(key, name.clone()).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > RESOLVED_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.names.remove(&oldest);
            }
        }
    }

    /// The name by which an instance knows an address.
    #[must_use]
    pub fn name(&self, instance: InstanceId, address: IpAddr) -> Option<&Name> {
        self.names.get(&(instance.0, address)).or_else(|| self.of_file.get(&address))
    }

    /// Replaces what the host's own file says.
    pub fn set_static(&mut self, names: HashMap<IpAddr, Name>) {
        self.of_file = names;
    }

    /// Forgets an instance that has ended.
    pub fn forget(&mut self, instance: InstanceId) {
        if self.names.range((instance.0, FIRST)..).next().is_some_and(|(key, _)| key.0 == instance.0) {
            self.names.retain(|key, _| key.0 != instance.0);
            self.order.retain(|key| key.0 != instance.0);
        }
    }
}

/// Of all instances together; beyond it the oldest is forgotten, and an event has no name where it would have had one.
pub const RESOLVED_MAX: usize = 16_384;
const FIRST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_knows_what_it_was_told_last_until_it_ends() {
        let mut resolved = Resolved::default();
        let (one, other) = (InstanceId(1), InstanceId(2));
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        resolved.insert(one, address(1), &Name::from("a.example"));
        resolved.insert(one, address(1), &Name::from("b.example"));
        resolved.insert(other, address(1), &Name::from("c.example"));
        assert_eq!(resolved.name(one, address(1)).map(|name| &**name), Some("b.example"));
        assert_eq!(resolved.name(one, address(2)), None);
        resolved.set_static(HashMap::from([(address(1), Name::from("file.example"))]));
        assert_eq!(resolved.name(one, address(1)).map(|name| &**name), Some("b.example"));
        resolved.forget(one);
        assert_eq!(resolved.name(one, address(1)).map(|name| &**name), Some("file.example"));
        assert_eq!(resolved.name(other, address(1)).map(|name| &**name), Some("c.example"));
    }

    #[test]
    fn the_oldest_goes_where_there_are_too_many() {
        let mut resolved = Resolved::default();
        let name = Name::from("a.example");
        for at in 0..=RESOLVED_MAX as u32 {
            resolved.insert(InstanceId(1), IpAddr::from(at.to_be_bytes()), &name);
        }
        assert_eq!((resolved.names.len(), resolved.order.len()), (RESOLVED_MAX, RESOLVED_MAX));
        assert_eq!(resolved.name(InstanceId(1), FIRST), None);
    }
}
