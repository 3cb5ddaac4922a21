//! Configuration text as a tree whose nodes know their place: file, span, and YAML path.
//!
//! YAML is the parser crate's business; here are the limits it must stay within (a configuration may come
//! from a repository that many people write to), and the rules that YAML leaves open: one document, keys that
//! are words, no key twice, no tags. An alias is a node of its own that points at its target, so nothing is
//! copied; what a full expansion would cost is counted instead, and refused before anybody walks it.

mod build;
mod join;

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use build::Builder;
use parking_lot::Mutex;

use super::diagnostic::{Diagnostic, Place};
use crate::types::{Code, Seg, YamlPath};

/// Bytes of all files together. Ten thousand routes are about 2 MiB.
pub const MAX_BYTES: usize = 10 << 20;
/// Nesting. The deepest sensible file has about 10 levels; decoding recurses, so this also guards the stack.
pub const MAX_DEPTH: usize = 64;
/// Nodes, with every alias expanded: ten thousand routes of a hundred values each, as one list for all files.
pub const MAX_NODES: u64 = 1_000_000;

/// A node of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::config) struct NodeId(u32);

/// One file that takes part.
#[derive(Debug)]
pub struct Source {
    /// As shown in diagnostics.
    pub name: String,
    /// What relative paths in it are relative to.
    pub dir: PathBuf,
    /// Its text, without a byte order mark.
    pub text: String,
    /// Where its lines start, in bytes.
    lines: Vec<usize>,
    /// Where secrets are written out, in bytes. Found while the tree is borrowed by the decoder.
    masked: Mutex<Vec<Range<usize>>>,
}

impl Source {
    /// The file's absolute path, and its text.
    pub fn file(&self) -> (PathBuf, String) {
        let name = Path::new(&self.name).file_name().unwrap_or_default();
        (self.dir.join(name), self.text.clone())
    }
    fn new(name: String, dir: PathBuf, text: String) -> Self {
        let lines = std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1));
        Self { lines: lines.collect(), masked: Mutex::default(), name, dir, text }
    }

    /// A part of the text as it may be shown: secrets that are written out in it are starred.
    pub fn shown(&self, part: Range<usize>) -> Option<String> {
        let mut shown = self.text.get(part.clone())?.as_bytes().to_vec();
        for masked in self.masked.lock().iter() {
            let (from, to) = (masked.start.max(part.start), masked.end.min(part.end));
            if from < to {
                // Star for byte, so that what is underlined stays where it is.
                shown[from - part.start..to - part.start].fill(b'*');
            }
        }
        String::from_utf8(shown).ok()
    }

    /// Line and column (in characters) of a byte, both from 1.
    pub fn line_column(&self, byte: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= byte).max(1);
        let start = self.lines[line - 1];
        (line, self.text.get(start..byte).map_or(1, |before| before.chars().count() + 1))
    }
}

/// A scalar as written, or as made from variables.
#[derive(Debug)]
pub(in crate::config) struct Scalar {
    /// The value, variables replaced.
    pub(in crate::config) text: String,
    /// Written without quotes, so that YAML gives `true`, `80` and `null` a type.
    pub(in crate::config) plain: bool,
    /// The text as written, when variables were replaced: what messages show instead of the value.
    pub(in crate::config) written: Option<String>,
}

#[derive(Debug)]
pub(in crate::config) enum Kind {
    Scalar(Scalar),
    List(Vec<NodeId>),
    /// Keys and values. A key is a scalar node of its own, never shared.
    Map(Vec<(NodeId, NodeId)>),
    Alias(NodeId),
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    file: u32,
    span: Range<usize>,
    /// The parent, and the key or the position under it.
    parent: Option<(NodeId, Step)>,
    /// Skipped when decoding, because it was reported. Set while the tree is borrowed by the decoder.
    poisoned: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Key(NodeId),
    Index(usize),
    /// The node is itself a key.
    IsKey,
}

/// The tree of a configuration, from all its files.
#[derive(Debug, Default)]
pub struct Document {
    sources: Vec<Source>,
    nodes: Vec<Node>,
    root: Option<NodeId>,
    expanded: u64,
    /// Values of variables and secret files, with what stands for them in messages.
    pub(in crate::config) hidden: Vec<(String, String)>,
}

