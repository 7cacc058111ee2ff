//! The actors against the receiver with nothing between them: what this host cannot do says so, all else arrives.

use std::process::{Command, Output};

use serde_json::Value;

fn act(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chaperone-tests"))
        .arg("act")
        .args(words)
        .output()
        .expect("the binary runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn unprivileged_ways_arrive_or_say_why_not() {
    let output = act(&["selfcheck", "--unprivileged", "--port", "47610", "-o", "json"]);
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let excused = |row: &Value| match row["errno"].as_str() {
        // A sysctl may close ping sockets, and user namespaces, to us.
        Some("EPERM" | "EACCES") => true,
        // Hosts have no route for multicast on loopback, and some no loopback for vsock.
        Some("ENETUNREACH") => row["way"] == "udp6-multicast",
        Some("ETIMEDOUT") => row["way"] == "vsock-stream",
        // Without CAP_NET_RAW nothing captures packets.
        _ => row["seen"] == "packet",
    };
    let bad: Vec<_> = rows.iter().filter(|row| row["good"] == false && !excused(row)).collect();
    assert!(rows.len() > 80, "{} ways", rows.len());
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn the_list_tells_what_each_way_needs() {
    let rows: Vec<Value> = serde_json::from_slice(&act(&["--list", "-o", "json"]).stdout).unwrap();
    let packet = rows.iter().find(|row| row["name"] == "packet-ring").unwrap();
    assert_eq!(packet["needs"]["root"], true);
    assert_eq!(packet["family"], "packet");
}

#[test]
fn shapes_that_need_no_root_end_in_the_command() {
    let list = text(&act(&["shape", "--list"]));
    let shapes: Vec<_> = list.lines().filter(|line| line.get(19..23) != Some("root")).collect();
    assert!(shapes.len() > 20, "{list}");
    for shape in shapes.iter().filter_map(|line| line.split(' ').next()) {
        // Whether user namespaces are free to all is the host's choice.
        if shape.ends_with("-ns") {
            continue;
        }
        let output = act(&["shape", shape, "--", "echo", "born"]);
        assert_eq!(text(&output).trim_end(), "born", "{shape}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn shapes_nest_and_hand_the_exit_status_up() {
    let output = act(&["shape", "fork,setsid,vfork", "--", "sh", "-c", "exit 7"]);
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn every_node_of_the_trees_is_written_down_once() {
    let log = std::env::temp_dir().join(format!("act-tree-{}", std::process::id()));
    let own = env!("CARGO_BIN_EXE_chaperone-tests");
    let root = format!("one={own}");
    let log_name = log.to_string_lossy();
    let output = act(&["tree", "--seed", "5", "--nodes", "400", "--log", &log_name, "--root", &root]);
    assert!(output.status.success());
    let lines: Vec<Value> = std::fs::read_to_string(&log)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    std::fs::remove_file(&log).unwrap();
    assert_eq!(lines.len(), 400);
    let under_root = |line: &&Value| line["root"].as_str().is_some_and(|root| root.starts_with("one#"));
    let inside = lines.iter().filter(under_root).count();
    assert!(inside > 0 && inside < 400, "{inside}");
}

#[test]
fn storm_tells_how_many_connects_passed() {
    let output = act(&["storm", "--connects", "20", "--to", "127.0.0.1:1"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["errnos"]["ECONNREFUSED"], 20);
}
