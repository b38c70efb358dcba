//! Files as people have them, beside what becomes of them: `NAME.toml`, which `weir check` takes without an error, and `NAME.notes`.

use std::fs;
use std::path::{Path, PathBuf};

use weir_import::{Format, Outcome, Source, import, recognise};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let files = fs::read_dir(folder).expect("the cases are there").map(|entry| entry.expect("a file").path());
    let mut found: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "cfg" || e == "conf")).collect();
    found.sort();
    found
}

fn converted(path: &Path) -> (String, String) {
    let text = fs::read_to_string(path).expect("a case is text");
    let name = path.file_name().expect("a file").to_string_lossy();
    let format = recognise(&text).unwrap_or_else(|| panic!("{name} is not recognised"));
    let imported = import(&[Source { name: &name, text: &text, format }]).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(imported.notes_omitted, 0);
    (imported.toml, imported.notes.iter().map(|note| format!("{note}\n")).collect())
}

#[test]
fn files_as_people_have_them() {
    let bless = std::env::var_os("WEIR_BLESS").is_some();
    let mut wrong = Vec::new();
    assert!(cases().len() >= 5);
    for path in cases() {
        let (toml, notes) = converted(&path);
        weir_config::parse(&toml, "weir.toml").unwrap_or_else(|errors| panic!("{}: {}", path.display(), errors.render(false)));
        for (extension, text) in [("toml", &toml), ("notes", &notes)] {
            let expected = path.with_extension(extension);
            if bless {
                fs::write(&expected, text).expect("a case can be written");
            } else if fs::read_to_string(&expected).unwrap_or_default() != *text {
                wrong.push(format!("{}:\n{text}", expected.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\nIf this is meant, run with WEIR_BLESS=1 and review the difference.", wrong.join("\n"));
}

/// No line is passed over in silence: each is in the result, as the origin of a table or a key, or in a note, or a part of its block.
#[test]
fn a_word_that_nobody_knows_is_noted() {
    let text =
        "defaults\n mode http\nfrontend a\n bind 10.0.0.1:80\n zebra crossing\n default_backend b\nbackend b\n server s 10.0.0.2:80 gnu\n";
    let imported = import(&[Source { name: "h", text, format: Format::Haproxy }]).expect("it is converted");
    let notes: Vec<String> = imported.notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes.iter().filter(|note| note.contains("zebra crossing") || note.contains(": gnu:")).count(), 2, "{notes:?}");
}

/// A node that has both files gets one.
#[test]
fn two_files_become_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a case");
    let (proxy, pair) = (read("small-shop.cfg"), read("pair.conf"));
    let sources = [
        Source { name: "haproxy.cfg", text: &proxy, format: Format::Haproxy },
        Source { name: "keepalived.conf", text: &pair, format: Format::Keepalived },
    ];
    let imported = import(&sources).expect("it is converted");
    let config = weir_config::parse(&imported.toml, "weir.toml").expect("it is taken");
    assert_eq!((config.vips.len(), config.listeners.len(), config.pools.len()), (2, 2, 2));
    assert_eq!(weir_config::warnings(&config).len(), 1, "only what trusts a peer's address: {:?}", weir_config::warnings(&config));
    let of = |name: &str| imported.notes.iter().filter(|note| note.file == name).count();
    assert!(of("haproxy.cfg") > 5 && of("keepalived.conf") > 5);
}

/// What would be open if a part of it were left out is left out whole.
#[test]
fn nothing_becomes_more_open() {
    let check = |text: &str| {
        let imported = import(&[Source { name: "h", text, format: Format::Haproxy }]).expect("it is converted");
        assert!(imported.notes.iter().any(|note| note.outcome == Outcome::NotConverted), "{text}");
        imported.toml
    };
    let site = |bind: &str, rule: &str| {
        format!("listen a\n mode http\n bind {bind}\n {rule}\n server s 10.0.0.2:80\nbackend b\n server s 10.0.0.3:80\n")
    };
    // TLS whose certificate is no absolute path.
    assert!(!check(&site("10.0.0.1:443 ssl crt web.pem", "")).contains("[listener."));
    // A route whose host is no host.
    assert!(!check(&site("10.0.0.1:80", "use_backend b if { hdr(host) a_b!c } { path_beg /x }")).contains("/x"));
    // Addresses of which one cannot be read.
    assert!(!check(&site("10.0.0.1:80", "tcp-request connection reject unless { src 10.0.0.0/8 office }")).contains("allow"));
    // A server that speaks TLS is not spoken to in clear: not beside one that does not, and not without its authority.
    assert!(!check(&site("10.0.0.1:80", "server s0 10.0.0.8:80\n server t 10.0.0.9:443 ssl verify none")).contains("10.0.0.9"));
    assert!(!check(&site("10.0.0.1:80", "default-server ssl ca-file relative.pem")).contains("10.0.0.2"));
}

#[test]
fn whose_file_it_is() {
    for (text, expected) in [
        ("# x\nglobal\n", Some(Format::Haproxy)),
        ("  frontend a\n", Some(Format::Haproxy)),
        ("! x\nvrrp_instance A {\n", Some(Format::Keepalived)),
        ("global_defs{\n}\n", Some(Format::Keepalived)),
        ("server { listen 80; }\n", None),
        ("", None),
    ] {
        assert_eq!(recognise(text), expected, "{text}");
    }
}
