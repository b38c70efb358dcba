//! `bind`: addresses, and the TLS that ends there.

use super::World;
use super::words::Statement;
use crate::draft::{Block, Draft};
use crate::note::{Notes, Place};
use crate::text::text;

/// Ports of one range that become addresses.
const RANGE_MAX: u16 = 64;

/// What clients find at some addresses.
#[derive(Debug, Default)]
pub(super) struct Binds {
    /// Addresses without TLS.
    pub(super) plain: Vec<(String, Place)>,
    /// Addresses where TLS ends.
    pub(super) secure: Vec<(String, Place)>,
    pub(super) tls: Tls,
    /// Clients are announced by the PROXY protocol.
    pub(super) announced: Option<Place>,
}

/// What all addresses with TLS have in common, for a listener of ours has one.
#[derive(Debug, Default)]
pub(super) struct Tls {
    certificates: Vec<(String, Place)>,
    folder: Option<(String, Place)>,
    settings: Vec<(&'static str, String, Place)>,
    pub(super) no_http2: bool,
}

impl Binds {
    /// Reads every `bind` of a section.
    pub(super) fn read<'a>(statements: impl Iterator<Item = &'a Statement>, world: &World<'_>, notes: &mut Notes) -> Binds {
        let mut binds = Binds::default();
        for statement in statements {
            let place = notes.place(statement.line);
            let mut addresses = Vec::new();
            for part in statement.word(1).split(',') {
                match listen(part) {
                    Ok(found) => addresses.extend(found.into_iter().map(|address| (address, place))),
                    Err(why) => notes.not_converted(statement.line, &statement.shown(), why),
                }
            }
            let is_secure = statement.from(2).iter().any(|word| word == "ssl");
            // The option after the address that says both families.
            if statement.from(2).iter().any(|word| word == "v4v6") {
                let v4 =
                    addresses.iter().filter_map(|(address, place)| Some((format!("0.0.0.0:{}", address.strip_prefix("[::]:")?), *place)));
                addresses.extend(v4.collect::<Vec<_>>());
            }
            if binds.options(statement, is_secure, world, notes) {
                if is_secure { &mut binds.secure } else { &mut binds.plain }.extend(addresses);
            }
        }
        binds
    }

    /// Whether the address may be listened on.
    fn options(&mut self, statement: &Statement, is_secure: bool, world: &World<'_>, notes: &mut Notes) -> bool {
        let (line, place) = (statement.line, notes.place(statement.line));
        let mut words = statement.from(2).iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut set = |name, value: String| self.tls.settings.push((name, value, place));
            match word {
                "ssl" | "v4v6" | "v6only" | "transparent" | "defer-accept" | "tfo" | "prefer-client-ciphers" | "allow-0rtt" => {}
                "accept-proxy" => {
                    self.announced = Some(place);
                    notes.changed(
                        line,
                        &statement.shown(),
                        "everybody must announce a client here, at every address of the listener; write your proxies alone into `trusted`",
                    );
                }
                "crt" => {
                    let path = under(world.certificates, words.next().unwrap_or_default());
                    let name = path.rsplit('/').next().unwrap_or_default();
                    if name.contains('.') {
                        self.tls.certificates.push((path, place));
                    } else if self.tls.folder.as_ref().is_none_or(|(known, _)| *known == path) {
                        notes.changed(line, &format!("crt {path}"), "taken for a folder, of which every NAME.pem is used");
                        self.tls.folder = Some((path, place));
                    } else {
                        notes.not_converted(line, &format!("crt {path}"), "a listener has one folder of certificates");
                    }
                }
                "ca-file" => set("client_ca_file", text(&under(world.authorities, words.next().unwrap_or_default()))),
                "crl-file" => set("client_crl_file", text(&under(world.authorities, words.next().unwrap_or_default()))),
                "verify" => match words.next() {
                    Some("required") => set("client_certificates", text("required")),
                    Some("optional") => set("client_certificates", text("optional")),
                    _ => {}
                },
                "ssl-min-ver" => match words.next() {
                    Some("TLSv1.3") => set("version_min", text("1.3")),
                    Some("TLSv1.2") => {}
                    _ => notes.not_converted(line, word, "versions before TLS 1.2 are not spoken"),
                },
                "force-tlsv13" => set("version_min", text("1.3")),
                "no-tlsv12" => set("version_min", text("1.3")),
                "no-sslv3" | "no-tlsv10" | "no-tlsv11" => {}
                "no-tls-tickets" => set("tickets", "false".into()),
                "strict-sni" => set("unknown_name", text("refuse")),
                "alpn" | "npn" => self.tls.no_http2 |= !words.next().unwrap_or_default().split(',').any(|protocol| protocol == "h2"),
                "ciphers" | "ciphersuites" | "curves" | "ecdhe" => {
                    words.next();
                    notes.not_needed(line, word, "today's suites and curves are the only ones");
                }
                "interface" | "mss" | "backlog" | "maxconn" | "nice" | "process" | "thread" | "shards" | "id" | "name" | "namespace"
                | "proto" | "tcp-ut" | "level" | "mode" | "user" | "group" | "uid" | "gid" | "severity-output" => {
                    words.next();
                    notes.not_needed(line, word, "weir has no such setting of an address");
                }
                other => {
                    if let "crt-list" | "ca-sign-file" | "ocsp-update" | "ca-verify-file" = other {
                        words.next();
                    }
                    notes.not_converted(line, other, format!("weir has nothing like it (in `{}`)", statement.shown()));
                }
            }
        }
        if is_secure && self.tls.certificates.is_empty() && self.tls.folder.is_none() {
            notes.not_converted(
                line,
                &statement.shown(),
                "it names no certificate that could be taken over, so nothing is listened on here",
            );
            return false;
        }
        true
    }
}

