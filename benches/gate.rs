//! What the gate costs a request: the head of a browser, from bytes to admission.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir::gate::{Limits, admit_h1, head, target::canonical};

#[path = "parts/browser.rs"]
mod browser;

use self::browser::BROWSER;

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
