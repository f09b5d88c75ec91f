//! Appends, reads and lists records.

use reqwest::{Method, StatusCode};
use ring::digest;

use super::{RecordFolder, RecordGrant, RecordKey, RecordVerb, grant};
use crate::answers::{Names, Stored};
use crate::client::{ClientError, Connection, StoreError};
use crate::grants::SigningKeys;

/// Asks one store for records. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RecordClient {
    connection: Connection,
    keys: SigningKeys,
}

impl RecordClient {
    /// `base` and `authority` as for a [`StoreClient`](crate::client::StoreClient); `keys` are the keys for records.
    ///
    /// # Errors
    /// `ClientError` when `authority` holds no usable certificate.
    pub fn new(
        base: &str,
        authority: &[u8],
        keys: SigningKeys,
    ) -> Result<RecordClient, ClientError> {
        Ok(RecordClient {
            connection: Connection::new(base, authority)?,
            keys,
        })
    }

    /// Gives a name to these bytes; false if they had it already. Durable when it returns.
    ///
    /// # Errors
    /// `StoreError::Refused` with the reason `RecordExists` if other bytes have the name, and the other errors of a store.
    pub async fn append(&self, key: &RecordKey, content: Vec<u8>) -> Result<bool, StoreError> {
        let verb = RecordVerb::Append {
            key: key.clone(),
            bytes: content.len() as u64,
            sha256: hex::encode(digest::digest(&digest::SHA256, &content)),
        };
        let operation = "append a record";
        let link = self.link(verb);
        let answer = self
            .connection
            .ask(operation, Method::PUT, link, content)
            .await?;
        let is_new = answer.status() == StatusCode::CREATED;
        let _: Stored = self.connection.read(operation, answer).await?;
        Ok(is_new)
    }

    /// The bytes of a record; `None` if there is none with this name.
    ///
    /// # Errors
    /// `StoreError`.
    pub async fn read(&self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        let verb = RecordVerb::Read {
            key: key.clone(),
            file_name: key.name().to_owned(),
            media_type: "application/octet-stream".to_owned(),
        };
        let operation = "read a record";
        let link = self.link(verb);
        let answer = self
            .connection
            .ask(operation, Method::GET, link, Vec::new())
            .await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let content = self.connection.body(operation, answer).await?;
        Ok(Some(content.to_vec()))
    }

    /// The first thousand names in a folder after `after`, in order. All names come after the empty one.
    ///
    /// # Errors
    /// `StoreError`.
    pub async fn names(
        &self,
        folder: &RecordFolder,
        after: &str,
    ) -> Result<Vec<String>, StoreError> {
        let verb = RecordVerb::List {
            folder: folder.clone(),
            after: after.to_owned(),
        };
        let operation = "list records";
        let link = self.link(verb);
        let answer = self
            .connection
            .ask(operation, Method::GET, link, Vec::new())
            .await?;
        let Names { names } = self.connection.read(operation, answer).await?;
        Ok(names)
    }

    fn link(&self, verb: RecordVerb) -> String {
        let expires = crate::client::grant_end();
        grant::sign(
            self.connection.base(),
            &RecordGrant { verb, expires },
            &self.keys,
        )
    }
}
