//! Accounts and orders at authorities: RFC 8555 section 7.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, Error, ExternalAccountKey, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, Problem,
};
use parking_lot::Mutex;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};

use super::{
    authority::Authority,
    client::{Client, Pause},
    plan::Settings,
    proof::{Answer, Prover, Shown, Way},
    schedule::Window,
    spec::KeyKind,
    standing::Stored,
    storage::{Shelf, Storage, StorageError, read_json, write_json},
};

/// Orders in this time at one authority, so that no mistake of ours is a flood for it.
const ORDERS: usize = 10;
const ORDERS_IN: Duration = Duration::from_secs(10);

/// How long an authority may take to check a name, and to sign.
const CHECKING: Duration = Duration::from_secs(180);
/// Between looks at an order: at first, and at most.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const LAST_LOOK: Duration = Duration::from_secs(5);

/// So many tries are made of what is nobody's fault.
const TRIES: u32 = 4;

/// After so many failures in a row, an order does not say which certificate it replaces: some authorities refuse identifiers that they
/// do not know.
const REPLACES_TRIES: u32 = 2;

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Failure {
    /// In words.
    pub(super) reason: String,
    /// The authority wants to hear nothing before.
    pub(super) not_before: Option<SystemTime>,
    /// It is nobody's fault, and worth another try at once.
    again: bool,
}

impl Failure {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), not_before: None, again: false }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::new(reason)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // The library has tried three times.
        let again = matches!(&error, Error::Api(problem) if kind(problem) == Some("badNonce"));
        Self { again, ..Self::new(words(&error)) }
    }
}

/// An order under way, as it is stored before the authority is told to go on: whoever finds it goes on with it.
#[derive(Serialize, Deserialize)]
struct UnderWay {
    directory: String,
    url: String,
    /// The key of the certificate, in PEM.
    key: String,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) name: String,
    /// Attempts in a row that failed before this one.
    pub(super) failures: u32,
    /// The certificate that is replaced: its identifier (RFC 9773), and the directory that it is from.
    pub(super) replaces: Option<(String, String)>,
    /// The ways that names can be proven in.
    pub(super) cleartext: bool,
}

/// What orders are made with.
pub(super) struct Desk {
    pub(super) settings: Arc<Settings>,
    pub(super) storage: Arc<dyn Storage>,
    prover: Prover,
    accounts: tokio::sync::Mutex<BTreeMap<String, (Account, Pause)>>,
    ordered: Arc<Ordered>,
}

/// When orders were made, by directory.
type Ordered = Mutex<HashMap<String, VecDeque<Instant>>>;

impl Desk {
    /// What the one `before` has counted counts on: another configuration is no reason for more orders.
    pub(super) fn new(settings: Arc<Settings>, storage: Arc<dyn Storage>, before: Option<&Desk>) -> Self {
        let prover = Prover { storage: storage.clone(), dns: settings.dns.clone(), propagation: settings.propagation };
        let ordered = before.map_or_else(Arc::default, |before| before.ordered.clone());
        Self { settings, storage, prover, accounts: Default::default(), ordered }
    }

    /// Obtains a certificate from the first authority that issues one, and stores it. `Err` has the reason of each.
    pub(super) async fn obtain(&self, wish: &Wish) -> Result<Stored, Failure> {
        let mut failures: Vec<(String, Failure)> = Vec::new();
        for authority in &self.settings.authorities {
            match self.obtain_from(authority, wish).await {
                Ok(stored) => return Ok(stored),
                Err(failure) => failures.push((authority.to_string(), failure)),
            }
        }
        let not_before = failures.iter().filter_map(|(_, failure)| failure.not_before).min();
        let reasons: Vec<String> = failures.into_iter().map(|(authority, failure)| format!("{authority}: {failure}")).collect();
        Err(Failure { not_before, ..Failure::new(reasons.join("; ")) })
    }

    async fn obtain_from(&self, authority: &Authority, wish: &Wish) -> Result<Stored, Failure> {
        if let Some(staging) = tried_first(authority, wish.failures) {
            self.order_at(&staging, wish, false)
                .await
                .map_err(|failure| Failure { reason: format!("tried at its staging directory: {failure}"), ..failure })?;
        }
        self.order_at(authority, wish, true).await
    }

    /// `keep`: it is an order for a certificate that is served, and not one to try things out.
    async fn order_at(&self, authority: &Authority, wish: &Wish, keep: bool) -> Result<Stored, Failure> {
        for _ in 1..TRIES {
            match self.try_order_at(authority, wish, keep).await {
                Err(failure) if failure.again => {}
                done => return done,
            }
        }
        self.try_order_at(authority, wish, keep).await
    }

