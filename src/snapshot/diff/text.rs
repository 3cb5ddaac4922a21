//! A diff in words.

use std::fmt::{self, Write};

use serde_json::Value;

use super::{Change, Diff, Section};

/// Longer values are cut: whoever wants all of them takes JSON.
const LONGEST: usize = 160;

impl fmt::Display for Diff {
    /// One section after another, `+` for what is new, `-` for what is gone, `~` for what is different; nothing when
    /// nothing changes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        section(f, "listeners", &self.listeners)?;
        section(f, "routes", &self.routes)?;
        for pair in &self.reordered {
            writeln!(f, "  ~ {} is now tried before {}, which it was tried after", pair.first, pair.before)?;
        }
        section(f, "upstreams", &self.upstreams)?;
        list(f, "settings", &self.settings)?;
        list(f, "needs a restart", &self.restart)?;
        if !self.drained.is_empty() {
            writeln!(f, "connections that are drained")?;
        }
        for drained in &self.drained {
            write!(f, "  - {} on {}", drained.listener, drained.address)?;
            match &drained.moved_to {
                Some(listener) => writeln!(f, " (new ones belong to {listener})")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

impl Diff {
    /// One line, for a log: `2 routes changed, 1 upstream added`.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        for (one, section) in [("listener", &self.listeners), ("route", &self.routes), ("upstream", &self.upstreams)] {
            let counts = [("added", section.added.len()), ("removed", section.removed.len()), ("changed", section.changed.len())];
            for (what, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
                parts.push(format!("{} {what}", counted(count, one)));
            }
        }
        if !self.reordered.is_empty() {
            parts.push(format!("{} of routes reordered", counted(self.reordered.len(), "pair")));
        }
        if !self.settings.is_empty() {
            parts.push(format!("{} changed", counted(self.settings.len(), "setting")));
        }
        if !self.drained.is_empty() {
            parts.push(format!("connections of {} drained", counted(self.drained.len(), "address")));
        }
        if !self.restart.is_empty() {
            let keys: Vec<&str> = self.restart.iter().map(|change| change.path.as_str()).collect();
            parts.push(format!("a restart needed for {}", keys.join(", ")));
        }
        if parts.is_empty() { "nothing changes".into() } else { parts.join(", ") }
    }
}

fn counted(count: usize, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        many if one.ends_with('s') => format!("{many} {one}es"),
        many => format!("{many} {one}s"),
    }
}

fn section(f: &mut fmt::Formatter<'_>, title: &str, section: &Section) -> fmt::Result {
    if section.is_empty() {
        return Ok(());
    }
    writeln!(f, "{title}")?;
    for (sign, all) in [('+', &section.added), ('-', &section.removed)] {
        for named in all {
            writeln!(f, "  {sign} {}{}", named.name, gist(&named.value))?;
        }
    }
    for changed in &section.changed {
        writeln!(f, "  ~ {}", changed.name)?;
        changed.changes.iter().try_for_each(|change| line(f, 6, change))?;
    }
    Ok(())
}

fn list(f: &mut fmt::Formatter<'_>, title: &str, changes: &[Change]) -> fmt::Result {
    if changes.is_empty() {
        return Ok(());
    }
    writeln!(f, "{title}")?;
    changes.iter().try_for_each(|change| line(f, 2, change))
}

fn line(f: &mut fmt::Formatter<'_>, indent: usize, change: &Change) -> fmt::Result {
    let Change { path, old, new, .. } = change;
    write!(f, "{:indent$}", "")?;
    match (old, new) {
        (Some(old), Some(_)) if change.hidden => writeln!(f, "{path}: {} (another value, not shown)", short(old)),
        (Some(old), Some(new)) if change.order => writeln!(f, "{path}: in another order: {} -> {}", short(old), short(new)),
        (Some(old), Some(new)) => writeln!(f, "{path}: {} -> {}", short(old), short(new)),
        (None, Some(new)) => writeln!(f, "+ {path}: {}", short(new)),
        (Some(old), None) => writeln!(f, "- {path}: {}", short(old)),
        (None, None) => writeln!(f, "{path}"),
    }
}

/// What a listener, route or upstream is about, in a few words.
fn gist(value: &Value) -> String {
    let mut words = Vec::new();
    for (key, before) in [
        ("address", "on "),
        ("match", ""),
        ("upstream", "to "),
        ("redirect", "redirect "),
        ("respond", "respond "),
        ("split", "split "),
    ] {
        match value.get(key) {
            Some(Value::Object(empty)) if empty.is_empty() => {}
            Some(found) => words.push(format!("{before}{}", flow(found))),
            None => {}
        }
    }
    if let Some(Value::Array(endpoints)) = value.get("endpoints") {
        words.push(counted(endpoints.len(), "endpoint"));
    }
    if words.is_empty() { String::new() } else { format!(": {}", cut(words.join(" "))) }
}

fn short(value: &Value) -> String {
    cut(flow(value))
}

fn cut(text: String) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// As YAML would have it on one line, as far as people need it.
fn flow(value: &Value) -> String {
    let mut text = String::new();
    write_flow(value, &mut text);
    text
}

fn write_flow(value: &Value, out: &mut String) {
    match value {
        Value::Object(entries) => {
            let mut entries = entries.iter();
            // A kind without options is written bare.
            if let (Some((kind, Value::Object(options))), None) = (entries.clone().next(), entries.clone().nth(1))
                && options.is_empty()
            {
                return out.push_str(kind);
            }
            out.push('{');
            let first = entries.next();
            for (index, (key, value)) in first.into_iter().chain(entries).enumerate() {
                let comma = if index > 0 { ", " } else { "" };
                let _ = write!(out, "{comma}{key}: ");
                write_flow(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            if let [one @ Value::String(_)] = &items[..] {
                return write_flow(one, out);
            }
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_flow(item, out);
            }
            out.push(']');
        }
        // Quoted and escaped where it is more than a word, so that no value can write to a terminal.
        Value::String(text) if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ' || !c.is_ascii()) => {
            let _ = write!(out, "{text:?}");
        }
        Value::String(text) => out.push_str(text),
        other => {
            let _ = write!(out, "{other}");
        }
    }
}
