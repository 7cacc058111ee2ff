//! `chaperone baseline promote`: a role's file from what is usual, and what of recorded events it would have refused.

mod apply;
mod document;
mod judge;
mod report;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::Reading;
use crate::{
    baseline::promote::promote,
    cli::role::{Output, configured},
    config::{
        Documents,
        document::RoleDocument,
        problem::{Problems, Texts},
    },
    policy::{self, table::Table},
};

/// Turn what is usual into rules, and say what of recorded events they would have refused.
///
/// For a role with `network.default: baseline` they are a promotion, which --apply puts in force beside the role's own
/// rules. For any other it is the role's file with its own rules and these, for people to read, change and put in force.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The role
    #[arg(long, value_name = "NAME")]
    role: String,
    /// What becomes of what no rule names; not for a promotion
    #[arg(long, value_enum, default_value_t = Otherwise::Deny)]
    default: Otherwise,
    /// The role's mode; without it the one that it has, and alert for a new one
    #[arg(long, value_enum)]
    mode: Option<ModeName>,
    /// Take what learning has folded together too: *.example.com, a /24
    #[arg(long)]
    folded: bool,
    /// Write it to this file, which must not exist, and not to standard output
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Have the daemon put the promotion in force, as the role's next version
    #[arg(long, conflicts_with = "to")]
    apply: bool,
    /// Event files, the older ones first: say what of them would have been refused; without it those of the daemon
    #[arg(long, value_name = "FILE", num_args = 1..)]
    against: Vec<PathBuf>,
    /// Of them the last so many events
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    last: u64,
    #[command(flatten)]
    reading: Reading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Otherwise {
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
    let (_, baselines) = args.reading.at.load()?;
    let model = super::role(&baselines, &args.role)?;
    let proposed = promote(model, &args.reading.support(), args.folded);
    let (there, _, before) = configured(&args.reading.at.place.config)?;
    let role = there.roles.iter().find(|role| role.metadata.name.value == args.role);
    if let Some(role) = role.filter(|role| role.spec.goes_by_baseline()) {
        return apply::run(args, &proposed, (role, &there, &before));
    }
    if args.apply {
        bail!(
            "role {} does not go by its baseline: write `network.default: baseline` into its file, or put what this \
             writes without --apply in its place",
            args.role
        );
    }
    let written = document::write(&document::Wish {
        role: &args.role,
        before: role.map(|role: &RoleDocument| (role, &before)),
        mode: args.mode.map(|mode| match mode {
            ModeName::Observe => "observe",
            ModeName::Alert => "alert",
            ModeName::Enforce => "enforce",
        }),
        default: if args.default == Otherwise::Deny { "deny" } else { "alert" },
        proposed: &proposed,
        instances: model.instances(),
    });
    let table = table(&written.text)?;
    let dry_run = judge::judge(args, &table)?;
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

/// A file that is there is somebody's work.
fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let file = std::fs::File::create_new(path);
    let mut file = file.with_context(|| format!("make {} (it must not exist yet)", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))
}
