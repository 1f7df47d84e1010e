//! Short texts that come at once share one pass: reading the weights is most of what one query costs.
//!
//! Whoever comes while a pass runs waits for it to end; then one of those who wait takes what is waiting through the
//! next pass. A query alone is never held back.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// Pieces of work of kind `T` that wait for a pass, and what becomes of each, `V`.
pub(super) struct Together<T, V> {
    state: Mutex<State<T, V>>,
    passed: Condvar,
    /// Most that one pass takes, in whatever pieces are measured by.
    room: usize,
}

struct State<T, V> {
    waiting: Vec<Waiting<T, V>>,
    running: bool,
}

struct Waiting<T, V> {
    piece: T,
    size: usize,
    slot: Slot<V>,
}

/// Where a piece's result is put: `None` where its pass broke off.
type Slot<V> = Arc<OnceLock<Option<V>>>;

impl<T, V: Clone> Together<T, V> {
    pub fn new(room: usize) -> Self {
        let state = Mutex::new(State { waiting: Vec::new(), running: false });
        Self { state, passed: Condvar::new(), room }
    }

    /// The piece's result. `pass` gives one for each of the pieces that it is handed, in their order; one thread at a time
    /// calls it. `None` where a pass with this piece in it panicked on another thread.
    pub fn through(&self, piece: T, size: usize, pass: impl Fn(Vec<T>) -> Vec<V>) -> Option<V> {
        let slot = Slot::default();
        let mut state = self.state();
        state.waiting.push(Waiting { piece, size, slot: slot.clone() });
        loop {
            if let Some(result) = slot.get() {
                return result.clone();
            }
            if state.running {
                state = self.passed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let mut left = self.room;
            let fits = |waiting: &Waiting<T, V>| {
                left = left.checked_sub(waiting.size)?;
                Some(())
            };
            let taken = state.waiting.iter().map_while(fits).count().max(1);
            let (pieces, slots) = state.waiting.drain(..taken).map(|w| (w.piece, w.slot)).unzip();
            state.running = true;
            drop(state);
            let running = Running { together: self, slots };
            for (slot, result) in running.slots.iter().zip(pass(pieces)) {
                let _ = slot.set(Some(result));
            }
            drop(running);
            state = self.state();
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pass under way. However it ends, nobody goes on waiting for it.
struct Running<'a, T, V: Clone> {
    together: &'a Together<T, V>,
    slots: Vec<Slot<V>>,
}

impl<T, V: Clone> Drop for Running<'_, T, V> {
    fn drop(&mut self) {
        let mut state = self.together.state();
        state.running = false;
        for slot in &self.slots {
            let _ = slot.set(None);
        }
        self.together.passed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn whoever_comes_during_a_pass_shares_the_next_one_and_gets_its_own_result() {
        let together: Together<usize, usize> = Together::new(4);
        let passes = Mutex::new(Vec::new());
        let pass = |pieces: Vec<usize>| {
            if pieces == [100] {
                // The others come while this one runs.
                while together.state().waiting.len() < 7 {
                    std::thread::yield_now();
                }
            }
            passes.lock().unwrap().push(pieces.len());
            pieces.iter().map(|piece| piece * 10).collect()
        };
        std::thread::scope(|threads| {
            let first = threads.spawn(|| together.through(100, 9, pass));
            while !together.state().running {
                std::thread::yield_now();
            }
            let (together, pass) = (&together, &pass);
            let others: Vec<_> = (0..7).map(|n| (n, threads.spawn(move || together.through(n, 1, pass)))).collect();
            assert_eq!(first.join().unwrap(), Some(1000), "larger than the room, so alone");
            for (n, other) in others {
                assert_eq!(other.join().unwrap(), Some(n * 10));
            }
        });
        assert_eq!(*passes.lock().unwrap(), [1, 4, 3]);
    }

    #[test]
    fn a_pass_that_panics_holds_nobody_up() {
        let together: Together<u32, u32> = Together::new(8);
        let broken = AssertUnwindSafe(|| together.through(1, 1, |_| panic!("the pass broke")));
        assert!(catch_unwind(broken).is_err());
        assert_eq!(together.through(2, 1, |pieces| pieces), Some(2));
    }
}
