//! The one text form of behaviours, as the store, JSON and people have it, and back.
//!
//! `exec /usr/bin/bash -> /usr/bin/git`, `connect /usr/bin/node[/opt/a/run] -> api.example.com:443/tcp`, `user 1000`.
//! White space, `%`, `[`, `]` and a `*` of the path's own are written as `%` and two hexadecimal digits.

use std::{
    fmt::{self, Display, Write as _},
    str::FromStr,
};

use super::{Behaviour, Program, Sort};
use crate::event::Name;

impl Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.sort().word())?;
        match self {
            Self::Exec { by, child } => write!(f, "{by} -> {child}"),
            Self::Connect { by, to } | Self::Listen { by, on: to } => write!(f, "{by} -> {to}"),
            Self::Name { by, name: what } | Self::Unix { by, path: what } | Self::Socket { by, what } => {
                write!(f, "{by} -> {}", Escaped(what))
            }
            Self::User(n)
            | Self::Depth(n)
            | Self::FanOut(n)
            | Self::ExecsPerMinute(n)
            | Self::EndpointsPerMinute(n) => write!(f, "{n}"),
        }
    }
}

impl FromStr for Behaviour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).ok_or_else(|| {
            format!(
                "`{text}` is not a behaviour, such as `exec /usr/bin/bash -> /usr/bin/git` or `user 1000`"
            )
        })
    }
}

fn parse(text: &str) -> Option<Behaviour> {
    let (word, rest) = text.split_once(' ')?;
    let sort = Sort::ALL.iter().find(|(_, name)| *name == word)?.0;
    let number = || rest.parse().ok();
    let pair = || {
        let (by, what) = rest.split_once(" -> ")?;
        Some((by.parse::<Program>().ok()?, what))
    };
    Some(match sort {
        Sort::Exec => {
            let (by, what) = pair()?;
            Behaviour::Exec { by, child: what.parse().ok()? }
        }
        Sort::Connect => {
            let (by, what) = pair()?;
            Behaviour::Connect { by, to: what.parse().ok()? }
        }
        Sort::Listen => {
            let (by, what) = pair()?;
            Behaviour::Listen { by, on: what.parse().ok()? }
        }
        Sort::Name => pair().and_then(|(by, name)| Some(Behaviour::Name { by, name: unescape(name)? }))?,
        Sort::Unix => pair().and_then(|(by, path)| Some(Behaviour::Unix { by, path: unescape(path)? }))?,
        Sort::Socket => {
            pair().and_then(|(by, what)| Some(Behaviour::Socket { by, what: unescape(what)? }))?
        }
        Sort::User => Behaviour::User(number()?),
        Sort::Depth => Behaviour::Depth(number()?),
        Sort::FanOut => Behaviour::FanOut(number()?),
        Sort::ExecsPerMinute => Behaviour::ExecsPerMinute(number()?),
        Sort::EndpointsPerMinute => Behaviour::EndpointsPerMinute(number()?),
    })
}

impl Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside => f.write_str("outside"),
            Self::Unknown => f.write_str("?"),
            Self::File { exe, script: None } => write!(f, "{}", Escaped(exe)),
            Self::File { exe, script: Some(script) } => write!(f, "{}[{}]", Escaped(exe), Escaped(script)),
        }
    }
}

impl FromStr for Program {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let program = || match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
            Some((exe, script)) => Some(Self::File { exe: unescape(exe)?, script: Some(unescape(script)?) }),
            None => Some(Self::File { exe: unescape(text)?, script: None }),
        };
        match text {
            "outside" => Ok(Self::Outside),
            "?" => Ok(Self::Unknown),
            _ => program()
                .ok_or_else(|| format!("`{text}` is not a program, such as /usr/bin/node[/opt/a/run]")),
        }
    }
}

/// A text without white space and without the marks of the form. What is generalised has its `*` already; one of the
/// path's own was put as `%2A` there.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() || self.0 == "?" || self.0 == "outside" {
            // An empty text has a form too, and a file of such a name is none of the words.
            f.write_str("%_")?;
        }
        for c in self.0.chars() {
            match c {
                c if c.is_whitespace() || c.is_control() || "[]".contains(c) => {
                    let mut bytes = [0; 4];
                    c.encode_utf8(&mut bytes).bytes().try_for_each(|byte| write!(f, "%{byte:02X}"))?;
                }
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The text behind [`Escaped`]; `%` and `*` of a path's own stay as `path::generalise` wrote them.
fn unescape(text: &str) -> Option<Name> {
    if text.is_empty() {
        return None;
    }
    let text = text.strip_prefix("%_").unwrap_or(text);
    if !text.contains('%') {
        return Some(text.into());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let digits = after.get(..2)?;
        match u8::from_str_radix(digits, 16).ok()? {
            kept @ (b'%' | b'*') => bytes.extend_from_slice(if kept == b'%' { b"%25" } else { b"%2A" }),
            byte => bytes.push(byte),
        }
        rest = &after[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(String::from_utf8(bytes).ok()?.into())
}
