//! The fields of a front matter as types. Pure.

use std::fmt::Display;
use std::str::FromStr;

use super::{Document, FrontMatterError};
use crate::story::fields::{Priority, Status};
use crate::story::id::StoryId;
use crate::story::tree::{Node, Placed};

/// The fields that the program uses. A field that is absent, `null` or empty is `None`; texts are as written, so
/// that an unquoted `007` or `2026-01-15` stays what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// The id.
    pub id: Option<StoryId>,
    /// The title, uncleaned.
    pub title: Option<String>,
    /// The slug, as a person may have written it.
    pub slug: Option<String>,
    /// The priority.
    pub priority: Option<Priority>,
    /// The status.
    pub status: Option<Status>,
    /// The key `type`.
    pub kind: Option<String>,
    /// The day of creation, usually `YYYY-MM-DD`.
    pub created: Option<String>,
    /// The day of the last change, usually `YYYY-MM-DD`.
    pub updated: Option<String>,
    /// The labels.
    pub labels: Vec<String>,
    /// `dependencies`, then `depends_on`, each id once.
    pub dependencies: Vec<StoryId>,
    /// The agent that is to work on the story.
    pub agent: Option<String>,
    /// The epic.
    pub epic: Option<String>,
    /// Patterns of the files that the story will change.
    pub files: Vec<String>,
    /// The branch.
    pub branch: Option<String>,
    /// Why the story is blocked.
    pub blocked_reason: Option<String>,
    /// What went wrong last.
    pub last_error: Option<String>,
}

impl Document {
    /// The fields that the program uses.
    ///
    /// # Errors
    /// For the first field, in the order of [`Fields`], whose value it cannot have.
    pub fn fields(&self) -> Result<Fields, FrontMatterError> {
        let mut dependencies: Vec<StoryId> = Vec::new();
        for key in ["dependencies", "depends_on"] {
            for (text, line) in self.list(key)? {
                let id: StoryId = text.parse().map_err(|error| field(line, key, &error))?;
                if !dependencies.iter().any(|known| known.same_as(id.as_str())) {
                    dependencies.push(id);
                }
            }
        }
        Ok(Fields {
            id: self.parsed("id")?,
            title: self.string("title")?,
            slug: self.string("slug")?,
            priority: self.priority()?,
            status: self.parsed("status")?,
            kind: self.string("type")?,
            created: self.string("created")?,
            updated: self.string("updated")?,
            labels: self.strings("labels")?,
            dependencies,
            agent: self.string("agent")?,
            epic: self.string("epic")?,
            files: self.strings("files")?,
            branch: self.string("branch")?,
            blocked_reason: self.string("blocked_reason")?,
            last_error: self.string("last_error")?,
        })
    }

    /// The text of a single value as written.
    fn scalar<'a>(&'a self, key: &str, value: &'a Placed) -> Result<&'a str, FrontMatterError> {
        match &value.node {
            Node::Text(text) => Ok(text),
            Node::List(_) | Node::Map(_) => Err(field(value.line, key, &"must be a single value")),
            Node::Null | Node::Bool(_) | Node::Integer(_) | Node::Float(_) => {
                Ok(self.source().get(value.source.clone()).unwrap_or_default())
            }
        }
    }

