//! Changes that people ask for: what was promoted, rolled back, forgotten and imported, each told with who asked.

use std::io;

use super::Stage;
use crate::{
    baseline::{Model, learn::Forgotten},
    config::{
        Documents,
        problem::{Problems, nearest},
        promoted,
    },
    control::{
        Change, Changed, Refusal,
        api::{ForgetRequest, Imported, Promote, Promoted, RollBack},
    },
    event::{
        Event, Kind, Name,
        finding::{BaselineChange, By},
        word::Time,
    },
    pipeline::Pipeline,
};

type Result<T> = std::result::Result<T, Refusal>;

impl Pipeline {
    /// Does what is asked, and records it.
    pub(in crate::pipeline) fn change_baselines(&mut self, ask: Change, by: By) -> Result<Changed> {
        match ask {
            Change::Promote(wanted) => self.promote(&wanted, by).map(Changed::Promoted),
            Change::RollBack(wanted) => self.roll_back(&wanted, by).map(Changed::Promoted),
            Change::Forget(wanted) => self.forget_learned(&wanted, by).map(Changed::Forgotten),
            Change::Import(models) => self.import(models, by).map(Changed::Imported),
        }
    }

    /// Keeps a promotion as the role's next version and puts it in force, or leaves all as it was.
    fn promote(&mut self, wanted: &Promote, by: By) -> Result<Promoted> {
        let role = wanted.role.as_str();
        let rules = self.may_promote(role, &wanted.document)?;
        let kept = |error| refused(format!("the promotion cannot be kept: {error}"));
        let before = promoted::in_force(&self.state_dir, role).map_err(kept)?;
        let text = format!("# Promoted {} by {}.\n{}", Time::now(), who(by), wanted.document);
        let version = promoted::add(&self.state_dir, role, &text).map_err(kept)?;
        let done = self.put_promoted(role, before, Some(version));
        if done.is_err() {
            let _ = promoted::remove(&self.state_dir, role, version);
        }
        done?;
        let what = format!("{rules} rules");
        Ok(self.tell_promoted("promoted", what, (role, before, Some(version)), by))
    }

    /// Puts an earlier version in force again, or none.
    fn roll_back(&mut self, wanted: &RollBack, by: By) -> Result<Promoted> {
        let role = wanted.role.as_str();
        let kept = |error: io::Error| refused(format!("what was promoted cannot be read: {error}"));
        if !self.in_force.registry.roles().any(|(_, name)| name == role) {
            return Err(self.no_such_role(role));
        }
        let versions = promoted::versions(&self.state_dir, role).map_err(kept)?;
        let before = promoted::in_force(&self.state_dir, role).map_err(kept)?;
        let to = match wanted.to {
            Some(0) => None,
            Some(version) if versions.contains(&version) => Some(version),
            Some(version) => {
                let there: Vec<String> = versions.iter().map(ToString::to_string).collect();
                let there = if there.is_empty() { "none".into() } else { there.join(", ") };
                return Err(refused(format!("role `{role}` has no version {version}; there are: {there}")));
            }
            None => {
                let current =
                    before.ok_or_else(|| refused(format!("nothing of role `{role}` is in force")))?;
                versions.into_iter().rfind(|version| *version < current)
            }
        };
        self.put_promoted(role, before, to)?;
        let what = match to {
            Some(version) => format!("version {version} is in force again"),
            None => "nothing that was promoted is in force".to_owned(),
        };
        Ok(self.tell_promoted("rolled_back", what, (role, before, to), by))
    }

    /// How many rules a promotion has; refused where it would be in force for nobody.
    fn may_promote(&self, role: &str, document: &str) -> Result<usize> {
        let problems = |Problems(all): Problems| {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            refused(all.join("\n"))
        };
        let (documents, _) = Documents::read(&self.config_dir, Some(&self.state_dir));
        let Some(there) = documents.roles.iter().find(|there| there.metadata.name.value == role) else {
            return Err(self.no_such_role(role));
        };
        if !there.spec.goes_by_baseline() {
            return Err(refused(format!(
                "role `{role}` does not go by its baseline: write `network.default: baseline` into {}",
                there.metadata.name.place.file
            )));
        }
        let (mut read, mut found) = (Documents::default(), Problems::default());
        read.add("the promotion", document, &mut found);
        if !found.0.is_empty() {
            return Err(problems(found));
        }
        match (read.promotions.as_slice(), read.agents.len() + read.roles.len()) {
            ([one], 0) if one.metadata.name.value == role => Ok(one.spec.rules.len() + one.spec.names.len()),
            _ => Err(refused(format!("this is not one document of kind Promotion for the role `{role}`"))),
        }
    }

    fn no_such_role(&self, role: &str) -> Refusal {
        let known = nearest(role, self.in_force.registry.roles().map(|(_, name)| name));
        refused(format!("there is no role `{role}` ({known})"))
    }

