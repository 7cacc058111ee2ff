//! What of a tree is shown: what stands out and the way to it, the rest folded.

use std::collections::BTreeMap;

use super::{
    act::refused,
    grow::{Mark, Node, NodeKind, Trail},
};

/// How much is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extent {
    /// Everything.
    pub all: bool,
    /// Levels below a root.
    pub depth: Option<usize>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Row {
    /// Place of the row above it in the tree.
    pub parent: Option<usize>,
    pub content: Content,
    /// Places of what was found of a node, where that has no rows of its own.
    pub findings: Vec<usize>,
}

/// What it tells.
#[derive(Clone, Debug)]
pub enum Content {
    /// A node, by its place.
    Node(usize),
    /// Siblings that are not shown.
    Folded(Folded),
}

/// What is not shown of one place in the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Places of the siblings; what is below them is folded with them.
    pub nodes: Vec<usize>,
    /// Programs of the images among the siblings, the most frequent first.
    pub programs: Vec<(String, u64)>,
    /// In all that is folded:
    pub images: u64,
    pub acts: u64,
    pub refused: u64,
    pub findings: u64,
}

/// The rows, from the top: as many siblings of what stands out as fit on a screen.
#[must_use]
pub fn rows(trail: &Trail, extent: Extent) -> Vec<Row> {
    let tree = Tree::of(trail, extent);
    if extent.all || trail.nodes.len() <= SCREEN {
        return tree.rows(usize::MAX, true);
    }
    let fits = SIBLINGS.iter().map(|most| tree.rows(*most, false)).find(|rows| rows.len() <= SCREEN);
    fits.unwrap_or_else(|| tree.rows(1, false))
}

struct Tree<'a> {
    nodes: &'a [Node],
    children: Vec<Vec<usize>>,
    roots: Vec<usize>,
    findings: Vec<Vec<usize>>,
    /// Of each node and what is below it: how much there is, and how much it stands out.
    below: Vec<Sums>,
    weights: Vec<u8>,
    depth_max: usize,
}

impl<'a> Tree<'a> {
    fn of(trail: &'a Trail, extent: Extent) -> Self {
        let nodes = &trail.nodes;
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
        let mut findings = children.clone();
        let mut roots = Vec::new();
        let mut below: Vec<Sums> = nodes.iter().map(Sums::of).collect();
        let mut weights: Vec<u8> = nodes.iter().map(weight).collect();
        // A parent stands before its children, so that one way back gathers what is below each.
        for (at, node) in nodes.iter().enumerate().rev() {
            let Some(parent) = node.parent else {
                roots.push(at);
                continue;
            };
            let within = node.event.finding.is_some() && !extent.all;
            let of = if within { &mut findings } else { &mut children };
            of[parent].push(at);
            weights[parent] = weights[parent].max(weights[at]);
            let sums = below[at];
            below[parent].add(sums);
        }
        for siblings in children.iter_mut().chain(&mut findings).chain([&mut roots]) {
            siblings.reverse();
            siblings.sort_by_key(|at| nodes[*at].event.time);
        }
        let depth_max = extent.depth.unwrap_or(if extent.all { usize::MAX } else { DEPTH_MAX });
        Self { nodes, children, roots, findings, below, weights, depth_max }
    }

