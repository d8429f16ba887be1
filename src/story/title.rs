//! Titles as one clean line: what may reach a terminal, a branch name and a prompt from a text that nobody checked.
//! Pure.

/// The longest title, in characters.
pub const MAX_TITLE_LEN: usize = 200;

/// Characters that the predecessor drops from titles that come out of files.
const SHELL_CHARACTERS: &str = "`$()\\|&;<>";

/// A text as one line for display: escape sequences and control characters removed, line breaks and tabs as spaces,
/// no text-direction overrides, trimmed, cut to [`MAX_TITLE_LEN`] characters.
pub fn clean(text: &str) -> String {
    let visible: String = without_escape_sequences(text)
        .chars()
        .map(|character| {
            if character.is_whitespace() {
                ' '
            } else {
                character
            }
        })
        .filter(|character| !character.is_control() && !overrides_direction(*character))
        .collect();
    let cut: String = visible.trim().chars().take(MAX_TITLE_LEN).collect();
    cut.trim_end().to_owned()
}

/// [`clean`], and without the characters that mean something to a shell (the predecessor's rule for files).
pub fn clean_from_file(text: &str) -> String {
    let harmless: String = without_escape_sequences(text)
        .chars()
        .filter(|character| !SHELL_CHARACTERS.contains(*character))
        .collect();
    clean(&harmless)
}

/// The text of the first heading of the first level, if there is one.
pub fn first_heading(body: &str) -> Option<&str> {
    body.lines()
        .find_map(|line| line.strip_prefix("# "))
        .map(str::trim)
        .filter(|heading| !heading.is_empty())
}

/// Left-to-right and right-to-left embeddings, overrides and isolates: they show another text than the one there is.
fn overrides_direction(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn without_escape_sequences(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        if character != '\u{1b}' {
            kept.push(character);
            continue;
        }
        match rest.peek() {
            Some('[') => {
                rest.next();
                // Parameters and intermediates, then one final byte.
                while rest
                    .next_if(|c| ('\u{20}'..='\u{3f}').contains(c))
                    .is_some()
                {}
                rest.next_if(|c| ('\u{40}'..='\u{7e}').contains(c));
            }
            Some(']') => {
                // A command to the terminal, up to BEL or ESC \. Unterminated, it ends with the line.
                while let Some(inside) = rest.next_if(|c| *c != '\n') {
                    let terminated = inside == '\u{1b}' && rest.next_if_eq(&'\\').is_some();
                    if terminated || inside == '\u{7}' {
                        break;
                    }
                }
            }
            Some(next) if next.is_ascii_graphic() => {
                rest.next();
            }
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn titles_become_one_clean_line() {
        assert_eq!(
            clean("  Add\ta\nlogin\u{7} page \u{1b}[31mred\u{1b}[0m\u{202e} "),
            "Add a login page red"
        );
        assert_eq!(clean("a\u{1b}]0;evil\u{7}b\u{1b}]8;;x\u{1b}\\c"), "abc");
        assert_eq!(clean("\u{1b}"), "");
        assert_eq!(
            clean_from_file("run $(rm -rf) `x` & <b>"),
            "run rm -rf x  b"
        );
        assert_eq!(clean(&"x".repeat(300)).len(), MAX_TITLE_LEN);
    }

    #[test]
    fn the_first_heading_is_found_behind_text() {
        assert_eq!(
            first_heading("text\n## Two\n#  One \r\n# Other"),
            Some("One")
        );
        assert_eq!(first_heading("#One\n# \n"), None);
    }

    proptest! {
        #[test]
        fn any_text_becomes_clean_and_stays_so(text in any::<String>()) {
            let once = clean(&text);
            prop_assert!(!once.chars().any(char::is_control));
            prop_assert!(once.chars().count() <= MAX_TITLE_LEN);
            prop_assert_eq!(clean(&once), once);
        }
    }
}
