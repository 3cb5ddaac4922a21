//! Wakers for the parts of one task.
//!
//! The parts of a connection wake each other while it is polled: a stream that sends something wakes the connection, which wakes streams
//! with what it has read. Each such wake would have the runtime poll the whole task once more. Here it is a flag, which says who has
//! something to do, and the task goes on at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// A task that consists of parts.
#[derive(Debug, Default)]
pub(super) struct Whole {
    at_work: AtomicBool,
    task: AtomicWaker,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Part {
    woken: AtomicBool,
    of: Arc<Whole>,
}

impl Wake for Part {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // In this order, and the other way round before the task waits: one of both sides sees what the other did.
        self.woken.store(true, SeqCst);
        if !self.of.at_work.load(SeqCst) {
            self.of.task.wake();
        }
    }
}

impl Part {
    /// A part that has something to do, as all have in the beginning, and its waker.
    pub(super) fn of(whole: &Arc<Whole>) -> (Arc<Self>, Waker) {
        let part = Arc::new(Self { woken: AtomicBool::new(true), of: whole.clone() });
        (part.clone(), part.into())
    }

    /// Has it something to do? Asking forgets it: the part must be polled then.
    pub(super) fn take(&self) -> bool {
        self.woken.swap(false, SeqCst)
    }
}

impl Whole {
    /// The task is polled: wakes are flags from here on.
    pub(super) fn work(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
        self.at_work.store(true, SeqCst);
    }

    /// The task is about to wait. False when one of its parts has something to do after all.
    pub(super) fn rest(&self, parts: [&Part; 2]) -> bool {
        self.at_work.store(false, SeqCst);
        !parts.into_iter().any(|part| part.woken.load(SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_task_at_work_is_told_who_was_woken_and_one_that_rests_is_woken() {
        let (counting, whole) = (Arc::<Counting>::default(), Arc::<Whole>::default());
        let task = Waker::from(counting.clone());
        let ((one, waker), (other, _)) = (Part::of(&whole), Part::of(&whole));
        whole.work(&Context::from_waker(&task));
        assert!(one.take() && other.take() && !one.take());
        waker.wake_by_ref();
        assert!(!whole.rest([&one, &other]), "it must not wait now");
        assert!(one.take() && !other.take());
        assert_eq!(counting.0.load(Relaxed), 0);
        assert!(whole.rest([&one, &other]));
        waker.wake_by_ref();
        assert_eq!(counting.0.load(Relaxed), 1);
    }

    #[test]
    fn no_wake_is_lost_between_work_and_rest() {
        const ROUNDS: usize = 400_000;
        let until = |count: &AtomicUsize, wanted: usize| {
            while count.load(SeqCst) != wanted {
                std::thread::yield_now();
            }
        };
        let (counting, whole) = (Arc::<Counting>::default(), Arc::<Whole>::default());
        let task = Waker::from(counting.clone());
        let ((one, waker), (other, _)) = (Part::of(&whole), Part::of(&whole));
        other.take();
        let (begun, over, mut lost) = (AtomicUsize::new(0), AtomicUsize::new(0), 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    until(&begun, round);
                    waker.wake_by_ref();
                    over.store(round, SeqCst);
                }
            });
            for round in 1..=ROUNDS {
                whole.work(&Context::from_waker(&task));
                one.take();
                counting.0.store(0, Relaxed);
                begun.store(round, SeqCst);
                // Meets the other thread at another place each time.
                (0..round % 64).for_each(|_| std::hint::spin_loop());
                let waiting = whole.rest([&one, &other]);
                until(&over, round);
                lost += usize::from(waiting && counting.0.load(SeqCst) == 0);
            }
        });
        assert_eq!(lost, 0, "times it rested, and was not woken");
    }
}
