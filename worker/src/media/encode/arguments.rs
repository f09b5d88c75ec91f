//! What is ffmpeg told, so that an MP4 comes out that plays everywhere? Pure.

use std::ffi::OsString;
use std::path::Path;

use framewright_crds::fraction::Fraction;

use super::{EncodeOptions, even, lookahead};
use crate::media::color::SCALER;
use crate::media::probe;
use crate::media::rate::FrameRate;
use crate::media::video::{AudioTrack, VideoLimits};

/// A key frame at least this often, so that players seek well.
const SECONDS_BETWEEN_KEY_FRAMES: f64 = 2.0;

/// Chroma lies left of the middle, as H.264 means it when nothing is said.
const TO_BT709: &str =
    "in_range=pc:out_color_matrix=bt709:out_range=tv:out_h_chr_pos=0:out_v_chr_pos=128";

const TAGS: &str = "-color_primaries bt709 -color_trc bt709 -colorspace bt709 -color_range tv \
                    -chroma_sample_location left";

const PROGRAM: &str = "-hide_banner -nostdin -loglevel error -nostats -progress pipe:1 -y";

/// No dates, versions or random numbers in the file.
const SAME_BYTES: &str =
    "-map_metadata -1 -map_chapters -1 -fflags +bitexact -flags:v +bitexact -flags:a +bitexact";

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
    arguments.extend(words(TAGS));
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

/// The file with sound is input 1.
fn inputs(audio: &AudioTrack) -> Vec<OsString> {
    let mut arguments = words("-vn");
    if let Some(length) = audio.length {
        arguments.extend(words(&format!("-t {:.6}", length.as_secs_f64())));
    }
    arguments.extend(probe::input(
        &audio.path,
        audio.container,
        VideoLimits::default().coded_pixels(),
    ));
    arguments
}

fn mapped(audio: &AudioTrack) -> Vec<OsString> {
    let tempo = tempo(audio.slowdown);
    let coding = if audio.is_copied && tempo.is_empty() {
        "copy"
    } else {
        "aac -b:a 192k"
    };
    let mut arguments = words(&format!("-map 1:{} -c:a {coding}", audio.stream));
    if !tempo.is_empty() {
        arguments.extend(words(&format!("-filter:a {}", tempo.join(","))));
    }
    arguments
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

/// Arguments that hold no spaces.
fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
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
