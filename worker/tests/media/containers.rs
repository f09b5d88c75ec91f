//! Files as browsers, cameras and editors write them: what lies in them beside one even video, and what their headers do not say.

use std::fs;
use std::path::Path;

use framewright_worker::media::LeftOut;
use tempfile::TempDir;

use crate::clips::{clip, copy, described, frames, picture, scratch, streams};

/// A WebM as browsers record it: without frame rate and duration, with times in milliseconds that jitter.
fn recording(scratch: &TempDir, rate: u32, steps: &[u32]) -> std::path::PathBuf {
    let mut times = vec![0];
    while times.len() < 56 {
        times.push(times[times.len() - 1] + steps[(times.len() - 1) % steps.len()]);
    }
    let table: Vec<String> = times
        .iter()
        .enumerate()
        .map(|(frame, time)| format!("eq(N\\,{frame})*{time}"))
        .collect();
    let order = format!("-vf settb=1/1000,setpts={}", table.join("+"));
    let source = format!("-f lavfi -i testsrc2=s=96x64:r={rate},trim=end_frame=56");
    let coding = "-fps_mode passthrough -enc_time_base 1:1000 -c:v libvpx -b:v 300k -deadline realtime -live 1";
    let path = clip(
        scratch,
        &format!("recording-{rate}.webm"),
        &[&source, &order, coding],
    );
    let mut bytes = fs::read(&path).expect("the recording");
    // A Void element takes the place of DefaultDuration.
    while let Some(at) = bytes.windows(3).position(|mark| mark == [0x23, 0xe3, 0x83]) {
        let length = bytes[at + 3] & 0x7f;
        bytes[at] = 0xec;
        bytes[at + 1] = 0x80 | (2 + length);
        bytes[at + 2..at + 4 + usize::from(length)].fill(0);
    }
    fs::write(&path, bytes).expect("written");
    path
}

#[test]
fn a_browsers_recording_has_the_frames_that_it_has() {
    let scratch = scratch();
    for (rate, steps, seconds) in [
        (30, &[21, 38, 27, 45, 29, 52, 23, 36, 41, 31][..], 1.9),
        (60, &[33, 34, 17, 50, 33, 33, 66, 34, 16, 33, 51], 2.0),
        (29, &[100, 67, 133, 100, 34, 166, 99, 101], 5.5),
    ] {
        let source = recording(&scratch, rate, steps);
        let (video, encoded) = copy(&source, &scratch.path().join("copy.mp4"));
        let close = |frames: u64| frames.abs_diff(56) <= 1;
        assert!(
            close(video.frames) && close(encoded.frames),
            "{rate}: {}, {}",
            video.frames,
            encoded.frames
        );
        let lasts = encoded.frames as f64 / video.rate.as_f64();
        assert!((lasts - seconds).abs() < 0.15, "{rate}: {lasts} s");
    }
}

#[test]
fn a_subtitle_far_away_makes_no_video_longer() {
    let scratch = scratch();
    let text = scratch.path().join("late.srt");
    fs::write(
        &text,
        "1\n00:00:00,500 --> 00:00:01,000\nearly\n\n2\n01:30:00,000 --> 01:30:02,000\nlate\n",
    )
    .expect("written");
    let subtitles = format!(
        "-i {} -f lavfi -i testsrc2=s=64x48:r=25:d=2 -map 1 -map 0 -c:s srt",
        text.display()
    );
    let source = clip(&scratch, "far.mkv", &[&subtitles]);
    let bytes = fs::read(&source).expect("the clip");
    let mut untagged = bytes;
    while let Some(at) = untagged.windows(8).position(|word| word == b"DURATION") {
        untagged[at] = b'X';
    }
    fs::write(&source, untagged).expect("written");

    let (video, encoded) = copy(&source, &scratch.path().join("copy.mp4"));

    assert_eq!((video.frames, encoded.frames), (50, 50));
    assert_eq!(video.duration.as_secs(), 2);
    assert_eq!(kinds(&streams(&encoded.path)), ["video"]);
    assert_eq!(video.left_out(None), [LeftOut::Subtitles]);
}

fn kinds(streams: &serde_json::Value) -> Vec<&str> {
    let streams = streams.as_array().expect("streams").iter();
    streams
        .filter_map(|stream| stream["codec_type"].as_str())
        .collect()
}

