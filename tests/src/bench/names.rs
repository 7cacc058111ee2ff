//! Names: real clients by real resolvers, thousands of fresh names in a row, allowed and not in turn.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::guest::names::real::{
    Stage,
    clients::{CLIENTS, PYTHON},
    kept,
    resolvers::{WAYS, Way},
};

/// Names in a row, where one client asks for all of them; another number by CHAPERONE_NAMES, none for what resolvers keep
/// alone. CHAPERONE_WAYS has words of some of the ways.
const NAMES: usize = 10_000;
/// Names of a client that is started anew for each.
const STARTED: usize = 12;

pub fn run(mode: &str) -> Result<Value> {
    let names = match std::env::var("CHAPERONE_NAMES") {
        Ok(names) => names.parse().context("CHAPERONE_NAMES is a number")?,
        Err(_) => NAMES,
    };
    let only = std::env::var("CHAPERONE_WAYS").unwrap_or_default();
    let wanted =
        |way: &&Way| only.split(',').any(|word| way.name.contains(word)) && (names != 0 || way.keeps);
    let mut stage = Stage::set(mode)?;
    let mut rows = Vec::new();
    for way in WAYS.iter().filter(wanted) {
        stage.choose(way)?;
        for client in CLIENTS.iter().filter(|client| client.is_here()) {
            let names = match (client.name == PYTHON.name, way.long, client.once) {
                (true, true, _) => names,
                (_, _, true) => names / 10,
                (_, _, false) => STARTED.min(names),
            };
            if names != 0 {
                rows.push(stage.row(client, names)?);
                eprintln!("{}", serde_json::to_string(&rows.last())?);
            }
        }
        if way.keeps {
            rows.push(kept(&mut stage)?);
            eprintln!("{}", serde_json::to_string(&rows.last())?);
        }
    }
    let sum = |of: fn(&_) -> usize| rows.iter().map(of).sum::<usize>();
    let (wrong, tried) = (sum(|row| row.wrong()), sum(|row| row.tried));
    // A row in which nothing was believed shows nothing.
    let silent = rows.iter().filter(|row| row.believed == 0).count();
    Ok(json!({ "wrong": wrong + silent, "tried": tried, "rows": rows }))
}