    /// The rows with at most so many siblings open.
    fn rows(&self, most: usize, all: bool) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut open = Vec::new();
        self.choose(&self.roots, None, 0, (most, all), &mut open);
        while let Some((content, parent, depth)) = open.pop() {
            let (children, findings) = match &content {
                Content::Node(at) => (&self.children[*at][..], self.findings[*at].clone()),
                Content::Folded(_) => (&[][..], Vec::new()),
            };
            rows.push(Row { parent, content, findings });
            self.choose(children, Some(rows.len() - 1), depth + 1, (most, all), &mut open);
        }
        rows
    }

    /// Puts the siblings that are shown on the stack, and a fold for the others below them.
    fn choose(
        &self,
        siblings: &[usize],
        parent: Option<usize>,
        depth: usize,
        (most, all): (usize, bool),
        open: &mut Vec<(Content, Option<usize>, usize)>,
    ) {
        let within = depth < self.depth_max;
        let few_roots = parent.is_none() && siblings.len() <= ROOTS;
        let mut shown: Vec<usize> = siblings
            .iter()
            .copied()
            .filter(|at| within && (all || few_roots || self.weights[*at] > 0))
            .collect();
        if shown.len() > most {
            shown.sort_by_key(|at| (std::cmp::Reverse(self.weights[*at]), *at));
            shown.truncate(most);
            shown.sort_by_key(|at| (self.nodes[*at].event.time, *at));
        }
        let mut folded = Vec::new();
        if shown.len() < siblings.len() {
            let chosen: std::collections::HashSet<usize> = shown.iter().copied().collect();
            folded.extend(siblings.iter().copied().filter(|at| !chosen.contains(at)));
        }
        // A fold takes a line as well: a single leaf is shown instead.
        if let ([one], true) = (folded.as_slice(), within)
            && self.children[*one].is_empty()
        {
            shown.push(*one);
            shown.sort_by_key(|at| (self.nodes[*at].event.time, *at));
            folded.clear();
        }
        if !folded.is_empty() {
            open.push((Content::Folded(fold(self.nodes, folded, &self.below)), parent, depth));
        }
        open.extend(shown.into_iter().rev().map(|at| (Content::Node(at), parent, depth)));
    }
}

/// How much a node stands out: what was asked for most, then what is alarming.
fn weight(node: &Node) -> u8 {
    let of = |mark: &Mark| match mark {
        Mark::Wanted => 4,
        Mark::HandedOff | Mark::Key | Mark::Refused => 3,
        Mark::Finding | Mark::Entered => 2,
        Mark::Host => 1,
    };
    node.marks.iter().map(of).max().unwrap_or_default()
}

fn fold(nodes: &[Node], folded: Vec<usize>, below: &[Sums]) -> Folded {
    let mut sums = Sums::default();
    let mut programs: BTreeMap<&str, u64> = BTreeMap::new();
    for at in &folded {
        sums.add(below[*at]);
        if nodes[*at].kind == NodeKind::Image {
            let subject = nodes[*at].event.subject.as_ref();
            let program = subject.and_then(|s| s.script.as_deref().or(s.exe.as_deref())).unwrap_or("?");
            *programs.entry(program.rsplit('/').next().unwrap_or(program)).or_default() += 1;
        }
    }
    let mut programs: Vec<(String, u64)> = programs.into_iter().map(|(p, n)| (p.to_owned(), n)).collect();
    programs.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let Sums { images, acts, refused, findings } = sums;
    Folded { nodes: folded, programs, images, acts, refused, findings }
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    images: u64,
    acts: u64,
    refused: u64,
    findings: u64,
}

impl Sums {
    fn of(node: &Node) -> Self {
        let one = |kind| u64::from(node.kind == kind);
        Self {
            images: one(NodeKind::Image),
            acts: one(NodeKind::Act) * node.count,
            refused: if refused(&node.event) { node.count } else { 0 },
            findings: one(NodeKind::Finding),
        }
    }

    fn add(&mut self, other: Self) {
        self.images += other.images;
        self.acts += other.acts;
        self.refused += other.refused;
        self.findings += other.findings;
    }
}

/// So many rows fit on a screen below the head.
const SCREEN: usize = 34;
/// So many siblings are shown at most: the first number with which the whole fits.
const SIBLINGS: &[usize] = &[16, 12, 8, 6, 5, 4, 3, 2];
/// So many roots are shown where nothing stands out.
const ROOTS: usize = 3;
/// So deep is shown where nobody says otherwise: a chain of processes can be as long as its agent likes.
const DEPTH_MAX: usize = 32;
