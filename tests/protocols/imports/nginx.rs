//! nginx itself beside its imported configuration.

use std::path::Path;

use tokio::process::{Child, Command};
use weir::import::Kind;

use super::{Ask, Pair, listening, pair};
use crate::programs;

/// nginx and Weir with the same fixture; `None` where there is no nginx.
async fn start(fixture: &str, ports: &[u16]) -> Option<(Pair, Child)> {
    let program = programs::installed("nginx", &[Path::new("/usr/sbin")])?;
    let (pair, path) = pair(Kind::Nginx, fixture, ports).await;
    let directory = pair.directory.path().display().to_string();
    // What it would write elsewhere, it writes here.
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {directory}/{kind};"))
        .collect();
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let text = text.replace("user www-data;", "").replace("pid /run/nginx.pid;", "").replacen(
        "http {",
        &format!("http {{ access_log off; {temp}"),
        1,
    );
    for name in ["mime.types", "fastcgi_params"] {
        std::fs::write(
            pair.directory.path().join(name),
            if name == "mime.types" { "types { text/html html; text/plain txt; }" } else { "" },
        )
        .expect("a file");
    }
    std::fs::write(&path, text).expect("a configuration");
    let options = format!("daemon off; master_process off; pid {directory}/nginx.pid; error_log {directory}/error.log;");
    let child = programs::start(Command::new(program).args(["-p", &directory, "-c"]).arg(&path).args(["-g", &options]));
    for port in pair.ports.values() {
        listening(*port).await;
    }
    Some((pair, child))
}

fn all<'a>(hosts: &[&'a str], paths: &[&'a str]) -> Vec<Ask<'a>> {
    hosts.iter().flat_map(|host| paths.iter().map(|path| Ask::of(host, path))).collect()
}

#[tokio::test]
async fn sites_and_locations() {
    let Some((pair, _nginx)) = start("nginx/sites.conf", &[8081, 8082]).await else { return };
    let hosts = [
        "shop.example",
        "www.shop.example",
        "SHOP.example",
        "a.shop.example",
        "a.b.shop.example",
        "extra.example",
        "nobody.example",
    ];
    let paths = [
        "/",
        "/x",
        "/x?a=1&b=2",
        "/status",
        "/api",
        "/api/",
        "/api/v1/x?q=1",
        "/apix",
        "/api/legacy",
        "/api/legacy/x",
        "/raw",
        "/raw/x",
        "/rawx",
        "/swap",
        "/swap/x",
        "/swapx",
        "/exact",
        "/exact/x",
        "/assets",
        "/assets/a.png",
        "/assets/x",
        "/user/12",
        "/user/12/x",
        "/user/x",
        "/a.png",
        "/a.PNG",
        "/api/a.css",
        "/raw/a.css",
        "/live",
        "/live/a.png",
        "/ping",
        "/ping/",
        "/gone",
        "/gone/x",
        "/moved",
        "/moved/",
        "/moved/x?y=z",
        "/blog/1/a/b",
        "/blog/x",
        "/only/here",
        "/only/here/x",
        "/only/hereto",
        "/only",
        "/a%20b",
        "/a//b",
        "/x/../api/y",
    ];
    let mut asks = all(&hosts, &paths);
    // A directory without a page is 403 there and 404 here.
    asks.retain(|ask| (ask.host, ask.path) != ("extra.example", "/"));
    for path in ["/", "/x?y=1"] {
        for host in ["old.example", "other.example"] {
            asks.push(Ask { listener: "http-8082", port: 8082, ..Ask::of(host, path) });
        }
    }
    pair.same(&asks).await;
}

#[tokio::test]
async fn files_and_what_stands_behind_them() {
    let Some((pair, _nginx)) = start("nginx/files.conf", &[8081]).await else { return };
    let hosts = ["site.example", "app.example", "mixed.example", "nobody.example"];
    let paths = [
        "/",
        "/index.html",
        "/about.html",
        "/about",
        "/app.js",
        "/docs/",
        "/none.js",
        "/none/",
        "/downloads/a.bin",
        "/downloads/none",
        "/robots.txt",
        "/plain/text.txt",
        "/plain/none",
        "/api",
        "/api/x?y=1",
        "/apix",
        "/page",
        "/page/two",
    ];
    pair.same(&all(&hosts, &paths)).await;
}

#[tokio::test]
async fn rewrites_conditions_and_limits() {
    let Some((pair, _nginx)) = start("nginx/rules.conf", &[8081]).await else { return };
    let hosts = ["rules.example", "www.rules.example"];
    let paths = [
        "/",
        "/x?y=1",
        "/old/a/b?c=d",
        "/old/",
        "/old",
        "/short",
        "/shorter",
        "/v1/",
        "/v1/a?b=c",
        "/v1",
        "/inner/a",
        "/inner/",
        "/shut",
        "/shut/x",
        "/shutx",
        "/office",
        "/office/x",
        "/abroad",
        "/beta",
        "/beta/x",
        "/upload",
        "/upload/x",
    ];
    let mut asks = all(&hosts, &paths);
    let base = Ask::of("rules.example", "/");
    for path in ["/", "/old/x", "/v1/a", "/beta", "/shut"] {
        asks.push(Ask { method: "DELETE", path, ..base });
        asks.push(Ask { fields: "user-agent: a BadBot/1.0\r\n", path, ..base });
        asks.push(Ask { fields: "user-agent: badbot\r\n", method: "DELETE", path, ..base });
        asks.push(Ask { fields: "x-beta: yes\r\n", path, ..base });
        asks.push(Ask { fields: "x-beta: no\r\n", path, ..base });
    }
    asks.push(Ask { fields: "x-trace: abc\r\nauthorization: secret\r\n", path: "/upload", ..base });
    pair.same(&asks).await;
}
