//! How much memory does an upscale take at its peak, and does the worker have it? Pure.
//!
//! A worker that is killed for its memory says nothing, and the next one is killed by the same input. So this is estimated before
//! anything large is read: what we hold ourselves is counted, what ffmpeg holds was measured.

use crate::memory::{Limit, tile_bytes_within};
use crate::pipelines::PipelineError;
use crate::pipelines::video::{DECODER, coding_bytes};

const MIB: u64 = 1 << 20;
/// The worker itself.
const WORKER: u64 = 48 * MIB;
const RGB: u64 = 3;
/// A sum in `image`'s resize: four floats.
const SUM: u64 = 16;

/// What is made larger. Sizes are those of the input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Image {
        has_alpha: bool,
        /// Bytes beside its pixels: the file, its colour profile.
        beside: u64,
    },
    /// Frames that wait to be worked on, and to be encoded.
    Video {
        waiting: usize,
        waiting_larger: usize,
    },
}

/// By what it is made larger, and with what.
#[derive(Clone, Copy, Debug)]
pub(super) struct UpscalePlan {
    /// How many times longer the network makes a side.
    pub(super) factor: u64,
    /// How many times longer it is to become; the network's result is reduced to that.
    pub(super) scale: u64,
    /// What computing takes for each pixel of a tile, and the most that it may take.
    pub(super) tile_bytes_per_pixel: u64,
    pub(super) tile_bytes: u64,
}

/// Refuses what does not fit into the limit, and says what would.
pub(super) fn check(
    source: Source,
    plan: UpscalePlan,
    limit: Option<Limit>,
) -> Result<(), PipelineError> {
    let pixels = u64::from(source.width) * u64::from(source.height);
    let needed = peak(source.kind, pixels, plan);
    let Some(limit) = limit.filter(|limit| needed > limit.bytes()) else {
        return Ok(());
    };
    let bytes = limit.bytes();
    let fits = |pixels, scale| peak(source.kind, pixels, UpscalePlan { scale, ..plan }) <= bytes;
    let smaller = (1..plan.scale).rev().find(|scale| fits(pixels, *scale));
    Err(PipelineError::Memory {
        what: match source.kind {
            Kind::Image { .. } => "image",
            Kind::Video { .. } => "video",
        },
        width: source.width,
        height: source.height,
        scale: plan.scale,
        needed: needed.div_ceil(MIB),
        limit,
        minimum: minimum(needed, |bytes| {
            let tile_bytes = tile_bytes_within(bytes);
            let plan = UpscalePlan { tile_bytes, ..plan };
            peak(source.kind, pixels, plan) <= bytes
        }),
        scale_that_fits: smaller.map_or(String::new(), |scale| {
            format!("set upscale.scale to {scale}, ")
        }),
        what_fits: match (
            source.kind,
            maximum(pixels, |pixels| fits(pixels, plan.scale)),
        ) {
            (Kind::Image { beside, .. }, 0) if WORKER + MIB <= bytes && beside > MIB => {
                ", or save it anew, without what is beside its pixels".to_owned()
            }
            // A worker that has no room for anything.
            (Kind::Image { .. } | Kind::Video { .. }, 0) => String::new(),
            (Kind::Image { .. } | Kind::Video { .. }, pixels) => {
                format!(", or send at most {pixels} pixels")
            }
        },
    })
}

/// The smallest limit that suffices, in MiB. Tiles grow with it, by a quarter of it at most.
fn minimum(needed: u64, suffices: impl Fn(u64) -> bool) -> u64 {
    let (mut too_little, mut enough) = (0, needed.saturating_mul(2).div_ceil(MIB));
    while enough - too_little > 1 {
        let middle = u64::midpoint(too_little, enough);
        if suffices(middle * MIB) {
            enough = middle;
        } else {
            too_little = middle;
        }
    }
    enough
}

/// The most pixels that the decoder's pictures may have, the size of its frames unchanged, for all of it to fit still.
pub(super) fn decodable(source: Source, plan: UpscalePlan, limit: Option<Limit>) -> u64 {
    let pixels = u64::from(source.width) * u64::from(source.height);
    match limit {
        Some(Limit::Set(bytes)) => {
            let rest = bytes.saturating_sub(peak(source.kind, pixels, plan));
            pixels + rest / DECODER
        }
        // What a machine has free at the moment makes no file a bad one.
        Some(Limit::Free(_)) | None => u64::MAX,
    }
}

/// The most bytes at any moment.
fn peak(kind: Kind, pixels: u64, plan: UpscalePlan) -> u64 {
    let UpscalePlan { factor, scale, .. } = plan;
    let larger = pixels * scale * scale;
    let by_network = pixels * RGB * (1 + factor * factor);
    let tile = plan.tile_bytes.min(pixels * plan.tile_bytes_per_pixel);
    let reduced = if scale < factor {
        pixels * SUM * factor * scale + RGB * larger
    } else {
        0
    };
    let frame = by_network + tile.max(reduced);
    match kind {
        Kind::Image { has_alpha, beside } => {
            let (alpha, larger_alpha) = if has_alpha { (pixels, larger) } else { (0, 0) };
            // Up to 16 bits a channel, and beside it the same in 8.
            let read = 12 * pixels;
            let alpha_resized = RGB * pixels + alpha * (1 + SUM * scale) + larger_alpha;
            // The larger picture, with alpha once more as RGBA, and all of it as the PNG in the worst case.
            let written = 2 * RGB * larger + 6 * larger_alpha;
            WORKER
                + beside
                + read
                    .max(alpha_resized)
                    .max(frame + larger_alpha)
                    .max(written)
        }
        Kind::Video {
            waiting,
            waiting_larger,
        } => frame + coding_bytes(pixels, waiting, larger, waiting_larger),
    }
}

