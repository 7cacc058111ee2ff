//! What was lost and has not been told, kind by kind; told once over all daemons of the same maps.

use std::collections::BTreeMap;

use agent_common::{
    event::Kind,
    progress::{Account, REASONS},
};

use crate::event::local::{Lost, UNDECODABLE};

/// What `lost` (event kind → lost in the kernel) and the account hold more than was told.
pub fn untold(lost: &BTreeMap<String, u64>, account: &Account) -> Lost {
    let mut all =
        Lost { unwritten: account.unwritten.saturating_sub(account.unwritten_told), ..Lost::default() };
    for kind in Kind::ALL {
        let more = total(*kind, lost, account).saturating_sub(account.told[*kind as usize]);
        if more > 0 {
            all.ring.insert(kind.name().into(), more);
        }
    }
    for (at, reason) in UNDECODABLE.iter().enumerate() {
        let more = account.undecodable[at].saturating_sub(account.undecodable_told[at]);
        if more > 0 {
            all.undecodable.insert((*reason).into(), more);
        }
    }
    all
}

/// The account once all of that has been told.
pub fn told(lost: &BTreeMap<String, u64>, account: &Account) -> Account {
    let mut after =
        Account { unwritten_told: account.unwritten, undecodable_told: account.undecodable, ..*account };
    for kind in Kind::ALL {
        after.told[*kind as usize] = total(*kind, lost, account);
    }
    after
}

fn total(kind: Kind, lost: &BTreeMap<String, u64>, account: &Account) -> u64 {
    lost.get(kind.name()).copied().unwrap_or_default() + account.inherited[kind as usize]
}

const _: () = assert!(UNDECODABLE.len() <= REASONS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_is_told_once_and_to_the_unit() {
        let mut lost = BTreeMap::from([("process_exec".to_owned(), 3)]);
        let mut account = Account { unwritten: 2, ..Account::default() };
        account.undecodable[2] = 1;
        let first = untold(&lost, &account);
        assert_eq!((first.ring["process_exec"], first.undecodable["kind"], first.unwritten), (3, 1, 2));
        account = told(&lost, &account);
        assert!(untold(&lost, &account).is_empty());
        lost.insert("process_exec".to_owned(), 5);
        account.inherited[Kind::Exec as usize] = 10;
        assert_eq!(untold(&lost, &account).ring["process_exec"], 12);
    }
}
