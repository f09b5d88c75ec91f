//! What videos are taken for, and which are refused: ffprobe's answers as text.

use super::*;
use crate::media::error::Class;

fn described(streams: &str) -> Result<Video, MediaError> {
    let json = format!(r#"{{"streams": [{streams}], "format": {{"start_time": "0.0"}}}}"#);
    let packets = PacketTimes::parse("0,0,K_\n500,500,__\n1000,1000,__\n");
    match describe(
        json.as_bytes(),
        Container::Mov,
        &VideoLimits::default(),
        Some(&packets),
    )? {
        Described::Video(video) => Ok(*video),
        Described::NeedsPackets { .. } => panic!("packets are there"),
    }
}

fn video(index: u32, more: &str) -> String {
    format!(
        r#"{{"index": {index}, "codec_type": "video", "codec_name": "h264", "width": 720, "height": 480,
            "pix_fmt": "yuv420p", "r_frame_rate": "30/1", "avg_frame_rate": "30/1",
            "time_base": "1/15000" {more}}}"#
    )
}

#[test]
fn the_default_stream_is_chosen_and_cover_art_never() {
    let cover = video(0, r#", "disposition": {"default": 1, "attached_pic": 1}"#);
    let other = video(1, "");
    let main = video(2, r#", "disposition": {"default": 1}"#);
    let sound = r#"{"index": 3, "codec_type": "audio", "codec_name": "aac"}"#;

    let chosen = described(&[&cover, &other, &main, sound].join(",")).expect("a video");
    assert_eq!(
        (
            chosen.stream,
            chosen.sounds.first().map(|sound| sound.stream)
        ),
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

    let ticks = |time_base: &str| described(&video(0, "").replace("1/15000", time_base));
    let fast = ticks("1/1000000").expect_err("refused");
    assert!(
        fast.to_string()
            .ends_with("frames a second, the limit is 240"),
        "{fast}"
    );
    let long = ticks("4/1").expect("a video");
    let error = long
        .check_length(&VideoLimits::default(), None)
        .expect_err("too long");
    assert_eq!(error.class(), Class::InvalidInput);
}

#[test]
fn of_default_streams_the_largest_is_chosen_and_the_others_are_named() {
    let preview = r#"{"index": 0, "codec_type": "video", "codec_name": "h264", "width": 32, "height": 24,
        "time_base": "1/15000", "disposition": {"default": 1}}"#;
    let main = video(1, r#", "disposition": {"default": 1}"#);
    let other = video(2, r#", "disposition": {"default": 1}"#);
    let chosen = described(&[preview, &main, &other].join(",")).expect("a video");
    assert_eq!(chosen.stream, 1);
    assert_eq!(chosen.left_out(None), [LeftOut::Videos]);
}

#[test]
fn a_sound_with_more_channels_than_can_be_mixed_down_is_refused_and_one_that_is_copied_is_not() {
    let sound = |codec: &str, channels: u32| {
        let sound = format!(
            r#"{{"index": 1, "codec_type": "audio", "codec_name": "{codec}", "channels": {channels}, "sample_rate": "48000"}}"#
        );
        described(&[&video(0, ""), sound.as_str()].join(","))
    };
    assert!(sound("pcm_s16le", 8).is_ok());
    assert!(sound("opus", 12).is_ok());
    let refused = sound("pcm_s16le", 12).expect_err("12 channels");
    assert_eq!(refused.class(), Class::InvalidInput);
    assert!(refused.to_string().contains("has 12 channels"), "{refused}");
}

#[test]
fn dolby_vision_is_refused_by_its_record_unless_its_base_is_standard_dynamic_range() {
    let record = |profile: u32, base: u32| {
        described(&video(
            0,
            &format!(
                r#", "side_data_list": [{{"dv_profile": {profile}, "dv_bl_signal_compatibility_id": {base}}}]"#
            ),
        ))
    };
    assert!(record(8, 2).is_ok());
    for (profile, base) in [(5, 0), (8, 1), (8, 4), (7, 6)] {
        let refused = record(profile, base).expect_err("HDR").to_string();
        let words = format!("HDR (Dolby Vision, profile {profile})");
        assert!(refused.contains(&words), "{refused}");
    }
}
