//! The combined format, for tools that know Apache's and nginx's logs:
//! `client - - [time] "METHOD path HTTP/version" status bytes "referer" "user agent"`.
//!
//! The path is the canonical one without the query, which may hold secrets. Quotes, backslashes, control bytes and
//! everything beyond ASCII are written as `\xHH`, the way nginx does.

use std::{
    io::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use super::cut;
use crate::observe::Outcome;

/// As for JSON, of each string of the client's, in bytes before escaping.
const LIMIT: usize = 2048;

/// Appends the line, with its end.
pub(super) fn write(line: &mut Vec<u8>, outcome: &Outcome) {
    let _ = write!(line, "{} - - [", outcome.client);
    time(line, outcome.started);
    line.extend_from_slice(b"] \"");
    if outcome.method.is_empty() {
        line.push(b'-');
    } else {
        escaped(line, &outcome.method);
        line.push(b' ');
        escaped(line, if outcome.path.is_empty() { "-" } else { &outcome.path });
        if let Some(version) = outcome.http {
            line.extend_from_slice(b" HTTP/");
            line.extend_from_slice(version.as_str().as_bytes());
        }
    }
    let _ = write!(line, "\" {} {} \"", outcome.status, outcome.bytes_out);
    escaped(line, outcome.referer.as_deref().unwrap_or("-"));
    line.extend_from_slice(b"\" \"");
    escaped(line, outcome.user_agent.as_deref().unwrap_or("-"));
    line.extend_from_slice(b"\"\n");
}

/// Nothing that ends a field or a line, or steers a terminal.
pub(super) fn escaped(line: &mut Vec<u8>, text: &str) {
    for byte in cut(text, LIMIT).bytes() {
        match byte {
            b'"' | b'\\' | 0..b' ' | 0x7f.. => {
                let _ = write!(line, "\\x{byte:02X}");
            }
            byte => line.push(byte),
        }
    }
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `10/Oct/2026:13:55:36 +0000`.
fn time(line: &mut Vec<u8>, time: SystemTime) {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = date(seconds / 86_400);
    let second = seconds % 86_400;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let month = MONTHS[month as usize - 1];
    let _ = write!(line, "{day:02}/{month}/{year}:{hour:02}:{minute:02}:{second:02} +0000");
}

/// Year, month (from 1) and day of the Gregorian calendar, from days since 1970-01-01. Counts from 1 March of year 0,
/// so that the leap day is a year's last day and each month's start is linear in its number.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468;
    const CYCLE: u64 = 146_097; // 400 years
    let days = days + DAYS_TO_1970;
    let (cycle, day) = (days / CYCLE, days % CYCLE);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, january) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + january, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::observe::testing::outcome;

    fn line(outcome: &Outcome) -> String {
        let mut line = Vec::new();
        write(&mut line, outcome);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn as_tools_expect_it() {
        let expected = "192.0.2.7 - - [01/Jan/2026:00:00:00 +0000] \"GET /a HTTP/1.1\" 200 20 \"-\" \"curl/8\"\n";
        assert_eq!(line(&outcome()), expected);
    }

    #[test]
    fn nothing_a_client_sends_ends_a_field_or_a_line() {
        let text = line(&Outcome { path: "/\" 200\n\\é".into(), ..outcome() });
        assert!(text.contains("\"GET /\\x22 200\\x0A\\x5C\\xC3\\xA9 HTTP/1.1\""), "{text}");
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn what_could_not_be_read_of_a_request_is_left_out() {
        let refused = Outcome { http: None, path: "".into(), ..outcome() };
        assert!(line(&refused).contains("\"GET -\" "), "{}", line(&refused));
        let refused = Outcome { method: "".into(), ..refused };
        assert!(line(&refused).contains("\"-\" "), "{}", line(&refused));
    }

    #[test]
    fn dates_agree_with_the_calendar() {
        for days in (0..60_000).chain([11_016, 47_540]) {
            let (year, month, day) = date(days);
            let expected = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(days * 86_400)).to_string();
            assert_eq!(format!("{year:04}-{month:02}-{day:02}"), expected[..10]);
        }
    }
}
