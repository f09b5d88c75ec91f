//! How many threads compute on the CPU? As many as the container may use cores, or fewer if it is told so.
//!
//! All that computes, candle included, does so on rayon's global pool, which is made here. ffmpeg has threads of its own.

use rayon::{ThreadPoolBuildError, ThreadPoolBuilder};

/// Makes the pool; `told` is at most how many threads it gets, and 0 is the same as nothing.
///
/// # Errors
/// The system gives no threads, or the pool is there already.
pub fn start(told: Option<usize>) -> Result<(), ThreadPoolBuildError> {
    ThreadPoolBuilder::new()
        .num_threads(count(told, num_cpus::get()))
        .thread_name(|number| format!("compute-{number}"))
        .build_global()
}

/// More threads than cores only get in each other's way.
fn count(told: Option<usize>, cores: usize) -> usize {
    match told {
        None | Some(0) => cores,
        Some(told) => told.min(cores),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_told_fewer_threads_than_there_are_cores_and_never_more() {
        for (told, cores, threads) in [
            (None, 8, 8),
            (Some(0), 8, 8),
            (Some(1), 8, 1),
            (Some(3), 8, 3),
            (Some(100_000), 8, 8),
            (Some(2), 1, 1),
        ] {
            assert_eq!(count(told, cores), threads, "{told:?} of {cores}");
        }
    }
}
