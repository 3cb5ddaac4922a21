//! What is known of each name that a certificate is wanted for.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::schedule::Window;

/// Attempts in a row, which take an hour together, after which a name is given up that no configuration names.
const GIVEN_UP: u32 = 8;

/// Where a name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// There is no certificate, and an attempt is due or was made.
    Waiting,
    /// An order is under way.
    Ordering,
    /// There is a certificate.
    Held,
}

/// One name.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The name: a host, a wildcard or an address.
    pub name: String,
    /// Where it stands.
    pub phase: Phase,
    /// Who issued the certificate that there is.
    pub authority: Option<String>,
    /// The first moment that it is valid.
    pub not_before: Option<SystemTime>,
    /// The last moment that it is valid.
    pub not_after: Option<SystemTime>,
    /// When the next attempt or renewal is.
    pub next: Option<SystemTime>,
    /// Attempts in a row that failed.
    pub failures: u32,
    /// Why the last one failed, in words.
    pub last_error: Option<String>,
    /// Somebody asked for it while running: no configuration names it.
    pub on_demand: bool,
    /// Its identifier for renewal information (RFC 9773).
    pub(super) id: Option<String>,
    /// When the authority wants it to be renewed.
    pub(super) window: Option<Window>,
    /// When to ask the authority for that again.
    pub(super) ask_again: Option<SystemTime>,
    /// When it was last renewed only because the authority wanted that.
    pub(super) hurried: Option<SystemTime>,
    /// How it is written in the storage that is known.
    pub(super) mark: Option<u64>,
}

impl Standing {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            phase: Phase::Waiting,
            authority: None,
            not_before: None,
            not_after: None,
            next: None,
            failures: 0,
            last_error: None,
            on_demand: false,
            id: None,
            window: None,
            ask_again: None,
            hurried: None,
            mark: None,
        }
    }

    /// Is it of no more use? Somebody asked for it once, and it cannot be had: who asks again begins again.
    pub(super) fn is_given_up(&self, now: SystemTime) -> bool {
        let is_over = self.not_after.is_none_or(|not_after| not_after < now);
        self.on_demand && self.phase != Phase::Ordering && self.failures >= GIVEN_UP && is_over
    }

    /// Is there something to be done?
    pub(super) fn is_due(&self, now: SystemTime) -> bool {
        self.phase != Phase::Ordering && self.next.is_none_or(|next| next <= now)
    }
}

/// A certificate as it is stored.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) name: String,
    /// The directory of the authority, and how it is shown.
    pub(super) directory: String,
    pub(super) authority: String,
    /// PEM.
    pub(super) chain: String,
    /// PEM.
    pub(super) key: String,
}

/// Attempts that failed, as they are stored: a process that starts again goes on where the one before was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failed {
    pub(super) failures: u32,
    pub(super) reason: String,
    /// When the next attempt is, in seconds since 1970.
    pub(super) next: u64,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_a_name_that_somebody_asked_for_and_that_cannot_be_had_is_given_up() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let hopeless = Standing { on_demand: true, failures: GIVEN_UP, ..Standing::new("a.test") };
        assert!(hopeless.is_given_up(now));
        let expires = |after| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(after));
        assert!(Standing { not_after: expires(999), ..hopeless.clone() }.is_given_up(now), "what it had has expired");
        for (why, kept) in [
            ("it is configured", Standing { on_demand: false, ..hopeless.clone() }),
            ("there is hope", Standing { failures: GIVEN_UP - 1, ..hopeless.clone() }),
            ("it is being ordered", Standing { phase: Phase::Ordering, ..hopeless.clone() }),
            ("its certificate is served", Standing { not_after: expires(1001), ..hopeless }),
        ] {
            assert!(!kept.is_given_up(now), "{why}");
        }
    }
}
