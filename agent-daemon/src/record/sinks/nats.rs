//! NATS JetStream: each record is published to a subject that a stream takes, and acknowledged when the stream has it. Its
//! number is the message's id, so that the stream leaves out one that comes again within its window.

use anyhow::{Context as _, Result};
use async_nats::{ConnectOptions, HeaderMap, jetstream};

use super::{Record, secret};
use crate::config::sinks::{Sink, authority};

pub struct Nats {
    stream: jetstream::Context,
    subject: String,
    /// What makes a record's number one among all hosts'.
    host: String,
}

impl Nats {
    pub async fn connect(tls: bool, host: &str, port: u16, sink: &Sink) -> Result<Self> {
        let mut options = ConnectOptions::new().name("chaperone").require_tls(tls).max_reconnects(1);
        if let Some(ca) = &sink.ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let Some(path) = &sink.secret_file {
            let secret = secret(path)?;
            options = match secret.split_once(':') {
                Some((user, password)) => options.user_and_password(user.to_owned(), password.to_owned()),
                None => options.token(secret),
            };
        }
        let client = options.connect(authority(host, port)).await.context("connect to NATS")?;
        let subject = sink.subject.clone().context("it has no subject")?;
        let host =
            nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        Ok(Self { stream: jetstream::new(client), subject, host })
    }

    pub async fn send(&mut self, batch: &[Record]) -> Result<()> {
        let mut acknowledgements = Vec::with_capacity(batch.len());
        for record in batch {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", &*record.id(&self.host));
            let payload = record.text().to_owned().into();
            let sent = self.stream.publish_with_headers(self.subject.clone(), headers, payload).await;
            acknowledgements.push(sent.context("publish")?);
        }
        for acknowledgement in acknowledgements {
            acknowledgement.await.context("no stream has taken a record")?;
        }
        Ok(())
    }
}
