//! Rule 10: who the client is, and what services are told about it (RFC 7239, the PROXY protocol).

use crate::{
    setup::{Bed, bed, bed_with},
    support::{
        certs::Identity,
        client::RawClient,
        origin::origin,
        wire::{RawRequest, RawResponse},
    },
};

/// Everything that a client may try to be somebody else with.
const FORGED: &str = "x-forwarded-for: 1.2.3.4\r\nx-forwarded-for: 5.6.7.8\r\nx-forwarded-proto: https\r\nx-forwarded-host: evil.example\r\n\
    x-forwarded-port: 443\r\nx-forwarded-client-cert: x\r\nx-forwarded-prefix: /p\r\nforwarded: for=1.2.3.4;proto=https\r\n\
    x-real-ip: 1.2.3.4\r\nx-client-cert-subject: CN=root\r\nx-client-cert-fingerprint: 00\r\nx-client-cert: x\r\nclient-cert: :x:\r\n";

fn with(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: example.com\r\n{lines}\r\n")
}

fn told(received: &RawRequest) -> Vec<(String, String)> {
    let about = |name: &str| {
        name.starts_with("x-forwarded") || name.contains("client-cert") || name == "forwarded" || name == "x-real-ip"
    };
    let fields = received.headers.0.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    let mut fields: Vec<_> = fields.filter(|(name, _)| about(name)).collect();
    fields.sort();
    fields
}

fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

async fn from(bed: &Bed, ip: &str, lines: &str) -> RawRequest {
    let answer = RawClient::connect_from(ip, bed.address()).await.exchange(with(lines)).await;
    assert_eq!(answer.status, 200);
    bed.origin.next_request().await
}

async fn trusting() -> Bed {
    bed_with(origin().respond(200, "ok"), |edge| edge.listener("trusted_proxies: [127.0.0.8/32, 10.0.0.0/8]")).await
}

#[tokio::test]
async fn rfc7239_8_a_stranger_is_believed_nothing() {
    let bed = bed().await;
    let received = from(&bed, "127.0.0.9", FORGED).await;
    assert_eq!(
        told(&received),
        pairs(&[
            ("x-forwarded-for", "127.0.0.9"),
            ("x-forwarded-host", "example.com"),
            ("x-forwarded-proto", "http"),
            ("x-real-ip", "127.0.0.9"),
        ])
    );
    assert_eq!(bed.log_line(0).await["client"], "127.0.0.9");
    // Nor when others are trusted.
    let bed = trusting().await;
    assert_eq!(from(&bed, "127.0.0.9", FORGED).await.headers.all("x-forwarded-for"), ["127.0.0.9"]);
}

#[tokio::test]
async fn rfc7239_7_4_the_client_is_the_right_most_hop_that_is_not_trusted() {
    let bed = trusting().await;
    let chains = [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 10.0.0.7", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1, 10.0.0.7", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:443, 10.1.1.1", "2001:db8::1"),
        // What is no address ends the walk where it was still good.
        ("192.0.2.1, nonsense, 10.0.0.7", "10.0.0.7"),
    ];
    for (index, (chain, client)) in chains.into_iter().enumerate() {
        let received = from(
            &bed,
            "127.0.0.8",
            &format!("x-forwarded-for: {chain}\r\nx-forwarded-proto: https\r\nx-forwarded-host: www.example.com\r\n"),
        )
        .await;
        assert_eq!(
            told(&received),
            pairs(&[
                ("x-forwarded-for", &format!("{chain}, 127.0.0.8")),
                ("x-forwarded-host", "www.example.com"),
                ("x-forwarded-proto", "https"),
                ("x-real-ip", client),
            ]),
            "{chain}"
        );
        assert_eq!(bed.log_line(index).await["client"], client, "{chain}");
    }
}

#[tokio::test]
async fn rfc7239_4_forwarded_from_a_trusted_proxy_is_continued() {
    let bed = trusting().await;
    let received =
        from(&bed, "127.0.0.8", "forwarded: for=6.6.6.6, for=\"[2001:db8::1]:99\";proto=https;host=www.example.com\r\n").await;
    assert_eq!(received.header("x-real-ip"), Some("2001:db8::1"));
    assert_eq!(received.headers.all("forwarded").last().unwrap(), &"for=127.0.0.8;proto=http;host=\"www.example.com\"");
    assert_eq!(received.headers.all("x-forwarded-proto"), ["https"]);
    assert_eq!(bed.log_line(0).await["client"], "2001:db8::1");
    // A proxy that maintains one dialect passes the other on as the client forged it.
    let received = from(&bed, "127.0.0.8", "x-forwarded-for: 192.0.2.1\r\nforwarded: for=6.6.6.6\r\n").await;
    assert_eq!((received.header("forwarded"), received.header("x-real-ip")), (None, Some("192.0.2.1")));
}

#[tokio::test]
async fn rfc9110_17_identity_fields_are_no_client_s_to_set_even_behind_a_trusted_proxy_without_tls() {
    let bed = bed().await;
    let received = from(&bed, "127.0.0.1", "x-client-cert-subject: CN=root\r\nX-Client-Cert-Fingerprint: 00\r\n").await;
    assert!(told(&received).iter().all(|(name, _)| !name.contains("client-cert")), "{received:?}");
}

