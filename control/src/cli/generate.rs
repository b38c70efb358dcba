//! `weir man` and `weir completions`: made from the one definition of the command line.

use std::fs;
use std::path::Path;

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;
use super::output::Output;

/// Writes a page for the program and for each command into the folder, which is made where it is not there.
pub(super) fn man(folder: &Path, output: &Output) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let mut command = Cli::command();
    command.build();
    let written = pages(&command, "weir", folder)?;
    output.text(&format!("{written} pages are in {}\n", folder.display()))
}

/// The page of a command, then those of the commands below it; their number.
fn pages(command: &Command, name: &str, folder: &Path) -> anyhow::Result<usize> {
    let path = folder.join(format!("{name}.1"));
    let mut page = Vec::new();
    Man::new(command.clone()).manual("weir").render(&mut page)?;
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    let below = command.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set());
    below.map(|below| pages(below, &format!("{name}-{}", below.get_name()), folder)).sum::<anyhow::Result<usize>>().map(|sum| sum + 1)
}

/// Prints the script that a shell reads.
pub(super) fn completions(shell: Shell, output: &Output) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "weir", &mut script);
    output.text(&String::from_utf8_lossy(&script))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Cli::command();
        command.build();
        let written = pages(&command, "weir", folder.path()).expect("pages are written");
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(written > 30, "{written}");
        assert!(read("weir.1").contains("weir\\-drain(1)"), "{}", read("weir.1"));
        assert!(read("weir-vm-clone.1").contains("dry\\-run"));
        assert!(read("weir-drain.1").contains("weir\\-drain"));
    }

    #[test]
    fn shells_know_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "weir", &mut script);
            let script = String::from_utf8(script).expect("text");
            assert!(script.contains("undrain") && script.contains("token-file"), "{shell}");
        }
    }

    /// The commands that the documents show are understood.
    #[test]
    fn documents_show_commands_that_there_are() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut pages = vec![root.join("README.md")];
        pages.extend(fs::read_dir(root.join("docs")).expect("documents").map(|entry| entry.expect("a file").path()));
        let mut count = 0;
        for page in pages.iter().filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
            let text = fs::read_to_string(page).expect("a page is text");
            let mut in_block = false;
            for line in text.lines() {
                if line.starts_with("```") {
                    in_block = line == "```sh";
                    continue;
                }
                let command = if in_block { Some(line) } else { line.strip_prefix("    ").filter(|_| !line.contains("│")) };
                let Some(command) = command.filter(|command| command.starts_with("weir ")) else { continue };
                count += 1;
                let words = words(command);
                if let Err(error) = <Cli as clap::Parser>::try_parse_from(&words) {
                    panic!("{}: {command}: {error}", page.display());
                }
            }
        }
        assert!(count > 30, "{count}");
    }

    /// The words of a line for a shell: single quotes, and a comment at its end.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (number, part) in line.split('\'').enumerate() {
            if number % 2 == 1 {
                words.push(part.to_owned());
                continue;
            }
            for word in part.split_whitespace() {
                if word.starts_with('#') {
                    return words;
                }
                words.push(word.to_owned());
            }
        }
        words
    }
}
