//! An issuer of JSON Web Tokens, with a key of its own made for one test. Unit tests and benches use this file, too.
//!
//! Signatures are another implementation's than the one that verifies them, except for ES512, which that one lacks.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, jwk::Jwk};
use serde_json::{Value, json};

/// Every algorithm that tokens are signed with.
pub const ALGORITHMS: [&str; 13] =
    ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

/// Base64 as tokens have it.
pub fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs tokens with one key, in one way.
pub struct Issuer {
    /// What its key is called.
    pub id: String,
    algorithm: String,
    signer: Signer,
    /// What others need to verify: a JSON Web Key, which of a secret is the secret.
    pub jwk: Value,
}

enum Signer {
    Library(EncodingKey, Algorithm),
    P521(Box<EcdsaKeyPair>),
}

/// An issuer that signs with this algorithm, by a new key of this name.
pub fn issuer(algorithm: &str, id: &str) -> Issuer {
    let (signer, mut jwk) = match algorithm {
        "ES512" => p521(),
        _ => {
            let known: Algorithm = algorithm.parse().expect("an algorithm");
            let key = key(algorithm);
            let jwk = serde_json::to_value(Jwk::from_encoding_key(&key, known).expect("a public key")).expect("JSON");
            (Signer::Library(key, known), jwk)
        }
    };
    jwk["kid"] = id.into();
    Issuer { id: id.into(), algorithm: algorithm.into(), signer, jwk }
}

fn key(algorithm: &str) -> EncodingKey {
    let der = |pkcs8: aws_lc_rs::pkcs8::Document| pkcs8.as_ref().to_vec();
    let random = SystemRandom::new();
    match algorithm {
        "ES256" => EncodingKey::from_ec_der(&der(
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key")
        )),
        "ES384" => EncodingKey::from_ec_der(&der(
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random).expect("a key")
        )),
        "EdDSA" => EncodingKey::from_ed_der(&der(Ed25519KeyPair::generate_pkcs8v1(&random).expect("a key"))),
        _ if algorithm.starts_with("HS") => {
            let mut secret = [0; 64];
            aws_lc_rs::rand::fill(&mut secret).expect("random bytes");
            EncodingKey::from_secret(&secret)
        }
        _ => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
            let pkcs8 = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).expect("PKCS #8");
            // What is inside is in a wrapping of 26 bytes, where all lengths have two.
            EncodingKey::from_rsa_der(&pkcs8.as_ref()[26..])
        }
    }
}

fn p521() -> (Signer, Value) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).expect("a key");
    let (x, y) = pair.public_key().as_ref()[1..].split_at(66);
    let jwk = json!({"kty": "EC", "crv": "P-521", "alg": "ES512", "x": encoded(x), "y": encoded(y)});
    (Signer::P521(Box::new(pair)), jwk)
}

impl Issuer {
    /// A token that claims this, for the next hour unless it says otherwise.
    pub fn token(&self, mut claims: Value) -> String {
        if claims.get("exp").is_none() {
            claims["exp"] = (now() + 3600).into();
        }
        self.token_with(json!({"alg": self.algorithm, "typ": "JWT", "kid": self.id}), claims)
    }

    /// A token with exactly this header and these claims, signed with this key whatever the header says.
    pub fn token_with(&self, header: Value, claims: Value) -> String {
        self.token_of(&header.to_string(), &claims.to_string())
    }

    /// A token of exactly these texts.
    pub fn token_of(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let signature = match &self.signer {
            Signer::Library(key, algorithm) => {
                jsonwebtoken::crypto::sign(signed.as_bytes(), key, *algorithm).expect("a signature")
            }
            Signer::P521(pair) => encoded(pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature")),
        };
        format!("{signed}.{signature}")
    }
}

/// The key set of these issuers.
pub fn key_set(issuers: &[&Issuer]) -> String {
    json!({"keys": issuers.iter().map(|issuer| &issuer.jwk).collect::<Vec<_>>()}).to_string()
}

/// A token that anybody can make with what is public: an HMAC under these bytes.
pub fn forged(secret: &[u8], header: Value, claims: Value) -> String {
    let signed = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &EncodingKey::from_secret(secret), Algorithm::HS256);
    format!("{signed}.{}", signature.expect("a signature"))
}
