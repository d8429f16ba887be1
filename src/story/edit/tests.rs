//! What edits keep, what they refuse, and that no document is corrupted.

use proptest::prelude::*;

use super::*;

fn set(key: &str, value: impl Into<Value>) -> Edit {
    Edit::set(Key::new(key).unwrap(), value)
}

fn remove(key: &str) -> Edit {
    Edit::Remove {
        key: Key::new(key).unwrap(),
    }
}

fn edit(block: &str, edit: Edit) -> Result<String, EditError> {
    let text = format!("---\n{block}---\nbody\n");
    let edited = Document::parse(&text).unwrap().with(&[edit])?;
    let block = edited
        .strip_prefix("---\n")
        .unwrap()
        .strip_suffix("---\nbody\n")
        .unwrap();
    Ok(block.to_owned())
}

#[test]
fn only_the_value_on_the_line_changes() {
    for (before, after) in [
        ("status: ready\n", "status: done\n"),
        (
            "# a\nstatus:   ready   # why\nb: 1\n",
            "# a\nstatus:   done   # why\nb: 1\n",
        ),
        ("status: \"ready\" # why\n", "status: done # why\n"),
        ("\"status\" : 'ready'\n", "\"status\" : done\n"),
        ("status:\nb: 1\n", "status: done\nb: 1\n"),
        ("status: # why\n", "status: done # why\n"),
        ("status: ~ # why\n", "status: done # why\n"),
        ("  status: ready\n  b: 1\n", "  status: done\n  b: 1\n"),
        ("status: &s ready\nb: 1\n", "status: done\nb: 1\n"),
        (
            "a: &s ready\nstatus: *s # c\n",
            "a: &s ready\nstatus: done # c\n",
        ),
        (
            "a: &s [x]\nstatus: *s # c\n",
            "a: &s [x]\nstatus: done # c\n",
        ),
        ("status: ☃é # ☃\n", "status: done # ☃\n"),
        ("status: !!str ready # c\n", "status: done # c\n"),
        ("a: 1\n# end\n", "a: 1\n# end\nstatus: done\n"),
        ("  a: 1\n", "  a: 1\n  status: done\n"),
        (
            "a: |\n  status: ready\n\n",
            "a: |\n  status: ready\n\nstatus: done\n",
        ),
        ("a:\n  status: x\n", "a:\n  status: x\nstatus: done\n"),
        (
            "a: |+\n  x\n\n\nstatus: ready\n",
            "a: |+\n  x\n\n\nstatus: done\n",
        ),
        ("", "status: done\n"),
        ("# c\n", "# c\nstatus: done\n"),
    ] {
        assert_eq!(
            edit(before, set("status", "done")).as_deref(),
            Ok(after),
            "{before:?}"
        );
    }
}

#[test]
fn a_value_on_several_lines_is_replaced_whole() {
    for before in [
        "a: 1\nk: >-\n  folded\n\n  # text\n\n# c\nb: 2\n",
        "a: 1\nk: |2+\n    # text\n\n# c\nb: 2\n",
        "a: 1\nk: plain\n  second # x\n\n# c\nb: 2\n",
        "a: 1\nk: \"one\n  # two\"\n\n# c\nb: 2\n",
        "a: 1\nk: [a, # x\n  b,\n  ]\n\n# c\nb: 2\n",
        "a: 1\nk: {a: [\n  ]} # d\n\n# c\nb: 2\n",
        "a: 1\nk:\n- a # x\n- b\n\n# c\nb: 2\n",
        "a: 1\nk:\n  # first\n  - a\n  -\n\n# c\nb: 2\n",
        "a: 1\nk: # x\n  m: |\n    # text\n    # more\n\n# c\nb: 2\n",
        "a: 1\nk:\n  value\n\n# c\nb: 2\n",
        "a: 1\nk:\n  ünïcödé\n\n# c\nb: 2\n",
    ] {
        let after = edit(before, set("k", "new"));
        assert_eq!(
            after.as_deref(),
            Ok("a: 1\nk: new\n\n# c\nb: 2\n"),
            "{before:?}"
        );
        let removed = edit(before, remove("k"));
        assert_eq!(removed.as_deref(), Ok("a: 1\n\n# c\nb: 2\n"), "{before:?}");
    }
}

