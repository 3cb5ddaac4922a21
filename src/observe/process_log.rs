//! The process log: what the `log` facade carries, on standard error.
//!
//! The facade has one logger per process, so this is the one place that is shared by all instances in it; nothing
//! but level and format can be set, and setting them twice is fine.
//!
//! Three rules keep peers from filling the disk.
//! - Dependencies are logged one level lower than Weir itself: their INFO is noise to an operator, and h2, rustls and
//!   Pingora report at DEBUG what peers do.
//! - Of their WARN and ERROR, each place in their code gets five lines in ten seconds. A place is limited rather than a
//!   text, since texts hold addresses.
//! - What a peer does wrong is a [`Notice`]: one line a second for each kind of fault and each listener or upstream.
//!
//! Lines beyond that are counted, and the next line says how many were suppressed.

use std::{
    fmt,
    io::{self, Write},
    sync::{
        OnceLock,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::{LogFormat, LogLevel, LogSpec, access_log::quoted, line_limit::LineLimit};

/// Lines of one place in a dependency, in one window.
const BURST: u32 = 5;
const WINDOW: Duration = Duration::from_secs(10);
/// A notice gets one line in this time.
const NOTICE_WINDOW: Duration = Duration::from_secs(1);
/// Bytes of one message: some errors quote what a peer sent.
const MESSAGE: usize = 4096;

static LOGGER: OnceLock<ProcessLog> = OnceLock::new();

/// Makes this the process's logger, or changes level and format if it is already. If something else was installed
/// as logger before, that stays.
pub fn init(spec: &LogSpec) {
    let logger = LOGGER.get_or_init(|| ProcessLog::new(Box::new(io::stderr())));
    logger.set(spec);
    let _ = log::set_logger(logger);
    log::set_max_level(level_filter(spec.level));
}

/// New settings for the log of this process, if it has one.
pub fn update(spec: &LogSpec) {
    if let Some(logger) = LOGGER.get() {
        logger.set(spec);
        log::set_max_level(level_filter(spec.level));
    }
}

/// Facts beside a message: members of their own in JSON. The message says them in words, since text has no others.
pub type Facts = Map<String, Value>;

/// Facts from pairs; what is `null` is left out.
pub fn facts<const N: usize>(pairs: [(&str, Value); N]) -> Facts {
    pairs.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Logs a message with facts. Nothing before [`init`].
pub fn event(level: Level, target: &str, message: &str, facts: &Facts) {
    if let Some(logger) = LOGGER.get() {
        logger.event(level, target, message, facts, SystemTime::now());
    }
}

/// A fault of a peer, which may repeat it as often as it likes.
#[derive(Debug, Clone, Copy)]
pub struct Notice<'a> {
    /// How severe it is.
    pub level: Level,
    /// The module that reports it.
    pub target: &'a str,
    /// The kind of fault.
    pub kind: &'static str,
    /// The listener or upstream.
    pub about: &'a str,
}

impl Notice<'_> {
    /// Logs it, unless there was a line of this kind about the same within the last second. The words are asked for only
    /// if they are written.
    pub fn tell(self, words: impl FnOnce() -> (String, Facts)) {
        if let Some(logger) = LOGGER.get() {
            logger.notice(self, words, Instant::now(), SystemTime::now());
        }
    }
}

/// A logger and its settings.
struct ProcessLog {
    level: AtomicU8,
    format: AtomicU8,
    output: Mutex<Output>,
}

struct Output {
    sink: Box<dyn Write + Send>,
    places: LineLimit<Place>,
    notices: LineLimit<(&'static str, Box<str>)>,
}

/// A line of code that logs.
type Place = (Option<&'static str>, u32);

impl ProcessLog {
    fn new(sink: Box<dyn Write + Send>) -> Self {
        let (places, notices) = (LineLimit::new(BURST, WINDOW), LineLimit::new(1, NOTICE_WINDOW));
        let output = Mutex::new(Output { sink, places, notices });
        Self { level: AtomicU8::new(0), format: AtomicU8::new(0), output }
    }

    fn set(&self, spec: &LogSpec) {
        self.level.store(level_filter(spec.level) as u8, Relaxed);
        self.format.store(u8::from(spec.format == LogFormat::Text), Relaxed);
    }

    fn log_at(&self, record: &Record<'_>, now: Instant, time: SystemTime) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let limited = !is_ours(record.target()) && record.level() <= Level::Warn;
        let admit = || self.output.lock().places.admit((record.file_static(), record.line().unwrap_or(0)), now);
        let suppressed = match limited.then(admit) {
            Some(None) => return,
            Some(Some(suppressed)) => suppressed,
            None => 0,
        };
        // Not under the lock: what is formatted may panic, and the panic is logged, too.
        self.write(record, record.args().to_string(), Facts::new(), suppressed, time);
    }

    fn event(&self, level: Level, target: &str, message: &str, facts: &Facts, time: SystemTime) {
        let record = Record::builder().level(level).target(target).build();
        if self.enabled(record.metadata()) {
            self.write(&record, message.to_owned(), facts.clone(), 0, time);
        }
    }

    fn notice(&self, notice: Notice<'_>, words: impl FnOnce() -> (String, Facts), now: Instant, time: SystemTime) {
        let record = Record::builder().level(notice.level).target(notice.target).build();
        if !self.enabled(record.metadata()) {
            return;
        }
        let Some(suppressed) = self.output.lock().notices.admit((notice.kind, notice.about.into()), now) else { return };
        let (message, facts) = words();
        self.write(&record, message, facts, suppressed, time);
    }

    fn write(&self, record: &Record<'_>, mut message: String, mut facts: Facts, suppressed: u64, time: SystemTime) {
        message.truncate(message.floor_char_boundary(MESSAGE));
        if suppressed > 0 {
            message.push_str(&format!(" ({suppressed} similar lines suppressed)"));
            facts.insert("suppressed".to_owned(), suppressed.into());
        }
        self.output.lock().write(&self.line(record, &message, &facts, time));
    }

    fn line(&self, record: &Record<'_>, message: &str, facts: &Facts, time: SystemTime) -> Vec<u8> {
        match self.format.load(Relaxed) {
            0 => json(record, message, facts, time),
            _ => text(record, message, time),
        }
    }
}

impl Output {
    fn write(&mut self, line: &[u8]) {
        // Where would an error be told? Standard error is gone.
        let _ = self.sink.write_all(line);
    }
}

impl Log for ProcessLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = self.level.load(Relaxed);
        // Errors and warnings of dependencies are heard as those of Weir are.
        let shift = u8::from(!is_ours(metadata.target()) && metadata.level() > Level::Warn);
        metadata.level() as u8 + shift <= level
    }
    fn log(&self, record: &Record<'_>) {
        self.log_at(record, Instant::now(), SystemTime::now());
    }
    fn flush(&self) {
        let _ = self.output.lock().sink.flush();
    }
}

fn is_ours(target: &str) -> bool {
    target.strip_prefix("weir").is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    }
}

