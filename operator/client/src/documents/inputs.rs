//! Local files that are given for the inputs of a manifest by name. No I/O.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

use crate::documents::files::{Named, Place};

/// A local file for an input: `STEP.INPUT=PATH`, or `INPUT=PATH` where only one input has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFile {
    /// The step, if it is given.
    pub step: Option<String>,
    /// The name of the input.
    pub input: String,
    /// The file, relative to the working directory.
    pub path: PathBuf,
}

impl FromStr for InputFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, path) = text
            .split_once('=')
            .filter(|(name, path)| !name.is_empty() && !path.is_empty())
            .ok_or("write STEP.INPUT=PATH, such as large.video=clip.mp4")?;
        let (step, input) = match name.split_once('.') {
            Some((step, input)) => (Some(step.to_owned()), input.to_owned()),
            None => (None, name.to_owned()),
        };
        Ok(InputFile {
            step,
            input,
            path: PathBuf::from(path),
        })
    }
}

/// Why an [`InputFile`] matches no input.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No input has this name.
    #[error("--input {asked}: no step takes an upload of this name; there are: {known}")]
    NoSuchInput { asked: String, known: String },
    /// Several inputs have this name.
    #[error("--input {asked}: more than one input has this name; write one of: {known}")]
    Ambiguous { asked: String, known: String },
    /// Several jobs have a step and an input of this name.
    #[error(
        "--input {asked}: {count} jobs have an input of this name; write the path into the manifest instead (upload: {{file: PATH}}), or submit each job from a file of its own"
    )]
    SeveralJobs { asked: String, count: usize },
}

/// Assigns each file to the place of its input.
///
/// # Errors
/// If a name matches no input, or several.
pub fn assign(places: &mut [Place], inputs: &[InputFile]) -> Result<(), Error> {
    for InputFile { step, input, path } in inputs {
        let asked = match step {
            Some(step) => format!("{step}.{input}"),
            None => input.clone(),
        };
        let is_meant = |place: &Place| {
            place.input.as_ref().is_some_and(|(its_step, its_input)| {
                its_input == input && step.as_ref().is_none_or(|step| step == its_step)
            })
        };
        let known = |places: &[Place], all: bool| {
            let known: Vec<String> = places
                .iter()
                .filter(|place| all || is_meant(place))
                .filter_map(|place| place.input.as_ref())
                .map(|(step, input)| format!("{step}.{input}"))
                .collect::<BTreeSet<String>>()
                .into_iter()
                .collect();
            if known.is_empty() {
                vec!["none".to_owned()]
            } else {
                known
            }
        };
        let mut meant = (0..places.len()).filter(|&index| is_meant(&places[index]));
        match (meant.next(), meant.next()) {
            (Some(index), None) => {
                places[index].named = Named::Path {
                    path: path.clone(),
                    is_argument: true,
                };
            }
            (None, _) => {
                return Err(Error::NoSuchInput {
                    asked,
                    known: known(places, true).join(", "),
                });
            }
            (Some(_), Some(_)) => {
                let known = known(places, false);
                return Err(match known.as_slice() {
                    [one] => Error::SeveralJobs {
                        asked: one.clone(),
                        count: places.iter().filter(|place| is_meant(place)).count(),
                    },
                    several => Error::Ambiguous {
                        asked,
                        known: several.join(", "),
                    },
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_names_its_step_or_not() {
        let input = |step: Option<&str>| InputFile {
            step: step.map(str::to_owned),
            input: "video".into(),
            path: "a=b.mp4".into(),
        };
        assert_eq!("large.video=a=b.mp4".parse(), Ok(input(Some("large"))));
        assert_eq!("video=a=b.mp4".parse(), Ok(input(None)));
        assert!("video".parse::<InputFile>().is_err());
        assert!("=x".parse::<InputFile>().is_err());
    }

    #[test]
    fn an_input_argument_needs_no_step_where_its_name_is_the_only_one() {
        let mut places = places(&["large.video", "poster.image"]);
        assign(&mut places, &[input("image=sea.png")]).expect("only one has this name");
        let error = assign(&mut places, &[input("larger.video=x")]).expect_err("there is none");
        assert!(
            error
                .to_string()
                .ends_with("there are: large.video, poster.image"),
            "{error}"
        );
    }

    #[test]
    fn an_input_name_that_two_steps_share_is_refused() {
        let mut places = places(&["large.video", "larger.video"]);
        let error = assign(&mut places, &[input("video=x")]).expect_err("two have this name");
        assert!(
            error.to_string().ends_with("large.video, larger.video"),
            "{error}"
        );
    }

    #[test]
    fn an_input_name_that_two_jobs_share_says_to_write_the_path_into_the_manifest() {
        for asked in ["video=x", "large.video=x"] {
            let mut places = places(&["large.video", "large.video"]);
            places[1].document = 1;
            let error = assign(&mut places, &[input(asked)]).expect_err("two have this name");
            assert!(
                error.to_string().starts_with(
                    "--input large.video: 2 jobs have an input of this name; write the path into the manifest"
                ),
                "{error}"
            );
        }
    }

    /// Inputs with names of the form step.input, none of which has a file.
    fn places(names: &[&str]) -> Vec<Place> {
        let place = |name: &&str| Place {
            document: 0,
            pointer: String::new(),
            name: (*name).to_owned(),
            input: name
                .split_once('.')
                .map(|(step, input)| (step.to_owned(), input.to_owned())),
            is_uploaded: true,
            named: Named::Nothing,
        };
        names.iter().map(place).collect()
    }

    fn input(text: &str) -> InputFile {
        text.parse().expect("is one")
    }
}