#[test]
fn a_value_that_is_there_already_is_not_written_again() {
    for block in ["status: \"done\" # c\n", "status: >-\n  done\n"] {
        assert_eq!(edit(block, set("status", "done")).as_deref(), Ok(block));
    }
    assert_eq!(
        edit("id: 007\n", set("id", "007")).as_deref(),
        Ok("id: '007'\n")
    );
    assert_eq!(edit("k: 0x0A\n", set("k", 10)).as_deref(), Ok("k: 0x0A\n"));
    assert_eq!(edit("k: 1\n", remove("x")).as_deref(), Ok("k: 1\n"));
}

#[test]
fn line_endings_marks_and_missing_newlines_stay() {
    let with = |text: &str, edits: &[Edit]| Document::parse(text).unwrap().with(edits).unwrap();
    let edits = [set("status", "done"), set("new", true), set("k", -3)];
    assert_eq!(
        with(
            "\u{feff}---\r\nstatus: >\r\n  x\r\n---\r\nbody\r\n\n\tend",
            &edits
        ),
        "\u{feff}---\r\nstatus: done\r\nnew: true\r\nk: -3\r\n---\r\nbody\r\n\n\tend"
    );
    assert_eq!(with("---\n---", &edits[..1]), "---\nstatus: done\n---");
    assert_eq!(
        with("\u{feff}# T\r\nx", &edits[..1]),
        "\u{feff}---\r\nstatus: done\r\n---\r\n# T\r\nx"
    );
    assert_eq!(
        with("", &edits),
        "---\nstatus: done\nnew: true\nk: -3\n---\n"
    );
    assert_eq!(with("x", &[remove("status")]), "x");
    assert_eq!(
        with(
            "---\na: 1\n---\n",
            &[set("a", 2), remove("a"), set("b", "x\ny")]
        ),
        "---\nb: \"x\\ny\"\n---\n"
    );
}

#[test]
fn shapes_without_lines_of_their_own_are_refused() {
    let refused = |block: &str| edit(block, set("status", "done")).unwrap_err();
    assert_eq!(
        refused("{id: S-1, status: ready}\n"),
        EditError::FlowMap { line: 2 }
    );
    assert!(matches!(
        refused("? status\n: ready\n"),
        EditError::NotOnItsOwnLines { line: 2, .. }
    ));
    assert!(matches!(
        refused("a: 1\rstatus: x\n"),
        EditError::NotOnItsOwnLines { .. }
    ));
    assert!(matches!(
        refused("status: &s ready\nb: *s\n"),
        EditError::WouldBreak { .. }
    ));
    assert!(matches!(
        refused("a: &s 1\nstatus: &s 2\nb: *s\n"),
        EditError::WouldChange { .. }
    ));
    assert!(matches!(
        refused("a: 1\n...\n"),
        EditError::WouldBreak { .. }
    ));
}

/// Entries whose key is unknown to the edit: any shape, with decoys that look like the edited key.
fn entry(index: usize) -> impl Strategy<Value = String> {
    let shape = prop::sample::select(vec![
        "k: plain",
        "k: 'it''s' # c",
        "k: \"a\\tb\"",
        "k:",
        "k: # none",
        "k: [a, {b: c}] # c",
        "k: |\n  status: ready\n   x\n",
        "k: >-\n  folded\n\n  status: x",
        "k: |+\n  keep\n\n",
        "k:\n- a\n- b # c",
        "k:\n  - a\n  # in\n  - b",
        "k:\n  status: x\n  b: {}",
        "k: plain\n  status next",
        "k: [a,\n  # c\n  b]",
        "\"k\": 007",
        "k: 2026-01-15",
        "# status: commented\nk: ~",
        "k: &a x\nkk: *a",
        "k: \"two\n  status: lines\"",
        "k:\t tabbed",
        "k: é☃",
    ]);
    shape.prop_map(move |text| text.replace('k', &format!("k{index}")))
}

fn blank() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        "",
        "\n",
        "# comment\n",
        "   # indented\n",
        "\n\n# x: y\n",
    ])
}

