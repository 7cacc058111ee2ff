//! A trail as one page that needs nothing else, to attach to a case.

use std::fmt::Write as _;

use anstream::adapter::strip_str;

use super::line;
use crate::trail::{
    Mark, Node, NodeKind, Trail,
    view::{Content, Row},
};

/// The page. Everything that a process or a file said is escaped; there is no script in it.
pub(super) fn page(trail: &Trail, rows: &[Row]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>Trail of {}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
        escaped(&trail.wanted)
    );
    let head = line::head(trail);
    let plain = |line: &String| escaped(&strip_str(line).to_string());
    let _ = writeln!(out, "<h1>Trail of <code>{}</code></h1>", escaped(&trail.wanted));
    for line in head.iter().skip(1) {
        let _ = writeln!(out, "<p>{}</p>", plain(line));
    }
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); trail.nodes.len()];
    for (at, node) in trail.nodes.iter().enumerate() {
        if let Some(parent) = node.parent {
            children[parent].push(at);
        }
    }
    let tree = Tree { trail, children };
    let mut open: Vec<usize> = Vec::new();
    let mut has_rows = vec![false; rows.len()];
    for parent in rows.iter().filter_map(|row| row.parent) {
        has_rows[parent] = true;
    }
    out.push_str("<ul class=\"tree\">\n");
    for (at, row) in rows.iter().enumerate() {
        while open.last().is_some_and(|last| Some(*last) != row.parent) {
            open.pop();
            out.push_str("</ul></details></li>\n");
        }
        match &row.content {
            Content::Node(node) if has_rows[at] => {
                let _ = writeln!(
                    out,
                    "<li><details open><summary>{}</summary><ul>",
                    tree.words(*node, &row.findings)
                );
                open.push(at);
            }
            Content::Node(node) => drop(writeln!(out, "<li>{}</li>", tree.words(*node, &row.findings))),
            Content::Folded(folded) => {
                let words = line::fold(folded).replace("; --all shows them", "");
                let _ =
                    writeln!(out, "<li><details class=\"fold\"><summary>{}</summary><ul>", escaped(&words));
                tree.hidden(&folded.nodes, &mut out);
                out.push_str("</ul></details></li>\n");
            }
        }
    }
    for _ in open {
        out.push_str("</ul></details></li>\n");
    }
    out.push_str("</ul>\n</body>\n</html>\n");
    out
}

struct Tree<'a> {
    trail: &'a Trail,
    children: Vec<Vec<usize>>,
}

impl Tree<'_> {
    fn words(&self, at: usize, findings: &[usize]) -> String {
        let node = &self.trail.nodes[at];
        let since = line::relative(node.event.time.0.saturating_sub(self.trail.first.0));
        let words = line::node(self.trail, at, findings).plain();
        let title = format!("{} event {}", node.event.time, node.event.seq);
        let mut out = format!(
            "<time title=\"{}\">{since}</time> <span class=\"{}\">{}</span>",
            escaped(&title),
            class(node),
            escaped(&words)
        );
        // A page has room for the figures behind a finding.
        for found in findings {
            let told = line::node(self.trail, *found, &[]).plain();
            let _ = write!(out, "<div class=\"why\">{}</div>", escaped(&told));
        }
        out
    }

    /// What is folded, as a list that is indented by levels: nested elements have a depth that browsers give up at.
    fn hidden(&self, nodes: &[usize], out: &mut String) {
        let mut open: Vec<(usize, usize)> = nodes.iter().rev().map(|at| (*at, 0)).collect();
        while let Some((at, depth)) = open.pop() {
            let indent = depth.min(INDENT);
            let _ = writeln!(out, "<li style=\"margin-left:{indent}em\">{}</li>", self.words(at, &[]));
            open.extend(self.children[at].iter().rev().map(|child| (*child, depth + 1)));
        }
    }
}

fn class(node: &Node) -> &'static str {
    let marked = |mark| node.marks.contains(&mark);
    match node.kind {
        _ if marked(Mark::Wanted) => "wanted",
        _ if marked(Mark::Refused) => "refused",
        NodeKind::Finding => "finding",
        _ if marked(Mark::HandedOff) => "handed",
        _ if marked(Mark::Key) => "key",
        NodeKind::Host => "host",
        NodeKind::Image => "image",
        NodeKind::Act => "act",
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// So deep are elements nested: what lies deeper is in a list of its own.
pub(super) const DEPTH_MAX: usize = 32;
/// Levels of folded nodes that are told apart by their indent.
const INDENT: usize = 20;

const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#69737d;--line:#d0d7de;--bad:#b3261e;--badbg:#fdecea;--warn:#8a5a00;--warnbg:#fff4d6;--hit:#0b57d0;--hitbg:#e6effd}
@media (prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e3e7eb;--dim:#8b949e;--line:#343b42;--bad:#ff9c93;--badbg:#3a1c1a;--warn:#f0c674;--warnbg:#352b12;--hit:#9cc2ff;--hitbg:#16294a}}
body{background:var(--bg);color:var(--fg);font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:100em;padding:0 1.5em}
h1{font-size:1.3em}p{margin:.2em 0}
.tree,.tree ul{list-style:none;margin:0;padding:0}
.tree{margin-top:1.5em;font:13px/1.6 ui-monospace,monospace}
.tree ul{margin-left:.35em;padding-left:1.1em;border-left:1px solid var(--line)}
.tree li{overflow-wrap:anywhere}
summary{cursor:pointer}
time{color:var(--dim);display:inline-block;min-width:5.5em;text-align:right;margin-right:.5em}
.why{color:var(--bad);padding-left:6em}
.fold>summary{color:var(--dim)}
.image{font-weight:600}.host{color:var(--warn)}
.refused,.finding{color:var(--bad);background:var(--badbg)}
.handed,.key{color:var(--warn);background:var(--warnbg);font-weight:600}
.wanted{color:var(--hit);background:var(--hitbg);font-weight:600}
.refused,.finding,.handed,.key,.wanted{padding:0 .3em;border-radius:3px}
@media print{body{margin:0;max-width:none;font-size:11px}.tree{font-size:10px}details>summary{list-style:none}.refused,.finding,.handed,.key,.wanted{print-color-adjust:exact}}
";
