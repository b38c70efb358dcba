//! Changing header fields of a head that was written by us.

use weir_config::HeaderEdits;

use super::fields::{alike, push_field};

/// Removes, sets and adds fields. The head ends in its empty line and has nothing behind it. A field that an endpoint may take for one that is
/// removed or set, as `X_Team` for `X-Team`, goes as well.
pub fn edit(head: &mut Vec<u8>, edits: &HeaderEdits) {
    // A name has no colon in it: where one stands behind as many bytes as it has, these are the name.
    let goes = |line: &[u8]| {
        let set = edits.set.iter().map(|(name, _)| name);
        edits.remove.iter().chain(set).any(|known| line.get(known.len()) == Some(&b':') && alike(&line[..known.len()], known))
    };
    let first = memchr::memchr(b'\n', head).map_or(head.len(), |at| at + 1);
    // What stays is moved in one piece, up to the next line that goes.
    let (mut kept, mut from, mut to) = (first, first, first);
    while let Some(length) = memchr::memchr(b'\n', &head[from..]).map(|at| at + 1) {
        if goes(&head[from..from + length]) {
            head.copy_within(kept..from, to);
            to += from - kept;
            kept = from + length;
        }
        from += length;
    }
    if kept == first {
        to = from;
    } else {
        head.copy_within(kept..from, to);
        to += from - kept;
    }
    head.truncate(to.saturating_sub(2));
    for (name, value) in edits.set.iter().chain(&edits.add) {
        push_field(head, name, value.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_removed_set_and_added() {
        let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        for (remove, set, add, expected) in [
            (&[][..], &[][..], &[][..], "A: 1\r\nB: 2\r\na: 3\r\nX_Y: 4\r\n"),
            (&["a"], &[], &[], "B: 2\r\nX_Y: 4\r\n"),
            (&[], &[("B", "5")], &[("B", "6"), ("A", "7")], "A: 1\r\na: 3\r\nX_Y: 4\r\nB: 5\r\nB: 6\r\nA: 7\r\n"),
            (&["x-y", "none"], &[("a", "")], &[], "B: 2\r\na: \r\n"),
        ] {
            let mut head = b"GET /a:b HTTP/1.1\r\nA: 1\r\nB: 2\r\na: 3\r\nX_Y: 4\r\n\r\n".to_vec();
            let remove = remove.iter().map(|name| (*name).to_owned()).collect();
            edit(&mut head, &HeaderEdits { remove, set: pairs(set), add: pairs(add) });
            assert_eq!(String::from_utf8(head).unwrap(), format!("GET /a:b HTTP/1.1\r\n{expected}\r\n"));
        }
    }
}
