//! Tries a sink from outside, for who asks whether it can work: its files are read, its other end is connected to, and
//! nothing is sent.

use std::{path::Path, time::Duration};

use anyhow::{Result, anyhow};
use serde::Serialize;

use super::{Transport, cursor, file, secret, tail, tls};
use crate::config::sinks::{Over, Sink, Target};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Whether the other end takes a connection, and by TLS shows who it is.
    pub reachable: bool,
    /// What is wrong, the sink's own files first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Recorded events that it has not taken, as its place and the event file say; absent where they cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
}

/// Tries it.
pub async fn check(name: &str, sink: &Sink, events_file: &Path, state_dir: &Path) -> Check {
    let mut problems: Vec<String> = own_files(sink).into_iter().map(|error| format!("{error:#}")).collect();
    let connect = async {
        match &sink.to {
            Target::File(path) => file::check(path),
            _ => Transport::connect(sink).await.map(drop),
        }
    };
    let tried = tokio::time::timeout(CHECK_MAX, connect).await;
    let tried = tried.unwrap_or_else(|_| Err(anyhow!("no answer to the connect")));
    let reachable = tried.is_ok();
    if let Err(error) = tried {
        let error = format!("{error:#}");
        // A file that cannot be read is told once.
        problems.extend((!problems.contains(&error)).then_some(error));
    }
    let kept = cursor::kept(&state_dir.join("sinks"), name).ok().flatten();
    let waiting = kept.and_then(|kept| Some(tail::end(events_file).ok()?.saturating_sub(kept)));
    Check { reachable, problems, waiting }
}

/// What is wrong with the certificates and the secret that it names.
fn own_files(sink: &Sink) -> Vec<anyhow::Error> {
    let by_tls = matches!(
        sink.to,
        Target::Syslog { over: Over::Tls, .. }
            | Target::Http { tls: true, .. }
            | Target::Nats { tls: true, .. }
    );
    let certificates: Result<()> = if by_tls { tls::check(sink.ca.as_deref()) } else { Ok(()) };
    let secret = sink.secret_file.as_deref().map(secret).transpose().map(drop);
    [certificates, secret].into_iter().filter_map(Result::err).collect()
}

/// A person waits for it.
const CHECK_MAX: Duration = Duration::from_secs(5);
