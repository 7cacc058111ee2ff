//! `role check` and `role explain`: policy without the daemon and without root; where a daemon answers, with what it knows.

mod now;

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use agent_common::verdict::Source;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::{
    cli::Place,
    config::{
        Documents,
        document::Protocol,
        problem::{Problems, nearest, quoted},
        promoted,
    },
    identity::registry::Registry,
    policy::{
        self,
        explain::{Act, Explanation, explain as explain_act},
        table::Table,
    },
};

/// The verbs of `chaperone role`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Check agents, roles and settings without putting them in force
    Check(Check),
    /// Say what becomes of a connection, and which rule decides
    Explain(Explain),
}

/// Exit status: 0 when all is well, 1 when something is wrong.
#[derive(Debug, Args)]
pub struct Check {
    /// Files, or directories (with their agents/ and roles/)
    #[arg(required = true, value_name = "FILE|DIR")]
    pub paths: Vec<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Exit status: 0 when there is an answer, whatever it is; 1 when something is wrong.
#[derive(Debug, Args)]
pub struct Explain {
    /// The role whose rules are asked
    #[arg(long)]
    pub role: String,
    /// HOST:PORT, or what a rule's `to` may name: unix:/path, vsock:CID:PORT, raw:icmp, …
    #[arg(long, value_name = "HOST:PORT")]
    pub to: String,
    /// Protocol of HOST:PORT
    #[arg(long, value_enum)]
    pub protocol: Option<ProtocolName>,
    /// Where agents/ and roles/ are
    #[arg(long, value_name = "DIR", default_value = "/etc/chaperone")]
    pub config: PathBuf,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// For people or for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

/// A protocol, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProtocolName {
    Tcp,
    Udp,
    Icmp,
}

/// `chaperone role …`
pub fn run(verb: &Verb) -> Result<ExitCode> {
    match verb {
        Verb::Check(args) => check(args),
        Verb::Explain(args) => explain(args),
    }
}

/// `chaperone role check FILE…|DIR…`
pub fn check(args: &Check) -> Result<ExitCode> {
    let (documents, found) = Documents::read_paths(&args.paths);
    let result = policy::build(&documents, found);
    let rules: usize = documents.roles.iter().map(|role| role.spec.network.rules.len()).sum();
    let mut out = std::io::stdout().lock();
    match (&result, args.output) {
        (Ok(_), Output::Text) => {
            let counts = [
                counted(documents.agents.len(), "agent"),
                counted(documents.roles.len(), "role"),
                counted(rules, "rule"),
            ];
            writeln!(out, "ok: {}", counts.join(", "))?;
        }
        (Err(problems), Output::Text) => tell(problems)?,
        (result, Output::Json) => {
            let nothing = Problems::default();
            let report = json!({
                "ok": result.is_ok(),
                "agents": documents.agents.len(),
                "roles": documents.roles.len(),
                "rules": rules,
                "problems": result.as_ref().err().unwrap_or(&nothing),
            });
            writeln!(out, "{report}")?;
        }
    }
    Ok(if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `chaperone role explain --role R --to HOST:PORT`
pub fn explain(args: &Explain) -> Result<ExitCode> {
    let act = Act::parse(&args.to, args.protocol.map(protocol))
        .map_err(|fault| anyhow::anyhow!("{} ({})", fault.what, fault.remedy))
        .context("--to")?;
    let (_, registry, table) = configured(&args.config)?;
    if !registry.roles().any(|(_, name)| name == args.role) {
        let known = nearest(&args.role, registry.roles().map(|(_, name)| name));
        bail!("there is no role {} in {} ({known})", quoted(&args.role), args.config.display());
    }
    let explanation = explain_act(&table, &args.role, &act);
    let now = now::now(&table, &args.role, &act, &args.config);
    let mut out = std::io::stdout().lock();
    match args.output {
        Output::Json => {
            let mut explanation = serde_json::to_value(&explanation)?;
            if let Some(now) = now {
                explanation["now"] = serde_json::to_value(now)?;
            }
            writeln!(out, "{explanation}")?;
        }
        Output::Text => {
            write!(out, "{}", for_people(&explanation))?;
            if let Some(now) = now {
                write!(out, "{}", now::for_people(&now))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What lies in a configuration's directory and what was promoted, with registry and table; what is wrong with it is told.
pub fn configured(config: &Path) -> Result<(Documents, Registry, Table)> {
    let place = Place { config: config.into(), socket: None };
    let state_dir = place.is_a_daemons().then(|| place.settings().unwrap_or_default().state_dir);
    let denied = |error: std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    let unreadable = |dir: &PathBuf| std::fs::read_dir(promoted::directory(dir)).is_err_and(denied);
    let state_dir = state_dir.filter(|dir| {
        let unreadable = unreadable(dir);
        if unreadable {
            anstream::eprintln!("what was promoted cannot be read, and is left out: run this as root");
        }
        !unreadable
    });
    let (documents, found) = Documents::read(config, state_dir.as_deref());
    match policy::build(&documents, found) {
        Ok((registry, table)) => Ok((documents, registry, table)),
        Err(problems) => {
            tell(&problems)?;
            bail!("the configuration in {} has mistakes", config.display());
        }
    }
}

/// Every problem with its source line, and how many there are, to standard error.
fn tell(problems: &Problems) -> Result<()> {
    let stderr = std::io::stderr();
    let colour = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut err = stderr.lock();
    for problem in &problems.0 {
        writeln!(err, "{}", problem.for_people(colour))?;
    }
    writeln!(err, "{}", counted(problems.0.len(), "error"))?;
    Ok(())
}

fn for_people(explanation: &Explanation) -> String {
    let Explanation { role, to, class, mode, verdict, wanted, source, rule, others } = explanation;
    let mode = mode.map_or("no policy", |mode| mode.name());
    let mut lines = vec![format!("{:<8} {to}   (role {role}, {mode})", verdict.name())];
    lines.push(match (rule, source) {
        (Some(rule), _) => format!("because  {}   {}", rule.text, rule.place),
        (None, Source::Default) => {
            format!(
                "because  no rule names it, and the role's default for {} is {}",
                class.name(),
                wanted.name()
            )
        }
        (None, source) => format!("because  {}", source.name().replace('_', " ")),
    });
    if verdict != wanted {
        lines.push(format!("but      the role's mode is {mode}: in enforce it would be {}", wanted.name()));
    }
    lines.extend(
        others
            .iter()
            .map(|other| format!("not      {}   {}: {}", other.rule.text, other.rule.place, other.why)),
    );
    lines.join("\n") + "\n"
}

fn protocol(name: ProtocolName) -> Protocol {
    match name {
        ProtocolName::Tcp => Protocol::Tcp,
        ProtocolName::Udp => Protocol::Udp,
        ProtocolName::Icmp => Protocol::Icmp,
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
