//! Stand-in.
pub async fn run(_args: crate::args::RunArgs) -> Result<(), std::io::Error> { Ok(()) }
