//! What io_uring's own threads do is the doing of the process whose ring it is: told by the event of the act.

use anyhow::Result;
use serde_json::Value;

use super::{
    score::{Seen, Who},
    stage::{HOME, Leaf, Stage},
};
use crate::harness::{Daemon, program};

/// Acts that another task than the one that asked carries out.
const ACTS: &[(&str, &str)] = &[
    ("by the task itself", "uring-connect"),
    ("by an io worker", "uring-connect-async"),
    ("by the polling thread", "uring-connect-sqpoll"),
];

/// People's connects are recorded in lsm mode, so that they are seen there too.
pub fn cases(stage: &mut Stage, daemon: &mut Daemon, is_lsm: bool) -> Result<Vec<Seen>> {
    let tests = program("chaperone-tests")?.display().to_string();
    let mut asked = Vec::new();
    let mut lines = Vec::new();
    daemon.read()?;
    let from = daemon.seen.len();
    for (name, act) in ACTS {
        for who in [Who::Agent, Who::Human] {
            let port = 7000 + asked.len();
            let text = format!("{tests} act {act} --to 127.0.0.1:{port}; LEAF");
            let case = stage.case("the process itself", who, "bot", &text)?;
            let start = if who == Who::Agent { format!("{HOME}/bot") } else { "/bin/bash".to_owned() };
            lines.push(format!("{start} {case}"));
            asked.push((format!("io_uring, {name}, of the {}", who.word()), who, port));
        }
    }
    stage.terminal(&lines)?;
    let mut seen = stage.look(daemon)?;
    seen.retain(|seen| !seen.right());
    daemon.settle()?;
    for (case, who, port) in asked {
        if who == Who::Human && !is_lsm {
            continue;
        }
        let event = daemon.seen[from..].iter().find(|event| {
            event["network"]["port"] == port
                && event["kind"].as_str().is_some_and(|kind| kind.starts_with("net_"))
        });
        let leaf = Leaf { case, expected: who, agent: "bot", token: String::new() };
        seen.push(Seen::of(&leaf, event.filter(|event: &&Value| event.is_object())));
    }
    Ok(seen)
}
