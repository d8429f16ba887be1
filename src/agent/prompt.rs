//! What an agent is told. Pure.

use super::answer::{BLOCKED, NOTHING_TO_CHANGE};

/// What an agent has to know of its story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brief {
    /// The story's id.
    pub story: String,
    /// Its title.
    pub title: String,
    /// Its whole text.
    pub text: String,
    /// The branch that the worktree has checked out.
    pub branch: String,
    /// Whether a fence holds what the agent writes.
    pub fenced: bool,
}

/// What the agent is told of the fence: that it is meant, and which complaint means nothing. Git deletes a reference of
/// the worktree with every commit, and locks for that what all worktrees share, whether it is there or not.
const FENCE: &str = "\
    - You cannot write outside of this worktree, temporary folders and the caches of build tools. Where that is refused \
    (`Permission denied`), it is meant: do not work around it. That git cannot make `packed-refs.lock` does not matter: a \
    commit is made all the same.\n";

/// What an earlier attempt has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// Why it ended, where that is known.
    pub ended: Option<String>,
    /// How many commits the branch has.
    pub commits: usize,
    /// The first lines of `git status --short` and of the statistics of what the branch has changed.
    pub state: String,
    /// What it has changed, as git shows differences; empty when that is too much to be told.
    pub diff: String,
}

impl Brief {
    /// The prompt of a new conversation, also when an earlier attempt has left something.
    pub fn first(&self, earlier: Option<&Earlier>) -> String {
        let earlier = earlier.map(Earlier::told_to_a_stranger).unwrap_or_default();
        let fence = if self.fenced { FENCE } else { "" };
        format!(
            "Work on story {story} of this repository until it is done: {title}\n\
             \n\
             You are in a git worktree that was made for this story; its branch `{branch}` is checked out. The story is \
             below.\n\
             \n\
             - Do the whole story, with tests where the project has tests, and in the style of the code that is there.\n\
             - Change files in this worktree only. Do not switch branches, and do not touch other worktrees.\n\
             {fence}\
             - You need not commit: what is in the worktree when you are done is committed for you.\n\
             - Leave nothing running.\n\
             - Nobody can answer questions. If you cannot go on without a person's decision, end with a line \
             `{BLOCKED} ` and the question.\n\
             - If it turns out that nothing has to be changed, end with a line `{NOTHING_TO_CHANGE} ` and the reason.\n\
             {earlier}\n\
             The story:\n\
             \n\
             {text}\n",
            story = self.story,
            title = self.title,
            branch = self.branch,
            text = self.text.trim_end(),
        )
    }

    /// The prompt that goes on with a conversation of an earlier attempt.
    pub fn resumed(&self, earlier: Option<&Earlier>) -> String {
        format!(
            "Go on with story {story} in this worktree, on the branch `{branch}`. Check what is there before you build \
             on it: files may not be as you last saw them.\n\
             {earlier}\n\
             What was said about how to work and how to end still holds.\n",
            story = self.story,
            branch = self.branch,
            earlier = earlier.map(Earlier::told).unwrap_or_default(),
        )
    }

    /// The prompt after a commit of the work was refused, by a hook for example.
    pub fn commit_refused(&self, reason: &str) -> String {
        format!(
            "The work on story {story} could not be committed:\n\
             \n\
             {reason}\n\
             \n\
             Change what is needed so that it can be. You need not commit: that is tried again when you are done.\n",
            story = self.story,
            reason = reason.trim(),
        )
    }
}

impl Earlier {
    fn told(&self) -> String {
        let ended = match &self.ended {
            Some(reason) => format!("An earlier attempt at it ended: {reason}"),
            None => "An earlier attempt at it was cut off.".to_owned(),
        };
        let commits = match self.commits {
            0 => "It has committed nothing.".to_owned(),
            1 => "The branch has one commit of it.".to_owned(),
            commits => format!("The branch has {commits} commits of it."),
        };
        let state = if self.state.trim().is_empty() {
            "The worktree has no other changes.\n".to_owned()
        } else {
            format!("This is what there is:\n\n{}", fenced("", &self.state))
        };
        format!("\n{ended}\n{commits} {state}")
    }

