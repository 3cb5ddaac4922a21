//! A Caddyfile's own syntax: lines of words, blocks, snippets and imports.

use std::{collections::BTreeMap, rc::Rc};

use super::super::{
    directive::Directive,
    report::{ImportError, Place, Report},
    source::Sources,
};

/// Blocks deeper than this are no Caddyfile.
const MAX_DEPTH: usize = 32;
/// Snippets may import each other; so many lines come of it at most.
const MAX_LINES: usize = 50_000;

/// A site: its addresses and what is in its block.
#[derive(Debug)]
pub struct Site {
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its lines.
    pub block: Vec<Directive>,
    /// Where it begins.
    pub place: Place,
}

/// A whole file.
#[derive(Debug, Default)]
pub struct File {
    /// The block without a name at its top.
    pub options: Vec<Directive>,
    /// Its sites.
    pub sites: Vec<Site>,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word { text: String, quoted: bool },
    Line,
}

/// Reads a file and what it imports.
pub fn read(path: &std::path::Path, report: &mut Report) -> Result<File, ImportError> {
    let mut sources = Sources::new(path);
    let source = sources.open(path, None)?;
    let mut reader = Reader { sources, snippets: BTreeMap::new(), lines: 0, report };
    let top = reader.blocks(&source.name, &source.text)?;
    let mut file = File::default();
    let mut loose: Vec<Directive> = Vec::new();
    reader.sites(top, &mut file, &mut loose, 0)?;
    // A file of one site may do without braces: its first line has the addresses.
    if let Some(first) = loose.first().filter(|_| file.sites.is_empty()).cloned() {
        let addresses = addresses(&first);
        let block = reader.imported(loose.split_off(1), 0, &[])?;
        file.sites.push(Site { addresses, block, place: first.place });
    } else if let Some(first) = loose.first() {
        return Err(ImportError::at(&first.place, format!("`{}` stands outside of all sites", first.name)));
    }
    Ok(file)
}

fn addresses(directive: &Directive) -> Vec<String> {
    let words = std::iter::once(&directive.name).chain(&directive.args);
    words.flat_map(|word| word.split(',')).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

struct Reader<'r> {
    sources: Sources,
    snippets: BTreeMap<String, Vec<Directive>>,
    lines: usize,
    report: &'r mut Report,
}

impl Reader<'_> {
    /// Sorts what stands at the top of a file: options, snippets, sites, imports.
    fn sites(
        &mut self,
        top: Vec<Directive>,
        file: &mut File,
        loose: &mut Vec<Directive>,
        depth: usize,
    ) -> Result<(), ImportError> {
        for (index, directive) in top.into_iter().enumerate() {
            let name = directive.name.clone();
            let snippet = name.strip_prefix('(').and_then(|name| name.strip_suffix(')'));
            if let (Some(snippet), Some(block)) = (snippet, &directive.block) {
                self.snippets.insert(snippet.to_owned(), block.clone());
            } else if name == "{" && index == 0 && depth == 0 {
                file.options = self.imported(directive.block.unwrap_or_default(), 0, &[])?;
            } else if name == "import" && directive.block.is_none() && loose.is_empty() {
                for (from, text) in self.files(&directive)? {
                    let inner = self.blocks(&from, &text)?;
                    self.sites(inner, file, loose, depth + 1)?;
                    self.sources.done();
                }
            } else if directive.block.is_some() && loose.is_empty() {
                let addresses = addresses(&directive);
                let place = directive.place.clone();
                let block = self.imported(directive.block.unwrap_or_default(), 0, &[])?;
                file.sites.push(Site { addresses, block, place });
            } else {
                loose.push(directive);
            }
        }
        Ok(())
    }

    /// The files that an `import` names.
    fn files(&mut self, directive: &Directive) -> Result<Vec<(Rc<str>, String)>, ImportError> {
        let pattern = directive.arg(0).to_owned();
        let mut found = Vec::new();
        for path in self.sources.find(&pattern, "/etc/caddy") {
            let source = self.sources.open(&path, Some(&directive.place))?;
            found.push((source.name, source.text));
        }
        if found.is_empty() && !pattern.contains('*') {
            // The summary is where it is told: there may be no place in the file for it.
            let _ = self.report.left(&directive.place, &directive.words(), "there is no such snippet, and no such file here");
        }
        Ok(found)
    }

    /// Puts snippets and files in the place of their `import`.
    fn imported(&mut self, block: Vec<Directive>, depth: usize, args: &[String]) -> Result<Vec<Directive>, ImportError> {
        let mut out = Vec::new();
        for mut directive in block {
            self.lines += 1;
            if depth > MAX_DEPTH || self.lines > MAX_LINES {
                return Err(ImportError::at(&directive.place, "snippets import each other without an end"));
            }
            for word in std::iter::once(&mut directive.name).chain(&mut directive.args).filter(|_| !args.is_empty()) {
                for (index, arg) in args.iter().enumerate() {
                    *word = word.replace(&format!("{{args[{index}]}}"), arg).replace(&format!("{{args.{index}}}"), arg);
                }
            }
            if let Some(inner) = directive.block.take() {
                directive.block = Some(self.imported(inner, depth + 1, args)?);
            }
            if directive.name != "import" {
                out.push(directive);
                continue;
            }
            if let Some(snippet) = self.snippets.get(directive.arg(0)).cloned() {
                let args: Vec<String> = directive.args[1..].to_vec();
                out.extend(self.imported(snippet, depth + 1, &args)?);
                continue;
            }
            let files = self.files(&directive)?;
            if files.is_empty() {
                out.push(directive);
                continue;
            }
            for (name, text) in files {
                let inner = self.blocks(&name, &text)?;
                out.extend(self.imported(inner, depth + 1, args)?);
                self.sources.done();
            }
        }
        Ok(out)
    }

    /// The lines of a text, with their blocks.
    fn blocks(&mut self, file: &Rc<str>, text: &str) -> Result<Vec<Directive>, ImportError> {
        let tokens = tokens(file, text)?;
        let mut open: Vec<(Directive, Vec<Directive>)> = Vec::new();
        let mut current: Vec<Directive> = Vec::new();
        let mut words: Vec<(String, Place)> = Vec::new();
        let close_line = |words: &mut Vec<(String, Place)>, current: &mut Vec<Directive>| {
            if let Some((name, place)) = words.first().cloned() {
                let args = words.drain(..).skip(1).map(|(word, _)| word).collect();
                current.push(Directive { name, args, block: None, place });
            }
        };
        for (token, place) in tokens {
            match token {
                Token::Line => {
                    // Addresses go on behind a comma.
                    if words.last().is_none_or(|(word, _)| !word.ends_with(',')) {
                        close_line(&mut words, &mut current);
                    }
                }
                Token::Word { text, quoted: false } if text == "{" => {
                    if open.len() >= MAX_DEPTH {
                        return Err(ImportError::at(&place, format!("blocks are more than {MAX_DEPTH} deep")));
                    }
                    if words.is_empty() {
                        words.push(("{".into(), place.clone()));
                    }
                    let mut line = Vec::new();
                    close_line(&mut words, &mut line);
                    let Some(head) = line.pop() else { continue };
                    open.push((head, std::mem::take(&mut current)));
                }
                Token::Word { text, quoted: false } if text == "}" => {
                    close_line(&mut words, &mut current);
                    let Some((mut head, before)) = open.pop() else {
                        return Err(ImportError::at(&place, "unexpected `}`: no block is open"));
                    };
                    head.block = Some(std::mem::replace(&mut current, before));
                    current.push(head);
                }
                Token::Word { text, .. } => words.push((text, place)),
            }
        }
        close_line(&mut words, &mut current);
        match open.pop() {
            Some((head, _)) => Err(ImportError::at(&head.place, format!("the block of `{}` is not closed by `}}`", head.name))),
            None => Ok(current),
        }
    }
}

