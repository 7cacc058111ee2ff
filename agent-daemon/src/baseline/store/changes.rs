//! What is to be written to the store: taken from the baselines in one go, so that it can be written elsewhere meanwhile.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::Position;
use crate::{
    baseline::{
        behaviour::Behaviour,
        context::Key,
        document::{self, Shown},
        evidence::Evidence,
        learn::{Baselines, Model},
    },
    event::Name,
};

/// Changes since the last ones were taken, and how far the events were learned with them.
#[derive(Debug, Default)]
pub struct Changes {
    /// Nothing that is stored holds any more: these are all that there is.
    anew: bool,
    roles: Vec<Role>,
    live: Vec<(Key, Option<String>)>,
    positions: Vec<Position>,
}

#[derive(Debug)]
struct Role {
    name: Name,
    /// Tally, sources, roster and contents.
    frame: [String; 4],
    removed: Vec<Behaviour>,
    changed: Vec<(Behaviour, Evidence)>,
}

impl Changes {
    /// Takes what changed, which counts as stored from here on: where it then cannot be written, take all with
    /// [`Changes::all`] the next time.
    pub fn take(baselines: &mut Baselines, positions: Vec<Position>) -> Self {
        let changed = baselines.models.iter().filter(|(_, model)| model.is_changed());
        let roles = changed.map(|(name, model)| Role::of(name, model, false)).collect();
        let live = baselines.context.changed().map(|(key, state)| (key.clone(), state)).collect();
        baselines.models.values_mut().for_each(Model::settle);
        baselines.context.settle();
        Self { anew: false, roles, live, positions }
    }

    /// All that there is, in place of whatever is stored.
    pub fn all(baselines: &mut Baselines, positions: Vec<Position>) -> Self {
        let roles = baselines.models.iter().map(|(name, model)| Role::of(name, model, true)).collect();
        let live = baselines.context.all().map(|(key, state)| (key.clone(), Some(state))).collect();
        baselines.models.values_mut().for_each(Model::settle);
        baselines.context.settle();
        Self { anew: true, roles, live, positions }
    }

    /// Writes them in one transaction.
    pub(super) fn write(&self, db: &mut Connection) -> rusqlite::Result<()> {
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if self.anew {
            tx.execute_batch("DELETE FROM behaviour; DELETE FROM role; DELETE FROM live;")?;
        }
        for role in &self.roles {
            role.write(&tx)?;
        }
        {
            let mut put = tx.prepare_cached("INSERT OR REPLACE INTO live VALUES (?, ?, ?)")?;
            let mut delete = tx.prepare_cached("DELETE FROM live WHERE boot = ? AND instance = ?")?;
            for ((boot, instance), state) in &self.live {
                let instance = instance.0.cast_signed();
                match state {
                    Some(state) => put.execute(params![&**boot, instance, state])?,
                    None => delete.execute(params![&**boot, instance])?,
                };
            }
            let mut put = tx.prepare_cached("INSERT OR REPLACE INTO position VALUES (?, ?, ?, ?)")?;
            for at in &self.positions {
                put.execute(params![at.file, &*at.role, at.bytes.cast_signed(), at.lines.cast_signed()])?;
            }
        }
        tx.commit()
    }
}

impl Role {
    fn of(name: &Name, model: &Model, all: bool) -> Self {
        let json =
            |value: Result<String, serde_json::Error>| value.expect("numbers and texts are always JSON");
        let row = |(behaviour, evidence): (&Behaviour, &Evidence)| (behaviour.clone(), evidence.clone());
        Self {
            name: name.clone(),
            frame: [
                json(serde_json::to_string(&model.tally)),
                json(serde_json::to_string(&model.sources)),
                json(serde_json::to_string(&document::residents(model))),
                json(serde_json::to_string(&document::contents(model))),
            ],
            removed: if all { Vec::new() } else { model.removed().to_vec() },
            changed: if all {
                model.behaviours().map(row).collect()
            } else {
                model.changed().map(row).collect()
            },
        }
    }

    fn write(&self, tx: &Transaction) -> rusqlite::Result<()> {
        let [tally, sources, roster, contents] = &self.frame;
        tx.prepare_cached(
            "INSERT INTO role (name, tally, sources, roster, contents) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (name) \
             DO UPDATE SET tally = ?2, sources = ?3, roster = ?4, contents = ?5",
        )?
        .execute(params![&*self.name, tally, sources, roster, contents])?;
        let id: i64 = tx.query_row("SELECT id FROM role WHERE name = ?", [&*self.name], |row| row.get(0))?;
        let mut delete = tx.prepare_cached("DELETE FROM behaviour WHERE role = ? AND behaviour = ?")?;
        for behaviour in &self.removed {
            delete.execute(params![id, behaviour.to_string()])?;
        }
        let mut put = tx.prepare_cached("INSERT OR REPLACE INTO behaviour VALUES (?, ?, ?, ?, ?, ?)")?;
        for (behaviour, evidence) in &self.changed {
            let shown = Shown::from(evidence);
            let (first, last) = (shown.first.0.cast_signed(), shown.last.0.cast_signed());
            let by = serde_json::to_string(&shown.by).expect("numbers and texts are always JSON");
            put.execute(params![id, behaviour.to_string(), first, last, shown.rest.cast_signed(), by])?;
        }
        Ok(())
    }
}
