//! `chaperone baseline promote`: a role's file from what is usual, and what of recorded events it would have refused.

mod document;
mod report;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{Reading, progress::Progress};
use crate::{
    baseline::promote::promote,
    cli::role::{Output, configured},
    config::{
        Documents,
        document::RoleDocument,
        problem::{Problems, Texts},
    },
    policy::{self, dry_run::DryRun, table::Table},
};

/// Write a role's file from what is usual, for people to read, change and put in force.
///
/// Nothing is put in force by it. Rules that the role has stay as they are, and go before. With --against, says what of
/// recorded events the file would have refused.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The role
    #[arg(long, value_name = "NAME")]
    role: String,
    /// Where agents/ and roles/ are: rules that the role has there are kept
    #[arg(long, value_name = "DIR", default_value = "/etc/chaperone")]
    config: PathBuf,
    /// What becomes of what no rule names
    #[arg(long, value_enum, default_value_t = Rest::Deny)]
    default: Rest,
    /// The role's mode; without it the one that it has, and alert for a new one
    #[arg(long, value_enum)]
    mode: Option<ModeName>,
    /// Take what learning has folded together too: *.example.com, a /24
    #[arg(long)]
    folded: bool,
    /// Write the role to this file, which must not exist, and not to standard output
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Event files, the older ones first: say what of them would have been refused
    #[arg(long, value_name = "FILE", num_args = 1..)]
    against: Vec<PathBuf>,
    #[command(flatten)]
    reading: Reading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Rest {
    Deny,
    Alert,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ModeName {
    Observe,
    Alert,
    Enforce,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let (_, baselines) = super::load(&args.reading.at.store)?;
    let model = super::role(&baselines, &args.role)?;
    let proposed = promote(model, &args.reading.support.support(), args.folded);
    let (there, _, before) = configured(&args.config)?;
    let role = there.roles.iter().find(|role| role.metadata.name.value == args.role);
    let written = document::write(&document::Wish {
        role: &args.role,
        before: role.map(|role: &RoleDocument| (role, &before)),
        mode: args.mode.map(|mode| match mode {
            ModeName::Observe => "observe",
            ModeName::Alert => "alert",
            ModeName::Enforce => "enforce",
        }),
        default: if args.default == Rest::Deny { "deny" } else { "alert" },
        proposed: &proposed,
        instances: model.instances(),
    });
    let table = table(&written.text)?;
    let dry_run = match args.against.as_slice() {
        [] => None,
        files => Some(against(files, &args.role, &table)?),
    };
    if let Some(path) = &args.to {
        write(path, &written.text)?;
    }
    if args.reading.output == Output::Json {
        let report = json!({ "document": written.text, "added": written.added, "proposed": proposed, "dry_run": dry_run });
        anstream::println!("{report}");
        return Ok(ExitCode::SUCCESS);
    }
    if args.to.is_none() {
        anstream::print!("{}", written.text);
    }
    anstream::eprint!("{}", report::for_people(&written, &proposed, dry_run.as_ref()));
    Ok(ExitCode::SUCCESS)
}

/// The table of what was written: it must be what the daemon would read.
fn table(text: &str) -> Result<Table> {
    let name: Arc<str> = "the promoted role".into();
    let (documents, found) = Documents::from_texts(&Texts([(name, text.into())].into()));
    policy::build(&documents, found).map(|(_, table)| table).map_err(|Problems(all)| {
        let all: Vec<String> = all.iter().map(|p| p.for_people(false)).collect();
        anyhow::anyhow!("the promoted role cannot be put in force:\n{}", all.join("\n"))
    })
}

fn against(files: &[PathBuf], role: &str, table: &Table) -> Result<DryRun> {
    let mut run = DryRun::default();
    for path in files {
        let Some((file, _)) = super::open(path)? else { continue };
        let mut progress = Progress::new(format!("judge {}", path.display()), file.metadata()?.len());
        let mut replay = super::replay(file, path, 0, 0);
        while let Some((_, seen)) = replay.step()? {
            if replay.lines.is_multiple_of(PROGRESS_LINES) {
                progress.at(replay.bytes);
            }
            if seen.role.as_deref() == Some(role) {
                run.take(table, role, &seen);
            }
        }
        progress.end();
        super::tell(path, &replay.faults);
    }
    Ok(run)
}

/// A file that is there is somebody's work.
fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let file = std::fs::File::create_new(path);
    let mut file = file.with_context(|| format!("make {} (it must not exist yet)", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))
}

const PROGRESS_LINES: u64 = 10_000;
