//! Names of fields, as services tell them apart, which is less well than proxies do.
//!
//! A service that puts fields into variables (CGI, WSGI, PHP) makes one of `X-User`, `X_User` and `X.User`. So a client
//! that may not send one of them may not send any.

use http::HeaderName;

use crate::types::FieldsMut;

/// Might a service take one for the other? All that is neither letter nor digit is the same to some.
pub(super) fn alike(one: &str, other: &str) -> bool {
    let same = |(a, b): (u8, u8)| a.eq_ignore_ascii_case(&b) || !(a.is_ascii_alphanumeric() || b.is_ascii_alphanumeric());
    one.len() == other.len() && one.bytes().zip(other.bytes()).all(same)
}

/// Removes these fields, and all that pass for them.
pub(super) fn remove_alike(fields: &mut dyn FieldsMut, names: &[HeaderName]) {
    let mut gone = Vec::new();
    fields.each(&mut |name, _| {
        if names.iter().any(|own| alike(own.as_str(), name)) {
            gone.extend(HeaderName::from_bytes(name.as_bytes()));
        }
    });
    gone.iter().for_each(|name| fields.remove(name));
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn names_that_services_take_for_one_another_are_the_same() {
        let gone = ["x-user", "x_user", "x.user", "x!user", "remote.user1", "remote_user1"];
        let kept = ["x-users", "xuser", "x--user", "x-use1", "remote-user2", "user", "remote-user-"];
        let mut fields = HeaderMap::new();
        for name in gone.iter().chain(&kept) {
            fields.append(HeaderName::from_static(name), "1".parse().unwrap());
            fields.append(HeaderName::from_static(name), "2".parse().unwrap());
        }
        remove_alike(&mut fields, &[HeaderName::from_static("x-user"), HeaderName::from_static("remote-user1")]);
        assert_eq!(fields.len(), kept.len() * 2);
        assert!(kept.iter().all(|name| fields.contains_key(*name)), "{fields:?}");
    }
}
