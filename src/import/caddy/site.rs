//! The directives of a site, in the order in which Caddy runs them.

use super::{
    super::{
        draft::{Action, Body, Filter},
        matching::{Match, PathMatch},
        order::Rule,
        yaml::Node,
    },
    Ctx, Directive,
    directives::target,
    matcher::{self, Named, Which},
    parse::Site,
};

/// Directives that change requests and responses.
const CHANGES: [&str; 10] =
    ["header", "request_body", "rewrite", "uri", "basic_auth", "basicauth", "forward_auth", "request_header", "encode", "method"];
/// Those that answer, in Caddy's order.
const ANSWERS: [&str; 12] = [
    "redir",
    "handle",
    "handle_path",
    "route",
    "abort",
    "error",
    "respond",
    "metrics",
    "reverse_proxy",
    "php_fastcgi",
    "file_server",
    "acme_server",
];
/// More conditional changes than this are not told apart.
const MAX_CONDITIONS: usize = 4;

type Rules = Vec<(Rule<Body>, Vec<Match>)>;

/// What holds in a block.
#[derive(Debug, Clone, Default)]
struct Scope {
    which: Which,
    filters: Vec<Filter>,
    root: Option<String>,
    named: Named,
    name: String,
    comments: Vec<String>,
}

impl Ctx {
    /// The rules of a site, for any of its hosts.
    pub(super) fn site(&mut self, site: &Site) -> Rules {
        let address = site.addresses.first().map(String::as_str).unwrap_or_default();
        let name = address.trim_start_matches("https://").trim_start_matches("http://").trim_start_matches("*.").to_owned();
        let scope = Scope {
            which: Which::all(),
            name: if name.is_empty() || name.starts_with(':') { format!("site{name}") } else { name },
            ..Scope::default()
        };
        self.block(&site.block, scope, false, 0)
    }

    fn block(&mut self, block: &[Directive], mut scope: Scope, in_order: bool, depth: usize) -> Rules {
        for directive in block.iter().filter(|directive| directive.name.starts_with('@')) {
            let which = match directive.args.split_first() {
                None => matcher::all(directive.inside()),
                Some((kind, args)) => matcher::condition(&Directive {
                    name: kind.clone(),
                    args: args.to_vec(),
                    block: directive.block.clone(),
                    place: directive.place.clone(),
                }),
            };
            match &which {
                Ok(_) => self.carried(directive),
                Err(why) => scope.comments.push(self.left(directive, why.clone())),
            }
            scope.named.insert(directive.name.clone(), which);
        }
        let tried = block.iter().find(|directive| directive.name == "try_files");
        let mut conditional: Vec<(Which, Filter)> = Vec::new();
        let mut answers: Vec<(usize, usize, &Directive, Which, Vec<String>)> = Vec::new();
        for directive in block.iter().filter(|directive| !directive.name.starts_with('@')) {
            let rank = ANSWERS.iter().position(|name| *name == directive.name);
            let changes = CHANGES.contains(&directive.name.as_str());
            match directive.name.as_str() {
                "root" | "try_files" | "tls" | "bind" => self.carried(directive),
                // That was told where the file is read.
                "import" => continue,
                "log" | "log_skip" | "skip_log" | "log_append" | "log_name" | "push" | "intercept" => {
                    self.report.unneeded(&directive.name);
                    continue;
                }
                _ if rank.is_some() || changes => self.carried(directive),
                _ => {
                    scope.comments.push(self.left(directive, "no counterpart"));
                    continue;
                }
            }
            let (which, args) = match which(directive, &scope.named) {
                Ok(found) => found,
                Err(why) => {
                    scope.comments.push(self.left(directive, why));
                    continue;
                }
            };
            match directive.name.as_str() {
                "root" => scope.root = args.last().cloned(),
                _ if changes => match self.filter(directive, &args) {
                    Ok(Some(filter)) if which == Which::all() => scope.filters.push(filter),
                    Ok(Some(filter)) if conditional.len() < MAX_CONDITIONS => conditional.push((which, filter)),
                    Ok(Some(_)) => {
                        scope.comments.push(self.left(directive, "there are too many conditions for one change after the other"))
                    }
                    Ok(None) => {}
                    Err(why) => scope.comments.push(self.left(directive, why)),
                },
                _ => {
                    if let Some(rank) = rank {
                        // Blocks exclude each other, whichever they are.
                        let rank = if matches!(rank, 1..=3) { 1 } else { rank };
                        let length = which.any.iter().map(|matches| length(&matches.path)).max().unwrap_or_default();
                        answers.push((rank, usize::MAX - length, directive, which, args));
                    }
                }
            }
        }
        if !in_order {
            answers.sort_by_key(|(rank, length, ..)| (*rank, *length));
        }
        let mut rules = Rules::new();
        let mut comments = std::mem::take(&mut scope.comments);
        for (.., directive, which, args) in answers {
            let own = scope.which.meet(&which);
            let inner = Scope { which: own.clone(), comments: Vec::new(), ..scope.clone() };
            rules.extend(self.answer(directive, &args, inner, tried, &mut comments, depth));
        }
        // What nothing answers is an empty 200.
        let end = Body { filters: scope.filters.clone(), ..Body::new(&scope.name, Action::status(200)) };
        let end = match (tried, &scope.root) {
            _ if in_order
                || rules
                    .iter()
                    .any(|(rule, except)| except.is_empty() && scope.which.any.iter().all(|own| rule.matches.covers(own))) =>
            {
                None
            }
            _ => Some(end),
        };
        if let Some(end) = end {
            rules.extend(scope.which.any.iter().map(|own| (Rule::new(own.clone(), end.clone()), scope.which.except.clone())));
        }
        for (which, filter) in conditional.into_iter().rev() {
            let with = |(rule, except): &(Rule<Body>, Vec<Match>)| {
                let mut body = rule.body.clone();
                // In front: a password is asked for before anything is sent.
                body.filters.insert(0, filter.clone());
                let met = which.any.iter().filter_map(|own| rule.matches.meet(own)).collect::<Vec<_>>();
                let except = [except.clone(), which.except.clone()].concat();
                met.into_iter().map(|matches| (Rule::new(matches, body.clone()), except.clone())).collect::<Vec<_>>()
            };
            let mut all: Rules = rules.iter().flat_map(with).collect();
            all.append(&mut rules);
            rules = all;
        }
        match rules.first_mut() {
            Some((rule, _)) => rule.body.comments.splice(0..0, comments).for_each(drop),
            None => self.draft.comments.extend(comments),
        }
        rules
    }