/// The words and line ends of a text.
fn tokens(file: &Rc<str>, text: &str) -> Result<Vec<(Token, Place)>, ImportError> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let place = Place { file: file.clone(), line };
        match c {
            '\n' => {
                tokens.push((Token::Line, place));
                line += 1;
            }
            c if c.is_whitespace() => {}
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            '\\' if matches!(chars.peek(), Some('\n')) => {
                chars.next();
                line += 1;
            }
            '"' | '`' => {
                let mut word = String::new();
                loop {
                    match chars.next() {
                        None => return Err(ImportError::at(&place, format!("a text that begins with {c} here is not closed"))),
                        Some(end) if end == c => break,
                        Some('\\') if c == '"' => match chars.next() {
                            Some('"') => word.push('"'),
                            Some(other) => word.extend(['\\', other]),
                            None => {}
                        },
                        Some(inner) => {
                            line += usize::from(inner == '\n');
                            word.push(inner);
                        }
                    }
                }
                tokens.push((Token::Word { text: word, quoted: true }, place));
            }
            c => {
                let mut word = String::from(c);
                while let Some(next) = chars.next_if(|c| !c.is_whitespace()) {
                    word.push(next);
                }
                // `<<END`: lines up to one that is the mark.
                if let Some(mark) = word.strip_prefix("<<").filter(|mark| !mark.is_empty()).map(str::to_owned) {
                    let mut lines: Vec<String> = Vec::new();
                    chars.next();
                    line += 1;
                    loop {
                        let mut text = String::new();
                        let mut ended = chars.peek().is_none();
                        for c in chars.by_ref() {
                            if c == '\n' {
                                break;
                            }
                            text.push(c);
                        }
                        line += 1;
                        // More words may stand behind the mark.
                        let behind = text
                            .trim_start()
                            .strip_prefix(mark.as_str())
                            .filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
                        if let Some(behind) = behind {
                            tokens.push((Token::Word { text: lines.join("\n"), quoted: true }, place.clone()));
                            let words =
                                behind.split_whitespace().map(|word| Token::Word { text: word.to_owned(), quoted: false });
                            tokens.extend(words.map(|word| (word, place.clone())));
                            tokens.push((Token::Line, place.clone()));
                            break;
                        }
                        ended |= chars.peek().is_none();
                        if ended {
                            return Err(ImportError::at(&place, format!("a text that ends with `{mark}` is not closed")));
                        }
                        lines.push(text.trim_start().to_owned());
                    }
                    continue;
                }
                tokens.push((Token::Word { text: word, quoted: false }, place));
            }
        }
    }
    Ok(tokens)
}
