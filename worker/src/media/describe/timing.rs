//! How many frames a second, how many frames, and how long? By the header where its numbers agree, else by the times of the packets.

use std::time::Duration;

use super::answer::{Format, Stream, seconds};
use crate::media::error::MediaError;
use crate::media::rate::FrameRate;

/// Phones drop a frame now and then; an even grid with gaps is better than a crooked one.
const EVEN: f64 = 1.05;
/// An average that is as near as this to a usual rate is that rate.
const NEAR: f64 = 0.003;
const USUAL_RATES: [(u32, u32); 10] = [
    (24_000, 1001),
    (24, 1),
    (25, 1),
    (30_000, 1001),
    (30, 1),
    (48, 1),
    (50, 1),
    (60_000, 1001),
    (60, 1),
    (120, 1),
];

/// When frames are shown.
#[derive(Debug, PartialEq)]
pub(super) struct Timing {
    pub(super) rate: FrameRate,
    pub(super) frames: u64,
    pub(super) duration: Duration,
}

/// The times of a video's packets, in the ticks of its stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::media) struct PacketTimes {
    count: u64,
    first: i64,
    last: i64,
}

impl PacketTimes {
    /// Reads ffprobe's `pts,dts,flags`, a packet a line. Packets that are not shown do not count.
    pub(in crate::media) fn parse(lines: &str) -> PacketTimes {
        let mut times = PacketTimes::default();
        for line in lines.lines() {
            let mut fields = line.split(',');
            let mut tick = || {
                fields
                    .next()
                    .and_then(|field| field.trim().parse::<i64>().ok())
            };
            let (shown, decoded) = (tick(), tick());
            let is_discarded = fields.next().is_some_and(|flags| flags.contains('D'));
            let Some(time) = shown.or(decoded).filter(|_| !is_discarded) else {
                continue;
            };
            times = match times.count {
                0 => PacketTimes {
                    count: 1,
                    first: time,
                    last: time,
                },
                count => PacketTimes {
                    count: count + 1,
                    first: times.first.min(time),
                    last: times.last.max(time),
                },
            };
        }
        times
    }
}

impl Timing {
    /// What the header says, if it says the same thing in all ways: an even rate, and as many frames as fill the duration.
    pub(super) fn of_header(stream: &Stream) -> Option<Timing> {
        let rate = FrameRate::parse(&stream.r_frame_rate)?;
        let average = FrameRate::parse(&stream.avg_frame_rate)?;
        let duration = stream.duration.as_deref().and_then(seconds)?;
        let count: u64 = stream.nb_frames.parse().ok()?;
        let frames = rate.frames_in(duration);
        let is_proven = rate == average && frames.abs_diff(count) <= 1 && count > 0;
        is_proven.then_some(Timing {
            rate,
            frames: frames.max(1),
            duration,
        })
    }

    /// What the packets say. Frames that stand evenly keep their grid, others get their average rate.
    pub(super) fn of_packets(
        stream: &Stream,
        packets: &PacketTimes,
        format: &Format,
    ) -> Result<Timing, MediaError> {
        if packets.count == 0 {
            return Err(MediaError::NoFrames);
        }
        let unknown = || MediaError::NoFrameRate {
            found: stream.avg_frame_rate.chars().take(40).collect(),
        };
        let grid = FrameRate::parse(&stream.r_frame_rate);
        let tick = FrameRate::parse(&stream.time_base).ok_or_else(unknown)?;
        let seconds = |ticks: i64| ticks as f64 * tick.as_f64();
        let span = seconds(packets.last.saturating_sub(packets.first));
        let rate = match packets.count {
            1 => grid.or_else(|| FrameRate::parse(&stream.avg_frame_rate)),
            count => average(count - 1, span).map(|average| match grid {
                Some(grid) if is_even(grid, average) => grid,
                Some(_) | None => average,
            }),
        }
        .ok_or_else(unknown)?;
        // Sound may begin before the picture: the first frame is shown from there on.
        let start = format.start_time.as_deref();
        let start: Option<f64> = start.and_then(|start| start.parse().ok());
        let first = seconds(packets.first);
        let late = start.map_or(0.0, |start| (first - start).max(0.0));
        let length = Duration::try_from_secs_f64(late + span).map_err(|_| unknown())?;
        let frames = rate.frames_in(length).saturating_add(1);
        Ok(Timing {
            rate,
            frames,
            duration: rate.time_of(frames),
        })
    }
}

fn is_even(grid: FrameRate, average: FrameRate) -> bool {
    let (grid, average) = (grid.as_f64(), average.as_f64());
    grid <= average * EVEN && average <= grid * EVEN
}

