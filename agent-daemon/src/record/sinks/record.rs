//! A line of the event file on its way to a sink: its number, how much it matters, and what is sent of it.

use crate::{
    config::sinks::{Form, Sink, Target},
    event::Event,
    record::{journal::chain, severity::Severity},
};

/// A line of the event file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub seq: u64,
    /// JSON, without its end.
    pub line: Vec<u8>,
    /// As the event says; info until it is read as one.
    pub severity: Severity,
    /// In the sink's form, where that is another.
    pub formed: Option<Vec<u8>>,
}

impl Record {
    #[must_use]
    pub fn new(seq: u64, line: Vec<u8>) -> Self {
        Self { seq, line, severity: Severity::Info, formed: None }
    }

    /// What is sent.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.formed.as_deref().unwrap_or(&self.line)
    }

    /// What no other record is called, so that one that comes again is known: a number is given again after a power cut,
    /// and hosts may have one name.
    #[must_use]
    pub fn id(&self, host: &str) -> String {
        match chain::split(&self.line) {
            Some((_, hash)) => format!("{}:{}", self.seq, &hash.to_string()[..ID_DIGITS]),
            None => format!("{host}:{}", self.seq),
        }
    }

    /// Reads it as an event for a sink, and says whether the sink wants it. What this build cannot read as an event goes
    /// to every sink as it was recorded: nothing is withheld for a reason that nobody knows.
    pub(super) fn read(&mut self, sink: &Sink) -> bool {
        let Ok(event) = Event::read_line(&self.line) else { return true };
        self.severity = Severity::of(&event);
        if !sink.wants(&event, self.severity) {
            return false;
        }
        if sink.form != Form::Json {
            let mut text = Vec::with_capacity(self.line.len() * 2);
            sink.form.write(&event, &mut text);
            if text.pop() == Some(b'\n') {
                self.formed = Some(text);
            }
        }
        true
    }
}

/// Of a hash, in an id.
const ID_DIGITS: usize = 32;

/// Whether anything of the event has to be known to send it.
pub(super) fn has_to_be_read(sink: &Sink) -> bool {
    let says_severity = match sink.to {
        Target::Journald | Target::Syslog { .. } => true,
        Target::Http { otlp, .. } => otlp,
        Target::File(_) | Target::Nats { .. } => false,
    };
    says_severity || sink.form != Form::Json || sink.is_choosy()
}