#[test]
fn bytes_behind_the_last_box_do_no_harm() {
    let scratch = scratch();
    let source = clip(
        &scratch,
        "plain.mp4",
        &[&picture("25", 10), "-movflags +faststart"],
    );
    let plain = fs::read(&source).expect("the clip");
    for trailer in [
        &b"GPS 48.137,11.575\n".repeat(60)[..],
        &[0; 4096],
        &(64..128).collect::<Vec<u8>>().repeat(40),
    ] {
        fs::write(&source, [&plain, trailer].concat()).expect("written");
        let (_, encoded) = copy(&source, &scratch.path().join("copy.mp4"));
        assert_eq!(encoded.frames, 10);
    }
}

#[test]
fn sound_that_an_mp4_may_not_hold_becomes_aac() {
    let scratch = scratch();
    for rate in [8000, 11_025, 12_000, 24_000] {
        let sound = format!("-c:v mpeg4 -c:a libmp3lame -ar {rate}");
        let source = clip(
            &scratch,
            "sound.avi",
            &["-f lavfi -i sine=d=2:r=44100", &picture("25", 50), &sound],
        );
        let (_, encoded) = copy(&source, &scratch.path().join("copy.mp4"));
        let audio = &streams(&encoded.path)[1];
        let expected = if rate < 16_000 { "aac" } else { "mp3" };
        assert_eq!(audio["codec_name"], expected, "{rate}");
        assert_eq!(audio["sample_rate"], rate.to_string());
    }
}

#[test]
fn sound_of_many_channels_becomes_stereo_or_5_1() {
    let scratch = scratch();
    for (channels, expected) in [
        (1, 1),
        (2, 2),
        (3, 2),
        (4, 2),
        (5, 6),
        (6, 6),
        (7, 6),
        (8, 6),
    ] {
        let tones: Vec<String> = (0..channels)
            .map(|tone| format!("0.1*sin({}*t)", 600 + 90 * tone))
            .collect();
        let sound = format!(
            "-f lavfi -i aevalsrc={}:s=48000:d=1 -c:a pcm_s16le",
            tones.join("|")
        );
        let source = clip(
            &scratch,
            "sound.mov",
            &[&sound, &picture("25", 25), "-c:a pcm_s16le"],
        );
        let (_, encoded) = copy(&source, &scratch.path().join("copy.mp4"));
        let audio = &streams(&encoded.path)[1];
        assert_eq!(audio["channels"], expected, "{channels}");
        assert_eq!(audio["codec_name"], "aac");
    }
}

#[test]
fn the_larger_of_two_default_tracks_is_worked_on() {
    let scratch = scratch();
    let preview = "-f lavfi -i testsrc2=s=32x24:r=25:d=0.4";
    let main = "-f lavfi -i testsrc2=s=192x128:r=25:d=0.4";
    let both = "-map 0:v -map 1:v -disposition:v:0 default -disposition:v:1 default";
    let video = described(&clip(&scratch, "preview.mp4", &[preview, main, both]));
    assert_eq!((video.width, video.height), (192, 128));
    assert_eq!(video.left_out(None), [LeftOut::Videos]);
}

#[test]
fn all_sounds_and_chapters_are_carried_and_subtitles_and_a_cover_are_named() {
    let scratch = scratch();
    let write = |name: &str, text: &str| {
        let path = scratch.path().join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let text = write("text.srt", "1\n00:00:00,200 --> 00:00:01,500\nhello\n");
    let chapters = write(
        "chapters.txt",
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=one\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=1000\nEND=2000\ntitle=two\n",
    );
    let cover = clip(
        &scratch,
        "cover.jpg",
        &["-f lavfi -i color=red:s=32x32 -frames:v 1"],
    );
    let inputs = format!(
        "-f lavfi -i testsrc2=s=64x48:r=25:d=2 -f lavfi -i sine=d=2 -f lavfi -i sine=f=880:d=2 -i {text} -i {chapters} -map 0:v -map 1:a -map 2:a -map 3:s -map_chapters 4"
    );
    let tags = format!(
        "-c:s srt -metadata:s:a:0 language=jpn -metadata:s:a:1 language=eng -disposition:a:0 0 -disposition:a:1 default \
         -attach {} -metadata:s:t mimetype=image/jpeg",
        cover.display()
    );
    let source = clip(
        &scratch,
        "tracks.mkv",
        &[&inputs, "-pix_fmt yuv420p -c:a aac", &tags],
    );

    let (video, encoded) = copy(&source, &scratch.path().join("copy.mp4"));

    assert_eq!(
        video.left_out(video.audio_track(&source, None).as_ref()),
        [LeftOut::Subtitles, LeftOut::Cover]
    );
    let streams = streams(&encoded.path);
    assert_eq!(kinds(&streams)[..3], ["video", "audio", "audio"]);
    for (index, language, default) in [(1, "jpn", 0), (2, "eng", 1)] {
        assert_eq!(streams[index]["tags"]["language"], language);
        assert_eq!(streams[index]["disposition"]["default"], default);
    }
    assert_eq!(chapters_of(&encoded.path), ["one", "two"]);
    // A cut video has no chapters, and says so.
    let first = video.audio_track(&source, Some(10));
    assert!(video.left_out(first.as_ref()).contains(&LeftOut::Chapters));
}

fn chapters_of(path: &Path) -> Vec<String> {
    let shown = std::process::Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-show_entries",
            "chapter_tags=title",
            "-of",
            "csv=p=0",
        ])
        .arg(path)
        .output();
    let shown = String::from_utf8(shown.expect("ffprobe runs").stdout).expect("text");
    shown.lines().map(str::to_owned).collect()
}