/// A front matter, with or without the key `status`, and the index of the entry before which that stands.
fn documents() -> impl Strategy<Value = String> {
    let values = prop::sample::select(vec![
        "status: ready\n",
        "status:   'ready' # why\n",
        "\"status\": ready\n",
        "status: |\n  ready\n",
        "status:\n- a\n- b\n",
        "status:\n",
        "status: [a,\n b]\n",
        "status: >\n  a\n\n  # b\n",
        "",
    ]);
    let entries = (0..6_usize)
        .map(|index| (entry(index), blank()))
        .collect::<Vec<_>>();
    (
        entries,
        values,
        0..7_usize,
        any::<bool>(),
        any::<bool>(),
        prop::sample::select(vec!["", "body", "\n# T\n---\nx\n"]),
    )
        .prop_map(|(entries, value, place, crlf, bom, body)| {
            let mut text = "---\n".to_owned();
            for (index, (entry, blank)) in entries.into_iter().enumerate() {
                if index == place {
                    text.push_str(value);
                }
                text.push_str(&entry);
                text.push('\n');
                text.push_str(blank);
            }
            if place == 6 {
                text.push_str(value);
            }
            text.push_str("---\n");
            text.push_str(body);
            let text = if crlf {
                text.replace('\n', "\r\n")
            } else {
                text
            };
            format!("{}{text}", if bom { "\u{feff}" } else { "" })
        })
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<String>().prop_map(Value::Text),
        "[-:#'\" a-z0-9\n]{0,12}".prop_map(Value::Text),
        any::<i64>().prop_map(Value::Integer),
        any::<bool>().prop_map(Value::Bool),
    ]
}

/// Whether `part` is `whole` with one run of lines left out.
fn is_whole_without_one_run(part: &[&str], whole: &[&str]) -> bool {
    let head = part
        .iter()
        .zip(whole)
        .take_while(|(left, right)| left == right)
        .count();
    let tail = part
        .iter()
        .rev()
        .zip(whole.iter().rev())
        .take_while(|(left, right)| left == right)
        .count();
    head + tail >= part.len() && part.len() <= whole.len()
}

proptest! {
    #[test]
    fn an_edit_gives_the_intended_value_and_keeps_every_other_line(text in documents(), value in values()) {
        let document = Document::parse(&text).unwrap();
        let edited = document.with(&[Edit::Set { key: Key::STATUS, value: value.clone() }]).unwrap();
        let again = Document::parse(&edited).unwrap();
        let written = again.entries().iter().find(|(name, _)| is_key(&name.node, &Key::STATUS)).unwrap();
        prop_assert!(value.is(&written.1.node));
        // Without the lines of the key, both are the same bytes.
        let rest = |document: &Document| document.with(&[Edit::Remove { key: Key::STATUS }]).unwrap();
        prop_assert_eq!(rest(&document), rest(&again));
        let lines: Vec<_> = text.split_inclusive('\n').collect();
        let removed = rest(&document);
        prop_assert!(is_whole_without_one_run(&removed.split_inclusive('\n').collect::<Vec<_>>(), &lines));
    }

    #[test]
    fn removing_a_key_that_was_just_added_restores_the_text(text in documents(), value in values()) {
        let key = Key::new("added").unwrap();
        let added = Document::parse(&text).unwrap().with(&[Edit::Set { key: key.clone(), value }]).unwrap();
        prop_assert_eq!(added.split_inclusive('\n').count(), text.split_inclusive('\n').count() + 1);
        let removed = Document::parse(&added).unwrap().with(&[Edit::Remove { key }]).unwrap();
        prop_assert_eq!(removed, text);
    }

    #[test]
    fn no_document_is_corrupted(block in "(status|k|\"status\"|- |[-:'\"|>#&*!{}\\[\\], \r\n\t?a])*", value in values()) {
        let text = format!("---\n{block}\n---\nbody");
        if let Ok(document) = Document::parse(&text) {
            for edit in [Edit::Set { key: Key::STATUS, value }, Edit::Remove { key: Key::STATUS }] {
                // `with` compares for itself; here only that it comes back, and with the body.
                if let Ok(edited) = document.with(&[edit]) {
                    prop_assert!(edited.ends_with("---\nbody"));
                }
            }
        }
    }
}
