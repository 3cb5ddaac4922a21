//! Work that takes a worker's time, done while others take over what the worker has to do beside it.

use std::{sync::LazyLock, thread::available_parallelism};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Semaphore,
};

/// So many at a time as there are processors. More would take from the workers more than a half of those.
static PLACES: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(available_parallelism().map_or(1, usize::from)));

/// Does the work while another thread goes on with the worker's other requests; on the worker itself where too many do so
/// already, and in a runtime that has no other thread. Handing over costs some microseconds.
pub(super) fn apart<T>(work: impl FnOnce() -> T) -> T {
    let others = Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    match PLACES.try_acquire() {
        Ok(_place) if others => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn the_only_worker_goes_on_meanwhile() {
        let (say, hear) = mpsc::channel();
        let working = tokio::spawn(async move {
            // It is queued on this worker, behind what we are doing.
            tokio::spawn(async move { say.send("hello") });
            apart(|| hear.recv_timeout(Duration::from_secs(10)))
        });
        assert_eq!(working.await.unwrap(), Ok("hello"));
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_does_it_there() {
        assert_eq!(apart(|| 1), 1);
        assert_eq!(std::thread::spawn(|| apart(|| 2)).join().unwrap(), 2);
    }
}
