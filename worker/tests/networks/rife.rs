//! RIFE: is every version told by its shapes, and does it compute what PyTorch does?

use std::cell::Cell;

use candle_core::{DType, Device, Tensor};
use framewright_worker::models::{Shapes, detect, recognise};
use framewright_worker::networks::{FlowScale, Interpolator, NetworkError, NetworkLayout};

use crate::closeness::{psnr, worst};
use crate::{bits, golden};

const TOLERANCE: f32 = 1e-4;

fn never() -> bool {
    false
}

fn between(case: &golden::RifeCase, interpolator: &Interpolator) -> Tensor {
    let frames = case.frames();
    let [earlier, later] = [0, 1].map(|index| {
        interpolator
            .source(&frames[index], case.flow_scale())
            .unwrap()
    });
    interpolator
        .between(&earlier, &later, case.time, &never)
        .unwrap()
}

#[test]
fn every_version_computes_what_pytorch_does() {
    for case in golden::rife_cases() {
        let interpolator = case.interpolator();
        let new = between(&case, &interpolator);
        let worst = worst(&new, &case.output());
        println!(
            "{}: {} differs by {worst:e}",
            case.name,
            interpolator.layout()
        );
        assert!(worst <= TOLERANCE, "{}: {worst}", case.name);
    }
}

/// On a CPU, by the convolutions that GPUs do it with.
#[test]
fn half_precision_makes_the_same_picture() {
    for name in ["4.0", "4.6", "4.7", "4.14.lite", "4.25"] {
        let case = golden::rife_case(name);
        let halves =
            Interpolator::from_tensors_as(DType::F16, &case.layout(), case.tensors(), &Device::Cpu);
        let psnr = psnr(&between(&case, &halves.unwrap()), &case.output());
        println!("{name} in float16: PSNR {psnr:.1} dB");
        assert!(psnr >= 35.0, "{name}: PSNR {psnr} dB");
    }
}

#[test]
fn the_version_is_told_by_names_and_shapes() {
    let told: Vec<String> = golden::rife_cases()
        .iter()
        .map(|case| format!("{}: {}", case.name, case.layout()))
        .collect();
    assert_eq!(
        told,
        [
            "4.0: RIFE 4.0 or 4.1 (blocks of 192, 128, 96, 64 channels)",
            "4.0-rerun: RIFE 4.0 or 4.1 (blocks of 192, 128, 96, 64 channels)",
            "4.2: RIFE 4.2, 4.3 or 4.4 (blocks of 192, 128, 96, 64 channels)",
            "4.5: RIFE 4.5 (blocks of 192, 128, 96, 64 channels)",
            "4.6: RIFE 4.6 (blocks of 192, 128, 96, 64 channels)",
            "4.6-half: RIFE 4.6 (blocks of 192, 128, 96, 64 channels)",
            "4.6-twice: RIFE 4.6 (blocks of 192, 128, 96, 64 channels)",
            "4.7: RIFE 4.7, 4.8 or 4.9 (blocks of 192, 128, 96, 64 channels)",
            "4.10: RIFE 4.10, 4.11 or 4.12 (blocks of 192, 128, 96, 64 channels)",
            "4.13: RIFE 4.13 to 4.19, or 4.24 (blocks of 192, 128, 96, 64 channels)",
            "4.12.lite: RIFE 4.12.lite or 4.13.lite (blocks of 128, 96, 64, 48 channels)",
            "4.14.lite: RIFE 4.14.lite (blocks of 192, 128, 96, 64 channels)",
            "4.15.lite: RIFE 4.15.lite, 4.16.lite or 4.17.lite (blocks of 128, 96, 64, 48 channels)",
            "4.20: RIFE 4.20 (blocks of 384, 192, 96, 48 channels)",
            "4.21: RIFE 4.21, 4.22 or 4.23 (blocks of 256, 192, 96, 48 channels)",
            "4.22.lite: RIFE 4.22.lite (blocks of 192, 128, 64, 32 channels)",
            "4.25: RIFE 4.25 or 4.26 (blocks of 192, 128, 96, 64, 32 channels)",
            "4.25-quarter: RIFE 4.25 or 4.26 (blocks of 192, 128, 96, 64, 32 channels)",
            "4.25.lite: RIFE 4.25.lite (blocks of 192, 128, 96, 64, 24 channels)",
            "4.25.heavy: RIFE 4.25.heavy (blocks of 384, 256, 192, 128, 64 channels)",
            "mini: RIFE 4.6 (blocks of 8, 4, 4, 4 channels)",
            "two blocks: RIFE 4.x (blocks of 8, 4 channels, 2 convolutions each)",
            "three blocks: RIFE 4.x (blocks of 12, 8, 4 channels, 3 convolutions each)",
            "4.26.heavy: RIFE 4.26.heavy (blocks of 192, 128, 96, 64, 32 channels)",
        ]
    );
}

#[test]
fn what_only_training_needs_is_passed_over() {
    let mut case = golden::rife_case("4.25");
    let more = [
        "teacher.block0.conv0.0.0.weight",
        "caltime.0.weight",
        "block_tea.conv0.0.0.bias",
        "contextnet.conv1.weight",
        "unet.down0.bias",
    ];
    let plain = case.layout();
    for name in more {
        case.weights.insert(format!("module.{name}"), vec![7, 7]);
    }
    assert_eq!(case.layout(), plain);
}

