//! How many requests at a time an upstream takes without getting slow, found out by watching its latency.
//!
//! A gradient limiter, as in Netflix's `concurrency-limits` (Gradient2) and Envoy's adaptive concurrency filter: the limit
//! is multiplied by how much faster the upstream is when it has little to do, and gets a little room on top to find out
//! whether more would do as well. More requests than an upstream can work on only wait inside it (Little's law), so the
//! throughput stays while the latency falls.
//!
//! What "when it has little to do" means is measured now and then: for a moment only half of the requests are let in.
//! Without that, an upstream that has become slow for good would be throttled for good.

use std::time::{Duration, Instant};

/// Where it starts: enough for most, little enough to find the way down before harm is done.
const START: f64 = 32.0;
/// Never fewer, so that there is always something to measure.
const LEAST: f64 = 4.0;
/// Never more than a fixed limit could be.
const MOST: f64 = 1_000_000.0;
/// The latency may be so many times that of an idle upstream before the limit falls.
const TOLERANCE: f64 = 1.5;
/// A window is judged when it has both: fewer samples are noise, and a shorter time is one burst.
const SAMPLES: u32 = 20;
const WINDOW: Duration = Duration::from_millis(100);
/// Time between measurements of the idle latency.
const REMEASURE: Duration = Duration::from_secs(30);
/// How far the limit moves towards what one window suggests.
const STEP: f64 = 0.3;

/// A limit that follows latency.
#[derive(Debug)]
pub struct Adaptive {
    limit: f64,
    /// The latency of the upstream when it has little to do, in seconds.
    idle: f64,
    phase: Phase,
    window: Option<Window>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The idle latency is not known yet: the next window tells.
    Measuring,
    /// The limit was halved; requests from before that are still in flight, so the window under way tells nothing.
    Settling,
    /// In ordinary operation since then.
    Following(Instant),
}

#[derive(Debug, Clone, Copy)]
struct Window {
    since: Instant,
    samples: u32,
    sum: f64,
    busiest: u32,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self { limit: START, idle: 0.0, phase: Phase::Measuring, window: None }
    }
}

impl Adaptive {
    /// Requests that may be in flight now.
    pub fn limit(&self) -> u32 {
        match self.phase {
            Phase::Measuring | Phase::Settling if self.idle > 0.0 => (self.limit / 2.0).max(LEAST) as u32,
            _ => self.limit as u32,
        }
    }

    /// A response began after this long, while so many requests were in flight.
    pub fn learn(&mut self, latency: Duration, in_flight: u32, now: Instant) {
        let window = self.window.get_or_insert(Window { since: now, samples: 0, sum: 0.0, busiest: 0 });
        window.samples += 1;
        window.sum += latency.as_secs_f64();
        window.busiest = window.busiest.max(in_flight);
        if window.samples >= SAMPLES && now.saturating_duration_since(window.since) >= WINDOW {
            let window = *window;
            self.window = None;
            self.judge(window.sum / f64::from(window.samples), window.busiest, now);
        }
    }

    fn judge(&mut self, latency: f64, busiest: u32, now: Instant) {
        match self.phase {
            Phase::Settling => self.phase = Phase::Measuring,
            Phase::Measuring => {
                self.idle = latency;
                self.phase = Phase::Following(now);
            }
            Phase::Following(since) => {
                self.idle = self.idle.min(latency);
                self.follow(latency, busiest);
                if now.saturating_duration_since(since) >= REMEASURE {
                    self.phase = Phase::Settling;
                }
            }
        }
    }

