//! Work over all cores, and output that is shared between them by parts.
//!
//! A pool of threads that help whoever calls [`for_each_index`]. The caller takes part in its own work and never waits
//! for a thread that has not begun: on a busy machine, where a helper may be off its core for milliseconds, the caller
//! simply does more itself. (candle's barrier pool waits for every thread at every call; rayon sends the caller to
//! sleep.) Helpers look for new work for a moment, then sleep. Where a second caller comes while the pool is taken, it
//! does its work alone.

use std::any::Any;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError};
use std::thread::Thread;

/// How often a helper looks for new work before it sleeps: some tens of microseconds, longer than the gaps between
/// the operations of a step.
const LOOKS: u32 = 1500;

/// Set in [`Shared::state`] while helpers may join.
const OPEN: u64 = 1 << 31;
/// Added to [`Shared::state`] for each new piece of work.
const NEXT: u64 = 1 << 32;
/// Helpers inside, in [`Shared::state`].
const INSIDE: u64 = OPEN - 1;

/// The work that helpers are invited to.
#[derive(Clone, Copy)]
struct Work {
    /// Calls the caller's closure with one index.
    call: unsafe fn(*const (), usize),
    closure: *const (),
    count: usize,
    /// Indices taken at a time.
    grab: usize,
}

/// What caller and helpers share.
struct Shared {
    /// Number of the work (upper half), [`OPEN`], and helpers inside (lower bits).
    state: AtomicU64,
    /// The next index that nobody has taken.
    cursor: AtomicUsize,
    work: UnsafeCell<Work>,
    /// The first panic of a helper.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `work` is written only by the caller that holds the pool's lock while no helper is inside and none can
// enter (`OPEN` is not set), and read only by helpers inside and by that caller.
unsafe impl Sync for Shared {}
// SAFETY: the pointers in `work` are used only as above.
unsafe impl Send for Shared {}

struct Helper {
    thread: Thread,
    asleep: Arc<AtomicBool>,
}

struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<Helper>,
    taken: Mutex<()>,
}

/// Calls `work` for every index below `count`, spread over the cores. Panics where `work` panics.
pub(crate) fn for_each_index<F: Fn(usize) + Sync>(count: usize, work: F) {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| Pool::new(candle_core::utils::get_num_threads().saturating_sub(1))).run(count, &work);
}

impl Pool {
    fn new(helpers: usize) -> Self {
        unsafe fn nothing(_: *const (), _: usize) {}
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            cursor: AtomicUsize::new(0),
            work: UnsafeCell::new(Work { call: nothing, closure: std::ptr::null(), count: 0, grab: 1 }),
            panic: Mutex::new(None),
        });
        let helpers = (0..helpers).filter_map(|number| {
            let (shared, asleep) = (shared.clone(), Arc::new(AtomicBool::new(false)));
            let seen = asleep.clone();
            let builder = std::thread::Builder::new().name(format!("compute-{number}"));
            // Where the system gives no more threads, the work is done by fewer.
            let handle = builder.spawn(move || help(&shared, &seen)).ok()?;
            Some(Helper { thread: handle.thread().clone(), asleep })
        });
        Self { helpers: helpers.collect(), shared, taken: Mutex::new(()) }
    }

    fn run<F: Fn(usize) + Sync>(&self, count: usize, work: &F) {
        unsafe fn call<F: Fn(usize)>(closure: *const (), index: usize) {
            // SAFETY: `closure` is the `F` that `run` borrows until all helpers have left.
            unsafe { (*closure.cast::<F>())(index) }
        }
        let taken = match self.taken.try_lock() {
            Ok(taken) => Some(taken),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if taken.is_none() || self.helpers.is_empty() || count < 2 {
            return (0..count).for_each(work);
        }
        let shared = &*self.shared;
        let grab = (count / (8 * (self.helpers.len() + 1))).max(1);
        // SAFETY: this thread holds the pool, and the last caller left it closed and empty.
        unsafe { *shared.work.get() = Work { call: call::<F>, closure: (work as *const F).cast(), count, grab } };
        shared.cursor.store(0, Ordering::Relaxed);
        let number = shared.state.load(Ordering::Relaxed) & !(OPEN | INSIDE);
        shared.state.store(number.wrapping_add(NEXT) | OPEN, Ordering::SeqCst);
        for helper in &self.helpers {
            if helper.asleep.load(Ordering::SeqCst) {
                helper.thread.unpark();
            }
        }
        let mine = catch_unwind(AssertUnwindSafe(|| take_part(shared)));
        shared.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looks = 0u32;
        while shared.state.load(Ordering::Acquire) & INSIDE != 0 {
            looks += 1;
            if looks.is_multiple_of(256) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        let theirs = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(taken);
        if let Some(panic) = mine.err().or(theirs) {
            resume_unwind(panic);
        }
    }
}

/// Takes indices until there are none left.
fn take_part(shared: &Shared) {
    // SAFETY: the caller of `run` and helpers inside may read the work; it does not change while they do.
    let work = unsafe { *shared.work.get() };
    loop {
        let from = shared.cursor.fetch_add(work.grab, Ordering::Relaxed);
        if from >= work.count {
            return;
        }
        for index in from..work.count.min(from + work.grab) {
            // SAFETY: `closure` lives until `run` returns, which waits for everybody inside.
            unsafe { (work.call)(work.closure, index) };
        }
    }
}

/// A helper's life: join the newest work, else look around, else sleep.
fn help(shared: &Shared, asleep: &AtomicBool) {
    let mut last = 0;
    let mut looks = 0;
    loop {
        let state = shared.state.load(Ordering::Acquire);
        let number = state & !(OPEN | INSIDE);
        if state & OPEN != 0 && number != last {
            if shared.state.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                last = number;
                looks = 0;
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| take_part(shared))) {
                    shared.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
                }
                shared.state.fetch_sub(1, Ordering::Release);
            }
            continue;
        }
        looks += 1;
        if looks < LOOKS {
            std::hint::spin_loop();
            continue;
        }
        asleep.store(true, Ordering::SeqCst);
        // Work that came in between would not have seen this helper asleep.
        let state = shared.state.load(Ordering::SeqCst);
        if state & OPEN == 0 || state & !(OPEN | INSIDE) == last {
            std::thread::park();
        }
        asleep.store(false, Ordering::SeqCst);
        looks = 0;
    }
}

