//! What was done, as a table for people. Pure.

use std::time::Duration;

/// A step that is over.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// The step.
    pub(super) step: String,
    /// Its model.
    pub(super) model: String,
    /// Width and height of what came out.
    pub(super) size: (u32, u32),
    /// Frames in it.
    pub(super) frames: u64,
    /// The work done.
    pub(super) units: i64,
    /// How long it took.
    pub(super) time: Duration,
}

/// The rows under headings, in columns.
#[must_use]
pub(super) fn table(rows: &[Row]) -> String {
    let heading = ["STEP", "MODEL", "SIZE", "FRAMES", "UNITS (PIXELS)", "TIME"].map(str::to_owned);
    let mut lines = vec![heading];
    lines.extend(rows.iter().map(|row| {
        let Row {
            step,
            model,
            size: (width, height),
            frames,
            units,
            time,
        } = row;
        [
            step.clone(),
            model.clone(),
            format!("{width}x{height}"),
            frames.to_string(),
            units.to_string(),
            format!("{:.1}s", time.as_secs_f64()),
        ]
    }));
    let mut text = String::new();
    for line in &lines {
        for (column, cell) in line.iter().enumerate() {
            let width = lines
                .iter()
                .map(|line| line[column].len())
                .max()
                .unwrap_or(0);
            text.push_str(&format!("{cell:width$}   "));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = Row {
            step: "large".into(),
            model: "twice".into(),
            size: (128, 72),
            frames: 10,
            units: 92_160,
            time: Duration::from_millis(1234),
        };
        let expected = "\
STEP    MODEL   SIZE     FRAMES   UNITS (PIXELS)   TIME
large   twice   128x72   10       92160            1.2s
";
        assert_eq!(table(&[row]), expected);
    }
}
