//! What a handshake costs with one certificate and with ten thousand, one of which is chosen by the name that the client asks for: full,
//! and with a session that is resumed.
//!
//! `cargo bench --bench tls`. One iteration is both sides of a handshake over memory, on one thread.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use criterion::{Criterion, criterion_group, criterion_main};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsConnector;
use weir::{
    tls::{Arrival, Issued, Offer, Pair, ServerTls, ServerTlsSpec, Trust, client_config, resumed},
    types::{Auto, Name, Problems},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A listener with so many certificates, for `0.test` and the following.
fn listener(certificates: usize) -> Arc<ServerTls> {
    let issued = Issued::default();
    let key = KeyPair::generate().expect("a key");
    for number in 0..certificates {
        let name = format!("{number}.test");
        let leaf = CertificateParams::new([name.clone()]).expect("a name").self_signed(&key).expect("a certificate");
        issued.put(&name, Pair { chain: &leaf.pem(), key: &key.serialize_pem() }, "bench").expect("it fits");
    }
    let spec = ServerTlsSpec { acme: Some(Auto::default()), ..ServerTlsSpec::default() };
    let problems = Problems::default();
    ServerTls::compile(&spec, Offer::Http2, &issued, SystemTime::now(), &problems.root()).expect("no problem")
}

/// One handshake. Whether an earlier session was taken up.
async fn shake(tls: &ServerTls, client: &Arc<ClientConfig>, name: &str, listener: &Name) -> bool {
    let (near, far) = duplex(64 * 1024);
    let asked = ServerName::try_from(name.to_owned()).expect("a name");
    let connecting = async {
        let mut stream = TlsConnector::from(client.clone()).connect(asked, near).await.expect("a handshake");
        // The tickets are read on the way.
        stream.read_u8().await.expect("a byte");
    };
    let accepting = async {
        let arrival = Arrival { client: Ipv4Addr::LOCALHOST.into(), listener };
        let (mut stream, _) = tls.accept(far, PATIENCE, arrival).await.expect("a handshake");
        stream.write_u8(b'!').await.expect("it is read");
        stream.flush().await.expect("it is read");
        resumed(&stream)
    };
    tokio::join!(connecting, accepting).1
}

fn handshakes(criterion: &mut Criterion) {
    weir::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let name: Name = "edge".parse().expect("a name");
    for certificates in [1, 10_000] {
        let tls = listener(certificates);
        let last = format!("{}.test", certificates - 1);
        criterion.bench_function(&format!("full handshake, {certificates} certificates"), |bencher| {
            bencher.iter(|| {
                // Without a session of an earlier one.
                let client = Arc::new(client_config(Trust::Anyone, None).expect("a client"));
                assert!(!runtime.block_on(shake(&tls, &client, &last, &name)));
            });
        });
        let client = Arc::new(client_config(Trust::Anyone, None).expect("a client"));
        runtime.block_on(shake(&tls, &client, &last, &name));
        criterion.bench_function(&format!("resumed handshake, {certificates} certificates"), |bencher| {
            bencher.iter(|| assert!(runtime.block_on(shake(&tls, &client, &last, &name))));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50);
    targets = handshakes
}
criterion_main!(benches);
