//! Secrets in quoted source lines. Somebody types a password into the file, which is wrong; the message that says so must not spread it.

/// What stands for a secret.
const MASK: &str = "***";

/// Parts of keys that hold, or name, secrets.
const SECRET_WORDS: [&str; 8] = ["password", "passwd", "passphrase", "secret", "token", "community", "api_key", "credential"];

/// Whether what stands under this key may be a secret.
pub(crate) fn is_secret_name(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    SECRET_WORDS.iter().any(|word| key.contains(word)) || key.ends_with("_key")
}

/// The line without secrets, and where the wrong part (`before` and `width`, in characters) is in it.
pub(super) fn mask(line: &str, before: usize, width: usize) -> (String, usize, usize) {
    let chars: Vec<char> = line.chars().collect();
    let spans = secrets(&chars);
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
fn secrets(chars: &[char]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        if chars[at] == '='
            && let Some(span) = value_of_secret(chars, at)
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
fn value_of_secret(chars: &[char], equals: usize) -> Option<(usize, usize)> {
    let is_key = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '-' | '"' | '\'' | ' ' | '\t' | '.');
    let start = chars[..equals].iter().rposition(|c| !is_key(c)).map_or(0, |at| at + 1);
    let key: String = chars[start..equals].iter().filter(|c| !matches!(c, '"' | '\'' | ' ' | '\t')).collect();
    if !is_secret_name(key.rsplit('.').next().unwrap_or_default()) {
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
        ] {
            assert_eq!(mask(line, 0, 0).0, want, "{line}");
        }
    }

    #[test]
    fn the_wrong_part_stays_where_it_is() {
        let line = "{ password = 'hunter2', colour = 1 }";
        let at = line.find("colour").unwrap();
        let (text, before, width) = mask(line, at, 6);
        assert_eq!(&text[before..before + width], "colour");
        let (text, before, width) = mask(line, line.find("'hun").unwrap(), 9);
        assert_eq!(&text[before..before + width], "'***'");
    }
}
