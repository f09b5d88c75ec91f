//! A child failed: what does that mean, in our words?
//!
//! Pure, but for one thing that ffmpeg does not tell: whether a file is broken or the disk that it lies on.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitStatus;

use super::error::MediaError;
use super::process::Ending;

/// Longer lines say no more, and a status has no room for them.
const LINE_LIMIT: usize = 200;

/// ffmpeg's own words, and what they mean for who sent the file. The first match wins.
const MEANINGS: &[(&str, &str)] = &[
    (
        "moov atom not found",
        "its index is missing, so it is cut short or was never finished",
    ),
    (TOO_MANY_PIXELS, "its pictures are larger than the limit"),
    ("corrupt input packet", "it is cut short or damaged"),
    ("ended prematurely", "it is cut short"),
    ("partial file", "it is cut short"),
    (
        "no decoder found",
        "it is coded in a way that is not accepted",
    ),
    (
        "not on whitelist",
        "it asks for another file, which is not allowed",
    ),
    ("Invalid data found", "its content is not valid"),
];

const TOO_MANY_PIXELS: &str = "exceeds specified max pixel count";

/// The system's words for what no file and no sender can help.
const OF_THE_SYSTEM: &[&str] = &[
    "Cannot allocate memory",
    "malloc of size",
    "Resource temporarily unavailable",
    "Too many open files",
    "Read-only file system",
    "Permission denied",
    "No such file or directory",
    "Stale file handle",
];

/// The disk's words, and those of ffmpeg's Matroska reader for a file that ends too early.
const IO_ERROR: &str = "Input/output error";

/// ffprobe, or ffmpeg as a decoder, ended with an error.
pub(super) fn reading_failed(program: &'static str, ending: &Ending, input: &Path) -> MediaError {
    let said = last_line(&ending.said, Some(input));
    match interruption(program, ending) {
        Some(Interruption::Crash(signal)) => MediaError::DecoderDied { signal },
        Some(Interruption::Stop(error)) => error,
        None if is_of_the_system(&ending.said)
            || (ending.said.contains(IO_ERROR) && !can_be_read(input)) =>
        {
            MediaError::Program { program, said }
        }
        None => MediaError::BrokenVideo {
            meaning: meaning(&ending.said),
            said,
        },
    }
}

/// ffmpeg as an encoder ended with an error. Our frames cannot be wrong, so beside the system and
/// a poor build only the sender's audio, which is read from the file `audio`, can be the cause.
pub(super) fn writing_failed(
    ending: &Ending,
    ffmpeg: &Path,
    output: &Path,
    audio: Option<&Path>,
) -> MediaError {
    let said = last_line(&ending.said, Some(output));
    if is_disk_full(ending) {
        return MediaError::ScratchFull {
            path: output.into(),
        };
    }
    for (words, lacks) in [
        ("Unknown encoder 'libx264'", "the encoder libx264"),
        ("Unknown encoder 'aac'", "the encoder aac"),
    ] {
        if ending.said.contains(words) {
            return MediaError::ProgramLacks {
                program: ffmpeg.into(),
                lacks,
            };
        }
    }
    match interruption("ffmpeg", ending) {
        Some(Interruption::Crash(signal)) => MediaError::Stopped {
            program: "ffmpeg",
            signal,
        },
        Some(Interruption::Stop(error)) => error,
        None if audio.is_some_and(|audio| is_the_files_fault(&ending.said, audio)) => {
            MediaError::BadAudio { said }
        }
        None => MediaError::Program {
            program: "ffmpeg",
            said,
        },
    }
}

fn is_of_the_system(said: &str) -> bool {
    OF_THE_SYSTEM.iter().any(|words| said.contains(words))
}

/// Whether neither the system nor the disk failed, but for what the broken file at `input` explains.
fn is_the_files_fault(said: &str, input: &Path) -> bool {
    let input_name = input.to_string_lossy();
    let mut io_errors = said.lines().filter(|line| line.contains(IO_ERROR));
    !is_of_the_system(said)
        && io_errors.all(|line| line.contains(&*input_name) && can_be_read(input))
}

