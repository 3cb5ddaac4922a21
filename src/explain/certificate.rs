//! Which certificate a client would get, where that is worth a word.

use std::time::SystemTime;

use crate::{
    acme::{Phase, Standing},
    snapshot::{Listener, Snapshot},
    types::bare_host,
};

/// What a client should know who asks for a name over TLS and gets no certificate for it.
pub(super) fn note(snapshot: &Snapshot, listener: &Listener, name: &str) -> Option<String> {
    let tls = listener.tls.as_ref()?;
    let bare = bare_host(name);
    let standing = snapshot.acme.standing(bare);
    if tls.covers(bare) {
        // It is served, and something is wrong all the same.
        let failing = standing.filter(|standing| standing.failures > 0);
        return failing.map(|standing| format!("the certificate for `{name}` cannot be renewed: {}", why(&standing)));
    }
    if let Some(standing) = standing {
        return Some(format!("there is no certificate for `{name}` yet: {}", why(&standing)));
    }
    let plan = snapshot.certificates.as_deref();
    if plan.is_some_and(|plan| plan.covers(bare)) {
        return Some(format!("a certificate for `{name}` is obtained when the edge runs"));
    }
    if plan.is_some_and(|plan| plan.on_demand.contains_key(&listener.name)) {
        return Some(format!("a certificate for `{name}` is obtained when a client asks for it, if `ask` allows it"));
    }
    Some(match tls.certificates().first() {
        Some(first) => {
            format!(
                "no certificate of this listener is for `{name}`: the client gets the one for `{}`, and refuses it",
                first.name
            )
        }
        None => format!("no certificate of this listener is for `{name}`, and there is no other: the handshake fails"),
    })
}

fn why(standing: &Standing) -> String {
    let next = standing.next.filter(|next| *next > SystemTime::now());
    let next = next.map_or_else(String::new, |next| format!("; the next try is at {}", humantime::format_rfc3339_seconds(next)));
    match (&standing.last_error, standing.phase) {
        (Some(error), _) => format!("{error}{next}"),
        (None, Phase::Ordering) => "an order is under way".to_owned(),
        (None, _) => format!("the first order is due{next}"),
    }
}
