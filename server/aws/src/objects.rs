//! Bodies on S3: puts that never replace, with a checksum that the service verifies and keeps.

use crate::{
    error::{Call, Cause, Resource, causes},
    settings::Timeouts,
};
use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    presigning::PresigningConfig,
    primitives::ByteStream,
    types::{ChecksumAlgorithm, ChecksumMode, Delete, ObjectIdentifier},
};
use aws_smithy_checksums::body::validate::Error as ChecksumError;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use leasehold_core::{object::ObjectName, page::Digest};
use leasehold_store::port::{ObjectInfo, ObjectMeta, ObjectStore, Put, ReadError, StoredObject, WriteError};
use std::time::Duration;

/// What S3 deletes in one request.
pub(crate) const DELETE_AT_ONCE: usize = 1000;
/// How long a presigned URL can be valid.
const LONGEST_URL: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const SHORTEST_URL: Duration = Duration::from_secs(1);

/// Immutable objects, in a bucket.
pub(crate) struct S3Objects {
    client: Client,
    bucket: String,
    timeouts: Timeouts,
}

impl S3Objects {
    pub(crate) fn new(client: Client, bucket: String, timeouts: Timeouts) -> Self {
        Self { client, bucket, timeouts }
    }

    fn call(&self, operation: &'static str) -> Call<'_> {
        Call { operation, resource: Resource::Bucket(&self.bucket) }
    }

    async fn fetch(&self, name: &ObjectName) -> Result<Option<StoredObject>, ReadError> {
        let call = self.call("GetObject");
        let sent = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(name.as_str())
            // Said here too, because the environment can tell the SDK not to ask: then the service keeps the checksum to
            // itself, and what rotted is served as it is.
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await;
        let object = match sent {
            Ok(object) => object,
            Err(SdkError::ServiceError(error)) if error.err().is_no_such_key() => return Ok(None),
            Err(error) => return Err(call.read(&error)),
        };
        call.answered(object.e_tag()).map_err(ReadError::Unavailable)?;
        let meta = ObjectMeta {
            content_type: object.content_type.unwrap_or_default(),
            attributes: object.metadata.unwrap_or_default().into_iter().collect(),
        };
        let body = object.body.collect().await.map_err(|error| {
            if causes(&error).any(|cause| cause.is::<ChecksumError>()) {
                call.corrupt_read("an object's bytes do not have its checksum")
            } else {
                ReadError::Unavailable(format!("{call}: the body broke off"))
            }
        })?;
        Ok(Some(StoredObject { body: body.into_bytes(), meta }))
    }

    /// Deletes up to [`DELETE_AT_ONCE`], also where one of them is a key that no request of many can have: the others must not
    /// stay for it. The error of a key that was not deleted, if there is one.
    async fn delete_some(&self, names: &[ObjectName]) -> Result<(), WriteError> {
        let mut left = vec![names];
        let (mut is_any_deleted, mut failure) = (false, None);
        while let Some(some) = left.pop() {
            let settled = match (self.delete_together(some).await, some) {
                (Together::Settled(settled), _) => settled,
                (Together::Refused, [name]) => self.delete_alone(name).await,
                (Together::Refused, _) => {
                    left.extend(<[_; 2]>::from(some.split_at(some.len() / 2)));
                    continue;
                }
            };
            match settled {
                Ok(()) => is_any_deleted = true,
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            None => Ok(()),
            Some(WriteError::NotApplied(why)) if is_any_deleted => Err(WriteError::Unknown(why)),
            Some(error) => Err(error),
        }
    }

    /// Its name is no part of a document, and may be one that none can have.
    async fn delete_alone(&self, name: &ObjectName) -> Result<(), WriteError> {
        let sent = self.client.delete_object().bucket(&self.bucket).key(name.as_str()).send().await;
        sent.map(drop).map_err(|error| self.call("DeleteObject").write(&error))
    }

    async fn delete_together(&self, names: &[ObjectName]) -> Together {
        let call = self.call("DeleteObjects");
        let mut batch = Delete::builder().quiet(true);
        for name in names {
            // Cannot fail: the key is there.
            let object = ObjectIdentifier::builder().key(name.as_str()).build();
            batch = batch.objects(object.expect("an object with a key"));
        }
        let batch = batch.build().expect("a batch with objects");
        let sent = self.client.delete_objects().bucket(&self.bucket).delete(batch).send().await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) if Cause::of(&error).may_be_for_one_key() => return Together::Refused,
            Err(error) => return Together::Settled(Err(call.write(&error))),
        };
        // Answered as a success, whatever became of the keys.
        let failed: Vec<&str> = answer
            .errors()
            .iter()
            .map(|error| error.code().unwrap_or("an error without a code"))
            .filter(|code| *code != "NoSuchKey")
            .collect();
        Together::Settled(match failed[..] {
            [] => Ok(()),
            [first, ..] if failed.len() == names.len() => Err(call.write_part(first)),
            [first, ..] => Err(WriteError::Unknown(format!(
                "{call}: {} of {} objects were not deleted, the first for {first}",
                failed.len(),
                names.len()
            ))),
        })
    }
}

