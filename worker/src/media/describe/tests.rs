//! What videos are taken for, and which are refused: ffprobe's answers as text.

use super::*;
use crate::media::error::Class;

fn described(streams: &str) -> Result<Video, MediaError> {
    let json = format!(r#"{{"streams": [{streams}], "format": {{"duration": "2.0"}}}}"#);
    describe(json.as_bytes(), Container::Mov, &VideoLimits::default())
}

fn video(index: u32, more: &str) -> String {
    format!(
        r#"{{"index": {index}, "codec_type": "video", "codec_name": "h264", "width": 720, "height": 480,
            "pix_fmt": "yuv420p", "r_frame_rate": "30/1", "avg_frame_rate": "30/1" {more}}}"#
    )
}

fn rate(grid: &str, average: &str) -> String {
    let stream = Stream {
        r_frame_rate: grid.into(),
        avg_frame_rate: average.into(),
        ..Stream::default()
    };
    match constant_rate(&stream, &VideoLimits::default()) {
        Ok(rate) => rate.to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn frames_that_stand_evenly_keep_their_grid_and_others_get_their_average() {
    assert_eq!(rate("30000/1001", "30000/1001"), "30000/1001");
    assert_eq!(rate("30/1", "2997/100"), "30/1");
    assert_eq!(rate("90000/1", "24/1"), "24/1");
    assert_eq!(rate("50/1", "25/1"), "25/1");
    assert_eq!(rate("25/1", "0/0"), "25/1");
    assert_eq!(
        rate("1000/1", "0/0"),
        "the video has 1000/1 frames a second, the limit is 240"
    );
    assert!(rate("0/0", "0/0").contains("does not say"));
}

#[test]
fn the_default_stream_is_chosen_and_cover_art_never() {
    let cover = video(0, r#", "disposition": {"default": 1, "attached_pic": 1}"#);
    let other = video(1, "");
    let main = video(2, r#", "disposition": {"default": 1}"#);
    let sound = r#"{"index": 3, "codec_type": "audio", "codec_name": "aac"}"#;

    let chosen = described(&[&cover, &other, &main, sound].join(",")).expect("a video");
    assert_eq!(
        (chosen.stream, chosen.audio.map(|audio| audio.stream)),
        (2, Some(3))
    );

    let only_cover = described(&[&cover, sound].join(",")).expect_err("a song with a picture");
    assert_eq!(
        only_cover.to_string(),
        "the file holds no video stream, only audio"
    );
}

#[test]
fn a_picture_is_stretched_and_turned_but_never_shrunk() {
    let size = |more: &str| {
        described(&video(0, more))
            .map(|video| (video.width, video.height))
            .ok()
    };
    assert_eq!(size(r#", "sample_aspect_ratio": "1:1""#), Some((720, 480)));
    assert_eq!(size(r#", "sample_aspect_ratio": "0:1""#), Some((720, 480)));
    assert_eq!(size(r#", "sample_aspect_ratio": "8:9""#), Some((720, 540)));
    assert_eq!(
        size(r#", "sample_aspect_ratio": "32:27""#),
        Some((853, 480))
    );
    assert_eq!(
        size(r#", "side_data_list": [{}, {"rotation": -90}]"#),
        Some((480, 720))
    );
    assert_eq!(
        size(r#", "side_data_list": [{"rotation": 180}]"#),
        Some((720, 480))
    );
}

#[test]
fn a_header_that_lies_is_refused_and_never_overflows() {
    let refused = |more: &str| described(&video(0, more)).expect_err("refused");
    let wide = refused(r#", "sample_aspect_ratio": "4294967295:1""#);
    assert!(matches!(wide, MediaError::VideoTooLarge { .. }), "{wide}");

    let endless = described(&video(0, r#", "duration": "1e30""#)).expect("a video");
    assert_eq!(
        endless.frames,
        Some(60),
        "the container's duration counts then"
    );
    let long = described(&video(0, r#", "duration": "99999999""#)).expect("a video");
    let error = long
        .check_length(&VideoLimits::default(), None)
        .expect_err("too long");
    assert_eq!(error.class(), Class::InvalidInput);
}
