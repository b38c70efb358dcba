//! `weir check`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use weir_config::Config;

use super::explain::Explain;
use super::output::{Output, stderr_color};
use crate::render::counted;

/// Largest file that is read; a configuration of 100,000 endpoints is smaller.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Checks a file and prints every error and warning, or explains a request where the file has no error.
pub(super) fn check(file: &Path, explain: &Explain, output: &Output) -> anyhow::Result<ExitCode> {
    let name = file.display().to_string();
    let text = read(file).with_context(|| format!("cannot read {name}"))?;
    match weir_config::parse(&text, &name) {
        Ok(config) => {
            if let Some(code) = explain.run(&config, output)? {
                return Ok(code);
            }
            let warnings = weir_config::warnings(&config);
            if output.json {
                output.json(&serde_json::json!({ "ok": true, "errors": [], "warnings": warnings, "summary": summary(&config) }))?;
            } else {
                for warning in &warnings {
                    output.note(&format!("warning: {warning}"));
                }
                output.text(&format!("ok: {}\n", summary(&config)))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            if output.json {
                let omitted = errors.omitted();
                output.json(&serde_json::json!({ "ok": false, "errors": errors.items(), "errors_omitted": omitted, "warnings": [] }))?;
            } else {
                output.note(errors.render(stderr_color()).trim_end());
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::open(file)?, FILE_BYTES_MAX + 1), &mut bytes)?;
    anyhow::ensure!(bytes.len() as u64 <= FILE_BYTES_MAX, "it is larger than {} MiB", FILE_BYTES_MAX >> 20);
    String::from_utf8(bytes).context("it is not UTF-8 text")
}

/// `2 listeners, 3 pools, 14 endpoints`.
fn summary(config: &Config) -> String {
    let endpoints: usize = config.pools.values().map(|pool| pool.endpoints.len()).sum();
    format!(
        "{}, {}, {}",
        counted(config.listeners.len() as u64, "listener", "listeners"),
        counted(config.pools.len() as u64, "pool", "pools"),
        counted(endpoints as u64, "endpoint", "endpoints")
    )
}
