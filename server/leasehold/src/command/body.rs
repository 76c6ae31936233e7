//! `leasehold page`, `leasehold sidecar` and `leasehold object`: bodies as they are stored.

use super::{
    ClientFlags, Ending, Session,
    lookup::{HowCurrent, StandingShape},
};
use crate::{
    exit::Failure,
    shape::{BodyShape, PageShape},
};
use bytes::Bytes;
use clap::Args;
use leasehold_client::{BodyKind, BodyStream, CurrentPage, Lookup, ServeOptions, SidecarToken};
use serde::Serialize;
use std::path::{Path, PathBuf};

pub(crate) const PAGE_JSON: &str = "\
JSON:
  {outcome: fresh|stale, reason, fresh_for_ms, stale_while_revalidate_for_ms,
   stale_if_error_for_ms, page: as in lookup, body, body_base64, file}
With -o, the body is in the file alone. Exits with 3 when there is no page.";

pub(crate) const SIDECAR_JSON: &str = "\
JSON: {content_type, size_bytes, body, body_base64, file}
With -o, the body is in the file alone. Exits with 3 when there is no such sidecar, whatever is
wrong with the token.";

pub(crate) const OBJECT_JSON: &str = "\
JSON: {kind: html|sidecar, content_type, size_bytes, digest, body, body_base64, file}
With -o, the body is in the file alone. Exits with 3 when there is no such body, whatever is
wrong with the name.";

/// No coordinator stores bodies as large as this.
const MOST_BYTES: u64 = 1 << 30;

#[derive(Args, Clone, Debug)]
pub(crate) struct PageFlags {
    /// The entry's key
    key: String,
    #[command(flatten)]
    how: HowCurrent,
    #[command(flatten)]
    to: Destination,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SidecarFlags {
    /// The key of the entry that the request for it resolves to
    key: String,
    /// The token in its URL
    #[arg(value_name = "TOKEN")]
    sidecar_token: String,
    #[command(flatten)]
    to: Destination,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ObjectFlags {
    /// The name that it was committed under: `commit --html-name`, `--sidecar-name`
    name: String,
    #[command(flatten)]
    to: Destination,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

/// Where a body goes.
#[derive(Args, Clone, Debug)]
struct Destination {
    /// Write it to this file, once all of it is there. Without it, to stdout
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct ServedPageShape {
    #[serde(flatten)]
    standing: StandingShape,
    page: PageShape,
    #[serde(flatten)]
    body: WrittenShape,
}

#[derive(Debug, Serialize)]
struct ServedSidecarShape {
    content_type: String,
    size_bytes: u64,
    #[serde(flatten)]
    body: WrittenShape,
}

#[derive(Debug, Serialize)]
struct ServedObjectShape {
    kind: &'static str,
    content_type: String,
    size_bytes: u64,
    digest: String,
    #[serde(flatten)]
    body: WrittenShape,
}

#[derive(Debug, Serialize)]
struct WrittenShape {
    #[serde(flatten)]
    body: BodyShape,
    file: Option<PathBuf>,
}

impl PageFlags {
    pub(super) async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let Self { key, how, to, client: _ } = self;
        let options = ServeOptions { consistency: how.consistency(), consistency_token: how.token() };
        let served = session.coordinator.serve_page(&session.entry(&key), &options).await;
        let served = served.map_err(|error| session.failed(&error))?;
        let page = PageShape::from(served.current.page());
        let body = whole(session, served.body, page.size_bytes).await?;
        let standing = StandingShape::from(&match served.current {
            CurrentPage::Fresh(fresh) => Lookup::Fresh(fresh),
            CurrentPage::Stale(stale) => Lookup::Stale(stale),
        });
        to.write(session, &body, |body| ServedPageShape { standing, page, body })
    }
}

impl SidecarFlags {
    pub(super) async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let Self { key, sidecar_token, to, client: _ } = self;
        let token = SidecarToken::new(sidecar_token);
        let served = session.coordinator.serve_sidecar(&session.entry(&key), &token, None).await;
        let served = served.map_err(|error| session.failed(&error))?;
        let (content_type, size_bytes) = (served.content_type, served.size_bytes);
        let body = whole(session, served.body, size_bytes).await?;
        to.write(session, &body, |body| ServedSidecarShape { content_type, size_bytes, body })
    }
}

impl ObjectFlags {
    pub(super) async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let Self { name, to, client: _ } = self;
        let served = session.coordinator.serve_object(session.tenant(), &name, None).await;
        let served = served.map_err(|error| session.failed(&error))?;
        let (content_type, size_bytes) = (served.content_type, served.size_bytes);
        let digest = hex::encode(&served.digest);
        let kind = match served.kind {
            BodyKind::Html => "html",
            BodyKind::Sidecar => "sidecar",
        };
        let body = whole(session, served.body, size_bytes).await?;
        let shape = |body| ServedObjectShape { kind, content_type, size_bytes, digest, body };
        to.write(session, &body, shape)
    }
}

async fn whole(session: &Session, body: BodyStream, size_bytes: u64) -> Result<Bytes, Failure> {
    let body = body.collect(MOST_BYTES).await.map_err(|error| session.failed(&error))?;
    if body.len() as u64 != size_bytes {
        let message = format!("{} of {size_bytes} bytes came", body.len());
        return Err(Failure::local(message, "nothing was written; try again"));
    }
    Ok(body)
}

impl Destination {
    fn write<T: Serialize>(
        &self,
        session: &Session,
        body: &[u8],
        shape: impl FnOnce(WrittenShape) -> T,
    ) -> Result<Ending, Failure> {
        if let Some(file) = &self.file {
            write_whole(file, body)?;
        }
        if session.output.as_json {
            let body = if self.file.is_none() { BodyShape::from(body) } else { BodyShape::default() };
            session.output.result(&shape(WrittenShape { body, file: self.file.clone() }), String::new)?;
        } else if self.file.is_none() {
            session.output.bytes(body)?;
        }
        Ok(Ending::Done)
    }
}

fn write_whole(file: &Path, body: &[u8]) -> Result<(), Failure> {
    std::fs::write(file, body).map_err(|error| {
        Failure::local(format!("cannot write {}: {error}", file.display()), "name another with -o")
    })
}
