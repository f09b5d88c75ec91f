//! Layers that are written as 3x3 convolutions, so that they run as fast as those.

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;

use super::block::LEAKY;
use crate::nn::conv::{Activation, Conv};

/// A transposed convolution with kernels of 4x4 that doubles both sides, as a convolution whose result is to be shuffled by 2.
///
/// Of the rows that square y becomes, the upper one reads the squares y - 1 and y, the lower one y and y + 1.
pub(super) fn doubling(
    tensors: &VarBuilder<'_>,
    name: &str,
    inputs: usize,
    outputs: usize,
) -> Result<Conv> {
    /// For each row of a square, and each square from the one above on: the tap of the transposed kernel.
    const TAPS: [[Option<usize>; 3]; 2] = [[Some(3), Some(1), None], [None, Some(2), Some(0)]];
    let transposed = tensors.get((inputs, outputs, 4, 4), &format!("{name}.weight"))?;
    let bias = tensors.get(outputs, &format!("{name}.bias"))?;
    let (dtype, device) = (transposed.dtype(), transposed.device().clone());
    let taps = transposed.to_dtype(DType::F32)?;
    let taps = taps.flatten_all()?.to_vec1::<f32>()?;
    let mut kernel = vec![0.0; outputs * 4 * inputs * 9];
    for (index, value) in kernel.iter_mut().enumerate() {
        let (place, rest) = (index % 9, index / 9);
        let (input, rest) = (rest % inputs, rest / inputs);
        let (within, output) = (rest % 4, rest / 4);
        let down = TAPS[within / 2][place / 3];
        let across = TAPS[within % 2][place % 3];
        if let (Some(down), Some(across)) = (down, across) {
            *value = taps[(input * outputs + output) * 16 + down * 4 + across];
        }
    }
    let kernel = Tensor::from_vec(kernel, (4 * outputs, inputs, 3, 3), &device)?.to_dtype(dtype)?;
    let bias = bias.reshape((outputs, 1))?;
    let bias = bias.broadcast_as((outputs, 4))?.contiguous()?;
    Conv::new(kernel, &bias.flatten_all()?, &Activation::None)
}

/// A convolution whose result is multiplied by a factor of each channel and added to its input, and LeakyReLU after that.
pub(super) enum Residual {
    /// The factor and the input are part of the kernel.
    Folded(Conv),
    /// The factor is. With the input, half precision would lose what is small beside 1.
    Added(Conv),
}

impl Residual {
    pub(super) fn load(
        tensors: &VarBuilder<'_>,
        name: &str,
        channels: usize,
        groups: usize,
    ) -> Result<Self> {
        let inputs = channels / groups.max(1);
        let kernel = tensors.get((channels, inputs, 3, 3), &format!("{name}.conv.weight"))?;
        let bias = tensors.get(channels, &format!("{name}.conv.bias"))?;
        let factors = tensors.get((1, channels, 1, 1), &format!("{name}.beta"))?;
        let (dtype, device) = (kernel.dtype(), kernel.device().clone());
        let full = |tensor: &Tensor| -> Result<Vec<f32>> {
            tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
        };
        let (grouped, biases, factors) = (full(&kernel)?, full(&bias)?, full(&factors)?);
        let is_folded = dtype == DType::F32;
        let mut dense = vec![0.0; channels * channels * 9];
        for (output, factor) in factors.iter().enumerate() {
            let first = output / (channels / groups.max(1)) * inputs;
            let row = &mut dense[output * channels * 9..][..channels * 9];
            let own = &grouped[output * inputs * 9..][..inputs * 9];
            for (value, tap) in row[first * 9..].iter_mut().zip(own) {
                *value = tap * factor;
            }
            if is_folded {
                // The tap in the middle of the channel's own kernel.
                row[output * 9 + 4] += 1.0;
            }
        }
        let biases: Vec<f32> = biases
            .iter()
            .zip(&factors)
            .map(|(bias, factor)| bias * factor)
            .collect();
        let kernel = Tensor::from_vec(dense, (channels, channels, 3, 3), &device)?;
        let bias = Tensor::from_vec(biases, channels, &device)?;
        let (kernel, bias) = (kernel.to_dtype(dtype)?, bias.to_dtype(dtype)?);
        if is_folded {
            Ok(Residual::Folded(Conv::new(kernel, &bias, &LEAKY)?))
        } else {
            Ok(Residual::Added(Conv::new(
                kernel,
                &bias,
                &Activation::None,
            )?))
        }
    }

    pub(super) fn forward(&self, features: &Tensor) -> Result<Tensor> {
        match self {
            Residual::Folded(conv) => conv.forward(features),
            Residual::Added(conv) => {
                let sums = (conv.forward(features)? + features)?;
                sums.maximum(&(&sums * 0.2)?)
            }
        }
    }
}
