//! What was done, as a table for people. Pure.

use std::time::Duration;

use framewright_crds::pipelines::MediaFacts;

/// A step that is over.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// The step.
    pub(super) step: String,
    /// Its model.
    pub(super) model: String,
    /// What its first output shows.
    pub(super) media: Option<MediaFacts>,
    /// The work done, with its unit.
    pub(super) work: String,
    /// How long it took.
    pub(super) time: Duration,
}

/// The rows under headings, in columns.
#[must_use]
pub(super) fn table(rows: &[Row]) -> String {
    let heading = ["STEP", "MODEL", "SIZE", "FRAMES", "WORK", "TIME"].map(str::to_owned);
    let mut lines = vec![heading];
    lines.extend(rows.iter().map(|row| {
        let Row {
            step,
            model,
            media,
            work,
            time,
        } = row;
        let shown = |text: fn(&MediaFacts) -> String| media.as_ref().map_or(String::new(), text);
        [
            step.clone(),
            model.clone(),
            shown(|media| format!("{}x{}", media.width, media.height)),
            shown(|media| media.frames.to_string()),
            work.clone(),
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
    use framewright_crds::pipelines::MediaKind;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = Row {
            step: "large".into(),
            model: "twice".into(),
            media: Some(MediaFacts {
                kind: MediaKind::Video,
                width: 128,
                height: 72,
                frames: 10,
                rate: None,
            }),
            work: "92160 pixels".into(),
            time: Duration::from_millis(1234),
        };
        let expected = "\
STEP    MODEL   SIZE     FRAMES   WORK           TIME
large   twice   128x72   10       92160 pixels   1.2s
";
        assert_eq!(table(&[row]), expected);
    }
}
