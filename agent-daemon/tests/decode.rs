//! The decoder takes whatever comes: good records become events, everything else is refused with its reason.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "decode/records.rs"]
mod records;

use std::{net::IpAddr, sync::LazyLock};

use agent_common::{
    event::{Header, Kind as Layout, Text, VERSION, net, process::Exec, text_flags},
    identity::{Origin, Recognised, evidence},
    limits::UNIX_PATH_BYTES,
    verdict::Verdict,
};
use chaperone::config::Arguments;
use chaperone::{
    event::{Event, Kind, Truncated, local::UNDECODABLE, mask::Masks, word::InstanceId},
    kernel::hooks::{self, Head, Reading},
};
use records::{Random, cgroup, dns, exec, exit, fork, net, texts, unix};

static MASKS: LazyLock<Masks> = LazyLock::new(Masks::default);

fn decode(bytes: &[u8]) -> Result<Event, &'static str> {
    let reading = Reading { boot_offset_ns: 1_000, argv: Arguments::Masked, masks: &MASKS };
    let head = Head::read(bytes).map_err(|wrong| wrong.reason)?;
    hooks::decode(&head, bytes, &reading).map_err(|wrong| wrong.reason)
}

#[test]
fn an_exec_carries_who_what_and_where() {
    let mut raw = exec();
    raw.recognised = Recognised::Script as u8;
    raw.entry = 2;
    raw.parent_instance = 9;
    raw.tty = 136 << 20 | 4;
    let event = decode(&texts(
        raw,
        ["/usr/bin/bash", "/opt/bot/run", "bash\0/opt/bot/run\0--token\0hunter2", "/srv"],
    ))
    .unwrap();
    assert_eq!((event.kind, event.time.0), (Kind::ProcessExec, 6_000));
    let subject = event.subject.unwrap();
    assert_eq!(subject.origin.known(), Some(Origin::Agent));
    assert_eq!(subject.evidence.words().collect::<Vec<_>>(), ["lineage", "terminal"]);
    assert_eq!(subject.instance, Some(InstanceId(0x42)));
    assert_eq!((subject.pid, subject.tid, subject.uid, subject.loginuid), (100, Some(101), Some(1000), None));
    assert_eq!((&*subject.comm, subject.exe.as_deref()), ("bash", Some("/usr/bin/bash")));
    assert_eq!(subject.script.as_deref(), Some("/opt/bot/run"));
    let exec = event.exec.unwrap();
    let argv: Vec<&str> = exec.argv.iter().map(|arg| &**arg).collect();
    assert_eq!((argv, exec.argv_masked), (vec!["bash", "/opt/bot/run", "--token", "***"], 1));
    assert_eq!((&*exec.cwd, exec.tty.as_deref()), ("/srv", Some("pts/4")));
    assert_eq!((exec.recognised.map(|r| r.name()), exec.match_entry), (Some("script"), Some(2)));
    assert_eq!(exec.parent_instance, Some(InstanceId(9)));
    assert_eq!(
        (exec.namespaces.mnt, exec.file.inode, exec.euid, exec.session_id),
        (4_026_531_841, 77, None, None)
    );
}

#[test]
fn what_was_cut_is_marked_and_hashed_unless_the_hash_would_give_a_secret_away() {
    let cut = |hash, flags| Text { hash, full_bytes: 5000, kept_bytes: 0, flags };
    let mut raw = exec();
    raw.argv = cut(0xabc, text_flags::TRUNCATED);
    raw.exe = cut(0xdef, text_flags::TRUNCATED | text_flags::TAIL);
    raw.cwd = cut(0, text_flags::UNREADABLE | text_flags::UNHASHED | text_flags::TRUNCATED);
    let event = decode(&texts(raw, ["/deep/bin", "", "curl\0--tok", "/"])).unwrap();
    let marks: Vec<_> =
        event.truncated.iter().map(|t| (&*t.field, t.bytes, t.hash.as_deref(), t.tail)).collect();
    assert_eq!(
        marks,
        [
            ("exe", 5000, Some("0000000000000def"), true),
            ("argv", 5000, Some("0000000000000abc"), false),
            ("cwd", 5000, None, false)
        ]
    );
    assert_eq!(event.unreadable.iter().map(|f| &**f).collect::<Vec<_>>(), ["cwd"]);
    assert_eq!(event.subject.unwrap().exe.as_deref(), Some("…/deep/bin"));

    let mut raw = exec();
    raw.argv = cut(0xabc, text_flags::TRUNCATED);
    let event = decode(&texts(raw, ["/x", "", "x\0--token=ab", "/"])).unwrap();
    assert_eq!(event.truncated[0].hash, None);
}

