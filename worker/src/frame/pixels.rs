//! How does a CPU turn 8-bit pixels into the values of a network, and back?

use candle_core::{Device, Result, Tensor};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use crate::tiles::Rectangle;

/// A part of a frame as `[1, 3, height, width]` with values in 0..=1.
pub(super) fn taken(pixels: &[u8], width: usize, part: &Rectangle) -> Result<Tensor> {
    let plane = part.width() * part.height();
    let mut values = vec![0.0; 3 * plane];
    for (index, row) in part.rows.clone().enumerate() {
        let row =
            &pixels[3 * (row * width + part.columns.start)..3 * (row * width + part.columns.end)];
        for (column, pixel) in row.chunks_exact(3).enumerate() {
            for (channel, value) in pixel.iter().enumerate() {
                values[channel * plane + index * part.width() + column] = f32::from(*value) / 255.0;
            }
        }
    }
    Tensor::from_vec(values, (1, 3, part.height(), part.width()), &Device::Cpu)
}

/// Writes `[3, height, width]` with values in 0..=1 into their part of a frame, clamped and rounded with halves away from zero;
/// false if one of them is no number.
pub(super) fn place(
    upscaled: &Tensor,
    frame: &mut [u8],
    width: usize,
    part: &Rectangle,
) -> Result<bool> {
    let planes: Vec<f32> = upscaled.flatten_all()?.to_vec1()?;
    if planes.iter().any(|value| value.is_nan()) {
        return Ok(false);
    }
    let plane = part.width() * part.height();
    let rows = &mut frame[3 * part.rows.start * width..3 * part.rows.end * width];
    rows.par_chunks_exact_mut(3 * width)
        .zip((0..part.height()).into_par_iter())
        .for_each(|(row, index)| {
            let row = &mut row[3 * part.columns.start..3 * part.columns.end];
            for (column, pixel) in row.chunks_exact_mut(3).enumerate() {
                for (channel, value) in pixel.iter_mut().enumerate() {
                    *value = eight_bits(planes[channel * plane + index * part.width() + column]);
                }
            }
        });
    Ok(true)
}

/// Halves are rounded away from zero.
fn eight_bits(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_clamped_and_rounded_with_halves_away_from_zero() {
        let values = [
            -1.0,
            0.0,
            0.5 / 255.0,
            0.499 / 255.0,
            127.5 / 255.0,
            1.0,
            7.0,
            f32::INFINITY,
        ];
        assert_eq!(values.map(eight_bits), [0, 0, 1, 0, 128, 255, 255, 255]);
    }

    #[test]
    fn eight_bits_come_back_as_they_went() {
        let pixels: Vec<u8> = (0..=255).collect();
        let part = Rectangle {
            columns: 2..17,
            rows: 1..4,
        };
        let values = taken(&pixels[..255], 17, &part).unwrap();
        let mut frame = vec![0; 255];
        assert!(place(&values.squeeze(0).unwrap(), &mut frame, 17, &part).unwrap());
        let copied = frame
            .iter()
            .zip(&pixels)
            .filter(|(copy, _)| **copy != 0)
            .inspect(|(copy, pixel)| assert_eq!(copy, pixel));
        assert_eq!(copied.count(), 3 * part.width() * part.height());
    }
}
