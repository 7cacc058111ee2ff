//! One thing that a role does, in the form that a baseline stores it: ordered, hashable, with one text form.

mod endpoint;
pub mod path;
mod text;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

pub use self::endpoint::{Endpoint, Host, Port, registered};
use crate::event::Name;

/// One thing that a role does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Behaviour {
    /// A program executes another.
    Exec { by: Program, child: Program },
    /// A program reaches an internet endpoint.
    Connect { by: Program, to: Endpoint },
    /// A program asks a resolver for a name; `*.example.com` stands for all names below.
    Name { by: Program, name: Name },
    /// A program reaches a unix socket.
    Unix { by: Program, path: Name },
    /// A program uses any other socket.
    Socket { by: Program, what: Name },
    /// A program lets others come to an address and port of this host.
    Listen { by: Program, on: Endpoint },
    /// Programs run as this user.
    User(u32),
    /// Execs on the way from the instance's first program, rounded up to a power of two.
    Depth(u32),
    /// Programs that one program image executed, rounded up to a power of two.
    FanOut(u32),
    /// Execs of an instance in one minute, rounded down to a power of two.
    ExecsPerMinute(u32),
    /// Different endpoints of an instance in one minute, rounded down to a power of two.
    EndpointsPerMinute(u32),
}

/// A program: its file, and for an interpreter the script.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Program {
    /// What is outside the instance: it began the instance.
    Outside,
    /// Not known, as of what ran before the events began.
    Unknown,
    /// Generalised paths; see [`path::generalise`].
    File { exe: Name, script: Option<Name> },
}

/// Which sort of behaviour; the first word of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sort {
    Exec,
    Connect,
    Name,
    Unix,
    Socket,
    Listen,
    User,
    Depth,
    FanOut,
    ExecsPerMinute,
    EndpointsPerMinute,
}

impl Sort {
    /// Every sort and its word.
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::Exec, "exec"),
        (Self::Connect, "connect"),
        (Self::Name, "name"),
        (Self::Unix, "unix"),
        (Self::Socket, "socket"),
        (Self::Listen, "listen"),
        (Self::User, "user"),
        (Self::Depth, "depth"),
        (Self::FanOut, "fan_out"),
        (Self::ExecsPerMinute, "execs_per_minute"),
        (Self::EndpointsPerMinute, "endpoints_per_minute"),
    ];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

impl Behaviour {
    /// Which sort it is.
    #[must_use]
    pub fn sort(&self) -> Sort {
        match self {
            Self::Exec { .. } => Sort::Exec,
            Self::Connect { .. } => Sort::Connect,
            Self::Name { .. } => Sort::Name,
            Self::Unix { .. } => Sort::Unix,
            Self::Socket { .. } => Sort::Socket,
            Self::Listen { .. } => Sort::Listen,
            Self::User(_) => Sort::User,
            Self::Depth(_) => Sort::Depth,
            Self::FanOut(_) => Sort::FanOut,
            Self::ExecsPerMinute(_) => Sort::ExecsPerMinute,
            Self::EndpointsPerMinute(_) => Sort::EndpointsPerMinute,
        }
    }

    /// The program that does it; `None` for what is the instance's as a whole.
    #[must_use]
    pub fn by(&self) -> Option<&Program> {
        match self {
            Self::Exec { by, .. }
            | Self::Connect { by, .. }
            | Self::Name { by, .. }
            | Self::Unix { by, .. }
            | Self::Socket { by, .. }
            | Self::Listen { by, .. } => Some(by),
            _ => None,
        }
    }

    /// For what is a size: the size, where a smaller one is contained in a greater.
    #[must_use]
    pub fn size(&self) -> Option<u32> {
        match self {
            Self::Depth(n) | Self::FanOut(n) | Self::ExecsPerMinute(n) | Self::EndpointsPerMinute(n) => {
                Some(*n)
            }
            _ => None,
        }
    }
}

impl Program {
    /// The path of its file, as far as there is one.
    #[must_use]
    pub fn exe(&self) -> Option<&Name> {
        match self {
            Self::File { exe, .. } => Some(exe),
            _ => None,
        }
    }
}

impl Serialize for Behaviour {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Behaviour {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
