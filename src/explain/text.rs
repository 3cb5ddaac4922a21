//! An explanation for reading.

use std::fmt;

use super::{Answer, Explanation, Share, Verdict};

/// Routes that do not match are shown up to this number: JSON has all of them.
const SHOWN: usize = 20;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "listener  {}: {}", self.listener, self.listener_reason)?;
        match &self.gate.refused {
            Some(word) => writeln!(f, "gate      refused: {word}")?,
            None => writeln!(
                f,
                "gate      admitted: {} {} for {} over {} from {}",
                shown(&self.method),
                shown(&self.path),
                shown(&self.host),
                self.scheme,
                self.client
            )?,
        }
        if !self.listener_filters.is_empty() {
            writeln!(f, "filters   {} (of the listener)", self.listener_filters.join(", "))?;
        }
        self.routes(f)?;
        if !self.filters.is_empty() {
            writeln!(f, "filters   {}", self.filters.join(", "))?;
        }
        self.upstreams.iter().try_for_each(|share| upstream(f, share))?;
        if let Some(Answer { status, location, reason }) = &self.answer {
            let to = location.as_ref().map(|location| format!(" to {}", shown(location))).unwrap_or_default();
            writeln!(f, "answer    {status}{to}: {reason}")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note      {note}"))
    }
}

impl Explanation {
    fn routes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut title = "routes";
        let (tried, untried): (Vec<_>, Vec<_>) = self.routes.iter().partition(|considered| considered.tried);
        for considered in tried.iter().chain(untried.iter().take(SHOWN)) {
            let sign = match considered.verdict {
                Verdict::Serves => ">",
                Verdict::Misses => "-",
                Verdict::Later => ".",
            };
            writeln!(f, "{title:<9} {sign} {}: {}", considered.route, considered.reason)?;
            title = "";
        }
        let more = untried.len().saturating_sub(SHOWN) + self.routes_left_out;
        if more > 0 {
            writeln!(f, "{title:<9}   and {more} more that were not tried")?;
        }
        Ok(())
    }
}

fn upstream(f: &mut fmt::Formatter<'_>, share: &Share) -> fmt::Result {
    write!(f, "upstream  {} by {}", share.upstream, share.strategy)?;
    if let Some(share) = share.share {
        write!(f, ", {:.1} % of the requests", share * 100.0)?;
    }
    writeln!(f, "{}", if share.panic { ", so few are available that all are used" } else { "" })?;
    let width = share.candidates.iter().map(|candidate| candidate.endpoint.len()).max().unwrap_or_default();
    for candidate in &share.candidates {
        let picked = share.pick.as_ref().filter(|pick| pick.endpoint == candidate.endpoint);
        let sign = match picked {
            Some(_) => ">",
            None if candidate.available => ".",
            None => "-",
        };
        write!(f, "{:9} {sign} {:width$}  {}", "", candidate.endpoint, candidate.state)?;
        if candidate.state != "healthy" {
            write!(f, " ({})", shown(&candidate.reason))?;
        }
        write!(f, ", weight {}, {} in flight, p50 {:.1} ms", candidate.weight, candidate.in_flight, candidate.p50_ms)?;
        if candidate.priority > 0 {
            write!(f, ", priority {}", candidate.priority)?;
        }
        if let Some(zone) = &candidate.zone {
            write!(f, ", zone {zone}")?;
        }
        match picked {
            Some(pick) if pick.by == "session" => writeln!(f, ": the session's")?,
            Some(pick) if pick.certain => writeln!(f, ": the next one")?,
            Some(_) => writeln!(f, ": drawn this time")?,
            None => writeln!(f)?,
        }
    }
    if share.pick.is_none() {
        writeln!(f, "{:9} no endpoint may take the request: 503", "")?;
    }
    Ok(())
}

/// What came from a request, or from another process, without what would move the cursor.
fn shown(text: &str) -> String {
    text.escape_debug().to_string()
}
