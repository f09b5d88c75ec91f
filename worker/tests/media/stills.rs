//! Stills in and out.

use std::fs;
use std::path::PathBuf;

use framewright_worker::media::image::{MAX_PIXELS, read, write};
use framewright_worker::media::{Class, Frame, MediaError, Still, StillFormat};
use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba};
use tempfile::TempDir;

use crate::clips::{bars, clip, damaged, psnr, scratch};

#[test]
fn every_format_is_read_as_it_was_written() {
    let scratch = scratch();
    let still = Still {
        frame: bars(130, 70),
        alpha: None,
        icc_profile: None,
    };
    for format in [StillFormat::Png, StillFormat::Webp, StillFormat::Jpeg] {
        let path = scratch.path().join("picture");

        let bytes = write(&path, &still, format).expect("is written");
        let again = read(&path, MAX_PIXELS).expect("is read");

        assert_eq!(bytes, fs::metadata(&path).expect("the file").len());
        if format == StillFormat::Jpeg {
            assert!(
                psnr(&again.frame, &still.frame) > 24.0,
                "sharp coloured edges are JPEG's worst"
            );
        } else {
            assert_eq!(again, still, "{format:?}");
        }
    }
}

#[test]
fn alpha_and_profile_are_kept() {
    let scratch = scratch();
    let alpha: Vec<u8> = (0..64 * 16).map(|at| (at % 251) as u8).collect();
    let mut profile = vec![7; 200];
    profile[16..20].copy_from_slice(b"RGB ");
    let still = Still {
        frame: bars(64, 16),
        alpha: Some(alpha),
        icc_profile: Some(profile),
    };
    for format in [StillFormat::Png, StillFormat::Webp] {
        let path = scratch.path().join("picture");
        write(&path, &still, format).expect("is written");

        assert_eq!(
            read(&path, MAX_PIXELS).expect("is read"),
            still,
            "{format:?}"
        );
    }
}

#[test]
fn alpha_that_hides_nothing_is_left_out() {
    let scratch = scratch();
    let path = saved(
        &scratch,
        ImageBuffer::from_pixel(4, 4, Rgba([9_u8, 8, 7, 255])).into(),
    );

    assert_eq!(read(&path, MAX_PIXELS).expect("is read").alpha, None);
}

#[test]
fn sixteen_bits_and_grey_become_eight_bits_of_rgb() {
    let scratch = scratch();
    let deep = saved(
        &scratch,
        ImageBuffer::from_pixel(1, 1, Rgb([65_535_u16, 32_896, 128])).into(),
    );
    assert_eq!(
        read(&deep, MAX_PIXELS).expect("is read").frame.rgb,
        [255, 128, 0]
    );

    let grey = saved(
        &scratch,
        ImageBuffer::from_pixel(1, 1, Luma([77_u8])).into(),
    );
    assert_eq!(
        read(&grey, MAX_PIXELS).expect("is read").frame.rgb,
        [77, 77, 77]
    );

    let deep_grey = saved(
        &scratch,
        ImageBuffer::from_pixel(1, 1, LumaA([0_u16, 257])).into(),
    );
    assert_eq!(
        read(&deep_grey, MAX_PIXELS).expect("is read").alpha,
        Some(vec![1])
    );
}

#[test]
fn a_photo_that_was_taken_sideways_comes_out_upright() {
    let scratch = scratch();
    let path = scratch.path().join("photo");
    let mut rgb = [[255_u8, 255, 255]; 32 * 16];
    for y in 0..8 {
        rgb[y * 32..y * 32 + 8].fill([0, 0, 0]);
    }
    let frame = Frame {
        width: 32,
        height: 16,
        rgb: rgb.concat(),
    };
    write(
        &path,
        &Still {
            frame,
            alpha: None,
            icc_profile: None,
        },
        StillFormat::Jpeg,
    )
    .expect("is written");
    let mut bytes = fs::read(&path).expect("the photo");
    bytes.splice(2..2, exif_orientation(6));
    fs::write(&path, bytes).expect("the photo");

    let still = read(&path, MAX_PIXELS).expect("is read");

    assert_eq!((still.frame.width, still.frame.height), (16, 32));
    let is_dark = |x: usize, y: usize| still.frame.rgb[(y * 16 + x) * 3] < 64;
    assert!(is_dark(12, 3) && !is_dark(3, 3), "a quarter to the right");
}

#[test]
fn an_enormous_png_is_refused_from_its_header() {
    let scratch = scratch();
    let path = scratch.path().join("bomb.png");
    for body in [&[][..], b"\0\0\0\x04IDAT\x78\x9c\0\0"] {
        fs::write(&path, [&png_header(60_000, 60_000), body].concat()).expect("the header");

        let error = read(&path, MAX_PIXELS).expect_err("too large");

        assert_eq!(error.class(), Class::InvalidInput);
        assert_eq!(
            error.to_string(),
            "the image has 60000 x 60000 pixels (3600 million), the limit is 100000000 pixels; make it smaller"
        );
    }
    assert!(peak_memory_kib() < 2 << 20, "the picture would take 10 GiB");
}

