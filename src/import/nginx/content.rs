//! What a location answers with: an upstream, files, or an answer of its own.

use super::{
    super::{
        draft::{Action, Body, Filter},
        yaml::Node,
    },
    Ctx, Directive, Scope,
    location::{Kind, Location},
    server::Site,
    value,
};

/// How far `try_files` and `rewrite` are followed from one location to the next.
const MAX_HOPS: usize = 5;

impl Ctx {
    /// What becomes of the requests of a location, apart from what `return`, `rewrite` and `if` in it say.
    pub(super) fn content(&mut self, site: &Site<'_>, location: &Location<'_>, name: &str, hops: usize) -> Body {
        let mut body = Body::new(name, Action::status(404));
        let scope = &location.scope;
        let inside = location.directive.inside();
        if inside.iter().any(|directive| directive.name == "internal") {
            return body;
        }
        let access = self.access(site, scope, &mut body);
        if !access {
            return body;
        }
        let passes = |directive: &&Directive| {
            matches!(
                directive.name.as_str(),
                "proxy_pass" | "grpc_pass" | "fastcgi_pass" | "uwsgi_pass" | "scgi_pass" | "memcached_pass"
            )
        };
        let tried = inside.iter().find(|directive| directive.name == "try_files").or_else(|| {
            // That of the server is for locations that do not answer themselves.
            scope.one("try_files").filter(|_| !inside.iter().any(|directive| passes(&directive)))
        });
        if let Some(tried) = tried {
            self.try_files(site, location, tried, &mut body, hops);
            if let Some(pass) = inside.iter().find(passes).filter(|_| tried.args.iter().any(|arg| arg.starts_with('='))) {
                self.pass(location, pass, &mut body);
            }
        } else if let Some(unless) = unless_file(inside) {
            self.files(location, &[], &mut body);
            self.fall_back(site, location.directive, unless.1, &mut body, unless.0, hops);
        } else if let Some(pass) = inside.iter().find(passes) {
            self.inner_rewrites(location, &mut body);
            self.pass(location, pass, &mut body);
        } else {
            self.inner_rewrites(location, &mut body);
            self.files(location, &[], &mut body);
        }
        body
    }

    /// What a server does with paths that have no location.
    pub(super) fn rest(&mut self, site: &Site<'_>, title: &str) -> Body {
        let mut body = Body::new(title, Action::status(404));
        if let (true, Some(tried)) = (self.access(site, &site.scope, &mut body), site.scope.one("try_files")) {
            let root = Directive { name: "location".into(), args: vec!["/".into()], block: None, place: tried.place.clone() };
            let location = Location {
                kind: Kind::Prefix,
                path: "/".into(),
                directive: &root,
                scope: site.scope.clone(),
                comments: Vec::new(),
            };
            self.try_files(site, &location, tried, &mut body, 0);
        } else if site.scope.one("root").is_some() && body.action == Action::status(404) {
            serve(&site.scope, site.scope.value("root").unwrap_or_default(), &[], &mut body);
        }
        body
    }

    /// `fastcgi_pass` and the like have nobody to go to; the others do.
    fn pass(&mut self, location: &Location<'_>, pass: &Directive, body: &mut Body) {
        match pass.name.as_str() {
            "proxy_pass" | "grpc_pass" => self.proxy(location, pass, body),
            name => {
                let what = name.trim_end_matches("_pass");
                let why = format!("Weir speaks HTTP to endpoints, and no {what}; its `{what}_*` settings are left out with it");
                body.comments.push(self.left(pass, why));
                body.action = Action::status(501);
            }
        }
    }

    /// The files of `root` or `alias`.
    fn files(&mut self, location: &Location<'_>, extensions: &[String], body: &mut Body) {
        let scope = &location.scope;
        let own = |name: &str| location.directive.inside().iter().find(|directive| directive.name == name);
        if let Some(alias) = own("alias") {
            let directory = scope.text(alias.arg(0));
            match &location.kind {
                Kind::Exact => {
                    let (directory, file) = directory.rsplit_once('/').unwrap_or((".", &directory));
                    let regex = format!("^{}$", regex::escape(&location.path));
                    let replace = format!("/{}", file.replace('$', "$$"));
                    body.filters.push(Filter::new(
                        "rewrite",
                        Node::map([("regex", Node::text(regex)), ("replace", Node::text(replace))]),
                    ));
                    serve(scope, directory, extensions, body);
                }
                Kind::Prefix | Kind::Stopping if !directory.contains('$') => {
                    strip(&location.path, body);
                    serve(scope, &directory, extensions, body);
                }
                _ => body.comments.push(self.left(alias, "files are below one directory")),
            }
            return;
        }
        match scope.one("root") {
            Some(root) if !scope.text(root.arg(0)).contains('$') => serve(scope, &scope.text(root.arg(0)), extensions, body),
            Some(root) => body.comments.push(self.left(root, "files are below one directory, whoever asks")),
            None => {}
        }
    }

