//! S3, as far as the coordinator uses it: its wire protocol by s3s, over objects in memory.

use super::{
    Doubles,
    connector::{Answer, Server},
};
use aws_smithy_runtime_api::client::{
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use aws_smithy_types::{DateTime, body::SdkBody, date_time::Format};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use leasehold_core::{object::ObjectName, time::Timestamp};
use parking_lot::Mutex;
use s3s::{
    Body, S3, S3Request, S3Response, S3Result,
    auth::SimpleAuth,
    config::{S3Config, StaticConfigProvider},
    dto::{
        self, ChecksumMode, CreateBucketInput, CreateBucketOutput, DeleteObjectInput, DeleteObjectOutput,
        DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, ETagCondition, EncodingType, Error,
        GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput,
        HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, PutObjectInput, PutObjectOutput,
        StreamingBlob,
    },
    s3_error,
    service::{S3Service, S3ServiceBuilder},
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Bound,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// What S3 lists in one request.
const PAGE_OF_KEYS: i32 = 1000;

/// An S3 in the process. Clones are the same one.
#[derive(Clone)]
pub struct S3Double {
    state: Arc<Mutex<State>>,
    service: S3Service,
}

#[derive(Default)]
struct State {
    buckets: HashMap<String, BTreeMap<String, Object>>,
    undeletable: HashSet<String>,
    /// What names begin with that may be touched.
    allowed: String,
    /// Names that were deleted while there was nothing: what a bucket with versions keeps a marker of.
    markers: Vec<String>,
    /// Whether puts pass over conditions on an entity tag.
    unconditional: bool,
    now: Timestamp,
    date: Option<Timestamp>,
}

#[derive(Clone)]
struct Object {
    body: Bytes,
    content_type: Option<String>,
    metadata: Option<HashMap<String, String>>,
    /// Of objects that were put with one.
    checksum_sha256: Option<String>,
    last_modified: Timestamp,
}

impl S3Double {
    /// One without buckets.
    pub fn new() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let mut service = S3ServiceBuilder::new(InMemory(state.clone()));
        service.set_auth(SimpleAuth::from_single(Doubles::ACCESS_KEY, Doubles::SECRET_KEY));
        // Whose clock would it be? That of the machine says nothing of a simulated one, which may stand years from it.
        let mut any_time = S3Config::default();
        any_time.presigned_url_max_skew_time_secs = u32::MAX;
        service.set_config(Arc::new(StaticConfigProvider::new(Arc::new(any_time))));
        Self { state, service: service.build() }
    }

    /// Puts an object as somebody else would: without a checksum.
    pub fn put_plainly(&self, bucket: &str, name: &ObjectName, body: impl Into<Bytes>) {
        let mut state = self.state.lock();
        let object = Object {
            body: body.into(),
            content_type: None,
            metadata: None,
            checksum_sha256: None,
            last_modified: state.now,
        };
        state.buckets.entry(bucket.into()).or_default().insert(name.as_str().into(), object);
    }

    /// From now on, it is this time: what is put was last modified then. At first it is the epoch.
    pub fn set_time(&self, now: Timestamp) {
        self.state.lock().now = now;
    }

    /// From now on, answers are dated so. At first they are not, save that on sockets they bear the time of this machine.
    pub fn set_date(&self, date: Timestamp) {
        self.state.lock().date = Some(date);
    }

    /// Changes an object's bytes behind the back of its checksum. Nothing where there is none.
    pub fn rot(&self, bucket: &str, name: &ObjectName) {
        let mut state = self.state.lock();
        let object = state.buckets.get_mut(bucket).and_then(|objects| objects.get_mut(name.as_str()));
        if let Some(object) = object {
            object.body = object.body.iter().map(|byte| !byte).collect();
        }
    }

    /// From now on, deleting this object fails with an error of its own, amid others that are deleted.
    pub fn refuse_to_delete(&self, name: &ObjectName) {
        self.state.lock().undeletable.insert(name.as_str().into());
    }

    /// From now on, objects whose names begin otherwise are forbidden, as to a role that is kept to a prefix.
    pub fn allow_only(&self, prefix: &str) {
        self.state.lock().allowed = prefix.into();
    }

    /// From now on, it is one of the servers like S3 whose puts heed no condition on an entity tag.
    pub fn forget_conditions(&self) {
        self.state.lock().unconditional = true;
    }

    /// What was deleted although it was not there, whatever the bucket: where there are versions, it leaves a marker.
    pub fn markers(&self) -> Vec<String> {
        self.state.lock().markers.clone()
    }

    /// The names of all objects in a bucket, in order.
    pub fn names(&self, bucket: &str) -> Vec<String> {
        let state = self.state.lock();
        state.buckets.get(bucket).map(|objects| objects.keys().cloned().collect()).unwrap_or_default()
    }

    /// An object's bytes.
    pub fn body(&self, bucket: &str, name: &ObjectName) -> Option<Bytes> {
        let state = self.state.lock();
        Some(state.buckets.get(bucket)?.get(name.as_str())?.body.clone())
    }

    /// What is written on an object under a name of its metadata.
    pub fn attribute(&self, bucket: &str, name: &ObjectName, attribute: &str) -> Option<String> {
        let state = self.state.lock();
        state.buckets.get(bucket)?.get(name.as_str())?.metadata.as_ref()?.get(attribute).cloned()
    }

    /// What a browser gets from a URL: status and body.
    pub async fn browse(&self, url: &str) -> (u16, Bytes) {
        let request = http::Request::get(url).body(SdkBody::empty()).expect("a URL");
        let request = HttpRequest::try_from(request).expect("a request");
        let answer = answer(&self.service, request).await.expect("an answer");
        let status = answer.status().as_u16();
        let body = aws_smithy_types::byte_stream::ByteStream::new(answer.into_body()).collect().await;
        (status, body.expect("a body").into_bytes())
    }

    pub(super) fn server(&self) -> Server {
        let double = self.clone();
        Arc::new(move |request| {
            let double = double.clone();
            Box::pin(async move {
                tokio::task::yield_now().await;
                let mut answer = answer(&double.service, request).await?;
                if let Some(date) = double.state.lock().date {
                    let date = DateTime::from_secs(i64::try_from(date.as_secs()).expect("a date"));
                    answer.headers_mut().insert("date", date.fmt(Format::HttpDate).expect("a date"));
                }
                tokio::task::yield_now().await;
                Ok(answer)
            })
        })
    }
}

impl Default for S3Double {
    fn default() -> Self {
        Self::new()
    }
}

async fn answer(service: &S3Service, request: HttpRequest) -> Answer {
    let mut request = request
        .try_into_http1x()
        .map_err(|error| ConnectorError::user(error.into()))?
        .map(Body::http_body_unsync);
    // As a client on a socket would: the server verifies a signature over it.
    if let Some(host) = request.uri().host().filter(|_| !request.headers().contains_key(http::header::HOST)) {
        let host = http::HeaderValue::from_str(host).map_err(|error| ConnectorError::user(error.into()))?;
        request.headers_mut().insert(http::header::HOST, host);
    }
    let head = request.method() == http::Method::HEAD;
    let answer = service
        .call(request)
        .await
        .map_err(|error| ConnectorError::other(format!("{error:?}").into(), None))?;
    // To a HEAD there is no body, and so no code of an error either.
    let body = |body| if head { SdkBody::empty() } else { SdkBody::from_body_1_x(body) };
    HttpResponse::try_from(answer.map(body)).map_err(|error| ConnectorError::other(error.into(), None))
}

/// The service itself. Each operation takes the lock once, which is what makes it atomic: two puts under `If-None-Match`
/// that checked before either of them wrote would both create the object.
struct InMemory(Arc<Mutex<State>>);

impl InMemory {
    fn object(&self, bucket: &str, key: &str) -> S3Result<Object> {
        let state = self.0.lock();
        let objects = state.buckets.get(bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        if !key.starts_with(&*state.allowed) {
            return Err(s3_error!(AccessDenied));
        }
        objects.get(key).cloned().ok_or_else(|| s3_error!(NoSuchKey))
    }
}

#[async_trait::async_trait]
impl S3 for InMemory {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        // As S3 has it: a bucket names the region that is asked for it, but in the first of all regions, which it may not.
        let CreateBucketInput { bucket, create_bucket_configuration, .. } = request.input;
        let named = create_bucket_configuration.and_then(|configuration| configuration.location_constraint);
        let asked = request.region.filter(|region| region.as_str() != "us-east-1");
        if named.as_ref().map(|region| region.as_str()) != asked.as_ref().map(|region| region.as_str()) {
            return Err(s3_error!(IllegalLocationConstraintException));
        }
        let mut state = self.0.lock();
        if state.buckets.contains_key(&bucket) {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        state.buckets.insert(bucket, BTreeMap::new());
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        if self.0.lock().buckets.contains_key(&request.input.bucket) {
            Ok(S3Response::new(HeadBucketOutput::default()))
        } else {
            Err(s3_error!(NoSuchBucket))
        }
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let PutObjectInput {
            bucket,
            key,
            body,
            content_type,
            metadata,
            checksum_sha256,
            if_match,
            if_none_match,
            ..
        } = request.input;
        let body = collect(body).await?;
        let digest = STANDARD.encode(Sha256::digest(&body));
        // Before anything is written: a put that is refused leaves what is there as it is.
        if checksum_sha256.as_ref().is_some_and(|given| *given != digest) {
            return Err(s3_error!(BadDigest));
        }
        let mut state = self.0.lock();
        let (last_modified, unconditional) = (state.now, state.unconditional);
        if !key.starts_with(&*state.allowed) {
            return Err(s3_error!(AccessDenied));
        }
        let objects = state.buckets.get_mut(&bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        match (if_none_match, if_match) {
            (Some(ETagCondition::Any), None) if objects.contains_key(&key) => {
                return Err(s3_error!(PreconditionFailed));
            }
            (None, Some(_)) if unconditional => {}
            (None, Some(_)) if !objects.contains_key(&key) => return Err(s3_error!(NoSuchKey)),
            (Some(ETagCondition::Any) | None, None) => {}
            // Not asked for by anybody: better told than done wrongly.
            _ => return Err(s3_error!(NotImplemented)),
        }
        let checksum_sha256 = checksum_sha256.map(|_| digest.clone());
        objects.insert(key, Object { body, content_type, metadata, checksum_sha256, last_modified });
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(ETag::Strong(digest)), ..Default::default() }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let GetObjectInput { bucket, key, checksum_mode, .. } = request.input;
        let Object { body, content_type, metadata, checksum_sha256, .. } = self.object(&bucket, &key)?;
        Ok(S3Response::new(GetObjectOutput {
            e_tag: Some(e_tag_of(&body)),
            content_length: i64::try_from(body.len()).ok(),
            body: Some(StreamingBlob::from(Body::from(body))),
            content_type,
            metadata,
            checksum_sha256: checksum_sha256.filter(|_| is_on(checksum_mode.as_ref())),
            ..Default::default()
        }))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let HeadObjectInput { bucket, key, checksum_mode, .. } = request.input;
        let Object { body, content_type, metadata, checksum_sha256, .. } = self.object(&bucket, &key)?;
        Ok(S3Response::new(HeadObjectOutput {
            e_tag: Some(e_tag_of(&body)),
            content_length: i64::try_from(body.len()).ok(),
            content_type,
            metadata,
            checksum_sha256: checksum_sha256.filter(|_| is_on(checksum_mode.as_ref())),
            ..Default::default()
        }))
    }

    /// Pages go on after the token of the one before, whatever was deleted meanwhile. Names are only ever asked for encoded:
    /// as they are, some cannot be said in XML.
    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let ListObjectsV2Input {
            bucket,
            prefix,
            continuation_token,
            encoding_type,
            max_keys,
            delimiter,
            start_after,
            ..
        } = request.input;
        let encoded = encoding_type.as_ref().is_some_and(|kind| kind.as_str() == EncodingType::URL);
        if !encoded || delimiter.is_some() || start_after.is_some() {
            return Err(s3_error!(NotImplemented));
        }
        let after = continuation_token.as_deref().map(token_of).transpose()?;
        let prefix = prefix.unwrap_or_default();
        let limit =
            usize::try_from(max_keys.unwrap_or(PAGE_OF_KEYS)).map_err(|_| s3_error!(InvalidArgument))?;
        let limit = limit.min(PAGE_OF_KEYS as usize);
        let state = self.0.lock();
        let objects = state.buckets.get(&bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        let from = after.map_or_else(|| Bound::Included(prefix.clone()), Bound::Excluded);
        let mut listed = objects
            .range((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&prefix))
            .peekable();
        let (mut contents, mut last) = (Vec::new(), None);
        for (key, object) in listed.by_ref().take(limit) {
            contents.push(dto::Object {
                key: Some(percent_encode(key)),
                size: i64::try_from(object.body.len()).ok(),
                // S3 keeps whole seconds.
                last_modified: Some(
                    (SystemTime::UNIX_EPOCH + Duration::from_secs(object.last_modified.as_secs())).into(),
                ),
                ..Default::default()
            });
            last = Some(key.clone());
        }
        let next = last.filter(|_| listed.peek().is_some());
        Ok(S3Response::new(ListObjectsV2Output {
            key_count: i32::try_from(contents.len()).ok(),
            contents: Some(contents),
            is_truncated: Some(next.is_some()),
            next_continuation_token: next.map(|key| STANDARD.encode(key)),
            encoding_type,
            ..Default::default()
        }))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let DeleteObjectInput { bucket, key, .. } = request.input;
        let mut state = self.0.lock();
        let State { buckets, undeletable, allowed, markers, .. } = &mut *state;
        let objects = buckets.get_mut(&bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        if !key.starts_with(&**allowed) {
            return Err(s3_error!(AccessDenied));
        }
        if undeletable.contains(&key) {
            return Err(s3_error!(InternalError));
        }
        if objects.remove(&key).is_none() {
            markers.push(key);
        }
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = request.input;
        // What XML cannot say makes all of it no XML.
        let is_xml = delete.objects.iter().all(|object| !object.key.contains(['\u{fffe}', '\u{ffff}']));
        if delete.objects.len() > 1000 || !is_xml {
            return Err(s3_error!(MalformedXML));
        }
        let mut state = self.0.lock();
        let State { buckets, undeletable, allowed, markers, .. } = &mut *state;
        let objects = buckets.get_mut(&bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in delete.objects {
            let key = Some(object.key.clone());
            let refused = match (objects.get(&object.key), &object.e_tag) {
                _ if !object.key.starts_with(&**allowed) => Some("AccessDenied"),
                _ if undeletable.contains(&object.key) => Some("InternalError"),
                (None, Some(_)) => Some("NoSuchKey"),
                // Not asked for by anybody: better told than done wrongly.
                (Some(_), Some(_)) => Some("NotImplemented"),
                (_, None) => None,
            };
            if let Some(code) = refused {
                errors.push(Error { key, code: Some(code.into()), ..Default::default() });
                continue;
            }
            if objects.remove(&object.key).is_none() {
                markers.push(object.key);
            }
            deleted.push(DeletedObject { key, ..Default::default() });
        }
        let quiet = delete.quiet == Some(true);
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: (!quiet).then_some(deleted),
            errors: Some(errors),
            ..Default::default()
        }))
    }
}

fn e_tag_of(body: &[u8]) -> ETag {
    ETag::Strong(STANDARD.encode(Sha256::digest(body)))
}

/// The key that a token stands for. A token is nobody's but the service's to make.
fn token_of(token: &str) -> S3Result<String> {
    let key = STANDARD.decode(token).ok().and_then(|key| String::from_utf8(key).ok());
    key.ok_or_else(|| s3_error!(InvalidArgument))
}

fn percent_encode(key: &str) -> String {
    let mut encoded = String::new();
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Checksums are told only to who asks.
fn is_on(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

async fn collect(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let mut collected = BytesMut::new();
    let Some(mut body) = body else { return Ok(Bytes::new()) };
    while let Some(chunk) = body.next().await {
        collected.extend_from_slice(&chunk.map_err(|_| s3_error!(IncompleteBody))?);
    }
    Ok(collected.freeze())
}
