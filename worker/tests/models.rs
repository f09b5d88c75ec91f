//! Weight files from disk: what is loaded, what is refused, and that the way out of a refusal works.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is the point"
)]

#[path = "golden/closeness.rs"]
#[allow(dead_code, reason = "a part of it is needed")]
mod closeness;
mod golden;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{DType, Device, Tensor};
use framewright_worker::models::Shapes;
use framewright_worker::models::verify::Sha256;
use framewright_worker::models::{WeightFile, WeightsError, load_network, load_upscaler};
use framewright_worker::networks::{LoadedNetwork, Upscaler};

#[test]
fn a_file_loads_and_computes_what_its_tensors_do() {
    let case = golden::case("compact_x2");
    let folder = tempfile::tempdir().unwrap();
    let path = save(&golden::weights(&case.weights), folder.path());
    let loaded = load("x.safetensors", &path).unwrap();
    assert_eq!(values(&loaded), values(&case.upscaler()));
}

#[test]
fn half_precision_weights_compute_in_float32() {
    let case = golden::case("compact_x2");
    let folder = tempfile::tempdir().unwrap();
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        let stored = convert(golden::weights(&case.weights), dtype);
        let loaded = load("x.safetensors", &save(&stored, folder.path())).unwrap();
        let expected = golden::upscaler(&case.weights, convert(stored, DType::F32));
        assert_eq!(values(&loaded), values(&expected), "{dtype:?}");
    }
}

#[test]
fn another_file_than_the_pinned_one_is_not_parsed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    std::fs::write(&path, vec![0xff; 100]).unwrap();
    let sha256 = Sha256::of(b"something else".as_slice()).unwrap();
    let error = load_upscaler(
        WeightFile {
            name: "x",
            path: &path,
            sha256,
        },
        &Device::Cpu,
    )
    .err()
    .unwrap();
    assert!(matches!(error, WeightsError::Verify(_)), "{error}");
    assert!(error.blames_the_file());
}

#[test]
fn a_header_that_lies_is_found_before_the_file_is_mapped() {
    let case = golden::case("compact_x2");
    let folder = tempfile::tempdir().unwrap();
    let path = save(&golden::weights(&case.weights), folder.path());
    let bytes = std::fs::read(&path).unwrap();
    for broken in [
        &bytes[..bytes.len() - 1],
        &bytes[..100],
        &[bytes.as_slice(), b"more"].concat(),
    ] {
        std::fs::write(&path, broken).unwrap();
        let error = load("x.safetensors", &path).err().unwrap();
        assert!(matches!(error, WeightsError::Header(_)), "{error}");
        assert!(error.blames_the_file());
    }
}

#[test]
fn any_damaged_file_ends_in_an_error_that_blames_it_or_in_a_network() {
    let case = golden::case("compact_x2");
    let folder = tempfile::tempdir().unwrap();
    let path = save(&golden::weights(&case.weights), folder.path());
    let whole = std::fs::read(&path).unwrap();
    for place in 0..whole.len().min(1400) {
        for change in [0x01, 0x80] {
            let mut bytes = whole.clone();
            bytes[place] ^= change;
            std::fs::write(&path, &bytes).unwrap();
            if let Err(error) = load("x.safetensors", &path) {
                assert!(error.blames_the_file(), "byte {place}: {error}");
            }
        }
    }
}

#[test]
fn the_command_in_the_refusal_of_a_pickle_converts_it() {
    let shapes: Shapes = compact_shapes();
    let expected = golden::upscaler(&shapes, golden::weights(&shapes));
    for pickle in ["compact.pth", "compact_legacy.pth"] {
        let workplace = workplace(pickle);
        let error = load(pickle, &workplace.path().join(pickle)).err().unwrap();
        assert!(matches!(error, WeightsError::Pickle(_)), "{error}");
        let output = run(&command_of(&error), workplace.path());
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{message}");
        let converted = workplace
            .path()
            .join(pickle.replace(".pth", ".safetensors"));
        let loaded = load("converted.safetensors", &converted).unwrap();
        assert_eq!(values(&loaded), values(&expected), "{pickle}");
        let sha256 = Sha256::of(std::fs::File::open(&converted).unwrap())
            .unwrap()
            .to_string();
        assert!(
            String::from_utf8_lossy(&output.stdout).contains(&sha256),
            "the digest to pin is not printed"
        );
    }
}

#[test]
fn the_pickle_of_a_rife_is_converted_without_what_only_training_needs() {
    let case = golden::rife_case("mini");
    let workplace = workplace("flownet.pkl");
    let pickle = workplace.path().join("flownet.pkl");
    let error = load("flownet.pkl", &pickle).err().unwrap();
    assert!(run(&command_of(&error), workplace.path()).status.success());
    let converted = workplace.path().join("flownet.safetensors");
    let sha256 = Sha256::of(std::fs::File::open(&converted).unwrap()).unwrap();
    let file = WeightFile {
        name: "flownet.safetensors",
        path: &converted,
        sha256,
    };
    let LoadedNetwork::Interpolator(loaded) = load_network(file, &Device::Cpu).unwrap() else {
        panic!("not recognised as a RIFE");
    };
    let [earlier, later] = case
        .frames()
        .map(|frame| loaded.source(&frame, case.flow_scale()).unwrap());
    let new = loaded
        .between(&earlier, &later, case.time, &|| false)
        .unwrap();
    assert!(closeness::worst(&new, &case.output()) < 1e-4);
    let stored = candle_core::safetensors::load(&converted, &Device::Cpu).unwrap();
    assert_eq!(stored.len(), case.weights.len());
    let refused = load("flownet.safetensors", &converted).err().unwrap();
    assert!(refused.blames_the_file(), "{refused}");
}

