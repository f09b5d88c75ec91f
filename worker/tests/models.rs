//! The networks compute what PyTorch does: golden tensors, with weights that a formula gives
//! (`golden/make.py` wrote them, from spandrel's networks).

mod golden;

use candle_core::Tensor;

const TOLERANCE: f32 = 1e-4;

#[test]
fn every_network_computes_what_pytorch_does() {
    for case in golden::cases() {
        let upscaler = case.upscaler();
        let upscaled = upscaler.forward(&case.input()).unwrap();
        let worst = worst_difference(&upscaled, &case.output());
        println!(
            "{}: {} differs by {worst:e}",
            case.name,
            upscaler.architecture()
        );
        assert!(worst <= TOLERANCE, "{}: {worst}", case.name);
    }
}

fn worst_difference(left: &Tensor, right: &Tensor) -> f32 {
    assert_eq!(left.dims(), right.dims());
    (left - right)
        .unwrap()
        .abs()
        .unwrap()
        .max_all()
        .unwrap()
        .to_scalar()
        .unwrap()
}
