use std::{
    fs,
    sync::mpsc::{Receiver, Sender},
};

use super::*;
use crate::{
    observe::testing::outcome,
    types::{Cause, Ratio},
};

const LONG: Duration = Duration::from_secs(20);

fn spec(path: &std::path::Path) -> AccessLogSpec {
    AccessLogSpec { path: path.to_str().unwrap().into(), ..AccessLogSpec::default() }
}

fn logged(path: &std::path::Path) -> Vec<serde_json::Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_was_logged_is_in_the_file_when_the_log_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let dropped = Arc::<AtomicU64>::default();
    let log = AccessLog::open(&spec(&path), dropped.clone()).unwrap();
    for status in 0..1000 {
        log.finished(&Outcome { status, ..outcome() });
    }
    log.close();
    drop(log);
    let lines = logged(&path);
    assert_eq!(lines.len(), 1000);
    assert!(lines.iter().enumerate().all(|(index, line)| line["status"] == index), "in order");
    assert_eq!(dropped.load(Relaxed), 0);
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let log = AccessLog::open(&spec(&path), Arc::default()).unwrap();
    log.finished(&outcome());
    assert!(log.flush(LONG));
    fs::rename(&path, &moved).unwrap();
    log.reopen();
    assert!(log.flush(LONG));
    log.finished(&outcome());
    assert!(log.flush(LONG));
    assert_eq!((logged(&moved).len(), logged(&path).len()), (1, 1));
}

#[test]
fn a_reopen_that_fails_keeps_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let (inner, moved) = (dir.path().join("logs"), dir.path().join("moved"));
    fs::create_dir(&inner).unwrap();
    let log = AccessLog::open(&spec(&inner.join("access.log")), Arc::default()).unwrap();
    fs::rename(&inner, &moved).unwrap();
    log.reopen();
    assert!(log.flush(LONG));
    log.finished(&outcome());
    assert!(log.flush(LONG));
    assert_eq!(logged(&moved.join("access.log")).len(), 1);
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_and_off_is_none() {
    let dir = tempfile::tempdir().unwrap();
    assert!(AccessLog::open(&spec(&dir.path().join("no/such/dir")), Arc::default()).is_err());
    let off = AccessLog::open(&AccessLogSpec { path: "off".into(), ..AccessLogSpec::default() }, Arc::default()).unwrap();
    off.finished(&outcome());
    assert!(off.flush(Duration::ZERO));
}

#[test]
fn errors_and_refusals_are_never_sampled_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = AccessLog::open(&AccessLogSpec { sample: Ratio::percent(0), ..spec(&path) }, Arc::default()).unwrap();
    log.finished(&outcome());
    log.finished(&Outcome { status: 404, ..outcome() });
    log.finished(&Outcome { status: 502, ..outcome() });
    log.finished(&Outcome { status: 0, cause: Some(Cause::ConnectionTerminated), ..outcome() });
    log.finished(&Outcome { status: 400, cause: Some(Cause::HttpRequestError), reason: Some("duplicate_host"), ..outcome() });
    log.finished(&Outcome { status: 308, reason: Some("redirect_to_https"), ..outcome() });
    assert!(log.flush(LONG));
    let statuses: Vec<_> = logged(&path).iter().map(|line| line["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [502, 0, 400]);
}

/// A sink that takes nothing until it is told how to.
struct Script {
    steps: Receiver<Step>,
    written: Written,
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match self.steps.recv() {
            Ok(step) => step(bytes)?,
            Err(_) => bytes.len(),
        };
        self.written.lock().extend_from_slice(&bytes[..count]);
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Written = Arc<parking_lot::Mutex<Vec<u8>>>;
type Step = Box<dyn FnOnce(&[u8]) -> io::Result<usize> + Send>;

fn scripted() -> (AccessLog, Sender<Step>, Written, Arc<AtomicU64>) {
    let (step, steps) = mpsc::channel();
    let (written, dropped) = (Arc::default(), Arc::<AtomicU64>::default());
    let script = Script { steps, written: Arc::clone(&written) };
    let log = AccessLog::start(&AccessLogSpec::default(), Sink::Stdout, Box::new(script), dropped.clone()).unwrap();
    (log, step, written, dropped)
}

#[test]
fn a_stuck_sink_costs_lines_and_never_time_or_memory() {
    let (log, step, _, dropped) = scripted();
    let started = Instant::now();
    let long = Outcome { path: "\u{1}".repeat(2048).into(), ..outcome() };
    for _ in 0..4_000 {
        log.finished(&long);
    }
    assert!(started.elapsed() < LONG);
    let queued = log.open.as_ref().unwrap().shared.queued_bytes.load(Relaxed);
    assert!(queued <= QUEUE_BYTES, "{queued}");
    assert!(dropped.load(Relaxed) > 2_000);
    assert!(!log.flush(Duration::from_millis(1)));
    drop(step);
    assert!(log.flush(LONG), "it goes on as soon as the sink does");
    assert_eq!(log.open.as_ref().unwrap().shared.queued_bytes.load(Relaxed), 0);
}

#[test]
fn a_stuck_sink_does_not_keep_the_process() {
    let (log, _step, ..) = scripted();
    log.finished(&outcome());
    let started = Instant::now();
    log.close();
    drop(log);
    assert!((LAST_LINES..LONG).contains(&started.elapsed()));
}

#[test]
fn a_full_disk_costs_the_line_it_cuts_and_no_other() {
    let (log, step, written, dropped) = scripted();
    step.send(Box::new(|_| Ok(7))).unwrap();
    step.send(Box::new(|_| Err(io::Error::from(io::ErrorKind::StorageFull)))).unwrap();
    log.finished(&outcome());
    assert!(log.flush(LONG));
    assert_eq!(dropped.load(Relaxed), 1);
    drop(step);
    log.finished(&Outcome { status: 201, ..outcome() });
    assert!(log.flush(LONG));
    let text = String::from_utf8(written.lock().clone()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines.len(), lines[0].len()), (2, 7), "{text}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(lines[1]).unwrap()["status"], 201);
    assert_eq!(dropped.load(Relaxed), 1);
}
