//! `[acme.NAME]` and `[[listener.NAME.tls.acme]]`.

use crate::spec::{Key, Keys, word};

const HOUR_MS: u64 = 3_600_000;

pub(super) static AUTHORITY: Keys = Keys {
    place: "[acme.NAME]",
    about: "An authority that issues certificates over ACME (RFC 8555).",
    keys: &[
        Key::text("directory", "\"https://acme-v02.api.letsencrypt.org/directory\"", "Where its directory is; always https.").required(),
        Key::flag("agree_terms", "false", "You have read its terms of service and agree. Without that it opens no account."),
        Key::list("contact", "[\"ops@example.com\"]", "Mail addresses that it may write to."),
        Key::text(
            "ca_file",
            "\"/etc/weir/acme-ca.pem\"",
            "Who may have signed the certificate of the directory itself, in PEM. Absent: whom the system trusts.",
        ),
        Key::text(
            "account_key_file",
            "\"/etc/weir/acme-account.pem\"",
            "The account's key in PEM (PKCS #8, P-256). The same file on every node of a virtual IP: then whichever has the address answers challenges \
             for all of them. Absent: this node makes one of its own in state_dir, and orders only while it has the address.",
        ),
        Key::text("eab_key_id", "\"kid-1\"", "The account with the authority that ours belongs to, where it asks for one."),
        Key::text("eab_key_file", "\"/etc/weir/acme-eab.key\"", "A file with the key of that account, as the authority shows it."),
        Key::time(
            "renew_before",
            "\"30d\"",
            "So long before its end a certificate is renewed, but not before two thirds of its time are over. Some hours are added by chance.",
        )
        .at_least_ms(HOUR_MS)
        .default("30d"),
    ],
};

pub(super) static CERTIFICATE: Keys = Keys {
    place: "[[listener.NAME.tls.acme]]",
    about: "A certificate that is made and renewed by itself, and kept in state_dir.",
    keys: &[
        Key::text("authority", "\"letsencrypt\"", "Who issues it: an [acme.NAME].").required(),
        Key::list("names", "[\"www.example.com\"]", "The host names that it is for.").required(),
        Key::choice(
            "challenge",
            &[
                word("http-01", "on port 80, by every http listener here that has no TLS"),
                word("tls-alpn-01", "on port 443, by this listener"),
            ],
            "How the authority is shown that the names are yours.",
        )
        .default("http-01"),
    ],
};
