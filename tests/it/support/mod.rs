//! Fixtures. They speak bytes over real sockets on ports that the kernel chooses.
//!
//! Every await in them is bounded by [`PATIENCE`], and what runs out of time panics with what it was waiting for.
//! Nothing here sleeps for a result: a test steers time through a [`Gate`], or polls a condition with `eventually!`.
#![allow(dead_code, reason = "several test binaries share the fixtures, and each leaves some unused that another one uses")]

pub mod certs;
pub mod client;
pub mod collector;
pub mod dns;
pub mod edge;
pub mod engine;
pub mod h2_client;
pub mod h2_origin;
pub mod h2_raw;
pub mod h3_raw;
pub mod hpack;
pub mod mmdb;
pub mod origin;
pub mod qpack;
pub mod redis;
pub mod reloads;
pub mod tcp;
pub mod tokens;
pub mod tools;
pub mod wire;

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
};

/// How long a fixture waits for anything: far beyond what a loaded machine needs, short of what a person tolerates.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A free port, for a listener whose address matters and that cannot take one of the kernel's choice. It lies below those that the
/// kernel chooses (`ip_local_port_range`), one of which another test could have by the time it is used.
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 20_000..32_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id() as u16;
    let next = || PORTS.start + begin.wrapping_add(NEXT.fetch_add(1, Relaxed)) % PORTS.len() as u16;
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    std::iter::repeat_with(next).take(PORTS.len()).find(is_free).expect("a free port")
}

/// Do these tests run with `server: {driver: pingora}`? `make test` runs them both ways.
pub fn only_pingora() -> bool {
    std::env::var("WEIR_TEST_DRIVER").is_ok_and(|driver| driver == "pingora")
}

/// Awaits `future`, or panics naming `what` when it takes longer than [`PATIENCE`].
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

/// Polls until it holds, and fails with the last value when it does not within [`PATIENCE`].
///
/// `eventually!(condition)` for a condition, `eventually!(value, |value| check)` to see the value in the failure.
/// Both may contain `.await`.
#[macro_export]
macro_rules! eventually {
    ($condition:expr $(,)?) => {
        $crate::eventually!($condition, |held: &bool| *held)
    };
    ($value:expr, $check:expr $(,)?) => {{
        let give_up = std::time::Instant::now() + $crate::support::PATIENCE;
        loop {
            let value = $value;
            if $crate::support::holds(&value, $check) {
                break value;
            }
            assert!(std::time::Instant::now() < give_up, "never became true: {}; last: {value:?}", stringify!($value, $check));
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }};
}

/// Gives a closure written inside `eventually!` its argument type.
pub fn holds<T>(value: &T, check: impl Fn(&T) -> bool) -> bool {
    check(value)
}

/// Holds something up until the test lets it go on.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
    /// Lets one wait pass, now or later.
    pub fn pass_one(&self) {
        self.0.add_permits(1);
    }
    /// Lets everything pass from now on.
    pub fn open(&self) {
        self.0.close();
    }
    /// Waits at the gate. Not bounded: how long is up to the test, whose own awaits are.
    pub async fn wait(&self) {
        // An error means that the gate was opened for good.
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

/// Any byte stream: TCP or TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
/// A stream whose kind no longer matters.
pub type BoxStream = Box<dyn Stream>;