    /// `try_files $uri $uri/ LAST`.
    fn try_files(&mut self, site: &Site<'_>, location: &Location<'_>, tried: &Directive, body: &mut Body, hops: usize) {
        let Some((last, files)) = tried.args.split_last() else { return };
        let mut extensions = Vec::new();
        for file in files {
            match file.as_str() {
                "$uri" | "$uri/" | "$uri/index.html" | "$uri/index.htm" | "$document_uri" => {}
                file => match file.strip_prefix("$uri.").filter(|ending| ending.bytes().all(|b| b.is_ascii_alphanumeric())) {
                    Some(ending) => extensions.push(ending.to_owned()),
                    None => body.comments.push(self.report.left(
                        &tried.place,
                        &format!("try_files {file}"),
                        "only the path itself and its endings are tried",
                    )),
                },
            }
        }
        if files.iter().any(|file| file.starts_with("$uri")) {
            self.files(location, &extensions, body);
            if !files.iter().any(|file| file.starts_with("$uri/")) {
                only_files(body);
            }
        }
        self.fall_back(site, location.directive, last, body, tried, hops);
    }

    /// Where a request goes for which there is no file.
    fn fall_back(&mut self, site: &Site<'_>, location: &Directive, last: &str, body: &mut Body, from: &Directive, hops: usize) {
        if let Some(status) =
            last.strip_prefix('=').and_then(|status| status.parse().ok()).filter(|status| (200..600).contains(status))
        {
            body.action = Action::status(status);
            return;
        }
        if hops >= MAX_HOPS {
            body.comments.push(self.left(from, "it goes in a circle"));
            return;
        }
        let last = site.scope.text(last);
        // What is made of the request behind the page's own path does not choose the location.
        let path = last.split(['?', '$']).next().unwrap_or_default();
        let target = match last.strip_prefix('@') {
            Some(_) => site.named.get(&last).cloned(),
            None if path.starts_with('/') => site.find(path).cloned(),
            None => None,
        };
        let Some(target) = target else {
            if let Some(file) = path.strip_prefix('/').filter(|file| !file.is_empty() && !file.contains('$')) {
                return fall_back_to(file, body);
            }
            body.comments.push(self.left(from, format!("there is no location for `{last}`")));
            return;
        };
        // A page of the directory that was looked in already.
        if !last.starts_with('@') && std::ptr::eq(target.directive, location) {
            return fall_back_to(path.trim_start_matches('/'), body);
        }
        let mut next = self.content(site, &target, &body.name, hops + 1);
        if last.starts_with('@') {
            let mut rules = Vec::new();
            if self.rewrites(target.directive.inside(), site, &Default::default(), &body.name, &mut rules) {
                next = rules.pop().map_or(next, |rule| rule.body);
            }
            next.comments.splice(0..0, target.comments.clone());
        }
        let files = |body: &Body| body.filters.iter().position(|filter| filter.kind == "static_files");
        if files(body).is_some() && files(&next).is_some() && next.action == Action::status(404) {
            return fall_back_to(path.trim_start_matches('/'), body);
        }
        body.action = next.action;
        body.comments.extend(next.comments);
        body.more.extend(next.more);
        if !last.starts_with('@') && matches!(body.action, Action::Upstream(_)) {
            // The path is changed on the way.
            let replace = path.replace('$', "$$");
            body.filters
                .push(Filter::new("rewrite", Node::map([("regex", Node::text("^.*$")), ("replace", Node::text(replace))])));
        }
        let known: Vec<Filter> = body.filters.clone();
        body.filters.extend(next.filters.into_iter().filter(|filter| !known.contains(filter) && filter.kind != "static_files"));
    }
}

