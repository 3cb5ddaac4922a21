//! `weir certificates`: what a running edge serves over TLS, and why there is no certificate for a name.

use std::{io::Write, process::ExitCode};

use clap::Args;
use serde::Deserialize;

use super::remote::{self, AdminArgs, Body, Remote};

/// The exit code when the edge refuses, or cannot be reached.
const TROUBLE: u8 = 1;

/// Arguments of `weir certificates`.
#[derive(Debug, Args)]
pub struct CertificatesArgs {
    /// Renew the certificate for this name now, or try again to obtain one
    #[arg(long, value_name = "NAME")]
    renew: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Deserialize)]
struct Certificates {
    certificates: Vec<Certificate>,
    automatic: Vec<Automatic>,
}

#[derive(Debug, Deserialize)]
struct Certificate {
    listener: String,
    name: String,
    days_left: f64,
    source: String,
    file: Option<String>,
    authority: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Automatic {
    name: String,
    state: String,
    days_left: Option<f64>,
    next: Option<String>,
    failures: u32,
    last_error: Option<String>,
}

/// Runs `weir certificates`: exit code 0 when every name has a certificate that is valid, 1 otherwise.
pub(super) fn run(args: &CertificatesArgs) -> ExitCode {
    remote::block_on(TROUBLE, async {
        let remote = Remote::new(&args.admin)?;
        if let Some(name) = &args.renew {
            remote.post(&format!("/api/v1/certificates/{}/renew", escaped(name)), Body::none()).await?;
            println!("an order for {name} is made; `weir certificates` says how it ends");
            return Ok(ExitCode::SUCCESS);
        }
        let found: Certificates = remote.get("/api/v1/certificates").await?.json()?;
        let text = shown(&found);
        let _ = std::io::stdout().write_all(text.as_bytes());
        let expired = found.certificates.iter().any(|certificate| certificate.days_left < 0.0);
        let missing = found.automatic.iter().any(|name| name.days_left.is_none());
        Ok(if expired || missing { ExitCode::from(TROUBLE) } else { ExitCode::SUCCESS })
    })
}

fn escaped(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn shown(found: &Certificates) -> String {
    let mut rows = vec![["NAME", "LISTENER", "LEFT", "SOURCE"].map(str::to_owned)];
    for one in &found.certificates {
        let source = one.file.clone().or_else(|| one.authority.clone()).unwrap_or_else(|| one.source.clone());
        rows.push([one.name.clone(), one.listener.clone(), left(one.days_left), source]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [name, listener, days, source] in &rows {
        let line = format!("{name:0$}  {listener:1$}  {days:2$}  {source}", widths[0], widths[1], widths[2]);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    // What goes well needs no word.
    for one in found.automatic.iter().filter(|one| one.days_left.is_none() || one.failures > 0) {
        let what = if one.days_left.is_none() { "no certificate yet" } else { "cannot be renewed" };
        let why = match (&one.last_error, one.state.as_str()) {
            (Some(error), _) => format!("{error} ({} in a row)", one.failures),
            (None, "ordering") => "an order is under way".to_owned(),
            (None, _) => "the first order is due".to_owned(),
        };
        let next = one.next.as_ref().map_or_else(String::new, |next| format!("; next try at {next}"));
        text.push_str(&format!("\n{}: {what}: {why}{next}\n", one.name));
    }
    text
}

fn left(days: f64) -> String {
    match days {
        days if days < 0.0 => "expired".to_owned(),
        days if days < 10.0 => format!("{days} days"),
        days => format!("{} days", days.floor()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_certificate_is_explained() {
        let found: Certificates = serde_json::from_value(serde_json::json!({
            "certificates": [
                {"listener": "edge", "name": "a.example.com", "days_left": 61.3, "source": "acme", "authority": "letsencrypt"},
                {"listener": "internal", "name": "b.test", "days_left": -1.0, "source": "file", "file": "/etc/b.pem"},
            ],
            "automatic": [
                {"name": "a.example.com", "state": "held", "days_left": 61.3, "failures": 0},
                {"name": "c.example.com", "state": "waiting", "failures": 2, "last_error": "letsencrypt: no such name (dns)",
                 "next": "2026-11-30T22:00:00.000Z"},
                {"name": "d.example.com", "state": "ordering", "failures": 0},
            ],
        }))
        .unwrap();
        let expected = "\
NAME           LISTENER  LEFT     SOURCE
a.example.com  edge      61 days  letsencrypt
b.test         internal  expired  /etc/b.pem

c.example.com: no certificate yet: letsencrypt: no such name (dns) (2 in a row); next try at 2026-11-30T22:00:00.000Z

d.example.com: no certificate yet: an order is under way
";
        assert_eq!(shown(&found), expected);
    }
}
