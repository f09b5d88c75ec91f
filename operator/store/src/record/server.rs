//! The store's end of records.

use std::path::Path;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use ring::digest;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tracing::info;

use super::{NAMES_MAX, RECORD_BYTES_MAX, RecordFolder, RecordKey, RecordVerb};
use crate::answers::{Names, Stored};
use crate::backend::{BackendError, failed};
use crate::disposition::{content_disposition, content_type};
use crate::error::Refusal;
use crate::grants::SigningKeys;
use crate::pace::SLOWEST;
use crate::routes::in_time;
use crate::upload;
use crate::volume::{self, Volume};

/// Beside the folder of artifacts, where no list of owners looks.
const FOLDER: &str = "records";
/// Records are held in memory while they come or go.
const AT_ONCE: usize = 8;
/// How long a request waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// The records of one store.
#[derive(Debug)]
pub(crate) struct Records {
    objects: LocalFileSystem,
    volume: Volume,
    /// Keys that sign links to records.
    pub keys: watch::Receiver<SigningKeys>,
    places: Semaphore,
    idle: Duration,
}

impl Records {
    /// # Errors
    /// `BackendError::Volume` when nothing can be written there.
    pub(crate) fn on_volume(
        root: &Path,
        keys: watch::Receiver<SigningKeys>,
        idle: Duration,
    ) -> Result<Records, BackendError> {
        let folder = root.join(FOLDER);
        let failed_to = |operation| move |source| BackendError::Volume { operation, source };
        std::fs::create_dir_all(&folder).map_err(failed_to("make a folder on the volume"))?;
        volume::sync_folder(root).map_err(failed_to("sync the volume's folder"))?;
        let objects = LocalFileSystem::new_with_prefix(&folder)
            .map_err(|source| failed("open the volume", source))?
            .with_fsync(true);
        Ok(Records {
            objects,
            volume: Volume::new(folder),
            keys,
            places: Semaphore::new(AT_ONCE),
            idle,
        })
    }

    /// Removes what broken appends left `age` ago or earlier; how many files that were.
    pub(crate) async fn remove_leftovers(&self, age: Duration) -> Result<u64, BackendError> {
        let operation = "clear what broken appends left";
        self.on_its_thread(operation, move |volume| {
            volume.remove_leftovers(age, SystemTime::now())
        })
        .await
    }