/// What became of a request to delete many.
enum Together {
    /// It was answered, or may have been applied.
    Settled(Result<(), WriteError>),
    /// Nothing was deleted, perhaps for the sake of one key.
    Refused,
}

#[async_trait]
impl ObjectStore for S3Objects {
    async fn put(
        &self,
        name: &ObjectName,
        body: Bytes,
        digest: Digest,
        meta: &ObjectMeta,
    ) -> Result<Put, WriteError> {
        let ObjectMeta { content_type, attributes } = meta;
        let sent = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(name.as_str())
            .if_none_match("*")
            .checksum_sha256(STANDARD.encode(digest.0))
            // It goes with the checksum. S3 does without it; some servers like it keep no checksum that they are not told of.
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .content_type(content_type)
            .set_metadata(Some(attributes.iter().cloned().collect()))
            .body(ByteStream::from(body))
            .send()
            .await;
        match sent {
            Ok(put) => match self.call("PutObject").answered(put.e_tag()) {
                Ok(()) => Ok(Put::Created),
                Err(why) => Err(WriteError::Unknown(why)),
            },
            Err(SdkError::ServiceError(error)) if error.err().code() == Some("PreconditionFailed") => {
                Ok(Put::Exists)
            }
            Err(error) => Err(self.call("PutObject").write(&error)),
        }
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<StoredObject>, ReadError> {
        // The SDK's own limit ends where the body begins.
        let fetched = tokio::time::timeout(self.timeouts.objects, self.fetch(name)).await;
        fetched.unwrap_or_else(|_| {
            Err(ReadError::Unavailable(format!("{}: no answer in time", self.call("GetObject"))))
        })
    }

    async fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, ReadError> {
        let call = self.call("HeadObject");
        let sent = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(name.as_str())
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await;
        let head = match sent {
            Ok(head) => head,
            // An answer without a body: a bucket that is not there looks the same. The preflight tells them apart.
            Err(SdkError::ServiceError(error)) if error.err().is_not_found() => return Ok(None),
            Err(error) => return Err(call.read(&error)),
        };
        call.answered(head.e_tag()).map_err(ReadError::Unavailable)?;
        let size = head.content_length().and_then(|length| u64::try_from(length).ok());
        Ok(Some(ObjectInfo {
            size_bytes: size.ok_or_else(|| call.corrupt_read("an object without a length"))?,
            digest: head.checksum_sha256().and_then(whole_digest),
        }))
    }

    async fn delete(&self, names: &[ObjectName]) -> Result<(), WriteError> {
        for (batch, some) in names.chunks(DELETE_AT_ONCE).enumerate() {
            self.delete_some(some).await.map_err(|error| match error {
                // Batches before this one are deleted: as a whole it was not without effect.
                WriteError::NotApplied(why) if batch > 0 => WriteError::Unknown(why),
                error => error,
            })?;
        }
        Ok(())
    }

    /// A presigned GET. It ends with the credentials that signed it, if these end sooner.
    async fn url(&self, name: &ObjectName, ttl: Duration) -> Result<Option<String>, ReadError> {
        let call = self.call("GetObject");
        let ttl = ttl.clamp(SHORTEST_URL, LONGEST_URL);
        let presigning = PresigningConfig::expires_in(ttl)
            .map_err(|error| ReadError::Unavailable(format!("{call}: {error}")))?;
        let request = self.client.get_object().bucket(&self.bucket).key(name.as_str()).presigned(presigning);
        let request = request.await.map_err(|error| call.read(&error))?;
        Ok(Some(request.uri().into()))
    }
}

/// The digest of a whole object. That of one uploaded in parts is a digest of digests, which says nothing of the bytes.
fn whole_digest(checksum: &str) -> Option<Digest> {
    STANDARD.decode(checksum).ok()?.try_into().ok().map(Digest)
}
