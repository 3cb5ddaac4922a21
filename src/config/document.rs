//! Configuration text as a tree whose nodes know their place: file, span, and YAML path.
//!
//! YAML is the parser crate's business; here are the limits it must stay within (a configuration may come
//! from a repository that many people write to), and the rules that YAML leaves open: one document, keys that
//! are words, no key twice, no tags. An alias is a node of its own that points at its target, so nothing is
//! copied; what a full expansion would cost is counted instead, and refused before anybody walks it.

use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span as Marks, Tag};

use super::diagnostic::{Diagnostic, MAX_REPORTS, Place};
use crate::types::{Code, Seg, YamlPath};

/// Bytes of all files together. Ten thousand routes are about 2 MiB.
pub const MAX_BYTES: usize = 10 << 20;
/// Nesting. The deepest sensible file has about 10 levels; decoding recurses, so this also guards the stack.
pub const MAX_DEPTH: usize = 64;
/// Nodes, with every alias expanded: ten thousand routes of a hundred values each, as one list for all files.
pub const MAX_NODES: u64 = 1_000_000;

/// A node of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NodeId(u32);

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
}

impl Source {
    fn new(name: String, dir: PathBuf, text: String) -> Self {
        let lines = std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1));
        Self { lines: lines.collect(), name, dir, text }
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
pub(super) struct Scalar {
    /// The value, variables replaced.
    pub(super) text: String,
    /// Written without quotes, so that YAML gives `true`, `80` and `null` a type.
    pub(super) plain: bool,
    /// The text as written, when variables were replaced: what messages show instead of the value.
    pub(super) written: Option<String>,
}