    pub(crate) async fn act(&self, verb: RecordVerb, body: Body) -> Result<Response, Refusal> {
        let place = timeout(TURN, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else {
            upload::drain(&mut body.into_data_stream()).await;
            return Err(Refusal::Busy);
        };
        match verb {
            RecordVerb::Append { key, bytes, sha256 } => {
                let content = self.receive(bytes, &sha256, body).await?;
                in_time(self.append(&key, &sha256, content)).await
            }
            RecordVerb::Read {
                key,
                file_name,
                media_type,
            } => {
                let content = in_time(self.read(&key)).await?;
                let content = content.ok_or_else(|| Refusal::NoRecord {
                    key: key.to_string(),
                })?;
                Ok(answer(&file_name, &media_type, content))
            }
            RecordVerb::List { folder, after } => {
                let names = in_time(self.names(&folder, &after)).await?;
                Ok(Json(Names { names }).into_response())
            }
        }
    }

    /// The bytes of the grant, or none.
    async fn receive(&self, granted: u64, sha256: &str, body: Body) -> Result<Bytes, Refusal> {
        if granted > RECORD_BYTES_MAX {
            upload::drain(&mut body.into_data_stream()).await;
            return Err(Refusal::RecordTooLarge { granted });
        }
        let limit = self.idle + Duration::from_secs(granted / SLOWEST);
        let most = usize::try_from(granted).unwrap_or(usize::MAX);
        let content = match timeout(limit, to_bytes(body, most)).await {
            Ok(Ok(content)) => content,
            Ok(Err(error)) if is_too_long(&error) => {
                return Err(Refusal::TooLarge {
                    granted,
                    sent: granted.saturating_add(1),
                });
            }
            Ok(Err(_)) => {
                return Err(Refusal::Broken {
                    granted,
                    received: 0,
                });
            }
            Err(_) => {
                return Err(Refusal::TooSlow {
                    seconds: limit.as_secs(),
                });
            }
        };
        let sent = content.len() as u64;
        if sent < granted {
            return Err(Refusal::TooSmall { granted, sent });
        }
        let received = digest_of(&content);
        if received != sha256 {
            return Err(Refusal::Digest {
                granted: sha256.to_owned(),
                received,
            });
        }
        Ok(content)
    }

    /// Gives the name to these bytes, unless other bytes have it. Durable when it returns, whoever wrote it.
    async fn append(
        &self,
        key: &RecordKey,
        sha256: &str,
        content: Bytes,
    ) -> Result<Response, Refusal> {
        let bytes = content.len() as u64;
        let _room = self.promise(bytes).await?;
        let options = PutOptions::from(PutMode::Create);
        let path = path(key);
        let put = self
            .objects
            .put_opts(&path, PutPayload::from_bytes(content), options);
        let is_new = match put.await {
            Ok(_) => true,
            Err(object_store::Error::AlreadyExists { .. }) => false,
            Err(source) => return Err(failed("write a record", source).into()),
        };
        if !is_new {
            let there = self.read(key).await?.unwrap_or_default();
            if digest_of(&there) != sha256 {
                return Err(Refusal::RecordExists {
                    key: key.to_string(),
                });
            }
        }
        let folder = key.folder().to_string();
        self.on_its_thread("sync a record's folders", move |volume| {
            volume.sync_down_to(&folder)
        })
        .await?;
        info!(record = %key, bytes, is_new, "record appended");
        let status = if is_new {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        let stored = Stored {
            sha256: sha256.to_owned(),
            bytes,
        };
        Ok((status, Json(stored)).into_response())
    }

    async fn read(&self, key: &RecordKey) -> Result<Option<Bytes>, Refusal> {
        let found = match self.objects.get(&path(key)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(failed("read a record", source).into()),
        };
        let content = found.bytes().await;
        Ok(Some(content.map_err(|source| {
            Refusal::from(failed("read a record", source))
        })?))
    }

    /// The first names after `after`.
    async fn names(&self, folder: &RecordFolder, after: &str) -> Result<Vec<String>, Refusal> {
        let prefix = ObjectPath::from(folder.to_string());
        let found: Vec<_> = self
            .objects
            .list(Some(&prefix))
            .map_ok(|meta| meta.location)
            .try_collect()
            .await
            .map_err(|source| failed("list records", source))?;
        let mut names: Vec<String> = found
            .iter()
            .filter_map(|path| RecordKey::parse(path.as_ref()).ok())
            .map(|key| key.name)
            .filter(|name| name.as_str() > after)
            .collect();
        names.sort_unstable();
        names.truncate(NAMES_MAX);
        Ok(names)
    }

    async fn promise(&self, bytes: u64) -> Result<volume::Room, Refusal> {
        let free = self
            .on_its_thread("ask how full the volume is", |volume| volume.free_bytes())
            .await?;
        let promised = self.volume.promise(bytes, free);
        promised.map_err(|volume::NoRoom { free }| Refusal::NoRoom {
            wanted: bytes,
            free,
        })
    }

    async fn on_its_thread<Value: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(Volume) -> std::io::Result<Value> + Send + 'static,
    ) -> Result<Value, BackendError> {
        let volume = self.volume.clone();
        let result = match tokio::task::spawn_blocking(move || work(volume)).await {
            Ok(result) => result,
            Err(stopped) => Err(std::io::Error::other(stopped)),
        };
        result.map_err(|source| BackendError::Volume { operation, source })
    }
}

fn answer(file_name: &str, media_type: &str, content: Bytes) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type(media_type).to_owned()),
        (
            header::CONTENT_DISPOSITION,
            content_disposition(file_name, media_type),
        ),
        (header::CACHE_CONTROL, "private, no-store".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    (headers, content).into_response()
}

fn path(key: &RecordKey) -> ObjectPath {
    ObjectPath::from(key.to_string())
}

fn digest_of(content: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, content))
}

fn is_too_long(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}
