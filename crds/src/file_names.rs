//! The file name of a job's result: for the plugin, `framewright-worker run` and the links that browsers follow.

/// The most bytes in a file name. Most file systems take 255, some take 143, and a partial download needs 19 beside the name.
const MAX_BYTES: usize = 120;
/// The most bytes of a result's name in a shortened file name. The CRD allows no more.
const MAX_RESULT_BYTES: usize = 40;

/// `JOB-RESULT.EXTENSION`. If that is longer than 120 bytes, the job's name is cut and a hash of both names follows it, so that the
/// file names of two jobs still differ.
#[must_use]
pub fn result(job: &str, result: &str, extension: &str) -> String {
    let name = format!("{job}-{result}.{extension}");
    if name.len() <= MAX_BYTES {
        return name;
    }
    let hash = hash(&format!("{job}/{result}"));
    let end = format!("-{hash:016x}-{}.{extension}", cut(result, MAX_RESULT_BYTES));
    format!("{}{end}", cut(job, MAX_BYTES.saturating_sub(end.len())))
}

/// The extension for a media type, without the dot.
#[must_use]
pub fn extension(media_type: &str) -> &'static str {
    let essence = media_type.split(';').next().unwrap_or("").trim();
    match essence.to_ascii_lowercase().as_str() {
        "video/mp4" => "mp4",
        "video/webm" => "webm",
        "video/x-matroska" => "mkv",
        "video/quicktime" => "mov",
        "image/png" => "png",
        "image/jpeg" => "jpg",
        "image/webp" => "webp",
        "image/gif" => "gif",
        "audio/mpeg" => "mp3",
        "audio/wav" | "audio/x-wav" => "wav",
        "application/json" => "json",
        "text/plain" => "txt",
        _ => "bin",
    }
}

fn cut(text: &str, bytes: usize) -> &str {
    let start = &text[..text.floor_char_boundary(bytes)];
    start.trim_end_matches(['-', '.'])
}

/// FNV-1a: the same on every system and in every version.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_called_by_job_name_and_media_type() {
        for (media_type, name) in [
            ("video/mp4", "demo-large.mp4"),
            ("image/PNG; q=1", "demo-large.png"),
            ("what/ever", "demo-large.bin"),
        ] {
            assert_eq!(result("demo", "large", extension(media_type)), name);
        }
    }

    #[test]
    fn a_long_name_is_cut_and_the_rest_still_tells_jobs_and_results_apart() {
        let job = "j".repeat(253);
        let other = format!("{}k", "j".repeat(252));
        let long = "r".repeat(40);
        let names = [
            result(&job, "large", "webm"),
            result(&job, "larger", "webm"),
            result(&other, "large", "webm"),
            result(&job, &long, "webm"),
            result(&job, &long.repeat(9), "webm"),
        ];
        for (index, name) in names.iter().enumerate() {
            assert!(name.len() <= MAX_BYTES, "{name}");
            assert!(!names[..index].contains(name), "{name}");
        }
        assert!(names[0].starts_with("jjjj") && names[0].ends_with("-large.webm"));
        assert_eq!(names[0], result(&job, "large", "webm"), "it is stable");
    }

    #[test]
    fn the_longest_name_that_fits_stays_whole() {
        let job = "j".repeat(MAX_BYTES - "-large.mp4".len());
        assert_eq!(result(&job, "large", "mp4"), format!("{job}-large.mp4"));
        let longer = format!("{job}j");
        assert_ne!(
            result(&longer, "large", "mp4"),
            format!("{longer}-large.mp4")
        );
    }
}
