//! What a process keeps of configurations that it does not run any more.

use std::fs;

use crate::{
    child::Run,
    support::{
        client::RawClient,
        edge::edge,
        origin::{Answer, Origin, origin},
        reloads::variation,
    },
};

const TOKEN: &str = "for-this-test-only";

/// Kilobytes of memory that a process has at the moment.
fn resident(process: u32) -> i64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line for it");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// Files and sockets that a process has open.
fn descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).expect("Linux").count()
}

/// A process that is reloaded again and again, with requests in between.
struct Reloaded {
    run: Run,
    config: String,
    admin: RawClient,
    client: RawClient,
    app: Origin,
    number: usize,
}

impl Reloaded {
    async fn start() -> Self {
        let app = origin().answer(Answer::new(200, "ok")).spawn().await;
        let edge = edge()
            .upstream_with("app", &[app.addr()], "slow_start: 1s")
            .route("all", "upstream: app")
            .admin(&format!("token: {TOKEN}"));
        let config = edge.config();
        let run = Run::start(edge).await;
        let (admin, client) = (RawClient::connect(run.admin_address()).await, run.client().await);
        Self { run, config, admin, client, app, number: 0 }
    }

    async fn times(&mut self, count: usize) {
        for _ in 0..count {
            self.number += 1;
            let config = variation(&self.config, self.number, self.app.addr());
            fs::write(self.run.file("weir.yaml"), config).expect("written");
            let order = format!(
                "POST /api/v1/config/reload HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {TOKEN}\r\n\
                 content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}",
                self.run.admin_address()
            );
            let answer = self.admin.exchange(order).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(self.client.get("example.com", "/").await.status, 200);
        }
    }
}

#[tokio::test]
async fn a_thousand_reloads_leave_nothing_behind() {
    let mut reloaded = Reloaded::start().await;
    let process = reloaded.run.weir.pid();
    // Until the histories, which are bounded, are full.
    reloaded.times(200).await;
    let (warm, open) = (resident(process), descriptors(process));
    let mut samples = Vec::new();
    for _ in 0..8 {
        reloaded.times(100).await;
        samples.push(resident(process));
    }
    // The allocator takes and gives back in steps of megabytes, so the least of each half is compared. 400 reloads are
    // between the halves: what each of them kept is seen when it is more than a 4000th of the process, some 20 kB.
    let (early, late) = samples.split_at(4);
    let grown = late.iter().min().unwrap() - early.iter().min().unwrap();
    assert!(grown < warm / 10, "{grown} kB more after 400 reloads; warm {warm} kB, then {samples:?}");
    eventually!(descriptors(process), |now: &usize| *now <= open + 4);
}
