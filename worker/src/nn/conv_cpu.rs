//! A 3x3 convolution on CPU cores: the one operation that the networks' time goes into.
//!
//! Each core takes a band of rows. It lays a strip of the band's pixels (with the border that the
//! kernel reaches) into a small buffer that stays in its cache, and sums up a block of output
//! channels for a few vectors of pixels in registers. The order of the sums is the same for every
//! pixel, wherever it lies: so a pixel's value depends neither on the tile nor on the batch that it
//! is computed in, nor on the number of cores.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::conv::Activation;

/// Output channels are stored in blocks of this many.
const BLOCK: usize = 8;
/// The kernel's nine places.
const TAPS: usize = 9;
/// Rows that one core computes at once, at most: more share more of the strip, fewer are easier to
/// spread over the cores.
const BAND_ROWS: usize = 8;

pub(crate) struct CpuConv {
    inputs: usize,
    outputs: usize,
    /// `[blocks, inputs, TAPS, BLOCK]`, filled up with zeros.
    kernels: Vec<f32>,
    /// `[blocks * BLOCK]`, as are the slopes.
    biases: Vec<f32>,
    /// What values below zero are multiplied by; 1 leaves them as they are.
    slopes: Vec<f32>,
}

impl CpuConv {
    /// Rearranges `[outputs, inputs, 3, 3]` and `[outputs]`.
    pub(crate) fn new(kernel: &Tensor, bias: &Tensor, activation: &Activation) -> Result<Self> {
        let (outputs, inputs, _, _) = kernel.dims4()?;
        let padded = outputs.next_multiple_of(BLOCK);
        let mut kernels = vec![0.0; padded * inputs * TAPS];
        let places = kernel.flatten_all()?.to_vec1::<f32>()?;
        for (output, places) in places.chunks_exact(inputs * TAPS).enumerate() {
            let block =
                &mut kernels[output / BLOCK * BLOCK * inputs * TAPS..][..BLOCK * inputs * TAPS];
            for (channels, place) in block.chunks_exact_mut(BLOCK).zip(places) {
                channels[output % BLOCK] = *place;
            }
        }
        let mut biases = bias.to_vec1::<f32>()?;
        biases.resize(padded, 0.0);
        let mut slopes = match activation {
            Activation::None => vec![1.0; outputs],
            Activation::Leaky(slope) => vec![*slope as f32; outputs],
            Activation::Slopes(slopes) => slopes.to_vec1::<f32>()?,
        };
        slopes.resize(padded, 1.0);
        Ok(CpuConv {
            inputs,
            outputs,
            kernels,
            biases,
            slopes,
        })
    }

    /// From `[frames, inputs, height, width]` to `[frames, outputs, height, width]`.
    fn convolved(&self, frames: &[f32], height: usize, width: usize) -> Vec<f32> {
        let plane = height * width;
        let count = frames.len() / (self.inputs * plane);
        let rows = band_rows(count * height, rayon::current_num_threads());
        let mut output = vec![0.0; count * self.outputs * plane];
        let mut bands = Vec::new();
        for (frame, planes) in frames
            .chunks_exact(self.inputs * plane)
            .zip(output.chunks_exact_mut(self.outputs * plane))
        {
            bands.extend(self.bands(frame, planes, [height, width], rows));
        }
        let arch = Arch::new();
        bands
            .into_par_iter()
            .for_each_init(Vec::new, |strip, band| {
                arch.dispatch(BandTask {
                    conv: self,
                    band,
                    strip,
                })
            });
        output
    }

    /// Cuts a frame into bands, each with its own part of every output plane.
    fn bands<'a>(
        &self,
        frame: &'a [f32],
        planes: &'a mut [f32],
        [height, width]: [usize; 2],
        rows: usize,
    ) -> Vec<Band<'a>> {
        let tops = (0..height).step_by(rows);
        let band = |top| Band {
            frame,
            height,
            width,
            top,
            planes: Vec::with_capacity(self.outputs),
        };
        let mut bands: Vec<Band<'a>> = tops.map(band).collect();
        for plane in planes.chunks_exact_mut(height * width) {
            for (band, rows) in bands.iter_mut().zip(plane.chunks_mut(rows * width)) {
                band.planes.push(rows);
            }
        }
        bands
    }
}

/// Several bands for each core, so that none waits long for the last one.
fn band_rows(rows: usize, cores: usize) -> usize {
    (rows / (4 * cores)).clamp(1, BAND_ROWS)
}

impl CustomOp1 for CpuConv {
    fn name(&self) -> &'static str {
        "conv3x3"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (frames, inputs, height, width) = layout.shape().dims4()?;
        let Some((start, end)) = layout
            .contiguous_offsets()
            .filter(|_| inputs == self.inputs)
        else {
            candle_core::bail!(
                "conv3x3 needs {} contiguous channels, not {layout:?}",
                self.inputs
            );
        };
        let output = self.convolved(&storage.as_slice::<f32>()?[start..end], height, width);
        Ok((
            CpuStorage::F32(output),
            Shape::from((frames, self.outputs, height, width)),
        ))
    }
}

/// Some rows of a frame: what they are computed from, and where each output channel goes.
struct Band<'a> {
    /// `[inputs, height, width]`
    frame: &'a [f32],
    height: usize,
    width: usize,
    top: usize,
    /// `[outputs][rows, width]`
    planes: Vec<&'a mut [f32]>,
}

