//! Frames as an MP4, and videos on their whole way.

use std::fs;

use framewright_worker::media::decode::DecodeOptions;

use crate::clips::{
    audio_checksum, bars, clip, copy, decoder, described, encode, encoder, frames, options,
    picture, position, scratch, seconds, streams,
};

#[test]
fn frame_count_and_rate_are_kept_exactly() {
    for (rate, frames) in [("24/1", 36), ("25/1", 40), ("30000/1001", 45)] {
        for name in ["source.mp4", "source.mkv", "source.avi"] {
            let scratch = scratch();
            let source = clip(&scratch, name, &[&picture(rate, frames)]);

            let (video, encoded) = copy(&source, &scratch.path().join("copy.mp4"));

            assert_eq!(video.rate.to_string(), rate, "{name}");
            assert_eq!(video.frames, frames, "{name} at {rate}");
            assert_eq!(encoded.frames, frames, "{name} at {rate}");
            let stream = &streams(&encoded.path)[0];
            assert_eq!(stream["r_frame_rate"], rate);
            assert_eq!(stream["avg_frame_rate"], rate);
            assert_eq!(stream["nb_frames"], frames.to_string());
        }
    }
}

#[test]
fn the_result_is_tagged_and_starts_with_its_index() {
    let scratch = scratch();
    let source = clip(&scratch, "source.mkv", &[&picture("24", 60)]);

    let (_, encoded) = copy(&source, &scratch.path().join("copy.mp4"));

    let stream = &streams(&encoded.path)[0];
    assert_eq!(stream["codec_name"], "h264");
    assert_eq!(stream["pix_fmt"], "yuv420p");
    for tag in ["color_space", "color_transfer", "color_primaries"] {
        assert_eq!(stream[tag], "bt709", "{tag}");
    }
    assert_eq!(stream["color_range"], "tv");
    let bytes = fs::read(&encoded.path).expect("the result");
    assert_eq!(bytes.len() as u64, encoded.bytes);
    assert!(position(&bytes, b"moov") < position(&bytes, b"mdat"));
}

#[test]
fn audio_is_copied_where_an_mp4_may_hold_it_and_becomes_aac_elsewhere() {
    let cases = [
        ("a.mp4", "-c:v libx264 -c:a aac", "aac"),
        ("b.mkv", "-c:v libx264 -c:a libmp3lame", "mp3"),
        ("c.mkv", "-c:v libx264 -c:a pcm_s16le", "aac"),
        ("d.webm", "-c:v libvpx -c:a libvorbis", "aac"),
        ("e.webm", "-c:v libvpx-vp9 -c:a libopus", "opus"),
    ];
    for (name, codecs, expected) in cases {
        let scratch = scratch();
        let sound = "-f lavfi -i sine=frequency=440:duration=2";
        let source = clip(&scratch, name, &[sound, &picture("24", 48), codecs]);

        let (_, encoded) = copy(&source, &scratch.path().join("copy.mp4"));

        let audio = &streams(&encoded.path)[1];
        assert_eq!(audio["codec_name"], expected, "{name}");
        assert!(
            (seconds(audio) - 2.0).abs() < 0.1,
            "{name}: {} s of audio",
            seconds(audio)
        );
        if codecs.ends_with(expected) {
            assert_eq!(
                audio_checksum(&source),
                audio_checksum(&encoded.path),
                "copied bit for bit"
            );
        }
    }
}

#[test]
fn sound_and_picture_stay_together_when_the_picture_starts_late() {
    let scratch = scratch();
    let late = "-itsoffset 0.5 -f lavfi -i testsrc2=s=64x48:r=20:d=1 -f lavfi -i sine=d=2";
    let source = clip(
        &scratch,
        "late.mkv",
        &[late, "-pix_fmt yuv420p -c:v libx264 -c:a aac"],
    );

    let (_, encoded) = copy(&source, &scratch.path().join("copy.mp4"));

    assert_eq!(
        encoded.frames, 30,
        "half a second of the first frame, then a second of picture"
    );
    assert!((seconds(&streams(&encoded.path)[1]) - 2.0).abs() < 0.1);
}

#[test]
fn only_the_first_frames_are_decoded_when_asked_and_audio_is_cut_with_them() {
    let scratch = scratch();
    let source = clip(
        &scratch,
        "source.mp4",
        &["-f lavfi -i sine=d=3", &picture("20", 60), "-c:a aac"],
    );
    let video = described(&source);
    let first = DecodeOptions {
        frames: Some(20),
        ..DecodeOptions::default()
    };
    let mut decoder = decoder(&source, &first);

    let audio = video.audio_track(&source, Some(20));
    let encoded = encode(
        &mut decoder,
        &video,
        audio,
        &scratch.path().join("copy.mp4"),
    );

    assert_eq!(encoded.frames, 20);
    let audio = seconds(&streams(&encoded.path)[1]);
    assert!((audio - 1.0).abs() < 0.1, "{audio} s of audio");
}

#[test]
fn odd_sizes_are_padded_by_one_and_keep_their_picture() {
    let scratch = scratch();
    let path = scratch.path().join("odd.mp4");
    let mut encoder = encoder(&path, options(65, 33));
    encoder.push(bars(65, 33)).expect("takes a frame");
    encoder.finish().expect("finishes");

    let video = described(&path);
    assert_eq!((video.width, video.height), (66, 34));
    let frame = &frames(&path)[0];
    let pixel = |x: usize| &frame.rgb[x * 3..x * 3 + 3];
    let is_close = pixel(65)
        .iter()
        .zip(pixel(64))
        .all(|(a, b)| a.abs_diff(*b) < 8);
    assert!(
        is_close,
        "the last column is repeated: {:?} {:?}",
        pixel(64),
        pixel(65)
    );
}

#[test]
fn the_same_frames_give_the_same_bytes() {
    let scratch = scratch();
    let source = clip(
        &scratch,
        "source.mkv",
        &["-f lavfi -i sine=d=1", &picture("24", 24), "-c:a pcm_s16le"],
    );

    let (_, first) = copy(&source, &scratch.path().join("first.mp4"));
    let (_, second) = copy(&source, &scratch.path().join("second.mp4"));

    assert_eq!(
        fs::read(first.path).expect("first"),
        fs::read(second.path).expect("second")
    );
}
