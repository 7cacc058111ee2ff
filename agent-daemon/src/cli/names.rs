//! `chaperone names`: addresses that are known by a name now, which rules' names they carry, and who said so.

use std::process::ExitCode;

use anstyle::Style;
use anyhow::Result;

use super::{
    Place, block_on,
    render::{self, BOLD, DIM, Table},
    role::Output,
};
use crate::control::{api::NameView, client};

/// Show addresses that answers gave a name which rules have.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let names: Vec<NameView> = block_on(client::get(&args.place.control_socket(), "/v1/names"))??;
    match args.output {
        Output::Json => anstream::println!("{}", serde_json::to_string(&names)?),
        Output::Text if names.is_empty() => anstream::println!(
            "no address is known by a name that rules have: none was asked for, or `chaperone metrics` says why its answer was \
             not believed (name_answers_…)"
        ),
        Output::Text => anstream::print!("{}", table(&names)),
    }
    Ok(ExitCode::SUCCESS)
}

fn table(names: &[NameView]) -> String {
    let mut table =
        Table::with_headings(&["NAME", "ADDRESS", "AS RULES HAVE IT", "SINCE", "EXPIRES", "RESOLVER"]);
    for name in names {
        table.row([
            (BOLD, render::harmless(&name.name)),
            (Style::new(), name.address.to_string()),
            (Style::new(), name.patterns.join(", ")),
            (DIM, name.since_s.map(|since| format!("{since} s ago")).unwrap_or_default()),
            (Style::new(), name.expires_s.map(|left| format!("in {left} s")).unwrap_or_default()),
            (DIM, name.resolver.map_or_else(|| "/etc/hosts".to_owned(), |resolver| resolver.to_string())),
        ]);
    }
    table.render(render::line_width())
}