#[test]
fn the_documents_have_the_command_of_the_refusal() {
    let documents = include_str!("../../docs/models.md");
    let mut lines = documents.lines().map(str::trim);
    let command = lines.find(|line| line.contains("convert.py")).unwrap();
    assert_eq!(
        command,
        framewright_worker::models::pickle::command("RealESRGAN_x4plus.pth")
    );
}

#[test]
fn a_network_without_slopes_is_refused_until_its_activation_is_given() {
    let pickle = "compact_without_slopes.pth";
    let workplace = workplace(pickle);
    let command = command_of(&load(pickle, &workplace.path().join(pickle)).err().unwrap());
    assert!(run(&command, workplace.path()).status.success());
    let converted = workplace.path().join("compact_without_slopes.safetensors");
    let error = load("x", &converted).err().unwrap();
    assert!(
        std::error::Error::source(&error)
            .unwrap()
            .to_string()
            .contains("--activation"),
        "{error}"
    );
    assert!(
        run(
            &format!("{command} --activation leakyrelu"),
            workplace.path()
        )
        .status
        .success()
    );
    let shapes = compact_shapes();
    let mut weights = golden::weights(&shapes);
    for slopes in ["body.1.weight", "body.3.weight"] {
        weights.insert(
            slopes.to_owned(),
            Tensor::full(0.1f32, 8, &Device::Cpu).unwrap(),
        );
    }
    assert_eq!(
        values(&load("x", &converted).unwrap()),
        values(&golden::upscaler(&shapes, weights))
    );
}

#[test]
fn a_pickle_that_runs_code_is_neither_loaded_nor_run_by_the_converter() {
    let workplace = workplace("compact.pth");
    let path = workplace.path().join("evil.pth");
    std::fs::write(&path, b"\x80\x02cos\nsystem\nX\x0b\0\0\0touch pwned\x85R.").unwrap();
    let error = load("evil.pth", &path).err().unwrap();
    let output = run(&command_of(&error), workplace.path());
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        message.starts_with("cannot convert evil.pth: it holds os.system"),
        "{message}"
    );
    assert!(!workplace.path().join("pwned").exists());
    assert!(!workplace.path().join("evil.safetensors").exists());
}

/// A folder that holds a pickle, and the converter where the command looks for it.
fn workplace(pickle: &str) -> tempfile::TempDir {
    let crate_folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let workplace = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(workplace.path().join("worker/tools")).unwrap();
    std::fs::copy(
        crate_folder.join("tools/convert.py"),
        workplace.path().join("worker/tools/convert.py"),
    )
    .unwrap();
    std::fs::copy(
        crate_folder.join("tests/fixtures").join(pickle),
        workplace.path().join(pickle),
    )
    .unwrap();
    workplace
}

fn command_of(error: &WeightsError) -> String {
    let message = error.to_string();
    let (_, rest) = message.split_once("convert it with ").unwrap();
    rest.split_once(", and pin").unwrap().0.to_owned()
}

fn run(command: &str, folder: &Path) -> std::process::Output {
    Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .output()
        .unwrap()
}

fn load(name: &str, path: &Path) -> Result<Upscaler, WeightsError> {
    let sha256 = Sha256::of(std::fs::File::open(path).unwrap()).unwrap();
    load_upscaler(WeightFile { name, path, sha256 }, &Device::Cpu)
}

fn save(tensors: &HashMap<String, Tensor>, folder: &Path) -> PathBuf {
    let path = folder.join("x.safetensors");
    candle_core::safetensors::save(tensors, &path).unwrap();
    path
}

fn convert(tensors: HashMap<String, Tensor>, dtype: DType) -> HashMap<String, Tensor> {
    tensors
        .into_iter()
        .map(|(name, tensor)| (name, tensor.to_dtype(dtype).unwrap()))
        .collect()
}

fn values(upscaler: &Upscaler) -> Vec<f32> {
    upscaler
        .forward(&golden::frames("frame", 1, 6, 7))
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// The network in `fixtures`: x2, 8 features, one convolution between the first and the last.
fn compact_shapes() -> Shapes {
    [
        ("body.0.weight", vec![8, 3, 3, 3]),
        ("body.0.bias", vec![8]),
        ("body.1.weight", vec![8]),
        ("body.2.weight", vec![8, 8, 3, 3]),
        ("body.2.bias", vec![8]),
        ("body.3.weight", vec![8]),
        ("body.4.weight", vec![12, 8, 3, 3]),
        ("body.4.bias", vec![12]),
    ]
    .map(|(name, shape)| (name.to_owned(), shape))
    .into()
}