#[test]
fn weights_that_are_no_rife_4_are_refused_by_the_tensor_that_says_so() {
    let change = |name: &str, change: &dyn Fn(&mut Shapes)| {
        let mut shapes = golden::rife_case(name).weights;
        change(&mut shapes);
        recognise(&shapes).unwrap_err().to_string()
    };
    let set = |tensor: &'static str, shape: &'static [usize]| {
        move |shapes: &mut Shapes| {
            shapes.insert(tensor.to_owned(), shape.to_vec());
        }
    };
    let remove = |tensor: &'static str| {
        move |shapes: &mut Shapes| {
            shapes.remove(tensor).unwrap();
        }
    };
    for (error, sentence) in [
        (
            change("4.6", &remove("block0.conv0.0.0.weight")),
            "tensor block0.conv0.0.0.bias is of a RIFE before 4.0, or of another network with blocks",
        ),
        (
            change("4.6", &remove("block1.conv0.1.0.weight")),
            "RIFE 4.x has 2 to 5 blocks, and these weights have 1",
        ),
        (
            change("4.6", &remove("block3.conv0.1.0.weight")),
            "tensor block3.",
        ),
        (
            change("4.25", &remove("module.block2.convblock.3.beta")),
            "tensor module.block2.convblock.3.beta is missing: RIFE 4.25 or 4.26",
        ),
        (
            change(
                "4.25-quarter",
                &set("block1.conv0.0.0.weight", &[64, 27, 3, 3]),
            ),
            "tensor block1.conv0.0.0.weight has shape [64, 27, 3, 3], but RIFE 4.25 or 4.26 (blocks of 192, 128, 96, 64, 32 channels) needs [64, 28, 3, 3]",
        ),
        (
            change("4.6", &set("block0.lastconv.0.weight", &[192, 28, 4, 4])),
            "tensor block0.lastconv.0.weight has shape [192, 28, 4, 4]: a block of RIFE 4.x ends with 5, 20, 24 or 52 channels",
        ),
        (
            change("4.6", &remove("block0.lastconv.0.weight")),
            "tensor block0.lastconv.0.weight is missing: RIFE cannot be told apart without it",
        ),
        (
            change(
                "4.6",
                &set("block0.convblock.0.conv.weight", &[192, 190, 3, 3]),
            ),
            "tensor block0.convblock.0.conv.weight has shape [192, 190, 3, 3]: its inputs must divide",
        ),
        (
            change("4.6", &set("refine.weight", &[1])),
            "tensor refine.weight of shape [1] has no place in RIFE 4.6",
        ),
    ] {
        assert!(error.starts_with(sentence), "{error}\n{sentence}");
    }
    let case = golden::rife_case("4.6");
    let refused = detect(&case.weights).unwrap_err().to_string();
    assert_eq!(
        refused,
        "the weights are of RIFE 4.6 (blocks of 192, 128, 96, 64 channels), which makes frames between frames; upscaling needs RRDBNet or SRVGGNetCompact"
    );
    let upscaler = golden::case("compact_x2").weights;
    assert!(matches!(
        recognise(&upscaler),
        Ok(NetworkLayout::Upscaler(_))
    ));
}

#[test]
fn a_frame_can_be_stopped_and_comes_out_the_same_twice() {
    let case = golden::rife_case("4.25.lite");
    let interpolator = case.interpolator();
    let [earlier, later] = case
        .frames()
        .map(|frame| interpolator.source(&frame, FlowScale::Full).unwrap());
    let asked_until = |count: usize| {
        let asked = Cell::new(0);
        let should_stop = || {
            asked.set(asked.get() + 1);
            asked.get() > count
        };
        let new = interpolator.between(&earlier, &later, 0.5, &should_stop);
        (new, asked.get())
    };
    let (whole, asked) = asked_until(usize::MAX);
    assert!(asked >= 50, "asked {asked} times only");
    assert_eq!(
        bits(&whole.unwrap()),
        bits(&asked_until(usize::MAX).0.unwrap())
    );
    for count in [0, 1, asked - 1] {
        let (new, asked) = asked_until(count);
        assert!(matches!(new, Err(NetworkError::Stopped)));
        assert_eq!(asked, count + 1, "went on");
    }
}

#[test]
fn frames_that_are_none_or_differ_in_size_are_refused() {
    let interpolator = golden::rife_case("4.6").interpolator();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    for shape in [&[1, 1, 4, 4][..], &[3, 4, 4], &[1, 3, 0, 4], &[2, 3, 4, 4]] {
        assert!(interpolator.source(&zeros(shape), FlowScale::Full).is_err());
    }
    let source = |width| {
        interpolator
            .source(&zeros(&[1, 3, 8, width]), FlowScale::Full)
            .unwrap()
    };
    let refused = interpolator.between(&source(8), &source(9), 0.5, &never);
    assert!(matches!(refused, Err(NetworkError::Input { .. })));
}
