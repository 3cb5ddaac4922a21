//! The algorithms that sign tokens (RFC 7518 section 3.1, RFC 8037), and what aws-lc calls them.

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    hmac,
    signature::{self, EcdsaVerificationAlgorithm, RsaParameters},
};

use crate::{string_type, types::nearest};

/// How a token is signed. `none` is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// Ed25519, which RFC 9864 calls `Ed25519`, too.
    EdDsa,
}

use Algorithm::*;

/// Every algorithm by its name.
const NAMES: [(&str, Algorithm); 13] = [
    ("HS256", Hs256),
    ("HS384", Hs384),
    ("HS512", Hs512),
    ("RS256", Rs256),
    ("RS384", Rs384),
    ("RS512", Rs512),
    ("PS256", Ps256),
    ("PS384", Ps384),
    ("PS512", Ps512),
    ("ES256", Es256),
    ("ES384", Es384),
    ("ES512", Es512),
    ("EdDSA", EdDsa),
];

impl Algorithm {
    /// What any key of RSA can do, unless it says what it is for.
    pub(super) const RSA: [Self; 6] = [Rs256, Rs384, Rs512, Ps256, Ps384, Ps512];
    /// What any secret can do that is long enough.
    pub(super) const HMAC: [Self; 3] = [Hs256, Hs384, Hs512];

    /// The algorithm that a token or key names. Names are told apart by case (RFC 7515 section 4.1.1).
    pub(super) fn named(name: &str) -> Option<Self> {
        let name = if name == "Ed25519" { "EdDSA" } else { name };
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    fn name(self) -> &'static str {
        // Every one is in the list.
        NAMES.iter().find(|(_, algorithm)| *algorithm == self).map_or("", |(name, _)| name)
    }

    pub(super) fn rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            _ => return None,
        })
    }

    pub(super) fn hmac(self) -> Option<hmac::Algorithm> {
        Some(match self {
            Hs256 => hmac::HMAC_SHA256,
            Hs384 => hmac::HMAC_SHA384,
            Hs512 => hmac::HMAC_SHA512,
            _ => return None,
        })
    }
}

/// A curve of ECDSA, which has one algorithm.
pub(super) struct Curve {
    pub(super) name: &'static str,
    /// The object identifier in certificates and PEM.
    pub(super) oid: &'static str,
    /// The bytes of a coordinate.
    pub(super) size: usize,
    pub(super) algorithm: Algorithm,
    pub(super) verification: &'static EcdsaVerificationAlgorithm,
}

pub(super) const CURVES: [Curve; 3] = [
    Curve {
        name: "P-256",
        oid: "1.2.840.10045.3.1.7",
        size: 32,
        algorithm: Es256,
        verification: &signature::ECDSA_P256_SHA256_FIXED,
    },
    Curve { name: "P-384", oid: "1.3.132.0.34", size: 48, algorithm: Es384, verification: &signature::ECDSA_P384_SHA384_FIXED },
    Curve { name: "P-521", oid: "1.3.132.0.35", size: 66, algorithm: Es512, verification: &signature::ECDSA_P521_SHA512_FIXED },
];

impl FromStr for Algorithm {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("none") {
            return Err("`none` would admit tokens that nobody has signed".into());
        }
        Self::named(text).ok_or_else(|| {
            let hint = nearest(text, NAMES.iter().map(|(name, _)| *name)).unwrap_or_default();
            format!("`{text}` is no algorithm for tokens; {hint}")
        })
    }
}
impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
string_type!(
    Algorithm,
    "JwtAlgorithm",
    "How a token is signed: HS256, RS256, PS256 or ES256, each also with 384 and 512, or EdDSA.",
    Some("^([HRPE]S(256|384|512)|EdDSA|Ed25519|.*\\$\\{.*)$")
);
