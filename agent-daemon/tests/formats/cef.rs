//! CEF: every line is read back by a reader that takes nothing on trust.

use std::{collections::BTreeMap, net::Ipv4Addr, net::Ipv6Addr};

use chaperone::{event::Event, record::format::Form};

use super::{events, samples, written};

#[test]
fn every_line_is_read_back() {
    for event in events() {
        let line = written(Form::Cef, &event);
        let (header, keys) = read(&line).unwrap_or_else(|wrong| panic!("{wrong}\n{line}"));
        assert_eq!(header[..3], ["CEF:0", "Chaperone", "Chaperone"]);
        assert_eq!(header[4], event.kind.name());
        assert!((0..=10).contains(&header[6].parse::<u8>().unwrap()), "{line}");
        assert_eq!(keys["dvchost"], *event.host);
        assert_eq!(keys["rt"], (event.time.0 / 1_000_000).to_string());
        let of = |key: &str| keys.get(key).map(String::as_str);
        assert_eq!(of("act"), event.verdict.map(|verdict| verdict.name()));
        if let Some(subject) = &event.subject {
            assert_eq!(of("spid"), Some(&*subject.pid.to_string()));
            let sproc = shown(subject.exe.as_deref().unwrap_or(&subject.comm));
            assert_eq!(of("sproc"), Some(&*sproc));
            assert_eq!(of("cs1").map(str::to_owned), subject.agent.as_deref().map(shown));
            assert_eq!(of("cs2").map(str::to_owned), subject.role.as_deref().map(shown));
        }
        if let Some(unix) = &event.unix {
            assert_eq!(of("filePath").unwrap_or_default(), shown(&unix.path));
        }
        if let Some(rule) = event.decision.as_ref().and_then(|decision| decision.rule.as_ref()) {
            assert_eq!(of("cs4"), Some(&*shown(&rule.text)));
        }
        if let Some(address) = event.network.as_ref().and_then(|network| network.address) {
            let key = if address.is_ipv4() { "dst" } else { "c6a3" };
            assert_eq!(of(key), Some(&*address.to_string()));
        }
    }
}

/// What somebody names a file decides neither where a value ends nor what stands in another.
#[test]
fn a_name_cannot_forge_a_key_or_a_line() {
    let mut event = samples().into_iter().find(|event| event.exec.is_some()).unwrap();
    let names = [
        "x act=allow dst=192.0.2.1",
        "x|10|act=allow",
        "a\nCEF:0|Chaperone|Chaperone|0|daemon_stopped|x|0|",
        r"ends in a backslash\",
        r"\=\|\n",
        "\u{1b}[2J\0\u{7f}\u{9b}\r\u{2029}",
        " leading and trailing ",
        "not UTF-8: \u{fffd}\u{fffd}",
        "=",
        "|",
        "\\",
        "\n",
    ];
    for name in names {
        event.subject.as_mut().unwrap().exe = Some(name.into());
        event.exec.as_mut().unwrap().argv = vec![name.into(), "next".into()];
        let line = written(Form::Cef, &event);
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{2029}'), "{line:?}");
        let (header, keys) = read(&line).unwrap_or_else(|wrong| panic!("{wrong}\n{line}"));
        assert_eq!((header.len(), keys["sproc"].as_str()), (7, &*shown(name)));
        assert!(!keys.contains_key("act") && !keys.contains_key("dst"), "{line}");
    }
}

#[test]
fn a_value_is_cut_at_what_its_key_takes() {
    let mut event: Event = samples().into_iter().find(|event| event.exec.is_some()).unwrap();
    event.subject.as_mut().unwrap().exe = Some("=é".repeat(2000).into());
    let (_, keys) = read(&written(Form::Cef, &event)).unwrap();
    assert_eq!(keys["sproc"].chars().count(), 1023);
}

#[test]
fn the_reader_finds_each_kind_of_mistake() {
    let head = "CEF:0|a|b|1|x|x|5|";
    assert!(read(&format!("{head}act=deny msg=a b c")).is_ok());
    for (line, wrong) in [
        ("CEF:0|a|b|1|x|5|act=deny".to_owned(), "header"),
        ("CEF:1|a|b|1|x|x|5|act=deny".to_owned(), "version"),
        ("CEF:0|a|b|1|x|x|11|act=deny".to_owned(), "severity"),
        (format!("{head}act=a=b"), "unescaped"),
        (format!("{head}act=a\\|b"), "escape"),
        (format!("{head}act=a\\"), "escape"),
        (format!("{head}acT=deny"), "no key acT"),
        (format!("{head}act=deny act=allow"), "twice"),
        (format!("{head}dst=2001:db8::1"), "dst is no ipv4"),
        (format!("{head}dpt=65536"), "dpt is no port"),
        (format!("{head}cs1=x"), "no label"),
        (format!("{head}act=a\nb"), "control"),
        (format!("{head}act={}", "x".repeat(64)), "too long"),
    ] {
        let found = read(&line).unwrap_err();
        assert!(found.contains(wrong), "{line}: {found}");
    }
}

/// As the form shows a text: control characters in words.
fn shown(text: &str) -> String {
    let of = |c: char| match c {
        '\n' | '\r' => c.to_string(),
        c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => format!("\\u{{{:x}}}", u32::from(c)),
        c => c.to_string(),
    };
    text.chars().map(of).collect()
}

