//! A trail for people: one line a node, in order of time.

use super::line;
use crate::{
    cli::render::{DIM, cut_painted, paint},
    trail::{
        NodeKind, Trail,
        view::{Content, Row},
    },
};

/// The whole, no line wider than `width`.
pub(super) fn page(trail: &Trail, rows: &[Row], width: usize) -> String {
    let mut out = String::new();
    for head in line::head(trail) {
        out.push_str(&cut_painted(&head, width));
        out.push('\n');
    }
    out.push('\n');
    // Which rows are their parents' last, and which have others below them.
    let mut last_of = std::collections::HashMap::new();
    // A parent stands before its children.
    let mut depths: Vec<usize> = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        last_of.insert(row.parent, at);
        depths.push(row.parent.map_or(0, |parent| depths[parent] + 1));
    }
    for (at, row) in rows.iter().enumerate() {
        let (when, clock, words) = match &row.content {
            Content::Node(at_node) => {
                let node = &trail.nodes[*at_node];
                let since = line::relative(node.event.time.0.saturating_sub(trail.first.0));
                // Times of day stand where the tree branches; between them the distance is enough.
                let branches =
                    node.kind == NodeKind::Image && last_of.contains_key(&Some(at)) || row.parent.is_none();
                let clock = if branches { line::clock(node.event.time) } else { String::new() };
                // A finding is of the act above it: the time is the same.
                let since = if node.kind == NodeKind::Finding { String::new() } else { since };
                (since, clock, line::node(trail, *at_node, &row.findings))
            }
            Content::Folded(folded) => (
                String::new(),
                String::new(),
                line::Words { what: paint(DIM, line::fold(folded)), tags: String::new() },
            ),
        };
        let branches = branches(rows, &last_of, at, depths[at]);
        let used = AHEAD + branches.chars().count();
        let words = words.within(width.saturating_sub(used));
        let line = format!("{}{words}", paint(DIM, format!("{when:>8} {clock:8} {branches}")));
        out.push_str(cut_painted(&line, width).trim_end());
        out.push('\n');
    }
    out
}

/// `│  └─ `, and of what lies deeper than fits, how much: `+12 │  └─ `.
fn branches(
    rows: &[Row],
    last_of: &std::collections::HashMap<Option<usize>, usize>,
    at: usize,
    depth: usize,
) -> String {
    let mut parts = Vec::new();
    let mut here = at;
    while let Some(parent) = rows[here].parent.filter(|_| parts.len() < INDENT_MAX) {
        let last = last_of.get(&Some(parent)) == Some(&here);
        parts.push(match (here == at, last) {
            (true, true) => "└─ ",
            (true, false) => "├─ ",
            (false, true) => "   ",
            (false, false) => "│  ",
        });
        here = parent;
    }
    let above = depth - parts.len();
    let begin = if above > 0 { format!("+{above} ") } else { String::new() };
    begin + &parts.iter().rev().copied().collect::<String>()
}

/// Levels that are drawn: more would leave no room for what happened.
const INDENT_MAX: usize = 32;
/// Characters before the tree.
const AHEAD: usize = 18;
