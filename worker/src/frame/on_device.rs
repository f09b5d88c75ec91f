//! How does a GPU turn 8-bit pixels into the values of a network, and back? Bytes travel, a fourth of what values weigh, and the
//! CPU has its time for decoding and encoding.

use candle_core::{DType, Device, Result, Tensor};

use crate::tiles::Rectangle;

/// A part of a frame as `[1, 3, height, width]` with values in 0..=1, on the device.
pub(super) fn taken(
    pixels: &[u8],
    width: usize,
    part: &Rectangle,
    device: &Device,
) -> Result<Tensor> {
    let rows = pixels
        .chunks_exact(3 * width)
        .skip(part.rows.start)
        .take(part.height());
    let bytes: Vec<u8> = rows
        .flat_map(|row| &row[3 * part.columns.start..3 * part.columns.end])
        .copied()
        .collect();
    let bytes = Tensor::from_vec(bytes, (1, part.height(), part.width(), 3), device)?;
    let planes = bytes.permute((0, 3, 1, 2))?.contiguous()?;
    planes.to_dtype(DType::F32)? / 255.0
}

/// Writes `[3, height, width]` with values in 0..=1 into their part of a frame, clamped and rounded with halves away from zero;
/// false if one of them is no number.
pub(super) fn place(
    upscaled: &Tensor,
    frame: &mut [u8],
    width: usize,
    part: &Rectangle,
) -> Result<bool> {
    // What is no number differs from itself. By rows first: a device gives each result of a maximum to few of its processors.
    let is_no_number = upscaled.ne(upscaled)?.max(2)?.flatten_all()?.max(0)?;
    if is_no_number.to_scalar::<u8>()? != 0 {
        return Ok(false);
    }
    let bytes = (upscaled.clamp(0f32, 1f32)? * 255.0)?
        .round()?
        .to_dtype(DType::U8)?
        .permute((1, 2, 0))?
        .flatten_all()?
        .to_vec1::<u8>()?;
    let rows = frame.chunks_exact_mut(3 * width).skip(part.rows.start);
    for (row, bytes) in rows.zip(bytes.chunks_exact(3 * part.width())) {
        row[3 * part.columns.start..3 * part.columns.end].copy_from_slice(bytes);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::pixels;

    const PART: Rectangle = Rectangle {
        columns: 2..9,
        rows: 1..5,
    };

    #[test]
    fn a_device_takes_the_values_that_a_cpu_takes() {
        let (width, height) = (11, 6);
        let frame: Vec<u8> = (0..3 * width * height)
            .map(|index| (index * 37 % 256) as u8)
            .collect();
        let values = |tensor: Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let on_cpu = values(pixels::taken(&frame, width, &PART).unwrap());
        let on_device = taken(&frame, width, &PART, &Device::Cpu).unwrap();
        assert_eq!(on_device.dims(), [1, 3, 4, 7]);
        let on_device = values(on_device);
        assert!(
            on_cpu
                .iter()
                .zip(&on_device)
                .all(|(one, other)| (one - other).abs() < 1e-7),
            "{on_cpu:?} {on_device:?}"
        );
    }

    #[test]
    fn a_device_places_the_bytes_that_a_cpu_places() {
        let (width, height) = (11, 6);
        let count = 3 * PART.height() * PART.width();
        let mut values: Vec<f32> = (0..count)
            .map(|index| (index as f32 * 3.25 - 7.0) / 255.0)
            .collect();
        values[..4].copy_from_slice(&[f32::INFINITY, f32::NEG_INFINITY, 0.5 / 255.0, 1e30]);
        let upscaled = Tensor::from_vec(values, (3, 4, 7), &Device::Cpu).unwrap();
        let placed = |place: fn(&Tensor, &mut [u8], usize, &Rectangle) -> Result<bool>| {
            let mut frame = vec![77; 3 * width * height];
            assert!(place(&upscaled, &mut frame, width, &PART).unwrap());
            frame
        };
        assert_eq!(placed(place), placed(pixels::place));
    }

    #[test]
    fn a_value_that_is_no_number_is_found_on_both() {
        let mut values = vec![f32::INFINITY; 84];
        values[50] = f32::NAN;
        let upscaled = Tensor::from_vec(values, (3, 4, 7), &Device::Cpu).unwrap();
        let mut frame = vec![0; 3 * 11 * 6];
        assert!(!place(&upscaled, &mut frame, 11, &PART).unwrap());
        assert!(!pixels::place(&upscaled, &mut frame, 11, &PART).unwrap());
    }
}
