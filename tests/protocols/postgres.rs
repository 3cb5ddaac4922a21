//! PostgreSQL by its own client: a query, and 100 MB in either direction.

use std::{
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use nix::unistd::{User, geteuid};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

use crate::{
    programs,
    support::{
        edge::{Edge, edge},
        free_port,
    },
};

/// 100,000 rows of 999 letters and a line end.
const ROWS: usize = 100_000;
const ROW: usize = 1000;
/// For 100 MB on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

struct Postgres {
    _server: Child,
    _directory: TempDir,
    port: u16,
}

/// PostgreSQL keeps its programs out of the path, in a directory for each version.
fn programs_of_the_server() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin")).collect()
}

/// It refuses to be run by root, so then it is run by the user that its package made.
fn command(program: &Path) -> Command {
    if !geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command
}

async fn postgres() -> Option<Postgres> {
    let places = programs_of_the_server();
    let places: Vec<&Path> = places.iter().map(PathBuf::as_path).collect();
    let (initdb, server) = (programs::find("initdb", &places)?, programs::find("postgres", &places)?);
    programs::find("psql", &places)?;
    let directory = TempDir::new().expect("a directory");
    if geteuid().is_root() {
        let user = User::from_name("postgres").expect("users")?;
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o700)).expect("a mode");
        chown(directory.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("an owner");
    }
    let data = directory.path().join("data");
    let made =
        command(&initdb).args(["-A", "trust", "-U", "tester", "--no-sync", "-D"]).arg(&data).output().await.expect("initdb");
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    let port = free_port();
    let mut command = command(&server);
    command.arg("-D").arg(&data).arg("-k").arg(directory.path()).args(["-h", "127.0.0.1", "-p", &port.to_string()]);
    let server = programs::start(command.args(["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_wal_size=4GB"]));
    eventually!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok());
    Some(Postgres { _server: server, _directory: directory, port })
}

async fn in_front_of(postgres: &Postgres, keys: &str) -> Edge {
    let address = ([127, 0, 0, 1], postgres.port).into();
    edge().upstream("db", &[address]).tcp("db", &format!("upstream: db\n{keys}")).start().await
}

fn psql(edge: &Edge, query: &str) -> Command {
    let mut command = Command::new("psql");
    let port = edge.address("db").port().to_string();
    command.args([
        "-X",
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-U",
        "tester",
        "-d",
        "postgres",
        "-v",
        "ON_ERROR_STOP=1",
        "-Atc",
        query,
    ]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn answer(edge: &Edge, query: &str) -> String {
    let output: Output = psql(edge, query).stdin(Stdio::null()).output().await.expect("psql");
    assert!(output.status.success(), "{query}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[tokio::test]
async fn a_query_and_a_hundred_megabytes_in_either_direction() {
    let Some(postgres) = postgres().await else { return };
    for keys in ["splice: auto", "splice: off"] {
        let edge = in_front_of(&postgres, keys).await;
        // The server listens before it is ready to serve.
        let ready = async || psql(&edge, "SELECT 6 * 7").stdin(Stdio::null()).output().await.expect("psql").stdout;
        eventually!(ready().await == b"42\n");
        answer(&edge, "DROP TABLE IF EXISTS t").await;
        answer(&edge, "CREATE TABLE t (v text)").await;
        copy_in(&edge).await;
        let counted = answer(&edge, "SELECT count(*), sum(length(v)) FROM t").await;
        assert_eq!(counted, format!("{ROWS}|{}", ROWS * (ROW - 1)), "{keys}");
        copy_out(&edge).await;
        // The client says goodbye, so no session was broken off.
        let log = edge.access_log_of(6).await;
        assert!(log.iter().all(|line| line["end"]["type"].is_null()), "{log:?}");
        let most = |key: &str| log.iter().filter_map(|line| line[key].as_u64()).max().expect("a line");
        assert!(most("bytes_in") > (ROWS * ROW) as u64 && most("bytes_out") > (ROWS * ROW) as u64);
    }
}

async fn copy_in(edge: &Edge) {
    let mut client = psql(edge, "COPY t FROM STDIN").spawn().expect("psql");
    let mut input = client.stdin.take().expect("its input");
    let row = [vec![b'x'; ROW - 1], b"\n".to_vec()].concat();
    let feeding = async {
        let thousand = row.repeat(1000);
        for _ in 0..ROWS / 1000 {
            input.write_all(&thousand).await.expect("psql reads");
        }
        drop(input);
        client.wait_with_output().await.expect("psql ends")
    };
    let output = tokio::time::timeout(PATIENCE, feeding).await.expect("100 MB in");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn copy_out(edge: &Edge) {
    let mut client = psql(edge, "COPY t TO STDOUT").spawn().expect("psql");
    let mut output = client.stdout.take().expect("its output");
    let reading = async {
        let (mut buffer, mut count, mut strange) = (vec![0; 64 * 1024], 0, 0);
        loop {
            match output.read(&mut buffer).await.expect("psql writes") {
                0 => return (count, strange),
                read => {
                    count += read;
                    strange += buffer[..read].iter().filter(|byte| !matches!(byte, b'x' | b'\n')).count();
                }
            }
        }
    };
    let read = tokio::time::timeout(PATIENCE, reading).await.expect("100 MB out");
    assert_eq!(read, (ROWS * ROW, 0));
    assert!(client.wait().await.expect("psql ends").success());
}