    /// The rules of a directive that answers.
    fn answer(
        &mut self,
        directive: &Directive,
        args: &[String],
        scope: Scope,
        tried: Option<&Directive>,
        comments: &mut Vec<String>,
        depth: usize,
    ) -> Rules {
        let path = scope.which.any.iter().find_map(|matches| match &matches.path {
            PathMatch::Exact(path) | PathMatch::Begins(path) | PathMatch::Below(path) => Some(path.clone()),
            _ => None,
        });
        let mut body = Body::new(format!("{}{}", scope.name, path.clone().unwrap_or_default()), Action::status(404));
        body.filters = scope.filters.clone();
        let arg = |index: usize| args.get(index).map_or("", String::as_str);
        match directive.name.as_str() {
            "handle" | "handle_path" | "route" => {
                let mut inner = scope;
                if let (Some(prefix), "handle_path") = (path, directive.name.as_str()) {
                    let prefix = prefix.trim_end_matches('/');
                    if !prefix.is_empty() {
                        inner.filters.push(Filter::new("rewrite", Node::map([("strip_prefix", Node::text(prefix))])));
                    }
                }
                let ordered = directive.name == "route";
                let whole = inner.which == Which::all();
                let mut rules = self.block(directive.inside(), inner.clone(), ordered, depth + 1);
                // A `route` without a condition goes on to what is behind it.
                if ordered && !whole && depth < 16 {
                    let end = Body { filters: inner.filters, ..Body::new(inner.name, Action::status(200)) };
                    rules.extend(
                        inner.which.any.iter().map(|own| (Rule::new(own.clone(), end.clone()), inner.which.except.clone())),
                    );
                }
                return rules;
            }
            "redir" => {
                let status = match arg(1) {
                    "permanent" => 301,
                    "" | "temporary" | "html" => 302,
                    code => code.parse().unwrap_or(302),
                };
                match target(arg(0)) {
                    Ok(to) => body.action = Action::Redirect { to, status },
                    Err(why) => {
                        body.comments.push(self.left(directive, why));
                        body.action = Action::status(501);
                    }
                }
            }
            "respond" | "error" => {
                let number = |text: &str| text.parse::<u16>().ok().filter(|status| (200..600).contains(status));
                let status = args.iter().rev().find_map(|arg| number(arg)).or_else(|| number(directive.option("status")?.arg(0)));
                let text = args.first().filter(|text| number(text).is_none()).cloned();
                let text = text.or_else(|| directive.option("body").map(|body| body.arg(0).to_owned())).unwrap_or_default();
                let default = if directive.name == "error" { 500 } else { 200 };
                if text.contains('{') {
                    body.comments.push(self.report.differs(&directive.place, &directive.words(), "the body is a fixed text"));
                }
                let kind = if text.trim_start().starts_with(['{', '[']) { Some("application/json".to_owned()) } else { None };
                body.action = Action::Respond {
                    status: status.unwrap_or(default),
                    body: if status == Some(204) { String::new() } else { text },
                    content_type: kind,
                };
            }
            "abort" => {
                body.action = Action::status(403);
                body.comments.push(self.report.differs(
                    &directive.place,
                    "abort",
                    "403 instead of a connection that is closed without an answer",
                ));
            }
            "reverse_proxy" => {
                if let (Some(tried), Some(root)) = (tried, &scope.root) {
                    files(root, tried, &mut body);
                }
                match self.upstream(directive, args, comments) {
                    Ok((upstream, filters)) => {
                        body.filters.extend(filters);
                        body.action = Action::Upstream(upstream);
                    }
                    Err(why) => {
                        body.comments.push(self.left(directive, why));
                        body.action = Action::status(501);
                    }
                }
            }
            "file_server" => {
                let root = directive.option("root").map(|root| root.arg(0).to_owned()).or(scope.root.clone());
                if args.iter().any(|arg| arg == "browse") {
                    body.comments.push(self.left(directive, "directories are not listed"));
                }
                match root.filter(|root| !root.contains('{')) {
                    Some(root) => match tried {
                        Some(tried) => files(&root, tried, &mut body),
                        None => body.filters.push(static_files(&root, &[], directive)),
                    },
                    None => body.comments.push(
                        self.left(directive, "there is no directory that is always the same: write `static_files: {root: ...}`"),
                    ),
                }
            }
            _ => {
                body.comments.push(self.left(directive, "there is nothing here that answers so"));
                body.action = Action::status(501);
            }
        }
        scope.which.any.iter().map(|own| (Rule::new(own.clone(), body.clone()), scope.which.except.clone())).collect()
    }
}