    async fn try_order_at(&self, authority: &Authority, wish: &Wish, keep: bool) -> Result<Stored, Failure> {
        let (mut account, mut pause) = self.account(authority).await?;
        let mut ordered = self.order(&account, authority, wish, keep).await;
        if matches!(&ordered, Err(Refused::NoAccount)) {
            // An authority that was set up anew: once more, with an account that it knows.
            log::warn!("acme: {authority} does not know our account any more; another one is made");
            self.accounts.lock().await.remove(authority.url());
            self.storage.remove(Shelf::Accounts, &authority.key()).await?;
            (account, pause) = self.account(authority).await?;
            ordered = self.order(&account, authority, wish, keep).await;
        }
        ordered.map_err(|refused| match refused {
            Refused::NoAccount => Failure::new("it does not know the account that was made a moment ago"),
            Refused::Failed(failure) => Failure { not_before: pause.lock().take(), ..failure },
        })
    }

    /// The account at an authority, which is made if there is none.
    async fn account(&self, authority: &Authority) -> Result<(Account, Pause), Failure> {
        let mut accounts = self.accounts.lock().await;
        if let Some(known) = accounts.get(authority.url()) {
            return Ok(known.clone());
        }
        // Edges that share the storage share the account.
        let _lock = self.storage.lock(&format!("account.{}", authority.key())).await?;
        let pause = Pause::default();
        let client = Client { tls: self.settings.tls.clone(), pause: pause.clone() };
        let builder = Account::builder_with_http(Box::new(client));
        let stored = read_json::<AccountCredentials>(&self.storage, Shelf::Accounts, &authority.key()).await?;
        let account = match stored {
            Some(credentials) => builder.from_credentials(credentials).await?,
            None => {
                let contact: Vec<&str> = self.settings.contact.iter().map(String::as_str).collect();
                let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
                let binding = self.settings.eab.as_ref().filter(|_| authority.binds_accounts()).and_then(|(kid, hmac)| {
                    let key = URL_SAFE_NO_PAD.decode(hmac.expose().trim_end_matches('=')).ok()?;
                    Some(ExternalAccountKey::new(kid.clone(), &key))
                });
                let (account, credentials) = builder.create(&new, authority.url().to_owned(), binding.as_ref()).await?;
                write_json(&self.storage, Shelf::Accounts, &authority.key(), &credentials).await?;
                log::info!("acme: an account was made at {authority}");
                account
            }
        };
        accounts.insert(authority.url().to_owned(), (account.clone(), pause.clone()));
        Ok((account, pause))
    }

    async fn order(&self, account: &Account, authority: &Authority, wish: &Wish, keep: bool) -> Result<Stored, Refused> {
        let (mut order, under_way) = match self.go_on(account, authority, wish, keep).await? {
            Some(found) => found,
            None => self.begin(account, authority, wish, keep).await?,
        };
        let mut shown = Vec::new();
        let issued = self.carry_out(&mut order, &under_way, wish, &mut shown).await;
        self.prover.hide(shown).await;
        let stored = issued.map(|chain| Stored {
            name: wish.name.clone(),
            directory: authority.url().to_owned(),
            authority: authority.to_string(),
            chain,
            key: under_way.key,
        });
        if keep {
            if let Ok(stored) = &stored {
                write_json(&self.storage, Shelf::Certificates, &wish.name, stored).await.map_err(Failure::from)?;
            }
            // One that failed is not gone on with: it would fail again.
            if !stored.as_ref().is_err_and(|failure| failure.again) {
                self.storage.remove(Shelf::Orders, &wish.name).await.map_err(Failure::from)?;
            }
        }
        Ok(stored?)
    }

    /// The order that a process which died has left, if the authority knows it still.
    async fn go_on(
        &self,
        account: &Account,
        authority: &Authority,
        wish: &Wish,
        keep: bool,
    ) -> Result<Option<(Order, UnderWay)>, Refused> {
        if !keep {
            return Ok(None);
        }
        let left = read_json::<UnderWay>(&self.storage, Shelf::Orders, &wish.name).await.map_err(Failure::from)?;
        let Some(left) = left.filter(|left| left.directory == authority.url()) else { return Ok(None) };
        // Expired, or of an account that is gone: a new one will do.
        let Ok(mut order) = account.order(left.url.clone()).await else { return Ok(None) };
        if order.state().status == OrderStatus::Invalid {
            return Ok(None);
        }
        log::info!("acme: the order for {} at {authority} goes on", wish.name);
        Ok(Some((order, left)))
    }

