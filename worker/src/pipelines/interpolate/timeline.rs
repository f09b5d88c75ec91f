//! Which frame of the output shows what: exact, in fractions of source frames. Pure.
//!
//! Source frames are given one after the other, each with how much it differs from the one before. From that follow the intervals
//! between source frames: motion, a cut, or rest. Frames of the output lie in these intervals at multiples of a fraction, and the last
//! one shows the last source frame.

use std::collections::VecDeque;

use framewright_crds::pipelines::interpolate::{FrameStep, Handling};

/// How much two frames differ, in parts of the range of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Change {
    /// The mean over the frame, of the colour that differs most.
    pub(super) mean: f32,
    /// The mean over the part of the frame that differs most: something small that moves is no rest.
    pub(super) largest: f32,
}

/// A cut has at least this mean change, and twice that of a change beside it.
const CUT: f32 = 0.10;
/// From here on it is a cut, whatever is beside it.
const SURE_CUT: f32 = 0.20;
/// Frames that differ by less are the same frame, coded twice.
const EQUAL: f32 = 1.0 / 255.0;
/// Frames that are equal in a row, at most, to be one frame of slower animation. More are a rest.
const MOST_EQUAL: usize = 4;

/// What a frame of the output shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shows {
    /// A source frame, by its position.
    Source(u64),
    /// What lies between two source frames, at a time from 0 to 1.
    Between {
        /// The position of the earlier one.
        earlier: u64,
        /// The position of the later one.
        later: u64,
        /// How far it is from the earlier to the later one.
        time: f32,
    },
}

impl Shows {
    /// The first source frame that it needs.
    fn first(self) -> u64 {
        match self {
            Shows::Source(position) => position,
            Shows::Between { earlier, .. } => earlier,
        }
    }
}

/// What happens between two source frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Motion,
    Cut,
    Rest,
}

/// From one source frame up to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interval {
    from: u64,
    to: u64,
    kind: Kind,
}

/// The timeline of an output, as far as it is known.
pub(super) struct Timeline {
    step: FrameStep,
    cuts: Handling,
    duplicates: Handling,
    /// Changes that no interval was made of yet: from source frame `base` to the next one, and so on.
    changes: VecDeque<Change>,
    base: u64,
    /// The last change that was one.
    before: Option<f32>,
    is_resting: bool,
    /// Frames of the output that were given out.
    shown: u64,
    /// Source frames, when the last one has come.
    source: Option<u64>,
}

impl Timeline {
    pub(super) fn new(step: FrameStep, cuts: Handling, duplicates: Handling) -> Timeline {
        Timeline {
            step,
            cuts,
            duplicates,
            changes: VecDeque::new(),
            base: 0,
            before: None,
            is_resting: false,
            shown: 0,
            source: None,
        }
    }

    /// Another source frame has come, which differs so much from the one before.
    pub(super) fn push(&mut self, change: Change) -> Vec<Shows> {
        self.changes.push_back(change);
        self.decide()
    }

    /// There are no more source frames than these.
    pub(super) fn finish(&mut self, source: u64) -> Vec<Shows> {
        self.source = Some(source);
        let mut shows = self.decide();
        let Some(last) = source.checked_sub(1) else {
            return shows;
        };
        // The last frame lasts as long as the others.
        let total = self.step.output_frames(source).unwrap_or(self.shown);
        while self.shown < total {
            shows.push(Shows::Source(last));
            self.shown += 1;
        }
        shows
    }

    /// The first source frame that may be needed still.
    pub(super) fn needed(&self) -> u64 {
        self.base
    }

    fn decide(&mut self) -> Vec<Shows> {
        let mut shows = Vec::new();
        while let Some(intervals) = self.next_intervals() {
            for interval in intervals {
                self.base = interval.to;
                self.show(interval, &mut shows);
            }
        }
        shows
    }

