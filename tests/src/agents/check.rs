//! What must be seen to hold of every agent's run.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{
    ends::{NAMED, UNNAMED},
    plan::ROLE,
    seen::{Seen, fetches, is_to, runs, tell},
};
use crate::case::{Outcome, Tally};

type Check = fn(&mut Seen) -> Result<Outcome>;

/// Every check of one run, told under the agent's name.
pub fn all(tally: &mut Tally, seen: &mut Seen) {
    for (what, check) in CHECKS {
        let name = format!("{}: {what}", seen.ran.agent.name);
        tally.perform(&name, || check(seen));
    }
}

const CHECKS: &[(&str, Check)] = &[
    ("ends by itself at its script's end", ends),
    ("is recognised at its first instruction, as itself and not as its interpreter", recognised),
    ("has all that it starts in its own instance", followed),
    ("is told apart from a person who does the same beside it", apart),
    ("reaches what its role names", reaches),
    ("is refused what its role does not name", refused),
    ("sees the refusal itself, and tells its model", sees),
];

fn ends(seen: &mut Seen) -> Result<Outcome> {
    let ran = seen.ran;
    ensure!(ran.status == 0, "it ended with status {}: {}", ran.status, ran.complaint);
    let last = ran.agent.commands().len();
    ensure!(seen.model.iter().any(|request| request["step"] == last), "its script did not get to the end");
    let of_instance = seen.of_instance()?;
    let end = of_instance.iter().position(|event| event["exit"]["instance_ended"] == true);
    let end = end.context("no process_exit says that its instance ended")?;
    ensure!(of_instance[end]["kind"] == "process_exit", "{}", tell(of_instance[end]));
    // What the daemon says of an act may come later than the act; of processes that end at once, any may be told last.
    let said = |kind: &str| matches!(kind, "program_identified" | "finding" | "reaction" | "process_exit");
    let acts = of_instance[end + 1..].iter().filter(|event| !event["kind"].as_str().is_some_and(said));
    let later: Vec<String> = acts.map(|event| tell(event)).collect();
    ensure!(later.is_empty(), "it acted after its end: {}", later.join(" ; "));
    Ok(Outcome::Held)
}

fn recognised(seen: &mut Seen) -> Result<Outcome> {
    let (agent, first) = (seen.ran.agent, seen.first()?);
    let how = agent.launched_by()?;
    ensure!(
        first["agent"] == agent.name && first["role"] == ROLE,
        "its first exec is no agent's: {}",
        tell(first)
    );
    ensure!(first["recognised"] == how, "not recognised by {how}: {}", tell(first));
    ensure!(first["match_entry"] == 0, "by entry {}", first["match_entry"]);
    if how == "script" {
        ensure!(first["script"] == agent.exe, "the script is {}", first["script"]);
    }
    let of_instance = seen.of_instance()?;
    ensure!(of_instance[0] == first, "before it came: {}", tell(of_instance[0]));
    ensure!(
        id(&first["instance"]) == id(&first["exec_id"]) && id(&first["exec_id"]).is_some(),
        "the instance is older than its first image: {}",
        tell(first)
    );
    let again: Vec<String> = seen
        .execs()
        .filter(|exec| exec["agent"] == agent.name && exec["recognised"].is_string() && *exec != first)
        .map(tell)
        .collect();
    ensure!(again.is_empty(), "recognised again: {}", again.join(" ; "));
    Ok(Outcome::Held)
}

/// What stands behind the letter of an id.
fn id(value: &Value) -> Option<&str> {
    value.as_str().and_then(|id| id.split_once('-')).map(|(_, number)| number)
}

fn followed(seen: &mut Seen) -> Result<Outcome> {
    let (agent, instance) = (seen.ran.agent, seen.instance()?);
    let tree = seen.tree_of_agent()?;
    for exec in &tree {
        ensure!(exec["origin"] == "agent" && exec["instance"] == instance, "not its own: {}", tell(exec));
    }
    for event in seen.of_instance()? {
        ensure!(
            event["origin"] == "agent" && event["agent"] == agent.name,
            "not the agent's: {}",
            tell(event)
        );
        ensure!(
            event["kind"] != "process_exec" || tree.iter().any(|exec| exec["exec_id"] == event["exec_id"]),
            "in its instance, but nothing of it executed it: {}",
            tell(event)
        );
    }
    let done = |program: &str| tree.iter().filter(|exec| runs(exec, program)).count();
    let fetched = tree.iter().filter(|exec| fetches(exec, &agent.name)).count();
    ensure!(done("id") >= 1 && fetched == 2, "it ran id {} times, curl {fetched} times", done("id"));
    Ok(Outcome::Held)
}

