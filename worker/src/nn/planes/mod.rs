//! Planes in other sizes, and frames seen along a flow. In float32 on every device: a flow in half precision would be off by a part of
//! a pixel.
//!
//! On a CPU each is one pass over the pixels; on other devices they are made of candle's operations.

mod cpu;
mod device;

use candle_core::{Result, Tensor};

/// Planes `[1, channels, height, width]` in another size, bilinear, as if pixels were squares. The sides grow or shrink by the same
/// whole number; where they shrink, it is even.
pub(crate) fn resized(planes: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (_, _, old_height, old_width) = planes.dims4()?;
    if (old_height, old_width) == (height, width) {
        return Ok(planes.clone());
    }
    if planes.device().is_cpu() {
        cpu::resized(planes, height, width)
    } else {
        device::resized(planes, height, width)
    }
}

/// Each pixel of `image` from where `flow` (`[1, 2, height, width]`: columns, rows) points to from there; beyond the border lies the
/// border. The result is as [`resized`] would make it; where it is smaller, only the pixels are computed that count.
pub(crate) fn warped(image: &Tensor, flow: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    if image.device().is_cpu() {
        cpu::warped(image, flow, height, width)
    } else {
        device::warped(image, flow, height, width)
    }
}

/// How many times smaller the planes become, where they do.
fn reduction(old: usize, new: usize) -> Result<usize> {
    let times = old / new.max(1);
    if new == 0 || times * new != old || !times.is_multiple_of(2) {
        candle_core::bail!(
            "planes of {old} rows cannot become {new} rows: an even factor is needed"
        );
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn random(shape: &[usize], spread: f64) -> Tensor {
        let values = Tensor::rand(-0.5f32, 0.5, shape, &Device::Cpu).unwrap();
        (values * spread).unwrap()
    }

    fn worst(one: &Tensor, other: &Tensor) -> f32 {
        assert_eq!(one.dims(), other.dims());
        let off = (one - other).unwrap().abs().unwrap();
        off.max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn a_cpu_and_other_devices_resize_alike() {
        let planes = random(&[1, 5, 16, 24], 2.0);
        for (height, width) in [(8, 12), (4, 6), (2, 3), (32, 48), (64, 96)] {
            let ours = cpu::resized(&planes, height, width).unwrap();
            let theirs = device::resized(&planes, height, width).unwrap();
            let off = worst(&ours, &theirs);
            assert!(off < 1e-5, "{height} x {width}: {off}");
        }
        assert!(cpu::resized(&planes, 5, 8).is_err());
    }

    #[test]
    fn a_cpu_and_other_devices_follow_a_flow_alike_also_beyond_the_border() {
        let image = random(&[1, 4, 16, 24], 2.0);
        let flow = random(&[1, 2, 16, 24], 60.0);
        for (height, width) in [(16, 24), (8, 12), (4, 6), (2, 3), (32, 48)] {
            let ours = cpu::warped(&image, &flow, height, width).unwrap();
            let theirs = device::warped(&image, &flow, height, width).unwrap();
            let off = worst(&ours, &theirs);
            assert!(off < 1e-4, "{height} x {width}: {off}");
        }
    }

    #[test]
    fn a_flow_of_whole_pixels_moves_the_picture() {
        let image = Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap();
        let image = image.reshape((1, 1, 3, 4)).unwrap();
        let right = Tensor::new(&[1f32, 0.0], &Device::Cpu).unwrap();
        let flow = right.reshape((1, 2, 1, 1)).unwrap();
        let flow = flow
            .broadcast_as((1, 2, 3, 4))
            .unwrap()
            .contiguous()
            .unwrap();
        let moved = warped(&image, &flow, 3, 4).unwrap();
        let moved: Vec<f32> = moved.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(moved, [1., 2., 3., 3., 5., 6., 7., 7., 9., 10., 11., 11.]);
    }
}
