//! nginx's own syntax: words, quotes, `;` and blocks. What a directive means is not known here.

use std::rc::Rc;

use super::super::{
    directive::Directive,
    report::{ImportError, Place, Report},
    source::Sources,
};

/// Blocks deeper than this are not nginx.
const MAX_DEPTH: usize = 64;

/// Reads a file and all that it includes.
pub fn read(path: &std::path::Path, report: &mut Report) -> Result<Vec<Directive>, ImportError> {
    let mut sources = Sources::new(path);
    let source = sources.open(path, None)?;
    let found = directives(&source.name, &source.text)?;
    include(found, &mut sources, report)
}

/// Puts included files in the place of their `include`.
fn include(found: Vec<Directive>, sources: &mut Sources, report: &mut Report) -> Result<Vec<Directive>, ImportError> {
    let mut out = Vec::with_capacity(found.len());
    for mut directive in found {
        if let Some(block) = directive.block.take() {
            directive.block = Some(include(block, sources, report)?);
        }
        if directive.name != "include" || directive.block.is_some() {
            out.push(directive);
            continue;
        }
        let pattern = directive.arg(0).to_owned();
        if is_known(&pattern) {
            report.unneeded(&format!("include {pattern}"));
            continue;
        }
        let paths = sources.find(&pattern, "/etc/nginx");
        if paths.is_empty() {
            // A pattern may match nothing.
            if !pattern.contains(['*', '?', '[']) {
                directive.name = MISSING.into();
                out.push(directive);
            }
            continue;
        }
        for path in paths {
            let source = sources.open(&path, Some(&directive.place))?;
            let inner = directives(&source.name, &source.text)?;
            out.extend(include(inner, sources, report)?);
            sources.done();
        }
        report.carried(&directive.place, &directive.words());
    }
    Ok(out)
}

/// The name that an `include` gets whose file is not there.
pub const MISSING: &str = "include (missing)";

/// Files of every installation that have nothing for us.
fn is_known(pattern: &str) -> bool {
    let name = pattern.rsplit('/').next().unwrap_or_default();
    matches!(name, "mime.types" | "fastcgi_params" | "fastcgi.conf" | "uwsgi_params" | "scgi_params" | "options-ssl-nginx.conf")
        || pattern.contains("modules-enabled/")
        || pattern.ends_with("modules/*.conf")
}

/// The directives of a text.
pub fn directives(file: &Rc<str>, text: &str) -> Result<Vec<Directive>, ImportError> {
    let mut lexer = Lexer { file, rest: text.char_indices().peekable(), line: 1 };
    // Blocks that are open, each with the directive that it belongs to.
    let mut open: Vec<(Directive, Vec<Directive>)> = Vec::new();
    let mut current: Vec<Directive> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut place = lexer.place();
    loop {
        match lexer.next()? {
            Token::Word(word) => {
                if words.is_empty() {
                    place = lexer.place();
                }
                words.push(word);
            }
            Token::End => {
                if words.is_empty() {
                    return Err(ImportError::at(&lexer.place(), "unexpected `;`: there is nothing in front of it"));
                }
                current.push(directive(std::mem::take(&mut words), &place));
            }
            Token::Open => {
                if words.is_empty() {
                    return Err(ImportError::at(&lexer.place(), "unexpected `{`: there is no directive in front of it"));
                }
                if open.len() >= MAX_DEPTH {
                    return Err(ImportError::at(&lexer.place(), format!("blocks are more than {MAX_DEPTH} deep")));
                }
                let mut whole = directive(std::mem::take(&mut words), &place);
                if whole.name.ends_with("_by_lua_block") {
                    lexer.skip_lua()?;
                    whole.block = Some(Vec::new());
                    current.push(whole);
                    continue;
                }
                open.push((whole, std::mem::take(&mut current)));
            }
            Token::Close => {
                if let Some(word) = words.first() {
                    return Err(ImportError::at(&place, format!("`{word}` is not ended by `;` before `}}`")));
                }
                let Some((mut whole, before)) = open.pop() else {
                    return Err(ImportError::at(&lexer.place(), "unexpected `}`: no block is open"));
                };
                whole.block = Some(std::mem::replace(&mut current, before));
                current.push(whole);
            }
            Token::Eof => {
                if let Some(word) = words.first() {
                    return Err(ImportError::at(&place, format!("`{word}` is not ended by `;`")));
                }
                return match open.pop() {
                    Some((whole, _)) => {
                        Err(ImportError::at(&whole.place, format!("the block of `{}` is not closed by `}}`", whole.name)))
                    }
                    None => Ok(current),
                };
            }
        }
    }
}