struct BandTask<'a, 'b> {
    conv: &'b CpuConv,
    band: Band<'a>,
    strip: &'b mut Vec<f32>,
}

impl WithSimd for BandTask<'_, '_> {
    type Output = ();

    /// The sums fill the registers, with some left for the pixels and a factor.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            compute_band::<S, 8, 2>(simd, self.conv, self.band, self.strip);
        } else {
            compute_band::<S, 4, 3>(simd, self.conv, self.band, self.strip);
        }
    }
}

/// `CHANNELS` outputs, a divisor of [`BLOCK`], times `VECTORS` of pixels are summed up at once.
#[inline(always)]
fn compute_band<S: Simd, const CHANNELS: usize, const VECTORS: usize>(
    simd: S,
    conv: &CpuConv,
    mut band: Band<'_>,
    buffer: &mut Vec<f32>,
) {
    let pixels = VECTORS * S::F32_LANES;
    let width = band.width;
    let rows = band.planes.first().map_or(0, |plane| plane.len() / width);
    let mut strip = Strip {
        line: pixels + 2,
        lines: rows + 2,
        values: buffer,
    };
    let mut finished = [0.0; 64];
    for left in (0..width).step_by(pixels) {
        strip.fill(&band, left, conv.inputs);
        let kept = pixels.min(width - left);
        for (group, planes) in band.planes.chunks_mut(CHANNELS).enumerate() {
            let first = group * CHANNELS;
            let kernels = &conv.kernels[first / BLOCK * BLOCK * conv.inputs * TAPS..]
                [..BLOCK * conv.inputs * TAPS];
            let biases = &conv.biases[first..first + CHANNELS];
            let slopes = &conv.slopes[first..first + CHANNELS];
            for row in 0..rows {
                let sums = summed::<S, CHANNELS, VECTORS>(
                    simd,
                    &strip,
                    row,
                    kernels,
                    first % BLOCK,
                    biases,
                );
                for ((sums, slope), plane) in sums.iter().zip(slopes).zip(planes.iter_mut()) {
                    let slope = simd.splat_f32s(*slope);
                    for (sum, lanes) in sums.iter().zip(finished.chunks_exact_mut(S::F32_LANES)) {
                        let below = simd.less_than_f32s(*sum, simd.splat_f32s(0.0));
                        let value = simd.select_f32s(below, simd.mul_f32s(*sum, slope), *sum);
                        S::as_mut_simd_f32s(lanes).0[0] = value;
                    }
                    plane[row * width + left..][..kept].copy_from_slice(&finished[..kept]);
                }
            }
        }
    }
}

/// Pixels of a band with what surrounds them: `[inputs, lines, line]`.
struct Strip<'a> {
    line: usize,
    lines: usize,
    values: &'a mut Vec<f32>,
}

impl Strip<'_> {
    /// Takes the band's pixels from `left` on, one more on each side; outside of the frame are zeros.
    #[inline(always)]
    fn fill(&mut self, band: &Band<'_>, left: usize, inputs: usize) {
        self.values.clear();
        self.values.resize(inputs * self.lines * self.line, 0.0);
        let start = left.saturating_sub(1);
        let skipped = usize::from(left == 0);
        let taken = (self.line - skipped).min(band.width - start);
        for (channel, plane) in self
            .values
            .chunks_exact_mut(self.lines * self.line)
            .zip(band.frame.chunks_exact(band.height * band.width))
        {
            for (index, line) in channel.chunks_exact_mut(self.line).enumerate() {
                let below = band.top + index;
                if below == 0 || below > band.height {
                    continue;
                }
                let row = &plane[(below - 1) * band.width + start..][..taken];
                line[skipped..skipped + taken].copy_from_slice(row);
            }
        }
    }
}

/// The sums of one row's pixels, before the activation.
#[inline(always)]
fn summed<S: Simd, const CHANNELS: usize, const VECTORS: usize>(
    simd: S,
    strip: &Strip<'_>,
    row: usize,
    kernels: &[f32],
    first: usize,
    biases: &[f32],
) -> [[S::f32s; VECTORS]; CHANNELS] {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; CHANNELS];
    for (sums, bias) in sums.iter_mut().zip(biases) {
        *sums = [simd.splat_f32s(*bias); VECTORS];
    }
    let line = strip.line;
    for (channel, kernel) in strip
        .values
        .chunks_exact(strip.lines * line)
        .zip(kernels.chunks_exact(TAPS * BLOCK))
    {
        let window = &channel[row * line..(row + 3) * line];
        for (line, taps) in window
            .chunks_exact(line)
            .zip(kernel.chunks_exact(3 * BLOCK))
        {
            for (shift, factors) in taps.chunks_exact(BLOCK).enumerate() {
                let factors = &factors[first..first + CHANNELS];
                let mut pixels = [simd.splat_f32s(0.0); VECTORS];
                for (vector, lanes) in pixels
                    .iter_mut()
                    .zip(line[shift..].chunks_exact(S::F32_LANES))
                {
                    *vector = S::as_simd_f32s(lanes).0[0];
                }
                for (sums, factor) in sums.iter_mut().zip(factors) {
                    let factor = simd.splat_f32s(*factor);
                    for (sum, vector) in sums.iter_mut().zip(&pixels) {
                        *sum = simd.mul_add_e_f32s(factor, *vector, *sum);
                    }
                }
            }
        }
    }
    sums
}
