//! How long to wait before the next try.

use std::time::Duration;

use ring::rand::SecureRandom;

/// Waits that double from `first` up to `most`.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub most: Duration,
}

impl Backoff {
    /// The wait before try number `failures` + 1, after that many failures; `random` is 0 to 1. Between half and all of the
    /// doubled time, so that many workers do not come at once.
    #[must_use]
    pub fn wait(self, failures: u32, random: f64) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1 << failures.saturating_sub(1).min(20));
        doubled
            .min(self.most)
            .mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }
}

/// A random number, 0 to 1.
#[must_use]
pub fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness the waits are merely less spread.
    let _ = ring::rand::SystemRandom::new().fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_millis(200),
        most: Duration::from_secs(5),
    };

    #[test]
    fn waits_double_up_to_the_most() {
        let waits: Vec<u128> = (1..8)
            .map(|failures| BACKOFF.wait(failures, 1.0).as_millis())
            .collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(BACKOFF.wait(u32::MAX, 1.0), BACKOFF.most);
    }

    #[test]
    fn jitter_takes_at_most_half() {
        assert_eq!(BACKOFF.wait(1, 0.0).as_millis(), 100);
        assert!((0.0..=1.0).contains(&random()));
    }
}
