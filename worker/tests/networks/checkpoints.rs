//! What does a checkpoint hold, told by the shapes of its tensors?

use framewright_worker::models::{DetectError, Shapes, detect};
use framewright_worker::networks::Architecture;

use crate::golden;

#[test]
fn everything_about_a_network_is_told_by_its_shapes() {
    let told: Vec<String> = golden::cases()
        .iter()
        .map(|case| format!("{}: {}", case.name, detect(&case.weights).unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            "rrdb_x4: RRDBNet x4 (2 blocks, 8 features, growth 4)",
            "rrdb_x4_numbered: RRDBNet x4 (2 blocks, 8 features, growth 4)",
            "rrdb_x4_trunk: RRDBNet x4 (1 blocks, 12 features, growth 8)",
            "rrdb_x2_numbered: RRDBNet x2 (1 blocks, 8 features, growth 4)",
            "rrdb_x2_unshuffled: RRDBNet x2 (2 blocks, 8 features, growth 4)",
            "rrdb_x1_unshuffled: RRDBNet x1 (1 blocks, 8 features, growth 4)",
            "rrdb_x4_anime: RRDBNet x4 (6 blocks, 64 features, growth 32)",
            "compact_x4: SRVGGNetCompact x4 (8 features, 3 convolutions)",
            "compact_x3: SRVGGNetCompact x3 (12 features, 2 convolutions)",
            "compact_x2: SRVGGNetCompact x2 (16 features, 4 convolutions)",
            "compact_x4_anime_video: SRVGGNetCompact x4 (64 features, 16 convolutions)",
        ]
    );
}

#[test]
fn a_checkpoint_that_is_none_of_ours_is_refused_by_the_tensor_that_says_so() {
    let change = |name: &str, change: &dyn Fn(&mut Shapes)| {
        let mut shapes = golden::case(name).weights;
        change(&mut shapes);
        detect(&shapes).unwrap_err().to_string()
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
            change("rrdb_x4", &remove("params_ema.body.1.rdb3.conv5.bias")),
            "tensor params_ema.body.1.rdb3.conv5.bias is missing: RRDBNet x4 (2 blocks, 8 features, growth 4) needs it, with shape [8]",
        ),
        (
            change(
                "rrdb_x4",
                &set("params_ema.body.0.rdb2.conv3.weight", &[4, 15, 3, 3]),
            ),
            "tensor params_ema.body.0.rdb2.conv3.weight has shape [4, 15, 3, 3], but RRDBNet x4 (2 blocks, 8 features, growth 4) needs [4, 16, 3, 3]",
        ),
        (
            change(
                "rrdb_x4",
                &set("params_ema.body.7.rdb1.conv1x1.weight", &[4, 4, 1, 1]),
            ),
            "tensor params_ema.body.7.rdb1.conv1x1.weight of shape [4, 4, 1, 1] has no place in RRDBNet x4 (8 blocks",
        ),
        (
            change(
                "rrdb_x4",
                &set("params_ema.conv_first.weight", &[8, 1, 3, 3]),
            ),
            "tensor params_ema.conv_first.weight has shape [8, 1, 3, 3]: an RGB input has 3 channels",
        ),
        (
            change(
                "rrdb_x4",
                &set("params_ema.conv_first.weight", &[8, 3, 5, 5]),
            ),
            "tensor params_ema.conv_first.weight has shape [8, 3, 5, 5]: RRDBNet has 3x3 kernels here",
        ),
        (
            change("rrdb_x2_numbered", &set("model.0.weight", &[8, 48, 3, 3])),
            "tensor model.0.weight has shape [8, 48, 3, 3]: an RGB input has 3 channels",
        ),
        (
            change(
                "rrdb_x4",
                &set("params_ema.body.18446744073709551615.x", &[]),
            ),
            "RRDBNet with 18446744073709551615 blocks is more than the 64",
        ),
        (
            change("compact_x2", &set("body.8.weight", &[12, 16, 3, 3])),
            "tensor body.8.weight has shape [12, 16, 3, 3], but SRVGGNetCompact x2 (16 features, 4 convolutions) needs [16, 16, 3, 3]",
        ),
        (
            change("compact_x2", &set("body.10.weight", &[13, 16, 3, 3])),
            "tensor body.10.weight has shape [13, 16, 3, 3]: an RGB output has 3 x scale x scale channels",
        ),
        (
            change("compact_x2", &remove("body.3.weight")),
            "tensor body.3.weight is missing: SRVGGNetCompact x2",
        ),
        (
            change("compact_x2", &remove("body.1.weight")),
            "no slopes (body.1.weight)",
        ),
        (
            change("compact_x2", &|shapes| {
                *shapes = Shapes::from([("unet.conv_in.weight".to_owned(), vec![1])])
            }),
            "no known network: none of RRDBNet (conv_first.weight or model.0.weight), SRVGGNetCompact (body.0.weight) and RIFE 4.x (block0.conv0.0.0.weight) in 1 tensors (unet.conv_in.weight)",
        ),
        (
            change("compact_x2", &|shapes| shapes.clear()),
            "no known network",
        ),
    ] {
        assert!(error.starts_with(sentence), "{error}\n{sentence}");
    }
}

#[test]
fn averaged_weights_are_taken_where_there_are_both() {
    let mut shapes = golden::case("rrdb_x4").weights;
    let plain = golden::case("compact_x4").weights;
    shapes.extend(plain.clone());
    let Architecture::Rrdb(layout) = detect(&shapes).unwrap() else {
        panic!("the plain weights were taken")
    };
    assert_eq!(layout.prefix, "params_ema.");
    assert!(matches!(detect(&plain), Ok(Architecture::Compact(_))));
    assert!(matches!(
        detect(&Shapes::new()),
        Err(DetectError::Unknown { count: 0, .. })
    ));
}
