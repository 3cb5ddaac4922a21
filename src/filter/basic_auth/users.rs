//! The file of users: one `name:hash` to a line, as `htpasswd -B` writes it.
//!
//! Only hashes that are slow on purpose are taken. What a line holds stands in no message: it may be a password.

use std::{collections::HashMap, fmt};

use argon2::{
    Argon2, Params,
    password_hash::{PasswordVerifier, phc::PasswordHash},
};
use http::HeaderValue;

use crate::{
    filter::small_file,
    types::{At, Code, ConfigPath},
};

/// The longest file: some fifty thousand users.
const MAX_FILE: u64 = 4 << 20;

/// Each step doubles the work; 15 takes seconds, within which nobody else's password is verified.
const MAX_BCRYPT_COST: u32 = 15;

/// What `htpasswd -B` writes by itself is 5, which one graphics card tries a million times a second.
const WEAK_BCRYPT_COST: u32 = 10;

/// A verification takes this memory, and several run at a time: 256 MiB.
const MAX_ARGON2_KIB: u32 = 256 << 10;

/// Passes over memory, and lanes, which take their turns here. With the most memory this is seconds.
const MAX_ARGON2_PASSES: u32 = 16;

/// The users of one file, in its order, and where each is.
pub(super) struct Users {
    entries: Vec<(HeaderValue, Hash)>,
    places: HashMap<String, usize>,
}

/// What a password is verified against.
enum Hash {
    Bcrypt(String),
    Argon2(Box<PasswordHash>),
}

/// How many, and nothing of what is known of them.
impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} users", self.entries.len())
    }
}

impl Users {
    /// Reads the file. `None` when a problem was reported instead.
    pub(super) fn read(file: &ConfigPath, at: &At) -> Option<Self> {
        let text = small_file::read_text(file, MAX_FILE, at)?;
        let mut users = Self { entries: Vec::new(), places: HashMap::new() };
        let mut weak = None;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let place = format!("line {} of `{file}`", index + 1);
            match users.add(line) {
                Ok(strong) => weak = weak.or((!strong).then_some(place)),
                Err((code, reason)) => {
                    at.problem(code, format!("{place}: {reason}")).hint("`htpasswd -B -C 12 FILE NAME` writes such a line");
                    return None;
                }
            }
        }
        if users.entries.is_empty() {
            at.problem(Code::BadValue, format!("`{file}` holds no user")).hint("`htpasswd -B -C 12 FILE NAME` adds one");
            return None;
        }
        if let Some(place) = weak {
            at.problem(Code::Insecure, format!("{place}: bcrypt of a cost below {WEAK_BCRYPT_COST} can be guessed fast"))
                .hint("`htpasswd -B` takes 5 unless `-C 12` tells it otherwise");
        }
        Some(users)
    }

    /// Adds one user. Tells whether the hash is slow enough, or what is wrong.
    fn add(&mut self, line: &str) -> Result<bool, (Code, String)> {
        let bad = |reason: &str| (Code::BadValue, reason.to_owned());
        let (name, hash) = line.split_once(':').ok_or_else(|| bad("this is not `name:hash`"))?;
        let value = HeaderValue::from_str(name).ok().filter(|_| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()));
        let value = value.ok_or_else(|| bad("the name of a user has visible ASCII characters only"))?;
        let (hash, strong) = Hash::parse(hash).map_err(|reason| (Code::BadValue, reason))?;
        if self.places.insert(name.to_owned(), self.entries.len()).is_some() {
            return Err((Code::Duplicate, format!("`{name}` stands in a line before, too")));
        }
        self.entries.push((value, hash));
        Ok(strong)
    }

    /// The user whose password this is. An unknown name costs what a user costs: `stranger` chooses which, so that it
    /// is the same one each time, as it would be for a known name.
    pub(super) fn verify(&self, name: &str, password: &[u8], stranger: u64) -> Option<HeaderValue> {
        let known = self.places.get(name).copied();
        let count = self.entries.len() as u64;
        let stand_in = usize::try_from(stranger.checked_rem(count)?).ok()?;
        let (value, hash) = self.entries.get(known.unwrap_or(stand_in))?;
        // Both are computed before either is looked at.
        let right = hash.verify(password);
        (right & known.is_some()).then(|| value.clone())
    }
}

impl Hash {
    /// The hash, and whether it is slow enough; or what is wrong with it.
    fn parse(text: &str) -> Result<(Self, bool), String> {
        // $2x$ stands for the hashes of an implementation that got characters beyond ASCII wrong.
        if ["$2y$", "$2b$", "$2a$"].iter().any(|prefix| text.starts_with(prefix)) {
            let parts: bcrypt::HashParts = text.parse().map_err(|_| "this is no hash of bcrypt".to_owned())?;
            return match parts.get_cost() {
                cost @ 4..=MAX_BCRYPT_COST => Ok((Self::Bcrypt(text.to_owned()), cost >= WEAK_BCRYPT_COST)),
                _ => Err(format!("the cost of bcrypt is 4 to {MAX_BCRYPT_COST}")),
            };
        }
        if text.starts_with("$argon2id$") {
            let broken = || "this is no hash of argon2id".to_owned();
            let hash = PasswordHash::new(text).map_err(|_| broken())?;
            let params = Params::try_from(&hash).map_err(|_| broken())?;
            if hash.salt.is_none() || hash.hash.is_none() || !matches!(hash.version, None | Some(0x10 | 0x13)) {
                return Err(broken());
            }
            let (memory, work) = (params.m_cost(), params.t_cost());
            if memory > MAX_ARGON2_KIB || work > MAX_ARGON2_PASSES {
                return Err(format!("argon2id may take m={MAX_ARGON2_KIB} (KiB) and t={MAX_ARGON2_PASSES} at most"));
            }
            return Ok((Self::Argon2(Box::new(hash)), true));
        }
        Err("passwords are hashed with bcrypt (`$2y$`) or argon2id (`$argon2id$`) here; others are fast to guess".into())
    }

    /// Takes the time that it takes, whatever the password is; both libraries compare in constant time.
    fn verify(&self, password: &[u8]) -> bool {
        match self {
            // Beyond 72 bytes bcrypt looks at nothing, here as in whatever made the hash.
            Hash::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Hash::Argon2(hash) => Argon2::default().verify_password(password, hash.as_ref()).is_ok(),
        }
    }
}
