//! What a new story's file says: the template, the title that is taken from a file, and the number that is free.
//! Pure; [`super::store`] writes it.

use std::path::PathBuf;

use super::edit::Edit;
use super::error::StoreError;
use super::front_matter::{Document, FrontMatterError};
use super::id::{Slug, StoryId};
use super::scalar::{Key, Value};
use super::title;

/// A story that is to be added.
#[derive(Debug, Clone)]
pub struct NewStory {
    /// What it is about.
    pub content: Content,
    /// The day, as `YYYY-MM-DD`.
    pub created: String,
    /// Fields to set besides, or instead of, those of the template.
    pub edits: Vec<Edit>,
    /// Names outside of the board that hold story ids, none of which is given again.
    pub taken: TakenNames,
}

/// What a new story is about.
#[derive(Debug, Clone)]
pub enum Content {
    /// A title, and the template's body.
    Title(String),
    /// The text of a file. Front matter in it is kept; otherwise the text becomes the body.
    File {
        /// The name of the file, for the title when the text gives none and for messages.
        name: String,
        /// The text.
        text: String,
    },
}

/// Names outside of the board that hold story ids, such as `S-0007-add-a-page` or `ai-sdlc/S-0007-add-a-page`.
#[derive(Debug, Clone, Default)]
pub struct TakenNames {
    /// Directories that hold worktrees; one that does not exist is empty.
    pub worktree_directories: Vec<PathBuf>,
    /// Branches.
    pub branches: Vec<String>,
}

impl NewStory {
    /// A story with that title, added on that day.
    pub fn titled(title: impl Into<String>, created: impl Into<String>) -> Self {
        Self {
            content: Content::Title(title.into()),
            created: created.into(),
            edits: Vec::new(),
            taken: TakenNames::default(),
        }
    }

    /// The text of the story's file.
    ///
    /// # Errors
    /// When there is no title, or the front matter of a given file cannot be read or edited.
    pub(crate) fn text(&self, id: &StoryId, priority: i64) -> Result<String, StoreError> {
        let (name, text) = match &self.content {
            Content::Title(title) => {
                let title = non_empty(title::clean(title))?;
                let ending = "\n";
                let body = default_body(&title);
                return self.edited(
                    "story.md",
                    &self.generated(id, &title, priority, ending, &body),
                );
            }
            Content::File { name, text } => (name, text),
        };
        let broken = |source| StoreError::FrontMatter {
            path: PathBuf::from(name),
            source,
        };
        let document = Document::parse(text).map_err(broken)?;
        let title = file_title(name, &document).map_err(broken)?;
        let title = non_empty(title)?;
        if !document.has_front_matter() {
            let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
            return self.edited(
                name,
                &self.generated(id, &title, priority, ending, document.body()),
            );
        }
        let mut edits = vec![
            Edit::set(Key::ID, id.as_str()),
            Edit::set(Key::SLUG, Slug::from_text(&title).as_str()),
            Edit::set(Key::CREATED, self.created.as_str()),
        ];
        let defaults = [
            (Key::TITLE, Value::Text(title)),
            (Key::PRIORITY, Value::Integer(priority)),
            (Key::STATUS, Value::from("backlog")),
        ];
        let missing = defaults
            .into_iter()
            .filter(|(key, _)| !document.has(key.as_str()));
        edits.extend(missing.map(|(key, value)| Edit::Set { key, value }));
        let failed = |source| StoreError::Edit {
            path: PathBuf::from(name),
            source,
        };
        self.edited(name, &document.with(&edits).map_err(failed)?)
    }

    fn edited(&self, name: &str, text: &str) -> Result<String, StoreError> {
        let path = || PathBuf::from(name);
        let document = Document::parse(text).map_err(|source| StoreError::FrontMatter {
            path: path(),
            source,
        })?;
        document
            .with(&self.edits)
            .map_err(|source| StoreError::Edit {
                path: path(),
                source,
            })
    }

    /// The predecessor's keys in the predecessor's order.
    fn generated(
        &self,
        id: &StoryId,
        title: &str,
        priority: i64,
        ending: &str,
        body: &str,
    ) -> String {
        let quoted = |text: &str| Value::from(text).to_yaml();
        let lines = [
            "---".to_owned(),
            format!("id: {}", quoted(id.as_str())),
            format!("title: {}", quoted(title)),
            format!("slug: {}", quoted(Slug::from_text(title).as_str())),
            format!("priority: {priority}"),
            "status: backlog".to_owned(),
            "type: feature".to_owned(),
            format!("created: {}", quoted(&self.created)),
            "labels: []".to_owned(),
            "research_complete: false".to_owned(),
            "plan_complete: false".to_owned(),
            "implementation_complete: false".to_owned(),
            "reviews_complete: false".to_owned(),
            "content_type: code".to_owned(),
            "---".to_owned(),
            String::new(),
        ];
        format!("{}{body}", lines.join(ending))
    }
}

fn non_empty(title: String) -> Result<String, StoreError> {
    if title.is_empty() {
        Err(StoreError::EmptyTitle)
    } else {
        Ok(title)
    }
}

fn default_body(title: &str) -> String {
    format!(
        "\n# {title}\n\n## Summary\n\n_What should change, and why._\n\n## Acceptance Criteria\n\n\
         - [ ] _What must be true when this is done._\n"
    )
}