type Keys = BTreeMap<String, String>;

/// Header fields and extension of a line, unescaped.
fn read(line: &str) -> Result<(Vec<String>, Keys), String> {
    if line.chars().any(char::is_control) {
        return Err("a control character".to_owned());
    }
    let (header, extension) = header(line)?;
    if header[0] != "CEF:0" {
        return Err("version".to_owned());
    }
    if !header[6].parse().is_ok_and(|severity: u8| severity <= 10) {
        return Err("severity".to_owned());
    }
    let mut keys = Keys::new();
    // A key is what stands before each `=` that is not escaped, back to the space before it.
    let mut rest = extension;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or("no key")?;
        let end = value_end(after)?;
        let value = unescaped(&after[..end])?;
        checked(key, &value)?;
        if keys.insert(key.to_owned(), value).is_some() {
            return Err(format!("{key} twice"));
        }
        rest = after[end..].strip_prefix(' ').unwrap_or(&after[end..]);
    }
    let labelled = |key: &&String| key.starts_with("cs") || key.starts_with("c6a");
    for key in keys.keys().filter(labelled).filter(|key| !key.ends_with("Label")) {
        if !keys.contains_key(&format!("{key}Label")) {
            return Err(format!("{key} has no label"));
        }
    }
    Ok((header, keys))
}

fn header(line: &str) -> Result<(Vec<String>, &str), String> {
    let (mut fields, mut field, mut chars) = (Vec::new(), String::new(), line.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, next @ ('\\' | '|'))) => field.push(next),
                _ => return Err("escape in the header".to_owned()),
            },
            '|' => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
        if fields.len() == 7 {
            return Ok((fields, &line[at + 1..]));
        }
    }
    Err("the header is too short".to_owned())
}

/// Where a value ends: at the space before the next key, or at the end.
fn value_end(after: &str) -> Result<usize, String> {
    let (mut escaped, mut next) = (false, None);
    for (at, c) in after.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '=' => {
                next = Some(at);
                break;
            }
            _ => {}
        }
    }
    let Some(next) = next else { return Ok(after.len()) };
    let space = after[..next].rfind(' ').ok_or("unescaped = in a value")?;
    Ok(space)
}

fn unescaped(value: &str) -> Result<String, String> {
    let (mut out, mut chars) = (String::new(), value.chars());
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some(next @ ('\\' | '=')) => next,
                other => return Err(format!("escape {other:?}")),
            },
            c => c,
        });
    }
    Ok(out)
}

/// The key is one of the format's dictionary, and the value what it takes.
fn checked(key: &str, value: &str) -> Result<(), String> {
    let (_, kind, limit) =
        DICTIONARY.iter().find(|(name, ..)| *name == key).ok_or(format!("no key {key}"))?;
    let holds = match *kind {
        "ipv4" => value.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => value.parse::<Ipv6Addr>().is_ok(),
        "port" => value.parse::<u16>().is_ok(),
        "integer" | "time" => value.parse::<u64>().is_ok(),
        _ => !value.is_empty(),
    };
    if !holds {
        return Err(format!("{key} is no {kind}"));
    }
    if *limit > 0 && value.chars().count() > *limit { Err(format!("{key} is too long")) } else { Ok(()) }
}

/// Of "ArcSight Common Event Format (CEF) Implementation Standard", the keys that are used: type, and length where it is bounded.
const DICTIONARY: &[(&str, &str, usize)] = &[
    ("act", "string", 63),
    ("app", "string", 31),
    ("c6a2", "ipv6", 0),
    ("c6a2Label", "string", 1023),
    ("c6a3", "ipv6", 0),
    ("c6a3Label", "string", 1023),
    ("cnt", "integer", 0),
    ("cs1", "string", 4000),
    ("cs1Label", "string", 1023),
    ("cs2", "string", 4000),
    ("cs2Label", "string", 1023),
    ("cs3", "string", 4000),
    ("cs3Label", "string", 1023),
    ("cs4", "string", 4000),
    ("cs4Label", "string", 1023),
    ("cs5", "string", 4000),
    ("cs5Label", "string", 1023),
    ("cs6", "string", 4000),
    ("cs6Label", "string", 1023),
    ("dhost", "string", 1023),
    ("dpid", "integer", 0),
    ("dpt", "port", 0),
    ("dst", "ipv4", 0),
    ("dvchost", "string", 100),
    ("end", "time", 0),
    ("externalId", "string", 40),
    ("fileHash", "string", 255),
    ("filePath", "string", 1023),
    ("fname", "string", 1023),
    ("fsize", "integer", 0),
    ("msg", "string", 1023),
    ("outcome", "string", 63),
    ("proto", "string", 31),
    ("reason", "string", 1023),
    ("request", "string", 1023),
    ("requestContext", "string", 2048),
    ("requestMethod", "string", 1023),
    ("rt", "time", 0),
    ("spid", "integer", 0),
    ("sproc", "string", 1023),
    ("spt", "port", 0),
    ("src", "ipv4", 0),
    ("start", "time", 0),
    ("suid", "string", 1023),
];
