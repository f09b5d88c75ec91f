//! How a frame is cut into overlapping tiles, so that one of any size fits the memory. Pure.

use std::ops::Range;

/// The limits of a cut, in input pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    /// The longest side that a tile may have.
    pub edge: usize,
    /// What a tile sees at least around the part that is kept of it, except at the frame's border.
    pub overlap: usize,
    /// Tiles begin at multiples of this, and have sides that are, except at the frame's border.
    pub multiple: usize,
}

/// One tile. A side may end at the frame's border, and be no multiple there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// What is computed, from the frame's top left.
    pub source: Rectangle,
    /// What is kept of it: inside of `source`, also from the frame's top left.
    pub keep: Rectangle,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rectangle {
    pub columns: Range<usize>,
    pub rows: Range<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    #[error(
        "tiles of {edge} pixels are too small: with an overlap of {overlap} on each side they need {needed} (more memory, or a smaller network)"
    )]
    EdgeTooSmall {
        edge: usize,
        overlap: usize,
        needed: usize,
    },
}

impl Rectangle {
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    pub fn height(&self) -> usize {
        self.rows.len()
    }
}

/// Cuts a frame into as few tiles as the limits allow, all of one size but for those at the right
/// and bottom border. The kept parts cover each pixel once. Rows of tiles from the top, each from
/// the left.
pub fn plan(width: usize, height: usize, tiling: Tiling) -> Result<Vec<Tile>, TileError> {
    let columns = spans(width, tiling)?;
    let rows = spans(height, tiling)?;
    let tile = |row: &Span, column: &Span| Tile {
        source: Rectangle {
            columns: column.source.clone(),
            rows: row.source.clone(),
        },
        keep: Rectangle {
            columns: column.keep.clone(),
            rows: row.keep.clone(),
        },
    };
    Ok(rows
        .iter()
        .flat_map(|row| columns.iter().map(move |column| tile(row, column)))
        .collect())
}

/// A tile's extent in one direction.
struct Span {
    source: Range<usize>,
    keep: Range<usize>,
}

/// Spans of one size begin at even distances. Where two overlap, each keeps its half.
fn spans(length: usize, tiling: Tiling) -> Result<Vec<Span>, TileError> {
    let Tiling {
        edge,
        overlap,
        multiple,
    } = tiling;
    let longest = edge / multiple * multiple;
    let overlap = overlap.next_multiple_of(multiple);
    let whole = length.next_multiple_of(multiple);
    if whole <= longest {
        return Ok(vec![Span {
            source: 0..length,
            keep: 0..length,
        }]);
    }
    if longest <= 2 * overlap {
        return Err(TileError::EdgeTooSmall {
            edge,
            overlap,
            needed: 2 * overlap + multiple,
        });
    }
    let count = (whole - 2 * overlap).div_ceil(longest - 2 * overlap);
    let size = (whole + 2 * overlap * (count - 1))
        .div_ceil(count)
        .next_multiple_of(multiple);
    let start = |index: usize| (whole - size) * index / (count - 1) / multiple * multiple;
    let boundary = |index: usize| match index {
        0 => 0,
        index if index == count => length,
        index => (start(index - 1) + size + start(index)) / 2,
    };
    let span = |index: usize| Span {
        source: start(index)..(start(index) + size).min(length),
        keep: boundary(index)..boundary(index + 1),
    };
    Ok((0..count).map(span).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_fits_is_one_tile() {
        let tiles = plan(
            100,
            50,
            Tiling {
                edge: 100,
                overlap: 10,
                multiple: 1,
            },
        )
        .unwrap();
        let all = Rectangle {
            columns: 0..100,
            rows: 0..50,
        };
        assert_eq!(
            tiles,
            [Tile {
                source: all.clone(),
                keep: all
            }]
        );
    }

    #[test]
    fn two_tiles_share_what_both_must_see() {
        let tiles = plan(
            110,
            10,
            Tiling {
                edge: 100,
                overlap: 10,
                multiple: 1,
            },
        )
        .unwrap();
        let columns: Vec<_> = tiles
            .iter()
            .map(|tile| (tile.source.columns.clone(), tile.keep.columns.clone()))
            .collect();
        assert_eq!(columns, [(0..65, 0..55), (45..110, 55..110)]);
    }

    #[test]
    fn an_edge_without_room_for_the_overlap_is_refused_with_what_it_needs() {
        let error = plan(
            100,
            100,
            Tiling {
                edge: 40,
                overlap: 18,
                multiple: 4,
            },
        )
        .unwrap_err();
        assert_eq!(
            error,
            TileError::EdgeTooSmall {
                edge: 40,
                overlap: 20,
                needed: 44
            }
        );
        assert!(
            plan(
                100,
                100,
                Tiling {
                    edge: 44,
                    overlap: 18,
                    multiple: 4
                }
            )
            .is_ok()
        );
    }

    #[test]
    fn every_cut_covers_each_pixel_once_and_keeps_its_limits() {
        let mut cuts = 0;
        for multiple in [1, 2, 4] {
            for overlap in [0, 1, 7, 18] {
                for edge in (1..=96).step_by(5) {
                    for length in (1..200).chain([1023, 1024, 4097]) {
                        let tiling = Tiling {
                            edge,
                            overlap,
                            multiple,
                        };
                        let Ok(spans) = spans(length, tiling) else {
                            continue;
                        };
                        check(&spans, length, tiling);
                        cuts += 1;
                    }
                }
            }
        }
        assert!(cuts > 10_000, "only {cuts} cuts");
    }

    #[test]
    fn the_rectangles_of_a_frame_cover_it_once() {
        for (width, height) in [(1, 1), (31, 7), (64, 65), (133, 70)] {
            let mut seen = vec![0; width * height];
            for tile in plan(
                width,
                height,
                Tiling {
                    edge: 32,
                    overlap: 5,
                    multiple: 2,
                },
            )
            .unwrap()
            {
                for row in tile.keep.rows {
                    tile.keep
                        .columns
                        .clone()
                        .for_each(|column| seen[row * width + column] += 1);
                }
            }
            assert!(seen.iter().all(|times| *times == 1), "{width}x{height}");
        }
    }

    fn check(spans: &[Span], length: usize, tiling: Tiling) {
        let Tiling {
            edge,
            overlap,
            multiple,
        } = tiling;
        let mut covered = 0;
        for Span { source, keep } in spans {
            let of = format!("{source:?} keeping {keep:?} of {length} with {tiling:?}");
            assert_eq!(keep.start, covered, "{of}");
            assert!(keep.start < keep.end, "{of}");
            covered = keep.end;
            assert!(source.len().next_multiple_of(multiple) <= edge, "{of}");
            assert_eq!(source.start % multiple, 0, "{of}");
            assert!(source.end % multiple == 0 || source.end == length, "{of}");
            assert!(
                source.start == 0 || source.start + overlap <= keep.start,
                "{of}"
            );
            assert!(
                source.end == length || keep.end + overlap <= source.end,
                "{of}"
            );
        }
        assert_eq!(covered, length);
    }
}
