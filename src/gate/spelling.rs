//! Field names as their sender has spelt them.
//!
//! Names mean the same in any case (RFC 9110 section 5.1), and policy knows them in lower case. But old clients and servers depend on
//! the case that they are used to, so between HTTP/1 connections names go on as they came.

use bytes::Bytes;
use smallvec::SmallVec;

/// Of one head: the names that are not in lower case.
#[derive(Debug, Clone, Default)]
pub struct Spelling {
    head: Bytes,
    /// Where they are in the head.
    names: SmallVec<[(u32, u16); 20]>,
}

impl Spelling {
    /// Of this head, whose names are to be told with [`Spelling::note`].
    pub fn new(head: Bytes) -> Self {
        Self { head, names: SmallVec::new() }
    }

    /// A name in the head. In memory that is not the head's it is passed over.
    pub fn note(&mut self, name: &str) {
        if !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return;
        }
        let at = (name.as_ptr().addr()).checked_sub(self.head.as_ptr().addr());
        if let Some(at) = at.filter(|at| at + name.len() <= self.head.len())
            && let (Ok(at), Ok(length)) = (u32::try_from(at), u16::try_from(name.len()))
        {
            self.names.push((at, length));
        }
    }

    /// Nothing is spelt in another way.
    pub fn is_plain(&self) -> bool {
        self.names.is_empty()
    }

    /// How this name, in lower case, was spelt where it came first. `hint` remembers where to look: fields mostly come in the order
    /// they were sent.
    pub fn of<'a>(&'a self, name: &'a str, hint: &mut usize) -> &'a [u8] {
        let spelt = |&(at, length): &(u32, u16)| &self.head[at as usize..at as usize + usize::from(length)];
        let is_it = |place: &(u32, u16)| usize::from(place.1) == name.len() && spelt(place).eq_ignore_ascii_case(name.as_bytes());
        let (before, from) = self.names.split_at((*hint).min(self.names.len()));
        let place = from.iter().position(is_it).map(|at| before.len() + at).or_else(|| before.iter().position(is_it));
        match place {
            Some(place) => {
                *hint = place + 1;
                spelt(&self.names[place])
            }
            None => name.as_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelt_as_they_came() {
        let head = Bytes::from_static(b"GET / HTTP/1.1\r\nHost: a\r\naccept: b\r\nX-API-Key: c\r\n\r\n");
        let text = std::str::from_utf8(&head).unwrap();
        let mut spelling = Spelling::new(head.clone());
        for name in ["Host", "accept", "X-API-Key"] {
            let at = text.find(name).unwrap();
            spelling.note(&text[at..at + name.len()]);
        }
        spelling.note("Elsewhere");
        let mut hint = 0;
        for (name, spelt) in
            [("x-api-key", "X-API-Key"), ("host", "Host"), ("accept", "accept"), ("via", "via"), ("host", "Host")]
        {
            assert_eq!(spelling.of(name, &mut hint), spelt.as_bytes());
        }
        assert!(!spelling.is_plain() && Spelling::default().is_plain());
        assert_eq!(Spelling::default().of("host", &mut 0), b"host");
    }
}