#[test]
fn transparency_that_is_lost_is_named() {
    let scratch = scratch();
    let square = "-f lavfi -i color=black@0:s=96x64:r=10:d=0.2,format=rgba,geq=r=255:g=0:b=0:a=255*gt(X\\,48)";
    for (name, coding) in [
        (
            "a.mov",
            "-c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10le",
        ),
        ("b.mov", "-c:v png"),
        ("c.webm", "-c:v libvpx-vp9 -pix_fmt yuva420p -b:v 300k"),
        ("d.mkv", "-c:v ffv1 -pix_fmt bgra"),
    ] {
        let video = described(&clip(&scratch, name, &[square, coding]));
        assert_eq!(video.left_out(None), [LeftOut::Alpha], "{name}");
    }
    let opaque = described(&clip(&scratch, "e.mkv", &[&picture("25", 5)]));
    assert_eq!(opaque.left_out(None), []);
}

#[test]
fn grey_comes_out_as_black_and_white() {
    let scratch = scratch();
    let limited = "-f lavfi -i color=black:s=96x64:r=10:d=0.2,format=yuv444p,drawbox=x=48:c=white:t=fill,format=yuv420p,extractplanes=y";
    let full =
        "-f lavfi -i color=black:s=96x64:r=10:d=0.2,format=gray,geq=lum=if(lt(X\\,48)\\,8\\,245)";
    for (name, source, coding, dark, bright) in [
        (
            "a.mkv",
            limited,
            "-c:v ffv1 -pix_fmt gray -color_range tv",
            0,
            255,
        ),
        (
            "b.mkv",
            limited,
            "-c:v ffv1 -pix_fmt gray10le -color_range tv",
            0,
            255,
        ),
        ("c.mkv", full, "-c:v ffv1 -pix_fmt gray", 8, 245),
        ("d.mkv", full, "-c:v ffv1 -pix_fmt gray16le", 8, 245),
        ("e.mov", full, "-c:v png -pix_fmt gray", 8, 245),
    ] {
        let frame = &frames(&clip(&scratch, name, &[source, coding]))[0];
        let at = |x: usize| frame.rgb[x * 3];
        assert!(
            at(5).abs_diff(dark) <= 1 && at(90).abs_diff(bright) <= 1,
            "{name}: {} {}",
            at(5),
            at(90)
        );
    }
}

#[test]
fn primaries_are_carried_through() {
    let scratch = scratch();
    for primaries in ["smpte432", "smpte170m", "bt470bg"] {
        let tags =
            format!("-c:v libx264 -color_primaries {primaries} -color_trc bt709 -colorspace bt709");
        let source = clip(&scratch, "colour.mkv", &[&picture("25", 3), &tags]);
        let video = described(&source);
        let path = scratch.path().join("copy.mp4");
        let options = framewright_worker::media::encode::EncodeOptions {
            color: video.color.tags,
            ..crate::clips::options(video.width, video.height)
        };
        let mut encoder = crate::clips::encoder(&path, options);
        for frame in frames(&source) {
            encoder.push(frame).expect("takes a frame");
        }
        encoder.finish().expect("finishes");
        assert_eq!(streams(&path)[0]["color_primaries"], primaries);
    }
}