    /// Has a version in force, as a change of the configuration; where that is refused, the one before.
    fn put_promoted(&mut self, role: &str, before: Option<u32>, to: Option<u32>) -> Result<()> {
        let kept = |error: io::Error| refused(format!("what is in force cannot be kept: {error}"));
        promoted::point(&self.state_dir, role, to).map_err(kept)?;
        self.reload("promotion");
        let Some(problems) = self.rejected.clone() else { return Ok(()) };
        promoted::point(&self.state_dir, role, before).map_err(kept)?;
        self.reload("promotion");
        Err(refused(format!("the configuration with it is refused:\n{}", problems.join("\n"))))
    }

    fn tell_promoted(
        &mut self,
        action: &str,
        what: String,
        (role, before, version): (&str, Option<u32>, Option<u32>),
        by: By,
    ) -> Promoted {
        self.tell_change(BaselineChange {
            action: action.into(),
            role: Some(role.into()),
            version,
            version_before: before,
            what: what.into(),
            by: Some(by),
        });
        Promoted { role: role.to_owned(), version, version_before: before }
    }

    fn forget_learned(&mut self, wanted: &ForgetRequest, by: By) -> Result<Forgotten> {
        let ForgetRequest { role, what } = wanted;
        self.settle_store()?;
        let Some(watch) = &mut self.line.watch else { return Err(self.off()) };
        let Some(model) = watch.baselines.models.get_mut(&**role) else {
            let known = nearest(role, watch.baselines.models.keys().map(|name| &**name));
            return Err(refused(format!("nothing has been learned of a role `{role}` ({known})")));
        };
        let done = match what {
            Some(what) => model.forget(what),
            None => {
                let done = Forgotten {
                    behaviours: model.len(),
                    instances: model.instances() as usize,
                    ..Forgotten::default()
                };
                watch.baselines.models.remove(&**role);
                if let Stage::Here(store) = &mut self.keeper.store {
                    store.delete(role).map_err(|error| refused(error.to_string()))?;
                }
                done
            }
        };
        self.write_baselines()?;
        let which = match what {
            Some(what) => serde_json::to_string(what).unwrap_or_default(),
            None => "all".to_owned(),
        };
        self.tell_change(BaselineChange {
            action: "forgotten".into(),
            role: Some(Name::from(&**role)),
            what: format!(
                "{} behaviours, evidence of {}, {} instances: {which}",
                done.behaviours, done.lessened, done.instances
            )
            .into(),
            by: Some(by),
            ..BaselineChange::default()
        });
        Ok(done)
    }

    fn import(&mut self, models: Vec<(Name, Model)>, by: By) -> Result<Vec<Imported>> {
        self.settle_store()?;
        let Some(watch) = &mut self.line.watch else { return Err(self.off()) };
        let mut all = Vec::new();
        for (role, model) in models {
            watch.baselines.merge(&role, &model);
            all.push(Imported { behaviours: model.len(), role });
        }
        self.write_baselines()?;
        for imported in &all {
            self.tell_change(BaselineChange {
                action: "imported".into(),
                role: Some(imported.role.clone()),
                what: format!("{} behaviours", imported.behaviours).into(),
                by: Some(by),
                ..BaselineChange::default()
            });
        }
        Ok(all)
    }

    fn off(&self) -> Refusal {
        refused(format!("baselines are off: {}", self.keeper.off().unwrap_or("they are not open")))
    }

    /// Waits until what is being written is.
    fn settle_store(&mut self) -> Result<()> {
        if self.keeper.settle(true) { Ok(()) } else { Err(self.off()) }
    }

    /// Writes now, and not beside the pipeline: who is told that it is done must find it so after a crash.
    fn write_baselines(&mut self) -> Result<()> {
        let Some(watch) = &mut self.line.watch else { return Err(self.off()) };
        if let Some(journal) = &self.line.recorder.journal {
            self.keeper.file.follow(journal);
        }
        let changes = self.keeper.changes(watch);
        let Stage::Here(store) = &mut self.keeper.store else { return Err(self.off()) };
        if let Err(error) = store.write(&changes) {
            self.keeper.failed(&error);
            return Err(refused(format!("it is done in memory, and cannot be written yet: {error}")));
        }
        self.keeper.anew = false;
        Ok(())
    }

    pub(super) fn tell_change(&mut self, change: BaselineChange) {
        let baseline = Some(Box::new(change));
        self.line.tell_now(Event { kind: Kind::BaselineChanged, baseline, ..Event::default() });
    }
}

fn refused(why: String) -> Refusal {
    Refusal::Baseline(why)
}

fn who(by: By) -> String {
    match by.loginuid {
        Some(login) => format!("uid {} (logged in as {login})", by.uid),
        None => format!("uid {}", by.uid),
    }
}
