//! One at a time, between processes and between tasks of one process.

use std::cell::Cell;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::eventually;

/// A wait that is over by then needs no word.
const SOON: Duration = Duration::from_secs(2);

/// Waits for the lock of a file without blocking the thread: its holder may be another task of the
/// same thread. Dropping the file lets go.
pub(crate) async fn wait(path: &Path, deadline: Duration) -> Result<File> {
    let file = File::create(path).with_context(|| format!("open {}", path.display()))?;
    let what = format!("{} is free", path.display());
    let (began, is_told) = (Instant::now(), Cell::new(false));
    eventually(deadline, &what, async || match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            if began.elapsed() > SOON && !is_told.replace(true) {
                eprintln!("waits until {what}: another process or task holds it");
            }
            bail!("another process or task holds it")
        }
        Err(TryLockError::Error(error)) => Err(error.into()),
    })
    .await?;
    Ok(file)
}