fn apart(seen: &mut Seen) -> Result<Outcome> {
    let agent = seen.ran.agent;
    let tree = seen.tree_of_person()?;
    for exec in &tree {
        ensure!(exec["origin"] == "human" && exec["instance"].is_null(), "not a person's: {}", tell(exec));
        ensure!(exec["agent"].is_null(), "taken for {}: {}", exec["agent"], tell(exec));
        let terminal = exec["tty"].as_str().is_some_and(|tty| tty.starts_with("pts/"));
        let evidence =
            exec["evidence"].as_array().is_some_and(|words| words.iter().any(|word| word == "terminal"));
        ensure!(terminal && evidence, "without a terminal: {}", tell(exec));
    }
    for program in ["id", "node"] {
        ensure!(
            tree.iter().any(|exec| runs(exec, program)),
            "the person ran no {program}: {}",
            seen.ran.screen
        );
    }
    let fetched = tree.iter().filter(|exec| fetches(exec, &agent.name)).count();
    ensure!(fetched == 2, "the person ran curl {fetched} times: {}", seen.ran.screen);
    let all = seen.execs().filter(|exec| fetches(exec, &agent.name)).count();
    ensure!(all == 4, "two of the agent's and two of the person's, but {all} in all");
    let uids: Vec<&Value> = tree.iter().map(|exec| &exec["uid"]).chain([&seen.first()?["uid"]]).collect();
    ensure!(uids.windows(2).all(|pair| pair[0] == pair[1]), "not the same user: {uids:?}");
    ensure!(
        seen.arrived(NAMED, true) == 1 && seen.arrived(UNNAMED, true) == 1,
        "the person was not let through"
    );
    Ok(Outcome::Held)
}

fn reaches(seen: &mut Seen) -> Result<Outcome> {
    let arrived = seen.arrived(NAMED, false);
    ensure!(arrived == 1, "{arrived} connections of the agent arrived: {}", results(seen));
    let attempts = seen.attempts()?;
    for server in [super::ends::MODEL, NAMED] {
        let to: Vec<&&Value> = attempts.iter().filter(|event| is_to(event, server)).collect();
        ensure!(!to.is_empty(), "no event tells of a connect to {server}");
        for event in to {
            ensure!(event["verdict"] == "allow", "{}", tell(event));
            let by_rule = event["decision"]["rule"]["text"].as_str();
            ensure!(by_rule.is_some_and(|text| text.contains(&server.to_string())), "{}", event["decision"]);
        }
    }
    Ok(Outcome::Held)
}

fn refused(seen: &mut Seen) -> Result<Outcome> {
    let attempts = seen.attempts()?;
    let to: Vec<&&Value> = attempts.iter().filter(|event| is_to(event, UNNAMED)).collect();
    ensure!(!to.is_empty(), "no event tells of the attempt");
    for event in to {
        ensure!(event["verdict"] == "deny" && event["decision"]["errno"] == "EPERM", "{}", tell(event));
        ensure!(runs(event, "curl"), "not curl: {}", tell(event));
    }
    let (arrived, silent) = (seen.arrived(UNNAMED, false), seen.arrived_silently());
    if arrived + silent > 0 {
        bail!("{arrived} requests and {silent} silent connections arrived all the same");
    }
    let others: Vec<String> = attempts
        .iter()
        .filter(|event| event["verdict"] == "deny" && !is_to(event, UNNAMED))
        .map(|e| tell(e))
        .collect();
    ensure!(others.is_empty(), "refused what it needs: {}", others.join(" ; "));
    Ok(Outcome::Held)
}

fn sees(seen: &mut Seen) -> Result<Outcome> {
    let results = seen.results();
    let [who, allowed, refused] = results[..] else { bail!("{} results instead of three", results.len()) };
    ensure!(who.contains("uid=0(root)"), "id said {who}");
    ensure!(allowed.contains("hello"), "the server that the role names said {allowed}");
    ensure!(refused.contains("curl: (7)"), "the refused curl said {refused}");
    Ok(Outcome::Held)
}

fn results(seen: &Seen) -> String {
    seen.results().join(" | ")
}
