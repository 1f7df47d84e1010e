//! How often somebody may try: a fixed number of attempts within a window, by name (a login, an address, a visitor).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Most names remembered; beyond that the expired are forgotten, and if all are fresh, the oldest.
const MOST_NAMES: usize = 20_000;

/// Counts attempts by name.
pub struct Throttle {
    most: usize,
    window: Duration,
    tries: Mutex<HashMap<String, (Instant, usize)>>,
}

impl Throttle {
    /// `most` attempts within `window`, then a refusal until the window ends.
    pub fn new(most: usize, window: Duration) -> Self {
        Self { most: most.max(1), window, tries: Mutex::default() }
    }

    /// Counts an attempt.
    ///
    /// # Errors
    /// Too many: how long to wait.
    pub fn attempt(&self, name: &str) -> Result<(), Duration> {
        self.attempt_at(name, Instant::now())
    }

    /// A success: the name starts afresh.
    pub fn forget(&self, name: &str) {
        self.tries.lock().remove(name);
    }

    fn attempt_at(&self, name: &str, now: Instant) -> Result<(), Duration> {
        let mut tries = self.tries.lock();
        if tries.len() >= MOST_NAMES && !tries.contains_key(name) {
            tries.retain(|_, (since, _)| now.duration_since(*since) < self.window);
            if tries.len() >= MOST_NAMES {
                let oldest = tries.iter().min_by_key(|(_, (since, _))| *since).map(|(name, _)| name.clone());
                oldest.map(|name| tries.remove(&name));
            }
        }
        let (since, count) = tries.entry(name.to_string()).or_insert((now, 0));
        if now.duration_since(*since) >= self.window {
            (*since, *count) = (now, 0);
        }
        if *count >= self.most {
            return Err(self.window.saturating_sub(now.duration_since(*since)));
        }
        *count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_attempts_wait_for_the_windows_end_and_others_do_not() {
        let throttle = Throttle::new(2, Duration::from_secs(60));
        let start = Instant::now();
        assert!(throttle.attempt_at("a", start).is_ok() && throttle.attempt_at("a", start).is_ok());
        let wait = throttle.attempt_at("a", start + Duration::from_secs(20)).unwrap_err();
        assert_eq!(wait, Duration::from_secs(40));
        assert!(throttle.attempt_at("b", start).is_ok());
        assert!(throttle.attempt_at("a", start + Duration::from_secs(60)).is_ok());
    }

    #[test]
    fn a_success_starts_afresh() {
        let throttle = Throttle::new(1, Duration::from_secs(60));
        throttle.attempt("a").unwrap();
        throttle.forget("a");
        assert!(throttle.attempt("a").is_ok());
    }

    #[test]
    fn names_without_number_do_not_fill_the_memory() {
        let throttle = Throttle::new(1, Duration::from_secs(60));
        for n in 0..MOST_NAMES + 10 {
            let _ = throttle.attempt(&n.to_string());
        }
        assert!(throttle.tries.lock().len() <= MOST_NAMES);
    }
}
