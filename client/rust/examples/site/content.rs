//! The pages: where they are, what they say of themselves, and how they become HTML.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};
use serde_json::json;
use std::{fmt::Write as _, io, path::PathBuf, time::Duration};

/// A folder of Markdown files.
pub(crate) struct Content {
    root: PathBuf,
}

/// The path of a page, in its one spelling. Its segments are of `[A-Za-z0-9_-]` only, so that none leads out of the
/// folder.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PagePath(String);

/// A Markdown file.
#[derive(Debug, PartialEq)]
pub(crate) struct Source {
    pub(crate) title: String,
    pub(crate) tags: Vec<String>,
    pub(crate) revalidate: Option<Duration>,
    markdown: String,
}

/// A page, and the data that its browser side starts from.
pub(crate) struct Rendered {
    pub(crate) html: String,
    pub(crate) sidecar: String,
}

impl PagePath {
    pub(crate) fn parse(url_path: &str) -> Option<Self> {
        let segments: Vec<_> =
            url_path.strip_prefix('/')?.split('/').filter(|part| !part.is_empty()).collect();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let valid = segments.iter().all(|segment| segment.bytes().all(plain));
        valid.then(|| Self(format!("/{}", segments.join("/"))))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Content {
    pub(crate) fn open(root: PathBuf) -> io::Result<Self> {
        Ok(Self { root: root.canonicalize()? })
    }

    /// The page's file: `/posts` is in `posts.md` or `posts/index.md`.
    fn files(&self, path: &PagePath) -> [PathBuf; 2] {
        let below = path.0.trim_start_matches('/');
        [self.root.join(format!("{below}.md")), self.root.join(below).join("index.md")]
    }

    pub(crate) async fn exists(&self, path: &PagePath) -> bool {
        for file in self.files(path) {
            if tokio::fs::try_exists(file).await.unwrap_or(false) {
                return true;
            }
        }
        false
    }

    /// `None`: there is no such page.
    pub(crate) async fn read(&self, path: &PagePath) -> anyhow::Result<Option<Source>> {
        for file in self.files(path) {
            match tokio::fs::read_to_string(file).await {
                Ok(text) => return Ok(Some(Source::parse(&text)?)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

impl Source {
    /// Front matter between two lines of `---`, then Markdown.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut source = Self {
            title: "Untitled".to_owned(),
            tags: Vec::new(),
            revalidate: None,
            markdown: String::new(),
        };
        let text = text.replace("\r\n", "\n");
        let Some((front, markdown)) = text.strip_prefix("---\n").and_then(|text| text.split_once("\n---\n"))
        else {
            source.markdown = text;
            return Ok(source);
        };
        source.markdown = markdown.to_owned();
        for line in front.lines().filter(|line| !line.trim().is_empty()) {
            let Some((name, value)) = line.split_once(':') else { anyhow::bail!("front matter: {line:?}") };
            match (name.trim(), value.trim()) {
                ("title", title) => source.title = title.to_owned(),
                ("tags", tags) => {
                    source.tags = tags
                        .split(',')
                        .map(str::trim)
                        .filter(|tag| !tag.is_empty())
                        .map(str::to_owned)
                        .collect();
                }
                ("revalidate", span) => source.revalidate = Some(humantime::parse_duration(span)?),
                (other, _) => anyhow::bail!("front matter: {other:?} is not known"),
            }
        }
        Ok(source)
    }

    /// `sidecar_url` goes into the HTML; a page that is not kept has none. `origin` says who rendered it, and as what.
    pub(crate) fn render(&self, path: &PagePath, sidecar_url: Option<&str>, origin: &str) -> Rendered {
        let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
        let mut body = String::new();
        html::push_html(&mut body, Parser::new_ext(&self.markdown, options));
        let mut hydration = String::new();
        if let Some(url) = sidecar_url {
            let _infallible = write!(
                hydration,
                "<link rel=\"preload\" as=\"fetch\" id=\"hydration\" href=\"{}\">",
                escape(url)
            );
        }
        let (title, origin) = (escape(&self.title), escape(origin));
        let tags: String = self.tags.iter().map(|tag| format!("<li>{}</li>", escape(tag))).collect();
        let html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
             {hydration}\n</head>\n<body>\n<header><a href=\"/\">Home</a></header>\n<main>\n{body}</main>\n\
             <ul class=\"tags\">{tags}</ul>\n<footer>{origin}</footer>\n</body>\n</html>\n"
        );
        let sidecar = json!({
            "title": self.title,
            "path": path.as_str(),
            "tags": self.tags,
            "headings": headings(&self.markdown)
                .iter()
                .map(|(level, text)| json!({ "level": level, "text": text }))
                .collect::<Vec<_>>(),
            "origin": origin,
        });
        Rendered { html, sidecar: sidecar.to_string() }
    }
}

fn headings(markdown: &str) -> Vec<(u8, String)> {
    let mut headings = Vec::new();
    let mut open: Option<(u8, String)> = None;
    for event in Parser::new(markdown) {
        match (event, &mut open) {
            (Event::Start(Tag::Heading { level, .. }), _) => open = Some((number(level), String::new())),
            (Event::End(TagEnd::Heading(_)), _) => headings.extend(open.take()),
            (Event::Text(text) | Event::Code(text), Some((_, heading))) => heading.push_str(&text),
            _ => {}
        }
    }
    headings
}

fn number(level: HeadingLevel) -> u8 {
    level as u8
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_spelling_and_do_not_lead_out_of_the_folder() {
        let spelled = |path| PagePath::parse(path).map(|path| path.0);
        assert_eq!(spelled("/").as_deref(), Some("/"));
        assert_eq!(spelled("/posts/").as_deref(), Some("/posts"));
        assert_eq!(spelled("//posts//first").as_deref(), Some("/posts/first"));
        for bad in
            ["/../etc/passwd", "/..%2f..", "/a/../b", "/.hidden", "/a\\b", "/a%00", "/a.md", "relative", ""]
        {
            assert_eq!(spelled(bad), None, "{bad}");
        }
    }

    #[test]
    fn front_matter_is_read() {
        let source = Source::parse("---\ntitle: A: b\ntags: x, y,\nrevalidate: 1m\n---\n# Hi\n").unwrap();
        assert_eq!(
            (source.title.as_str(), source.tags.as_slice()),
            ("A: b", ["x".to_owned(), "y".to_owned()].as_slice())
        );
        assert_eq!(source.revalidate, Some(Duration::from_secs(60)));
        assert_eq!(source.markdown, "# Hi\n");
        assert!(Source::parse("---\nrevalidate: soon\n---\n").is_err());
        assert!(Source::parse("---\ntypo: x\n---\n").is_err());
        assert_eq!(Source::parse("# Bare\n").unwrap().title, "Untitled");
    }

    #[test]
    fn page_holds_its_sidecars_url_and_the_sidecar_its_headings() {
        let source = Source::parse("---\ntitle: <T>\ntags: a\n---\n# One `x`\n\n## Two\n").unwrap();
        let rendered = source.render(&PagePath("/p".into()), Some("/p?h=t"), "w");
        assert!(rendered.html.contains("href=\"/p?h=t\"") && rendered.html.contains("&lt;T&gt;"));
        let sidecar: serde_json::Value = serde_json::from_str(&rendered.sidecar).unwrap();
        assert_eq!(sidecar["headings"][0]["text"], "One x");
        assert_eq!(sidecar["headings"][1]["level"], 2);
        assert!(!source.render(&PagePath("/p".into()), None, "w").html.contains("hydration"));
    }
}
