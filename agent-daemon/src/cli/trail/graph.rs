//! A trail as a graph, for Graphviz and Mermaid; what processes chose themselves stays text in both.

use std::fmt::Write as _;

use anstream::adapter::strip_str;

use super::line;
use crate::trail::{
    Mark, Node, NodeKind, Trail,
    view::{Content, Row},
};

/// For Graphviz.
pub(super) fn dot(trail: &Trail, rows: &[Row]) -> String {
    let mut out = format!("digraph trail {{\n  label={};\n", quoted(&title(trail)));
    out.push_str("  labelloc=t; rankdir=LR; nodesep=0.15;\n");
    out.push_str("  node [shape=box, style=\"rounded,filled\", fillcolor=\"#f6f6f6\", fontname=\"sans-serif\", fontsize=10];\n");
    out.push_str("  edge [color=\"#888888\", arrowsize=0.6];\n");
    for (at, row) in rows.iter().enumerate() {
        let (label, shape, colour) = described(trail, row);
        let _ = writeln!(out, "  n{at} [label={}, shape={shape}, fillcolor=\"{colour}\"];", quoted(&label));
        if let Some(parent) = row.parent {
            let _ = writeln!(out, "  n{parent} -> n{at};");
        }
    }
    out.push_str("}\n");
    out
}

/// For Mermaid.
pub(super) fn mermaid(trail: &Trail, rows: &[Row]) -> String {
    let mut out = format!("%% {}\nflowchart LR\n", entities(&title(trail)));
    for (at, row) in rows.iter().enumerate() {
        let (label, _, colour) = described(trail, row);
        let _ = writeln!(out, "  n{at}[\"{}\"]", entities(&label));
        if let Some(parent) = row.parent {
            let _ = writeln!(out, "  n{parent} --> n{at}");
        }
        let _ = writeln!(out, "  style n{at} fill:{colour},stroke:#888,color:#111");
    }
    out
}

fn title(trail: &Trail) -> String {
    let lines: Vec<String> = line::head(trail).iter().map(|line| strip_str(line).to_string()).collect();
    lines.join("; ")
}

/// Text, Graphviz' shape, and colour.
fn described(trail: &Trail, row: &Row) -> (String, &'static str, &'static str) {
    match &row.content {
        Content::Node(at) => {
            let node = &trail.nodes[*at];
            let since = line::relative(node.event.time.0.saturating_sub(trail.first.0));
            let words = line::node(trail, *at, &row.findings);
            let shape = if node.kind == NodeKind::Image { "box" } else { "ellipse" };
            (format!("{since} {}", strip_str(&words.within(LABEL))), shape, colour(node))
        }
        Content::Folded(folded) => (line::fold(folded), "plaintext", "#ffffff"),
    }
}

fn colour(node: &Node) -> &'static str {
    let marked = |mark| node.marks.contains(&mark);
    match node.kind {
        _ if marked(Mark::Refused) => "#f6b8b0",
        NodeKind::Finding => "#f9d0a8",
        _ if marked(Mark::HandedOff) || marked(Mark::Key) => "#f7e3a1",
        _ if marked(Mark::Wanted) => "#bcd6f5",
        NodeKind::Image => "#e6eef6",
        _ => "#f6f6f6",
    }
}

/// A string of the DOT language: control characters are gone, quotes and backslashes escaped.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Text whose every sign that could mean something to Mermaid, or to the page around it, is a number.
fn entities(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() || " -_./:,=+→×…".contains(c) {
            out.push(c);
        } else {
            let _ = write!(out, "#{};", u32::from(c));
        }
    }
    out
}

/// Characters of a label.
const LABEL: usize = 96;