/// So many intervals in so many seconds.
fn average(intervals: u64, seconds: f64) -> Option<FrameRate> {
    let exact = intervals as f64 / seconds;
    if !exact.is_finite() || exact <= 0.0 {
        return None;
    }
    let usual = USUAL_RATES.iter().filter_map(|(above, below)| {
        let rate = FrameRate::new(*above, *below)?;
        let away = (rate.as_f64() / exact - 1.0).abs();
        (away <= NEAR).then_some((rate, away))
    });
    let nearest = usual.min_by(|one, other| one.1.total_cmp(&other.1));
    match nearest {
        Some((rate, _)) => Some(rate),
        None => FrameRate::new(
            (exact * 1000.0).round().min(f64::from(u32::MAX)) as u32,
            1000,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(grid: &str, average: &str, duration: &str, count: &str) -> Stream {
        Stream {
            r_frame_rate: grid.into(),
            avg_frame_rate: average.into(),
            duration: Some(duration.into()),
            nb_frames: count.into(),
            time_base: "1/1000".into(),
            ..Stream::default()
        }
    }

    fn of_packets(grid: &str, times: &[i64]) -> Result<(String, u64), String> {
        let lines: Vec<String> = times
            .iter()
            .map(|time| format!("{time},{time},__"))
            .collect();
        let packets = PacketTimes::parse(&lines.join("\n"));
        let timing = Timing::of_packets(&stream(grid, "0/0", "", ""), &packets, &Format::default());
        timing
            .map(|timing| (timing.rate.to_string(), timing.frames))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_header_is_believed_only_where_all_its_numbers_agree() {
        let of_header = |grid, average, duration, count| {
            let timing = Timing::of_header(&stream(grid, average, duration, count));
            timing.map(|timing| (timing.rate.to_string(), timing.frames))
        };
        let believed = Some(("30000/1001".to_owned(), 60));
        assert_eq!(
            of_header("30000/1001", "30000/1001", "2.002", "60"),
            believed
        );
        assert_eq!(of_header("30/1", "30/1", "2", "70"), None);
        assert_eq!(of_header("30/1", "2997/100", "2", "60"), None);
        assert_eq!(of_header("60/1", "0/0", "2", "60"), None);
        assert_eq!(of_header("30/1", "30/1", "N/A", "60"), None);
        assert_eq!(of_header("30/1", "30/1", "99999999", "60"), None);
    }

    #[test]
    fn frames_that_stand_evenly_keep_their_grid_and_others_get_their_average() {
        let times =
            |interval: i64, count: i64| (0..count).map(|at| at * interval).collect::<Vec<_>>();
        let ok = |rate: &str, frames| Ok((rate.to_owned(), frames));
        // Milliseconds are rounded.
        assert_eq!(of_packets("30/1", &[0, 33, 67, 100]), ok("30/1", 4));
        // A frame is missing.
        let mut gap = times(40, 50);
        gap.remove(7);
        assert_eq!(of_packets("25/1", &gap), ok("25/1", 50));
        // Recordings of browsers: a header that says more than comes, or nothing.
        assert_eq!(of_packets("60/1", &times(36, 56)), ok("13889/500", 56));
        assert_eq!(
            of_packets("1000/1", &[0, 21, 59, 86, 131, 160]),
            ok("125/4", 6)
        );
        assert_eq!(of_packets("0/0", &times(40, 10)), ok("25/1", 10));
        assert_eq!(of_packets("25/1", &[80]), ok("25/1", 1));
    }

    #[test]
    fn times_that_tell_nothing_are_refused() {
        assert!(of_packets("1000/1", &[5, 5]).is_err_and(|error| error.contains("does not say")));
        assert!(of_packets("0/0", &[5]).is_err_and(|error| error.contains("does not say")));
        assert!(of_packets("25/1", &[]).is_err_and(|error| error.contains("not a single frame")));
        let far = of_packets("25/1", &[i64::MIN, i64::MAX]);
        assert!(far.is_err() || far.is_ok_and(|(_, frames)| frames > 0));
    }

    #[test]
    fn packets_that_an_edit_list_hides_are_no_frames_and_those_without_a_time_have_one_for_decoding()
     {
        let lines = "-80,-120,KD\n-40,-80,_D\n40,0,K_\n0,40,__\nN/A,80,__\nN/A,N/A,__\n";
        let expected = PacketTimes {
            count: 3,
            first: 0,
            last: 80,
        };
        assert_eq!(PacketTimes::parse(lines), expected);
    }

    #[test]
    fn sound_before_the_picture_shows_the_first_frame_longer() {
        let packets = PacketTimes::parse("500,500,K_\n540,540,__\n");
        let format = Format {
            start_time: Some("0.000000".into()),
        };
        let timing = Timing::of_packets(&stream("25/1", "0/0", "", ""), &packets, &format);
        assert_eq!(timing.expect("a timing").frames, 15);
    }
}
