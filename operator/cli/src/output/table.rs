//! Tables, times and numbers for people. No I/O and no clock.

use framewright_crds::AIJob;
use framewright_crds::aijob::{Attempt, StepStatus, Usage};
use framewright_crds::conditions::{self, job};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

/// A table as kubectl prints it: each column is as wide as its widest cell.
pub(crate) fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        let head = head.get(column).map_or(0, |cell| cell.chars().count());
        cells.max().unwrap_or(0).max(head)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", padded.join("   ").trim_end())
    };
    std::iter::once(line(head.to_vec()))
        .chain(
            rows.iter()
                .map(|row| line(row.iter().map(String::as_str).collect())),
        )
        .collect()
}

/// One row for each step.
pub(crate) fn steps(steps: &[StepStatus], now: Timestamp) -> String {
    let row = |step: &StepStatus| {
        let last = step.attempts.last();
        vec![
            step.name.clone(),
            step.state.to_string(),
            last.map_or("-".to_owned(), worker),
            step.attempts_made.to_string(),
            last.and_then(|attempt| computing(attempt, now))
                .map_or("-".to_owned(), duration),
            step.usage.as_ref().map_or("-".to_owned(), amount),
        ]
    };
    let rows: Vec<Vec<String>> = steps.iter().map(row).collect();
    render(
        &["STEP", "STATE", "WORKER", "ATTEMPTS", "TIME", "USAGE"],
        &rows,
    )
}

/// One row for each job.
pub(crate) fn jobs(jobs: &[AIJob], with_namespace: bool, now: Timestamp) -> String {
    let mut head = vec!["NAME", "STATE", "PROGRESS", "POOL", "ATTEMPTS", "AGE"];
    if with_namespace {
        head.insert(0, "NAMESPACE");
    }
    let row = |job: &AIJob| {
        let status = job.status.clone().unwrap_or_default();
        let state = conditions::get(&status.conditions, job::SUCCEEDED);
        let dash = || "-".to_owned();
        let mut row = vec![
            job.name_any(),
            state.map_or_else(|| "New".to_owned(), |state| state.reason.clone()),
            status.progress.unwrap_or_else(dash),
            status.pool.unwrap_or_else(dash),
            status.attempts_made.unwrap_or(0).to_string(),
            job.metadata
                .creation_timestamp
                .as_ref()
                .map_or_else(dash, |made| age(now.duration_since(made.0))),
        ];
        if with_namespace {
            row.insert(0, job.namespace().unwrap_or_default());
        }
        row
    };
    let rows: Vec<Vec<String>> = jobs.iter().map(row).collect();
    render(&head, &rows)
}

/// The worker of an attempt, such as fleet/upscaler-0.
pub(crate) fn worker(attempt: &Attempt) -> String {
    format!("{}/{}", attempt.worker.namespace, attempt.worker.name)
}

/// Such as "3,686,400 pixels".
pub(crate) fn amount(usage: &Usage) -> String {
    format!("{} {}", grouped(usage.amount), usage.unit)
}

/// How long the worker has computed: until the end of the attempt, or until `now`.
pub(crate) fn computing(attempt: &Attempt, now: Timestamp) -> Option<SignedDuration> {
    let began = attempt.started_at.as_ref()?.0;
    let ended = attempt.finished_at.as_ref().map_or(now, |end| end.0);
    Some(ended.duration_since(began))
}

/// Such as "42 s" or "3 min 05 s".
pub(crate) fn duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, _) => format!("{minutes} min {:02} s", seconds % 60),
        (_, _) => format!("{hours} h {minutes:02} min"),
    }
}

/// An age as kubectl prints it, such as 5m or 3d.
fn age(age: SignedDuration) -> String {
    let seconds = age.as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Digits in groups of three.
fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if number < 0 {
        format!("-{grouped}")
    } else {
        grouped
    }
}

#[cfg(test)]
mod tests {
    use framewright_crds::aijob::{AttemptWorker, StepState};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn the_steps_are_in_columns() {
        let done = StepStatus {
            state: StepState::Succeeded,
            attempts_made: 2,
            attempts: vec![attempt(Some(10), Some(95))],
            usage: Some(Usage {
                unit: "pixels".to_owned(),
                amount: 3_686_400,
            }),
            ..StepStatus::blocked("large")
        };
        let newer = StepStatus {
            state: StepState::Unknown,
            ..StepStatus::blocked("poster")
        };
        assert_eq!(
            steps(&[done, newer], at(1000)),
            "\
STEP     STATE       WORKER             ATTEMPTS   TIME         USAGE
large    Succeeded   fleet/upscaler-0   2          1 min 25 s   3,686,400 pixels
poster   Unknown     -                  0          -            -
"
        );
    }

    #[test]
    fn an_attempt_that_still_runs_counts_until_now() {
        assert_eq!(
            computing(&attempt(Some(10), None), at(15)),
            Some(SignedDuration::from_secs(5))
        );
        assert_eq!(computing(&attempt(None, None), at(15)), None);
    }

    #[test]
    fn numbers_and_times_are_readable() {
        assert_eq!(
            ["0", "999", "1,000", "-12,345,678"],
            [0, 999, 1000, -12_345_678].map(grouped)
        );
        let texts = [59, 60, 3599, 3600, 90_061]
            .map(|seconds| duration(SignedDuration::from_secs(seconds)));
        assert_eq!(
            texts,
            [
                "59 s",
                "1 min 00 s",
                "59 min 59 s",
                "1 h 00 min",
                "25 h 01 min"
            ]
        );
        let ages = [119, 120, 7200, 172_800].map(|seconds| age(SignedDuration::from_secs(seconds)));
        assert_eq!(ages, ["119s", "2m", "2h", "2d"]);
    }

    fn attempt(started: Option<i64>, finished: Option<i64>) -> Attempt {
        Attempt {
            started_at: started.map(|second| Time(at(second))),
            finished_at: finished.map(|second| Time(at(second))),
            ..Attempt::bound(1, AttemptWorker::pod("fleet", "upscaler-0", "u"), at(0))
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }
}