fn can_be_read(path: &Path) -> bool {
    File::open(path)
        .and_then(|mut file| io::copy(&mut file, &mut io::sink()))
        .is_ok()
}

/// ffmpeg exits with success when only its very last write fails, so this is asked in any case.
pub(super) fn is_disk_full(ending: &Ending) -> bool {
    let words = ["No space left on device", "Disk quota exceeded"];
    words.iter().any(|words| ending.said.contains(words))
}

/// A picture has more pixels than ffmpeg was told to take.
pub(super) fn is_too_large(ending: &Ending) -> bool {
    ending.said.contains(TOO_MANY_PIXELS)
}

/// ffmpeg takes the end of a file for the end of its streams, and exits with success.
pub(super) fn is_cut_short(ending: &Ending) -> bool {
    let words = ["partial file", "ended prematurely"];
    words.iter().any(|words| ending.said.contains(words))
}

/// The last line that says something, without addresses in memory, paths and control characters.
pub(super) fn last_line(said: &str, path: Option<&Path>) -> String {
    let mut lines = said.lines().rev().map(str::trim);
    let telling = lines.find(|line| !line.is_empty() && *line != "Conversion failed!");
    let Some(mut line) = telling else {
        return "nothing".into();
    };
    while let Some((component, rest)) = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
        && component.contains(" @ 0x")
    {
        line = rest;
    }
    let mut line: String = line
        .chars()
        .filter(|character| !character.is_control())
        .collect();
    if let Some(path) = path.and_then(Path::to_str) {
        line = line
            .replace(&format!("file:{path}"), "the file")
            .replace(path, "the file");
    }
    line.chars().take(LINE_LIMIT).collect()
}

enum Interruption {
    /// The child did something that the processor or libc forbids.
    Crash(String),
    /// Somebody else ended it: out of memory, or a person.
    Stop(MediaError),
}

fn interruption(program: &'static str, ending: &Ending) -> Option<Interruption> {
    if ending.said.contains("received signal") {
        return Some(Interruption::Stop(MediaError::Stopped {
            program,
            signal: "asked to exit".into(),
        }));
    }
    let signal = signal(ending.status)?;
    let name = match signal {
        // Nobody else sends it to a single program.
        9 if !ending.is_by_us => return Some(Interruption::Stop(MediaError::Killed { program })),
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        11 => "SIGSEGV",
        _ => {
            let signal = format!("signal {signal}");
            return Some(Interruption::Stop(MediaError::Stopped { program, signal }));
        }
    };
    Some(Interruption::Crash(name.into()))
}

#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal(_status: ExitStatus) -> Option<i32> {
    None
}

