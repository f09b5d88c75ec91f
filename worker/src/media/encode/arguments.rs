//! What is ffmpeg told, so that an MP4 comes out that plays everywhere? Pure.

use std::ffi::OsString;
use std::path::Path;

use framewright_crds::fraction::Fraction;

use super::{EncodeOptions, even, lookahead};
use crate::media::color::{ColorTags, SCALER};
use crate::media::probe::{self, words};
use crate::media::rate::FrameRate;
use crate::media::video::{AudioTrack, VideoLimits};

/// A key frame at least this often, so that players seek well.
const SECONDS_BETWEEN_KEY_FRAMES: f64 = 2.0;

/// Chroma lies left of the middle, as H.264 means it when nothing is said.
const TO_BT709: &str =
    "in_range=pc:out_color_matrix=bt709:out_range=tv:out_h_chr_pos=0:out_v_chr_pos=128";

const PROGRAM: &str = "-hide_banner -nostdin -loglevel error -nostats -progress pipe:1 -y";

/// No dates, versions or random numbers in the file, and nothing about the file as a whole: raw frames say nothing. (With -1 chapters
/// would lose their titles.)
const SAME_BYTES: &str = "-map_metadata 0 -fflags +bitexact -flags:v +bitexact -flags:a +bitexact";

/// The arguments for an ffmpeg that reads raw RGB frames from standard input, writes an MP4 to
/// `path`, and tells its progress on standard output.
pub(super) fn arguments(path: &Path, options: &EncodeOptions) -> Vec<OsString> {
    let mut arguments = words(PROGRAM);
    arguments.extend(frames_input(options));
    let tracks = options.audio.as_ref();
    arguments.extend(tracks.into_iter().flat_map(inputs));
    arguments.extend(words("-map 0:v:0"));
    arguments.extend(tracks.into_iter().flat_map(mapped));
    arguments.extend(words(&format!(
        "-vf scale={TO_BT709}:{SCALER},format=yuv420p"
    )));
    arguments.extend(h264(options));
    let ColorTags {
        primaries,
        transfer,
    } = options.color;
    arguments.extend(words(&format!(
        "-color_primaries {primaries} -color_trc {transfer} -colorspace bt709 -color_range tv -chroma_sample_location left"
    )));
    arguments.extend(output(path));
    arguments
}

/// The arguments for an ffmpeg that copies the segments of a list, with audio beside them, into an MP4 at `path`.
///
/// Frame `n` in the order of decoding is decoded at `n` frames after the first one, and shown at a whole number of frames: the demuxer
/// counts in microseconds, and a last segment of one or two frames has no delay between decoding and showing.
pub(super) fn join(
    list: &Path,
    path: &Path,
    rate: FrameRate,
    tracks: Option<&AudioTrack>,
) -> Vec<OsString> {
    let mut arguments = words(PROGRAM);
    arguments.extend(words(
        "-protocol_whitelist file -format_whitelist concat,mov -f concat -auto_convert 0 -i",
    ));
    arguments.push(file(list));
    arguments.extend(tracks.into_iter().flat_map(inputs));
    arguments.extend(words("-map 0:v:0"));
    arguments.extend(tracks.into_iter().flat_map(mapped));
    let frames = |time: &str| format!("round({time}*TB*{rate})");
    let ticks = |frames: String| format!("round(({frames})/({rate})/TB)");
    let shown = ticks(frames("PTS"));
    let decoded = ticks(format!("{}+N", frames("STARTDTS")));
    arguments.extend(words(&format!(
        "-c:v copy -bsf:v setts=pts={shown}:dts={decoded}"
    )));
    arguments.extend(output(path));
    arguments
}

fn output(path: &Path) -> Vec<OsString> {
    let mut arguments = words(SAME_BYTES);
    arguments.extend(words("-movflags +faststart -f mp4"));
    arguments.push(file(path));
    arguments
}

fn file(path: &Path) -> OsString {
    let mut file = OsString::from("file:");
    file.push(path);
    file
}

