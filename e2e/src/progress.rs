//! What a person sees while something takes its time.

use std::time::Instant;

/// Says on stderr what was done, and when since the start of the whole.
pub(crate) struct Progress {
    what: String,
    started: Instant,
}

impl Progress {
    pub(crate) fn new(what: &str) -> Progress {
        Progress {
            what: what.to_owned(),
            started: Instant::now(),
        }
    }

    pub(crate) fn say(&self, done: &str) {
        eprintln!("{} {:>5.1} s  {done}", self.what, self.seconds());
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}