#[test]
fn names_that_are_not_utf8_stay_distinct() {
    let mut raw = exec();
    raw.header.subject.comm = *b"a\xffb\0rubbish behi";
    let event = decode(&texts(raw, [&b"/bin/\xfe"[..], b"", b"\xfd\0x", b"/"])).unwrap();
    let subject = event.subject.unwrap();
    assert_eq!((&*subject.comm, subject.exe.as_deref()), ("a\\xffb", Some("/bin/\\xfe")));
    assert_eq!(&*event.exec.unwrap().argv[0], "\\xfd");
}

#[test]
fn without_arguments_wanted_none_are_read() {
    let mut raw = exec();
    raw.argv.flags = text_flags::TRUNCATED;
    let bytes = texts(raw, ["/x", "", "x\0secret", "/"]);
    let reading = Reading { boot_offset_ns: 0, argv: Arguments::None, masks: &Masks::default() };
    let event = hooks::decode(&Head::read(&bytes).unwrap(), &bytes, &reading).unwrap();
    assert!(event.exec.unwrap().argv.is_empty() && event.truncated.is_empty());
}

#[test]
fn what_is_offered_has_its_address_and_no_verdict() {
    let mut raw = net("0.0.0.0", 0);
    raw.op = net::Op::Listen as u8;
    let event = decode(bytemuck::bytes_of(&raw)).unwrap();
    let network = event.network.unwrap();
    assert_eq!((event.kind, event.verdict, event.decision), (Kind::NetListen, None, None));
    assert_eq!((network.address, network.port), ("0.0.0.0".parse().ok(), Some(0)));
}

#[test]
fn of_the_program_alone_its_name_is_kept() {
    let mut raw = exec();
    raw.argv.flags = text_flags::TRUNCATED;
    let bytes = texts(raw, ["/x", "", "x --token=hunter\0secret", "/"]);
    let reading = Reading { boot_offset_ns: 0, argv: Arguments::Program, masks: &Masks::default() };
    let event = hooks::decode(&Head::read(&bytes).unwrap(), &bytes, &reading).unwrap();
    let exec = event.exec.unwrap();
    assert_eq!((exec.argv.as_slice(), exec.argv_masked), (&["x --token=***".into()][..], 1));
    assert!(event.truncated.is_empty());
}

#[test]
fn a_refused_connect_carries_endpoint_and_decision() {
    let mut raw = net("192.0.2.7", 443);
    raw.judgement.verdict = Verdict::Deny as u8;
    raw.judgement.errno = 1;
    let event = decode(bytemuck::bytes_of(&raw)).unwrap();
    assert_eq!((event.kind, event.verdict.unwrap().known()), (Kind::NetConnect, Some(Verdict::Deny)));
    let network = event.network.unwrap();
    assert_eq!(network.address, Some("192.0.2.7".parse::<IpAddr>().unwrap()));
    assert_eq!(
        (network.port, &*network.family, network.protocol.as_deref()),
        (Some(443), "inet", Some("tcp"))
    );
    let decision = event.decision.unwrap();
    assert_eq!(
        (decision.source.name(), decision.place.name(), decision.errno.as_deref()),
        ("rule", "lsm", Some("EPERM"))
    );
    assert_eq!((decision.rule.unwrap().index, decision.ids.policy), (3, 7));
}

#[test]
fn numbers_without_a_word_are_values_not_errors() {
    let mut raw = net("::1", 22);
    (raw.op, raw.judgement.verdict, raw.judgement.source, raw.target.class) = (99, 98, 97, 96);
    (raw.target.family, raw.target.protocol) = (95, 94);
    raw.header.subject.origin = 93;
    let event = decode(bytemuck::bytes_of(&raw)).unwrap();
    assert_eq!((event.kind, event.verdict.unwrap().name()), (Kind::NetOther, "unknown"));
    let network = event.network.unwrap();
    assert_eq!(
        (&*network.family, network.protocol.as_deref(), network.class.name()),
        ("95", Some("94"), "unknown")
    );
    assert_eq!(event.subject.unwrap().origin.name(), "unknown");
}

