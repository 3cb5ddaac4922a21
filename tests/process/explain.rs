//! What `docs/explain.md` shows is what the commands print, and `weir top` runs in a real terminal.

use std::{path::Path, process::Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    child::{command, weir, write},
    support::{edge::edge, origin::origin, within},
};

/// The `console` blocks of a page: each command with the output below it.
fn shown(page: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match (line, inside) {
            ("```console", _) => inside = true,
            ("```", true) => inside = false,
            (line, true) => match line.strip_prefix("$ ") {
                Some(command) => all.push((command.to_owned(), String::new())),
                None => {
                    let output = &mut all.last_mut().expect("a block begins with a command").1;
                    output.push_str(line);
                    output.push('\n');
                }
            },
            _ => {}
        }
    }
    all
}

#[tokio::test]
async fn the_page_shows_what_the_commands_print() {
    let page = std::fs::read_to_string("docs/explain.md").expect("the page");
    let shown = shown(&page);
    assert!(shown.len() >= 3, "{shown:?}");
    for (line, output) in shown {
        let mut words = line.split(' ').map(|word| word.trim_matches('\''));
        assert_eq!(words.next(), Some("weir"), "{line}");
        let words: Vec<&str> = words.collect();
        let got = weir(&words).await;
        let text = String::from_utf8_lossy(&got.stdout);
        assert_eq!(text, output, "{line}\n{}", String::from_utf8_lossy(&got.stderr));
    }
}

#[tokio::test]
async fn nobody_there_is_said_and_is_no_difference() {
    for (arguments, code) in
        [(&["diff", "conf/demo.yaml"][..], 2), (&["explain", "http://localhost/"], 1), (&["top", "--once"], 1)]
    {
        let got =
            within("weir", command().args(arguments).env("WEIR_ADMIN", "http://127.0.0.1:1").output()).await.expect("it runs");
        let said = String::from_utf8_lossy(&got.stderr);
        assert_eq!(got.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains("no edge answers at http://127.0.0.1:1"), "{arguments:?}: {said}");
    }
    let got = weir(&["diff", "conf/demo.yaml", "/nonexistent.yaml"]).await;
    let said = String::from_utf8_lossy(&got.stderr);
    assert!(got.status.code() == Some(2) && said.contains("error[E0202]"), "{said}");
    assert_eq!(weir(&["diff"]).await.status.code(), Some(64));
    assert_eq!(weir(&["replay", "-c", "conf/demo.yaml", "/nonexistent.log"]).await.status.code(), Some(2));
}

#[tokio::test]
async fn a_running_edge_is_compared_explained_and_watched() {
    let origin = origin().respond(200, "ok").spawn().await;
    let edge = edge().admin("token: secret-of-the-test").upstream("app", &[origin.addr()]).route("all", "upstream: app");
    let file = write(&edge);
    let path = file.to_str().expect("UTF-8");
    let edge = edge.start().await;
    edge.get("/").await;
    let admin = format!("http://{}", edge.admin_address());
    let run = async |arguments: &[&str]| {
        let mut command = command();
        command.args(arguments).env("WEIR_ADMIN", &admin).env("WEIR_ADMIN_TOKEN", "secret-of-the-test");
        let got = within("weir", command.output()).await.expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (got.status.code(), text(&got.stdout), text(&got.stderr))
    };
    let (code, out, err) = run(&["diff", path]).await;
    assert_eq!((code, &*out), (Some(0), ""), "{err}");
    let other = file.with_file_name("other.yaml");
    let text = std::fs::read_to_string(&file).expect("read");
    std::fs::write(&other, text.replace("upstream: app", "upstream: app\n    timeout: 7s")).expect("write");
    let (code, out, err) = run(&["diff", other.to_str().expect("UTF-8")]).await;
    assert_eq!((code, &*out), (Some(1), "routes\n  ~ all\n      timeout: 0s -> 7s\n"), "{err}");

    let (code, out, err) = run(&["explain", "http://example.com/"]).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("> all: every condition holds") && out.contains(&format!("> {}", origin.addr())), "{out}");
    let (code, _, err) = run(&["explain", "--token", "wrong", "http://example.com/"]).await;
    assert_eq!((code, err.contains("does not know this admin token")), (Some(1), true), "{err}");

    let (code, out, err) = run(&["top", "--once", "--interval", "100ms"]).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("app (round_robin)") && out.contains(&origin.addr().to_string()), "{out}");

    // A log that was just written replays the same.
    edge.access_log().await;
    let log = edge.file("access.log");
    let (code, out, err) = run(&["replay", "--config", path, log.to_str().expect("UTF-8")]).await;
    assert_eq!((code, out.starts_with("1 lines: 1 the same")), (Some(0), true), "{out}{err}");
    in_a_terminal(&admin, &origin.addr().to_string()).await;
}

/// In a pseudo-terminal of `script` (util-linux): it starts, shows the endpoint, and quits at `q`.
async fn in_a_terminal(admin: &str, endpoint: &str) {
    if !Path::new("/usr/bin/script").exists() {
        eprintln!("skipped: weir top in a terminal needs /usr/bin/script (bsdutils)");
        return;
    }
    let line = format!("stty rows 24 cols 120; {} top --interval 200ms", env!("CARGO_BIN_EXE_weir"));
    let mut script = tokio::process::Command::new("/usr/bin/script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("WEIR_ADMIN", admin)
        .env("WEIR_ADMIN_TOKEN", "secret-of-the-test")
        .env("TERM", "xterm-256color")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("script starts");
    let (mut keys, mut screen) = (script.stdin.take().expect("piped"), script.stdout.take().expect("piped"));
    let mut seen = Vec::new();
    within("the endpoint on the screen", async {
        let mut piece = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains(endpoint) {
            let read = screen.read(&mut piece).await.expect("the screen");
            assert_ne!(read, 0, "it ended: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&piece[..read]);
        }
    })
    .await;
    keys.write_all(b"q").await.expect("a key");
    let drain = tokio::spawn(async move {
        let _ = screen.read_to_end(&mut Vec::new()).await;
    });
    let status = within("it to quit", script.wait()).await.expect("it ends");
    assert!(status.success(), "{status}");
    drain.abort();
}
