//! The bearer token.

use rand::RngCore;
use subtle::ConstantTimeEq;

use crate::types::{Secret, hex};

/// The token that the operator must show, and where it came from.
#[derive(Debug, Clone)]
pub struct Token {
    secret: Secret,
    made: bool,
}

impl Token {
    /// The configured token, or 256 random bits when none is configured.
    pub fn new(configured: &Secret) -> Self {
        if !configured.is_empty() {
            return Self { secret: configured.clone(), made: false };
        }
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        Self { secret: hex(&bytes).into(), made: true }
    }

    /// The token that was made for lack of a configured one, to be printed once.
    pub fn made(&self) -> Option<&Secret> {
        self.made.then_some(&self.secret)
    }

    /// Does this text equal the token? Takes the same time wherever they differ; only the length is not hidden.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        self.secret.expose().as_bytes().ct_eq(shown).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_token_is_long_and_each_is_another() {
        let (one, other) = (Token::new(&Secret::default()), Token::new(&Secret::default()));
        let text = one.made().unwrap().expose();
        assert_eq!(text.len(), 64);
        assert!(one.is(text.as_bytes()) && !other.is(text.as_bytes()) && !one.is(b""));
        assert!(!format!("{one:?}").contains(text));
    }

    #[test]
    fn a_configured_token_is_not_printed() {
        let token = Token::new(&Secret::from("s3cret".to_owned()));
        assert!(token.made().is_none() && token.is(b"s3cret") && !token.is(b"s3cre") && !token.is(b"s3cret "));
    }
}
