//! What a page can be invalidated by, written on its sidecar, and on bodies that their worker named.
//!
//! An entry knows tags and path of its current page only. A page before that may still be in a browser, or a cache, and
//! ask for its sidecar: whether that was purged can be told only if the sidecar says what it was part of.

use crate::identity::{PagePath, Tag};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The most bytes of labels on one object: with what else is stored with it, within S3's two KiB of metadata.
pub const MAX_LABELS_BYTES: usize = 1536;

/// The first of the comma-separated parts, so that a later form is told from this one.
const FORM: &str = "v1";
const TAG: &str = "t:";
const PATH: &str = "p:";
pub(crate) const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/').remove(b':');

/// Tags and path of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Its path.
    pub path: Option<PagePath>,
}

impl Labels {
    /// As printable ASCII; `None` where that is over [`MAX_LABELS_BYTES`].
    pub fn encode(tags: &[Tag], path: Option<&PagePath>) -> Option<String> {
        let path = path.map(|path| (PATH, path.as_str()));
        let tags = tags.iter().map(|tag| (TAG, tag.as_str()));
        let mut text = FORM.to_owned();
        for (kind, name) in path.into_iter().chain(tags) {
            text.push(',');
            text.push_str(kind);
            text.extend(utf8_percent_encode(name, ESCAPED));
            if text.len() > MAX_LABELS_BYTES {
                return None;
            }
        }
        Some(text)
    }

    /// What [`Labels::encode`] wrote; `None` for anything else, which says nothing.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        if parts.next() != Some(FORM) {
            return None;
        }
        let mut labels = Self::default();
        for part in parts {
            let name = percent_decode_str(part.get(2..)?).decode_utf8().ok()?;
            match part.get(..2)? {
                TAG => labels.tags.push(Tag::parse(&name).ok()?),
                PATH if labels.path.is_none() => labels.path = Some(PagePath::parse(&name).ok()?),
                _ => return None,
            }
        }
        Some(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tag(text: &str) -> Tag {
        Tag::parse(text).unwrap()
    }

    #[test]
    fn labels_are_written_as_printable_ascii() {
        let path = PagePath::parse("/blog/日本").unwrap();
        let tags = [tag("a"), tag("post:1, 2")];
        let text = Labels::encode(&tags, Some(&path)).unwrap();
        assert_eq!(text, "v1,p:/blog/%E6%97%A5%E6%9C%AC,t:a,t:post:1%2C%202");
        assert_eq!(Labels::encode(&[], None).unwrap(), "v1");
    }

    #[test]
    fn what_is_none_of_ours_says_nothing() {
        for text in
            ["", "v2", "v1,", "v1,x:a", "v1,t", "v1,t:", "v1,p:/a,p:/b", "v1,p:a", "v1,t:%FF", "v1,日:a"]
        {
            assert_eq!(Labels::parse(text), None, "{text}");
        }
    }

    #[test]
    fn more_than_fits_is_not_written_in_part() {
        let tags: Vec<_> = (0..64).map(|at| tag(&format!("{at:0>30}"))).collect();
        assert_eq!(Labels::encode(&tags, None), None);
        let bytes_with_last_of = |bytes: usize| {
            let mut tags: Vec<_> = (0..5).map(|at| tag(&format!("{at:0>256}"))).collect();
            tags.push(tag(&"x".repeat(bytes)));
            Labels::encode(&tags, None).map(|text| text.len())
        };
        assert_eq!((bytes_with_last_of(236), bytes_with_last_of(237)), (Some(MAX_LABELS_BYTES), None));
    }

    proptest! {
        #[test]
        fn labels_survive_the_round_trip(
            tags in prop::collection::vec("[^\\p{C}\\s]{1,12}", 0..6),
            path in prop::option::of("(/[a-zé%, ]{1,6}[a-z]){1,3}"),
        ) {
            let Ok(tags) = tags.iter().map(|tag| Tag::parse(tag)).collect::<Result<Vec<_>, _>>() else {
                return Ok(());
            };
            let path = path.and_then(|path| PagePath::parse(&path).ok());
            let text = Labels::encode(&tags, path.as_ref()).unwrap();
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(Labels::parse(&text), Some(Labels { tags, path }));
        }
    }
}
