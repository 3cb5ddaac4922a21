//! HAProxy itself beside its imported configuration.

use std::path::Path;

use tokio::process::Command;
use weir::import::Kind;

use super::{Ask, listening, pair};
use crate::programs;

#[tokio::test]
async fn frontends_backends_and_rules() {
    let Some(program) = programs::installed("haproxy", &[Path::new("/usr/sbin")]) else { return };
    let (pair, path) = pair(Kind::Haproxy, "haproxy/sites.cfg", &[8081, 8082]).await;
    let text = std::fs::read_to_string(&path).expect("a configuration");
    std::fs::write(&path, text.replace("user haproxy", "").replace("daemon", "").replace("log /dev/log local0", ""))
        .expect("a configuration");
    let _haproxy = programs::start(Command::new(program).arg("-db").arg("-f").arg(&path));
    for port in pair.ports.values() {
        listening(*port).await;
    }
    let hosts = ["shop.example", "www.shop.example", "a.tenants.example", "elsewhere.example", "nobody.example"];
    let paths = [
        "/",
        "/x?a=1",
        "/api",
        "/api/",
        "/api/x?y=z",
        "/api/a.png",
        "/apix",
        "/static",
        "/static/x",
        "/staticx",
        "/a.png",
        "/a.PNG",
        "/a.css?x",
        "/admin",
        "/admin/x",
        "/adminx",
        "/ping",
        "/ping/",
        "/old",
        "/old/x",
        "/submit/12",
        "/submit/x",
        "/submit/1.css",
    ];
    let mut asks = Vec::new();
    for (host, path) in hosts.iter().flat_map(|host| paths.iter().map(move |path| (host, path))) {
        let web = Ask { listener: "web", ..Ask::of(host, path) };
        asks.push(web);
        asks.push(Ask { method: "POST", fields: "content-length: 0\r\n", ..web });
        asks.push(Ask { fields: "x-beta: yes\r\n", ..web });
        asks.push(Ask { method: "DELETE", ..web });
    }
    for path in ["/", "/secure", "/secure/x?y=z", "/x"] {
        asks.push(Ask { listener: "other", port: 8082, ..Ask::of("any.example", path) });
    }
    pair.same(&asks).await;
}
