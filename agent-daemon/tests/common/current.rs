//! Files that people read or that tests expect, kept current by the tests that make them.

use std::{fs, path::Path};

/// Compares with a file of the repository, or writes it where UPDATE is set.
pub fn current(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let mut there = fs::read_to_string(&file).unwrap_or_default();
    // Other tests read the same files: what is current is not written again.
    if std::env::var_os("UPDATE").is_some() && there != text {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        there = text.to_owned();
    }
    let test = env!("CARGO_CRATE_NAME");
    assert!(
        there == text,
        "{path} is not current: UPDATE=1 cargo test -p agent-daemon --test {test}\n{text}"
    );
}
