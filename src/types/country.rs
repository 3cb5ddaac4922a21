//! Countries: ISO 3166-1 alpha-2 codes, and where a client's comes from.

use std::{
    fmt,
    net::IpAddr,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use crate::string_type;

/// A country by its two letters: `DE`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

/// Every assigned code, and Kosovo's, which databases use although it is none.
const ASSIGNED: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA \
    CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI \
    GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC \
    LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA \
    PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH \
    TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW";

impl Country {
    /// A code as a database gives it: two capital letters, assigned or not.
    pub fn from_code(code: &str) -> Option<Self> {
        match code.as_bytes() {
            [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Some(Self([*a, *b])),
            _ => None,
        }
    }
    /// The two letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Country {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let meant = match &*upper {
            "UK" => "GB",
            "EL" => "GR",
            other if ASSIGNED.split(' ').any(|code| code == other) => other,
            _ => return Err(format!("`{text}` is not the code of a country; write two letters as in `DE` (ISO 3166-1)")),
        };
        match Self::from_code(text).filter(|_| meant == text) {
            Some(country) => Ok(country),
            None => Err(format!("`{text}` is not the code of a country; did you mean `{meant}`?")),
        }
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
string_type!(Country, "Country", "A country by its two letters (ISO 3166-1 alpha-2): `DE`.", Some("^[A-Z]{2}$"));

/// Tells the country of an address.
pub trait Countries: fmt::Debug + Send + Sync {
    /// `None` where that is not known.
    fn country(&self, ip: IpAddr) -> Option<Country>;
}

/// The country of one client, looked up when it is first asked for and never again.
#[derive(Debug, Clone, Default)]
pub struct Whereabouts {
    countries: Option<Arc<dyn Countries>>,
    found: OnceLock<Option<Country>>,
}

impl Whereabouts {
    /// Found in this database; never known without one.
    pub fn new(countries: Option<Arc<dyn Countries>>) -> Self {
        Self { countries, found: OnceLock::new() }
    }
    /// The country of the client, whose address this is.
    pub(super) fn country(&self, ip: IpAddr) -> Option<Country> {
        *self.found.get_or_init(|| self.countries.as_ref()?.country(ip))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn codes_are_those_of_the_standard() {
        assert_eq!(ASSIGNED.split(' ').count(), 250);
        assert_eq!("NO".parse::<Country>().unwrap().to_string(), "NO");
        for (wrong, hint) in
            [("UK", "`GB`"), ("de", "`DE`"), ("EN", "two letters"), ("DEU", "two letters"), ("", "two letters"), ("Ä", "two")]
        {
            assert!(wrong.parse::<Country>().unwrap_err().contains(hint), "{wrong}");
        }
        assert_eq!((Country::from_code("ZZ").is_some(), Country::from_code("z1")), (true, None));
    }

    #[test]
    fn a_country_is_looked_up_once_and_only_when_asked_for() {
        #[derive(Debug, Default)]
        struct Counting(AtomicUsize);
        impl Countries for Counting {
            fn country(&self, _: IpAddr) -> Option<Country> {
                self.0.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
        let counting = Arc::new(Counting::default());
        let whereabouts = Whereabouts::new(Some(counting.clone()));
        assert_eq!(counting.0.load(Ordering::Relaxed), 0);
        let ip = [192, 0, 2, 1].into();
        assert_eq!((whereabouts.country(ip), whereabouts.country(ip)), (None, None));
        assert_eq!(counting.0.load(Ordering::Relaxed), 1);
        assert_eq!(Whereabouts::default().country(ip), None);
    }
}
