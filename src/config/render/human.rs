//! For people: a snippet with a caret, the reason, and what to do.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::{
    config::{Diagnostic, MAX_REPORTS, Place, Source},
    types::Severity,
};

/// Longer lines are cut to this many bytes around the place: a snippet is for reading.
const WINDOW: usize = 160;

/// All diagnostics as text, with colours if asked for.
pub fn human(sources: &[Source], diagnostics: &[Diagnostic], colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&renderer.render(&report(sources, diagnostic)));
        text.push_str("\n\n");
    }
    let count = |severity| diagnostics.iter().filter(|d| d.severity() == severity).count();
    let some = |count, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{count} {what}s")),
    };
    let counts: Vec<_> =
        [some(count(Severity::Error), "error"), some(count(Severity::Warning), "warning")].into_iter().flatten().collect();
    if !counts.is_empty() {
        text.push_str(&counts.join(", "));
        text.push_str(if diagnostics.len() < MAX_REPORTS { "\n" } else { "; there may be more when these are gone\n" });
    }
    text
}

fn report<'a>(sources: &'a [Source], diagnostic: &'a Diagnostic) -> Vec<Group<'a>> {
    let level = match diagnostic.severity() {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(printable(&diagnostic.message)).id(diagnostic.code.as_str());
    let place = &diagnostic.place;
    let label = if place.path.is_empty() { "here".to_owned() } else { printable(&place.path) };
    let mut group = match snippet(sources, place, AnnotationKind::Primary, label) {
        Some(snippet) => title.element(snippet),
        None => title.element(Level::NOTE.message(format!("{}:{}:{}", place.name, place.line, place.column))),
    };
    if let Some((other, label)) = &diagnostic.also {
        let label = if other.path.is_empty() { label.clone() } else { format!("{label}: {}", other.path) };
        if let Some(snippet) = snippet(sources, other, AnnotationKind::Context, printable(&label)) {
            group = group.element(snippet);
        }
    }
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.message(printable(hint)));
    }
    vec![group]
}

/// The line of a place.
fn snippet<'a>(
    sources: &'a [Source],
    place: &Place,
    kind: AnnotationKind,
    label: String,
) -> Option<Snippet<'a, annotate_snippets::Annotation<'a>>> {
    let source = sources.get(place.file)?;
    let text = source.text.as_str();
    let start = text.get(..place.span.start)?.rfind('\n').map_or(0, |at| at + 1);
    let end = text.get(place.span.start..)?.find('\n').map_or(text.len(), |at| place.span.start + at);
    let start = floor(text, start.max(place.span.start.saturating_sub(WINDOW)));
    let end = floor(text, end.min(place.span.start + WINDOW));
    let line = source.shown(start..end)?;
    let line = line.trim_end_matches('\r').to_owned();
    let from = (place.span.start - start).min(line.len());
    let to = place.span.end.saturating_sub(start).clamp(from, line.len());
    let snippet = Snippet::source(line).line_start(place.line).path(place.name.clone()).fold(false);
    Some(snippet.annotation(kind.span(from..to).label(label)))
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Control characters out of a file must not reach a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
