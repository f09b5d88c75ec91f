//! How many frames a second, exactly?

use std::fmt;
use std::time::Duration;

use framewright_crds::fraction::Fraction;

/// Frames per second as a fraction, so that 30000/1001 stays what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRate {
    numerator: u32,
    denominator: u32,
}

impl FrameRate {
    /// `numerator / denominator` frames a second, in lowest terms; `None` when either is zero.
    pub fn new(numerator: u32, denominator: u32) -> Option<FrameRate> {
        if numerator == 0 || denominator == 0 {
            return None;
        }
        let divisor = greatest_common_divisor(numerator, denominator);
        Some(FrameRate {
            numerator: numerator / divisor,
            denominator: denominator / divisor,
        })
    }

    /// Reads `30000/1001` or `25`; `None` for anything else and for zero.
    pub fn parse(text: &str) -> Option<FrameRate> {
        let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
        FrameRate::new(
            numerator.trim().parse().ok()?,
            denominator.trim().parse().ok()?,
        )
    }

    /// The upper half of the fraction.
    pub fn numerator(self) -> u32 {
        self.numerator
    }

    /// The lower half of the fraction.
    pub fn denominator(self) -> u32 {
        self.denominator
    }

    /// The same, as messages and parameters have it.
    pub fn fraction(self) -> Fraction {
        Fraction {
            numerator: self.numerator,
            denominator: self.denominator,
        }
    }

    /// Frames a second, rounded as floating point numbers are.
    pub fn as_f64(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }

    /// How many frames fill this time, to the nearest frame.
    pub fn frames_in(self, time: Duration) -> u64 {
        (time.as_secs_f64() * self.as_f64()).round() as u64
    }

    /// How long this many frames last.
    pub fn time_of(self, frames: u64) -> Duration {
        let seconds = frames as f64 / self.as_f64();
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

impl fmt::Display for FrameRate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.numerator, self.denominator)
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_keeps_its_fraction_in_lowest_terms() {
        assert_eq!(
            FrameRate::parse("30000/1001").map(|rate| rate.to_string()),
            Some("30000/1001".into())
        );
        assert_eq!(
            FrameRate::parse("50/2").map(|rate| rate.to_string()),
            Some("25/1".into())
        );
        assert_eq!(FrameRate::parse("24").map(FrameRate::as_f64), Some(24.0));
    }

    #[test]
    fn nothing_over_zero_is_no_rate() {
        assert_eq!(FrameRate::parse("0/0"), None);
        assert_eq!(FrameRate::parse("90000/0"), None);
        assert_eq!(FrameRate::parse("x/1"), None);
    }

    #[test]
    fn frames_and_time_are_each_others_inverse() {
        let rate = FrameRate::new(30_000, 1001).expect("a rate");
        assert_eq!(rate.frames_in(rate.time_of(60)), 60);
        assert_eq!(rate.frames_in(Duration::from_secs(2)), 60);
    }
}
