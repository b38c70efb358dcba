//! `weir import`: on this machine, without a node.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use weir_import::{Format, Imported, Outcome, Source, import, recognise};

use super::output::Output;
use crate::render::counted;

/// The largest file that is read; what people write is far smaller.
const BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, Args)]
pub(super) struct Import {
    /// haproxy.cfg, keepalived.conf, or both of one node
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Whose files these are; default: recognised by their words
    #[arg(long, value_name = "FORMAT")]
    format: Option<FormatName>,
    /// Write the configuration into this file, which must not be there yet; default: standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatName {
    Haproxy,
    Keepalived,
}

/// Prints the configuration, and on standard error what a person must know.
pub(super) fn run(options: &Import, output: &Output) -> anyhow::Result<ExitCode> {
    let texts: Vec<(String, String)> =
        options.files.iter().map(|path| Ok((path.display().to_string(), read(path)?))).collect::<anyhow::Result<_>>()?;
    let sources = texts.iter().map(|(name, text)| {
        let format = match options.format {
            Some(FormatName::Haproxy) => Some(Format::Haproxy),
            Some(FormatName::Keepalived) => Some(Format::Keepalived),
            None => recognise(text),
        };
        let Some(format) = format else {
            bail!("{name} is recognised neither as HAProxy's nor as keepalived's; if it is, say so with --format");
        };
        Ok(Source { name, text, format })
    });
    let imported = import(&sources.collect::<anyhow::Result<Vec<_>>>()?)?;
    if let Some(path) = &options.output {
        let mut file = fs::File::create_new(path).with_context(|| format!("cannot write {}", path.display()))?;
        std::io::Write::write_all(&mut file, imported.toml.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if output.json {
        output.json(&imported)?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.output.is_none() {
        output.text(&imported.toml)?;
    }
    for note in &imported.notes {
        output.note(&note.to_string());
    }
    output.note(&summary(&imported, options.output.as_deref()));
    Ok(ExitCode::SUCCESS)
}

/// What there is to look at, and what to do next.
fn summary(imported: &Imported, path: Option<&Path>) -> String {
    let count = |outcome: Outcome| imported.notes.iter().filter(|note| note.outcome == outcome).count();
    let omitted = match imported.notes_omitted {
        0 => String::new(),
        number => format!(", and {number} more notes"),
    };
    let next = match path {
        Some(path) => format!("; look at {0}, then `weir check {0}`", path.display()),
        None => String::new(),
    };
    format!(
        "weir: {}, {}, {}{omitted}{next}",
        counted(count(Outcome::NotConverted) as u64, "line is not converted", "lines are not converted"),
        counted(count(Outcome::Changed) as u64, "means something else", "mean something else"),
        counted(count(Outcome::NotNeeded) as u64, "is not needed", "are not needed")
    )
}

fn read(path: &Path) -> anyhow::Result<String> {
    let name = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    fs::File::open(path).with_context(name)?.take(BYTES_MAX + 1).read_to_end(&mut bytes).with_context(name)?;
    ensure!(bytes.len() as u64 <= BYTES_MAX, "{} is larger than {} MiB", path.display(), BYTES_MAX >> 20);
    // Comments in other encodings are common in old files, and only comments hold them.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
