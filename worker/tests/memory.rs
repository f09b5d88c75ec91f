//! What is done takes no more memory than is planned with. Alone in its process, which it measures.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is the point"
)]

mod golden;
mod peak;

use peak::{peak_bytes, peak_bytes_from_now};

#[test]
fn a_frame_takes_no_more_memory_than_its_network_says() {
    for (name, edge) in [("compact_x4_anime_video", 256), ("rrdb_x4_anime", 128)] {
        let upscaler = golden::case(name).upscaler();
        let frame = golden::frames(name, 1, edge, edge);
        let before = peak_bytes_from_now();
        upscaler.forward(&frame).unwrap();
        let taken = (peak_bytes() - before) / (edge * edge);
        let promised = upscaler.architecture().bytes_per_pixel();
        println!("{name}: {taken} bytes for each pixel, {promised} promised");
        assert!(
            taken <= promised,
            "{name}: {taken} bytes for each pixel, {promised} promised"
        );
        assert!(
            2 * taken > promised,
            "{name}: {promised} promised and {taken} taken makes tiles too small"
        );
    }
}
