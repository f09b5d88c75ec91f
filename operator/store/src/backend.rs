//! What the store asks of the place that keeps its bytes, be it a folder or, one day, a bucket.
//!
//! Everything goes through `object_store`; what is peculiar to a folder is in `volume`.

use std::collections::BTreeMap;
use std::io::SeekFrom;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use framewright_crds::names::ArtifactRole;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, GetRange, GetResultPayload, MultipartUpload, ObjectStore};
use object_store::{ObjectMeta, ObjectStoreExt};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::broadcast;
use tokio_util::io::ReaderStream;

use super::answers::OwnerUse;
use super::key::{ArtifactKey, Owner};
use super::volume::{self, Room, Volume};

/// A volume's root may hold what is not ours, such as lost+found.
const FOLDER: &str = "artifacts";
/// How much is read from a file at a time.
const READ_BYTES: usize = 256 << 10;
/// Changes that a watch stream may lag behind before it is closed and begins anew.
const CHANGES_WAITING: usize = 8192;
/// How often an upload's folder may go away before that is an error.
const BEGIN_ATTEMPTS: u32 = 10;

/// The place that keeps the bytes.
#[derive(Debug)]
pub(crate) struct Backend {
    objects: Arc<dyn ObjectStore>,
    part_bytes: usize,
    volume: Option<Volume>,
    changes: broadcast::Sender<ArtifactKey>,
}

/// What went wrong there.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    #[error("the store's volume is full: {wanted} bytes are wanted and {free} are free")]
    NoRoom { wanted: u64, free: u64 },
    #[error("the store's volume is full")]
    Full { source: object_store::Error },
    #[error("cannot {operation}")]
    Failed {
        operation: &'static str,
        source: object_store::Error,
    },
    #[error("cannot {operation}")]
    Volume {
        operation: &'static str,
        source: std::io::Error,
    },
}

pub(crate) type ByteStream = BoxStream<'static, Result<Bytes, std::io::Error>>;

impl Backend {
    /// A folder of a mounted volume.
    ///
    /// # Errors
    /// `BackendError::Volume` when nothing can be written there.
    pub(crate) fn on_volume(root: &Path) -> Result<Backend, BackendError> {
        let folder = root.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(|source| BackendError::Volume {
            operation: "make a folder on the volume",
            source,
        })?;
        volume::sync_folder(root).map_err(|source| BackendError::Volume {
            operation: "sync the volume's folder",
            source,
        })?;
        // An answered upload must survive a power cut: file and folders are synced before the answer.
        let objects = LocalFileSystem::new_with_prefix(&folder)
            .map_err(|source| failed("open the volume", source))?
            .with_automatic_cleanup(true)
            .with_fsync(true);
        Ok(Backend {
            objects: Arc::new(objects),
            part_bytes: 1 << 20,
            volume: Some(Volume::new(folder)),
            changes: broadcast::Sender::new(CHANGES_WAITING),
        })
    }

    /// How much an upload should gather before it writes.
    pub(crate) fn part_bytes(&self) -> usize {
        self.part_bytes
    }

    /// The size of an artifact in bytes, if it is there.
    pub(crate) async fn size(&self, key: &ArtifactKey) -> Result<Option<u64>, BackendError> {
        match self.objects.head(&path(key)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(failed("look for an artifact", source)),
        }
    }

    /// Keys that have just become visible, or have gone. Which of both, [`Backend::size`] says.
    pub(crate) fn changes(&self) -> broadcast::Receiver<ArtifactKey> {
        self.changes.subscribe()
    }

    fn changed(&self, key: ArtifactKey) {
        // Fails when nobody listens.
        let _ = self.changes.send(key);
    }

