//! In candle's own operations, which every device has.

use candle_core::{D, DType, Result, Tensor};

use super::reduction;

pub(super) fn resized(planes: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (_, channels, old_height, old_width) = planes.dims4()?;
    if (old_height, old_width) == (height, width) {
        return Ok(planes.clone());
    }
    if height > old_height {
        return planes
            .contiguous()?
            .upsample_bilinear2d(height, width, false);
    }
    // The mean of the four pixels in the middle of each square.
    let times = reduction(old_height, height)?;
    reduction(old_width, width)?;
    planes
        .contiguous()?
        .reshape((channels * height, times, width, times))?
        .narrow(1, times / 2 - 1, 2)?
        .narrow(3, times / 2 - 1, 2)?
        .mean(3)?
        .mean(1)?
        .reshape((1, channels, height, width))
}

pub(super) fn warped(image: &Tensor, flow: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (_, channels, rows, columns) = image.dims4()?;
    let pixels = rows * columns;
    let device = image.device();
    let line = |count: usize| Tensor::arange(0f32, count as f32, device);
    let across = line(columns)?.reshape((1, columns))?;
    let down = line(rows)?.reshape((rows, 1))?;
    let flow = flow.squeeze(0)?;
    let last = |count: usize| (count - 1) as f64;
    let x = flow
        .get(0)?
        .broadcast_add(&across)?
        .clamp(0.0, last(columns))?;
    let y = flow.get(1)?.broadcast_add(&down)?.clamp(0.0, last(rows))?;
    let (left, top) = (x.floor()?, y.floor()?);
    let right = (&left + 1.0)?.minimum(last(columns))?;
    let bottom = (&top + 1.0)?.minimum(last(rows))?;
    let (from_left, from_top) = ((&x - &left)?, (&y - &top)?);
    let image = image.reshape((channels, pixels))?.contiguous()?;
    let whole = |values: &Tensor| values.to_dtype(DType::U32);
    // Counted in whole numbers: float32 cannot tell the pixels of a large frame apart.
    let line_length = Tensor::new(columns as u32, device)?;
    let pixels_at = |row: &Tensor, column: &Tensor| -> Result<Tensor> {
        let index = whole(row)?
            .broadcast_mul(&line_length)?
            .add(&whole(column)?)?;
        image.index_select(&index.flatten_all()?, D::Minus1)
    };
    let mix = |one: Tensor, other: Tensor, share: &Tensor| -> Result<Tensor> {
        let share = share.reshape((1, pixels))?;
        &one + (other - &one)?.broadcast_mul(&share)?
    };
    let above = mix(
        pixels_at(&top, &left)?,
        pixels_at(&top, &right)?,
        &from_left,
    )?;
    let below = mix(
        pixels_at(&bottom, &left)?,
        pixels_at(&bottom, &right)?,
        &from_left,
    )?;
    let whole_size = mix(above, below, &from_top)?.reshape((1, channels, rows, columns))?;
    resized(&whole_size, height, width)
}
