//! Keys that verify tokens: a JSON Web Key Set (RFC 7517), PEM, a secret.
//!
//! A [`Key`] verifies with one algorithm, which was fixed when the key was read, by what the key is: so the algorithm that
//! a token names can choose among keys, and never how a key is used. A secret is a secret and a public key is a
//! public key, whatever a token says.

use std::fmt;

use aws_lc_rs::{
    digest, hmac,
    signature::{self, ParsedPublicKey, RsaPublicKeyComponents},
};
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use rustls::pki_types::pem::{SectionKind, from_buf};
use serde_json::{Map, Value};
use x509_parser::{prelude::FromDer, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use super::{
    algorithm::{Algorithm, CURVES, Curve},
    policy::Refusal,
    token::Token,
};

/// The largest set. Issuers have two or three keys, large ones a dozen.
const MAX_KEYS: usize = 128;

/// So many keys are tried on a token that names none: each costs as much as a good token.
const MAX_TRIES: usize = 4;

/// Shorter ones have been factored, or are about to be (RFC 7518 section 3.3).
const MIN_RSA_BITS: usize = 2048;

/// What the library takes.
const MAX_RSA_BITS: usize = 8192;

/// Some issuers pad what should not be padded.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The keys of one source.
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// How many those are, counting one that can do several things once.
    pub(super) count: usize,
    /// Of the text that they were read from: another text, other keys.
    pub(super) digest: [u8; 32],
    /// What was left out, and why, for the log.
    pub(super) skipped: Vec<String>,
}

/// A key for one algorithm. One that can do several is there several times.
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    material: Material,
}

enum Material {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key{}", self.count, if self.count == 1 { "" } else { "s" })
    }
}

impl KeySet {
    /// The keys of a file: a key set in JSON, or public keys in PEM.
    pub(super) fn of_file(content: &[u8]) -> Result<Self, String> {
        if memchr::memmem::find(content, b"-----BEGIN ").is_some() {
            let (keys, count) = pem(content)?;
            return Self::new(content, keys, count);
        }
        Self::of_jwks(content, true)
    }

    /// The keys of a key set. Those that cannot be used are left out: issuers have keys for other purposes, too, and of
    /// kinds that are yet to come. Secrets are no keys where others can read them.
    pub(super) fn of_jwks(content: &[u8], secrets: bool) -> Result<Self, String> {
        let set: Value = serde_json::from_slice(content).map_err(|error| format!("it is not JSON: {error}"))?;
        let listed = set.get("keys").and_then(Value::as_array).ok_or("it has no list `keys`, so it is no key set")?;
        if listed.len() > MAX_KEYS {
            return Err(format!("it has more than {MAX_KEYS} keys"));
        }
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        let total = listed.len();
        for (index, listed) in listed.iter().enumerate() {
            let id = listed.get("kid").and_then(Value::as_str);
            let read = listed.as_object().ok_or_else(|| "it is no object".to_owned()).and_then(|listed| jwk(listed, secrets));
            match read {
                Ok(usable) => keys.extend(usable.into_iter().map(|(algorithm, material)| Key {
                    id: id.map(Into::into),
                    algorithm,
                    material,
                })),
                Err(reason) => skipped.push(match id {
                    // From outside, and for the log.
                    Some(id) => format!("key {:?}: {reason}", id.chars().take(80).collect::<String>()),
                    None => format!("key {}: {reason}", index + 1),
                }),
            }
        }
        if keys.is_empty() {
            let why = skipped.first().map_or_else(|| "it is empty".to_owned(), Clone::clone);
            return Err(format!("it has no key that verifies tokens; {why}"));
        }
        Ok(Self { count: total - skipped.len(), skipped, ..Self::new(content, keys, 0)? })
    }

    /// A secret that the issuer has, too. What it can do depends on its length (RFC 7518 section 3.2).
    pub(super) fn of_secret(secret: &[u8]) -> Result<Self, String> {
        let keys = hmac_keys(secret)?.into_iter().map(|(algorithm, material)| Key { id: None, algorithm, material });
        Self::new(secret, keys.collect(), 1)
    }

