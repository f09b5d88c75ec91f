//! What a person sees.
//!
//! # Layout
//! - [`screen`]: progress and lines on a terminal
//! - [`step_words`]: a step's story in words
//! - [`table`]: tables, times and numbers
//! - [`words`]: a job's story in words

pub(crate) mod screen;
pub(crate) mod step_words;
pub(crate) mod table;
pub(crate) mod words;
