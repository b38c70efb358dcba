//! What must hold for any file of others. A file of its own, so that `import/tests/fuzz_corpus.rs` needs no other room.

use weir_import::{Format, Outcome, Source, import};

/// Any text at all, as either format: never a panic; what comes out is taken by weir and the same each time; every note is about a line that
/// is there.
pub fn import_file(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(data);
    let format = if first & 1 == 0 { Format::Haproxy } else { Format::Keepalived };
    let convert = || import(&[Source { name: "fuzz", text: &text, format }]);
    let Ok(imported) = convert() else { return };
    if let Err(errors) = weir_config::parse(&imported.toml, "fuzz.toml") {
        panic!("weir refuses what was made of it: {}\n{}", errors.render(false), imported.toml);
    }
    let lines = text.lines().count();
    for note in &imported.notes {
        assert!(note.line <= lines, "line {} of {lines}: {note}", note.line);
        assert!(!note.why.is_empty() && note.to_string().lines().count() == 1, "{note:?}");
        assert!(note.line > 0 || note.outcome == Outcome::NotConverted, "{note}");
    }
    let again = convert().unwrap_or_else(|error| panic!("converted once only: {error}"));
    assert_eq!((again.toml, again.notes), (imported.toml, imported.notes));
}