    async fn begin(
        &self,
        account: &Account,
        authority: &Authority,
        wish: &Wish,
        keep: bool,
    ) -> Result<(Order, UnderWay), Refused> {
        self.take_turn(authority).await;
        let identifiers = [match wish.name.parse() {
            Ok(address) => Identifier::Ip(address),
            Err(_) => Identifier::Dns(wish.name.clone()),
        }];
        let mut new = NewOrder::new(&identifiers);
        if let Some(profile) = &self.settings.profile {
            let known: Vec<&str> = account.profiles().map(|profile| profile.name).collect();
            if !known.contains(&profile.as_str()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Failure::new(format!("it has no profile `{profile}`; it has {known}")).into());
            }
            new = new.profile(profile);
        }
        let replaces = wish.replaces.as_ref().filter(|(_, from)| from == authority.url() && wish.failures < REPLACES_TRIES);
        if let Some((id, _)) = replaces
            && let Some((authority_key, serial)) = id.split_once('.')
        {
            new = new.replaces(CertificateIdentifier { authority_key_identifier: authority_key.into(), serial: serial.into() });
        }
        let key = generate(self.settings.key).map_err(Failure::new)?;
        let order = account.new_order(&new).await?;
        let under_way = UnderWay { directory: authority.url().to_owned(), url: order.url().to_owned(), key };
        if keep {
            write_json(&self.storage, Shelf::Orders, &wish.name, &under_way).await.map_err(Failure::from)?;
        }
        Ok((order, under_way))
    }

    /// From wherever an order is to the chain.
    async fn carry_out(
        &self,
        order: &mut Order,
        under_way: &UnderWay,
        wish: &Wish,
        shown: &mut Vec<Shown>,
    ) -> Result<String, Failure> {
        let deadline = Instant::now() + CHECKING;
        let mut pause = FIRST_LOOK;
        let mut answered = false;
        loop {
            let status = order.state().status;
            match status {
                OrderStatus::Pending if !answered => {
                    self.answer(order, wish, shown).await?;
                    answered = true;
                }
                OrderStatus::Ready => order.finalize_csr(&request(&wish.name, &under_way.key)?).await?,
                OrderStatus::Valid => {
                    let chain = order.certificate().await?;
                    return chain.ok_or_else(|| Failure::new("the order is done, and there is no certificate"));
                }
                OrderStatus::Invalid => return Err(Failure::new(refusal(order).await)),
                OrderStatus::Pending | OrderStatus::Processing if Instant::now() > deadline => {
                    return Err(Failure::new(format!("it was not done after {} s", CHECKING.as_secs())));
                }
                OrderStatus::Pending | OrderStatus::Processing => {}
            }
            if !matches!(order.state().status, OrderStatus::Ready | OrderStatus::Valid) {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_LOOK);
                order.refresh().await?;
            }
        }
    }

    /// Proves the name, in the first of its ways that the authority offers, too.
    async fn answer(&self, order: &mut Order, wish: &Wish, shown: &mut Vec<Shown>) -> Result<(), Failure> {
        let ways = Way::open(&wish.name, self.settings.dns.is_some(), wish.cleartext, wish.failures);
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let offered = |way: &&Way| authorization.challenges.iter().any(|challenge| challenge.r#type == way.kind());
            let way = ways.iter().find(offered).copied();
            let Some((way, mut challenge)) = way.and_then(|way| Some((way, authorization.challenge(way.kind())?))) else {
                let wanted: Vec<&str> = ways.iter().map(|way| way.name()).collect();
                return Err(Failure::new(format!("it does not offer {}", wanted.join(" or "))));
            };
            let answer = Answer { name: wish.name.clone(), authorization: challenge.key_authorization().as_str().to_owned() };
            let token = challenge.token.clone();
            shown.push(self.prover.show(way, &token, answer).await?);
            challenge.set_ready().await?;
        }
        Ok(())
    }

    async fn take_turn(&self, authority: &Authority) {
        loop {
            let wait = {
                let mut ordered = self.ordered.lock();
                let ordered = ordered.entry(authority.url().to_owned()).or_default();
                ordered.retain(|at| at.elapsed() < ORDERS_IN);
                match ordered.front() {
                    Some(first) if ordered.len() >= ORDERS => ORDERS_IN.saturating_sub(first.elapsed()),
                    _ => {
                        ordered.push_back(Instant::now());
                        return;
                    }
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// When the authority that issued a certificate wants it to be renewed, and when to ask again. `None` where it does not say.
    pub(super) async fn window(&self, directory: &str, id: &str) -> Option<(Window, Duration)> {
        let authority = self.settings.authorities.iter().find(|authority| authority.url() == directory)?;
        let (account, _) = self.account(authority).await.ok()?;
        let (authority_key, serial) = id.split_once('.')?;
        let id = CertificateIdentifier { authority_key_identifier: authority_key.into(), serial: serial.into() };
        let (info, again) = account.renewal_info(&id).await.ok()?;
        let window = Window { start: info.suggested_window.start.into(), end: info.suggested_window.end.into() };
        Some((window, again))
    }
}

/// Why an order came to nothing: the authority says so at the challenge.
async fn refusal(order: &mut Order) -> String {
    let own = order.state().error.as_ref().map(problem);
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else { continue };
        // What is known of it is from before it was checked.
        if authorization.refresh().await.is_err() {
            continue;
        }
        let found = authorization.challenges.iter().find_map(|challenge| Some((challenge, challenge.error.as_ref()?)));
        if let Some((challenge, error)) = found {
            let way = Way::of(&challenge.r#type).map_or("a challenge", Way::name);
            return format!("{way}: {}", problem(error));
        }
    }
    own.unwrap_or_else(|| "it says no reason".to_owned())
}

/// Where an order is tried first after attempts that failed: a mistake of the configuration must not count against the limits of the authority.
fn tried_first(authority: &Authority, failures: u32) -> Option<Authority> {
    authority.staging().filter(|_| failures > 0)
}

/// Why an order was not carried out.
enum Refused {
    /// The authority does not know the account.
    NoAccount,
    Failed(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Refused::Failed(failure)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match &error {
            Error::Api(problem) if kind(problem) == Some("accountDoesNotExist") => Refused::NoAccount,
            _ => Refused::Failed(error.into()),
        }
    }
}

/// The identifier of a certificate for renewal information: RFC 9773 section 4.1.
pub(super) fn renewal_id(chain: &str) -> Option<String> {
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).ok()?;
    CertificateIdentifier::try_from(&leaf).ok().map(|id| id.to_string())
}

fn generate(kind: KeyKind) -> Result<String, String> {
    let key = match kind {
        KeyKind::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyKind::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048),
    };
    key.map(|key| key.serialize_pem()).map_err(|error| format!("no key could be made: {error}"))
}

/// The request for a certificate (CSR), in DER.
fn request(name: &str, key: &str) -> Result<Vec<u8>, Failure> {
    let make = || -> Result<_, rcgen::Error> {
        let key = KeyPair::from_pem(key)?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        Ok(params.serialize_request(&key)?.der().to_vec())
    };
    make().map_err(|error| Failure::new(format!("no request could be made: {error}")))
}

fn kind(problem: &Problem) -> Option<&str> {
    problem.r#type.as_deref()?.strip_prefix("urn:ietf:params:acme:error:")
}

/// What an authority says, for people: one line, of a length that fits one.
fn problem(found: &Problem) -> String {
    let detail = found.subproblems.iter().find_map(|below| below.detail.as_deref()).or(found.detail.as_deref());
    let detail: String = detail
        .unwrap_or("no details")
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(400)
        .collect();
    match kind(found) {
        Some(kind) => format!("{detail} ({kind})"),
        None => detail,
    }
}

fn words(error: &Error) -> String {
    match error {
        Error::Api(found) => problem(found),
        Error::Json(_) => "the answer is not what an ACME directory answers".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_failed_is_tried_at_the_staging_directory_first() {
        let tried =
            |authority: &str, failures| tried_first(&authority.parse().unwrap(), failures).map(|first| first.url().to_owned());
        let staging = "letsencrypt-staging".parse::<Authority>().unwrap().url().to_owned();
        assert_eq!((tried("letsencrypt", 0), tried("letsencrypt", 1)), (None, Some(staging)));
        assert_eq!((tried("letsencrypt-staging", 1), tried("https://ca.test/dir", 9)), (None, None));
    }

    #[test]
    fn what_an_authority_says_is_one_line_in_words() {
        let said = |json: serde_json::Value| words(&Error::Api(serde_json::from_value(json).unwrap()));
        let problem = serde_json::json!({"type": "urn:ietf:params:acme:error:dns", "detail": "no\r\nsuch name"});
        assert_eq!(said(problem.clone()), "no  such name (dns)");
        let several = serde_json::json!({"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "some", "subproblems": [problem]});
        assert_eq!(said(several), "no\r\nsuch name (rejectedIdentifier)".replace("\r\n", "  "));
        assert!(said(serde_json::json!({"detail": "x".repeat(10_000)})).len() < 500);
    }
}
