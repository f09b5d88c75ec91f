//! How much memory may a tile take? A quarter of what the container may use, so that weights, frames and ffmpeg find room too.

use std::fs;

/// Larger tiles gain nothing worth the memory.
const MOST: u64 = 1 << 30;
/// Below this every network is all overlap.
const LEAST: u64 = 128 << 20;

/// For a tile of this process.
#[must_use]
pub fn tile_bytes() -> u64 {
    within(limit())
}

/// The limit for this process and its children: the cgroup's, where there is one.
#[must_use]
pub fn limit() -> Option<u64> {
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max")
        .or_else(|_| fs::read_to_string("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    limit.ok().and_then(|text| text.trim().parse().ok())
}

fn within(limit: Option<u64>) -> u64 {
    limit.map_or(MOST, |limit| (limit / 4).clamp(LEAST, MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_container_gets_small_tiles() {
        assert_eq!(within(None), MOST);
        assert_eq!(within(Some(2 << 30)), 512 << 20);
        assert_eq!(within(Some(u64::MAX)), MOST);
        assert_eq!(within(Some(1)), LEAST);
        assert!((LEAST..=MOST).contains(&tile_bytes()));
    }
}
