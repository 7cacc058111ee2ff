//! When what was seen counts as usual: several instances must have shown it, so that none can teach alone.

use super::evidence::Breadth;
pub use crate::config::settings::Support;

impl Support {
    /// Whether this breadth, on so many hosts, is enough.
    #[must_use]
    pub fn holds(&self, breadth: &Breadth, hosts: usize) -> bool {
        breadth.instances >= self.instances && (breadth.days >= self.days || hosts >= self.hosts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_instance_cannot_teach_however_often_it_acts() {
        let support = Support::default();
        for (instances, days, hosts, usual) in [
            (1, 300, 1, false),
            (2, 300, 9, false),
            (3, 1, 1, false),
            (3, 2, 1, true),
            (3, 1, 2, true),
            (40, 1, 1, false),
        ] {
            let breadth = Breadth { count: u64::MAX, instances, days, at_least: true };
            assert_eq!(support.holds(&breadth, hosts), usual, "{instances} {days} {hosts}");
        }
    }
}