    fn new(content: &[u8], keys: Vec<Key>, count: usize) -> Result<Self, String> {
        let nameless = |algorithm| keys.iter().filter(|key| key.id.is_none() && key.algorithm == algorithm).count();
        if keys.iter().any(|key| nameless(key.algorithm) > MAX_TRIES) {
            return Err(format!("more than {MAX_TRIES} keys of one kind need ids: write them as a JSON key set"));
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, content).as_ref());
        Ok(Self { keys, count, digest: fingerprint, skipped: Vec::new() })
    }

    /// Is there a key for one of these algorithms (any, where none is named)?
    pub(super) fn has_any_of(&self, algorithms: &[Algorithm]) -> bool {
        algorithms.is_empty() || self.keys.iter().any(|key| algorithms.contains(&key.algorithm))
    }

    /// Did one of these keys sign this token, with one of these algorithms (any, where none is named)?
    pub(super) fn verify(&self, token: &Token<'_>, algorithms: &[Algorithm]) -> Result<(), Refusal> {
        let algorithm = Algorithm::named(&token.algorithm).ok_or(Refusal::Algorithm)?;
        if !algorithms.is_empty() && !algorithms.contains(&algorithm) {
            return Err(Refusal::Algorithm);
        }
        let named = |key: &&Key| match (&token.key_id, &key.id) {
            (Some(wanted), Some(id)) => wanted == id,
            _ => true,
        };
        if !self.keys.iter().any(|key| named(&key)) {
            return Err(Refusal::Key);
        }
        let fitting = || self.keys.iter().filter(named).filter(|key| key.algorithm == algorithm).take(MAX_TRIES);
        if fitting().any(|key| key.verify(token)) {
            return Ok(());
        }
        match fitting().next() {
            None => Err(Refusal::Algorithm),
            // One that names no key may be signed by one that is not known yet.
            Some(key) if token.key_id.is_none() && key.id.is_some() => Err(Refusal::Key),
            Some(_) => Err(Refusal::Signature),
        }
    }
}

impl Key {
    /// Compares in constant time where there is a secret.
    fn verify(&self, token: &Token<'_>) -> bool {
        match &self.material {
            Material::Secret(key) => hmac::verify(key, token.signed, &token.signature).is_ok(),
            Material::Public(key) => key.verify_sig(token.signed, &token.signature).is_ok(),
        }
    }
}

type Usable = Vec<(Algorithm, Material)>;

/// What a JSON Web Key can do here.
fn jwk(key: &Map<String, Value>, secrets: bool) -> Result<Usable, String> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return Err("it is not for signatures".into());
    }
    let operations = key.get("key_ops").and_then(Value::as_array);
    if operations.is_some_and(|operations| !operations.iter().any(|operation| operation == "verify")) {
        return Err("it is not for verifying".into());
    }
    let bytes = |name: &str| -> Result<Vec<u8>, String> {
        let encoded = text(name).ok_or_else(|| format!("it has no `{name}`"))?;
        BASE64.decode(encoded).map_err(|_| format!("its `{name}` is not base64url"))
    };
    let kind = text("kty").unwrap_or_default();
    if kind != "oct" && key.contains_key("d") {
        return Err("its private part is in the open, so anybody may sign with it; publish the public part of a new one".into());
    }
    let usable = match kind {
        "RSA" => rsa(&bytes("n")?, &bytes("e")?)?,
        "EC" => {
            let curve = text("crv").unwrap_or_default();
            let curve =
                CURVES.iter().find(|known| known.name == curve).ok_or_else(|| format!("the curve {curve:?} is not known"))?;
            let (x, y) = (bytes("x")?, bytes("y")?);
            if x.len() != curve.size || y.len() != curve.size {
                return Err(format!("a coordinate on {} has {} bytes", curve.name, curve.size));
            }
            ec(curve, &[&[4], &*x, &*y].concat())?
        }
        "OKP" if text("crv") == Some("Ed25519") => ed25519(&bytes("x")?)?,
        "OKP" => return Err(format!("the curve {:?} is not known", text("crv").unwrap_or_default())),
        "oct" if !secrets => return Err("it is a secret that others can read".into()),
        "oct" => hmac_keys(&bytes("k")?)?,
        kind => return Err(format!("the type {kind:?} is not known")),
    };
    let Some(algorithm) = key.get("alg") else { return Ok(usable) };
    let algorithm = algorithm.as_str().and_then(Algorithm::named);
    let usable: Usable = usable.into_iter().filter(|(can, _)| Some(*can) == algorithm).collect();
    if usable.is_empty() { Err("its `alg` is not one that such a key verifies tokens with".into()) } else { Ok(usable) }
}

