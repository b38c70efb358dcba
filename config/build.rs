//! Collects the languages: each file of `languages/` is one, by its tag. To add a language is to add a file.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
    let folder = Path::new(&root).join("languages");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files: Vec<_> = fs::read_dir(&folder).expect("the languages are there").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let (mut texts, mut words) = (String::new(), String::new());
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "toml")) {
        let tag = file.file_stem().and_then(|stem| stem.to_str()).expect("a tag such as `en`");
        let text = fs::read_to_string(file).expect("the file can be read");
        let name = text.lines().find_map(|line| line.strip_prefix("name = ")).expect("a language begins with its name");
        let _ = writeln!(texts, "    ({tag:?}, include_str!({:?})),", file.display().to_string());
        let _ = writeln!(words, "    crate::spec::word({tag:?}, {name}),");
    }
    let code = format!(
        "/// Tag and text of each language.\nstatic FILES: &[(&str, &str)] = &[\n{texts}];\n\n\
         /// The tags, as choices of the file.\npub(crate) static LANGUAGE_WORDS: &[crate::spec::Word] = &[\n{words}];\n"
    );
    let out = env::var("OUT_DIR").expect("cargo says where to write");
    fs::write(Path::new(&out).join("languages.rs"), code).expect("it can be written");
}