/// A mutable slice whose parts several threads write at once.
pub(super) struct SharedOut<'a, T = f32> {
    start: *mut T,
    len: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: the value only hands out parts, and `slice`'s contract forbids overlapping ones.
unsafe impl<T: Send> Sync for SharedOut<'_, T> {}
// SAFETY: as above; the borrow outlives the value.
unsafe impl<T: Send> Send for SharedOut<'_, T> {}

impl<'a, T> SharedOut<'a, T> {
    pub(super) fn new(out: &'a mut [T]) -> Self {
        Self { start: out.as_mut_ptr(), len: out.len(), borrowed: PhantomData }
    }

    /// The part `from..from + len`. Panics where that is out of range.
    ///
    /// # Safety
    /// No two parts in use at the same time may overlap.
    #[allow(clippy::mut_from_ref)]
    #[inline(always)]
    pub(super) unsafe fn slice(&self, from: usize, len: usize) -> &mut [T] {
        assert!(from <= self.len && len <= self.len - from, "part {from}+{len} of {}", self.len);
        // SAFETY: in range by the line above; not aliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_is_visited_once_whatever_the_number_of_helpers() {
        for helpers in [0, 1, 3] {
            let pool = Pool::new(helpers);
            for round in 0..300 {
                let count = round * 7 % 50;
                let visits: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                pool.run(count, &|index: usize| {
                    visits[index].fetch_add(1, Ordering::Relaxed);
                });
                assert!(visits.iter().all(|v| v.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn several_callers_and_sleeping_helpers_get_their_work_done() {
        let pool = Pool::new(2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let sum = AtomicUsize::new(0);
                        pool.run(100, &|index: usize| {
                            sum.fetch_add(index, Ordering::Relaxed);
                        });
                        assert_eq!(sum.load(Ordering::Relaxed), 4950);
                    }
                });
            }
        });
        while !pool.helpers.iter().all(|h| h.asleep.load(Ordering::SeqCst)) {
            std::thread::yield_now();
        }
        let sum = AtomicUsize::new(0);
        pool.run(100, &|index: usize| {
            sum.fetch_add(index, Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 4950);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(2);
        let caught =
            catch_unwind(AssertUnwindSafe(|| pool.run(50, &|index: usize| assert!(index != 31, "thirty-one"))));
        assert!(caught.is_err());
        let visits = AtomicUsize::new(0);
        pool.run(50, &|_: usize| {
            visits.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(visits.load(Ordering::Relaxed), 50);
    }
}