#[test]
fn questions_and_answers_carry_name_type_and_addresses() {
    let event = decode(&dns("api.example.com", &[])).unwrap();
    assert_eq!((event.kind, event.verdict.unwrap().known()), (Kind::DnsQuery, Some(Verdict::Allow)));
    let asked = event.dns.unwrap();
    assert_eq!((&*asked.name, asked.kind.as_deref(), asked.id), ("api.example.com", Some("A"), 0x1234));
    assert_eq!((asked.resolver, asked.configured), (Some(IpAddr::from([127, 0, 0, 53])), Some(true)));
    assert_eq!((&*asked.protocol, asked.code, asked.answers), ("udp", None, Vec::new()));
    let event = decode(&dns("api.example.com", &["192.0.2.1", "2001:db8::1"])).unwrap();
    assert_eq!((event.kind, event.verdict, event.decision), (Kind::DnsAnswer, None, None));
    let answered = event.dns.unwrap();
    assert_eq!((answered.code.as_deref(), answered.configured), (Some("NOERROR"), None));
    let told: Vec<String> = answered.answers.iter().map(|a| format!("{} {}", a.address, a.ttl_s)).collect();
    assert_eq!(told, ["192.0.2.1 300", "2001:db8::1 300"]);
    // Fewer addresses than it says.
    let whole = dns("api.example.com", &["192.0.2.1"]);
    let mut short = whole.clone();
    short.truncate(whole.len() - 1);
    let mut header: Header = bytemuck::pod_read_unaligned(&short[..size_of::<Header>()]);
    header.bytes -= 1;
    short[..size_of::<Header>()].copy_from_slice(bytemuck::bytes_of(&header));
    assert_eq!(decode(&short).unwrap_err(), "short");
}

#[test]
fn unix_sockets_have_a_path_or_an_abstract_name_and_a_peer() {
    let event = decode(bytemuck::bytes_of(&unix(b"/run/docker.sock"))).unwrap();
    assert_eq!((event.kind, event.handed_off.as_deref()), (Kind::UnixConnect, Some("docker")));
    let shown = event.unix.unwrap();
    assert_eq!((&*shown.path, shown.peer.unwrap().pid), ("/run/docker.sock", Some(55)));

    let event = decode(bytemuck::bytes_of(&unix(b"\0/tmp/.X11-unix/X0"))).unwrap();
    assert_eq!(
        (&*event.unix.unwrap().path, event.handed_off.as_deref()),
        ("@/tmp/.X11-unix/X0", Some("x11"))
    );

    let mut raw = unix(b"");
    (raw.peer_pid, raw.op) = (0, net::Op::Send as u8);
    let event = decode(bytemuck::bytes_of(&raw)).unwrap();
    assert_eq!((event.kind, event.unix.unwrap().peer), (Kind::UnixSend, None));
}

#[test]
fn a_unix_socket_s_name_that_is_too_long_or_unreadable_is_marked_and_its_verdict_told() {
    let long = format!("/deep/{}", "x".repeat(UNIX_PATH_BYTES - 6));
    let mut raw = unix(long.as_bytes());
    raw.name_bytes = 300;
    let event = decode(bytemuck::bytes_of(&raw)).unwrap();
    let mark = Truncated { field: "unix.path".into(), bytes: 300, ..Truncated::default() };
    assert_eq!((event.truncated, event.unreadable.len()), (vec![mark], 0));
    assert_eq!((&*event.unix.unwrap().path, event.verdict.is_some()), (&*long, true));

    raw.name_bytes = u16::MAX;
    let event = decode(bytemuck::bytes_of(&raw)).unwrap();
    assert_eq!(event.unreadable.iter().map(|f| &**f).collect::<Vec<_>>(), ["unix.path"]);
    assert_eq!((event.truncated.len(), &*event.unix.unwrap().path), (0, ""));

    // What begins like a broker's socket may be another's.
    let mut raw = unix(format!("/run/user/{}/bus", "9".repeat(UNIX_PATH_BYTES - 14)).as_bytes());
    assert_eq!(decode(bytemuck::bytes_of(&raw)).unwrap().handed_off.as_deref(), Some("dbus"));
    raw.name_bytes += 1;
    assert_eq!(decode(bytemuck::bytes_of(&raw)).unwrap().handed_off, None);
}

