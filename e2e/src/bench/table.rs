//! How figures are shown: each beside its reference, and the ratio of the two.

use std::time::Duration;

/// Rows of text.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<[String; 5]>,
}

impl Table {
    /// One row: what, its figure, the reference's figure, what the reference is, the ratio.
    pub(super) fn row(
        &mut self,
        what: &str,
        figure: &str,
        other: &str,
        reference: &str,
        ratio: &str,
    ) {
        self.rows
            .push([what, figure, other, reference, ratio].map(str::to_owned));
    }

    pub(super) fn durations(
        &mut self,
        what: &str,
        figure: Duration,
        reference: &str,
        other: Duration,
    ) {
        let ratio = figure.as_secs_f64() / other.as_secs_f64();
        let ratio = format!("{ratio:.2}");
        self.row(
            what,
            &milliseconds(figure),
            &milliseconds(other),
            reference,
            &ratio,
        );
    }

    /// Rates of some rounds, each beside its reference in the same round: medians, and the median of the ratios.
    pub(super) fn rates(&mut self, what: &str, figures: &[f64], reference: &str, others: &[f64]) {
        let each = figures.iter().zip(others);
        let ratios: Vec<f64> = each.map(|(figure, other)| figure / other).collect();
        self.row(
            what,
            &rate(median(figures)),
            &rate(median(others)),
            reference,
            &format!("{:.2}", median(&ratios)),
        );
    }

    pub(super) fn print(&self) {
        let head = ["what", "figure", "reference", "", "ratio"].map(str::to_owned);
        let rows: Vec<&[String; 5]> = std::iter::once(&head).chain(&self.rows).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..5).map(width).collect();
        for [what, figure, other, reference, ratio] in rows {
            let line = format!(
                "{what:<a$}  {figure:>b$}  {other:>c$}  {reference:<d$}  {ratio:>e$}",
                a = widths[0],
                b = widths[1],
                c = widths[2],
                d = widths[3],
                e = widths[4],
            );
            println!("{}", line.trim_end());
        }
    }
}

pub(super) fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

pub(super) fn rate(per_second: f64) -> String {
    format!("{per_second:.1}/s")
}

/// The value in the middle; of an even number the lower one.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len().saturating_sub(1) / 2;
    sorted.get(middle).copied().unwrap_or_default()
}

/// The value that so large a share of all is not above: 0.5 is the median.
pub(super) fn percentile(values: &[Duration], share: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of some hundred is a small positive number"
    )]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    let index = rank.clamp(1, sorted.len().max(1)) - 1;
    sorted.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_value_in_the_middle() {
        let middle = |values: &[f64]| format!("{:.1}", median(values));
        assert_eq!(middle(&[9.0, 1.0, 2.0]), "2.0");
        assert_eq!(middle(&[4.0, 3.0]), "3.0");
        assert_eq!(middle(&[]), "0.0");
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&values, 0.5), Duration::from_millis(100));
        assert_eq!(percentile(&values, 0.99), Duration::from_millis(198));
        assert_eq!(percentile(&values, 1.0), Duration::from_millis(200));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }
}
