//! One exchange to run filters on, for the tests of this module.

use std::net::Ipv4Addr;

use http::{HeaderMap, HeaderName};

use super::{After, Back, BodyWish, Chain, Chains, FilterRequest, FilterResponse, FilterSpec, Keeping, Later, Slots, Verdict};
use crate::types::{Client, Problem, Problems, Reply, RequestId, Scheme};

/// A request with everything that filters may see, and what they made of it.
pub(super) struct Exchange {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) forward: Option<String>,
    pub(super) back: Back,
    pub(super) client: Client,
    pub(super) fields: HeaderMap,
    pub(super) request_id: RequestId,
    pub(super) content_length: Option<u64>,
    pub(super) endpoint: Option<String>,
    pub(super) cached: bool,
    pub(super) standard: bool,
    pub(super) keeping: Keeping,
    pub(super) slots: Slots,
}

impl Default for Exchange {
    fn default() -> Self {
        let ip = Ipv4Addr::new(192, 0, 2, 1).into();
        Self {
            method: "GET".into(),
            path: "/".into(),
            query: None,
            forward: None,
            back: Back::default(),
            client: Client {
                ip,
                port: 1,
                scheme: Scheme::Http,
                listener: "web".parse().unwrap(),
                tls: None,
                whereabouts: Default::default(),
            },
            fields: HeaderMap::new(),
            request_id: "id-1".into(),
            content_length: None,
            endpoint: None,
            cached: false,
            standard: false,
            keeping: Keeping::default(),
            slots: Slots::default(),
        }
    }
}

impl Exchange {
    pub(super) fn set(&mut self, name: &'static str, value: &str) {
        self.fields.insert(name, value.parse().unwrap());
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().unwrap())
    }

    /// The request pass: `Err` with the answer that stopped it.
    pub(super) fn request(&mut self, chain: &Chain) -> Result<(), (Reply, &'static str)> {
        match self.see(|request, slots| chain.request(request, slots)) {
            Verdict::Continue => Ok(()),
            Verdict::Answer { reply, reason } | Verdict::Stream { reply, reason, .. } => Err((reply, reason)),
            Verdict::Later(_) => panic!("this filter has to be waited for"),
        }
    }

    /// The request pass of a filter that asks somebody: `Err` with what is to be waited for.
    pub(super) fn begin(&mut self, chain: &Chain) -> Result<Verdict, Later> {
        match self.see(|request, slots| chain.request(request, slots)) {
            Verdict::Later(later) => Err(later),
            verdict => Ok(verdict),
        }
    }

    /// Goes on with what the answer was.
    pub(super) fn resume(&mut self, chain: &Chain, after: After) -> Verdict {
        self.see(|request, slots| chain.resume(after, request, slots))
    }

    /// Shows the request to something that is no whole filter.
    pub(super) fn with_request<T>(&mut self, look: impl FnOnce(&mut FilterRequest<'_>) -> T) -> T {
        self.see(|request, _| look(request))
    }

    fn see<T>(&mut self, run: impl FnOnce(&mut FilterRequest<'_>, &mut Slots) -> T) -> T {
        let mut request = FilterRequest {
            method: &self.method,
            host: "a.example",
            path: &self.path,
            query: self.query.as_deref(),
            forward: &mut self.forward,
            back: &mut self.back,
            client: &self.client,
            route: "route-1",
            fields: &mut self.fields,
            request_id: &mut self.request_id,
            content_length: self.content_length,
            keeping: &mut self.keeping,
            upgrade: false,
        };
        run(&mut request, &mut self.slots)
    }

    /// The response pass over an empty head.
    pub(super) fn response(&mut self, chain: &Chain, status: u16) -> HeaderMap {
        self.response_with(chain, status, &[])
    }

    /// The response pass over a head with these fields.
    pub(super) fn response_with(&mut self, chain: &Chain, status: u16, sent: &[(&'static str, &str)]) -> HeaderMap {
        let mut fields: HeaderMap =
            sent.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        let mut response = FilterResponse {
            status,
            method: &self.method,
            fields: &mut fields,
            endpoint: self.endpoint.as_deref(),
            cached: self.cached,
            standard: self.standard,
            paged: false,
            route: "route-1",
            request_id: &self.request_id,
            wish: BodyWish::Nothing,
        };
        chain.response(&mut response, &mut self.slots);
        fields
    }
}

fn try_compile(filters: &str) -> (Option<Chain>, Vec<Problem>) {
    let problems = Problems::default();
    let specs: Vec<FilterSpec> = serde_json::from_str(filters).expect("the filters of a test can be read");
    let chain = Chains::default().build("route route-1", &specs, &problems.root().key("filters"));
    (chain, problems.take())
}

/// The chain of these filters, written in JSON.
pub(super) fn compile(filters: &str) -> Chain {
    let (chain, problems) = try_compile(filters);
    assert_eq!(problems, [], "{filters}");
    chain.unwrap_or_else(|| panic!("{filters}: nothing was compiled and nothing was said"))
}

/// What is wrong with these filters.
pub(super) fn refused(filters: &str) -> Vec<Problem> {
    let (chain, problems) = try_compile(filters);
    assert!(chain.is_none() && !problems.is_empty(), "{filters} was accepted");
    problems
}
