//! The layer that all networks here are made of: a 3x3 convolution and what follows it at once.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::{PReLU, VarBuilder};

use super::conv_cpu::CpuConv;

/// What happens to a convolution's values below zero.
#[derive(Debug, Clone)]
pub(crate) enum Activation {
    None,
    /// They are multiplied by this (LeakyReLU).
    Leaky(f64),
    /// They are multiplied by a factor of each channel (PReLU), `[outputs]`.
    Slopes(Tensor),
}

/// A 3x3 convolution over `[frames, inputs, height, width]` with a border of zeros, so that the
/// size stays, its bias, and its activation.
pub(crate) enum Conv {
    Cpu(CpuConv),
    /// On squares of 2 x 2 pixels that were folded into channels.
    CpuHalving(CpuConv),
    Device(DeviceConv),
}

/// The same in candle's own operations, which every device has.
pub(crate) struct DeviceConv {
    kernel: Tensor,
    stride: usize,
    /// `[1, outputs, 1, 1]`.
    bias: Tensor,
    bend: Bend,
}

/// An activation, in as few passes over the values as candle's operations allow.
enum Bend {
    None,
    /// The larger of the value and the value times this, which is below 1.
    Leaky(f64),
    /// The same with a factor for each channel, none above 1: `[1, outputs, 1, 1]`.
    Slopes(Tensor),
    SteepSlopes(PReLU),
}

impl Conv {
    /// Takes `{name}.weight` and `{name}.bias`.
    pub(crate) fn load(
        tensors: &VarBuilder<'_>,
        name: &str,
        inputs: usize,
        outputs: usize,
        activation: Activation,
    ) -> Result<Self> {
        let kernel = tensors.get((outputs, inputs, 3, 3), &format!("{name}.weight"))?;
        let bias = tensors.get(outputs, &format!("{name}.bias"))?;
        Conv::new(kernel, &bias, &activation)
    }

    /// Of a kernel `[outputs, inputs, 3, 3]` and a bias `[outputs]`.
    pub(crate) fn new(kernel: Tensor, bias: &Tensor, activation: &Activation) -> Result<Self> {
        if has_fast_conv(&kernel) {
            return Ok(Conv::Cpu(CpuConv::new(&kernel, bias, activation)?));
        }
        Ok(Conv::Device(DeviceConv::new(kernel, bias, activation, 1)?))
    }

    /// Halves both sides, which are even: the kernel is applied at every second pixel of every second row.
    pub(crate) fn halving(kernel: Tensor, bias: &Tensor, activation: &Activation) -> Result<Self> {
        if has_fast_conv(&kernel) {
            let kernel = unshuffled_kernel(&kernel)?;
            return Ok(Conv::CpuHalving(CpuConv::new(&kernel, bias, activation)?));
        }
        Ok(Conv::Device(DeviceConv::new(kernel, bias, activation, 2)?))
    }

    pub(crate) fn forward(&self, features: &Tensor) -> Result<Tensor> {
        match self {
            Conv::Cpu(conv) => features.contiguous()?.apply_op1_no_bwd(conv),
            Conv::CpuHalving(conv) => candle_nn::ops::pixel_unshuffle(features, 2)?
                .contiguous()?
                .apply_op1_no_bwd(conv),
            Conv::Device(conv) => conv.forward(features),
        }
    }
}

/// Whether [`CpuConv`] computes with such a kernel.
fn has_fast_conv(kernel: &Tensor) -> bool {
    kernel.device().is_cpu() && kernel.dtype() == DType::F32
}

/// A kernel for every second pixel, as a kernel over squares of 2 x 2 pixels that were folded into channels.
///
/// Output row y reads the rows 2y - 1, 2y and 2y + 1. They are the lower row of the square above, and both rows of square y.
fn unshuffled_kernel(kernel: &Tensor) -> Result<Tensor> {
    /// For each tap of the kernel: which row of which square, from the one above on.
    const PLACES: [(usize, usize); 3] = [(1, 0), (0, 1), (1, 1)];
    let (outputs, inputs, _, _) = kernel.dims4()?;
    let taps = kernel.flatten_all()?.to_vec1::<f32>()?;
    let mut unshuffled = vec![0.0; outputs * inputs * 4 * 9];
    for (taps, places) in taps.chunks_exact(9).zip(unshuffled.chunks_exact_mut(4 * 9)) {
        for (index, tap) in taps.iter().enumerate() {
            let ((row, square_row), (column, square_column)) =
                (PLACES[index / 3], PLACES[index % 3]);
            places[(2 * row + column) * 9 + square_row * 3 + square_column] = *tap;
        }
    }
    Tensor::from_vec(unshuffled, (outputs, 4 * inputs, 3, 3), kernel.device())
}