    /// What the changes say that have come, if they say enough.
    fn next_intervals(&mut self) -> Option<Vec<Interval>> {
        let from = self.base;
        let first = *self.changes.front()?;
        let is_over = self.source.is_some();
        if self.is_resting && self.is_equal(first) {
            return self.take(1, rests(from, from + 1));
        }
        self.is_resting = false;
        let equal = self
            .changes
            .iter()
            .take_while(|change| self.is_equal(**change))
            .count();
        // So many changes that are none are one more frame.
        if equal >= MOST_EQUAL || first.largest == 0.0 && self.duplicates == Handling::Ignore {
            self.is_resting = self.duplicates == Handling::Detect;
            return self.take(1, rests(from, from + 1));
        }
        let Some(change) = self.changes.get(equal).copied() else {
            // Equal up to here: if nothing more comes, the end is a rest.
            return if is_over {
                self.take(equal, rests(from, from + equal as u64))
            } else {
                None
            };
        };
        let after = self.changes.get(equal + 1).copied();
        if after.is_none() && !is_over {
            return None;
        }
        let last = from + equal as u64;
        let is_cut = self.is_cut(change, after);
        self.before = Some(change.mean);
        let intervals = if is_cut {
            let cut = Interval {
                from: last,
                to: last + 1,
                kind: Kind::Cut,
            };
            let mut intervals = rests(from, last);
            intervals.push(cut);
            intervals
        } else {
            vec![Interval {
                from,
                to: last + 1,
                kind: Kind::Motion,
            }]
        };
        self.take(equal + 1, intervals)
    }

    fn take(&mut self, changes: usize, intervals: Vec<Interval>) -> Option<Vec<Interval>> {
        self.changes.drain(..changes);
        Some(intervals)
    }

    fn is_equal(&self, change: Change) -> bool {
        self.duplicates == Handling::Detect && change.largest < EQUAL
    }

    /// A change is a cut if it is large, and stands out. In animation every second frame may be the one before, which says nothing.
    fn is_cut(&self, change: Change, after: Option<Change>) -> bool {
        if self.cuts == Handling::Ignore || change.mean < CUT {
            return false;
        }
        let after = after.filter(|after| !self.is_equal(*after));
        let beside = self.before.into_iter().chain(after.map(|after| after.mean));
        let least = beside.fold(f32::INFINITY, f32::min);
        change.mean >= SURE_CUT || least == f32::INFINITY || change.mean >= 2.0 * least
    }

    /// Gives out the frames that lie in an interval.
    fn show(&mut self, interval: Interval, shows: &mut Vec<Shows>) {
        let Interval { from, to, kind } = interval;
        let FrameStep {
            numerator,
            denominator,
        } = self.step;
        let total = self
            .source
            .and_then(|source| Some((self.step.output_frames(source)?, source)));
        loop {
            let at = u128::from(self.shown) * numerator;
            let begin = u128::from(from) * denominator;
            let end = u128::from(to) * denominator;
            if at >= end {
                return;
            }
            let past = at.saturating_sub(begin);
            let length = end - begin;
            let shown = match (kind, total) {
                // With steps of nearly a frame none might fall on the last frame.
                (_, Some((total, source))) if self.shown + 1 == total => Shows::Source(source - 1),
                (_, Some((total, _))) if self.shown >= total => return,
                (_, _) if past == 0 => Shows::Source(from),
                (Kind::Rest, _) => Shows::Source(from),
                (Kind::Cut, _) if 2 * past < length => Shows::Source(from),
                (Kind::Cut, _) => Shows::Source(to),
                (Kind::Motion, _) => Shows::Between {
                    earlier: from,
                    later: to,
                    time: (past as f64 / length as f64) as f32,
                },
            };
            debug_assert!(shown.first() >= from);
            shows.push(shown);
            self.shown += 1;
        }
    }
}

/// Each source frame stays until the next one.
fn rests(from: u64, to: u64) -> Vec<Interval> {
    let rest = |from| Interval {
        from,
        to: from + 1,
        kind: Kind::Rest,
    };
    (from..to).map(rest).collect()
}

#[cfg(test)]
mod tests {
    use framewright_crds::fraction::Fraction;
    use framewright_crds::pipelines::interpolate::Interpolate;

    use super::*;

    const SOME: Change = change(0.02);
    const SAME: Change = Change {
        mean: 0.0005,
        largest: 0.001,
    };
    const CUT_HERE: Change = change(0.15);

