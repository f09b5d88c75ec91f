//! Real-ESRGAN's networks as deep as they are published, with few channels so that they compute within seconds.

use framewright_worker::models::Shapes;

use crate::golden::Case;

const BLOCKS: usize = 23;
const FEATURES: usize = 12;
const GROWTH: usize = 6;

/// RealESRGAN_x4plus: the pixels as they are, enlarged by 4.
pub(crate) fn x4plus() -> Case {
    case("x4plus", 1)
}

/// RealESRGAN_x2plus: squares of 2 x 2 pixels folded into channels, enlarged by 4.
pub(crate) fn x2plus() -> Case {
    case("x2plus", 2)
}

fn case(name: &str, unshuffle: usize) -> Case {
    let mut weights = Shapes::new();
    let mut conv = |name: String, inputs: usize, outputs: usize| {
        let name = format!("params_ema.{name}");
        weights.insert(format!("{name}.weight"), vec![outputs, inputs, 3, 3]);
        weights.insert(format!("{name}.bias"), vec![outputs]);
    };
    conv("conv_first".into(), 3 * unshuffle * unshuffle, FEATURES);
    for block in 0..BLOCKS {
        for dense in 1..=3 {
            for index in 1..=5 {
                let outputs = if index < 5 { GROWTH } else { FEATURES };
                let name = format!("body.{block}.rdb{dense}.conv{index}");
                conv(name, FEATURES + (index - 1) * GROWTH, outputs);
            }
        }
    }
    for name in ["conv_body", "conv_up1", "conv_up2", "conv_hr"] {
        conv(name.into(), FEATURES, FEATURES);
    }
    conv("conv_last".into(), FEATURES, 3);
    Case {
        name: name.to_owned(),
        input: [1, 3, 8, 8],
        weights,
    }
}
