//! What a person sees while something goes on: bars on a terminal, plain lines elsewhere. Results go to standard output, all else to
//! standard error.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

/// How often a long transfer says a line where there is no bar.
const EVERY: Duration = Duration::from_secs(10);
/// Smaller transfers are over before a bar can be read.
const SMALL: u64 = 16 << 20;

/// Standard error, and what is to be said when somebody presses Ctrl-C.
pub(crate) struct Screen {
    bars: MultiProgress,
    /// Whether bars can be drawn.
    pub is_terminal: bool,
    farewell: Mutex<Option<String>>,
}

impl Screen {
    pub(crate) fn new() -> Screen {
        Screen {
            bars: MultiProgress::new(),
            is_terminal: std::io::stderr().is_terminal(),
            farewell: Mutex::new(None),
        }
    }

    /// A line above the bars.
    pub(crate) fn say(&self, line: &str) {
        if self.is_terminal {
            // A terminal that cannot be written to has nobody before it.
            let _ = self.bars.println(line);
        } else {
            eprintln!("{line}");
        }
    }

    /// Takes all bars away.
    pub(crate) fn clear(&self) {
        let _ = self.bars.clear();
    }

    pub(crate) fn set_farewell(&self, text: String) {
        *self.farewell.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    pub(crate) fn say_farewell(&self) {
        let farewell = self.farewell.lock().unwrap_or_else(PoisonError::into_inner);
        eprintln!(
            "{}",
            farewell
                .as_deref()
                .unwrap_or("stopped; nothing was submitted")
        );
    }

    /// A bar for a step, from 0 to 100.
    pub(crate) fn step(&self, name: String) -> ProgressBar {
        let bar = self.bar(100);
        bar.set_style(style("{prefix:24} [{bar:30}] {pos:>3}% {wide_msg}"));
        bar.set_prefix(name);
        bar
    }

    /// A transfer of `total` bytes of which `begun` are over.
    pub(crate) fn transfer(&self, label: String, total: u64, begun: u64) -> Meter {
        let bar = if total >= SMALL {
            self.bar(total)
        } else {
            ProgressBar::hidden()
        };
        bar.set_style(style(
            "{prefix} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        ));
        bar.set_prefix(label.clone());
        bar.set_position(begun);
        bar.reset_eta();
        Meter(Arc::new(Inner {
            bar,
            label,
            total,
            position: AtomicU64::new(begun),
            said: (!self.is_terminal && total >= SMALL).then(|| Mutex::new(Instant::now())),
        }))
    }

    fn bar(&self, total: u64) -> ProgressBar {
        if self.is_terminal {
            self.bars.add(ProgressBar::new(total))
        } else {
            ProgressBar::hidden()
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// Counts a transfer's bytes; its bar goes with the last clone.
#[derive(Clone)]
pub(crate) struct Meter(Arc<Inner>);

struct Inner {
    bar: ProgressBar,
    label: String,
    total: u64,
    position: AtomicU64,
    /// When the last line was said, where lines are.
    said: Option<Mutex<Instant>>,
}

impl Meter {
    pub(crate) fn moved(&self, bytes: u64) {
        let position = self.0.position.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.0.bar.set_position(position);
        let Some(said) = &self.0.said else { return };
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.elapsed() >= EVERY {
            *said = Instant::now();
            eprintln!(
                "{}: {} of {}",
                self.0.label,
                HumanBytes(position),
                HumanBytes(self.0.total)
            );
        }
    }

    pub(crate) fn restart(&self, position: u64) {
        self.0.position.store(position, Ordering::Relaxed);
        self.0.bar.set_position(position);
    }

    pub(crate) fn position(&self) -> u64 {
        self.0.position.load(Ordering::Relaxed)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.position() >= self.0.total
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
