//! Secrets in quoted source lines. Somebody types a password into the file, which is wrong; the message that says so must not spread it.

/// What stands for a secret.
pub(super) const MASK: &str = "***";

/// Parts of keys that hold, or name, secrets.
const SECRET_WORDS: [&str; 8] = ["password", "passwd", "passphrase", "secret", "token", "community", "api_key", "credential"];

/// Whether what stands under this key may be a secret.
pub(crate) fn is_secret_name(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    SECRET_WORDS.iter().any(|word| key.contains(word)) || key.ends_with("_key")
}

/// Keys that hold no secret where they are written as they should be, and often one where they are not: a secret URL in the place of its file's
/// name.
const TEMPTING_KEYS: [&str; 2] = ["url_file", "url_env"];
/// What a token is typed into, where it is the template of a channel. A pool's is what a probe expects, and is shown.
const TEMPLATE_KEY: &str = "body";

/// Whether the last table that begins in this part of a file is one of a pool. What cannot be told is none.
pub(super) fn is_in_pool(before: &str) -> bool {
    let mut end = before.len();
    while end > 0 {
        let start = before[..end - 1].rfind('\n').map_or(0, |at| at + 1);
        let line = before[start..end].trim_start();
        // A line of a long text only looks like the head of a table.
        if line.starts_with('[') && !is_inside_text(&before[..start]) {
            let name = line.trim_start_matches('[').trim_start();
            return name.strip_prefix("pool").is_some_and(|rest| rest.trim_start().starts_with('.'));
        }
        end = start;
    }
    false
}

/// Whether a string of several lines is still open at the end of this part of a file.
pub(super) fn is_inside_text(before: &str) -> bool {
    let mut rest = before;
    let mut open: Option<&str> = None;
    loop {
        let (skipped, end) = match open {
            // Outside: a comment, or the beginning of a string.
            None => match rest.find(['#', '"', '\'']) {
                None => return false,
                Some(at) => {
                    let found = &rest[at..];
                    let marks = ["\"\"\"", "'''", "\"", "'"];
                    open = marks.into_iter().find(|mark| found.starts_with(mark));
                    (at, open.map_or_else(|| found.find('\n').unwrap_or(found.len()), str::len))
                }
            },
            Some(mark) => {
                // One line's string ends with the line at the latest.
                let stops = |c: char| mark.starts_with(c) || (c == '\\' && mark.starts_with('"')) || (c == '\n' && mark.len() == 1);
                match rest.find(stops) {
                    None => return mark.len() == 3,
                    Some(at) => {
                        let found = &rest[at..];
                        let is_end = found.starts_with(mark) || found.starts_with('\n');
                        let escaped = found.chars().take(2).map(char::len_utf8).sum::<usize>();
                        let length = if is_end && !found.starts_with('\n') {
                            mark.len()
                        } else if found.starts_with('\\') {
                            escaped
                        } else {
                            1
                        };
                        if is_end {
                            open = None;
                        }
                        (at, length)
                    }
                }
            }
        };
        rest = &rest[(skipped + end).min(rest.len())..];
    }
}

/// The line without secrets, and where the wrong part (`before` and `width`, in characters) is in it. `in_pool`: see [`is_in_pool`].
pub(super) fn mask(line: &str, in_pool: bool, before: usize, width: usize) -> (String, usize, usize) {
    let chars: Vec<char> = line.chars().collect();
    let spans = secrets(&chars, in_pool);
    if spans.is_empty() {
        return (line.to_owned(), before, width);
    }
    let mut text = String::new();
    // For each character, and the end of the line, its place in the new text.
    let mut places = Vec::with_capacity(chars.len() + 1);
    let mut count = 0;
    for (at, c) in chars.iter().enumerate() {
        places.push(count);
        match spans.iter().find(|(start, end)| (*start..*end).contains(&at)) {
            Some((start, _)) if *start == at => {
                text.push_str(MASK);
                count += MASK.len();
            }
            Some(_) => {}
            None => {
                text.push(*c);
                count += 1;
            }
        }
    }
    places.push(count);
    let place = |at: usize| places[at.min(chars.len())];
    (text, place(before), place(before + width) - place(before))
}

/// The characters to be masked, from and to: the values of keys with a secret's name, and user and password in URLs.
fn secrets(chars: &[char], in_pool: bool) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        if chars[at] == '='
            && let Some(span) = value_of_secret(chars, in_pool, at)
        {
            found.push(span);
            at = span.1;
        } else if chars[at..].starts_with(&[':', '/', '/'])
            && let Some(span) = user_of_url(chars, at + 3)
        {
            found.push(span);
            at = span.1;
        }
        at += 1;
    }
    found
}

