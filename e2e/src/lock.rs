//! One at a time, between processes and between tasks of one process.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::eventually;

/// Waits for the lock of a file without blocking the thread: its holder may be another task of the
/// same thread. Dropping the file lets go.
pub(crate) async fn wait(path: &Path, deadline: Duration) -> Result<File> {
    let file = File::create(path).with_context(|| format!("open {}", path.display()))?;
    let what = format!("{} is free", path.display());
    eventually(deadline, &what, async || match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => bail!("another process or task holds it"),
        Err(TryLockError::Error(error)) => Err(error.into()),
    })
    .await?;
    Ok(file)
}
