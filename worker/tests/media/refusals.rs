//! Files that are no video, or a broken or hostile one.

use std::fs;
use std::path::Path;

use framewright_worker::media::decode::{DecodeOptions, Decoder};
use framewright_worker::media::probe::probe;
use framewright_worker::media::{Class, MediaError, VideoLimits};

use crate::clips::{PATIENCE, clip, damaged, ours, picture, position, refused, scratch};

#[test]
fn files_that_are_no_video_are_invalid_input() {
    let scratch = scratch();
    let cases: [(&str, &[u8], &str); 5] = [
        ("empty.mp4", b"", "the file is empty"),
        ("text.mp4", b"I am a video, trust me.\n", "the file is text"),
        (
            "hls.mp4",
            b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
            "the file is a playlist",
        ),
        (
            "concat.mp4",
            b"ffconcat version 1.0\nfile '/etc/passwd'\n",
            "the file is a playlist",
        ),
        (
            "cover.mp4",
            b"\x89PNG\r\n\x1a\n",
            "a video is needed, but the file is a PNG image",
        ),
    ];
    for (name, bytes, sentence) in cases {
        let path = scratch.path().join(name);
        fs::write(&path, bytes).expect("the file");

        let error = refused(&path);

        assert_eq!(error.class(), Class::InvalidInput, "{name}");
        assert!(error.to_string().starts_with(sentence), "{name}: {error}");
    }
}

#[test]
fn a_playlist_in_a_videos_clothes_reads_no_other_file() {
    let scratch = scratch();
    let secret = clip(&scratch, "secret.mp4", &[&picture("24", 5)]);
    let secret = secret.display();
    let concat = format!("ffconcat version 1.0\nfile '{secret}'\n");
    let hls =
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n");
    let magics: [&[u8]; 3] = [
        b"\0\0\0\x10ftypisom\0\0\0\0",
        b"\x1a\x45\xdf\xa3",
        b"RIFF\0\0\0\0AVI ",
    ];
    for playlist in [concat, hls] {
        for magic in magics {
            let path = scratch.path().join("playlist.mp4");
            fs::write(&path, [magic, playlist.as_bytes()].concat()).expect("the file");

            let error = refused(&path);

            assert_eq!(error.class(), Class::InvalidInput, "{error}");
        }
    }
}

#[test]
fn a_video_that_is_cut_short_is_invalid_input() {
    let scratch = scratch();
    let cases = [
        ("index-last.mp4", ""),
        ("index-first.mp4", "-movflags +faststart"),
        ("fragments.mp4", "-movflags +frag_keyframe+empty_moov -g 8"),
        ("matroska.mkv", ""),
        ("riff.avi", ""),
    ];
    for (name, extra) in cases {
        let source = clip(&scratch, name, &[&picture("24", 48), extra]);
        let bytes = fs::read(&source).expect("the clip");
        fs::write(&source, &bytes[..bytes.len() * 2 / 3]).expect("cut");

        let error = refused(&source);

        assert_eq!(error.class(), Class::InvalidInput, "{name}: {error}");
        assert!(error.to_string().contains("cut short"), "{name}: {error}");
    }
}

#[test]
fn a_video_without_an_index_is_invalid_input() {
    let scratch = scratch();
    let source = clip(&scratch, "source.mp4", &[&picture("24", 48)]);
    let bytes = fs::read(&source).expect("the clip");
    fs::write(&source, &bytes[..position(&bytes, b"moov") - 4]).expect("cut");

    let error = refused(&source);

    assert_eq!(error.class(), Class::InvalidInput, "{error}");
    assert!(
        error.to_string().contains("its index is missing"),
        "{error}"
    );
}

#[test]
fn frames_that_are_missing_from_a_whole_container_are_invalid_input() {
    let scratch = scratch();
    let sound = "-f lavfi -i sine=d=2";
    let whole = clip(
        &scratch,
        "whole.mp4",
        &[sound, &picture("24", 48), "-c:a aac -movflags +faststart"],
    );
    let whole = fs::read(&whole).expect("the clip");
    let data = position(&whole, b"mdat");
    for tenths in [4, 5, 6, 7, 8, 9] {
        let kept = data + (whole.len() - data) * tenths / 10;
        let mut bytes = whole[..kept].to_vec();
        let size = (kept - (data - 4)) as u32;
        bytes[data - 4..data].copy_from_slice(&size.to_be_bytes());
        let source = scratch.path().join("cut.mp4");
        fs::write(&source, bytes).expect("cut");

        let error = run_through(&source).expect_err("its end is missing");

        assert_eq!(
            error.class(),
            Class::InvalidInput,
            "{tenths} tenths: {error}"
        );
        assert!(
            error.to_string().contains("cut short"),
            "{tenths} tenths: {error}"
        );
    }
}

#[test]
fn frames_that_cannot_be_decoded_are_invalid_input_and_not_left_out() {
    let scratch = scratch();
    let source = clip(
        &scratch,
        "source.mp4",
        &[&picture("24", 48), "-g 48 -movflags +faststart"],
    );
    let mut bytes = fs::read(&source).expect("the clip");
    let end = bytes.len();
    bytes[end - 150..].fill(0xff);
    fs::write(&source, bytes).expect("the damage");

    let error = run_through(&source).expect_err("its last frames are gone");

    assert_eq!(error.class(), Class::InvalidInput, "{error}");
}

#[test]
fn audio_alone_is_no_video() {
    let scratch = scratch();
    let source = clip(&scratch, "sound.mp4", &["-f lavfi -i sine=d=1 -c:a aac"]);

    let error = refused(&source);

    assert_eq!(
        error.to_string(),
        "the file holds no video stream, only audio"
    );
    assert_eq!(error.class(), Class::InvalidInput);
}

#[test]
fn high_dynamic_range_is_refused_by_name() {
    let scratch = scratch();
    let tags = "-c:v libx264 -color_trc smpte2084 -color_primaries bt2020 -colorspace bt2020nc";
    let source = clip(&scratch, "hdr.mkv", &[&picture("24", 2), tags]);

    let error = refused(&source);

    assert_eq!(error.class(), Class::InvalidInput);
    assert!(error.to_string().contains("HDR (PQ)"), "{error}");
}

#[test]
fn a_codec_that_is_not_accepted_is_named() {
    let scratch = scratch();
    let source = clip(&scratch, "old.avi", &[&picture("25", 2), "-c:v msmpeg4v2"]);

    let error = refused(&source);

    assert_eq!(error.class(), Class::InvalidInput);
    assert!(error.to_string().contains("coded as msmpeg4v2"), "{error}");
}

#[test]
fn damage_anywhere_is_the_files_fault_or_does_not_matter() {
    let scratch = scratch();
    let sound = "-f lavfi -i sine=d=0.5";
    for name in ["source.mp4", "source.mkv"] {
        let source = clip(&scratch, name, &[sound, &picture("24", 12), "-c:a aac"]);
        let bytes = fs::read(&source).expect("the clip");
        for seed in 1..=12 {
            fs::write(&source, damaged(&bytes, seed)).expect("the damage");

            let class = run_through(&source).err().map(|error| error.class());

            assert!(
                matches!(class, None | Some(Class::InvalidInput)),
                "{name}, seed {seed}: {class:?}"
            );
        }
    }
}

fn run_through(path: &Path) -> Result<(), MediaError> {
    let programs = ours();
    let video = probe(&programs, path, &VideoLimits::default(), PATIENCE)?;
    let mut decoder = Decoder::open(&programs, path, &video, &DecodeOptions::default())?;
    while decoder.next_frame()?.is_some() {}
    Ok(())
}
