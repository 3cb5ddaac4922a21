//! A directive, as nginx and Caddy have them: words, and perhaps a block of others.

use super::report::Place;

/// `name args` and the block that it opens.
#[derive(Debug, Clone, PartialEq)]
pub struct Directive {
    /// The first word.
    pub name: String,
    /// The others.
    pub args: Vec<String>,
    /// What is in its block.
    pub block: Option<Vec<Directive>>,
    /// Where it begins.
    pub place: Place,
}

impl Directive {
    /// An argument, or nothing.
    pub fn arg(&self, index: usize) -> &str {
        self.args.get(index).map_or("", String::as_str)
    }

    /// As it was written, without its block.
    pub fn words(&self) -> String {
        std::iter::once(&self.name).chain(&self.args).cloned().collect::<Vec<_>>().join(" ")
    }

    /// What is in its block.
    pub fn inside(&self) -> &[Directive] {
        self.block.as_deref().unwrap_or_default()
    }

    /// The line of this name in its block.
    pub fn option(&self, name: &str) -> Option<&Directive> {
        self.inside().iter().find(|directive| directive.name == name)
    }
}