impl Document {
    /// The files, the root file first.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }
    /// The files, without the tree.
    pub fn into_sources(self) -> Vec<Source> {
        self.sources
    }
    pub(in crate::config) fn root(&self) -> Option<NodeId> {
        self.root
    }
    pub(in crate::config) fn set_root(&mut self, root: Option<NodeId>) {
        self.root = root;
    }
    pub(in crate::config) fn source(&self, node: NodeId) -> &Source {
        &self.sources[self.node(node).file as usize]
    }
    fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node.0 as usize]
    }
    fn node_mut(&mut self, node: NodeId) -> &mut Node {
        &mut self.nodes[node.0 as usize]
    }
    /// All nodes, in the order of their text.
    pub(in crate::config) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// What a node is; an alias is what it points at.
    pub(in crate::config) fn kind(&self, mut node: NodeId) -> &Kind {
        // Ends: an alias points at a node that was complete before it.
        loop {
            match &self.node(node).kind {
                Kind::Alias(target) => node = *target,
                kind => return kind,
            }
        }
    }
    pub(in crate::config) fn kind_mut(&mut self, mut node: NodeId) -> &mut Kind {
        while let Kind::Alias(target) = self.node(node).kind {
            node = target;
        }
        &mut self.node_mut(node).kind
    }
    /// Are these one node, seen through aliases?
    pub(in crate::config) fn same(&self, one: NodeId, other: NodeId) -> bool {
        std::ptr::eq(self.kind(one), self.kind(other))
    }
    pub(in crate::config) fn scalar(&self, node: NodeId) -> Option<&Scalar> {
        match self.kind(node) {
            Kind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }
    /// A scalar itself, and not what an alias points at.
    pub(in crate::config) fn own_scalar(&self, node: NodeId) -> Option<&Scalar> {
        match &self.node(node).kind {
            Kind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }
    pub(in crate::config) fn is_key(&self, node: NodeId) -> bool {
        matches!(self.node(node).parent, Some((_, Step::IsKey)))
    }
    /// The text of a key.
    pub(in crate::config) fn key_text(&self, key: NodeId) -> &str {
        self.scalar(key).map_or("", |scalar| &scalar.text)
    }
    pub(in crate::config) fn entries(&self, node: NodeId) -> &[(NodeId, NodeId)] {
        match self.kind(node) {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }
    /// Key and value of an entry.
    pub(in crate::config) fn entry(&self, node: NodeId, key: &str) -> Option<(NodeId, NodeId)> {
        self.entries(node).iter().copied().find(|(name, _)| self.key_text(*name) == key)
    }
    /// Keeps a secret that is written out in the file out of snippets. One that a variable stands for may be shown.
    pub(in crate::config) fn mask(&self, node: NodeId) {
        let mut node = node;
        while let Kind::Alias(target) = self.node(node).kind {
            node = target;
        }
        if self.scalar(node).is_some_and(|scalar| scalar.written.is_none()) {
            let Node { file, span, .. } = self.node(node);
            let mut masked = self.sources[*file as usize].masked.lock();
            if !masked.contains(span) {
                masked.push(span.clone());
            }
        }
    }
    pub(in crate::config) fn is_poisoned(&self, node: NodeId) -> bool {
        self.node(node).poisoned.load(Ordering::Relaxed)
    }
    pub(in crate::config) fn poison(&self, node: NodeId) {
        self.node(node).poisoned.store(true, Ordering::Relaxed);
    }
    /// Was an entry skipped that has this key?
    pub(in crate::config) fn lost(&self, map: NodeId, key: &str) -> bool {
        let entries = self.entries(map).iter().filter(|(name, _)| self.key_text(*name) == key);
        entries.into_iter().any(|(name, value)| self.is_poisoned(*name) || self.is_poisoned(*value))
    }
    /// Was something skipped directly below this node, or in a list directly below it?
    pub(in crate::config) fn has_lost_something(&self, node: NodeId) -> bool {
        let lost = |id: &NodeId| self.is_poisoned(*id);
        match self.kind(node) {
            Kind::Scalar(_) | Kind::Alias(_) => false,
            Kind::List(items) => items.iter().any(lost),
            Kind::Map(entries) => entries.iter().any(|(key, value)| {
                lost(key) || lost(value) || matches!(self.kind(*value), Kind::List(items) if items.iter().any(lost))
            }),
        }
    }

    /// The path of a node within its own file.
    pub(in crate::config) fn path(&self, mut node: NodeId) -> YamlPath {
        let mut path = Vec::new();
        while let Some((parent, step)) = self.node(node).parent {
            match step {
                Step::Key(key) => path.push(Seg::Key(self.key_text(key).into())),
                Step::IsKey => path.push(Seg::Key(self.key_text(node).into())),
                Step::Index(index) => path.push(Seg::Index(index)),
            }
            node = parent;
        }
        path.reverse();
        YamlPath(path)
    }

    /// Where to point for a node: a word itself, a section by its key, an item by its first line.
    pub(in crate::config) fn place(&self, node: NodeId) -> Place {
        let section = matches!(self.node(node).kind, Kind::Map(_) | Kind::List(_)) || self.node(node).span.is_empty();
        let shown = match self.node(node).parent {
            Some((_, Step::Key(key))) if section => key,
            _ => node,
        };
        let Node { file, span, .. } = self.node(shown);
        Place { span: self.first_line(*file, span.clone()), ..self.place_in(*file, span.start, self.path(node).to_string()) }
    }

    /// The part of a span that is on its first line, so that a snippet is a line and not a section.
    fn first_line(&self, file: u32, span: Range<usize>) -> Range<usize> {
        let text = self.sources[file as usize].text.get(span.clone()).unwrap_or_default();
        span.start..span.start + text.lines().next().unwrap_or_default().trim_end().len()
    }

    fn place_in(&self, file: u32, byte: usize, path: String) -> Place {
        let source = &self.sources[file as usize];
        let (line, column) = source.line_column(byte);
        Place { file: file as usize, name: source.name.clone(), line, column, span: byte..byte, path }
    }

    /// The node of a path among what survived, or its nearest ancestor that exists, and whether it is the node itself.
    pub(in crate::config) fn find(&self, path: &YamlPath) -> Option<(NodeId, bool)> {
        let mut node = self.root?;
        for seg in &path.0 {
            let next = match (seg, self.kind(node)) {
                (Seg::Key(key), Kind::Map(_)) => self.entry(node, key).map(|(_, value)| value),
                (Seg::Index(index), Kind::List(items)) => {
                    items.iter().copied().filter(|item| !self.is_poisoned(*item)).nth(*index)
                }
                // One value where a list may stand is its own first item.
                (Seg::Index(0), _) => Some(node),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => return Some((node, false)),
            }
        }
        Some((node, true))
    }

    /// How the value at a path was written, when variables took part in it. A short form (one value for a list of
    /// one, a bare address for one with options) is found too.
    pub(in crate::config) fn written(&self, path: &YamlPath) -> Option<&str> {
        let (mut node, exact) = self.find(path)?;
        if let Kind::List(items) = self.kind(node)
            && let [one] = items[..]
        {
            node = one;
        }
        // Below a short form, only what it is short for: an address. Everything else there is a default.
        let short_for = matches!(path.0.last(), Some(Seg::Key(key)) if key == "address");
        if exact || short_for { self.scalar(node)?.written.as_deref() } else { None }
    }

    /// The key node of a value, if it has one.
    pub(in crate::config) fn key_of(&self, node: NodeId) -> Option<NodeId> {
        match self.node(node).parent {
            Some((_, Step::Key(key))) => Some(key),
            _ => None,
        }
    }

    /// Parses one more file into the tree and returns its root; `None` for an empty file or after a report.
    pub(in crate::config) fn add(
        &mut self,
        name: String,
        dir: &Path,
        text: String,
        found: &mut Vec<Diagnostic>,
    ) -> Option<NodeId> {
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        let file = self.sources.len() as u32;
        self.sources.push(Source::new(name, dir.into(), String::new()));
        let together: usize = self.sources.iter().map(|source| source.text.len()).sum::<usize>() + text.len();
        if together > MAX_BYTES {
            let message = format!("the configuration has {together} bytes; at most {MAX_BYTES} are read");
            found.push(Diagnostic::new(Code::TooLarge, message, self.place_in(file, 0, String::new())));
            return None;
        }
        let name = std::mem::take(&mut self.sources[file as usize].name);
        self.sources[file as usize] = Source::new(name, dir.into(), text.clone());
        if let Some(at) = text.find('\0') {
            // The parser takes NUL for the end and would drop the rest without a word.
            found.push(Diagnostic::new(Code::Syntax, "a NUL byte is not text", self.place_in(file, at, String::new())));
            return None;
        }
        Builder::new(self, file, &text, found).build(&text)
    }
}

impl Document {
    /// The start of the root file.
    pub(in crate::config) fn start(&self) -> Place {
        match self.sources.is_empty() {
            true => Place { file: 0, name: String::new(), line: 1, column: 1, span: 0..0, path: String::new() },
            false => self.place_in(0, 0, String::new()),
        }
    }

    /// Takes what came from variables and secrets out of a diagnostic. Values of one or two characters are in every
    /// word; a message about such a value itself never holds it in the first place.
    pub(in crate::config) fn hide(&self, diagnostic: &mut Diagnostic) {
        let texts = [Some(&mut diagnostic.message), diagnostic.hint.as_mut(), diagnostic.also.as_mut().map(|(_, label)| label)];
        for text in texts.into_iter().flatten() {
            for (value, written) in &self.hidden {
                if value.len() > 2 && text.contains(value.as_str()) && !written.contains(value.as_str()) {
                    *text = text.replace(value.as_str(), written);
                }
            }
        }
    }
}
