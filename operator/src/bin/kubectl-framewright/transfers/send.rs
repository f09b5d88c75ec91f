//! Sends one local file to the link that waits for it, again and with new links until it has arrived.

use std::time::Duration;

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
use crate::told::screen::{Meter, Screen};
use crate::transfers::link;
use crate::transfers::store::{self, Store};
use crate::transfers::transfer::{Next, Patience, unless_stalled};

/// How much is read from the file at a time.
const CHUNK: usize = 256 << 10;
/// How long nothing may move.
const STALL: Duration = Duration::from_secs(60);

/// Why a file did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot upload {path}")]
    Link {
        path: String,
        #[source]
        source: owner::Error,
    },
    #[error("cannot upload {path} for {owner}")]
    Store {
        path: String,
        owner: Owner,
        #[source]
        source: store::Error,
    },
}

/// Returns when the store has the file, verified.
pub(crate) async fn send(
    store: &Store<'_>,
    screen: &Screen,
    owner: &Owner,
    file: &LocalFile,
) -> Result<(), Error> {
    let path = file.path.display().to_string();
    let wanted = Wanted::Upload(file.digest.sha256.clone());
    let link = async |is_new| {
        owner
            .link(store.cluster, &wanted, is_new)
            .await
            .map_err(|source| Error::Link {
                path: path.clone(),
                source,
            })
    };
    let mut patience = Patience::default();
    let mut found = link(false).await?;
    loop {
        let Found::Link(address) = found else {
            screen.say(&format!("{path}: the store has it already"));
            return Ok(());
        };
        let meter = screen.transfer(format!("uploads {path}"), file.digest.bytes, 0);
        let result = put(store, file, &address, &meter).await;
        drop(meter);
        let Err(error) = result else {
            screen.say(&format!(
                "{path}: uploaded, {}",
                HumanBytes(file.digest.bytes)
            ));
            return Ok(());
        };
        match patience.after(&error, false) {
            Next::AgainAfter(pause) => {
                screen.say(&format!(
                    "{path}: {}; tries again in {} s",
                    sentence(&error),
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
        digest: FileDigest { sha256: _, bytes },
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

/// An error and its sources in one line.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
