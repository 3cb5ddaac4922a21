//! Requests that pass a chain of filters.

use std::{hint::black_box, net::Ipv4Addr, sync::Arc};

use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use weir::{
    filter::{Back, BodyWish, Chain, Chains, FilterRequest, FilterResponse, FilterSpec, Keeping, Slots, Verdict},
    types::{Client, Countries, Problems, RequestId, Scheme, Whereabouts},
};

/// The value of `x-api-key`.
pub const KEY: &str = "0123456789abcdef0123456789abcdef";

/// One request after another, from one client.
pub struct Exchange {
    pub client: Client,
    pub request: HeaderMap,
    response: HeaderMap,
    id: RequestId,
    /// Where clients are looked up, each time anew.
    pub countries: Option<Arc<dyn Countries>>,
}

impl Exchange {
    pub fn new() -> Self {
        let client = Client {
            ip: Ipv4Addr::new(192, 0, 2, 1).into(),
            port: 4711,
            scheme: Scheme::Https,
            listener: "edge".parse().expect("a name"),
            tls: None,
            whereabouts: Whereabouts::default(),
        };
        let fields = [
            ("host", "www.example.com"),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
            ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            ("accept-language", "en-US,en;q=0.5"),
            ("accept-encoding", "gzip, deflate, br, zstd"),
            ("cookie", "theme=dark; session=0193c5b27c1e7d3a9a530d6f4d5f6a7b"),
            ("origin", "https://app.example.com"),
            ("x-api-key", KEY),
            // ann, with the password that the example tells.
            ("authorization", "Basic YW5uOm9ubHktZm9yLXRyeWluZy10aGlzLW91dA=="),
        ];
        let mut request = HeaderMap::new();
        for (name, value) in fields {
            request.insert(name, value.parse().expect("a value"));
        }
        let id = "0193c5b2-7c1e-7d3a-9a53-0d6f4d5f6a7b".into();
        Self { client, request, response: HeaderMap::with_capacity(32), id, countries: None }
    }

    /// The verdict of a filter that asks somebody, the first time.
    pub fn introduce(&mut self, chain: &Chain) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let mut slots = Slots::default();
        let verdict = self.see(|request| chain.request(request, &mut slots));
        if let Verdict::Later(later) = verdict {
            let after = runtime.block_on(later.wait());
            let verdict = self.see(|request| chain.resume(after, request, &mut slots));
            assert!(matches!(verdict, Verdict::Continue), "a bench measures what is admitted");
        }
    }

    fn see(&mut self, run: impl FnOnce(&mut FilterRequest<'_>) -> Verdict) -> Verdict {
        let (mut forward, mut back, mut keeping) = (None, Back::default(), Keeping::default());
        let mut request = FilterRequest {
            method: "GET",
            host: "www.example.com",
            path: "/v1/customers/4711/orders",
            query: Some("page=2"),
            forward: &mut forward,
            back: &mut back,
            client: &self.client,
            route: "api",
            fields: &mut self.request,
            request_id: &mut self.id,
            content_length: Some(0),
            keeping: &mut keeping,
            upgrade: false,
        };
        run(&mut request)
    }

    /// The request pass, and the response pass.
    pub fn pass(&mut self, chain: &Chain) {
        if let Some(countries) = &self.countries {
            self.client.whereabouts = Whereabouts::new(Some(countries.clone()));
        }
        let mut slots = Slots::default();
        let verdict = self.see(|request| chain.request(request, &mut slots));
        assert!(matches!(verdict, Verdict::Continue), "a bench measures what is admitted");
        self.response.clear();
        self.response.insert("content-type", HeaderValue::from_static("text/html"));
        let mut response = FilterResponse {
            status: 200,
            method: "GET",
            fields: &mut self.response,
            endpoint: Some("10.0.0.1:9001"),
            cached: false,
            route: "api",
            request_id: &self.id,
            standard: false,
            paged: false,
            wish: BodyWish::Nothing,
        };
        chain.response(&mut response, &mut slots);
        black_box(&mut slots);
    }
}

/// A chain of filters, as a route has it.
pub fn chain(filters: Value) -> Chain {
    let problems = Problems::default();
    let specs: Vec<FilterSpec> = serde_json::from_value(filters).expect("filters");
    let chain = Chains::default().build("route api", &specs, &problems.root());
    chain.unwrap_or_else(|| panic!("{:?}", problems.take()))
}
