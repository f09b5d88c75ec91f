//! Does real media survive the way in and out, and does bad media end in one clear sentence?
//! Clips are made here by the real ffmpeg, which must be installed.

mod clips;
mod codecs;
mod colours;
mod containers;
mod decoding;
mod encoding;
mod ffmpeg_errors;
mod refusals;
mod stills;
