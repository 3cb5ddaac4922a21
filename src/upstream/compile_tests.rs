//! What an upstream is made of, and what is said of a Spec that makes none.

use super::tests::{certificate_files, problems, upstream};
use crate::types::Code;

#[test]
fn a_scheme_is_short_for_tls_with_the_name() {
    for (yaml, sni) in [
        ("{endpoints: ['https://app']}", Some("app")),
        ("{endpoints: ['https://app', 'https://app:8443']}", Some("app")),
        ("{endpoints: ['https://a', 'https://b'], tls: {sni: c}}", Some("c")),
        ("{endpoints: ['https://a', 'b:1'], tls: {verify: false}}", Some("a")),
        ("{endpoints: ['app:8443'], tls: {}}", Some("app")),
        ("{endpoints: ['https://10.0.0.1']}", None),
    ] {
        let upstream = upstream(yaml);
        let tls = upstream.spec().tls.as_ref().expect(yaml);
        assert_eq!(tls.sni.as_deref(), sni, "{yaml}");
    }
    assert!(upstream("{endpoints: ['http://app', 'other:1']}").spec().tls.is_none());
}

#[test]
fn what_is_not_used_is_as_if_it_were_not_listed() {
    let upstream =
        upstream("{endpoints: ['10.0.0.1:1', {address: '10.0.0.2:1', weight: 0}, {address: '10.0.0.3:1', disabled: true}]}");
    let labels: Vec<_> = upstream.endpoints().iter().map(|endpoint| endpoint.label().to_string()).collect();
    assert_eq!(labels, ["10.0.0.1:1"]);
}

#[test]
fn every_problem_is_reported_at_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let (cert, _) = certificate_files(directory.path(), "one");
    let (_, other_key) = certificate_files(directory.path(), "two");
    let not_pem = directory.path().join("not.pem");
    std::fs::write(&not_pem, "hello").unwrap();
    let not_pem = not_pem.display();
    let expect = |yaml: &str, wanted: &[(Code, &str)]| {
        let found = problems(yaml);
        let wanted: Vec<_> = wanted.iter().map(|(code, path)| (*code, (*path).to_owned())).collect();
        assert_eq!(found, wanted, "{yaml}");
    };
    expect("{endpoints: []}", &[(Code::MissingKey, "upstreams.api")]);
    expect("{}", &[(Code::MissingKey, "upstreams.api")]);
    expect(
        "{endpoints: ['127.0.0.1:1', '127.0.0.1:0', '127.0.0.1:1']}",
        &[(Code::BadAddress, "endpoints[1]"), (Code::BadAddress, "endpoints[2]")],
    );
    expect("{endpoints: ['http://app', 'app:80']}", &[(Code::BadAddress, "endpoints[1]")]);
    expect("{endpoints: ['https://app', 'http://other']}", &[(Code::Conflict, "endpoints[1]")]);
    expect("{endpoints: ['other:1', 'https://app']}", &[(Code::Conflict, "endpoints[0]")]);
    expect("{endpoints: ['https://a', 'https://b']}", &[(Code::Conflict, "endpoints[1]")]);
    expect("{endpoints: ['https://a', 'https://10.0.0.1']}", &[(Code::Conflict, "endpoints[1]")]);
    expect("{endpoints: ['http://a'], tls: {}}", &[(Code::Conflict, "endpoints[0]")]);
    let with = |rest: &str| format!("{{endpoints: ['127.0.0.1:1'], {rest}}}");
    expect(&with("connections: {protocol: h2}"), &[(Code::Conflict, "connections.protocol")]);
    expect(&with(&format!("connections: {{protocol: h2c}}, tls: {{ca: {cert}}}")), &[(Code::Conflict, "connections.protocol")]);
    expect(&with("tls: {client_cert: a.pem}"), &[(Code::Conflict, "tls.client_cert")]);
    expect(&with("tls: {client_key: a.pem}"), &[(Code::Conflict, "tls.client_key")]);
    expect(&with("tls: {sni: 'not a name'}"), &[(Code::BadValue, "tls.sni")]);
    expect("{endpoints: ['unix:/a'], tls: {}}", &[(Code::Conflict, "tls")]);
    expect(
        &with("tls: {ca: /nowhere/ca.pem, client_cert: /nowhere/a.pem, client_key: /nowhere/a.key}"),
        &[(Code::UnreadableFile, "tls.ca"), (Code::UnreadableFile, "tls.client_cert"), (Code::UnreadableFile, "tls.client_key")],
    );
    expect(&with(&format!("tls: {{ca: {not_pem}}}")), &[(Code::BadCertificate, "tls.ca")]);
    expect(
        &with(&format!("tls: {{ca: {cert}, client_cert: {cert}, client_key: {other_key}}}")),
        &[(Code::BadCertificate, "tls.client_key")],
    );
    expect(
        &with(&format!("tls: {{verify: false, client_cert: {cert}, client_key: {cert}}}")),
        &[(Code::Insecure, "tls.verify"), (Code::BadCertificate, "tls.client_key")],
    );
    expect(&with("health_check: {}"), &[(Code::Conflict, "health_check")]);
    expect(&with("health_check: {tcp: {}, http: {}}"), &[(Code::Conflict, "health_check.tcp")]);
    expect(&with("health_check: {grpc: {}, tcp: {}}"), &[(Code::Conflict, "health_check.grpc")]);
    expect(&with("health_check: {grpc: {}}"), &[(Code::Conflict, "health_check.grpc")]);
    expect(
        &with("health_check: {grpc: {service: 'a b'}}, connections: {protocol: h2c}"),
        &[(Code::BadValue, "health_check.grpc.service")],
    );
    expect(
        &with(
            r#"health_check: {http: {path: "/a b", host: "a\r\nb", status: 200, method: HEAD, body: ok, headers: {host: a, te: x, connection: b, "a b": c}}, interval: 0s, timeout: 0s}"#,
        ),
        &[
            (Code::BadValue, "health_check.interval"),
            (Code::BadValue, "health_check.timeout"),
            (Code::BadValue, "health_check.http.path"),
            (Code::BadValue, "health_check.http.host"),
            (Code::BadValue, "health_check.http.method"),
            (Code::BadValue, "health_check.http.headers.a b"),
            (Code::BadValue, "health_check.http.headers.connection"),
            (Code::BadValue, "health_check.http.headers.host"),
        ],
    );
}
