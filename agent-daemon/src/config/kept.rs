//! The texts of the configuration that was put in force last, kept for a start at which the files have mistakes.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use super::{
    files::Documents,
    problem::{Place, Problem, Problems, Texts},
};

/// Keeps the texts below `state_dir`, in place of those before.
pub fn keep(state_dir: &Path, texts: &Texts) -> io::Result<()> {
    fs::create_dir_all(state_dir)?;
    let new = state_dir.join(format!("{FILE}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(&texts.0)?)?;
    file.sync_data()?;
    fs::rename(new, state_dir.join(FILE))
}

/// What was kept, read as if the files were still so; `None` where nothing was, or it cannot be read.
#[must_use]
pub fn recall(state_dir: &Path) -> Option<(Documents, Problems)> {
    let bytes = fs::read(state_dir.join(FILE)).ok()?;
    let texts = serde_json::from_slice(&bytes).ok()?;
    Some(Documents::from_texts(&Texts(texts)))
}

/// Directories that are missing now, and that what was kept came from: moved away or not mounted, which is not how
/// somebody says that there are to be no agents any more.
#[must_use]
pub fn vanished(state_dir: &Path, documents: &Documents) -> Problems {
    let mut problems = Problems::default();
    if documents.missing.is_empty() {
        return problems;
    }
    let Some((before, _)) = recall(state_dir) else { return problems };
    for directory in &documents.missing {
        let directory = directory.display().to_string();
        let below = format!("{directory}/");
        if before.texts.0.keys().any(|file| file.starts_with(&below)) {
            let remedy = "put it back, or make it empty if nothing is to be in force";
            problems.push(Problem::new(
                &Place::file(&directory),
                "is gone, and what is in force came from it",
                remedy,
            ));
        }
    }
    problems
}

const FILE: &str = "in-force.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_reads_as_it_did() {
        let dir = tempfile::tempdir().unwrap();
        assert!(recall(dir.path()).is_none());
        let mut problems = Problems::default();
        let mut documents = Documents::default();
        let text = "apiVersion: chaperone/v1\nkind: Role\nmetadata: { name: r }\nspec: { mode: enforce, network: { default: deny } }\n";
        documents.add("/etc/chaperone/roles/r.yaml", text, &mut problems);
        keep(dir.path(), &documents.texts).unwrap();
        let (recalled, problems) = recall(dir.path()).unwrap();
        assert!(problems.0.is_empty());
        assert_eq!(recalled.roles.len(), 1);
        assert_eq!(recalled.roles[0].metadata.name.place, documents.roles[0].metadata.name.place);
        fs::write(dir.path().join(FILE), "{ half").unwrap();
        assert!(recall(dir.path()).is_none());
    }

    #[test]
    fn a_directory_that_is_gone_is_a_problem_where_something_came_from_it() {
        let (state, config) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let roles = config.path().join("roles");
        let text = "apiVersion: chaperone/v1\nkind: Role\nmetadata: { name: r }\nspec: { mode: enforce, network: { default: deny } }\n";
        fs::create_dir(&roles).unwrap();
        fs::write(roles.join("r.yaml"), text).unwrap();
        let vanished = || vanished(state.path(), &Documents::read(config.path(), Some(state.path())).0);
        assert!(vanished().0.is_empty(), "nothing was kept");
        keep(state.path(), &Documents::read(config.path(), Some(state.path())).0.texts).unwrap();
        assert!(vanished().0.is_empty(), "agents/ was never there");
        fs::rename(&roles, config.path().join("away")).unwrap();
        let problems = vanished();
        assert_eq!(problems.0.len(), 1);
        assert!(problems.0[0].to_string().contains("roles: is gone"), "{problems}");
        fs::create_dir(&roles).unwrap();
        assert!(vanished().0.is_empty(), "an empty directory says that there is to be nothing");
    }
}