/// The directory, and the page for paths that lead to no file.
fn files(root: &str, tried: &Directive, body: &mut Body) {
    let known = |arg: &&String| matches!(arg.as_str(), "{path}" | "{path}/" | "{path}/index.html" | "{http.request.uri.path}");
    let endings: Vec<String> = tried.args.iter().filter_map(|arg| arg.strip_prefix("{path}.")).map(str::to_owned).collect();
    let filter = static_files(root, &endings, tried);
    body.filters.push(filter.clone());
    let last = tried.args.last().filter(|arg| !known(arg) && arg.starts_with('/') && !arg.contains(['{', '?']));
    if let Some(page) = last {
        let mut rewrite =
            Filter::new("rewrite", Node::map([("regex", Node::text("^.*$")), ("replace", Node::text(page.replace('$', "$$")))]));
        rewrite.comments.push(format!(
            "`fallback: {}` above does the same, but a missing file with a dot in its name is 404 then",
            page.trim_start_matches('/')
        ));
        body.filters.extend([rewrite, filter]);
    }
}

fn static_files(root: &str, endings: &[String], directive: &Directive) -> Filter {
    let mut options = vec![("root".to_owned(), Node::text(root))];
    if let Some(index) = directive.option("index") {
        options.push(("index".into(), Node::one_or_many(&index.args)));
    }
    if !endings.is_empty() {
        options.push(("extensions".into(), Node::one_or_many(endings)));
    }
    if let Some(order) = directive.option("precompressed") {
        let known: Vec<&String> = order.args.iter().filter(|arg| matches!(arg.as_str(), "zstd" | "br" | "gzip")).collect();
        let all = ["br".to_owned(), "zstd".to_owned(), "gzip".to_owned()];
        let known: Vec<&String> = if known.is_empty() { all.iter().collect() } else { known };
        options.push(("precompressed".into(), Node::one_or_many(&known)));
    }
    Filter::new("static_files", Node::Map(options))
}

fn length(path: &PathMatch) -> usize {
    match path {
        PathMatch::Any => 0,
        PathMatch::Exact(path) => path.len() * 2 + 1,
        PathMatch::Begins(path) | PathMatch::Below(path) => path.len() * 2,
        PathMatch::Regex(_) => 1,
    }
}

/// The requests that a directive is for, and its arguments without the matcher.
fn which(directive: &Directive, named: &Named) -> Result<(Which, Vec<String>), String> {
    let Some((first, rest)) = directive.args.split_first() else { return Ok((Which::all(), Vec::new())) };
    if first == "*" {
        return Ok((Which::all(), rest.to_vec()));
    }
    if first.starts_with('@') {
        let found = named.get(first).cloned().ok_or_else(|| format!("there is no matcher `{first}`"))?;
        return Ok((found?, rest.to_vec()));
    }
    // A path in the first place is a matcher, unless it is all that `root`, `redir` and `rewrite` have.
    let alone = rest.is_empty() && matches!(directive.name.as_str(), "root" | "redir" | "rewrite" | "respond" | "try_files");
    let value = matches!(directive.name.as_str(), "try_files" | "uri")
        || directive.name == "redir"
            && rest.first().is_some_and(|arg| arg.parse::<u16>().is_ok() || matches!(arg.as_str(), "permanent" | "temporary"));
    if first.starts_with('/') && !alone && !value {
        let path = matcher::path(first).ok_or_else(|| format!("no request has the path `{first}`"))?;
        let any = vec![Match { path, ..Match::default() }];
        return Ok((Which { any, except: Vec::new() }, rest.to_vec()));
    }
    Ok((Which::all(), directive.args.clone()))
}
