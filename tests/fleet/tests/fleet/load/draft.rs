//! Pages whose every byte tells which generation of which entry they are, made again at will instead of
//! remembered.

use super::INLINE_LIMIT_BYTES;
use bytes::Bytes;
use leasehold_client::{NewPage, PageMetadata};
use rand::{Rng as _, rngs::StdRng};
use std::time::Duration;

/// What one attempt to render comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    /// The generation that the HTML names: an earlier one's, where the render changed nothing but the
    /// sidecar.
    html_of: u64,
    html_bytes: usize,
    /// The generation that the sidecar names, which is always the page's own.
    generation: u64,
    sidecar_bytes: Option<usize>,
    /// As in `PageMetadata`.
    revalidate: Option<Duration>,
}

/// Of what kind the pages of an entry are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) most_bytes: usize,
    pub(crate) revalidate: Option<Duration>,
}

impl Draft {
    /// One in five has the HTML of `previous`, one in eight no sidecar.
    pub(crate) fn new(generation: u64, previous: Option<Draft>, shape: Shape, random: &mut StdRng) -> Self {
        let Shape { most_bytes, revalidate } = shape;
        let sidecar_bytes = (!random.random_ratio(1, 8)).then(|| random.random_range(1..most_bytes / 4 * 3));
        let (html_of, html_bytes) = match previous {
            Some(previous) if random.random_ratio(1, 5) => (previous.html_of, previous.html_bytes),
            _ => (generation, random.random_range(1..most_bytes)),
        };
        Self { html_of, html_bytes, generation, sidecar_bytes, revalidate }
    }

    /// The page to commit for the entry of this `key`: tagged with it.
    pub(crate) fn page(&self, key: &str) -> NewPage {
        let metadata =
            PageMetadata { revalidate: self.revalidate, tags: vec![key.to_owned()], ..Default::default() };
        let page = NewPage::new(self.html(key)).metadata(metadata);
        match self.sidecar(key) {
            Some(sidecar) => page.sidecar(sidecar),
            None => page,
        }
    }

    pub(crate) fn html(&self, key: &str) -> Bytes {
        repeated(&format!("<p>{key} of {}</p>\n", self.html_of), self.html_bytes)
    }

    /// Ahead of its commit, as it alone is over the client's limit.
    pub(crate) fn is_sidecar_uploaded(&self, key: &str) -> bool {
        self.sidecar(key).is_some_and(|bytes| bytes.len() > INLINE_LIMIT_BYTES)
    }

    pub(crate) fn sidecar(&self, key: &str) -> Option<Bytes> {
        let line = format!("{{\"entry\":\"{key}\",\"generation\":{}}}\n", self.generation);
        self.sidecar_bytes.map(|bytes| repeated(&line, bytes))
    }
}

/// At least one whole line, so that no two generations have the same bytes.
fn repeated(line: &str, bytes: usize) -> Bytes {
    line.repeat(bytes.div_ceil(line.len())).into()
}
