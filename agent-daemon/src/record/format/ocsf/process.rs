//! Process Activity and Process Remediation Activity.

use serde_json::json;

use super::{
    super::{
        PRODUCT,
        fields::{Fields, Row, Same, Text, Tree, millis, place},
        words,
    },
    uid,
};
use crate::event::{Event, Kind};

/// Exec, fork and exit.
pub(super) fn place_process(event: &Event, from: &mut Fields, to: &mut Tree) {
    let Some(subject) = &event.subject else { return };
    match event.kind {
        Kind::ProcessExec => {
            // The image that runs now; who executed it is the same process with the image before.
            let mut actor = json!({ "pid": subject.pid });
            if let Some(before) = subject.parent_exec_id {
                actor["uid"] = before.to_string().into();
            }
            let mut image = to.get("actor.process").cloned().unwrap_or_default();
            if let Some(image) = image.as_object_mut() {
                image.remove("parent_process");
            }
            to.put("process", image);
            to.put("actor.process", actor);
            to.put("launch_type_id", 3);
            to.put("launch_type", "Exec");
            place(EXEC, from, to);
            if let Some(exec) = event.exec.as_ref().filter(|exec| !exec.argv.is_empty()) {
                to.put("process.cmd_line", words::command_line(&exec.argv));
            }
            from.take("argv");
            if to.get("process.file").is_some() {
                place(&[("file.inode", "process.file.uid", Text)], from, to);
            }
        }
        Kind::ProcessFork => {
            place(&[("fork.child_pid", "process.pid", Same)], from, to);
            let mut parent = json!({ "pid": subject.pid });
            if let Some(image) = subject.exec_id {
                parent["uid"] = image.to_string().into();
            }
            to.put("process.parent_process", parent);
            to.put("launch_type_id", 2);
            to.put("launch_type", "Fork");
        }
        _ => {
            to.put_some("process", to.get("actor.process").cloned());
            to.put("process.terminated_time", millis(event.time));
            place(&[("exit.code", "exit_code", Same)], from, to);
        }
    }
}

const EXEC: &[Row] = &[
    ("ppid", "process.parent_process.pid", Same),
    ("cwd", "process.working_directory", Same),
    ("gid", "process.group.uid", Text),
    ("euid", "process.euid", Same),
    ("egid", "process.egid", Same),
    ("session_id", "process.session.uid", Text),
    ("tty", "process.session.terminal", Same),
];

/// A reaction: what was stopped or ended is the instance of the subject, told by the process that was found. Who acts is
/// the daemon, so that the instance's names have no place.
pub(super) fn place_remediation(event: &Event, from: &mut Fields, to: &mut Tree) {
    to.put_some("process", to.get("actor.process").cloned());
    to.put("actor", json!({ "app_name": PRODUCT }));
    let Some(reaction) = &event.reaction else { return };
    let of = reaction.of;
    to.put("command_uid", format!("{}/{}", reaction.effect, uid(&event.boot_id, of.time, of.seq)));
    let technique = match &*reaction.effect {
        "stop" => json!({ "uid": "D3-PS", "name": "Process Suspension" }),
        _ => json!({ "uid": "D3-PT", "name": "Process Termination" }),
    };
    to.put("countermeasures", json!([{ "d3f_tactic": { "name": "Evict" }, "d3f_technique": technique }]));
    place(&[("reaction.incomplete", "status_detail", Same)], from, to);
    from.take("reaction.severity");
}