    /// The bytes of an artifact, if it is there.
    pub(crate) async fn read(
        &self,
        key: &ArtifactKey,
        range: Range<u64>,
    ) -> Result<Option<ByteStream>, BackendError> {
        let operation = "read an artifact";
        // An empty range is not a range for object_store.
        let length = range.end - range.start;
        let options = GetOptions {
            range: (length > 0).then_some(GetRange::Bounded(range.clone())),
            ..GetOptions::default()
        };
        let found = match self.objects.get_opts(&path(key), options).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(failed(operation, source)),
        };
        match found.payload {
            // Its own stream reads a file in pieces of 8 KiB, each on another thread.
            GetResultPayload::File(file, _) => {
                let mut file = tokio::fs::File::from_std(file);
                file.seek(SeekFrom::Start(range.start))
                    .await
                    .map_err(|source| BackendError::Volume { operation, source })?;
                Ok(Some(
                    ReaderStream::with_capacity(file.take(length), READ_BYTES).boxed(),
                ))
            }
            GetResultPayload::Stream(stream) => {
                Ok(Some(stream.map_err(std::io::Error::other).boxed()))
            }
        }
    }

    /// Promises room for an upload; without a volume there is always room.
    pub(crate) async fn promise(&self, bytes: u64) -> Result<Option<Room>, BackendError> {
        let Some(volume) = &self.volume else {
            return Ok(None);
        };
        let free = self.free_bytes().await?.unwrap_or(u64::MAX);
        match volume.promise(bytes, free) {
            Ok(room) => Ok(Some(room)),
            Err(volume::NoRoom { free }) => Err(BackendError::NoRoom {
                wanted: bytes,
                free,
            }),
        }
    }

    /// Begins an upload that nobody sees before it is completed.
    pub(crate) async fn begin(
        &self,
        key: &ArtifactKey,
    ) -> Result<Box<dyn MultipartUpload>, BackendError> {
        let path = path(key);
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.objects.put_multipart(&path).await {
                Ok(upload) => return Ok(upload),
                // A delete took an empty folder between its making and its use.
                Err(error) if attempts < BEGIN_ATTEMPTS && volume::is_gone(&error) => {}
                Err(source) => return Err(failed("begin an upload", source)),
            }
        }
    }

    /// Makes an upload visible.
    pub(crate) async fn complete(
        &self,
        key: &ArtifactKey,
        upload: &mut Box<dyn MultipartUpload>,
    ) -> Result<(), BackendError> {
        upload
            .complete()
            .await
            .map_err(|source| failed("complete an upload", source))?;
        self.changed(key.clone());
        Ok(())
    }

    /// Returns once an artifact that is visible would also survive a power cut, whoever made it visible.
    pub(crate) async fn settle(&self, key: &ArtifactKey) -> Result<(), BackendError> {
        let folder = key.folder();
        self.on_its_thread("sync an artifact's folders", move |volume| {
            volume.sync_down_to(&folder)
        })
        .await?;
        Ok(())
    }

    /// Removes what unfinished uploads of one artifact hold. One that still runs fails and is sent again.
    pub(crate) async fn discard(&self, key: &ArtifactKey) -> Result<(), BackendError> {
        let key = key.clone();
        self.on_its_thread("clear a broken upload", move |volume| {
            volume.discard(&key.folder(), key.sha256())
        })
        .await?;
        Ok(())
    }

    /// Deletes all that an owner has, or has in one role; how many artifacts that were.
    pub(crate) async fn delete(
        &self,
        owner: &Owner,
        role: Option<ArtifactRole>,
    ) -> Result<u64, BackendError> {
        let prefix = match role {
            Some(role) => ObjectPath::from(format!("{owner}/{role}")),
            None => ObjectPath::from(owner.to_string()),
        };
        let found = self
            .objects
            .list(Some(&prefix))
            .map_ok(|meta| meta.location)
            .boxed();
        let mut deleted = self.objects.delete_stream(found);
        let mut count = 0;
        while let Some(result) = deleted.next().await {
            match result {
                Ok(path) => {
                    count += 1;
                    if let Ok(key) = ArtifactKey::parse(path.as_ref()) {
                        self.changed(key);
                    }
                }
                // Somebody else deletes at the same time, with the same end.
                Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(failed("delete an owner's artifacts", source)),
            }
        }
        Ok(count)
    }

    /// What every owner has. What lies there without being an artifact is left alone.
    pub(crate) async fn owners(&self) -> Result<Vec<OwnerUse>, BackendError> {
        let mut owners: BTreeMap<String, OwnerUse> = BTreeMap::new();
        let mut found = self.objects.list(None);
        while let Some(meta) = found.next().await {
            let meta = meta.map_err(|source| failed("list the artifacts", source))?;
            if let Ok(key) = ArtifactKey::parse(meta.location.as_ref()) {
                count(&mut owners, key.owner(), &meta);
            }
        }
        Ok(owners.into_values().collect())
    }

    /// Whether the place answers at all.
    pub(crate) async fn probe(&self) -> Result<(), BackendError> {
        match self.objects.head(&ObjectPath::from("probe")).await {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(failed("reach the store's volume", source)),
        }
    }

    /// Bytes that may still be written, where that is bounded.
    pub(crate) async fn free_bytes(&self) -> Result<Option<u64>, BackendError> {
        self.on_its_thread("ask how full the volume is", |volume| volume.free_bytes())
            .await
    }

    /// Removes what killed uploads left `age` ago or earlier; how many files that were.
    pub(crate) async fn remove_leftovers(&self, age: Duration) -> Result<u64, BackendError> {
        let removed = self
            .on_its_thread("clear what broken uploads left", move |volume| {
                volume.remove_leftovers(age, SystemTime::now())
            })
            .await?;
        Ok(removed.unwrap_or(0))
    }

    async fn on_its_thread<Value: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(Volume) -> std::io::Result<Value> + Send + 'static,
    ) -> Result<Option<Value>, BackendError> {
        let Some(volume) = self.volume.clone() else {
            return Ok(None);
        };
        let result = match tokio::task::spawn_blocking(move || work(volume)).await {
            Ok(result) => result,
            Err(stopped) => Err(std::io::Error::other(stopped)),
        };
        result
            .map(Some)
            .map_err(|source| BackendError::Volume { operation, source })
    }
}

/// Sorts a failure by what the caller can do about it.
pub(crate) fn failed(operation: &'static str, source: object_store::Error) -> BackendError {
    if volume::is_full(&source) {
        BackendError::Full { source }
    } else {
        BackendError::Failed { operation, source }
    }
}

fn path(key: &ArtifactKey) -> ObjectPath {
    ObjectPath::from(key.to_string())
}

fn count(owners: &mut BTreeMap<String, OwnerUse>, owner: &Owner, meta: &ObjectMeta) {
    let changed =
        Timestamp::from_second(meta.last_modified.timestamp()).unwrap_or(Timestamp::UNIX_EPOCH);
    let owner = owner.to_string();
    let entry = owners.entry(owner.clone()).or_insert(OwnerUse {
        owner,
        artifacts: 0,
        bytes: 0,
        newest: changed,
    });
    entry.artifacts += 1;
    entry.bytes += meta.size;
    entry.newest = entry.newest.max(changed);
}
