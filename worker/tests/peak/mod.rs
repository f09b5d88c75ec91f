//! The most memory that this process has held.

/// Begins to count anew; what it holds now.
pub(crate) fn peak_bytes_from_now() -> usize {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    peak_bytes()
}

/// The most since then.
pub(crate) fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    1024 * line
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
}
