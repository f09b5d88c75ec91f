//! How much memory may this process and its children use, and a tile of it? A tile gets a quarter, so that weights, frames and ffmpeg
//! find room too.

use std::fs;

/// Larger tiles gain nothing worth the memory.
const MOST: u64 = 1 << 30;
/// Below this every network is all overlap.
const LEAST: u64 = 128 << 20;

/// What this process and its children may use, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So much, as the container's limit says.
    Set(u64),
    /// There is no limit, and so much would push nobody else from the machine now.
    Free(u64),
}

impl Limit {
    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            Limit::Set(bytes) | Limit::Free(bytes) => bytes,
        }
    }
}

/// For a tile of this process. What a machine has free at the moment has no say: tiles of another size round in other places.
#[must_use]
pub fn tile_bytes() -> u64 {
    match limit() {
        Some(Limit::Set(bytes)) => tile_bytes_within(bytes),
        Some(Limit::Free(_)) | None => MOST,
    }
}

/// For a tile of a process that may use so many bytes.
#[must_use]
pub fn tile_bytes_within(limit: u64) -> u64 {
    (limit / 4).clamp(LEAST, MOST)
}

/// The limit for this process and its children: the cgroup's, else what the machine has left for them. None where neither is told.
#[must_use]
pub fn limit() -> Option<Limit> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cgroup = fs::read_to_string("/sys/fs/cgroup/memory.max")
        .unwrap_or_else(|_| read("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    told(&cgroup, &read("/proc/meminfo"), &read("/proc/self/status"))
}

fn told(cgroup: &str, machine: &str, process: &str) -> Option<Limit> {
    let limit: Option<u64> = cgroup.trim().parse().ok();
    let Some(all) = bytes(machine, "MemTotal:") else {
        return limit.map(Limit::Set);
    };
    // A cgroup without a limit may say so with a number beyond all memory.
    if let Some(limit) = limit.filter(|limit| *limit < all) {
        return Some(Limit::Set(limit));
    }
    // What we have taken ourselves is not free, and ours to use.
    let ours = bytes(process, "RssAnon:").unwrap_or(0);
    bytes(machine, "MemAvailable:").map(|free| Limit::Free(free + ours))
}

/// What the kernel's table says in a line such as `MemTotal:  16384 kB`.
fn bytes(table: &str, name: &str) -> Option<u64> {
    let value = table.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_container_gets_small_tiles() {
        assert_eq!(tile_bytes_within(2 << 30), 512 << 20);
        assert_eq!(tile_bytes_within(u64::MAX), MOST);
        assert_eq!(tile_bytes_within(1), LEAST);
        assert!((LEAST..=MOST).contains(&tile_bytes()));
    }

    #[test]
    fn a_container_without_a_limit_may_use_what_its_machine_has_free() {
        let machine = "MemTotal:       16384 kB\nMemFree: 7 kB\nMemAvailable:    4096 kB\n";
        let process = "VmRSS:     2048 kB\nRssAnon:     1024 kB\n";
        for (cgroup, limit) in [
            ("max\n", Some(Limit::Free(5 << 20))),
            ("9223372036854771712\n", Some(Limit::Free(5 << 20))),
            ("", Some(Limit::Free(5 << 20))),
            ("8388608\n", Some(Limit::Set(8 << 20))),
        ] {
            assert_eq!(told(cgroup, machine, process), limit, "{cgroup:?}");
        }
        assert_eq!(told("8388608\n", "", ""), Some(Limit::Set(8 << 20)));
        assert_eq!(told("max\n", "", ""), None);
    }

    #[test]
    fn this_machine_tells_a_limit_and_not_more_than_it_has() {
        let machine = fs::read_to_string("/proc/meminfo").expect("a table");
        let all = bytes(&machine, "MemTotal:").expect("all memory");
        let limit = limit().expect("a limit").bytes();
        assert!((1..=all).contains(&limit), "{limit} of {all}");
    }
}