#[test]
fn images_that_are_broken_or_move_are_invalid_input() {
    let scratch = scratch();
    let still = Still {
        frame: bars(130, 70),
        alpha: None,
        icc_profile: None,
    };
    for format in [StillFormat::Png, StillFormat::Webp, StillFormat::Jpeg] {
        let path = scratch.path().join("picture");
        write(&path, &still, format).expect("is written");
        let bytes = fs::read(&path).expect("the picture");
        for length in [bytes.len() / 2, bytes.len() * 9 / 10] {
            fs::write(&path, &bytes[..length]).expect("cut");

            let error = read(&path, MAX_PIXELS).expect_err("cut short");

            assert_eq!(error.class(), Class::InvalidInput, "{format:?}: {error}");
        }
    }
    let moving = "-f lavfi -i testsrc2=s=32x32:r=5 -frames:v 3";
    for (name, codec) in [("a.webp", "-c:v libwebp_anim"), ("a.png", "-f apng")] {
        let path = clip(&scratch, name, &[moving, codec]);

        let error = read(&path, MAX_PIXELS).expect_err("it moves");

        assert!(
            matches!(error, MediaError::Animated { .. }),
            "{name}: {error}"
        );
    }
    let path = clip(&scratch, "a.mp4", &[moving, "-pix_fmt yuv420p"]);
    assert!(matches!(
        read(&path, MAX_PIXELS),
        Err(MediaError::NotAStill)
    ));
}

#[test]
fn damage_anywhere_is_the_files_fault_or_does_not_matter() {
    let scratch = scratch();
    let still = Still {
        frame: bars(60, 40),
        alpha: None,
        icc_profile: None,
    };
    for format in [StillFormat::Png, StillFormat::Webp, StillFormat::Jpeg] {
        let path = scratch.path().join("picture");
        write(&path, &still, format).expect("is written");
        let bytes = fs::read(&path).expect("the picture");
        for seed in 1..=2000 {
            fs::write(&path, damaged(&bytes, seed)).expect("the damage");

            let class = read(&path, 1_000_000).err().map(|error| error.class());

            assert!(
                matches!(class, None | Some(Class::InvalidInput)),
                "{format:?}, seed {seed}: {class:?}"
            );
        }
    }
}

#[test]
fn a_full_disk_is_told_apart_for_stills_too() {
    let scratch = scratch();
    let full = scratch.path().join("full.png");
    std::os::unix::fs::symlink("/dev/full", &full).expect("a link to the full disk");
    let still = Still {
        frame: bars(130, 70),
        alpha: None,
        icc_profile: None,
    };
    for format in [StillFormat::Png, StillFormat::Webp, StillFormat::Jpeg] {
        let error = write(&full, &still, format).expect_err("the disk is full");

        assert_eq!(error.class(), Class::ScratchFull, "{format:?}: {error}");
    }
}

#[test]
fn a_side_that_a_format_cannot_hold_is_refused_with_a_way_out() {
    let scratch = scratch();
    let still = Still {
        frame: bars(16_385, 1),
        alpha: None,
        icc_profile: None,
    };

    let error =
        write(&scratch.path().join("o.webp"), &still, StillFormat::Webp).expect_err("too wide");

    assert_eq!(
        error.to_string(),
        "WebP cannot hold 16385 x 1 pixels, its limit is 16384 a side; choose PNG"
    );
}

fn saved(scratch: &TempDir, picture: DynamicImage) -> PathBuf {
    let path = scratch.path().join("saved.png");
    picture
        .save_with_format(&path, ImageFormat::Png)
        .expect("is saved");
    path
}

/// An APP1 segment with nothing but the orientation (EXIF 2.3, tag 0x0112).
fn exif_orientation(orientation: u8) -> Vec<u8> {
    let body = [
        &b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..],
        &[orientation, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    [
        &[0xff, 0xe1][..],
        &(body.len() as u16 + 2).to_be_bytes(),
        &body,
    ]
    .concat()
}

fn png_header(width: u32, height: u32) -> Vec<u8> {
    let chunk = [
        &b"IHDR"[..],
        &width.to_be_bytes(),
        &height.to_be_bytes(),
        &[8, 2, 0, 0, 0],
    ]
    .concat();
    let checksum = crc(&chunk).to_be_bytes();
    [&b"\x89PNG\r\n\x1a\n\0\0\0\x0d"[..], &chunk, &checksum].concat()
}

/// CRC-32 as in PNG, annex D.
fn crc(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| {
        if sum & 1 == 1 {
            0xedb8_8320 ^ (sum >> 1)
        } else {
            sum >> 1
        }
    };
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), step)
    })
}

fn peak_memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("proc");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("a peak");
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number")
}
