//! How many requests a backend works on at a time.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

/// A backend's workers. A request that finds none free waits, first come, first served: this is what gives
/// a backend a capacity, and makes it slow when it gets more than that.
#[derive(Debug)]
pub(super) struct Workers {
    free: Arc<Semaphore>,
    count: Mutex<u32>,
}

impl Workers {
    /// More than the connections that a process can have, so that nobody waits.
    pub(super) const UNBOUNDED: u32 = 1 << 24;

    pub(super) fn new(count: u32) -> Self {
        Self { free: Arc::new(Semaphore::new(count as usize)), count: Mutex::new(count) }
    }

    /// Waits for a free worker, who works until the permit drops.
    pub(super) async fn take(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed, so there always is one, sooner or later.
        self.free.acquire().await.ok()
    }

    /// From now on so many. Those that are to go finish their work first, and serve who waits already.
    pub(super) fn set(&self, count: u32) {
        let mut now = self.count.lock();
        match now.checked_sub(count) {
            None => self.free.add_permits((count - *now) as usize),
            Some(leaving) => {
                let free = self.free.clone();
                tokio::spawn(async move {
                    if let Ok(leaving) = free.acquire_many(leaving).await {
                        leaving.forget();
                    }
                });
            }
        }
        *now = count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_work_at_a_time() {
        let workers = Workers::new(2);
        let (one, _other) = (workers.take().await, workers.take().await);
        assert!(workers.free.try_acquire().is_err());
        drop(one);
        assert!(workers.free.try_acquire().is_ok());
    }

    #[tokio::test]
    async fn they_come_and_go() {
        let workers = Workers::new(2);
        workers.set(5);
        assert_eq!(workers.free.available_permits(), 5);
        let busy = workers.free.acquire_many(5).await;
        workers.set(1);
        // It leaves when it gets the processor: four of the five that come back.
        tokio::task::yield_now().await;
        drop(busy);
        while workers.free.available_permits() != 1 {
            tokio::task::yield_now().await;
        }
    }
}
