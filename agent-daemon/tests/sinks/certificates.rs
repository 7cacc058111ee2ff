//! Certificates for 127.0.0.1, made by openssl for one test.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use super::{Place, text};

/// One that is its own authority; `NAME.both` holds its key too.
pub fn of_its_own(place: &Place, name: &str) -> PathBuf {
    make(place, name, LEAF)
}

/// An authority, and what it has signed for 127.0.0.1 under a name.
pub fn by_an_authority(place: &Place, name: &str) -> (PathBuf, PathBuf) {
    let authority = make(place, "authority", &["-addext", "basicConstraints=critical,CA:TRUE"]);
    let (ca, key) = (authority.display().to_string(), key(&place.path("authority")).display().to_string());
    let signed = make(place, name, &[LEAF, &["-CA", &ca, "-CAkey", &key]].concat());
    (authority, signed)
}

pub fn key(certificate: &std::path::Path) -> PathBuf {
    certificate.with_extension("key")
}

fn make(place: &Place, name: &str, arguments: &[&str]) -> PathBuf {
    let certificate = place.path(name);
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-subj", &format!("/CN={name}")])
        .args(arguments)
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(key(&certificate))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    fs::write(certificate.with_extension("both"), text(&certificate) + &text(&key(&certificate))).unwrap();
    certificate
}

const LEAF: &[&str] =
    &["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
