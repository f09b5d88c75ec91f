//! The layer that all networks here are made of: a 3x3 convolution and what follows it at once.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::{PReLU, VarBuilder};

use super::conv_cpu::CpuConv;

/// What happens to a convolution's values below zero.
#[derive(Debug, Clone)]
pub(super) enum Activation {
    None,
    /// They are multiplied by this (LeakyReLU).
    Leaky(f64),
    /// They are multiplied by a factor of each channel (PReLU), `[outputs]`.
    Slopes(Tensor),
}

/// A 3x3 convolution over `[frames, inputs, height, width]` with a border of zeros, so that the
/// size stays, its bias, and its activation.
pub(super) enum Conv {
    Cpu(CpuConv),
    Device(DeviceConv),
}

/// The same in candle's own operations, which every device has.
pub(super) struct DeviceConv {
    kernel: Tensor,
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
    pub(super) fn load(
        tensors: &VarBuilder<'_>,
        name: &str,
        inputs: usize,
        outputs: usize,
        activation: Activation,
    ) -> Result<Self> {
        let kernel = tensors.get((outputs, inputs, 3, 3), &format!("{name}.weight"))?;
        let bias = tensors.get(outputs, &format!("{name}.bias"))?;
        if kernel.device().is_cpu() && kernel.dtype() == DType::F32 {
            return Ok(Conv::Cpu(CpuConv::new(&kernel, &bias, &activation)?));
        }
        Ok(Conv::Device(DeviceConv::new(kernel, &bias, &activation)?))
    }

    pub(super) fn forward(&self, features: &Tensor) -> Result<Tensor> {
        match self {
            Conv::Cpu(conv) => features.contiguous()?.apply_op1_no_bwd(conv),
            Conv::Device(conv) => conv.forward(features),
        }
    }
}

impl DeviceConv {
    fn new(kernel: Tensor, bias: &Tensor, activation: &Activation) -> Result<Self> {
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
            return features.conv2d(&kernel, 1, 1, 1, 1)?.to_dtype(DType::BF16);
        }
        features.conv2d(&self.kernel, 1, 1, 1, 1)
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
                let theirs = DeviceConv::new(kernel, &bias, &activation).unwrap();
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

    fn random(shape: &[usize]) -> Tensor {
        Tensor::rand(-0.5f32, 0.5, shape, &Device::Cpu).unwrap()
    }
}