#[derive(Debug)]
pub(super) enum Kind {
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
    pub(super) hidden: Vec<(String, String)>,
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
    pub(super) fn root(&self) -> Option<NodeId> {
        self.root
    }
    pub(super) fn set_root(&mut self, root: Option<NodeId>) {
        self.root = root;
    }
    pub(super) fn source(&self, node: NodeId) -> &Source {
        &self.sources[self.node(node).file as usize]
    }
    fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node.0 as usize]
    }
    fn node_mut(&mut self, node: NodeId) -> &mut Node {
        &mut self.nodes[node.0 as usize]
    }
    /// All nodes, in the order of their text.
    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// What a node is; an alias is what it points at.
    pub(super) fn kind(&self, mut node: NodeId) -> &Kind {
        // Ends: an alias points at a node that was complete before it.
        loop {
            match &self.node(node).kind {
                Kind::Alias(target) => node = *target,
                kind => return kind,
            }
        }
    }
    pub(super) fn kind_mut(&mut self, mut node: NodeId) -> &mut Kind {
        while let Kind::Alias(target) = self.node(node).kind {
            node = target;
        }
        &mut self.node_mut(node).kind
    }
    /// Are these one node, seen through aliases?
    pub(super) fn same(&self, one: NodeId, other: NodeId) -> bool {
        std::ptr::eq(self.kind(one), self.kind(other))
    }
    pub(super) fn scalar(&self, node: NodeId) -> Option<&Scalar> {
        match self.kind(node) {
            Kind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }
    /// A scalar itself, and not what an alias points at.
    pub(super) fn own_scalar(&self, node: NodeId) -> Option<&Scalar> {
        match &self.node(node).kind {
            Kind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }
    pub(super) fn is_key(&self, node: NodeId) -> bool {
        matches!(self.node(node).parent, Some((_, Step::IsKey)))
    }
    /// The text of a key.
    pub(super) fn key_text(&self, key: NodeId) -> &str {
        self.scalar(key).map_or("", |scalar| &scalar.text)
    }
    pub(super) fn entries(&self, node: NodeId) -> &[(NodeId, NodeId)] {
        match self.kind(node) {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }
    /// Key and value of an entry.
    pub(super) fn entry(&self, node: NodeId, key: &str) -> Option<(NodeId, NodeId)> {
        self.entries(node).iter().copied().find(|(name, _)| self.key_text(*name) == key)
    }
    pub(super) fn is_poisoned(&self, node: NodeId) -> bool {
        self.node(node).poisoned.load(Ordering::Relaxed)
    }
    pub(super) fn poison(&self, node: NodeId) {
        self.node(node).poisoned.store(true, Ordering::Relaxed);
    }
    /// Was an entry skipped that has this key?
    pub(super) fn lost(&self, map: NodeId, key: &str) -> bool {
        let entries = self.entries(map).iter().filter(|(name, _)| self.key_text(*name) == key);
        entries.into_iter().any(|(name, value)| self.is_poisoned(*name) || self.is_poisoned(*value))
    }
    /// Was something skipped directly below this node, or in a list directly below it?
    pub(super) fn has_lost_something(&self, node: NodeId) -> bool {
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
    pub(super) fn path(&self, mut node: NodeId) -> YamlPath {
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
    pub(super) fn place(&self, node: NodeId) -> Place {
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
    pub(super) fn find(&self, path: &YamlPath) -> Option<(NodeId, bool)> {
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
    pub(super) fn written(&self, path: &YamlPath) -> Option<&str> {
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
    pub(super) fn key_of(&self, node: NodeId) -> Option<NodeId> {
        match self.node(node).parent {
            Some((_, Step::Key(key))) => Some(key),
            _ => None,
        }
    }

    /// Parses one more file into the tree and returns its root; `None` for an empty file or after a report.
    pub(super) fn add(&mut self, name: String, dir: &Path, text: String, found: &mut Vec<Diagnostic>) -> Option<NodeId> {
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

/// Byte offsets of character offsets: the parser counts characters.
struct Offsets<'t> {
    text: &'t str,
    /// The byte offset of every 128th character; none when all characters are one byte.
    marks: Vec<usize>,
}

impl<'t> Offsets<'t> {
    const STEP: usize = 128;

    fn new(text: &'t str) -> Self {
        let marks =
            if text.is_ascii() { Vec::new() } else { text.char_indices().step_by(Self::STEP).map(|(byte, _)| byte).collect() };
        Self { text, marks }
    }
    fn byte(&self, index: usize) -> usize {
        if self.marks.is_empty() {
            return index.min(self.text.len());
        }
        let Some(start) = self.marks.get(index / Self::STEP) else { return self.text.len() };
        let rest = &self.text[*start..];
        start + rest.char_indices().nth(index % Self::STEP).map_or(rest.len(), |(byte, _)| byte)
    }
}

/// A list or mapping that is not complete yet.
struct Open {
    node: NodeId,
    anchor: usize,
    /// Nodes below it, with aliases expanded.
    expanded: u64,
    depth: usize,
    /// The key that waits for its value.
    key: Option<NodeId>,
    /// The keys so far, of a mapping.
    keys: Option<HashMap<String, NodeId>>,
}

/// What an anchor stands for.
struct Anchored {
    node: NodeId,
    expanded: u64,
    depth: usize,
}

struct Builder<'d, 't> {
    document: &'d mut Document,
    file: u32,
    offsets: Offsets<'t>,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    found: &'d mut Vec<Diagnostic>,
    root: Option<NodeId>,
}

/// Reported; nothing more can be read.
struct Reported;

impl<'d, 't> Builder<'d, 't> {
    fn new(document: &'d mut Document, file: u32, text: &'t str, found: &'d mut Vec<Diagnostic>) -> Self {
        Self { document, file, offsets: Offsets::new(text), open: Vec::new(), anchors: HashMap::new(), found, root: None }
    }

    fn build(mut self, text: &'t str) -> Option<NodeId> {
        let mut parser = Parser::new_from_str(text);
        let mut documents = 0;
        while let Some(next) = parser.next_event() {
            let done = match next {
                Err(error) => Err(self.syntax(&error)),
                Ok((Event::DocumentStart(_), marks)) => {
                    documents += 1;
                    if documents > 1 {
                        Err(self.report(Code::Syntax, "a second document; a file holds one", marks))
                    } else {
                        Ok(())
                    }
                }
                Ok((event, marks)) => self.event(event, marks),
            };
            if done.is_err() {
                return None;
            }
        }
        self.root
    }

    fn syntax(&mut self, error: &ScanError) -> Reported {
        let mark = *error.marker();
        self.report(Code::Syntax, error.info().trim_end_matches('.').to_owned(), Marks::new(mark, mark))
    }

    fn report(&mut self, code: Code, message: impl Into<String>, marks: Marks) -> Reported {
        let span = self.span(marks);
        let path = self.open.last().map(|open| self.document.path(open.node).to_string()).unwrap_or_default();
        let mut place = self.document.place_in(self.file, span.start, path);
        place.span = self.document.first_line(self.file, span);
        self.found.push(Diagnostic::new(code, message, place));
        Reported
    }

    fn span(&self, marks: Marks) -> Range<usize> {
        let start = self.offsets.byte(marks.start.index());
        start..self.offsets.byte(marks.end.index()).max(start)
    }

    fn event(&mut self, event: Event<'_>, marks: Marks) -> Result<(), Reported> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !self.is_text(tag.as_deref(), marks)?;
                let scalar = Scalar { text: text.into_owned(), plain, written: None };
                let node = self.push(Kind::Scalar(scalar), marks)?;
                self.complete(node, anchor, 1, 0, marks)
            }
            Event::SequenceStart(anchor, tag) => self.start(Kind::List(Vec::new()), anchor, tag.as_deref(), marks),
            Event::MappingStart(anchor, tag) => self.start(Kind::Map(Vec::new()), anchor, tag.as_deref(), marks),
            Event::SequenceEnd | Event::MappingEnd => self.end(marks),
            Event::Alias(anchor) => self.alias(anchor, marks),
            _ => Ok(()),
        }
    }

    /// Is a scalar tagged as text? Other tags have no meaning here.
    fn is_text(&mut self, tag: Option<&Tag>, marks: Marks) -> Result<bool, Reported> {
        match tag {
            None => Ok(false),
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(true),
            Some(tag) => Err(self.report(Code::Syntax, format!("the tag `{tag}` has no meaning in a configuration"), marks)),
        }
    }

    fn start(&mut self, kind: Kind, anchor: usize, tag: Option<&Tag>, marks: Marks) -> Result<(), Reported> {
        self.is_text(tag, marks)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(self.report(Code::TooLarge, format!("nested deeper than {MAX_DEPTH} levels"), marks));
        }
        let keys = matches!(kind, Kind::Map(_)).then(HashMap::new);
        let node = self.push(kind, marks)?;
        self.open.push(Open { node, anchor, expanded: 1, depth: 0, key: None, keys });
        Ok(())
    }

    fn end(&mut self, marks: Marks) -> Result<(), Reported> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let end = self.offsets.byte(marks.end.index());
        let span = &mut self.document.node_mut(open.node).span;
        span.end = end.max(span.end);
        self.complete(open.node, open.anchor, open.expanded, open.depth + 1, marks)
    }

    fn alias(&mut self, anchor: usize, marks: Marks) -> Result<(), Reported> {
        let Some(Anchored { node, expanded, depth }) = self.anchors.get(&anchor) else {
            return Err(self.report(Code::TooLarge, "an alias of the section that it stands in has no end", marks));
        };
        let (target, expanded, depth) = (*node, *expanded, *depth);
        if self.open.len() + depth > MAX_DEPTH {
            return Err(self.report(Code::TooLarge, format!("with its aliases, nested deeper than {MAX_DEPTH} levels"), marks));
        }
        // A key must be a node of its own.
        let is_key = self.open.last().is_some_and(|open| open.keys.is_some() && open.key.is_none());
        let kind = match self.document.kind(target) {
            Kind::Scalar(Scalar { text, plain, .. }) if is_key => {
                Kind::Scalar(Scalar { text: text.clone(), plain: *plain, written: None })
            }
            _ => Kind::Alias(target),
        };
        let node = self.push(kind, marks)?;
        self.complete(node, 0, expanded, depth, marks)
    }

    fn push(&mut self, kind: Kind, marks: Marks) -> Result<NodeId, Reported> {
        if self.document.nodes.len() as u64 >= MAX_NODES {
            return Err(self.too_many(marks));
        }
        let id = NodeId(self.document.nodes.len() as u32);
        let span = self.span(marks);
        let parent = self.open.last().map(|open| {
            let step = match (&self.document.node(open.node).kind, open.key) {
                (Kind::List(items), _) => Step::Index(items.len()),
                (_, Some(key)) => Step::Key(key),
                (_, None) => Step::IsKey,
            };
            (open.node, step)
        });
        self.document.nodes.push(Node { kind, file: self.file, span, parent, poisoned: AtomicBool::new(false) });
        Ok(id)
    }

    fn too_many(&mut self, marks: Marks) -> Reported {
        self.report(Code::TooLarge, format!("more than {MAX_NODES} values, aliases expanded"), marks)
    }

    /// Puts a finished node into its parent.
    fn complete(&mut self, node: NodeId, anchor: usize, expanded: u64, depth: usize, marks: Marks) -> Result<(), Reported> {
        if anchor != 0 {
            self.anchors.insert(anchor, Anchored { node, expanded, depth });
        }
        let Some(parent) = self.open.last_mut() else {
            self.document.expanded = self.document.expanded.saturating_add(expanded);
            self.root = Some(node);
            return if self.document.expanded > MAX_NODES { Err(self.too_many(marks)) } else { Ok(()) };
        };
        parent.expanded = parent.expanded.saturating_add(expanded);
        parent.depth = parent.depth.max(depth);
        if parent.expanded > MAX_NODES {
            return Err(self.too_many(marks));
        }
        let (map, key) = (parent.node, parent.key.take());
        match (&mut self.document.nodes[map.0 as usize].kind, key) {
            (Kind::List(items), _) => items.push(node),
            (Kind::Map(entries), Some(key)) => entries.push((key, node)),
            _ => return self.key(map, node, marks),
        }
        Ok(())
    }

    fn key(&mut self, map: NodeId, key: NodeId, marks: Marks) -> Result<(), Reported> {
        let Kind::Scalar(Scalar { text, .. }) = &self.document.node(key).kind else {
            return Err(self.report(Code::Syntax, "a key must be one word", marks));
        };
        let text = text.clone();
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        open.key = Some(key);
        let Some(keys) = &mut open.keys else { return Ok(()) };
        if let Some(first) = keys.get(&text).copied() {
            if self.found.len() >= MAX_REPORTS {
                return Err(Reported);
            }
            let (here, there) = (self.document.place(key), self.document.place(first));
            let message = format!("the {} `{text}` is there twice", self.document.what_keys_are(map));
            self.found.push(Diagnostic::new(Code::Duplicate, message, here).also(there, "first here"));
            self.document.poison(key);
        } else {
            keys.insert(text, key);
        }
        Ok(())
    }
}

impl Document {
    /// `key`, or what the keys of this mapping name.
    pub(super) fn what_keys_are(&self, map: NodeId) -> &'static str {
        match self.path(map).to_string().as_str() {
            "listeners" => "listener",
            "upstreams" => "upstream",
            _ => "key",
        }
    }

    /// Joins the entries of another mapping of the same kind (an included file's) to this one's; a key that is there
    /// twice is returned with its first.
    pub(super) fn join_maps(&mut self, into: NodeId, from: NodeId) -> Vec<(NodeId, NodeId)> {
        let mut first: HashMap<String, NodeId> =
            self.entries(into).iter().map(|(key, _)| (self.key_text(*key).to_owned(), *key)).collect();
        let (mut twice, mut added) = (Vec::new(), Vec::new());
        for (key, value) in self.entries(from).to_vec() {
            if self.is_poisoned(key) {
                continue;
            }
            match first.get(self.key_text(key)) {
                Some(there) => twice.push((key, *there)),
                None => {
                    first.insert(self.key_text(key).to_owned(), key);
                    added.push((key, value));
                }
            }
        }
        if let Kind::Map(entries) = self.kind_mut(into) {
            entries.extend(added);
        }
        twice
    }

    /// Joins the items of another list to this one's.
    pub(super) fn join_lists(&mut self, into: NodeId, from: NodeId) {
        let Kind::List(more) = self.kind(from) else { return };
        let more = more.clone();
        if let Kind::List(items) = self.kind_mut(into) {
            items.extend(more);
        }
    }

    /// Puts another value in the place of an empty one.
    pub(super) fn replace(&mut self, map: NodeId, old: NodeId, key: NodeId, value: NodeId) {
        if let Kind::Map(entries) = self.kind_mut(map)
            && let Some(entry) = entries.iter_mut().find(|(_, there)| *there == old)
        {
            *entry = (key, value);
        }
    }

    /// The start of the root file.
    pub(super) fn start(&self) -> Place {
        match self.sources.is_empty() {
            true => Place { file: 0, name: String::new(), line: 1, column: 1, span: 0..0, path: String::new() },
            false => self.place_in(0, 0, String::new()),
        }
    }

    /// Takes what came from variables and secrets out of a diagnostic. Values of one or two characters are in every
    /// word; a message about such a value itself never holds it in the first place.
    pub(super) fn hide(&self, diagnostic: &mut Diagnostic) {
        let texts = [Some(&mut diagnostic.message), diagnostic.hint.as_mut(), diagnostic.also.as_mut().map(|(_, label)| label)];
        for text in texts.into_iter().flatten() {
            for (value, written) in &self.hidden {
                if value.len() > 2 && text.contains(value.as_str()) && !written.contains(value.as_str()) {
                    *text = text.replace(value.as_str(), written);
                }
            }
        }
    }

    /// Adds an entry to the root, for a section that only included files have.
    pub(super) fn adopt(&mut self, map: NodeId, key: NodeId, value: NodeId) {
        if let Kind::Map(entries) = self.kind_mut(map) {
            entries.push((key, value));
        }
    }
}
