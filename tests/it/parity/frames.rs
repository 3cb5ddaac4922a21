//! Whatever frames an HTTP/2 client makes of a request, an HTTP/1 endpoint gets one message of it and not a byte more
//! (RFC 9113 section 8.1, RFC 9112 sections 6 and 7.1).

use std::{net::Ipv4Addr, sync::Arc};

use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};

use super::{
    Kind,
    client::Client,
    endpoint::{Behind, Endpoint},
    h2::Faults,
    message::{Cues, Ear, Framing, Performed, Script, Step, Until, ok, send},
};
use crate::support::{
    certs::{ca, server_config, tls},
    edge::{Edge, edge},
    within,
};

/// How the stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// With the last frame there is.
    Last,
    /// With an empty DATA frame.
    Alone,
    Trailers,
}

/// One request as frames.
#[derive(Debug, Clone)]
struct Frames {
    method: &'static str,
    declares: bool,
    /// Lengths and paddings.
    pieces: Vec<(usize, Option<u8>)>,
    ending: Ending,
    /// The endpoint has everything else before the last frame is sent.
    paced: bool,
}

const PACES: [&str; 3] = ["the first", "the second", "the third"];

impl Frames {
    /// The client's script, and the endpoint's for the request with this number.
    fn scripts(&self, number: usize) -> (Script, Script) {
        let lengths = self.pieces.iter().map(|(length, _)| length);
        let total: usize = lengths.clone().sum();
        let mut bytes = (0..total).map(|at| b'a' + (at % 26) as u8);
        let content: Vec<u8> = bytes.by_ref().collect();
        let nothing_more = self.pieces.is_empty() && self.ending == Ending::Last;
        let mut script = send(self.method, if self.declares { Framing::Length(total) } else { Framing::Open });
        if nothing_more {
            script = script.head_only();
        }
        let mut at = 0;
        let mut before_last = 0;
        for (index, (length, padding)) in self.pieces.iter().enumerate() {
            let last = self.ending == Ending::Last && index + 1 == self.pieces.len();
            if last {
                (before_last, script) = (at, self.pause(script, number));
            }
            script.steps.push(Step::Data { bytes: content[at..at + length].to_vec(), last, padding: *padding });
            at += length;
        }
        if self.ending != Ending::Last {
            (before_last, script) = (at, self.pause(script, number));
        }
        script = match self.ending {
            Ending::Last => script,
            Ending::Alone => script.end(),
            Ending::Trailers => script.trailers(&[("x-sum", "1")]),
        };
        let mut answer = ok(&format!("answer {number}"));
        answer.steps.splice(0..0, [Step::Heard(Until::Bytes(before_last)), Step::Cue(PACES[number])]);
        (script, answer)
    }

    fn pause(&self, script: Script, number: usize) -> Script {
        if self.paced { script.wait(PACES[number]) } else { script }
    }
}

fn frames() -> impl Strategy<Value = Frames> {
    let piece = (prop_oneof![2 => Just(0_usize), 3 => 1..20_usize, 1 => 1_000..40_000_usize], proptest::option::of(any::<u8>()));
    let ending = prop_oneof![Just(Ending::Last), Just(Ending::Alone), Just(Ending::Trailers)];
    let method = prop_oneof![Just("GET"), Just("POST"), Just("PUT")];
    (method, any::<bool>(), proptest::collection::vec(piece, 0..5), ending, any::<bool>())
        .prop_map(|(method, declares, pieces, ending, paced)| Frames { method, declares, pieces, ending, paced })
}

/// An edge in front of an endpoint.
struct Bed {
    edge: Edge,
    behind: Arc<Behind>,
    _endpoint: Endpoint,
}

async fn bed() -> Bed {
    let identity = ca().server(&["localhost"]);
    let behind = Arc::new(Behind::new(Kind::H1, server_config(&identity, &[], None), [], false));
    let endpoint = Endpoint::listen(behind.clone()).await.expect("a port");
    let edge = edge().listener("http: {h2c: true}").upstream("app", &[endpoint.address]).route("app", "upstream: app");
    Bed { edge: edge.start().await, behind, _endpoint: endpoint }
}

impl Bed {
    /// Sends these requests one after the other on one connection.
    async fn exchange(&self, requests: &[Frames]) -> Result<(), TestCaseError> {
        let behind = &self.behind;
        let cues = Cues::default();
        behind.begin(cues.clone());
        let address = self.edge.address("web");
        let faults = Faults::default();
        let client = Client::connect(Kind::H2c, Ipv4Addr::LOCALHOST, address, &tls(), faults.clone()).await;
        let mut client = client.expect("a connection");
        for (number, request) in requests.iter().enumerate() {
            let (mut script, answer) = request.scripts(number);
            script.head.path = format!("/{number}");
            behind.answers.lock().push_back(answer);
            let mut ear = Ear::default();
            let performed = within("the request to be sent", client.perform(&script, &mut ear, &cues)).await;
            prop_assert_eq!(performed, Performed::Whole);
            within("the response", ear.wait(|heard| heard.end.is_some())).await;
            let heard = ear.now();
            prop_assert_eq!((heard.status, heard.is_whole(), heard.body), (200, true, answer_body(number)));
            let arrivals = behind.arrivals.lock().clone();
            prop_assert_eq!(arrivals.len(), number + 1, "requests at the endpoint");
            let arrived = arrivals[number].now();
            prop_assert!(arrived.is_whole(), "{:?}", arrived);
            prop_assert_eq!((arrived.method.as_str(), arrived.target), (request.method, format!("/{number}")));
            prop_assert!(arrived.body == script.content(), "{} bytes of {}", arrived.body.len(), script.content().len());
            prop_assert!(arrived.trailers.is_empty(), "{:?}", arrived.trailers);
        }
        let found: Vec<String> =
            [&faults, &behind.faults].iter().flat_map(|faults| std::mem::take(&mut *faults.lock())).collect();
        prop_assert!(found.is_empty(), "{:?}", found);
        Ok(())
    }
}

fn answer_body(number: usize) -> Vec<u8> {
    format!("answer {number}").into_bytes()
}

#[test]
fn rfc9113_8_1_any_frames_of_a_request_are_one_message_of_http1() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let bed = runtime.block_on(bed());
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let requests = proptest::collection::vec(frames(), 1..=PACES.len());
    let result = runner.run(&requests, |requests| runtime.block_on(bed.exchange(&requests)));
    if let Err(failure) = result {
        panic!("{failure}");
    }
    runtime.block_on(bed.edge.stop());
}