fn rsa(n: &[u8], e: &[u8]) -> Result<Usable, String> {
    let strip = |number: &[u8]| -> Vec<u8> { number.iter().copied().skip_while(|byte| *byte == 0).collect() };
    let (n, e) = (strip(n), strip(e));
    let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
    if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
        return Err(format!("an RSA key has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, and this one has {bits}"));
    }
    let components = RsaPublicKeyComponents { n, e };
    let each = Algorithm::RSA.into_iter().filter_map(|algorithm| Some((algorithm, algorithm.rsa()?)));
    each.map(|(algorithm, parameters)| Ok((algorithm, Material::Public(components.to_parsed_public_key(parameters)?))))
        .collect::<Result<_, aws_lc_rs::error::KeyRejected>>()
        .map_err(|_| "it is no key of RSA".into())
}

/// `point` is uncompressed, or in a `SubjectPublicKeyInfo`.
fn ec(curve: &Curve, point: &[u8]) -> Result<Usable, String> {
    let key = ParsedPublicKey::new(curve.verification, point).map_err(|_| format!("it is no point on {}", curve.name))?;
    Ok(vec![(curve.algorithm, Material::Public(key))])
}

fn ed25519(key: &[u8]) -> Result<Usable, String> {
    let key = ParsedPublicKey::new(&signature::ED25519, key).map_err(|_| "it is no key of Ed25519".to_owned())?;
    Ok(vec![(Algorithm::EdDsa, Material::Public(key))])
}

/// A secret is at least as long as the hash that it is used with.
fn hmac_keys(secret: &[u8]) -> Result<Usable, String> {
    let each = Algorithm::HMAC.into_iter().filter_map(|algorithm| Some((algorithm, algorithm.hmac()?)));
    let long_enough = each.filter(|(_, hmac)| secret.len() >= hmac.digest_algorithm().output_len());
    let usable: Usable =
        long_enough.map(|(algorithm, hmac)| (algorithm, Material::Secret(Box::new(hmac::Key::new(hmac, secret))))).collect();
    if usable.is_empty() { Err("a secret has 32 bytes or more, and this one is shorter".into()) } else { Ok(usable) }
}

/// The public keys of a PEM file, and how many. They have no ids.
fn pem(content: &[u8]) -> Result<(Vec<Key>, usize), String> {
    let (mut rest, mut keys, mut count) = (content, Vec::new(), 0);
    while let Some((kind, der)) = from_buf(&mut rest).map_err(|_| "it is not PEM".to_owned())? {
        let usable = match kind {
            SectionKind::PublicKey => public_key(&der)?,
            SectionKind::Certificate => {
                return Err("it holds a certificate; `openssl x509 -pubkey -noout -in FILE` prints the key of one".into());
            }
            _ => return Err("it holds a private key; `openssl pkey -pubout -in FILE` prints the public one".into()),
        };
        keys.extend(usable.into_iter().map(|(algorithm, material)| Key { id: None, algorithm, material }));
        count += 1;
        if count > MAX_KEYS {
            return Err(format!("it has more than {MAX_KEYS} keys"));
        }
    }
    if keys.is_empty() { Err("it has no `-----BEGIN PUBLIC KEY-----`".into()) } else { Ok((keys, count)) }
}

fn public_key(der: &[u8]) -> Result<Usable, String> {
    let unusable = || "it holds what is no public key of RSA, of ECDSA on P-256, P-384 or P-521, or of Ed25519".to_owned();
    let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|_| unusable())?;
    if info.algorithm.algorithm.to_id_string() == "1.3.101.112" {
        return ed25519(der);
    }
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => rsa(key.modulus, key.exponent),
        Ok(PublicKey::EC(point)) => {
            let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
            let curve = curve.map(|oid| oid.to_id_string()).unwrap_or_default();
            ec(CURVES.iter().find(|known| known.oid == curve).ok_or_else(unusable)?, point.data())
        }
        _ => Err(unusable()),
    }
}
