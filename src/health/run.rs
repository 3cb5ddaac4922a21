//! The loop that keeps checking: one clock per endpoint.
//!
//! Pingora's own loop checks all endpoints at the same moment and waits for the slowest before it goes on.
//! Here a hung endpoint delays nobody, and thousands of checks spread over the interval.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rand::Rng;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use super::{Checker, HealthObserver};
use crate::{
    endpoint::{Endpoint, Mode},
    types::Address,
};

/// Checks of one upstream that may be under way at a time. A check holds a socket, and during an outage
/// each holds it for its whole timeout.
const MAX_PARALLEL: usize = 256;
/// At the start the first checks go out at this rate or faster, so that a large pool does not begin with
/// a burst: one new check every 5 ms.
const START_SPACING: Duration = Duration::from_millis(5);
/// Each pause is off by up to this share of the interval, so that checks never fall into step.
const JITTER: f64 = 0.1;

/// Checks `endpoints`, whichever they are at the moment, until the future is dropped.
pub async fn run(checker: Arc<Checker>, mut endpoints: watch::Receiver<Arc<[Arc<Endpoint>]>>, observer: Arc<dyn HealthObserver>) {
    let permits = Arc::new(Semaphore::new(MAX_PARALLEL));
    let mut running = HashMap::<Address, Running>::new();
    // Dropping the set stops every task in it.
    let mut tasks = JoinSet::new();
    loop {
        let now = endpoints.borrow_and_update().clone();
        let members: HashMap<&Address, &Arc<Endpoint>> = now.iter().map(|endpoint| (endpoint.address(), endpoint)).collect();
        running.retain(|address, check| {
            let stays = members.get(address).is_some_and(|endpoint| Arc::ptr_eq(endpoint, &check.endpoint));
            if !stays {
                check.task.abort();
            }
            stays
        });
        let spread = checker.interval.min(START_SPACING * now.len() as u32);
        for endpoint in now.iter() {
            running.entry(endpoint.address().clone()).or_insert_with(|| {
                let (checker, endpoint, observer) = (checker.clone(), endpoint.clone(), observer.clone());
                let first = spread.mul_f64(rand::rng().random());
                let checks = each(checker, endpoint.clone(), observer, permits.clone(), first);
                Running { endpoint, task: tasks.spawn(checks) }
            });
        }
        loop {
            tokio::select! {
                changed = endpoints.changed() => match changed {
                    Ok(()) => break,
                    // Nobody can change the set any more: go on with it.
                    Err(_) => std::future::pending().await,
                },
                // Those of endpoints that left; taken so that they do not pile up.
                Some(_) = tasks.join_next() => {}
            }
        }
    }
}

struct Running {
    endpoint: Arc<Endpoint>,
    task: tokio::task::AbortHandle,
}

async fn each(
    checker: Arc<Checker>,
    endpoint: Arc<Endpoint>,
    observer: Arc<dyn HealthObserver>,
    permits: Arc<Semaphore>,
    mut pause: Duration,
) {
    loop {
        tokio::time::sleep(pause).await;
        if endpoint.mode() == Mode::Disabled {
            // Out of service: nobody wants to know, and its operator may have taken it apart.
            pause = checker.interval;
            continue;
        }
        // The semaphore is never closed; if it were, checking without a permit is better than not checking.
        let permit = permits.acquire().await;
        checker.check(&endpoint, &*observer).await;
        drop(permit);
        pause = jittered(checker.interval, rand::rng().random());
    }
}

/// The interval, off by up to [`JITTER`] of it. `random` is in [0, 1).
fn jittered(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(1.0 + JITTER * (2.0 * random - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_spread_around_the_interval() {
        let interval = Duration::from_secs(10);
        assert_eq!(jittered(interval, 0.0), Duration::from_secs(9));
        assert_eq!(jittered(interval, 0.5), interval);
        assert!(jittered(interval, 0.999) > Duration::from_millis(10_990));
    }
}
