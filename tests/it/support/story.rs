//! Stories as files.

use super::TestEnv;

/// A story that is about to be written.
pub(crate) struct StoryFile<'a> {
    env: &'a TestEnv,
    id: String,
    fields: Vec<(&'static str, String)>,
    body: String,
}

impl<'a> StoryFile<'a> {
    pub(super) fn new(env: &'a TestEnv, id: &str) -> Self {
        let fields = vec![
            ("title", format!("Do {id}")),
            ("slug", "work".to_owned()),
            ("status", "ready".to_owned()),
            ("agent", "script".to_owned()),
        ];
        Self {
            env,
            id: id.to_owned(),
            fields,
            body: "Nothing to run.\n".to_owned(),
        }
    }

    pub(crate) fn script(mut self, script: &str) -> Self {
        self.body = format!("Some words.\n\n```sh\n{script}\n```\n");
        self
    }

    pub(crate) fn priority(self, priority: u32) -> Self {
        self.field("priority", &priority.to_string())
    }

    pub(crate) fn created(self, day: &str) -> Self {
        self.field("created", &format!("'{day}'"))
    }

    pub(crate) fn depends_on(self, ids: &[&str]) -> Self {
        self.field("dependencies", &format!("[{}]", ids.join(", ")))
    }

    pub(crate) fn status(self, status: &str) -> Self {
        self.field("status", status)
    }

    pub(crate) fn agent(self, agent: &str) -> Self {
        self.field("agent", agent)
    }

    /// Sets a field of the front matter.
    pub(crate) fn field(mut self, key: &'static str, value: &str) -> Self {
        self.fields.retain(|(present, _)| *present != key);
        self.fields.push((key, value.to_owned()));
        self
    }

    /// Leaves a field of the front matter out.
    pub(crate) fn without(mut self, key: &str) -> Self {
        self.fields.retain(|(present, _)| *present != key);
        self
    }

    pub(crate) fn write(self) {
        let fields: Vec<String> = self
            .fields
            .iter()
            .map(|(key, value)| format!("{key}: {value}\n"))
            .collect();
        let text = format!(
            "---\nid: {}\n{}---\n\n# Words\n\n{}",
            self.id,
            fields.concat(),
            self.body
        );
        let name = format!(".ai-sdlc/stories/{}/story.md", self.id);
        self.env.write(&name, &text);
    }
}
