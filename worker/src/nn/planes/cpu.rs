//! On CPU cores, one row of the result after the other.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::reduction;

pub(super) fn resized(planes: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    planes
        .contiguous()?
        .apply_op1_no_bwd(&Resize { height, width })
}

pub(super) fn warped(image: &Tensor, flow: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (_, _, rows, columns) = image.dims4()?;
    let is_larger = height > rows;
    // Where the result is to be larger, it is warped first.
    let (warped_height, warped_width) = if is_larger {
        (rows, columns)
    } else {
        (height, width)
    };
    let warp = Warp {
        height: warped_height,
        width: warped_width,
    };
    let warped = image
        .contiguous()?
        .apply_op2_no_bwd(&flow.contiguous()?, &warp)?;
    if is_larger {
        resized(&warped, height, width)
    } else {
        Ok(warped)
    }
}

/// The values of a tensor that lies in one piece.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => candle_core::bail!("planes must be contiguous, not {layout:?}"),
    }
}

struct Resize {
    height: usize,
    width: usize,
}

impl CustomOp1 for Resize {
    fn name(&self) -> &'static str {
        "resize"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (frames, channels, old_height, old_width) = layout.shape().dims4()?;
        let &Resize { height, width } = self;
        let planes = values(storage, layout)?;
        let mut output = vec![0.0; frames * channels * height * width];
        let rows = output.par_chunks_exact_mut(width).enumerate();
        if height > old_height {
            let down = stretch(old_height, height);
            let across = stretch(old_width, width);
            rows.for_each_init(Vec::new, |mixed, (index, output)| {
                let plane = &planes[index / height * old_height * old_width..];
                let (first, second, share) = down[index % height];
                let row = |row: usize| &plane[row * old_width..][..old_width];
                mixed.clear();
                mixed.extend(
                    row(first)
                        .iter()
                        .zip(row(second))
                        .map(|(one, other)| one + (other - one) * share),
                );
                for (value, (left, right, share)) in output.iter_mut().zip(&across) {
                    *value = mixed[*left] + (mixed[*right] - mixed[*left]) * share;
                }
            });
        } else {
            let times = reduction(old_height, height)?;
            if reduction(old_width, width)? != times {
                candle_core::bail!("the sides of planes must shrink by the same factor");
            }
            rows.for_each(|(index, output)| {
                let top = index * times + times / 2 - 1;
                let row = |row: usize| &planes[row * old_width..][..old_width];
                let squares = row(top)
                    .chunks_exact(times)
                    .zip(row(top + 1).chunks_exact(times));
                for (value, (upper, lower)) in output.iter_mut().zip(squares) {
                    let middle = times / 2 - 1..times / 2 + 1;
                    let sum: f32 = upper[middle.clone()].iter().chain(&lower[middle]).sum();
                    *value = sum * 0.25;
                }
            });
        }
        let shape = Shape::from((frames, channels, height, width));
        Ok((CpuStorage::F32(output), shape))
    }
}

/// For each place of a longer row: the two places that it lies between, and how near it is to the second.
fn stretch(old: usize, new: usize) -> Vec<(usize, usize, f32)> {
    let places = (0..new).map(|place| {
        let at = ((place as f32 + 0.5) * (old as f32 / new as f32) - 0.5).max(0.0);
        let first = (at as usize).min(old - 1);
        (first, (first + 1).min(old - 1), at - first as f32)
    });
    places.collect()
}

struct Warp {
    height: usize,
    width: usize,
}

/// Where a pixel is read: the four pixels around that place, and the shares of the right and the lower ones.
#[derive(Clone, Copy)]
struct Place {
    upper: usize,
    lower: usize,
    /// 1, or 0 at the right border.
    right: usize,
    from_left: f32,
    from_top: f32,
}

impl Place {
    fn read(&self, plane: &[f32]) -> f32 {
        let mixed = |at: usize| {
            let (left, right) = (plane[at], plane[at + self.right]);
            left + (right - left) * self.from_left
        };
        let (above, below) = (mixed(self.upper), mixed(self.lower));
        above + (below - above) * self.from_top
    }
}

impl CustomOp2 for Warp {
    fn name(&self) -> &'static str {
        "warp"
    }

    fn cpu_fwd(
        &self,
        image: &CpuStorage,
        image_layout: &Layout,
        flow: &CpuStorage,
        flow_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, channels, rows, columns) = image_layout.shape().dims4()?;
        let pixels = rows * columns;
        let (image, flow) = (values(image, image_layout)?, values(flow, flow_layout)?);
        if flow.len() != 2 * pixels {
            candle_core::bail!("a flow has two planes of the image's size, not {flow_layout:?}");
        }
        let &Warp { height, width } = self;
        let times = if height == rows {
            1
        } else {
            reduction(rows, height)?
        };
        if width * times != columns {
            candle_core::bail!("the sides of planes must shrink by the same factor");
        }
        let place = |row: usize, column: usize| {
            let index = row * columns + column;
            let bounded = |at: f32, last: usize| at.clamp(0.0, last as f32);
            let x = bounded(column as f32 + flow[index], columns - 1);
            let y = bounded(row as f32 + flow[pixels + index], rows - 1);
            let (left, top) = (x as usize, y as usize);
            Place {
                upper: top * columns + left,
                lower: (top + 1).min(rows - 1) * columns + left,
                right: usize::from(left + 1 < columns),
                from_left: x - left as f32,
                from_top: y - top as f32,
            }
        };
        // The pixels of the whole size that one of the result is the mean of.
        let middle = if times == 1 {
            0..1
        } else {
            times / 2 - 1..times / 2 + 1
        };
        let count = (middle.len() * middle.len()) as f32;
        let mut output = vec![0.0; channels * height * width];
        let mut by_row: Vec<Vec<&mut [f32]>> = Vec::new();
        by_row.resize_with(height, || Vec::with_capacity(channels));
        for plane in output.chunks_exact_mut(height * width) {
            for (planes, row) in by_row.iter_mut().zip(plane.chunks_exact_mut(width)) {
                planes.push(row);
            }
        }
        by_row
            .into_par_iter()
            .enumerate()
            .for_each_init(Vec::new, |places, (row, outputs)| {
                places.clear();
                for column in 0..width {
                    for down in middle.clone() {
                        let across = middle.clone();
                        places.extend(
                            across.map(|across| place(row * times + down, column * times + across)),
                        );
                    }
                }
                for (plane, output) in image.chunks_exact(pixels).zip(outputs) {
                    let places = places.chunks_exact(middle.len() * middle.len());
                    for (value, places) in output.iter_mut().zip(places) {
                        let sum: f32 = places.iter().map(|place| place.read(plane)).sum();
                        *value = sum / count;
                    }
                }
            });
        let shape = Shape::from((1, channels, height, width));
        Ok((CpuStorage::F32(output), shape))
    }
}
