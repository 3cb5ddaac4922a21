//! From the parser's events to the tree, within the limits.

use std::{collections::HashMap, ops::Range, sync::atomic::AtomicBool};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span as Marks, Tag};

use super::{Document, Kind, MAX_DEPTH, MAX_NODES, Node, NodeId, Scalar, Step};
use crate::{
    config::diagnostic::{Diagnostic, MAX_REPORTS},
    types::Code,
};

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

pub(super) struct Builder<'d, 't> {
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
    pub(super) fn new(document: &'d mut Document, file: u32, text: &'t str, found: &'d mut Vec<Diagnostic>) -> Self {
        Self { document, file, offsets: Offsets::new(text), open: Vec::new(), anchors: HashMap::new(), found, root: None }
    }

    pub(super) fn build(mut self, text: &'t str) -> Option<NodeId> {
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
