//! Which frame of a result is in which segment? By its time alone. Pure.

use framewright_crds::pipelines::interpolate::FrameStep;

/// Source frames of a segment.
pub(super) const SOURCE_FRAMES: u64 = 240;

/// A result in segments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segments {
    /// Source frames from one frame of the result to the next.
    pub(super) step: FrameStep,
}

impl Segments {
    /// The segment of the frame at this position in the result.
    pub(super) fn segment_of(self, position: u64) -> u64 {
        let source = u128::from(position).saturating_mul(self.step.numerator);
        let length = u128::from(SOURCE_FRAMES).saturating_mul(self.step.denominator);
        u64::try_from(source.checked_div(length).unwrap_or(0)).unwrap_or(u64::MAX)
    }

    /// The position of the first frame of a segment.
    pub(super) fn first_frame(self, segment: u64) -> u64 {
        let length = u128::from(SOURCE_FRAMES).saturating_mul(self.step.denominator);
        let source = u128::from(segment).saturating_mul(length);
        let numerator = self.step.numerator.max(1);
        u64::try_from(source.div_ceil(numerator)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_frame_of_a_segment_is_the_first_one_in_it() {
        for (numerator, denominator) in [(1, 1), (1, 2), (2, 5), (24_000, 60_060), (999, 1000)] {
            let segments = Segments {
                step: FrameStep {
                    numerator,
                    denominator,
                },
            };
            assert_eq!(segments.first_frame(0), 0);
            for segment in 1..30 {
                let first = segments.first_frame(segment);
                assert_eq!(
                    segments.segment_of(first),
                    segment,
                    "{numerator}/{denominator}"
                );
                assert_eq!(segments.segment_of(first - 1), segment - 1);
            }
        }
    }
}
