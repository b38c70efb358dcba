//! Reading where a secret is. What stands there may be the secret itself, put into the wrong key: it is never repeated.

use std::path::PathBuf;

use crate::error::Problem;
use crate::reader::Table;
use crate::secret::SecretSource;

/// The source named by `FILE_KEY` or `ENV_KEY`, which exclude each other.
pub(super) fn secret(table: &Table<'_>, file_key: &str, env_key: &str) -> Option<SecretSource> {
    let file = table.field(file_key).and_then(|field| {
        let text = field.text()?;
        let good = text.starts_with('/') && !text.chars().any(char::is_control);
        let wrong =
            || format!("`{file_key}` must be the absolute path of a file that holds the secret; the secret itself must not stand here");
        field.checked(if good { Ok(PathBuf::from(text)) } else { Err(wrong()) })
    });
    let variable = table.field(env_key).and_then(|field| {
        let text = field.text()?;
        let good = text.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        let wrong = || {
            format!("`{env_key}` must be the name of an environment variable, such as SMTP_PASSWORD; the secret itself must not stand here")
        };
        field.checked(if good { Ok(text.to_owned()) } else { Err(wrong()) })
    });
    if table.has(file_key) && table.has(env_key) {
        let problem =
            Problem::new(table.key_span(env_key), table.path_of(env_key), "a secret comes from a file or the environment, not both");
        table.report(problem.note(table.key_span(file_key), "the file is named here").needs_whole_file());
    }
    file.map(SecretSource::File).or(variable.map(SecretSource::Environment))
}