    /// The same for one who has not seen how it came about.
    fn told_to_a_stranger(&self) -> String {
        let told = self.told();
        if self.diff.trim().is_empty() {
            return told;
        }
        let diff = fenced("diff", &self.diff);
        format!(
            "{told}\nThese are its changes of files that git follows, or the first of them. Go on from there where they are \
             good.\n\n{diff}"
        )
    }
}

/// A block that ends where the text does, whatever is in it.
fn fenced(language: &str, text: &str) -> String {
    let mut fence = "```".to_owned();
    while text.contains(&fence) {
        fence.push('`');
    }
    format!("{fence}{language}\n{}\n{fence}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief() -> Brief {
        Brief {
            story: "S-0001".to_owned(),
            title: "A title".to_owned(),
            text: "---\nid: S-0001\n---\n\nDo it.\n".to_owned(),
            branch: "ai-sdlc/S-0001-a".to_owned(),
            fenced: false,
        }
    }

    #[test]
    fn a_new_conversation_is_told_everything() {
        insta::assert_snapshot!(brief().first(None), @"
        Work on story S-0001 of this repository until it is done: A title

        You are in a git worktree that was made for this story; its branch `ai-sdlc/S-0001-a` is checked out. The story is below.

        - Do the whole story, with tests where the project has tests, and in the style of the code that is there.
        - Change files in this worktree only. Do not switch branches, and do not touch other worktrees.
        - You need not commit: what is in the worktree when you are done is committed for you.
        - Leave nothing running.
        - Nobody can answer questions. If you cannot go on without a person's decision, end with a line `BLOCKED: ` and the question.
        - If it turns out that nothing has to be changed, end with a line `NOTHING TO CHANGE: ` and the reason.

        The story:

        ---
        id: S-0001
        ---

        Do it.
        ");
    }

    #[test]
    fn one_inside_of_a_fence_is_told_of_that_alone_besides() {
        let fenced = Brief {
            fenced: true,
            ..brief()
        };
        let told = fenced.first(None);
        assert_eq!(told.replacen(FENCE, "", 1), brief().first(None));
        insta::assert_snapshot!(FENCE, @"- You cannot write outside of this worktree, temporary folders and the caches of build tools. Where that is refused (`Permission denied`), it is meant: do not work around it. That git cannot make `packed-refs.lock` does not matter: a commit is made all the same.");
    }

    #[test]
    fn one_that_goes_on_is_told_what_is_true_now() {
        let earlier = Earlier {
            ended: Some("the agent was ended by signal 9".to_owned()),
            commits: 1,
            state: " M a.txt\n?? b.txt\n".to_owned(),
            diff: "+```\n+one\n".to_owned(),
        };
        let stranger = earlier.told_to_a_stranger();
        insta::assert_snapshot!(stranger.trim_start_matches(&earlier.told()), @"
        These are its changes of files that git follows, or the first of them. Go on from there where they are good.

        ````diff
        +```
        +one
        ````
        ");
        insta::assert_snapshot!(brief().resumed(Some(&earlier)), @"
        Go on with story S-0001 in this worktree, on the branch `ai-sdlc/S-0001-a`. Check what is there before you build on it: files may not be as you last saw them.

        An earlier attempt at it ended: the agent was ended by signal 9
        The branch has one commit of it. This is what there is:

        ```
         M a.txt
        ?? b.txt
        ```

        What was said about how to work and how to end still holds.
        ");
    }

    #[test]
    fn an_attempt_that_left_nothing_is_told_so() {
        let earlier = Earlier {
            ended: None,
            commits: 0,
            state: String::new(),
            diff: String::new(),
        };
        assert_eq!(earlier.told_to_a_stranger(), earlier.told());
        insta::assert_snapshot!(earlier.told(), @"
        An earlier attempt at it was cut off.
        It has committed nothing. The worktree has no other changes.
        ");
    }

    #[test]
    fn a_refused_commit_is_handed_back() {
        insta::assert_snapshot!(brief().commit_refused("lint: no\n"), @"
        The work on story S-0001 could not be committed:

        lint: no

        Change what is needed so that it can be. You need not commit: that is tried again when you are done.
        ");
    }
}
