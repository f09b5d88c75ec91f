//! The progress sink: progress bars on a terminal, plain lines elsewhere. It writes to standard error, and what a command is asked
//! for to standard output.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

/// How often a large transfer writes a line where there are no bars.
const EVERY: Duration = Duration::from_secs(10);
/// Smaller transfers get no bar and no lines.
const SMALL: u64 = 16 << 20;

/// Standard error, and the message for Ctrl-C.
pub struct Screen {
    bars: MultiProgress,
    /// Whether standard error is a terminal, so that bars can be drawn.
    pub is_terminal: bool,
    farewell: Mutex<Option<String>>,
}

impl Screen {
    /// A screen without bars.
    #[must_use]
    pub fn new() -> Screen {
        Screen {
            bars: MultiProgress::new(),
            is_terminal: std::io::stderr().is_terminal(),
            farewell: Mutex::new(None),
        }
    }

    /// Writes a line, above the bars.
    pub fn say(&self, line: &str) {
        if self.is_terminal {
            // Nobody reads a terminal that cannot be written to.
            let _ = self.bars.println(line);
        } else {
            eprintln!("{line}");
        }
    }

    /// Writes text to standard output, above the bars.
    pub fn print(&self, text: &str) {
        let write = || {
            let mut out = std::io::stdout().lock();
            // Whoever closed standard output wants no more.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        };
        if self.is_terminal {
            self.bars.suspend(write);
        } else {
            write();
        }
    }

    /// Removes all bars.
    pub fn clear(&self) {
        let _ = self.bars.clear();
    }

    /// Sets the message for Ctrl-C.
    pub fn set_farewell(&self, text: String) {
        *self.farewell.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    /// Writes the message for Ctrl-C.
    pub fn say_farewell(&self) {
        let farewell = self.farewell.lock().unwrap_or_else(PoisonError::into_inner);
        eprintln!(
            "{}",
            farewell
                .as_deref()
                .unwrap_or("stopped; nothing was submitted")
        );
    }

    /// A bar for a step, from 0 to 100.
    #[must_use]
    pub fn step(&self, name: String) -> ProgressBar {
        let bar = self.bar(100);
        bar.set_style(style("{prefix:24} [{bar:30}] {pos:>3}% {wide_msg}"));
        bar.set_prefix(name);
        bar
    }

    /// A bar for a transfer of `total` bytes, `begun` of which have been transferred before.
    #[must_use]
    pub fn transfer(&self, label: String, total: u64, begun: u64) -> Meter {
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

impl Default for Screen {
    fn default() -> Screen {
        Screen::new()
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// Counts the bytes of a transfer. Its bar is removed with the last clone.
#[derive(Clone)]
pub struct Meter(Arc<Inner>);

struct Inner {
    bar: ProgressBar,
    label: String,
    total: u64,
    position: AtomicU64,
    /// When the last line was written, if lines are written.
    said: Option<Mutex<Instant>>,
}

impl Meter {
    /// Adds bytes that have been transferred.
    pub fn moved(&self, bytes: u64) {
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

    /// Sets the position.
    pub fn restart(&self, position: u64) {
        self.0.position.store(position, Ordering::Relaxed);
        self.0.bar.set_position(position);
    }

    /// The bytes that have been transferred.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.0.position.load(Ordering::Relaxed)
    }

    /// Whether all bytes have been transferred.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.position() >= self.0.total
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
