//! What a program has said, and its comparison with what it should say.

use serde_json::Value;

use super::TestEnv;

/// What a program has said, and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    /// Its exit code; none when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// All of it, without what differs from run to run.
    pub(crate) fn shown(&self, env: &TestEnv) -> String {
        let code = self
            .code
            .map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        let mut text = format!("exit: {code}\n");
        for (name, content) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !content.is_empty() {
                text = format!("{text}--- {name}\n{}", redacted(content, env));
            }
        }
        text
    }

    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn assert_stderr(&self, part: &str) -> &Self {
        assert!(
            self.stderr.contains(part),
            "`{part}` is not in:\n{}",
            self.stderr
        );
        self
    }

    /// The records on standard output, each of which must be one.
    pub(crate) fn records(&self) -> Vec<Value> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        };
        self.stdout.lines().map(parse).collect()
    }

    /// The events of one type on standard output.
    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        let events = self.records().into_iter();
        events
            .map(|mut record| record["event"].take())
            .filter(|event| event["type"] == kind)
            .collect()
    }

    /// How a story was settled.
    #[track_caller]
    pub(crate) fn settled(&self, story: &str) -> Value {
        let mut settled = self.events("story_settled");
        settled.retain(|event| event["story"] == story);
        assert_eq!(
            settled.len(),
            1,
            "{story} is settled exactly once: {self:#?}"
        );
        settled.remove(0)
    }

    /// How a story ended, and that its reason has these words. `what` is what was tried.
    #[track_caller]
    pub(crate) fn assert_end(&self, what: &str, story: &str, outcome: &str, words: &str) {
        let settled = self.settled(story);
        assert_eq!(settled["outcome"], outcome, "{what}: {settled}");
        let reason = settled["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(words), "{what}: {reason}");
    }

    /// The outcome of a story.
    #[track_caller]
    pub(crate) fn outcome(&self, story: &str) -> String {
        self.settled(story)["outcome"].as_str().unwrap().to_owned()
    }
}

/// A text in which what differs from run to run is replaced by its name.
fn redacted(text: &str, env: &TestEnv) -> String {
    let text = text.replace(env.base().to_str().unwrap(), "<dir>");
    let mut result = String::new();
    let mut word = String::new();
    for character in text.chars() {
        if character.is_ascii_alphanumeric() || "-.:".contains(character) {
            word.push(character);
        } else {
            push(&mut result, &word);
            word.clear();
            result.push(character);
        }
    }
    push(&mut result, &word);
    result
}

fn push(result: &mut String, word: &str) {
    let core = word.trim_end_matches([':', '.']);
    let previous = result.trim_end().ends_with("process");
    let name = if previous && core.parse::<u32>().is_ok() {
        "<pid>"
    } else if looks_like(core, "########-######-********") {
        "<run>"
    } else if looks_like(core, "####-##-##") {
        "<day>"
    } else if core.len() > 19 && looks_like(&core[..19], "####-##-##T##:##:##") {
        "<instant>"
    } else if is_duration(core) {
        "<time>"
    } else if matches!(core.len(), 8 | 9 | 40) && core.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        "<commit>"
    } else {
        core
    };
    result.push_str(name);
    result.push_str(&word[core.len()..]);
}

fn is_duration(word: &str) -> bool {
    word.strip_suffix('s')
        .and_then(|number| number.split_once('.'))
        .is_some_and(|(whole, part)| whole.parse::<u32>().is_ok() && part.parse::<u32>().is_ok())
}

/// Whether a word has the form of a pattern: `#` stands for a digit, `*` for a hexadecimal digit.
fn looks_like(word: &str, pattern: &str) -> bool {
    word.len() == pattern.len()
        && word
            .bytes()
            .zip(pattern.bytes())
            .all(|(byte, form)| match form {
                b'#' => byte.is_ascii_digit(),
                b'*' => byte.is_ascii_hexdigit(),
                form => byte == form,
            })
}