impl Tls {
    /// Writes `[listener.NAME.tls]`. Each line goes with the listener, which without it would be open.
    pub(super) fn write(&self, listener: &str, draft: &mut Draft) {
        let first = self.certificates.first().or(self.folder.as_ref()).map(|(_, place)| *place).unwrap_or_default();
        let mut table = Block::table(&["listener", listener, "tls"], first).goes_with(2);
        if let Some((folder, place)) = &self.folder {
            table.set("folder", text(folder), *place);
        }
        let mut written: Vec<&str> = Vec::new();
        for (name, value, place) in &self.settings {
            if !written.contains(name) {
                written.push(name);
                table.set(name, value.clone(), *place);
            }
        }
        draft.add(table);
        let mut seen: Vec<&str> = Vec::new();
        for (file, place) in &self.certificates {
            if !seen.contains(&file.as_str()) {
                seen.push(file);
                let mut certificate = Block::in_list(&["listener", listener, "tls", "certificate"], *place).goes_with(2);
                certificate.set("file", text(file), *place);
                draft.add(certificate);
            }
        }
    }
}

fn under(base: Option<&str>, path: &str) -> String {
    let path = path.trim_end_matches('/');
    match base {
        Some(base) if !path.starts_with('/') => format!("{}/{path}", base.trim_end_matches('/')),
        _ => path.to_owned(),
    }
}

/// The addresses that one part of a `bind` means, as weir writes them.
fn listen(text: &str) -> Result<Vec<String>, &'static str> {
    let text = text.strip_prefix("ipv4@").or_else(|| text.strip_prefix("ipv6@")).unwrap_or(text);
    if text.contains('@') || text.starts_with('/') {
        return Err("weir listens on addresses alone");
    }
    let (host, ports) = text.rsplit_once(':').ok_or("it has no port")?;
    let host = match host.trim_start_matches('[').trim_end_matches(']') {
        "" | "*" | "0.0.0.0" => "0.0.0.0".to_owned(),
        six if six.contains(':') => format!("[{six}]"),
        four => four.to_owned(),
    };
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if first <= last && last - first < RANGE_MAX => {
            Ok((first..=last).map(|port| format!("{host}:{port}")).collect())
        }
        (Ok(_), Ok(_)) => Err("the range of ports is too long"),
        _ => Err("its port is not a number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("*:80", Ok(vec!["0.0.0.0:80"])),
            (":80", Ok(vec!["0.0.0.0:80"])),
            ("10.0.0.1:8000-8002", Ok(vec!["10.0.0.1:8000", "10.0.0.1:8001", "10.0.0.1:8002"])),
            (":::80", Ok(vec!["[::]:80"])),
            ("[::]:443", Ok(vec!["[::]:443"])),
            ("ipv6@2001:db8::1:80", Ok(vec!["[2001:db8::1]:80"])),
            ("unix@/run/x.sock", Err("weir listens on addresses alone")),
            ("10.0.0.1", Err("it has no port")),
            ("*:1-65535", Err("the range of ports is too long")),
        ] {
            assert_eq!(listen(text), expected.map(|list| list.into_iter().map(str::to_owned).collect()), "{text}");
        }
    }
}
