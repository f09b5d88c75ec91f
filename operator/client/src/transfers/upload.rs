//! Uploads one local file, with retries and new links, until the store has it.

use std::time::Duration;

use framewright_crds::error_chain::error_chain;
use futures::StreamExt as _;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, HOST};
use hyper::{Method, Request};
use indicatif::HumanBytes;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::time::sleep;
use tokio_util::io::ReaderStream;

use crate::digest::{FileDigest, LocalFile};
use crate::objects::links::{Found, Wanted};
use crate::objects::owner::{self, Owner};
use crate::screen::{Meter, Screen};
use crate::transfers::link;
use crate::transfers::retry::{Next, Retries, unless_stalled};
use crate::transfers::store::{self, Store};

/// How much is read from the file at a time.
const CHUNK: usize = 256 << 10;
/// How long a transfer may make no progress.
const STALL: Duration = Duration::from_secs(60);

/// Why a file was not uploaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no link.
    #[error("cannot upload {path}")]
    Link {
        path: String,
        #[source]
        source: owner::Error,
    },
    /// The transfer failed.
    #[error("cannot upload {path} for {owner}")]
    Store {
        path: String,
        owner: Owner,
        #[source]
        source: store::Error,
    },
}

/// Uploads a file that a job or pool needs. Returns when the store has verified it.
///
/// # Errors
/// If the owner does not need the file, or it cannot be uploaded.
pub async fn upload(
    store: &Store<'_>,
    screen: &Screen,
    owner: &Owner,
    file: &LocalFile,
) -> Result<(), Error> {
    let path = file.path.display().to_string();
    let wanted = Wanted::Upload(file.content.digest.clone());
    let link = async |is_new| {
        owner
            .link(store.cluster, &wanted, is_new)
            .await
            .map_err(|source| Error::Link {
                path: path.clone(),
                source,
            })
    };
    let mut retries = Retries::default();
    let mut found = link(false).await?;
    loop {
        let Found::Link(address) = found else {
            screen.say(&format!("{path}: already in the store"));
            return Ok(());
        };
        let meter = screen.transfer(format!("uploads {path}"), file.content.bytes, 0);
        let result = put(store, file, &address, &meter).await;
        drop(meter);
        let Err(error) = result else {
            screen.say(&format!(
                "{path}: uploaded, {}",
                HumanBytes(file.content.bytes)
            ));
            return Ok(());
        };
        match retries.after(&error, false) {
            Next::AgainAfter(pause) => {
                screen.say(&format!(
                    "{path}: {}; the plugin tries again in {} s",
                    error_chain(&error),
                    pause.as_secs()
                ));
                sleep(pause).await;
                found = link(false).await?;
            }
            Next::NewLink => found = link(true).await?,
            Next::Stop => {
                return Err(Error::Store {
                    path,
                    owner: owner.clone(),
                    source: error,
                });
            }
        }
    }
}

async fn put(
    store: &Store<'_>,
    file: &LocalFile,
    address: &str,
    meter: &Meter,
) -> Result<(), store::Error> {
    let LocalFile {
        path,
        content: FileDigest { digest: _, bytes },
    } = file;
    let failed = |source| store::Error::ReadFile {
        path: path.clone(),
        source,
    };
    let reader = File::open(path).await.map_err(failed)?.take(*bytes);
    let counted = meter.clone();
    let frames = ReaderStream::with_capacity(reader, CHUNK).map(move |chunk| {
        chunk.map(|chunk| {
            counted.moved(chunk.len() as u64);
            Frame::data(chunk)
        })
    });
    let request = Request::builder()
        .method(Method::PUT)
        .uri(link::target(address)?)
        .header(HOST, "localhost")
        .header(CONTENT_LENGTH, *bytes)
        .body(BodyExt::boxed(StreamBody::new(frames)))
        .map_err(store::Error::Request)?;
    unless_stalled(meter, STALL, store.send(request)).await??;
    Ok(())
}