    fn follow(&mut self, latency: f64, busiest: u32) {
        let gradient = (TOLERANCE * self.idle / latency.max(f64::MIN_POSITIVE)).clamp(0.5, 1.0);
        let wanted = self.limit * gradient + self.limit.sqrt();
        // A limit that nobody comes near says nothing about what would happen at a higher one.
        if wanted <= self.limit || f64::from(busiest) * 2.0 >= self.limit {
            self.limit = (self.limit + STEP * (wanted - self.limit)).clamp(LEAST, MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An upstream that works on `parallel` requests at a time and takes `service` for each; what is beyond waits inside it.
    struct Upstream {
        parallel: f64,
        service: Duration,
    }

    impl Upstream {
        fn latency(&self, in_flight: u32) -> Duration {
            self.service.mul_f64((f64::from(in_flight) / self.parallel).max(1.0))
        }

        /// Gives it as many requests as the limit allows, `demand` at most, for so long. The latencies of the last tenth.
        fn run(&self, adaptive: &mut Adaptive, demand: u32, start: Instant, seconds: u64) -> (Instant, Vec<Duration>) {
            let (mut now, end) = (start, start + Duration::from_secs(seconds));
            let mut last = Vec::new();
            while now < end {
                let in_flight = adaptive.limit().min(demand);
                let latency = self.latency(in_flight);
                now += latency.div_f64(f64::from(in_flight));
                adaptive.learn(latency, in_flight, now);
                if now > end - Duration::from_secs(seconds).div_f64(10.0) {
                    last.push(latency);
                }
            }
            (now, last)
        }
    }

    fn upstream(parallel: u32, millis: u64) -> Upstream {
        Upstream { parallel: f64::from(parallel), service: Duration::from_millis(millis) }
    }

    #[test]
    fn overload_is_kept_outside() {
        let mut adaptive = Adaptive::default();
        let (_, latencies) = upstream(50, 20).run(&mut adaptive, 10_000, Instant::now(), 25);
        let worst = latencies.iter().max().unwrap();
        assert!(*worst < Duration::from_millis(50), "{worst:?}: ten thousand at once would take 4 s each");
        assert!(adaptive.limit() >= 50, "{}: and all of its capacity is used", adaptive.limit());
    }

    #[test]
    fn it_finds_room_upwards() {
        let mut adaptive = Adaptive::default();
        upstream(1000, 20).run(&mut adaptive, 10_000, Instant::now(), 25);
        assert!((1000..2000).contains(&adaptive.limit()), "{}", adaptive.limit());
    }

    #[test]
    fn little_traffic_leaves_the_limit_alone() {
        let mut adaptive = Adaptive::default();
        upstream(1000, 20).run(&mut adaptive, 5, Instant::now(), 25);
        assert_eq!(adaptive.limit(), 32);
    }

    #[test]
    fn an_upstream_that_slows_down_gets_less_and_then_what_it_can_take() {
        let mut adaptive = Adaptive::default();
        let (now, _) = upstream(100, 10).run(&mut adaptive, 10_000, Instant::now(), 20);
        let before = adaptive.limit();
        let slow = upstream(10, 10);
        let (now, latencies) = slow.run(&mut adaptive, 10_000, now, 5);
        assert!(adaptive.limit() < before / 3, "{before} -> {}", adaptive.limit());
        assert!(
            *latencies.iter().max().unwrap() < Duration::from_millis(30),
            "a tenth of the workers, and not ten times the wait"
        );
        let (_, _) = upstream(100, 10).run(&mut adaptive, 10_000, now, 25);
        assert!(adaptive.limit() >= 100, "{}: and back when it has recovered", adaptive.limit());
    }

    #[test]
    fn slow_for_good_is_measured_anew() {
        let mut adaptive = Adaptive::default();
        let (now, _) = upstream(100, 10).run(&mut adaptive, 10_000, Instant::now(), 20);
        // Each request takes ten times as long now, however few there are.
        let (now, _) = upstream(100, 100).run(&mut adaptive, 10_000, now, 8);
        assert!(adaptive.limit() < 10, "{}: not to be told from overload at first", adaptive.limit());
        upstream(100, 100).run(&mut adaptive, 10_000, now, 60);
        assert!(adaptive.limit() >= 90, "{}", adaptive.limit());
    }
}
