//! Which colours do pixels have that nobody sees? Under what is fully transparent most programs store black, and a network would mix it
//! into the edge of what is seen. So the colours that are seen are spread under it first.

use crate::media::Frame;

/// Means of 2 by 2 pixels of the level below, of those that have a colour.
struct Level {
    width: usize,
    height: usize,
    /// Red, green, blue, and 0 where no pixel below has a colour.
    pixels: Vec<[u8; 4]>,
}

/// Gives all fully transparent pixels the mean colour of what is seen near them. `alpha` has a byte for each pixel.
pub(super) fn spread_under_transparent(frame: &mut Frame, alpha: &[u8]) {
    let (width, height) = (frame.width as usize, frame.height as usize);
    if alpha.len() != width * height || !alpha.contains(&0) || alpha.iter().all(|a| *a == 0) {
        return;
    }
    let mut levels: Vec<Level> = Vec::new();
    loop {
        let next = match levels.last() {
            None => {
                let colors = frame.rgb.as_chunks::<3>().0;
                halved(width, height, |at| {
                    let [red, green, blue] = colors[at];
                    [red, green, blue, u8::from(alpha[at] > 0)]
                })
            }
            Some(Level {
                width: 1,
                height: 1,
                ..
            }) => break,
            Some(level) => halved(level.width, level.height, |at| level.pixels[at]),
        };
        levels.push(next);
    }
    for (at, (color, opacity)) in frame
        .rgb
        .as_chunks_mut::<3>()
        .0
        .iter_mut()
        .zip(alpha)
        .enumerate()
    {
        if *opacity > 0 {
            continue;
        }
        let (mut x, mut y) = (at % width, at / width);
        for level in &levels {
            (x, y) = (x / 2, y / 2);
            let [red, green, blue, has_color] = level.pixels[y * level.width + x];
            if has_color > 0 {
                *color = [red, green, blue];
                break;
            }
        }
    }
}

fn halved(width: usize, height: usize, pixel: impl Fn(usize) -> [u8; 4]) -> Level {
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    let mut pixels = Vec::with_capacity(half_width * half_height);
    for y in 0..half_height {
        for x in 0..half_width {
            let (mut sums, mut count) = ([0_u32; 3], 0);
            for y in 2 * y..(2 * y + 2).min(height) {
                for x in 2 * x..(2 * x + 2).min(width) {
                    let [red, green, blue, has_color] = pixel(y * width + x);
                    if has_color > 0 {
                        count += 1;
                        sums = [
                            sums[0] + u32::from(red),
                            sums[1] + u32::from(green),
                            sums[2] + u32::from(blue),
                        ];
                    }
                }
            }
            pixels.push(match count {
                0 => [0; 4],
                count => {
                    let [red, green, blue] = sums.map(|sum| ((sum + count / 2) / count) as u8);
                    [red, green, blue, 1]
                }
            });
        }
    }
    Level {
        width: half_width,
        height: half_height,
        pixels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_transparent_gets_the_colour_of_what_is_near_and_the_rest_stays() {
        let mut frame = Frame {
            width: 5,
            height: 1,
            rgb: [[255, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 255, 0]].concat(),
        };
        spread_under_transparent(&mut frame, &[1, 0, 0, 0, 255]);
        assert_eq!(frame.rgb[..6], [255, 0, 0, 255, 0, 0]);
        assert_eq!(frame.rgb[12..], [0, 255, 0]);
        assert_ne!(frame.rgb[6..9], [0, 0, 0]);
    }

    #[test]
    fn a_picture_without_anything_to_see_or_to_hide_stays_as_it_is() {
        let frame = Frame {
            width: 2,
            height: 1,
            rgb: vec![1, 2, 3, 4, 5, 6],
        };
        for alpha in [[0, 0], [9, 9]] {
            let mut same = frame.clone();
            spread_under_transparent(&mut same, &alpha);
            assert_eq!(same, frame);
        }
    }
}