/// The most pixels, fewer than so many, that fit.
fn maximum(pixels: u64, fits: impl Fn(u64) -> bool) -> u64 {
    let (mut fit, mut too_many) = (0, pixels);
    while too_many - fit > 1 {
        let middle = u64::midpoint(fit, too_many);
        if fits(middle) {
            fit = middle;
        } else {
            too_many = middle;
        }
    }
    fit
}

#[cfg(test)]
mod tests {
    use framewright_crds::aijob::Cause;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn checked(width: u32, height: u32, kind: Kind, scale: u64, limit: u64) -> Result<(), String> {
        let plan = UpscalePlan {
            factor: 4,
            scale,
            tile_bytes_per_pixel: 3000,
            tile_bytes: tile_bytes_within(limit),
        };
        let source = Source {
            width,
            height,
            kind,
        };
        check(source, plan, Some(Limit::Set(limit))).map_err(|error| {
            assert_eq!(error.cause(), Cause::InvalidInput);
            error.to_string()
        })
    }

    const VIDEO: Kind = Kind::Video {
        waiting: 4,
        waiting_larger: 2,
    };

    fn image(has_alpha: bool) -> Kind {
        let beside = 0;
        Kind::Image { has_alpha, beside }
    }

    #[test]
    fn what_fits_is_let_in_and_what_does_not_is_told_what_would() {
        for (width, height, kind, scale, gibibytes, fits) in [
            (4096, 4096, image(true), 4, 2, false),
            (4096, 4096, image(true), 4, 4, true),
            (4096, 4096, image(false), 4, 2, true),
            (4096, 4096, image(false), 2, 2, false),
            (256, 144, VIDEO, 4, 1, true),
            (640, 360, VIDEO, 4, 2, true),
            (1920, 1080, VIDEO, 4, 4, false),
            (1920, 1080, VIDEO, 4, 8, true),
            (3840, 2160, VIDEO, 4, 16, false),
            (3840, 2160, VIDEO, 1, 4, true),
        ] {
            let checked = checked(width, height, kind, scale, gibibytes * GIB);
            assert_eq!(
                checked.is_ok(),
                fits,
                "{width} x {height}, {kind:?}, scale {scale}, {gibibytes} GiB: {checked:?}"
            );
        }
    }

    #[test]
    fn the_way_out_that_a_refusal_names_is_one() {
        let refused = checked(1920, 1080, VIDEO, 4, 4 * GIB).expect_err("refused");
        let after = |words: &str| -> u64 {
            let (_, rest) = refused.split_once(words).expect(words);
            let number = rest.split(|letter: char| !letter.is_ascii_digit()).next();
            number.and_then(|number| number.parse().ok()).expect(words)
        };
        let memory = after("limit to ") * MIB;
        assert_eq!(checked(1920, 1080, VIDEO, 4, memory), Ok(()));
        assert!(checked(1920, 1080, VIDEO, 4, memory - MIB).is_err());
        let scale = after("upscale.scale to ");
        assert_eq!(checked(1920, 1080, VIDEO, scale, 4 * GIB), Ok(()));
        let pixels = u32::try_from(after("at most ")).expect("pixels");
        assert_eq!(checked(pixels, 1, VIDEO, 4, 4 * GIB), Ok(()));
        assert!(checked(pixels + 1, 1, VIDEO, 4, 4 * GIB).is_err());
    }

    #[test]
    fn a_worker_that_has_room_for_nothing_is_to_get_more() {
        for kind in [VIDEO, image(false)] {
            let refused = checked(640, 480, kind, 4, 8 * MIB).expect_err("refused");
            assert!(refused.ends_with(" MiB"), "{refused}");
        }
    }

    #[test]
    fn what_is_beside_an_images_pixels_counts() {
        let image = |beside| Kind::Image {
            has_alpha: false,
            beside,
        };
        assert_eq!(checked(8, 8, image(GIB / 2), 4, GIB), Ok(()));
        let refused = checked(8, 8, image(GIB), 4, GIB).expect_err("refused");
        assert!(refused.contains("or save it anew"), "{refused}");
        let refused = checked(4096, 2048, image(GIB / 2), 4, GIB).expect_err("refused");
        assert!(refused.contains("or send at most"), "{refused}");
    }

    #[test]
    fn what_a_machine_has_no_room_for_is_tried_elsewhere() {
        let source = Source {
            width: 1920,
            height: 1080,
            kind: VIDEO,
        };
        let plan = UpscalePlan {
            factor: 4,
            scale: 4,
            tile_bytes_per_pixel: 3000,
            tile_bytes: GIB,
        };
        let refused = check(source, plan, Some(Limit::Free(2 * GIB))).expect_err("refused");
        assert_eq!(refused.cause(), Cause::OutOfMemory);
        let said = refused.to_string();
        assert!(said.contains("give the pool a memory limit of "), "{said}");
    }

    #[test]
    fn no_limit_refuses_nothing() {
        let source = Source {
            width: 8192,
            height: 4320,
            kind: VIDEO,
        };
        let plan = UpscalePlan {
            factor: 4,
            scale: 4,
            tile_bytes_per_pixel: 3000,
            tile_bytes: GIB,
        };
        assert!(check(source, plan, None).is_ok());
    }
}