    const fn change(mean: f32) -> Change {
        Change {
            mean,
            largest: mean + 0.05,
        }
    }

    fn step(source: &str, fps: &str) -> FrameStep {
        let parameters = Interpolate {
            fps: Fraction::parse(fps),
            ..Interpolate::default()
        };
        parameters
            .step(Fraction::parse(source).expect("a rate"))
            .expect("a step")
    }

    fn shown(step: FrameStep, changes: &[Change]) -> Vec<Shows> {
        shown_with(step, changes, Handling::Detect, Handling::Detect)
    }

    fn shown_with(
        step: FrameStep,
        changes: &[Change],
        cuts: Handling,
        duplicates: Handling,
    ) -> Vec<Shows> {
        let mut timeline = Timeline::new(step, cuts, duplicates);
        let mut shows = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            let needed = timeline.needed();
            let more = timeline.push(*change);
            assert!(more.iter().all(|shows| shows.first() >= needed));
            // What is shown has come: frame `index + 1` is the newest one.
            for shows in &more {
                let newest = match *shows {
                    Shows::Source(position) => position,
                    Shows::Between { later, .. } => later,
                };
                assert!(newest <= index as u64 + 1, "{shows:?} at {index}");
            }
            shows.extend(more);
        }
        shows.extend(timeline.finish(changes.len() as u64 + 1));
        shows
    }

    fn between(earlier: u64, later: u64, time: f32) -> Shows {
        Shows::Between {
            earlier,
            later,
            time,
        }
    }

    use Shows::Source;

    #[test]
    fn times_of_frames_are_exact_to_the_last_of_two_hours() {
        let frames = 172_627;
        let shows = shown(step("24000/1001", "60"), &vec![SOME; frames - 1]);
        assert_eq!(shows.len(), (frames * 1001 * 60 + 12_000) / 24_000);
        // 400 source frames are 1001 frames of the output: each 1001st falls on a source frame.
        for index in (0..shows.len()).step_by(1001) {
            assert_eq!(shows[index], Source((index / 1001 * 400) as u64));
        }
        let unexpected = shows.iter().enumerate().filter(|(index, shows)| {
            matches!(shows, Source(position) if *position + 1 < frames as u64) && index % 1001 != 0
        });
        assert_eq!(unexpected.count(), 0);
        assert_eq!(shows[1002], between(400, 401, (400.0 / 1001.0) as f32));
        assert_eq!(shows.last(), Some(&Source(frames as u64 - 1)));
    }

    #[test]
    fn twice_and_three_times_as_many_frames_hold_every_source_frame() {
        let shows = shown(step("25", "50"), &[SOME; 3]);
        let expected = [
            Source(0),
            between(0, 1, 0.5),
            Source(1),
            between(1, 2, 0.5),
            Source(2),
            between(2, 3, 0.5),
            Source(3),
            Source(3),
        ];
        assert_eq!(shows, expected);
        let three = shown(step("25", "75"), &[SOME]);
        let (third, two_thirds) = (between(0, 1, 1.0 / 3.0), between(0, 1, 2.0 / 3.0));
        assert_eq!(
            three,
            [
                Source(0),
                third,
                two_thirds,
                Source(1),
                Source(1),
                Source(1)
            ]
        );
    }

    #[test]
    fn the_number_of_frames_is_the_duration_times_the_rate_and_the_last_frame_is_there() {
        for (source, fps) in [
            ("24", "25"),
            ("24000/1001", "24"),
            ("25", "60"),
            ("30000/1001", "60000/1001"),
            ("10", "99"),
            ("48", "49"),
        ] {
            let step = step(source, fps);
            for frames in 2..60 {
                let shows = shown(step, &vec![SOME; frames - 1]);
                let exact = frames as f64 / (step.numerator as f64 / step.denominator as f64);
                assert!(
                    (shows.len() as f64 - exact).abs() <= 0.5 + 1e-9,
                    "{frames}: {exact}"
                );
                let last = Source(frames as u64 - 1);
                assert_eq!(
                    shows.last(),
                    Some(&last),
                    "{source} to {fps}, {frames} frames"
                );
                assert_eq!(shows.first(), Some(&Source(0)));
            }
        }
    }

    #[test]
    fn at_a_cut_no_frame_is_of_both_scenes() {
        let changes = [SOME, SOME, CUT_HERE, SOME];
        let shows = shown(step("10", "40"), &changes);
        assert_eq!(shows.len(), 20);
        assert_eq!(shows[8..12], [Source(2), Source(2), Source(3), Source(3)]);
        assert_eq!(shows[7], between(1, 2, 0.75));
        assert_eq!(shows[13], between(3, 4, 0.25));
        let ignored = shown_with(
            step("10", "40"),
            &changes,
            Handling::Ignore,
            Handling::Detect,
        );
        assert_eq!(ignored[9], between(2, 3, 0.25));
    }

    #[test]
    fn a_cut_is_told_from_motion() {
        let is_cut = |changes: &[Change], index: usize| {
            let shows = shown(step("1", "2"), changes);
            shows[2 * index + 1] == Source(index as u64 + 1)
        };
        // Fast motion all the time is none, nor is a change too small for one.
        assert!(!is_cut(&[change(0.12); 5], 2));
        assert!(!is_cut(&[SOME, change(0.08), SOME], 1));
        // A flash of one frame, a slide show, and a cut into fast motion are.
        assert!(is_cut(&[SOME, change(0.15), change(0.15), SOME], 1));
        assert!(is_cut(&[SOME, change(0.15), change(0.15), SOME], 2));
        assert!(is_cut(&[change(0.3), change(0.3), change(0.3)], 1));
        assert!(is_cut(&[SOME, change(0.15), change(0.12)], 1));
        // Cuts as first, as last and as only change.
        assert!(is_cut(&[CUT_HERE, SOME], 0));
        assert!(is_cut(&[SOME, CUT_HERE], 1));
        assert!(is_cut(&[CUT_HERE], 0));
        // Fast animation on twos.
        let twos = [change(0.12), SAME, change(0.12), SAME, change(0.12), SOME];
        let shows = shown(step("1", "2"), &twos);
        assert!(shows.contains(&between(1, 3, 0.25)), "{shows:?}");
    }

    #[test]
    fn equal_frames_are_one_frame_that_lasts_longer() {
        // Animation on twos: 0 0 2 2 4 4.
        let changes = [SAME, SOME, SAME, SOME, SAME];
        let shows = shown(step("1", "2"), &changes);
        let expected = [
            Source(0),
            between(0, 2, 0.25),
            between(0, 2, 0.5),
            between(0, 2, 0.75),
            Source(2),
            between(2, 4, 0.25),
            between(2, 4, 0.5),
            between(2, 4, 0.75),
            Source(4),
            Source(4),
            Source(5),
            Source(5),
        ];
        assert_eq!(shows, expected);
        let ignored = shown_with(step("1", "2"), &changes, Handling::Detect, Handling::Ignore);
        assert_eq!(ignored[2], Source(1));
        assert_eq!(ignored[3], between(1, 2, 0.5));
    }

    #[test]
    fn a_rest_and_what_is_equal_before_a_cut_stay_as_they_are() {
        let rest = [SAME, SAME, SAME, SAME, SOME, SOME];
        let shows = shown(step("1", "2"), &rest);
        assert_eq!(
            shows[..9]
                .iter()
                .filter(|shows| matches!(shows, Source(_)))
                .count(),
            9
        );
        assert_eq!(shows[9], between(4, 5, 0.5));
        let before_a_cut = shown(step("1", "2"), &[SAME, CUT_HERE, SOME]);
        assert_eq!(
            before_a_cut[..4],
            [Source(0), Source(0), Source(1), Source(2)]
        );
        // To the last bit equal frames are never computed between.
        let same = Change {
            mean: 0.0,
            largest: 0.0,
        };
        let shows = shown_with(
            step("1", "3"),
            &[same; 3],
            Handling::Ignore,
            Handling::Ignore,
        );
        assert!(shows.iter().all(|shows| matches!(shows, Source(_))));
        assert_eq!(shows.len(), 12);
    }

    #[test]
    fn a_single_frame_is_shown_all_the_time() {
        assert_eq!(shown(step("1", "3"), &[]), [Source(0); 3]);
    }
}
