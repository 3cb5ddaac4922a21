//! Caddy: a site for each listener. HTTP/3 is on by itself.

use super::Place;
use crate::client::HOST;

/// Where `tools/test-tools` puts the program.
pub(super) const FROM_PYPI: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/usr/bin/caddy");

pub(super) fn config(place: &Place) -> String {
    let endpoints: Vec<String> = place.endpoints.iter().map(ToString::to_string).collect();
    let proxy = format!("reverse_proxy {} {{\n\t\tlb_policy least_conn\n\t\tlb_retries 1\n\t}}", endpoints.join(" "));
    let (certificate, key) = (place.certificate(), place.key());
    format!(
        "{{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tdefault_sni {HOST}\n}}\n\
         http://127.0.0.1:{}, http://{HOST}:{} {{\n\tbind 127.0.0.1\n\t{proxy}\n}}\n\
         https://{HOST}:{} {{\n\tbind 127.0.0.1\n\ttls {} {}\n\t{proxy}\n}}\n",
        place.cleartext,
        place.cleartext,
        place.tls,
        certificate.display(),
        key.display(),
    )
}
