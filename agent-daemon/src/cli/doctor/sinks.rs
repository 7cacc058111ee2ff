//! Sinks: what the running daemon says of each, and what trying it from here shows.

use std::collections::{BTreeMap, BTreeSet};

use anstyle::Style;
use anyhow::Result;
use serde::Serialize;

use crate::{
    cli::{
        Place, block_on,
        render::{BAD, BOLD, DIM, GOOD, Table, WARN, harmless, paint},
    },
    config::sinks::Sink,
    control::api::{SinkView, Status},
    event::word::Time,
    record::sinks::{Check, check},
};

/// One sink, from both sides.
#[derive(Debug, Default, Serialize)]
pub(super) struct Looked {
    form: String,
    to: String,
    /// What the daemon says; absent where none runs, or it was started without this sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<SinkView>,
    /// What trying it shows; absent where the settings do not have it any more, or are not for us to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    tried: Option<Check>,
}

/// Asks both sides, all sinks at once.
pub(super) fn look(place: &Place, status: Option<&Status>) -> Result<BTreeMap<String, Looked>> {
    let running = status.map(|status| status.sinks.clone()).unwrap_or_default();
    // Settings that do not hold are for `role check`; an ordinary user may not read them.
    let settings = place.settings().unwrap_or_default();
    let tried = block_on(async {
        let tasks: Vec<_> = settings
            .sinks
            .iter()
            .map(|(name, sink)| {
                let (name, sink) = (name.clone(), sink.clone());
                let (events, state) = (settings.events_file.clone(), settings.state_dir.clone());
                tokio::spawn(async move { (check(&name, &sink, &events, &state).await, name) })
            })
            .collect();
        let mut tried = BTreeMap::new();
        for task in tasks {
            tried.extend(task.await.ok().map(|(check, name)| (name, check)));
        }
        tried
    })?;
    let names: BTreeSet<&String> = running.keys().chain(settings.sinks.keys()).collect();
    Ok(names
        .into_iter()
        .map(|name| (name.clone(), joined(running.get(name), settings.sinks.get(name), tried.get(name))))
        .collect())
}

fn joined(running: Option<&SinkView>, sink: Option<&Sink>, tried: Option<&Check>) -> Looked {
    let (form, to) = match (running, sink) {
        (Some(view), _) => (view.form.clone(), view.to.clone()),
        (None, Some(sink)) => (sink.form.name().to_owned(), sink.to.to_string()),
        (None, None) => <(String, String)>::default(),
    };
    Looked { form, to, running: running.cloned(), tried: tried.cloned() }
}

/// One line each, and below it what is wrong.
pub(super) fn shown(sinks: &BTreeMap<String, Looked>) -> String {
    if sinks.is_empty() {
        return String::new();
    }
    let mut table = Table::with_headings(&["  SINK", "FORM", "TO", "WORKS", "WAITING", "SENT"]);
    let mut troubles = String::new();
    for (name, looked) in sinks {
        let (style, works) = works(looked);
        let waiting = looked.running.as_ref().map(|view| view.waiting);
        let waiting = waiting.or(looked.tried.as_ref().and_then(|tried| tried.waiting));
        let number = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        table.row([
            (Style::new(), format!("  {name}")),
            (DIM, looked.form.clone()),
            (Style::new(), harmless(&looked.to)),
            (style, works.to_owned()),
            (if waiting.is_some_and(|count| count > MANY) { WARN } else { DIM }, number(waiting)),
            (DIM, number(looked.running.as_ref().map(|view| view.sent))),
        ]);
        for (style, trouble) in wrong(looked) {
            troubles.push_str(&format!("  {} {}\n", paint(style, format!("{name}:")), harmless(&trouble)));
        }
    }
    format!("\n{}\n{}{troubles}", paint(BOLD, "sinks"), table.render(usize::MAX))
}

/// The daemon's word counts first: it is the one that sends.
fn works(looked: &Looked) -> (Style, &'static str) {
    match (&looked.running, &looked.tried) {
        (Some(view), _) if view.up => (GOOD, "yes"),
        (Some(_), _) => (BAD, "no"),
        (None, Some(tried)) if tried.problems.is_empty() => (GOOD, "reachable"),
        (None, Some(_)) => (BAD, "no"),
        (None, None) => (WARN, "?"),
    }
}

fn wrong(looked: &Looked) -> Vec<(Style, String)> {
    let mut wrong = Vec::new();
    if let Some(view) = &looked.running {
        let ago = |at: Time| Time::now().0.saturating_sub(at.0) / 1_000_000_000;
        if let (Some(error), Some(at)) = (&view.error, view.error_at) {
            let style = if view.up { DIM } else { BAD };
            wrong.push((style, format!("last failure {} s ago, of {}: {error}", ago(at), view.failures)));
        }
        if view.missed > 0 {
            let text = format!(
                "{} events were gone from the event file, or unreadable in it, before they were sent",
                view.missed
            );
            wrong.push((WARN, text));
        }
        if view.refused > 0 {
            wrong.push((
                WARN,
                format!("{} events were refused by its other end, and passed over", view.refused),
            ));
        }
    }
    for problem in looked.tried.iter().flat_map(|tried| &tried.problems) {
        // What the daemon has just said need not be said twice.
        let said = looked.running.as_ref().and_then(|view| view.error.as_ref());
        if said != Some(problem) {
            wrong.push((BAD, format!("tried just now: {problem}")));
        }
    }
    wrong
}

/// More than this are no matter of a moment.
const MANY: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_stands_below_the_line_of_the_sink() {
        let down = SinkView {
            form: "cef".into(),
            to: "syslog+tls://siem:6514".into(),
            waiting: 20_000,
            failures: 3,
            error: Some("refused".into()),
            error_at: Some(Time::now()),
            ..SinkView::default()
        };
        let refused = Check { problems: vec!["refused".into(), "read /k".into()], ..Check::default() };
        let file = Check { reachable: true, waiting: Some(4), ..Check::default() };
        let copy = Sink::new(crate::config::sinks::Target::parse("file:/a").unwrap());
        let sinks = [
            ("siem".to_owned(), joined(Some(&down), None, Some(&refused))),
            ("copy".to_owned(), joined(None, Some(&copy), Some(&file))),
        ];
        let text = anstream::adapter::strip_str(&shown(&sinks.into())).to_string();
        let wanted = "
sinks
  SINK  FORM  TO                      WORKS      WAITING  SENT
  copy  json  file:/a                 reachable  4        -
  siem  cef   syslog+tls://siem:6514  no         20000    0
  siem: last failure 0 s ago, of 3: refused
  siem: tried just now: read /k
";
        assert_eq!(text, wanted);
    }
}