impl DeviceConv {
    fn new(kernel: Tensor, bias: &Tensor, activation: &Activation, stride: usize) -> Result<Self> {
        let by_channel = |values: &Tensor| values.reshape((1, values.elem_count(), 1, 1));
        let bend = match activation {
            Activation::None => Bend::None,
            Activation::Leaky(slope) => Bend::Leaky(*slope),
            Activation::Slopes(slopes) => {
                let steepest = slopes.to_dtype(DType::F32)?.max_all()?.to_scalar::<f32>()?;
                if steepest <= 1.0 {
                    Bend::Slopes(by_channel(slopes)?)
                } else {
                    Bend::SteepSlopes(PReLU::new(slopes.clone(), false))
                }
            }
        };
        Ok(DeviceConv {
            kernel,
            stride,
            bias: by_channel(bias)?,
            bend,
        })
    }

    fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let sums = self.sums(features)?.broadcast_add(&self.bias)?;
        match &self.bend {
            Bend::None => Ok(sums),
            Bend::Leaky(slope) => sums.maximum(&(&sums * *slope)?),
            Bend::Slopes(slopes) => sums.maximum(&sums.broadcast_mul(slopes)?),
            Bend::SteepSlopes(slopes) => slopes.forward(&sums),
        }
    }

    fn sums(&self, features: &Tensor) -> Result<Tensor> {
        if features.device().is_cpu() && features.dtype() == DType::BF16 {
            // On a CPU candle multiplies no matrices of this type. The sums are float32, as they are on a GPU.
            let (features, kernel) = (
                features.to_dtype(DType::F32)?,
                self.kernel.to_dtype(DType::F32)?,
            );
            return features
                .conv2d(&kernel, 1, self.stride, 1, 1)?
                .to_dtype(DType::BF16);
        }
        features.conv2d(&self.kernel, 1, self.stride, 1, 1)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn the_cpu_layer_computes_what_candle_s_operations_do() {
        let slopes = |outputs| Activation::Slopes(random(&[outputs]));
        let steep = |outputs| Activation::Slopes((random(&[outputs]) * 6.0).unwrap());
        for (frames, inputs, outputs, height, width) in [
            (1, 3, 8, 1, 1),
            (2, 3, 12, 5, 33),
            (1, 16, 3, 9, 31),
            (3, 5, 21, 17, 70),
            (1, 64, 64, 12, 32),
            (1, 1, 1, 40, 2),
        ] {
            for activation in [
                Activation::None,
                Activation::Leaky(0.2),
                slopes(outputs),
                steep(outputs),
            ] {
                let kernel = random(&[outputs, inputs, 3, 3]);
                let bias = random(&[outputs]);
                let features = random(&[frames, inputs, height, width]);
                let cpu = CpuConv::new(&kernel, &bias, &activation).unwrap();
                let ours = features.apply_op1_no_bwd(&cpu).unwrap();
                let theirs = DeviceConv::new(kernel, &bias, &activation, 1).unwrap();
                let theirs = theirs.forward(&features).unwrap();
                let worst = (ours - theirs)
                    .unwrap()
                    .abs()
                    .unwrap()
                    .max_all()
                    .unwrap()
                    .to_scalar::<f32>()
                    .unwrap();
                assert!(
                    worst < 1e-4,
                    "{inputs} to {outputs} channels at {width}x{height}: off by {worst}"
                );
            }
        }
    }

    #[test]
    fn the_cpu_layer_that_halves_computes_what_candle_s_operations_do() {
        for (inputs, outputs, height, width) in [(3, 16, 2, 2), (15, 9, 8, 34), (4, 12, 18, 6)] {
            let kernel = random(&[outputs, inputs, 3, 3]);
            let bias = random(&[outputs]);
            let features = random(&[1, inputs, height, width]);
            let leaky = Activation::Leaky(0.2);
            let ours = Conv::halving(kernel.clone(), &bias, &leaky).unwrap();
            assert!(matches!(ours, Conv::CpuHalving(_)));
            let ours = ours.forward(&features).unwrap();
            assert_eq!(ours.dims(), [1, outputs, height / 2, width / 2]);
            let theirs = DeviceConv::new(kernel, &bias, &leaky, 2).unwrap();
            let worst = (ours - theirs.forward(&features).unwrap())
                .unwrap()
                .abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap();
            assert!(
                worst < 1e-5,
                "{inputs} to {outputs} channels: off by {worst}"
            );
        }
    }

    fn random(shape: &[usize]) -> Tensor {
        Tensor::rand(-0.5f32, 0.5, shape, &Device::Cpu).unwrap()
    }
}