/// After the equals sign at `equals`, where the key before it is a secret's: the inside of the string, or all that follows.
fn value_of_secret(chars: &[char], in_pool: bool, equals: usize) -> Option<(usize, usize)> {
    let is_key = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '-' | '"' | '\'' | ' ' | '\t' | '.');
    let start = chars[..equals].iter().rposition(|c| !is_key(c)).map_or(0, |at| at + 1);
    let key: String = chars[start..equals].iter().filter(|c| !matches!(c, '"' | '\'' | ' ' | '\t')).collect();
    let key = key.rsplit('.').next().unwrap_or_default();
    let is_template = key == TEMPLATE_KEY && !in_pool;
    if !is_secret_name(key) && !TEMPTING_KEYS.contains(&key) && !is_template {
        return None;
    }
    let value = equals + 1 + chars[equals + 1..].iter().take_while(|c| c.is_whitespace()).count();
    let quote = *chars.get(value)?;
    let is_quoted = matches!(quote, '"' | '\'') && !chars[value..].starts_with(&[quote; 3]);
    let end = |from: usize| {
        let mut at = from;
        while at < chars.len() && chars[at] != quote {
            at += if chars[at] == '\\' && quote == '"' { 2 } else { 1 };
        }
        at.min(chars.len())
    };
    let span = if is_quoted { (value + 1, end(value + 1)) } else { (value, chars.len()) };
    (span.0 < span.1).then_some(span)
}

fn user_of_url(chars: &[char], start: usize) -> Option<(usize, usize)> {
    let length = chars[start..].iter().take_while(|c| !matches!(c, '/' | '"' | '\'' | ' ' | '\t' | ',')).count();
    let user = chars[start..start + length].iter().rposition(|c| *c == '@')?;
    (user > 0).then_some((start, start + user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_quoted() {
        for (line, want) in [
            ("password = \"hunter2\"", "password = \"***\""),
            ("password = \"hun\\\"ter2\" # x", "password = \"***\" # x"),
            ("password = hunter2", "password = ***"),
            ("password=\"\"\"hunter2", "password=***"),
            ("password = \"hunter2", "password = \"***"),
            ("email = { user = \"a\", password = 'hunter2', x = 1 }", "email = { user = \"a\", password = '***', x = 1 }"),
            ("\"api-key\" = 'hunter2'", "\"api-key\" = '***'"),
            ("a.b.token = \"hunter2\"", "a.b.token = \"***\""),
            ("smtp = \"smtp://me:hunter2@mail:25\"", "smtp = \"smtp://***@mail:25\""),
            ("url = \"http://a/b@c\"", "url = \"http://a/b@c\""),
            ("key = \"source\"", "key = \"source\""),
            ("path = \"/x\"", "path = \"/x\""),
            ("password = \"\"", "password = \"\""),
            ("url_file = \"https://hooks/hunter2\"", "url_file = \"***\""),
            ("body = 'token=hunter2&x=${y}'", "body = '***'"),
            ("body = \"\"\"hunter2", "body = ***"),
            ("somebody = 'x'", "somebody = 'x'"),
        ] {
            assert_eq!(mask(line, false, 0, 0).0, want, "{line}");
        }
    }

    #[test]
    fn what_a_probe_expects_is_no_template() {
        for (line, want) in [
            ("body = '(ok'", "body = '(ok'"),
            ("health = { type = \"http\", body = '(ok' }", "health = { type = \"http\", body = '(ok' }"),
            ("password = 'hunter2'", "password = '***'"),
            ("url_file = 'https://hooks/hunter2'", "url_file = '***'"),
        ] {
            assert_eq!(mask(line, true, 0, 0).0, want, "{line}");
        }
    }

    #[test]
    fn the_table_is_the_last_one_that_begins() {
        for (before, in_pool) in [
            ("", false),
            ("a = 1\n", false),
            ("[pool.web.health]\n", true),
            ("[pool.web.health]\ntype = 'http'\n\n# [notify.a]\n", true),
            ("  [ pool . web ]\n", true),
            ("[[pool.web.endpoint]]\n", true),
            ("[pools.web]\n", false),
            ("[pool.web]\n[notify.a.webhook]\n", false),
            ("[notify.a.webhook]\n[pool.web]\n", true),
            ("[notify.a.webhook]\ntext = '''\n[pool.web]\n'''\n", false),
            ("[\"notify\".a]\n", false),
        ] {
            assert_eq!(is_in_pool(before), in_pool, "{before:?}");
        }
    }

    #[test]
    fn lines_of_a_long_text_are_known() {
        for (before, inside) in [
            ("a = 1\n", false),
            ("body = \"\"\"\n{ token }\n", true),
            ("body = '''\n\"\n", true),
            ("body = '''\n''' # '''\n", false),
            ("# it's\na = \"'\"\n", false),
            ("a = \"\\\"\\\\\"\nb = \"\"\"x\\\"\"\"\n", true),
            ("a = \"open\nb = 1\n", false),
            ("a = \"\"\"ü\\ü\n", true),
            ("\"\"\"\"\"\"\n", false),
            ("a = \"\"\"\\", true),
        ] {
            assert_eq!(is_inside_text(before), inside, "{before:?}");
        }
    }

    #[test]
    fn the_wrong_part_stays_where_it_is() {
        let line = "{ password = 'hunter2', colour = 1 }";
        let at = line.find("colour").unwrap();
        let (text, before, width) = mask(line, false, at, 6);
        assert_eq!(&text[before..before + width], "colour");
        let (text, before, width) = mask(line, false, line.find("'hun").unwrap(), 9);
        assert_eq!(&text[before..before + width], "'***'");
    }
}
