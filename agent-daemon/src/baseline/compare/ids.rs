//! Ids of other people's catalogues, where the act alone makes them certain.

use super::What;
use crate::baseline::behaviour::Behaviour;

/// ATT&CK technique, and item of OWASP's Top 10 for Agentic Applications.
pub fn of(what: What, behaviour: &Behaviour) -> (Option<&'static str>, Option<&'static str>) {
    let technique = match behaviour {
        Behaviour::Exec { child, .. } => child.exe().and_then(|exe| {
            let name = exe.rsplit('/').next().unwrap_or(exe);
            TECHNIQUES.iter().find(|(names, _)| names.contains(&name)).map(|(_, id)| *id)
        }),
        _ => None,
    };
    // Code that the role has never run is ASI05's own definition: unexpected code execution.
    (technique, (what == What::NewProgram).then_some("ASI05"))
}

/// Programs whose use is the technique, whatever for: a Unix shell, at, cron, ssh, sudo.
const TECHNIQUES: &[(&[&str], &str)] = &[
    (&["sh", "bash", "dash", "zsh", "ksh", "ash"], "T1059.004"),
    (&["at"], "T1053.002"),
    (&["crontab"], "T1053.003"),
    (&["ssh"], "T1021.004"),
    (&["sudo"], "T1548.003"),
];
