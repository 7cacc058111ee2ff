//! Which package a file belongs to, as dpkg or rpm knows it.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::event::Name;

/// A package that is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    pub name: Name,
    pub version: Name,
}

/// When dpkg's and rpm's notes of what is installed were last changed: while that is the same, so are their answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed(Vec<Option<(i64, i64)>>);

impl Installed {
    pub fn now() -> Self {
        Self::of(Path::new("/"))
    }

    fn of(root: &Path) -> Self {
        let changed = |path: &&str| {
            let metadata = fs::metadata(root.join(path)).ok()?;
            Some((metadata.ctime(), metadata.ctime_nsec()))
        };
        Self(NOTES.iter().map(changed).collect())
    }
}

/// The package of a file of this host.
pub fn of(path: &Path) -> Option<Package> {
    dpkg(Path::new(DPKG), path.to_str()?).or_else(|| rpm(path))
}

/// dpkg's own files, read (deb-list in dpkg's `info/`, and its `status`): a process for each would cost more.
fn dpkg(root: &Path, path: &str) -> Option<Package> {
    let names = [Some(path), unmerged(path)];
    let owns = |list: &str| list.lines().any(|line| names.contains(&Some(line)));
    let lists = fs::read_dir(root.join("info")).ok()?.flatten().map(|entry| entry.path());
    let mut lists = lists.filter(|path| path.extension().is_some_and(|extension| extension == "list"));
    let list = lists.find(|list| fs::read_to_string(list).is_ok_and(|text| owns(&text)))?;
    let stem = list.file_stem()?.to_str()?;
    let name = stem.split(':').next()?;
    let status = fs::read_to_string(root.join("status")).ok()?;
    let paragraph = status.split("\n\n").find(|paragraph| field(paragraph, "Package: ") == Some(name))?;
    Some(Package { name: name.into(), version: field(paragraph, "Version: ")?.into() })
}

fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    paragraph.lines().find_map(|line| line.strip_prefix(name))
}

/// Packages may still name `/bin/x` what is `/usr/bin/x` since directories were merged.
fn unmerged(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/usr")?;
    ["/bin/", "/sbin/", "/lib"].iter().any(|begin| rest.starts_with(begin)).then_some(rest)
}

/// Asked of rpm itself, whose database has many forms.
fn rpm(path: &Path) -> Option<Package> {
    if !RPM.iter().any(|database| Path::new(database).exists()) {
        return None;
    }
    let mut child = Command::new("rpm")
        .args(["-qf", "--qf", "%{NAME}\n%{VERSION}-%{RELEASE}\n"])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let end = Instant::now() + RPM_TIME;
    while child.try_wait().ok()?.is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut lines = text.lines();
    Some(Package { name: lines.next()?.into(), version: lines.next()?.into() })
}

const DPKG: &str = "/var/lib/dpkg";
const RPM: [&str; 2] = ["/var/lib/rpm", "/usr/lib/sysimage/rpm"];
/// Below the root directory; rpm's in the forms that its databases have.
const NOTES: [&str; 5] = [
    "var/lib/dpkg/status",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/rpm/Packages.db",
    "var/lib/rpm/Packages",
];
const RPM_TIME: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_belongs_to_the_package_that_lists_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("info")).unwrap();
        fs::write(dir.path().join("info/git.list"), "/.\n/usr/bin\n/usr/bin/git\n").unwrap();
        fs::write(dir.path().join("info/bash.list"), "/.\n/bin/bash\n").unwrap();
        fs::write(dir.path().join("info/libc6:amd64.list"), "/lib/x86_64-linux-gnu/libc.so.6\n").unwrap();
        let status = "Package: git-man\nVersion: 9\n\nPackage: git\nStatus: install ok installed\nVersion: 1:2.39.5-0\n\n\
                      Package: bash\nVersion: 5.2\n\nPackage: libc6\nVersion: 2.36\n";
        fs::write(dir.path().join("status"), status).unwrap();
        let of = |path| dpkg(dir.path(), path).map(|p| format!("{} {}", p.name, p.version));
        assert_eq!(of("/usr/bin/git").as_deref(), Some("git 1:2.39.5-0"));
        assert_eq!(of("/usr/bin/bash").as_deref(), Some("bash 5.2"));
        assert_eq!(of("/usr/lib/x86_64-linux-gnu/libc.so.6").as_deref(), Some("libc6 2.36"));
        for nobodys in ["/usr/bin/gi", "/usr/bin", "/opt/git", "/usr/local/bin/bash"] {
            assert_ne!(of(nobodys).as_deref(), Some("bash 5.2"), "{nobodys}");
        }
        assert_eq!(of("/opt/git"), None);
    }

    #[test]
    fn what_is_installed_is_the_same_until_dpkg_notes_something() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("var/lib/dpkg")).unwrap();
        let status = dir.path().join("var/lib/dpkg/status");
        fs::write(&status, "Package: git\n").unwrap();
        let before = Installed::of(dir.path());
        assert_eq!(Installed::of(dir.path()), before);
        std::thread::sleep(Duration::from_millis(30));
        fs::write(dir.path().join("new"), "Package: git\n").unwrap();
        fs::rename(dir.path().join("new"), &status).unwrap();
        assert_ne!(Installed::of(dir.path()), before);
    }
}