    fn string(&self, key: &str) -> Result<Option<String>, FrontMatterError> {
        let Some(value) = self.entry(key) else {
            return Ok(None);
        };
        let text = self.scalar(key, value)?;
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    fn parsed<T>(&self, key: &str) -> Result<Option<T>, FrontMatterError>
    where
        T: FromStr<Err: Display>,
    {
        let Some(value) = self.entry(key) else {
            return Ok(None);
        };
        let parsed = self.scalar(key, value)?.parse();
        parsed
            .map(Some)
            .map_err(|error| field(value.line, key, &error))
    }

    /// A number in any of YAML's spellings, or a text that holds one.
    fn priority(&self) -> Result<Option<Priority>, FrontMatterError> {
        let Some(value) = self.entry("priority") else {
            return Ok(None);
        };
        let priority = match &value.node {
            Node::Integer(number) => number.to_string().parse(),
            Node::Float(number) => Priority::new(*number),
            _ => self.scalar("priority", value)?.parse(),
        };
        priority
            .map(Some)
            .map_err(|error| field(value.line, "priority", &error))
    }

    /// The items of a list with their lines; a single value is a list of one, and `null` items are left out.
    fn list(&self, key: &str) -> Result<Vec<(&str, usize)>, FrontMatterError> {
        let Some(value) = self.entry(key) else {
            return Ok(Vec::new());
        };
        let items = match &value.node {
            Node::List(items) => items.as_slice(),
            _ => std::slice::from_ref(value),
        };
        items
            .iter()
            .filter(|item| item.node != Node::Null)
            .map(|item| Ok((self.scalar(key, item)?, item.line)))
            .filter(|item| !matches!(item, Ok(("", _))))
            .collect()
    }

    fn strings(&self, key: &str) -> Result<Vec<String>, FrontMatterError> {
        Ok(self
            .list(key)?
            .into_iter()
            .map(|(text, _)| text.to_owned())
            .collect())
    }
}

fn field(line: usize, key: &str, reason: &dyn Display) -> FrontMatterError {
    FrontMatterError::Field {
        line,
        key: key.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(block: &str) -> Result<Fields, FrontMatterError> {
        Document::parse(&format!("---\n{block}---\nbody\n"))?.fields()
    }

    #[test]
    fn texts_are_read_as_written() {
        let fields = fields(
            "id: 007\ntitle: >-\n  folded\n  title\nslug: yes\npriority: 10.5\nstatus: in-progress\ntype: 42\n\
             created: 2026-01-15\nupdated: 2026-01-15T00:00:00.000Z\nlabels:\nagent: ~\nepic: 1.10\n\
             last_error: \"stop \\U0001F6D1\"\nblocked_reason: |\n  a\n  b\nfiles: 'src/**'\nbranch: *b\nx: &b 0x10\n"
                .replace("branch: *b\nx: &b 0x10\n", "x: &b 0x10\nbranch: *b\n")
                .as_str(),
        )
        .unwrap();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(fields.id, Some("007".parse().unwrap()));
        assert_eq!(fields.title, text("folded title"));
        assert_eq!(fields.slug, text("yes"));
        assert_eq!(fields.priority, Some(Priority::new(10.5).unwrap()));
        assert_eq!(fields.status, Some(Status::InProgress));
        assert_eq!(fields.kind, text("42"));
        assert_eq!(fields.created, text("2026-01-15"));
        assert_eq!(fields.updated, text("2026-01-15T00:00:00.000Z"));
        assert_eq!(fields.labels, [""; 0]);
        assert_eq!(fields.agent, None);
        assert_eq!(fields.epic, text("1.10"));
        assert_eq!(fields.last_error, text("stop 🛑"));
        assert_eq!(fields.blocked_reason, text("a\nb\n"));
        assert_eq!(fields.files, ["src/**"]);
        assert_eq!(fields.branch, text("0x10"));
    }

    #[test]
    fn a_priority_may_be_spelled_in_any_way() {
        for (text, number) in [
            ("0x10", 16.0),
            ("'7'", 7.0),
            ("1e2", 100.0),
            ("-0.5", -0.5),
            ("1_000", 1000.0),
        ] {
            let fields = fields(&format!("priority: {text}\n")).unwrap();
            assert_eq!(fields.priority, Priority::new(number).ok(), "{text}");
        }
    }

    #[test]
    fn both_keys_of_dependencies_are_read_once_each() {
        let fields =
            fields("dependencies: [S-2, s-3, 4]\ndepends_on:\n- S-3\n- S-1\n- ~\n").unwrap();
        let ids: Vec<_> = fields.dependencies.iter().map(StoryId::as_str).collect();
        assert_eq!(ids, ["S-2", "s-3", "4", "S-1"]);
    }

    #[test]
    fn wrong_values_are_errors_with_their_line() {
        for (block, line, reason) in [
            (
                "# c\nstatus: ready-ish\n",
                3,
                "status: `ready-ish` is not a status: backlog, ready, in-progress, done or blocked",
            ),
            ("status: [ready]\n", 2, "status: must be a single value"),
            (
                "status: true\n",
                2,
                "status: `true` is not a status: backlog, ready, in-progress, done or blocked",
            ),
            (
                "a: 1\n\npriority: high\n",
                4,
                "priority: a priority is a finite number",
            ),
            (
                "priority: .inf\n",
                2,
                "priority: a priority is a finite number",
            ),
            (
                "id: a/b\n",
                2,
                "id: `a/b` is not a story id: letters, digits, `-`, `_` and single dots, starting with a letter or digit",
            ),
            (
                "dependencies:\n  - S-1\n  - not one\n",
                4,
                "dependencies: `not one` is not a story id: letters, digits, `-`, `_` and single dots, starting with a letter or digit",
            ),
            ("labels: {a: b}\n", 2, "labels: must be a single value"),
            ("a: 1\na: 2\n", 3, "the key `a` stands there twice"),
            ("a: 'x\n", 2, "unclosed quote"),
        ] {
            let error = fields(block).unwrap_err();
            assert_eq!((error.line(), error.to_string()), (line, reason.to_owned()));
            assert_eq!(
                Document::parse(&format!(
                    "\u{feff}---\r\n{}---\r\n",
                    block.replace('\n', "\r\n")
                ))
                .and_then(|document| document.fields())
                .unwrap_err()
                .line(),
                line
            );
        }
    }

    #[test]
    fn unknown_keys_of_any_shape_are_accepted() {
        let block = "last_test_run: {passed: true, at: [1, ~]}\nreview_history:\n- a: 1\n  b: |\n    x\n? [k]\n: v\n1: x\n~: y\n";
        assert_eq!(fields(block), Ok(Fields::default()));
    }
}
