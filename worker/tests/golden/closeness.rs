//! How close are two results? One with a value that is no number is close to none.

use candle_core::{DType, Device, Tensor};

/// The largest difference of two values.
pub(crate) fn worst(one: &Tensor, other: &Tensor) -> f32 {
    pairs(one, other)
        .map(|(one, other)| (one - other).abs())
        .fold(0.0, f32::max)
}

/// The cosine of the angle between the two as vectors; 1 for equal ones.
pub(crate) fn cosine(one: &Tensor, other: &Tensor) -> f64 {
    let (mut both, mut first, mut second) = (0.0, 0.0, 0.0);
    for (one, other) in pairs(one, other) {
        let (one, other) = (f64::from(one), f64::from(other));
        both += one * other;
        first += one * one;
        second += other * other;
    }
    both / (first * second).sqrt()
}

/// Peak signal-to-noise ratio of the pictures, whose values are 0 to 1, in dB.
pub(crate) fn psnr(one: &Tensor, other: &Tensor) -> f64 {
    let count = one.elem_count() as f64;
    let squares: f64 = pairs(one, other)
        .map(|(one, other)| f64::from(one.clamp(0.0, 1.0) - other.clamp(0.0, 1.0)).powi(2))
        .sum();
    -10.0 * (squares / count).log10()
}

fn pairs(one: &Tensor, other: &Tensor) -> impl Iterator<Item = (f32, f32)> {
    assert_eq!(one.dims(), other.dims());
    values(one).into_iter().zip(values(other))
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_device(&Device::Cpu).unwrap();
    let tensor = tensor.to_dtype(DType::F32).unwrap();
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    assert!(
        values.iter().all(|value| value.is_finite()),
        "a value is no number"
    );
    values
}

#[test]
fn closeness_is_told_from_distance() {
    let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
    let (one, near, far) = (
        tensor(&[0.25, 0.5, 1.0]),
        tensor(&[0.25, 0.501, 1.0]),
        tensor(&[0.75, 0.0, 0.5]),
    );
    assert!((worst(&one, &near) - 0.001).abs() < 1e-6);
    assert!(cosine(&one, &near) > 0.9999 && cosine(&one, &far) < 0.8);
    assert!(
        (psnr(&one, &near) - 64.77).abs() < 0.01,
        "{}",
        psnr(&one, &near)
    );
    assert!(psnr(&one, &far) < 10.0);
}

#[test]
#[should_panic(expected = "a value is no number")]
fn what_is_no_number_is_close_to_nothing() {
    let tensor = |value: f32| Tensor::new(&[value], &Device::Cpu).unwrap();
    let _ = worst(&tensor(f32::NAN), &tensor(0.0));
}
