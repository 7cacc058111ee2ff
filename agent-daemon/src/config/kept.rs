//! The texts of the configuration that was put in force last, kept for a start at which the files have mistakes.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use super::{
    files::Documents,
    problem::{Problems, Texts},
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
}