#[tokio::test]
async fn rfc8446_4_4_2_the_certificate_that_was_shown_is_told_and_no_other() {
    let ca = crate::support::certs::ca();
    let Identity { cert_file, key_file, .. } = &ca.server(&["localhost"]);
    let roots = ca.file();
    let origin = origin().respond(200, "ok").spawn().await;
    let yaml = format!(
        "listeners:\n  edge:\n    address: 127.0.0.1:0\n    tls:\n      certificates: [{{cert: {cert_file:?}, key: {key_file:?}}}]\n      \
         client_certificates: {{ca: {roots:?}, required: true}}\nadmin: off\nroutes: [{{name: r, upstream: u}}]\n\
         upstreams: {{u: {{endpoints: ['{}']}}}}\n",
        origin.addr()
    );
    let edge = crate::support::edge::edge_from(&yaml).await;
    let tls = crate::support::certs::tls().sni("localhost").ca(&ca).identity(&ca.client("somebody"));
    let answer = RawClient::connect_tls(edge.address("edge"), &tls).await.exchange(with(FORGED)).await;
    assert_eq!(answer.status, 200);
    let received = origin.next_request().await;
    assert_eq!(received.headers.all("x-client-cert-subject").len(), 1);
    assert!(received.header("x-client-cert-subject").unwrap().contains("somebody"));
    assert_eq!(received.header("x-client-cert-fingerprint").unwrap().len(), 64);
    assert_eq!((received.header("x-client-cert"), received.header("client-cert")), (None, None));
    assert_eq!(received.header("x-forwarded-proto"), Some("https"));
}

/// An edge that expects the PROXY protocol from 127.0.0.8 alone.
async fn proxied() -> Bed {
    bed_with(origin().respond(200, "ok"), |edge| edge.listener("proxy_protocol: {from: [127.0.0.8/32]}")).await
}

async fn behind(bed: &Bed, ip: &str, header: &[u8]) -> Option<RawResponse> {
    let mut client = RawClient::connect_from(ip, bed.address()).await;
    client.send([header, with("").as_bytes()].concat()).await;
    client.try_read_response().await.ok().flatten()
}

/// A version 2 header for 192.0.2.1:4711 to 192.0.2.2:443.
fn version_2(command: u8) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, 0x11, 0, 12, 192, 0, 2, 1, 192, 0, 2, 2]);
    header.extend([4711_u16.to_be_bytes(), 443_u16.to_be_bytes()].concat());
    header
}

#[tokio::test]
async fn proxy_protocol_2_1_and_2_2_from_a_listed_peer_name_the_client() {
    let bed = proxied().await;
    for header in [b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n".to_vec(), version_2(1)] {
        assert_eq!(behind(&bed, "127.0.0.8", &header).await.unwrap().status, 200);
        assert_eq!(bed.origin.next_request().await.headers.all("x-forwarded-for"), ["192.0.2.1"]);
    }
    assert_eq!(behind(&bed, "127.0.0.8", b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n").await.unwrap().status, 200);
    assert_eq!(bed.origin.next_request().await.header("x-real-ip"), Some("2001:db8::1"));
    // LOCAL and UNKNOWN: a health check of the load balancer itself.
    for header in [version_2(0), b"PROXY UNKNOWN\r\n".to_vec()] {
        assert_eq!(behind(&bed, "127.0.0.8", &header).await.unwrap().status, 200);
        assert_eq!(bed.origin.next_request().await.headers.all("x-forwarded-for"), ["127.0.0.8"]);
    }
    let log = bed.edge.access_log_of(5).await;
    assert_eq!(log[0]["client"], "192.0.2.1");
}

#[tokio::test]
async fn proxy_protocol_2_a_header_in_pieces_is_read_whole() {
    let bed = proxied().await;
    let mut client = RawClient::connect_from("127.0.0.8", bed.address()).await;
    for piece in ["PRO", "XY TCP4 192.0.2.1 192", ".0.2.2 4711 443\r", "\nGET / HTTP/1.1\r\nho", "st: a\r\n\r\n"] {
        client.send(piece).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.read_response().await.status, 200);
    assert_eq!(bed.origin.next_request().await.headers.all("x-forwarded-for"), ["192.0.2.1"]);
}

#[tokio::test]
async fn proxy_protocol_2_is_required_from_listed_peers() {
    let bed = proxied().await;
    for header in [
        &b""[..],
        b"PROXY TCP4 192.0.2.1\r\n",
        b"PROXY TCP4 x y 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
        b"PROXY TCP9 a b 1 2\r\n",
    ] {
        let before = bed.rejected("bad_proxy_header").await;
        assert!(behind(&bed, "127.0.0.8", header).await.is_none(), "{header:?}");
        assert_eq!(bed.rejected("bad_proxy_header").await, before + 1);
    }
    assert_eq!(bed.origin.request_count(), 0);
}

#[tokio::test]
async fn proxy_protocol_5_is_refused_from_everyone_else() {
    let bed = proxied().await;
    for header in [b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n".to_vec(), version_2(1)] {
        assert_eq!(behind(&bed, "127.0.0.9", &header).await.unwrap().status, 400);
    }
    assert_eq!(bed.origin.request_count(), 0);
    assert_eq!(behind(&bed, "127.0.0.9", b"").await.unwrap().status, 200);
    assert_eq!(bed.origin.next_request().await.headers.all("x-forwarded-for"), ["127.0.0.9"]);
}
