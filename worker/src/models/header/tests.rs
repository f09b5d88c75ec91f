//! True headers are read, and each lie has its sentence.

use super::*;

const TRUE: &str = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"F16","shape":[],"data_offsets":[24,26]}}"#;

#[test]
fn a_true_header_is_read() {
    let header = Header::parse("x", TRUE.as_bytes(), 26).unwrap();
    assert_eq!(
        header.tensors["a"],
        TensorInfo {
            dtype: WeightType::F32,
            shape: vec![2, 3]
        }
    );
    assert_eq!(
        header.tensors["b"],
        TensorInfo {
            dtype: WeightType::F16,
            shape: vec![]
        }
    );
}

#[test]
fn each_lie_has_its_sentence() {
    let a = |rest: &str| format!(r#"{{"a":{{{rest}}}}}"#);
    let long = "n".repeat(513);
    for (header, bytes, sentence) in [
        (String::new(), 0, "x has a header that is no JSON"),
        ("[]".to_owned(), 0, "x has a header that is no JSON"),
        ("[".repeat(1_000_000), 0, "x has a header that is no JSON"),
        (TRUE[..60].to_owned(), 26, "x has a header that is no JSON"),
        (
            a(r#""dtype":"F32","shape":[-1],"data_offsets":[0,4]"#),
            4,
            "x has a header that is no JSON",
        ),
        (
            a(r#""dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1"#),
            4,
            "x has a header that is no JSON",
        ),
        (
            TRUE.to_owned(),
            25,
            "x puts tensor b at bytes 24 to 26, but only 25 follow the header",
        ),
        (
            TRUE.to_owned(),
            30,
            "x has 4 bytes that belong to no tensor, before its end",
        ),
        (
            TRUE.replace("[24,26]", "[25,27]"),
            27,
            "x has 1 bytes that belong to no tensor, before tensor b",
        ),
        (
            TRUE.replace("[24,26]", "[23,25]"),
            25,
            "x puts tensor b at byte 23, where the one before it goes on to 24",
        ),
        (
            TRUE.replace("[24,26]", "[26,24]"),
            26,
            "x puts tensor b at bytes 26 to 24, but only 26 follow",
        ),
        (
            TRUE.replace("[2,3]", "[2,4]"),
            26,
            "x gives tensor a 24 bytes, but F32 of shape [2, 4] does not",
        ),
        (
            a(&format!(
                r#""dtype":"F32","shape":[{0},{0}],"data_offsets":[0,0]"#,
                1u64 << 63
            )),
            0,
            "x gives tensor a 0 bytes",
        ),
        (
            TRUE.replace("F16", "I8"),
            26,
            "x has tensor b of type \"I8\": F16, BF16, F32 and F64 are read",
        ),
        (
            TRUE.replace("[]", "[1,1,1,1,1,1,1,1,1]"),
            26,
            "x has tensor b of 9 dimensions",
        ),
        (
            TRUE.replace("\"b\"", "\"\""),
            26,
            "x has a tensor whose name is empty",
        ),
        (
            TRUE.replace("\"b\"", "\"b\\u001b[2J\""),
            26,
            "x has a tensor whose name is empty, longer",
        ),
        (
            TRUE.replace("\"b\"", &format!("\"{long}\"")),
            26,
            "x has a tensor whose name is empty, longer",
        ),
        (TRUE.replace("\"b\"", "\"a\""), 26, "x names tensor a twice"),
    ] {
        let error = Header::parse("x", header.as_bytes(), bytes).unwrap_err();
        assert!(
            error.to_string().starts_with(sentence),
            "{error}\n{sentence}"
        );
        assert!(error.blames_the_file());
    }
}

#[test]
fn a_length_beyond_the_file_or_the_limit_is_not_read() {
    for (bytes, sentence) in [
        (vec![], "x is no safetensors file: it has 0 bytes"),
        (vec![1; 7], "x is no safetensors file: it has 7 bytes"),
        (
            b"\x03\0\0\0\0\0\0\0{}".to_vec(),
            "x is no safetensors file: its header would have 3 bytes, of 10",
        ),
        (
            vec![0xff; 64],
            "x is no safetensors file: its header would have 18446744073709551615 bytes",
        ),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let error = Header::read("x", file.path()).unwrap_err();
        assert!(error.to_string().starts_with(sentence), "{error}");
    }
}

#[test]
fn a_header_over_the_limit_is_refused_though_the_file_is_long_enough() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), (LONGEST_HEADER + 1).to_le_bytes()).unwrap();
    file.as_file().set_len(LONGEST_HEADER + 1000).unwrap();
    let error = Header::read("x", file.path()).unwrap_err();
    assert!(matches!(error, HeaderError::Length { .. }), "{error}");
}
