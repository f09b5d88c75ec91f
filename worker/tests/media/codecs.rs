//! Every codec that docs/jobs.md lists is read by the programs in the worker's image.

use framewright_worker::media::decode::DecodeOptions;

use crate::clips::{clip, copy, decoder, picture, scratch, streams};

#[test]
fn every_video_codec_of_the_list_is_decoded_to_its_last_frame() {
    let cases = [
        ("h264.mp4", "-c:v libx264"),
        ("hevc.mp4", "-c:v libx265 -x265-params log-level=none"),
        ("av1.mkv", "-c:v libaom-av1 -cpu-used 8"),
        ("vp9.webm", "-c:v libvpx-vp9"),
        ("vp8.webm", "-c:v libvpx"),
        ("mpeg4.avi", "-c:v mpeg4"),
        ("mpeg2.mkv", "-c:v mpeg2video"),
        ("mjpeg.mov", "-c:v mjpeg"),
        ("prores.mov", "-c:v prores_ks -pix_fmt yuv422p10le"),
        (
            "dnxhd.mov",
            "-c:v dnxhd -profile:v dnxhr_sq -s 256x128 -pix_fmt yuv422p",
        ),
        ("ffv1.mkv", "-c:v ffv1"),
        ("png.mov", "-c:v png -pix_fmt rgb24"),
        ("raw.avi", "-c:v rawvideo"),
    ];
    for (name, codec) in cases {
        let scratch = scratch();
        let source = clip(&scratch, name, &[&picture("24", 5), codec]);

        let mut decoder = decoder(&source, &DecodeOptions::default());

        let frames = std::iter::from_fn(|| {
            decoder
                .next_frame()
                .unwrap_or_else(|error| panic!("{name}: {error}"))
        });
        assert_eq!(frames.count(), 5, "{name}");
    }
}

#[test]
fn every_sound_of_the_list_is_kept_or_becomes_aac() {
    let cases = [
        ("aac.mkv", "aac", "aac"),
        ("mp3.mkv", "libmp3lame", "mp3"),
        ("mp2.mkv", "mp2", "aac"),
        ("opus.mkv", "libopus", "opus"),
        ("vorbis.mkv", "libvorbis", "aac"),
        ("flac.mkv", "flac", "aac"),
        ("alac.mkv", "alac", "alac"),
        ("ac3.mkv", "ac3", "ac3"),
        ("eac3.mkv", "eac3", "eac3"),
        ("dts.mkv", "dca -strict -2", "aac"),
        ("pcm32.mkv", "pcm_s32le", "aac"),
        ("pcm24.mov", "pcm_s24be", "aac"),
        ("float.mkv", "pcm_f32le", "aac"),
        ("mulaw.mov", "pcm_mulaw", "aac"),
        ("alaw.avi", "pcm_alaw", "aac"),
    ];
    for (name, codec, expected) in cases {
        let scratch = scratch();
        let sound = "-f lavfi -i sine=frequency=440:duration=1:sample_rate=48000 -ac 2";
        let codec = format!("-c:v libx264 -c:a {codec}");
        let source = clip(&scratch, name, &[sound, &picture("24", 24), &codec]);

        let (_, encoded) = copy(&source, &scratch.path().join("copy.mp4"));

        let streams = streams(&encoded.path);
        let count = streams.as_array().map_or(0, Vec::len);
        assert_eq!(count, 2, "{name}: picture and sound");
        assert_eq!(streams[1]["codec_name"], expected, "{name}");
    }
}