/// The page for paths that lead to no file. `fallback` of `static_files` leaves out those whose last segment has a dot.
fn fall_back_to(file: &str, body: &mut Body) {
    let Some(files) = body.filters.iter().find(|filter| filter.kind == "static_files").cloned() else { return };
    let all = Node::map([("regex", Node::text("^.*$")), ("replace", Node::text(format!("/{}", file.replace('$', "$$"))))]);
    let mut rewrite = Filter::new("rewrite", all);
    rewrite
        .comments
        .push(format!("`fallback: {file}` above does the same, but a missing file with a dot in its name is 404 then"));
    body.filters.extend([rewrite, files]);
    body.action = Action::status(404);
}

/// Takes a prefix off.
pub(super) fn strip(prefix: &str, body: &mut Body) {
    let whole = prefix.trim_end_matches('/');
    if whole.is_empty() {
        return;
    }
    let options = if whole.len() < prefix.len() && super::super::order::canonical(whole).is_some() {
        Node::map([("strip_prefix", Node::text(whole))])
    } else {
        Node::map([("regex", Node::text(format!("^{}", regex::escape(prefix)))), ("replace", Node::text("/"))])
    };
    body.filters.push(Filter::new("rewrite", options));
}

/// No page stands for its directory.
fn only_files(body: &mut Body) {
    let Some(filter) = body.filters.iter_mut().find(|filter| filter.kind == "static_files") else { return };
    if let Node::Map(options) = &mut filter.options {
        options.retain(|(key, _)| key != "index");
        options.push(("index".into(), Node::text("no-index")));
        filter.comments.push("without `$uri/` no page stands for its directory: a name that there is not".into());
    }
}

/// Files below a directory; what is none of them goes on.
fn serve(scope: &Scope<'_>, root: &str, extensions: &[String], body: &mut Body) {
    let mut options = vec![("root".to_owned(), Node::text(if root.len() > 1 { root.trim_end_matches('/') } else { root }))];
    if let Some(index) = scope.one("index") {
        let names: Vec<&String> = index.args.iter().filter(|name| !name.contains(['/', '$']) && !name.starts_with('.')).collect();
        if !names.is_empty() && names != ["index.html"] {
            options.push(("index".into(), Node::one_or_many(&names)));
        }
    }
    if !extensions.is_empty() {
        options.push(("extensions".into(), Node::one_or_many(extensions)));
    }
    body.filters.push(Filter::new("static_files", Node::Map(options)));
}

/// `if (!-e $request_filename) { rewrite ^(.*)$ /index.php last; }`: where a path goes that is no file.
fn unless_file(inside: &[Directive]) -> Option<(&Directive, &str)> {
    let found = inside.iter().find(|directive| is_unless_file(directive))?;
    let rewrite = found.inside().iter().find(|directive| directive.name == "rewrite")?;
    let target = rewrite.arg(1);
    (target.starts_with('/') && !target.split('?').next().unwrap_or_default().contains('$')).then_some((found, target))
}

/// Is it the `if` of [`unless_file`]?
pub(super) fn is_unless_file(directive: &Directive) -> bool {
    let words: Vec<&str> = directive.args.iter().map(|arg| arg.trim_matches(['(', ')'])).collect();
    directive.name == "if" && matches!(words.as_slice(), ["!-e" | "!-f", "$request_filename"])
}

impl Ctx {
    /// `rewrite ... break` and those whose result stays in this location.
    fn inner_rewrites(&mut self, location: &Location<'_>, body: &mut Body) {
        for directive in location.directive.inside().iter().filter(|directive| directive.name == "rewrite") {
            match self.rewrite_filter(&location.scope, directive) {
                Ok(filter) => body.filters.push(filter),
                Err(why) => body.comments.push(self.left(directive, why)),
            }
        }
    }

    /// A `rewrite` that changes the path and goes on.
    pub(super) fn rewrite_filter(&mut self, scope: &Scope<'_>, directive: &Directive) -> Result<Filter, String> {
        let expression =
            value::expression(directive.arg(0), false).ok_or("an expression here has no look-around and no back-references")?;
        let text = scope.text(directive.arg(1));
        let (path, query) = text.split_once('?').unwrap_or((&text, ""));
        let replace = super::rewrite::replacement(path)?;
        let mut filter = Filter::new(
            "rewrite",
            Node::map([("regex", Node::text(value::whole(&expression))), ("replace", Node::text(replace))]),
        );
        if !query.is_empty() {
            filter.comments.push(self.differs(directive, format!("the query is kept as it is: `{query}` is not put into it")));
        }
        Ok(filter)
    }
}
