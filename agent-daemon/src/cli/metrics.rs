//! `chaperone metrics`: the daemon's counters as Prometheus reads them.

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::{Place, block_on, role::Output};
use crate::control::client;

/// Print the daemon's counters (Prometheus text; the daemon serves the same at /metrics).
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// Form of the output: Prometheus text, or a list of {name, labels, value}.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let text = block_on(client::get_text(&args.place.control_socket(), "/v1/metrics"))??;
    match args.output {
        Output::Text => std::io::stdout().write_all(text.as_bytes())?,
        Output::Json => {
            let all: Vec<Value> =
                text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect();
            writeln!(std::io::stdout(), "{}", Value::from(all))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `name{label="text",…} value`
fn sample(line: &str) -> Option<Value> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, mut rest) = series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest));
    let mut labels = Map::new();
    while let Some((label, quoted)) = rest.split_once("=\"") {
        let mut text = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next()? {
                (end, '"') => break end,
                (_, '\\') => text.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => text.push(other),
            }
        };
        labels.insert(label.trim_start_matches(',').to_owned(), text.into());
        rest = &quoted[end + 1..];
    }
    Some(json!({ "name": name, "labels": labels, "value": value.parse::<f64>().ok()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_taken_apart() {
        assert_eq!(sample("a 1"), Some(json!({ "name": "a", "labels": {}, "value": 1.0 })));
        assert_eq!(
            sample(r#"a{b="c,\"d\\",e="f g"} 2.5"#),
            Some(json!({ "name": "a", "labels": { "b": "c,\"d\\", "e": "f g" }, "value": 2.5 }))
        );
        assert_eq!(sample("rubbish"), None);
    }
}
