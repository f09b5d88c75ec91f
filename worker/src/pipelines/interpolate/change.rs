//! How much do two frames differ? Pure.

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSlice;

use super::timeline::Change;
use crate::media::Frame;

/// The side of the parts that are compared, in pixels.
const PART: usize = 16;

/// Compares two frames of one size.
pub(super) fn change(earlier: &Frame, later: &Frame) -> Change {
    let row = 3 * (earlier.width as usize).max(1);
    let bands = earlier
        .rgb
        .par_chunks(PART * row)
        .zip(later.rgb.par_chunks(PART * row));
    let (colours, largest) = bands
        .map(|(earlier, later)| band(earlier, later, row))
        .reduce(|| ([0; 3], 0.0), joined);
    let pixels = (earlier.rgb.len() / 3).max(1) as f64;
    let most = colours.into_iter().max().unwrap_or(0);
    Change {
        mean: (most as f64 / pixels / 255.0) as f32,
        largest,
    }
}

/// Sums of differences by colour, and the largest mean difference of a part.
type Differences = ([u64; 3], f32);

fn joined(one: Differences, other: Differences) -> Differences {
    let ([red, green, blue], largest) = one;
    let ([more_red, more_green, more_blue], larger) = other;
    let colours = [red + more_red, green + more_green, blue + more_blue];
    (colours, largest.max(larger))
}

/// Compares rows of parts.
fn band(earlier: &[u8], later: &[u8], row: usize) -> Differences {
    let mut parts = vec![[0_u64; 3]; row.div_ceil(3 * PART)];
    for (earlier, later) in earlier.chunks_exact(row).zip(later.chunks_exact(row)) {
        let pieces = earlier.chunks(3 * PART).zip(later.chunks(3 * PART));
        for (part, (earlier, later)) in parts.iter_mut().zip(pieces) {
            for (one, other) in earlier.chunks_exact(3).zip(later.chunks_exact(3)) {
                for ((sum, one), other) in part.iter_mut().zip(one).zip(other) {
                    *sum += u64::from(one.abs_diff(*other));
                }
            }
        }
    }
    let rows = earlier.len() / row;
    let mut differences = ([0; 3], 0.0);
    for (index, part) in parts.into_iter().enumerate() {
        let columns = (row / 3 - index * PART).min(PART);
        let most = part.iter().copied().max().unwrap_or(0);
        let largest = most as f32 / (rows * columns).max(1) as f32 / 255.0;
        differences = joined(differences, (part, largest));
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(width: u32, height: u32, colour: [u8; 3]) -> Frame {
        Frame {
            width,
            height,
            rgb: colour.repeat((width * height) as usize),
        }
    }

    #[test]
    fn frames_of_other_colours_differ_by_their_largest_difference() {
        let (one, other) = (flat(35, 21, [10, 20, 30]), flat(35, 21, [10, 20, 132]));
        let found = change(&one, &other);
        assert!((found.mean - 0.4).abs() < 1e-6, "{found:?}");
        assert!((found.largest - 0.4).abs() < 1e-6, "{found:?}");
        let none = change(&one, &one);
        assert_eq!((none.mean, none.largest), (0.0, 0.0));
    }

    #[test]
    fn something_small_that_moves_shows_in_its_part_of_the_frame() {
        let one = flat(640, 360, [50, 50, 50]);
        let mut other = one.clone();
        for row in 100..104 {
            for column in 300..304 {
                other.rgb[3 * (row * 640 + column)] = 255;
            }
        }
        let found = change(&one, &other);
        assert!(found.mean < 0.0001 && found.largest > 0.01, "{found:?}");
    }
}
