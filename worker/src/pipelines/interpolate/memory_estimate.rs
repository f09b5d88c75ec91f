//! How much memory does an interpolation take at its peak, and does the worker have it? Pure.

use crate::memory::Limit;
use crate::networks::FlowScale;
use crate::pipelines::PipelineError;
use crate::pipelines::video::{DECODER, coding_bytes};

use super::MOST_FRAMES;

const MIB: u64 = 1 << 20;
const RGB: u64 = 3;

/// The frames of a video, and how many of them wait to be worked on and to be encoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) waiting: usize,
}

/// Refuses what does not fit into the limit, and says what would. `network` is what the network takes of the process's own memory at
/// a scale.
pub(super) fn check(
    frames: Frames,
    scale: FlowScale,
    network: impl Fn(FlowScale) -> u64,
    limit: Option<Limit>,
) -> Result<(), PipelineError> {
    let needed = peak(frames, network(scale));
    let Some(limit) = limit.filter(|limit| needed > limit.bytes()) else {
        return Ok(());
    };
    let fits = |scale| peak(frames, network(scale)) <= limit.bytes();
    let scale_that_fits = match scale {
        FlowScale::Double if fits(FlowScale::Full) => ", or set interpolate.scale to \"1\"",
        FlowScale::Double | FlowScale::Full if fits(FlowScale::Half) => {
            ", or set interpolate.scale to \"0.5\""
        }
        FlowScale::Double | FlowScale::Full | FlowScale::Half if fits(FlowScale::Quarter) => {
            ", or set interpolate.scale to \"0.25\""
        }
        FlowScale::Double | FlowScale::Full | FlowScale::Half | FlowScale::Quarter => {
            ", or send a smaller video"
        }
    };
    Err(PipelineError::InterpolationMemory {
        width: frames.width,
        height: frames.height,
        needed: needed.div_ceil(MIB),
        limit,
        scale_that_fits,
    })
}

/// The most pixels that the decoder's pictures may have, the size of its frames unchanged, for all of it to fit still.
pub(super) fn decodable(frames: Frames, network: u64, limit: Option<Limit>) -> u64 {
    match limit {
        Some(Limit::Set(bytes)) => {
            pixels(frames) + bytes.saturating_sub(peak(frames, network)) / DECODER
        }
        // What a machine has free at the moment makes no file a bad one.
        Some(Limit::Free(_)) | None => u64::MAX,
    }
}

fn pixels(frames: Frames) -> u64 {
    u64::from(frames.width) * u64::from(frames.height)
}

/// The most bytes at any moment.
fn peak(frames: Frames, network: u64) -> u64 {
    let Frames { waiting, .. } = frames;
    let pixels = pixels(frames);
    network + RGB * MOST_FRAMES * pixels + coding_bytes(pixels, waiting, pixels, waiting)
}

#[cfg(test)]
mod tests {
    use framewright_crds::aijob::Cause;

    use super::*;

    const HD: Frames = Frames {
        width: 1920,
        height: 1080,
        waiting: 4,
    };

    /// About what 4.25 takes for each pixel.
    fn network(scale: FlowScale) -> u64 {
        let bytes_per_pixel = match scale {
            FlowScale::Double => 2000,
            FlowScale::Full => 700,
            FlowScale::Half => 350,
            FlowScale::Quarter => 250,
        };
        bytes_per_pixel * pixels(HD)
    }

    #[test]
    fn what_does_not_fit_is_told_what_would() {
        let limit = |mebibytes: u64| Some(Limit::Set(mebibytes * MIB));
        let refused = |scale, mebibytes| {
            let refused = check(HD, scale, network, limit(mebibytes)).expect_err("refused");
            assert_eq!(refused.cause(), Cause::InvalidInput);
            refused.to_string()
        };
        let words = refused(FlowScale::Full, 2048);
        let (_, rest) = words.split_once("memory limit to ").expect("a way out");
        let needed = rest
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok());
        let needed: u64 = needed.expect("a number");
        assert!(check(HD, FlowScale::Full, network, limit(needed)).is_ok());
        assert!(check(HD, FlowScale::Full, network, limit(needed - 1)).is_err());
        assert!(
            words.ends_with("or set interpolate.scale to \"0.5\""),
            "{words}"
        );
        assert!(check(HD, FlowScale::Half, network, limit(2048)).is_ok());
        assert!(refused(FlowScale::Full, 256).ends_with("or send a smaller video"));
        assert!(check(HD, FlowScale::Double, network, None).is_ok());
    }

    #[test]
    fn a_machine_without_room_is_not_the_videos_fault() {
        let free = Some(Limit::Free(MIB));
        let refused = check(HD, FlowScale::Full, network, free).expect_err("refused");
        assert_eq!(refused.cause(), Cause::OutOfMemory);
    }
}