fn json(record: &Record<'_>, message: &str, facts: &Facts, time: SystemTime) -> Vec<u8> {
    let mut line = Vec::with_capacity(128 + message.len());
    let (time, level) = (humantime::format_rfc3339_micros(time), record.level().as_str().to_ascii_lowercase());
    let _ = write!(line, r#"{{"ts":"{time}","level":"{level}","target":"#);
    quoted(&mut line, record.target());
    line.extend_from_slice(br#","message":"#);
    quoted(&mut line, message);
    for (key, value) in facts {
        line.push(b',');
        quoted(&mut line, key);
        let _ = write!(line, ":{value}");
    }
    line.extend_from_slice(b"}\n");
    line
}

fn text(record: &Record<'_>, message: &str, time: SystemTime) -> Vec<u8> {
    let time = humantime::format_rfc3339_micros(time);
    format!("{time} {:5} {} {}\n", record.level(), record.target(), OneLine(message)).into_bytes()
}

/// A message that stays on its line and leaves the terminal alone.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .try_for_each(|char| if char.is_control() { write!(f, "{}", char.escape_default()) } else { write!(f, "{char}") })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Fixture {
        log: ProcessLog,
        sink: Sink,
        start: Instant,
    }

    impl Fixture {
        fn new(level: LogLevel, format: LogFormat) -> Self {
            let sink = Sink::default();
            let log = ProcessLog::new(Box::new(sink.clone()));
            log.set(&LogSpec { level, format });
            Self { log, sink, start: Instant::now() }
        }
        fn say(&self, level: Level, target: &str, line: u32, message: &str, after: Duration) {
            let mut record = Record::builder();
            record.level(level).target(target).file_static(Some("x.rs")).line(Some(line));
            self.log.log_at(&record.args(format_args!("{message}")).build(), self.start + after, SystemTime::UNIX_EPOCH);
        }
        fn lines(&self) -> Vec<String> {
            String::from_utf8(self.sink.0.lock().clone()).unwrap().lines().map(str::to_owned).collect()
        }
    }

    #[test]
    fn a_line_is_json_or_text_and_always_one_line() {
        let message = "a \"b\"\n\u{1b}[2J";
        let json = Fixture::new(LogLevel::Info, LogFormat::Json);
        json.say(Level::Warn, "weir::tls", 1, message, Duration::ZERO);
        let value: serde_json::Value = serde_json::from_str(&json.lines()[0]).unwrap();
        assert_eq!((json.lines().len(), &value["message"], &value["level"]), (1, &message.into(), &"warn".into()));
        let text = Fixture::new(LogLevel::Info, LogFormat::Text);
        text.say(Level::Warn, "weir::tls", 1, message, Duration::ZERO);
        assert_eq!(text.lines(), [r#"1970-01-01T00:00:00.000000Z WARN  weir::tls a "b"\n\u{1b}[2J"#]);
    }

    #[test]
    fn an_event_has_facts_for_machines() {
        let facts = serde_json::json!({"listeners": {"web": ["127.0.0.1:1"]}});
        for (format, level, expected) in [
            (
                LogFormat::Json,
                LogLevel::Info,
                r#"{"ts":"1970-01-01T00:00:00.000000Z","level":"info","target":"weir","message":"ready","listeners":{"web":["127.0.0.1:1"]}}"#,
            ),
            (LogFormat::Text, LogLevel::Info, "1970-01-01T00:00:00.000000Z INFO  weir ready"),
            (LogFormat::Text, LogLevel::Warn, ""),
        ] {
            let fixture = Fixture::new(level, format);
            fixture.log.event(Level::Info, "weir", "ready", facts.as_object().unwrap(), SystemTime::UNIX_EPOCH);
            assert_eq!(fixture.lines().join("\n"), expected);
        }
    }

    #[test]
    fn dependencies_are_heard_one_level_less() {
        let fixture = Fixture::new(LogLevel::Debug, LogFormat::Text);
        for (target, level) in [
            ("weir::proxy", Level::Debug),
            ("h2", Level::Debug),
            ("h2", Level::Info),
            ("weird", Level::Debug),
            ("pingora_proxy", Level::Error),
            ("weir", Level::Trace),
        ] {
            fixture.say(level, target, 1, "", Duration::ZERO);
        }
        let heard: Vec<_> = fixture.lines().iter().map(|line| line[28..].trim_end().to_owned()).collect();
        assert_eq!(heard, ["DEBUG weir::proxy", "INFO  h2", "ERROR pingora_proxy"]);
        fixture.log.set(&LogSpec { level: LogLevel::Warn, format: LogFormat::Text });
        fixture.say(Level::Warn, "h2", 2, "", Duration::ZERO);
        fixture.say(Level::Info, "weir", 2, "", Duration::ZERO);
        assert_eq!(fixture.lines().len(), 4);
    }

    #[test]
    fn a_dependency_cannot_fill_the_disk() {
        let fixture = Fixture::new(LogLevel::Info, LogFormat::Text);
        for peer in 0..1000 {
            fixture.say(Level::Error, "pingora_proxy", 7, &format!("Fail to proxy: {peer}"), Duration::from_millis(peer));
        }
        assert_eq!(fixture.lines().len(), BURST as usize);
        fixture.say(Level::Error, "pingora_proxy", 8, "another place", Duration::from_secs(1));
        fixture.say(Level::Error, "pingora_proxy", 7, "later", WINDOW);
        let lines = fixture.lines();
        assert!(lines[5].ends_with("another place"));
        assert!(lines[6].ends_with("later (995 similar lines suppressed)"), "{}", lines[6]);
        for _ in 0..100 {
            fixture.say(Level::Warn, "weir::control", 7, "ours", Duration::ZERO);
        }
        assert_eq!(fixture.lines().len(), 107);
    }

    #[test]
    fn a_notice_has_one_line_a_second_for_each_kind_and_subject() {
        let fixture = Fixture::new(LogLevel::Info, LogFormat::Json);
        let told = |level, kind, about: &str, millis| {
            let words = || (format!("{kind} on {about}"), facts([("listener", about.into()), ("sni", Value::Null)]));
            let now = fixture.start + Duration::from_millis(millis);
            fixture.log.notice(Notice { level, target: "weir", kind, about }, words, now, SystemTime::UNIX_EPOCH);
        };
        for millis in 0..1000 {
            told(Level::Info, "eof", "web", millis);
        }
        told(Level::Warn, "eof", "other", 0);
        told(Level::Warn, "timeout", "web", 0);
        told(Level::Debug, "quiet", "web", 0);
        told(Level::Info, "eof", "web", 1000);
        told(Level::Info, "eof", "web", 2000);
        let lines: Vec<Value> = fixture.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = [
            ("info", "eof on web", Value::Null),
            ("warn", "eof on other", Value::Null),
            ("warn", "timeout on web", Value::Null),
            ("info", "eof on web (999 similar lines suppressed)", 999.into()),
            ("info", "eof on web", Value::Null),
        ];
        assert_eq!(lines.len(), expected.len(), "{lines:?}");
        for (line, (level, message, suppressed)) in lines.iter().zip(expected) {
            assert_eq!((&line["level"], &line["message"], &line["suppressed"]), (&level.into(), &message.into(), &suppressed));
            assert!(line["listener"].is_string() && line.get("sni").is_none(), "{line}");
        }
    }

    #[test]
    fn it_may_be_initialised_twice() {
        init(&LogSpec::default());
        init(&LogSpec { level: LogLevel::Error, format: LogFormat::Text });
        assert_eq!(LOGGER.get().unwrap().level.load(Relaxed), LevelFilter::Error as u8);
    }
}
