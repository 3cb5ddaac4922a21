//! A name server on loopback that says what a test tells it to.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{net::UdpSocket, task::JoinHandle};

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// Starts a name server without any names.
pub async fn name_server() -> NameServer {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
    let address = socket.local_addr().expect("address");
    let zone = Arc::new(Zone::default());
    let task = tokio::spawn(serve(socket, zone.clone()));
    NameServer { address, zone, task }
}

/// A running name server.
pub struct NameServer {
    address: SocketAddr,
    zone: Arc<Zone>,
    task: JoinHandle<()>,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// TTL and data.
type Records = Vec<(u32, Vec<u8>)>;

#[derive(Default)]
struct Zone {
    /// By name and type.
    records: Mutex<HashMap<(String, u16), Records>>,
    mood: Mutex<Mood>,
    questions: AtomicUsize,
}

#[derive(Default, Clone, Copy)]
enum Mood {
    #[default]
    Answer,
    Fail(Option<u16>),
    Silent,
}

impl NameServer {
    /// Where it answers.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }
    /// From now on this name has these addresses, and no others.
    pub fn host(&self, name: &str, ttl: u32, addresses: &[&str]) {
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().expect("an IP address")).collect();
        let of = |kind| {
            let data = addresses.iter().filter_map(move |address| match address {
                IpAddr::V4(v4) if kind == A => Some((ttl, v4.octets().to_vec())),
                IpAddr::V6(v6) if kind == AAAA => Some((ttl, v6.octets().to_vec())),
                _ => None,
            });
            ((name.to_owned(), kind), data.collect())
        };
        self.zone.records.lock().extend([of(A), of(AAAA)]);
    }
    /// From now on this service has these records (priority, weight, port, target), and no others.
    pub fn service(&self, name: &str, ttl: u32, records: &[(u16, u16, u16, &str)]) {
        let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
            let mut data = [priority.to_be_bytes(), weight.to_be_bytes(), port.to_be_bytes()].concat();
            for label in target.split('.') {
                data.push(label.len() as u8);
                data.extend_from_slice(label.as_bytes());
            }
            data.push(0);
            (ttl, data)
        };
        self.zone.records.lock().insert((name.to_owned(), SRV), records.iter().map(record).collect());
    }
    /// Fails every question.
    pub fn fail(&self) {
        *self.zone.mood.lock() = Mood::Fail(None);
    }
    /// Fails questions for IPv6 addresses, as some name servers do.
    pub fn fail_aaaa(&self) {
        *self.zone.mood.lock() = Mood::Fail(Some(AAAA));
    }
    /// Says nothing any more.
    pub fn be_silent(&self) {
        *self.zone.mood.lock() = Mood::Silent;
    }
    /// Answers again.
    pub fn recover(&self) {
        *self.zone.mood.lock() = Mood::Answer;
    }
    /// Questions so far.
    pub fn questions(&self) -> usize {
        self.zone.questions.load(Ordering::Relaxed)
    }
}

async fn serve(socket: UdpSocket, zone: Arc<Zone>) {
    let mut buffer = [0; 4096];
    loop {
        // A client that is gone answers with ICMP, which the next call reports.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        zone.questions.fetch_add(1, Ordering::Relaxed);
        if let Some(answer) = zone.answer(&buffer[..length]) {
            let _ = socket.send_to(&answer, client).await;
        }
    }
}

impl Zone {
    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let (mut labels, mut at) = (Vec::new(), 12);
        loop {
            let length = usize::from(*question.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(question.get(at..at + length)?).to_lowercase());
            at += length;
        }
        let kind = u16::from_be_bytes(question.get(at..at + 2)?.try_into().ok()?);
        let name = labels.join(".");
        let records = self.records.lock();
        let known = records.keys().any(|(known, _)| *known == name);
        let found = records.get(&(name, kind)).map_or(&[][..], Vec::as_slice);
        let (code, found) = match *self.mood.lock() {
            Mood::Silent => return None,
            Mood::Fail(only) if only.is_none_or(|only| only == kind) => (SERVFAIL, &[][..]),
            _ if !known => (NXDOMAIN, &[][..]),
            _ => (0, found),
        };
        // Answer, authoritative, recursion as asked for and available; one question.
        let mut answer = question[..2].to_vec();
        answer.extend([0x84 | (question[2] & 1), 0x80 | code, 0, 1]);
        answer.extend((found.len() as u16).to_be_bytes());
        answer.extend([0; 4]);
        answer.extend_from_slice(&question[12..at + 4]);
        for (ttl, data) in found {
            // The name is that of the question, 12 bytes in.
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1]);
            answer.extend(ttl.to_be_bytes());
            answer.extend((data.len() as u16).to_be_bytes());
            answer.extend_from_slice(data);
        }
        Some(answer)
    }
}
