//! How far is the pipeline? Frames, and parts of the one that is worked on.

use framewright_crds::aijob::Progress;

/// Which frame, of how many where that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub(super) done: u64,
    pub(super) all: Option<u64>,
}

impl Position {
    pub(super) fn progress(self, part: u64, parts: u64) -> Progress {
        let Position { done, all } = self;
        // A header may promise fewer frames than come.
        let all = all.map(|all| all.max(done));
        let percent = match all {
            Some(all) if all > 0 => {
                let past = u128::from(done) * u128::from(parts) + u128::from(part);
                let of = u128::from(all) * u128::from(parts.max(1));
                (past * 100 / of).min(100) as i32
            }
            Some(_) | None => 0,
        };
        Progress {
            percent,
            stage: Some("frame".to_owned()),
            done: i64::try_from(done).ok(),
            of: all.and_then(|all| i64::try_from(all).ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_counts_parts_of_a_frame() {
        let percent = |done, all, part, parts| Position { done, all }.progress(part, parts).percent;
        assert_eq!(percent(0, Some(1), 0, 4), 0);
        assert_eq!(percent(0, Some(1), 3, 4), 75);
        assert_eq!(percent(5, Some(10), 1, 2), 55);
        assert_eq!(percent(12, Some(10), 0, 1), 100);
        assert_eq!(percent(3, None, 0, 1), 0);
        assert_eq!(percent(0, Some(0), 0, 0), 0);
    }
}