fn frames_input(options: &EncodeOptions) -> Vec<OsString> {
    let (width, height, rate) = (even(options.width), even(options.height), options.rate);
    words(&format!(
        "-f rawvideo -pixel_format rgb24 -framerate {rate} -video_size {width}x{height} -i pipe:0"
    ))
}

/// The file with sounds and chapters is input 1.
fn inputs(tracks: &AudioTrack) -> Vec<OsString> {
    let mut arguments = words("-vn");
    if let Some(length) = tracks.length {
        arguments.extend(words(&format!("-t {:.6}", length.as_secs_f64())));
    }
    arguments.extend(probe::input(
        &tracks.path,
        tracks.container,
        VideoLimits::default().coded_pixels(),
    ));
    arguments
}

fn mapped(tracks: &AudioTrack) -> Vec<OsString> {
    let tempo = tempo(tracks.slowdown);
    let mut arguments = Vec::new();
    for (index, sound) in tracks.sounds.iter().enumerate() {
        let stream = sound.stream;
        let disposition = if sound.is_default { "default" } else { "0" };
        arguments.extend(words(&format!(
            "-map 1:{stream} -disposition:a:{index} {disposition}"
        )));
        if sound.is_copied() && tempo.is_empty() {
            arguments.extend(words(&format!("-c:a:{index} copy")));
            continue;
        }
        let mut filters = tempo.clone();
        filters.extend(
            layout(sound.channels).map(|layout| format!("aformat=channel_layouts={layout}")),
        );
        arguments.extend(words(&format!("-c:a:{index} aac -b:a:{index} 192k")));
        if !filters.is_empty() {
            arguments.extend(words(&format!("-filter:a:{index} {}", filters.join(","))));
        }
    }
    let chapters = if tracks.has_chapters { 1 } else { -1 };
    arguments.extend(words(&format!("-map_chapters {chapters}")));
    arguments
}

/// What so many channels are mixed down to; none where they stay. Players know 5.1 and stereo.
fn layout(channels: u32) -> Option<&'static str> {
    match channels {
        0..=2 | 6 => None,
        3 | 4 => Some("stereo"),
        _ => Some("5.1"),
    }
}

/// The filters that make sound so many times as long, at the same pitch; none for sound that stays as it is.
fn tempo(slowdown: Fraction) -> Vec<String> {
    /// The slowest tempo that sounds well; for less, the filter is applied again.
    const SLOWEST: f64 = 0.5;
    let mut filters = Vec::new();
    let mut tempo = f64::from(slowdown.denominator) / f64::from(slowdown.numerator);
    while tempo < SLOWEST {
        filters.push(format!("atempo={SLOWEST}"));
        tempo /= SLOWEST;
    }
    if slowdown.numerator != slowdown.denominator {
        filters.push(format!("atempo={tempo:.12}"));
    }
    filters
}

fn h264(options: &EncodeOptions) -> Vec<OsString> {
    let (preset, crf, threads) = (
        options.preset.name(),
        options.crf.min(51),
        options.threads.max(1),
    );
    let group = (options.rate.as_f64() * SECONDS_BETWEEN_KEY_FRAMES)
        .round()
        .max(1.0);
    let pixels = u64::from(even(options.width)) * u64::from(even(options.height));
    let ahead = lookahead(options.preset, pixels);
    words(&format!(
        "-c:v libx264 -preset {preset} -rc-lookahead {ahead} -crf {crf} -g {group} -threads:v {threads} -filter_threads {threads}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_is_slowed_down_in_steps_of_which_each_sounds_well() {
        let filters = |text: &str| tempo(Fraction::parse(text).expect("a fraction")).join(",");
        assert_eq!(filters("1"), "");
        assert_eq!(filters("7/7"), "");
        assert_eq!(filters("2"), "atempo=0.500000000000");
        assert_eq!(filters("5/2"), "atempo=0.5,atempo=0.800000000000");
        assert_eq!(filters("8"), "atempo=0.5,atempo=0.5,atempo=0.500000000000");
        assert_eq!(filters("1001/1000"), "atempo=0.999000999001");
    }
}