fn directive(words: Vec<String>, place: &Place) -> Directive {
    let mut words = words.into_iter();
    let name = words.next().unwrap_or_default();
    Directive { name, args: words.collect(), block: None, place: place.clone() }
}

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    End,
    Open,
    Close,
    Eof,
}

struct Lexer<'t> {
    file: &'t Rc<str>,
    rest: std::iter::Peekable<std::str::CharIndices<'t>>,
    line: usize,
}

impl Lexer<'_> {
    fn place(&self) -> Place {
        Place { file: self.file.clone(), line: self.line }
    }

    fn bump(&mut self) -> Option<char> {
        let (_, c) = self.rest.next()?;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn peek(&mut self) -> Option<char> {
        self.rest.peek().map(|(_, c)| *c)
    }

    fn next(&mut self) -> Result<Token, ImportError> {
        loop {
            match self.peek() {
                None => return Ok(Token::Eof),
                Some(c) if c.is_whitespace() => {
                    self.bump();
                }
                Some('#') => while self.bump().is_some_and(|c| c != '\n') {},
                Some(_) => break,
            }
        }
        match self.peek() {
            Some(sign @ (';' | '{' | '}')) => {
                self.bump();
                Ok(match sign {
                    ';' => Token::End,
                    '{' => Token::Open,
                    _ => Token::Close,
                })
            }
            Some(quote @ ('"' | '\'')) => self.quoted(quote),
            _ => Ok(Token::Word(self.bare())),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Token, ImportError> {
        let place = self.place();
        self.bump();
        let mut word = String::new();
        loop {
            match self.bump() {
                None => return Err(ImportError::at(&place, format!("a text that begins with {quote} here is not closed"))),
                Some(c) if c == quote => return Ok(Token::Word(word)),
                Some('\\') => self.escape(&mut word),
                Some(c) => word.push(c),
            }
        }
    }

    /// What stands behind a backslash: quotes and backslashes lose it, everything else keeps it.
    fn escape(&mut self, word: &mut String) {
        match self.bump() {
            Some(c @ ('"' | '\'' | '\\')) => word.push(c),
            Some('t') => word.push('\t'),
            Some('r') => word.push('\r'),
            Some('n') => word.push('\n'),
            Some(c) => word.extend(['\\', c]),
            None => word.push('\\'),
        }
    }

    fn bare(&mut self) -> String {
        let mut word = String::new();
        let mut dollar = false;
        while let Some(c) = self.peek() {
            if c.is_whitespace() || c == ';' || c == '{' && !dollar {
                break;
            }
            // `${name}` is a part of the word.
            if c == '{' {
                while let Some(c) = self.bump() {
                    word.push(c);
                    if c == '}' || c == '\n' {
                        break;
                    }
                }
                dollar = false;
                continue;
            }
            self.bump();
            dollar = c == '$';
            if c == '\\' { self.escape(&mut word) } else { word.push(c) }
        }
        word
    }

    /// Past the end of a block of Lua, whose strings and comments may hold braces.
    fn skip_lua(&mut self) -> Result<(), ImportError> {
        let place = self.place();
        let mut depth = 1;
        while let Some(c) = self.bump() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                '"' | '\'' => {
                    while let Some(inner) = self.bump() {
                        match inner {
                            '\\' => {
                                self.bump();
                            }
                            inner if inner == c || inner == '\n' => break,
                            _ => {}
                        }
                    }
                }
                '-' if self.peek() == Some('-') => while self.bump().is_some_and(|c| c != '\n') {},
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
        Err(ImportError::at(&place, "a block of Lua that begins here is not closed"))
    }
}
