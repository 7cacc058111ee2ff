//! `chaperone ps`: the tree of processes, and whose doing each of them is.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
};

use agent_common::identity::Origin;
use anstyle::Style;
use anyhow::Result;

use super::{
    Place, block_on,
    render::{self, DIM, Table},
    role::Output,
};
use crate::{
    control::{api::ProcessView, client},
    event::word::Word,
};

/// Show all processes as a tree, with whose doing they are: agent, human or system.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Agents' processes alone.
    #[arg(long)]
    agents: bool,
    /// Kernel threads too.
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    place: Place,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let all: Vec<ProcessView> = block_on(client::get(&args.place.control_socket(), "/v1/ps"))??;
    let shown = |p: &ProcessView| (args.all || !p.kernel_thread) && (!args.agents || is_agents(p));
    let wanted: Vec<ProcessView> = all.into_iter().filter(shown).collect();
    match args.output {
        Output::Json => anstream::println!("{}", serde_json::to_string(&wanted)?),
        Output::Text => anstream::print!("{}", tree(&wanted).render(render::line_width())),
    }
    Ok(ExitCode::SUCCESS)
}

fn is_agents(process: &ProcessView) -> bool {
    process.label.as_ref().is_some_and(|label| label.origin.known() == Some(Origin::Agent))
}

/// Processes below their parents; one whose parent is not among them stands at the left.
fn tree(all: &[ProcessView]) -> Table {
    let known: BTreeSet<u32> = all.iter().map(|p| p.pid).collect();
    let mut children: BTreeMap<u32, Vec<&ProcessView>> = BTreeMap::new();
    for process in all {
        let parent = if known.contains(&process.ppid) { process.ppid } else { 0 };
        children.entry(parent).or_default().push(process);
    }
    let mut table = Table::with_headings(&["PID", "ORIGIN", "AGENT/ROLE", "INSTANCE", "EVIDENCE", "COMMAND"]);
    let mut drawn = BTreeSet::new();
    let mut open: Vec<(&ProcessView, Vec<bool>)> =
        children.get(&0).into_iter().flatten().rev().map(|p| (*p, Vec::new())).collect();
    while let Some((process, lasts)) = open.pop() {
        // Two looks at a changing /proc may disagree on who is whose parent; each process is drawn once.
        if !drawn.insert(process.pid) {
            continue;
        }
        table.row(row(process, &branches(&lasts)));
        let below = children.get(&process.pid).map_or(&[][..], Vec::as_slice);
        for (at, child) in below.iter().enumerate().rev() {
            let mut lasts = lasts.clone();
            lasts.push(at + 1 == below.len());
            open.push((child, lasts));
        }
    }
    table
}

/// `│  └─ ` for a process whose ancestors' places among their siblings are known.
fn branches(lasts: &[bool]) -> String {
    let Some((last, above)) = lasts.split_last() else { return String::new() };
    let mut text: String = above.iter().map(|last| if *last { "   " } else { "│  " }).collect();
    text.push_str(if *last { "└─ " } else { "├─ " });
    text
}

fn row(process: &ProcessView, branches: &str) -> [(Style, String); 6] {
    let label = process.label.as_ref();
    let origin = label.map_or_else(Word::default, |l| l.origin);
    let style = if process.kernel_thread { DIM } else { render::origin(origin) };
    let who = label.and_then(|l| Some(format!("{}/{}", l.agent.as_ref()?, l.role.as_ref()?)));
    let instance = label.and_then(|l| l.instance).map(|id| id.to_string());
    let evidence: Vec<&str> = label.map(|l| l.evidence.words().collect()).unwrap_or_default();
    let command = match (process.argv.is_empty(), process.kernel_thread) {
        (false, _) => render::command(&process.argv),
        (true, _) => format!("[{}]", render::harmless(&process.comm)),
    };
    [
        (Style::new(), process.pid.to_string()),
        (style, if label.is_some() { origin.name().to_owned() } else { "-".to_owned() }),
        (style, who.unwrap_or_else(|| "-".to_owned())),
        (DIM, instance.unwrap_or_else(|| "-".to_owned())),
        (DIM, if evidence.is_empty() { "-".to_owned() } else { evidence.join(",") }),
        (style, format!("{branches}{command}")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{control::api::Labelled, event::word::InstanceId};

    fn process(pid: u32, ppid: u32, comm: &str, label: Option<Labelled>) -> ProcessView {
        ProcessView { pid, ppid, comm: comm.to_owned(), label, ..ProcessView::default() }
    }

    #[test]
    fn children_stand_below_their_parents() {
        let agent = Labelled {
            origin: Origin::Agent.into(),
            instance: InstanceId::some(5),
            agent: Some("bot".into()),
            role: Some("r".into()),
            ..Labelled::default()
        };
        let human = Labelled { origin: Origin::Human.into(), ..Labelled::default() };
        let all = [
            process(1, 0, "init", None),
            process(10, 1, "sh", Some(human)),
            process(11, 10, "bot", Some(agent.clone())),
            process(12, 1, "b", None),
            process(99, 98, "orphan", Some(agent)),
        ];
        let text = anstream::adapter::strip_str(&tree(&all).render(usize::MAX)).to_string();
        let expected = "\
PID  ORIGIN  AGENT/ROLE  INSTANCE            EVIDENCE  COMMAND
1    -       -           -                   -         [init]
10   human   -           -                   -         ├─ [sh]
11   agent   bot/r       i-0000000000000005  -         │  └─ [bot]
12   -       -           -                   -         └─ [b]
99   agent   bot/r       i-0000000000000005  -         [orphan]
";
        assert_eq!(text, expected);
    }
}
