//! `chaperone baseline export` and `import`: baselines of several hosts become one.

use std::{
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::At;
use crate::{
    baseline::document::Document,
    cli::{block_on, role::Output},
    control::{api::Imported, client},
};

/// Write baselines to standard output: one JSON document a line and role.
#[derive(Debug, clap::Args)]
pub struct Export {
    /// Only of this role
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    #[command(flatten)]
    at: At,
}

/// Take in what other hosts have exported; the same twice changes nothing.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// Exported files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    at: At,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Runs `export`.
pub fn export(args: &Export) -> Result<ExitCode> {
    let (_, baselines) = args.at.load()?;
    if let Some(role) = &args.role {
        super::role(&baselines, role)?;
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    let wanted = |name: &str| args.role.as_deref().is_none_or(|role| role == name);
    for (role, model) in baselines.models.iter().filter(|(name, _)| wanted(name)) {
        serde_json::to_writer(&mut out, &Document::of(role, model))?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `import`.
pub fn import(args: &Import) -> Result<ExitCode> {
    let store = args.at.writable()?;
    let mut models = Vec::new();
    for path in &args.files {
        let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
        for (at, line) in BufReader::new(file).lines().enumerate() {
            let line = line.with_context(|| format!("read {}", path.display()))?;
            if line.trim().is_empty() {
                continue;
            }
            let place = || format!("{}:{}", path.display(), at + 1);
            let (role, model) = Document::parse(&line).map_err(anyhow::Error::msg).with_context(place)?;
            models.push((path.display().to_string(), line, role, model));
        }
    }
    // All or nothing: what is wrong in the last file leaves the store as it was.
    match store {
        Some(mut store) => {
            let mut baselines = store.load()?;
            for (_, _, role, model) in &models {
                baselines.merge(role, model);
            }
            store.flush(&mut baselines, &[])?;
        }
        None => {
            let lines: Vec<&str> = models.iter().map(|(_, line, ..)| &**line).collect();
            let body = lines.join("\n").into_bytes();
            let _: Vec<Imported> =
                block_on(client::ask_with(&args.at.place.control_socket(), "/v1/baseline/import", body))??;
        }
    }
    for (file, _, role, model) in &models {
        let behaviours = model.len();
        match args.output {
            Output::Json => {
                anstream::println!("{}", json!({ "file": file, "role": role, "behaviours": behaviours }));
            }
            Output::Text => anstream::println!("{file}: role {role}, {behaviours} behaviours"),
        }
    }
    Ok(ExitCode::SUCCESS)
}
