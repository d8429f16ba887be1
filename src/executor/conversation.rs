//! The conversation with an agent over the attempts at a story: it is noted in the administrative directory of the
//! worktree, so that it goes where the worktree goes, in which alone it can go on.
//!
//! Whoever works in the worktree can write to that directory too, so that what is read there is taken for no more than
//! a name. A note that cannot be written costs the next attempt its conversation, and nothing else.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::Identity;
use crate::agent::Usage;
use crate::engine::AttemptNumber;
use serde::{Deserialize, Serialize};

/// The file's name.
const NOTE: &str = "ai-sdlc-conversation";

/// The most that is read of it, in bytes.
const LONGEST_NOTE: u64 = 64 * 1024;

/// The longest name of a conversation. Those of all agents are below 50 characters.
const LONGEST_NAME: usize = 128;

/// The longest reason that is kept, in characters.
const LONGEST_REASON: usize = 2000;

/// What is known of the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Conversation {
    /// What the user calls the agent.
    pub(super) agent: String,
    /// The agent's name for the conversation; none when it never told one.
    pub(super) name: Option<String>,
    /// The last attempt that spoke in it.
    pub(super) attempt: AttemptNumber,
    /// What the whole conversation has used, by the agent's count; where it counts so.
    #[serde(default)]
    pub(super) total: Usage,
    /// Why that attempt ended; none when it was cut off.
    pub(super) ended: Option<String>,
}

impl Conversation {
    /// Takes the name that the agent tells, and says whether it is another one: then it is another conversation, which
    /// has used nothing yet.
    pub(super) fn take_name(&mut self, name: &str) -> bool {
        if self.name.as_deref() == Some(name) {
            return false;
        }
        self.name = Some(name.to_owned());
        self.total = Usage::default();
        true
    }
}

/// Where the conversation of a worktree is noted.
#[derive(Debug, Clone)]
pub(super) struct ConversationNote(Option<PathBuf>);

impl ConversationNote {
    /// The note of a worktree; none that could be read or written when git does not know the worktree.
    pub(super) fn of(worktree: &Path) -> Self {
        let pointer = fs::read_to_string(worktree.join(".git")).ok();
        let folder = pointer
            .as_deref()
            .and_then(|text| text.strip_prefix("gitdir:"));
        Self(folder.map(|folder| worktree.join(folder.trim()).join(NOTE)))
    }

    /// What it says; none when there is none that can be understood.
    pub(super) fn read(&self) -> Option<Conversation> {
        let file = fs::File::open(self.0.as_ref()?).ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut text = String::new();
        file.take(LONGEST_NOTE).read_to_string(&mut text).ok()?;
        let mut read: Conversation = serde_json::from_str(&text).ok()?;
        read.name = read.name.filter(|name| is_name(name));
        Some(read)
    }

    /// Writes it, whole or not at all.
    pub(super) fn write(&self, conversation: &Conversation) {
        let Some(path) = &self.0 else { return };
        if let Err(error) = replace(path, conversation) {
            tracing::warn!(%error, "the conversation with the agent is not noted");
        }
    }
}

fn replace(path: &Path, conversation: &Conversation) -> io::Result<()> {
    let kept = Conversation {
        ended: conversation
            .ended
            .as_ref()
            .map(|reason| reason.chars().take(LONGEST_REASON).collect()),
        ..conversation.clone()
    };
    let folder = path.parent().unwrap_or(path);
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut file, &kept)?;
    file.persist(path)?;
    Ok(())
}

/// Whether a text can be the name of a conversation, and no option of a program.
fn is_name(text: &str) -> bool {
    let fits = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
    text.len() <= LONGEST_NAME
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(fits)
}

/// The name of a new conversation: the same for the same turn of the same attempt, and for no other anywhere, since the
/// worktree is in it.
pub(super) fn new_name(identity: &Identity, worktree: &Path, turn: u32) -> String {
    let Identity {
        run,
        story,
        attempt,
        ..
    } = identity;
    let text = format!("{}\n{run}\n{story}\n{attempt}\n{turn}", worktree.display());
    uuid(&crate::git::digest(&text))
}

/// A UUID of version 5, which stands for the SHA-1 of a text (RFC 9562). Agents refuse versions that are newer.
fn uuid(digest: &[u8; 20]) -> String {
    let mut bytes = digest.map(u16::from);
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut hex = String::new();
    for byte in &bytes[..16] {
        write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
    }
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| hex[part].to_owned());
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(name: &str) -> Conversation {
        Conversation {
            agent: "claude".to_owned(),
            name: Some(name.to_owned()),
            attempt: AttemptNumber::FIRST,
            total: Usage::default(),
            ended: Some("é".repeat(3000)),
        }
    }

    #[test]
    fn another_conversation_has_used_nothing() {
        let used = Usage {
            input_tokens: 5,
            ..Usage::default()
        };
        let mut talk = Conversation {
            total: used,
            ..conversation("one")
        };
        assert!(!talk.take_name("one"));
        assert_eq!(talk.total, used);
        assert!(talk.take_name("two"));
        assert_eq!(talk.total, Usage::default());
    }

    #[test]
    fn names_of_conversations_are_uuids() {
        let mut digest = [0xff; 20];
        digest[0] = 1;
        assert_eq!(uuid(&digest), "01ffffff-ffff-5fff-bfff-ffffffffffff");
    }

    #[test]
    fn a_note_is_read_as_it_was_written_and_bad_names_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let admin = folder.path().join("admin");
        fs::create_dir(&admin).unwrap();
        let note = ConversationNote::of(folder.path());
        assert_eq!(note.read(), None);
        note.write(&conversation("x"));
        fs::write(folder.path().join(".git"), "gitdir: admin\n").unwrap();
        let note = ConversationNote::of(folder.path());
        assert_eq!(note.read(), None);
        note.write(&conversation("ses_01-a"));
        let read = note.read().unwrap();
        assert_eq!(read.name.as_deref(), Some("ses_01-a"));
        assert_eq!(read.ended.unwrap().chars().count(), LONGEST_REASON);
        for bad in ["", "--resume", "a b", "a/b", &"x".repeat(200)] {
            note.write(&conversation(bad));
            assert_eq!(note.read().unwrap().name, None, "{bad}");
        }
        fs::write(admin.join(NOTE), "{").unwrap();
        assert_eq!(note.read(), None);
        assert_eq!(fs::read_dir(&admin).unwrap().count(), 1);
    }
}
