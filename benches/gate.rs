//! What the gate costs a request: the head of a browser, from bytes to admission.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir::gate::{Limits, admit_h1, head, target::canonical};

const BROWSER: &[u8] = b"GET /shop/articles/4711?colour=blue&sort=price HTTP/1.1\r\n\
Host: www.example.com\r\n\
Connection: keep-alive\r\n\
Cache-Control: max-age=0\r\n\
sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\n\
sec-ch-ua-mobile: ?0\r\n\
sec-ch-ua-platform: \"Linux\"\r\n\
Upgrade-Insecure-Requests: 1\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
Sec-Fetch-Site: same-origin\r\n\
Sec-Fetch-Mode: navigate\r\n\
Sec-Fetch-User: ?1\r\n\
Sec-Fetch-Dest: document\r\n\
Referer: http://www.example.com/shop/\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
Cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark\r\n\
\r\n";

fn gate(c: &mut Criterion) {
    let limits = Limits::default();
    let mut group = c.benchmark_group("gate");
    group.throughput(Throughput::Bytes(BROWSER.len() as u64));
    group.bench_function("scan", |b| b.iter(|| head::scan(black_box(BROWSER), &limits, &mut 0)));
    group.bench_function("parse", |b| b.iter(|| head::parse(black_box(BROWSER), &limits)));
    let parsed = head::parse(BROWSER, &limits).expect("a sound head");
    group.bench_function("admit", |b| b.iter(|| admit_h1(black_box(&parsed), false)));
    group.bench_function("scan_parse_admit", |b| {
        b.iter(|| {
            let end = head::scan(black_box(BROWSER), &limits, &mut 0).expect("sound").expect("whole");
            admit_h1(&head::parse(&BROWSER[..end], &limits).expect("sound"), false)
        });
    });
    group.bench_function("httparse", |b| {
        b.iter(|| {
            let mut fields = [httparse::EMPTY_HEADER; 100];
            let mut request = httparse::Request::new(&mut fields);
            request.parse(black_box(BROWSER)).map(|status| status.is_complete())
        });
    });
    group.bench_function("canonical_clean", |b| b.iter(|| canonical(black_box("/shop/articles/4711")).is_ok()));
    group.bench_function("canonical_dirty", |b| b.iter(|| canonical(black_box("/shop//x/%7Euser")).is_ok()));
    group.finish();
}

criterion_group!(benches, gate);
criterion_main!(benches);