/// The title of a file: that of its front matter, else its first heading, else its name.
fn file_title(name: &str, document: &Document) -> Result<String, FrontMatterError> {
    let written = document.fields()?.title;
    let stem = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let stem = stem.rsplit_once('.').map_or(stem, |(stem, _)| stem);
    let heading = title::first_heading(document.body());
    let candidates = [written.as_deref(), heading, Some(stem)];
    let mut clean = candidates.into_iter().flatten().map(title::clean_from_file);
    Ok(clean.find(|title| !title.is_empty()).unwrap_or_default())
}

/// The number of the story that a directory or a branch is named after: 7 for `S-0007`, `S-0007-a-page` and
/// `ai-sdlc/S-0007-a-page`.
pub(crate) fn number_in(name: &str) -> Option<u64> {
    let last = name.rsplit('/').next()?;
    let behind = last
        .strip_prefix("S-")
        .or_else(|| last.strip_prefix("s-"))?;
    let length = behind.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = behind.split_at(length);
    if rest.starts_with(|next: char| next.is_alphanumeric()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn from_file(name: &str, text: &str) -> Result<String, StoreError> {
        let content = Content::File {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        NewStory {
            content,
            ..NewStory::titled("", "2026-01-15")
        }
        .text(&StoryId::from_number(7), 20)
    }

    #[test]
    fn a_title_gives_the_predecessors_front_matter_and_a_body() {
        let text = NewStory::titled(" Add: a\tpage\u{1b}[1m ", "2026-01-15")
            .text(&StoryId::from_number(7), 20)
            .unwrap();
        assert_eq!(
            text,
            "---\nid: S-0007\ntitle: 'Add: a page'\nslug: add-a-page\npriority: 20\nstatus: backlog\ntype: feature\n\
             created: '2026-01-15'\nlabels: []\nresearch_complete: false\nplan_complete: false\n\
             implementation_complete: false\nreviews_complete: false\ncontent_type: code\n---\n\n# Add: a page\n\n\
             ## Summary\n\n_What should change, and why._\n\n## Acceptance Criteria\n\n\
             - [ ] _What must be true when this is done._\n"
        );
        let empty = NewStory::titled(" \u{7} ", "2026-01-15").text(&StoryId::from_number(7), 20);
        assert!(matches!(empty, Err(StoreError::EmptyTitle)));
    }

    #[test]
    fn fields_of_the_caller_win() {
        let edits = vec![
            Edit::set(Key::STATUS, "ready"),
            Edit::set(Key::AGENT, "script"),
        ];
        let text = NewStory {
            edits,
            ..NewStory::titled("x", "2026-01-15")
        }
        .text(&StoryId::from_number(7), 20)
        .unwrap();
        assert!(
            text.contains("\nstatus: ready\n")
                && text.contains("content_type: code\nagent: script\n---\n")
        );
    }

    #[test]
    fn the_front_matter_of_a_file_is_kept() {
        let text = "\u{feff}---\r\n# mine\r\ntitle: It & more\r\nid: X-1\r\npriority: 3 # low\r\nteam: [a]\r\n---\r\nbody\r\n";
        assert_eq!(
            from_file("x.md", text).unwrap(),
            "\u{feff}---\r\n# mine\r\ntitle: It & more\r\nid: S-0007\r\npriority: 3 # low\r\nteam: [a]\r\n\
             slug: it-more\r\ncreated: '2026-01-15'\r\nstatus: backlog\r\n---\r\nbody\r\n"
        );
        assert!(matches!(
            from_file("x.md", "---\nstatus: nearly\n---\n"),
            Err(StoreError::FrontMatter { .. })
        ));
        assert!(matches!(
            from_file("x.md", "---\n{a: b}\n---\n"),
            Err(StoreError::Edit { .. })
        ));
    }

    #[test]
    fn a_file_without_front_matter_becomes_the_body() {
        let title = |name, text: &str| {
            let text = from_file(name, text).unwrap();
            Document::parse(&text)
                .unwrap()
                .fields()
                .unwrap()
                .title
                .unwrap()
        };
        assert!(
            from_file("a.md", "x\r\n")
                .unwrap()
                .ends_with("content_type: code\r\n---\r\nx\r\n")
        );
        assert_eq!(title("notes/a b.md", "text\n# Use `$(x)`\n"), "Use x");
        assert_eq!(title("notes/a b.md", "text"), "a b");
        assert!(matches!(
            from_file("$.md", "text"),
            Err(StoreError::EmptyTitle)
        ));
    }

    #[test]
    fn numbers_are_found_in_names_of_worktrees_and_branches() {
        for (name, number) in [
            ("S-0007", Some(7)),
            ("s-12-x", Some(12)),
            ("ai-sdlc/S-0007-x", Some(7)),
            ("S-3.md", Some(3)),
            ("S-", None),
            ("S-7x", None),
            ("XS-7", None),
            ("S-99999999999999999999999", None),
        ] {
            assert_eq!(number_in(name), number, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_title_can_be_read_back(title in any::<String>()) {
            if let Ok(text) = NewStory::titled(title.clone(), "2026-01-15").text(&StoryId::from_number(1), 10) {
                let fields = Document::parse(&text).unwrap().fields().unwrap();
                prop_assert_eq!(fields.title.unwrap(), title::clean(&title));
            }
        }

        #[test]
        fn any_file_is_kept_or_refused(text in any::<String>(), block in "[-a:'\" \n]{0,30}") {
            for text in [text.clone(), format!("---\n{block}\n---\n{text}")] {
                if let Ok(story) = from_file("name.md", &text) {
                    prop_assert!(story.ends_with(Document::parse(&text).unwrap().body()));
                }
            }
        }
    }
}
