//! `chaperone agent list|show`: who is registered, who runs without being so, and which instances live.

use std::process::ExitCode;

use anstyle::Style;
use anyhow::Result;

use super::{
    Place, block_on,
    render::{self, BOLD, DIM, GOOD, Table, WARN},
    role::Output,
};
use crate::{
    control::{api::AgentView, client},
    event::{AgentState, word::Time},
    identity::lineage::Instance,
    pipeline::host,
};

/// Show agents and their live instances: the registered, and those that run without being registered.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List registered agents, and those of the built-in catalogue that run here.
    List(List),
    /// Show one agent and each of its live instances.
    Show(Show),
}

#[derive(Debug, clap::Args)]
struct List {
    /// All of the built-in catalogue too, whether they run here or not.
    #[arg(long)]
    catalogue: bool,
    #[command(flatten)]
    place: Place,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// The agent's name.
    name: String,
    #[command(flatten)]
    place: Place,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.verb {
        Verb::List(args) => {
            let mut agents: Vec<AgentView> =
                block_on(client::get(&args.place.control_socket(), "/v1/agents"))??;
            agents.sort_by(|a, b| (is_unregistered(a), &a.name).cmp(&(is_unregistered(b), &b.name)));
            agents.retain(|agent| args.catalogue || !is_unregistered(agent) || !agent.instances.is_empty());
            match args.output {
                Output::Json => anstream::println!("{}", serde_json::to_string(&agents)?),
                Output::Text if agents.is_empty() => {
                    anstream::println!(
                        "no agent is registered, and none of the built-in catalogue runs; agents are files below \
                         /etc/chaperone/agents/, and `chaperone agent list --catalogue` shows the catalogue"
                    );
                }
                Output::Text => {
                    anstream::print!("{}", table(&agents, args.catalogue));
                    if !args.catalogue && agents.iter().any(is_unregistered) {
                        anstream::println!("{}", render::paint(DIM, UNREGISTERED));
                    }
                }
            }
        }
        Verb::Show(args) => {
            let path = format!("/v1/agents/{}", args.name);
            let agent: AgentView = block_on(client::get(&args.place.control_socket(), &path))??;
            match args.output {
                Output::Json => anstream::println!("{}", serde_json::to_string(&agent)?),
                Output::Text => anstream::print!("{}", page(&agent)),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn is_unregistered(agent: &AgentView) -> bool {
    agent.state.is_some_and(|state| state.known() == Some(AgentState::Unregistered))
}

fn table(agents: &[AgentView], catalogue: bool) -> String {
    let mut table = Table::with_headings(&["AGENT", "ROLE", "MODE", "LIVE", "OWNER", "MATCH"]);
    for agent in agents {
        let live = agent.instances.len();
        let role = if is_unregistered(agent) { WARN } else { Style::new() };
        table.row([
            (BOLD, agent.name.clone()),
            (role, agent.role.clone()),
            (Style::new(), agent.mode.map_or("-", |mode| mode.name()).to_owned()),
            (if live > 0 { GOOD } else { DIM }, live.to_string()),
            (Style::new(), agent.owner.clone()),
            (
                DIM,
                if is_unregistered(agent) && !catalogue {
                    "built-in catalogue".into()
                } else {
                    matches(agent)
                },
            ),
        ]);
    }
    table.render(render::line_width())
}

/// `exe /opt/bot/run, unit bot.service`
fn matches(agent: &AgentView) -> String {
    let entry = |value: &serde_json::Value| {
        let (kind, what) = value.as_object()?.iter().next()?;
        Some(format!("{kind} {}", what.as_str().unwrap_or_default()))
    };
    let all: Vec<String> = agent.matches.iter().filter_map(entry).collect();
    if all.is_empty() { "only by chaperone run".to_owned() } else { all.join(", ") }
}

fn page(agent: &AgentView) -> String {
    let mut out = format!("{}\n", render::paint(BOLD, &agent.name));
    let mut facts = Table::default();
    let registered = if is_unregistered(agent) {
        format!("no: recognised by the built-in {}, observed, never refused anything", agent.source)
    } else {
        agent.source.clone()
    };
    let mode = agent.mode.map_or_else(String::new, |mode| format!(" ({})", mode.name()));
    for (name, text) in [
        ("role", Some(format!("{}{mode}", agent.role))),
        ("owner", Some(agent.owner.clone())),
        ("version", agent.version.clone()),
        ("description", agent.description.clone()),
        ("match", Some(matches(agent))),
        ("registered", Some(registered)),
        ("known from", agent.labels.get("source").filter(|_| is_unregistered(agent)).cloned()),
        ("as of", agent.labels.get("date").filter(|_| is_unregistered(agent)).cloned()),
        ("instances", Some(agent.instances.len().to_string())),
    ] {
        if let Some(text) = text {
            facts.row([(DIM, format!("  {name}")), (Style::new(), text)]);
        }
    }
    out.push_str(&facts.render(render::line_width()));
    if !agent.instances.is_empty() {
        let mut table =
            Table::with_headings(&["  INSTANCE", "PID", "TASKS", "STARTED", "BY", "PARENT", "PROGRAM"]);
        for instance in &agent.instances {
            table.row(row(instance));
        }
        out.push('\n');
        out.push_str(&table.render(render::line_width()));
    }
    out
}

const UNREGISTERED: &str = "Agents with the role `unregistered` that have no owner are recognised by the built-in \
     catalogue, and only observed. To bound one, register it: a file below /etc/chaperone/agents/ whose `match` names its program.";

fn row(instance: &Instance) -> [(Style, String); 7] {
    let started = match instance.started_ns {
        0 => "-".to_owned(),
        ns => Time(ns + host::boot_offset_ns()).to_string()[..19].replace('T', " "),
    };
    let parent = instance.parent.map_or_else(|| "-".to_owned(), |id| id.to_string());
    [
        (Style::new(), format!("  {}", instance.instance)),
        (Style::new(), instance.root_pid.to_string()),
        (Style::new(), instance.tasks.to_string()),
        (Style::new(), started),
        (Style::new(), instance.recognised.name().to_owned()),
        (DIM, parent),
        (Style::new(), render::harmless(instance.exe.as_deref().unwrap_or("-"))),
    ]
}