#[test]
fn evidence_of_an_entered_container_touches_an_agent() {
    let mut raw = exit();
    (raw.header.subject.instance, raw.header.subject.origin) = (0, Origin::Human as u8);
    assert!(!decode(bytemuck::bytes_of(&raw)).unwrap().touches_an_agent());
    raw.header.subject.evidence = evidence::ENTERED;
    assert!(decode(bytemuck::bytes_of(&raw)).unwrap().touches_an_agent());
}

#[test]
fn malformed_records_are_refused_with_their_reason() {
    let good = texts(exec(), ["/usr/bin/bash", "", "bash\0-c\0true", "/srv"]);
    assert!(decode(&good).is_ok());
    let header = |change: &dyn Fn(&mut Header)| {
        let mut bytes = good.clone();
        let mut head: Header = bytemuck::pod_read_unaligned(&bytes[..size_of::<Header>()]);
        change(&mut head);
        bytes[..size_of::<Header>()].copy_from_slice(bytemuck::bytes_of(&head));
        bytes
    };
    let kept = |kept: u16| {
        let mut bytes = good.clone();
        let at = std::mem::offset_of!(Exec, cwd) + std::mem::offset_of!(Text, kept_bytes);
        bytes[at..at + 2].copy_from_slice(&kept.to_ne_bytes());
        bytes
    };
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", Vec::new(), "short"),
        ("one byte", vec![Layout::Exec as u8], "short"),
        ("half a header", good[..50].to_vec(), "short"),
        ("a header alone that says so", header(&|h| h.bytes = 96), "short"),
        ("another version", header(&|h| h.version = VERSION + 1), "version"),
        ("version 0", header(&|h| h.version = 0), "version"),
        ("an unknown kind", header(&|h| h.kind = 77), "kind"),
        ("kind 0", header(&|h| h.kind = 0), "kind"),
        ("longer than what came", header(&|h| h.bytes += 1), "length"),
        ("length of nearly everything", header(&|h| h.bytes = u32::MAX), "length"),
        ("shorter than a header", header(&|h| h.bytes = 95), "length"),
        ("shorter than its fixed part", header(&|h| h.bytes = 200), "short"),
        ("without room for its texts", header(&|h| h.bytes -= 1), "text"),
        ("a text of nearly everything", kept(u16::MAX), "text"),
        ("cut at the end", good[..good.len() - 1].to_vec(), "length"),
    ];
    for (name, bytes, reason) in &table {
        assert_eq!(decode(bytes).unwrap_err(), *reason, "{name}");
        assert!(UNDECODABLE.contains(reason));
    }
    // Padding behind a record is not part of it.
    let mut padded = good.clone();
    padded.extend_from_slice(&[0xff; 7]);
    assert_eq!(decode(&padded).unwrap(), decode(&good).unwrap());
}

#[test]
fn no_bytes_make_the_decoder_panic_and_every_event_is_one_line_of_json() {
    let good: Vec<Vec<u8>> = vec![
        texts(
            exec(),
            ["/usr/bin/curl", "/opt/x", "curl\0-H\0Authorization: Bearer abcdefgh\0http://u:p@h/", "/srv"],
        ),
        cgroup("/system.slice/bot.service"),
        bytemuck::bytes_of(&exit()).to_vec(),
        bytemuck::bytes_of(&fork()).to_vec(),
        bytemuck::bytes_of(&net("192.0.2.7", 443)).to_vec(),
        bytemuck::bytes_of(&unix(b"/run/user/1000/bus")).to_vec(),
        dns("api.example.com", &[]),
        dns("api.example.com", &["192.0.2.1", "2001:db8::1"]),
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut events, mut line) = (0, Vec::new());
    for round in 0..60_000 {
        let mut bytes = good[random.below(good.len())].clone();
        match round % 4 {
            0 => (0..random.below(600)).for_each(|_| bytes.push(random.next() as u8)),
            1 => bytes.truncate(random.below(bytes.len() + 1)),
            2 => bytes = (0..random.below(700)).map(|_| random.next() as u8).collect(),
            _ => {}
        }
        for _ in 0..random.below(6) {
            if !bytes.is_empty() {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
            }
        }
        if let Ok(event) = decode(&bytes) {
            events += 1;
            line.clear();
            event.write_line(&mut line);
            assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
            let back: Event = serde_json::from_slice(&line).unwrap();
            assert_eq!(back.kind, event.kind);
        }
    }
    assert!(events > 10_000, "{events}");
}