fn meaning(said: &str) -> &'static str {
    let known = MEANINGS.iter().find(|(words, _)| said.contains(words));
    known.map_or(
        "it is damaged or uses something that is not accepted",
        |(_, meaning)| meaning,
    )
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::super::error::Class;
    use super::*;

    fn ending(wait_status: i32, said: &str) -> Ending {
        Ending {
            status: ExitStatus::from_raw(wait_status),
            is_by_us: false,
            said: said.into(),
        }
    }

    #[test]
    fn a_failed_read_says_what_it_means_and_what_was_said() {
        let said = "[mov,mp4 @ 0x55d] moov atom not found\nfile:/s/in: Invalid data found when processing input\n";
        let error = reading_failed("ffprobe", &ending(256, said), Path::new("/s/in"));

        assert_eq!(error.class(), Class::InvalidInput);
        assert_eq!(
            error.to_string(),
            "the video cannot be read: its index is missing, so it is cut short or was never finished \
             (ffmpeg says: the file: Invalid data found when processing input)"
        );
    }

    #[test]
    fn a_crash_is_the_files_fault_and_a_kill_is_not() {
        let crash = reading_failed("ffmpeg", &ending(11, ""), Path::new("in"));
        let stop = reading_failed("ffmpeg", &ending(15, ""), Path::new("in"));

        assert_eq!(crash.class(), Class::InvalidInput);
        assert_eq!(stop.class(), Class::Internal);
    }

    #[test]
    fn who_is_killed_by_others_ran_out_of_memory() {
        let killed = |is_by_us| Ending {
            is_by_us,
            ..ending(9, "")
        };
        let (output, audio) = (Path::new("out.mp4"), Some(Path::new("in.mkv")));
        for (is_by_us, class) in [(false, Class::OutOfMemory), (true, Class::Internal)] {
            let ending = killed(is_by_us);
            let reading = reading_failed("ffmpeg", &ending, Path::new("in"));
            let writing = writing_failed(&ending, Path::new("ffmpeg"), output, audio);
            assert_eq!([reading.class(), writing.class()], [class; 2]);
        }
    }

    #[test]
    fn a_full_disk_is_neither_the_files_nor_the_programs_fault() {
        let said = "av_interleaved_write_frame(): No space left on device\nConversion failed!\n";
        let error = writing_failed(
            &ending(256, said),
            Path::new("ffmpeg"),
            Path::new("out.mp4"),
            Some(Path::new("in.mkv")),
        );

        assert_eq!(error.class(), Class::ScratchFull);
    }

    #[test]
    fn a_missing_encoder_is_the_workers_fault() {
        let error = writing_failed(
            &ending(256, "Unknown encoder 'libx264'\n"),
            Path::new("ffmpeg"),
            Path::new("out.mp4"),
            Some(Path::new("in.mkv")),
        );

        assert_eq!(error.class(), Class::Misconfigured);
    }

    #[test]
    fn what_the_system_refuses_is_not_the_senders_fault() {
        let audio = tempfile::NamedTempFile::new().expect("a file");
        let audio = audio.path();
        let of_the_file = format!("file:{}: Input/output error\n", audio.display());
        for (said, class) in [
            (
                "av_interleaved_write_frame(): Input/output error\nConversion failed!\n",
                Class::Internal,
            ),
            (
                "pthread_create failed: Resource temporarily unavailable\n",
                Class::Internal,
            ),
            (
                "Error while opening encoder: Cannot allocate memory\n",
                Class::Internal,
            ),
            (
                "x264 [error]: malloc of size 33177600 failed\n",
                Class::Internal,
            ),
            (
                "Could not write header: Invalid argument\n",
                Class::InvalidInput,
            ),
            (&of_the_file, Class::InvalidInput),
        ] {
            let (ffmpeg, output) = (Path::new("ffmpeg"), Path::new("out.mp4"));
            let error = writing_failed(&ending(256, said), ffmpeg, output, Some(audio));
            assert_eq!(error.class(), class, "{said}");
        }
    }

    #[test]
    fn an_input_that_the_disk_does_not_give_is_not_the_senders_fault() {
        let said = "file:/s/in: Input/output error\n";
        let (folder, file) = (tempfile::tempdir(), tempfile::NamedTempFile::new());
        let (folder, file) = (folder.expect("a folder"), file.expect("a file"));
        // To read a folder as a file fails as a bad disk does.
        for (path, class) in [
            (folder.path(), Class::Internal),
            (file.path(), Class::InvalidInput),
        ] {
            let error = reading_failed("ffmpeg", &ending(256, said), path);
            assert_eq!(error.class(), class, "{error}");
        }
        let said = "Error opening filters: Cannot allocate memory\n";
        let error = reading_failed("ffmpeg", &ending(256, said), file.path());
        assert_eq!(error.class(), Class::Internal, "{error}");
    }

    #[test]
    fn addresses_and_control_characters_are_left_out() {
        assert_eq!(
            last_line("[h264 @ 0x1] [IMG @ 0x2] too\u{1b}[31m large\n\n", None),
            "too[31m large"
        );
        assert_eq!(last_line("\n", None), "nothing");
    }
}
