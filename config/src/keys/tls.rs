//! `[listener.NAME.tls]` and `[pool.NAME.tls]`.

use super::acme;
use crate::spec::{Key, Keys, Kind, word};

pub(super) static LISTENER_TLS: Keys = Keys {
    place: "[listener.NAME.tls]",
    about: "TLS ends here. Changed files are read again by themselves, and what is wrong with them leaves the old ones in use.",
    keys: &[
        Key::new(
            "certificate",
            Kind::Tables(&CERTIFICATE),
            "Certificates, each written as [[listener.NAME.tls.certificate]]. The one that is for the name a client asks for is shown; the first is the default.",
        ),
        Key::text(
            "folder",
            "\"/etc/weir/tls\"",
            "A folder of more certificates: every NAME.pem, with its key inside or in NAME.key, and NAME.ocsp where there is one.",
        ),
        Key::new(
            "acme",
            Kind::Tables(&acme::CERTIFICATE),
            "Certificates that are ordered and renewed by themselves, each written as [[listener.NAME.tls.acme]].",
        ),
        Key::choice(
            "unknown_name",
            &[word("default", "the default certificate"), word("refuse", "an alert, and no connection")],
            "What a client gets that names no host, or one that no certificate is for.",
        )
        .default("default"),
        Key::choice("version_min", &[word("1.2", "TLS 1.2 and 1.3"), word("1.3", "TLS 1.3 alone")], "The oldest version spoken.")
            .default("1.2"),
        Key::flag("tickets", "true", "Clients may resume their sessions. The keys change every hour and are handed on by an upgrade."),
        Key::count(
            "handshakes_max",
            1,
            1_000_000,
            "4096",
            "Handshakes under way per worker, counted from the client's first byte; more are cut. Each may take timeouts.head.",
        )
        .default("4096"),
        Key::choice(
            "client_certificates",
            &[
                word("none", "clients are not asked for one"),
                word("optional", "one that is shown must be right"),
                word("required", "there is no connection without one"),
            ],
            "Whether clients show certificates.",
        )
        .default("none"),
        Key::text("client_ca_file", "\"/etc/weir/clients-ca.pem\"", "Who may have signed the clients' certificates, in PEM."),
        Key::text("client_crl_file", "\"/etc/weir/clients.crl\"", "Revocation lists of these, in PEM."),
    ],
};

pub(super) static ENDPOINT_TLS: Keys = Keys {
    place: "[pool.NAME.tls]",
    about: "TLS towards the endpoints. Changed files are read again by themselves, and what is wrong with them leaves the old ones in use.",
    keys: &[
        Key::flag(
            "verify",
            "true",
            "The endpoints' certificates must be valid, for their name, and signed by somebody in ca_file. With false whoever answers at the address is believed.",
        ),
        Key::text(
            "ca_file",
            "\"/etc/weir/endpoints-ca.pem\"",
            "Who may have signed the endpoints' certificates, in PEM; the certificate of an endpoint itself may be in it, too. Absent: whom the system trusts.",
        ),
        Key::text(
            "server_name",
            "\"web.example.com\"",
            "The name that is asked for (SNI), and that the certificates must be for. Absent: the endpoint's host.",
        ),
        Key::text("certificate_file", "\"/etc/weir/client.pem\"", "A chain in PEM that is shown to endpoints that ask for one."),
        Key::text("key_file", "\"/etc/weir/client.key\"", "Its private key in PEM. Absent: it is in the same file."),
        Key::choice("version_min", &[word("1.2", "TLS 1.2 and 1.3"), word("1.3", "TLS 1.3 alone")], "The oldest version spoken.")
            .default("1.2"),
    ],
};

static CERTIFICATE: Keys = Keys {
    place: "[[listener.NAME.tls.certificate]]",
    about: "A certificate chain with its key.",
    keys: &[
        Key::text("file", "\"/etc/weir/tls/web.pem\"", "The chain in PEM, the host's own certificate first; an absolute path.").required(),
        Key::text("key", "\"/etc/weir/tls/web.key\"", "The private key in PEM. Absent: it is in the same file."),
        Key::text("ocsp", "\"/etc/weir/tls/web.ocsp\"", "An OCSP response in DER that is stapled to the handshake."),
    ],
};
