//! The products that are compared, and how each is started. Their configurations are the templates in `benches/peers`.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::client;
use crate::net::loopback;
use crate::process::{self, Core, Process, Spec};

/// A product, or a variant of its configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, clap::ValueEnum)]
pub(crate) enum Peer {
    /// What this bench is for.
    Weir,
    /// The same with one thing configured: see `features`.
    WeirRoutes,
    WeirEdits,
    WeirCookie,
    WeirSource,
    WeirMaglev,
    WeirRate,
    WeirRatePerHeader,
    WeirRatePerRoute,
    WeirAtOnce,
    WeirBreaker,
    WeirAdaptive,
    /// nginx from Debian.
    Nginx,
    /// nginx that never spills a response to disk and has room for one in memory.
    NginxLargeBuffers,
    /// HAProxy from Debian.
    Haproxy,
    /// HAProxy with `option splice-auto` (TCP mode only).
    HaproxySplice,
    /// Envoy from PyPI.
    Envoy,
    /// The blind relay: the floor.
    Relay,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Peer::Weir => "weir",
            Peer::WeirRoutes => "weir-routes",
            Peer::WeirEdits => "weir-edits",
            Peer::WeirCookie => "weir-cookie",
            Peer::WeirSource => "weir-source",
            Peer::WeirMaglev => "weir-maglev",
            Peer::WeirRate => "weir-rate",
            Peer::WeirRatePerHeader => "weir-rate-per-header",
            Peer::WeirRatePerRoute => "weir-rate-per-route",
            Peer::WeirAtOnce => "weir-at-once",
            Peer::WeirBreaker => "weir-breaker",
            Peer::WeirAdaptive => "weir-adaptive",
            Peer::Nginx => "nginx",
            Peer::NginxLargeBuffers => "nginx-large-buffers",
            Peer::Haproxy => "haproxy",
            Peer::HaproxySplice => "haproxy-splice",
            Peer::Envoy => "envoy",
            Peer::Relay => "relay",
        })
    }
}

/// All variants of weir, as a pattern.
macro_rules! weir {
    () => {
        Peer::Weir
            | Peer::WeirRoutes
            | Peer::WeirEdits
            | Peer::WeirCookie
            | Peer::WeirSource
            | Peer::WeirMaglev
            | Peer::WeirRate
            | Peer::WeirRatePerHeader
            | Peer::WeirRatePerRoute
            | Peer::WeirAtOnce
            | Peer::WeirBreaker
            | Peer::WeirAdaptive
    };
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) weir: PathBuf,
    pub(crate) envoy: PathBuf,
}

/// What a proxy is asked to do.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) mode: Mode,
    pub(crate) listen_port: u16,
    pub(crate) api_port: u16,
    pub(crate) origins: [SocketAddr; 2],
    pub(crate) access_log: bool,
    /// The peers also add `X-Forwarded-For` and `-Proto`, as weir does.
    pub(crate) forwarded: bool,
}

/// Which protocol is proxied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Http,
    /// HTTP under TLS towards clients.
    Https,
    /// HTTP/2 in the clear towards clients, HTTP/1.1 towards endpoints.
    Http2,
    /// HTTP/2 in the clear on both sides.
    Grpc,
    Tcp,
    Udp,
}

impl Mode {
    fn is_http(self) -> bool {
        !matches!(self, Mode::Tcp | Mode::Udp)
    }
}

/// A proxy that serves.
pub(crate) struct Proxy {
    pub(crate) peer: Peer,
    pub(crate) mode: Mode,
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

/// How long a proxy may take until it serves.
const START_DEADLINE: Duration = Duration::from_secs(15);

impl Peer {
    fn program(self, programs: &Programs) -> PathBuf {
        match self {
            weir!() => programs.weir.clone(),
            Peer::Nginx | Peer::NginxLargeBuffers => on_path("nginx"),
            Peer::Haproxy | Peer::HaproxySplice => on_path("haproxy"),
            Peer::Envoy => programs.envoy.clone(),
            Peer::Relay => std::env::current_exe().unwrap_or_default(),
        }
    }

    /// Whether the program is on this machine.
    pub(crate) fn is_installed(self, programs: &Programs) -> bool {
        self.program(programs).is_file()
    }

    /// What the program calls its version; `None` when it does not say.
    pub(crate) fn version(self, programs: &Programs) -> Option<String> {
        let flag = match self {
            weir!() | Peer::Envoy => "--version",
            Peer::Relay => return Some(env!("CARGO_PKG_VERSION").to_owned()),
            _ => "-v",
        };
        let output = Command::new(self.program(programs)).arg(flag).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).lines().map(str::trim).find(|l| !l.is_empty()).map(str::to_owned)
    }

    /// Starts it and waits until it serves. Its files go to `dir`.
    pub(crate) fn start(self, programs: &Programs, job: &Job, dir: &Path) -> Result<Proxy> {
        let dir = dir.join(format!("{self}-{}", job.listen_port));
        std::fs::create_dir_all(&dir)?;
        let address = loopback(job.listen_port);
        let config = dir.join(self.config_name());
        if job.mode == Mode::Https {
            write_certificate(&dir)?;
        }
        if self == Peer::WeirCookie {
            std::fs::write(dir.join(KEY_FILE), "a secret of the bench's own, no more\n")?;
        }
        if let Some(template) = self.template(job.mode) {
            std::fs::write(&config, fill(template, &self.values(job, &dir)))?;
        }
        let (args, death_signal) = self.command_line(job, address, &config);
        let program = self.program(programs);
        let spec = Spec { name: &self.to_string(), core: Core::Proxy, program, args, death_signal, dir: &dir };
        let mut process = process::spawn(spec)?;
        wait_until_serving(&mut process, job.mode, address).with_context(|| format!("{self} with {}", config.display()))?;
        Ok(Proxy { peer: self, mode: job.mode, process, address })
    }

    /// Envoy tells formats by the extension.
    fn config_name(self) -> &'static str {
        if self == Peer::Envoy { "config.yaml" } else { "config" }
    }

    fn template(self, mode: Mode) -> Option<&'static str> {
        Some(match (self, mode) {
            (Peer::Relay, _) | (Peer::Haproxy | Peer::HaproxySplice | Peer::Envoy, Mode::Udp) => return None,
            (weir!(), Mode::Tcp) => include_str!("../peers/weir-tcp.toml"),
            (weir!(), Mode::Udp) => include_str!("../peers/weir-udp.toml"),
            (weir!(), _) => include_str!("../peers/weir-http.toml"),
            (Peer::Nginx | Peer::NginxLargeBuffers, Mode::Tcp) => include_str!("../peers/nginx-tcp.conf"),
            (Peer::Nginx | Peer::NginxLargeBuffers, Mode::Udp) => include_str!("../peers/nginx-udp.conf"),
            (Peer::Nginx | Peer::NginxLargeBuffers, _) => include_str!("../peers/nginx-http.conf"),
            (Peer::Haproxy | Peer::HaproxySplice, Mode::Tcp) => include_str!("../peers/haproxy-tcp.cfg"),
            (Peer::Haproxy | Peer::HaproxySplice, _) => include_str!("../peers/haproxy-http.cfg"),
            (Peer::Envoy, Mode::Tcp) => include_str!("../peers/envoy-tcp.yaml"),
            (Peer::Envoy, _) => include_str!("../peers/envoy-http.yaml"),
        })
    }

    fn values(self, job: &Job, dir: &Path) -> Vec<(&'static str, String)> {
        let log = dir.join("access.log");
        let access_log = if job.access_log { format!("{} json buffer=32k flush=1s", log.display()) } else { "off".to_owned() };
        let features = features(self, dir);
        vec![
            ("dir", dir.display().to_string()),
            ("listen", loopback(job.listen_port).to_string()),
            ("listen_port", job.listen_port.to_string()),
            ("api_port", job.api_port.to_string()),
            ("origin_a", job.origins[0].to_string()),
            ("origin_b", job.origins[1].to_string()),
            ("port_a", job.origins[0].port().to_string()),
            ("port_b", job.origins[1].port().to_string()),
            ("access_log", access_log),
            ("load_module", nginx_stream_module()),
            ("extra", self.extra(job, &log)),
            ("listener_tables", features.listener_tables),
            ("pool_tables", features.pool_tables),
            ("tls", self.listens(job.mode, dir)),
            // Of peers this stands within a line.
            ("upstream", format!("{}{}", if job.mode == Mode::Grpc { self.speaks_http2() } else { "" }, features.pool_keys)),
            ("codec", if matches!(job.mode, Mode::Http2 | Mode::Grpc) { "HTTP2".into() } else { "HTTP1".into() }),
            ("health_codec", if job.mode == Mode::Grpc { "HTTP2".into() } else { "HTTP1".into() }),
        ]
    }

    /// What the listening socket is told besides its address.
    fn listens(self, mode: Mode, dir: &Path) -> String {
        match (self, mode) {
            (_, Mode::Https) => self.tls(dir),
            (Peer::Nginx | Peer::NginxLargeBuffers, Mode::Http2 | Mode::Grpc) => "http2".into(),
            (Peer::Haproxy | Peer::HaproxySplice, Mode::Http2 | Mode::Grpc) => "proto h2".into(),
            _ => String::new(),
        }
    }

    /// How it is told that its endpoints speak HTTP/2.
    fn speaks_http2(self) -> &'static str {
        match self {
            weir!() => "upstream_protocol = \"h2\"",
            Peer::Haproxy | Peer::HaproxySplice => "proto h2",
            Peer::Envoy => {
                "typed_extension_protocol_options: { envoy.extensions.upstreams.http.v3.HttpProtocolOptions: { \"@type\": \
                 type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: { http2_protocol_options: {} } } }"
            }
            Peer::Nginx | Peer::NginxLargeBuffers | Peer::Relay => "",
        }
    }

    /// What the listening socket is told about TLS.
    fn tls(self, dir: &Path) -> String {
        let file = dir.join(CERTIFICATE).display().to_string();
        match self {
            weir!() => format!("[[listener.web.tls.certificate]]\nfile = \"{file}\""),
            Peer::Nginx | Peer::NginxLargeBuffers => {
                format!("ssl; ssl_certificate {file}; ssl_certificate_key {file}; ssl_protocols TLSv1.2 TLSv1.3")
            }
            Peer::Haproxy | Peer::HaproxySplice => format!("ssl crt {file} alpn http/1.1"),
            Peer::Envoy | Peer::Relay => String::new(),
        }
    }

    /// Lines that depend on the variant.
    fn extra(self, job: &Job, log: &Path) -> String {
        let mut lines: Vec<String> = Vec::new();
        match (self, job.mode) {
            (Peer::Weir, mode) if job.access_log && mode.is_http() => {
                lines.push(format!("\n[access_log]\npath   = \"{}\"\nformat = \"json\"", log.display()));
            }
            (Peer::Nginx | Peer::NginxLargeBuffers, mode) if mode.is_http() => {
                if self == Peer::NginxLargeBuffers {
                    lines.push(
                        "proxy_buffers 64 32k; proxy_busy_buffers_size 256k; proxy_buffer_size 32k; proxy_max_temp_file_size 0;".into(),
                    );
                }
                if job.forwarded {
                    lines.push("proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;".into());
                }
            }
            (Peer::Haproxy, Mode::Http) if job.forwarded => {
                lines.push("    option forwardfor\n    http-request set-header X-Forwarded-Proto http".into());
            }
            (Peer::HaproxySplice, _) => lines.push("    option splice-auto".into()),
            _ => {}
        }
        lines.join("\n")
    }

    fn command_line(self, job: &Job, listen: SocketAddr, config: &Path) -> (Vec<String>, &'static str) {
        let config = config.display().to_string();
        let args: Vec<String> = match self {
            weir!() => vec!["run".into(), "--config".into(), config],
            Peer::Nginx | Peer::NginxLargeBuffers => vec!["-c".into(), config],
            Peer::Haproxy | Peer::HaproxySplice => vec!["-db".into(), "-f".into(), config],
            Peer::Envoy => ["-c", &config, "--concurrency", "1", "--disable-hot-restart", "-l", "error"].map(str::to_owned).to_vec(),
            Peer::Relay => {
                let [a, b] = job.origins;
                vec!["relay".into(), "--listen".into(), listen.to_string(), a.to_string(), b.to_string()]
            }
        };
        // nginx is a master with a worker: asked to end, it ends both.
        let death_signal = if matches!(self, Peer::Nginx | Peer::NginxLargeBuffers) { "TERM" } else { "KILL" };
        (args, death_signal)
    }
}

/// What a variant of weir has in its file that the others have not.
#[derive(Default)]
struct Features {
    listener_tables: String,
    pool_keys: &'static str,
    pool_tables: String,
}

/// Bounds are so high that nothing is refused: what counts is what asking costs.
fn features(peer: Peer, dir: &Path) -> Features {
    let listener = |tables: String| Features { listener_tables: tables, ..Features::default() };
    let pool = |tables: String| Features { pool_tables: tables, ..Features::default() };
    let rate = |rest: &str| listener(format!("[[listener.web.rate_limit]]\nrequests_per_second = 1000000\n{rest}\n"));
    match peer {
        Peer::WeirRoutes => listener(twenty_routes()),
        Peer::WeirEdits => listener(
            "[[listener.web.route]]\npath = \"/b\"\npool = \"web\"\nrequest = { set = [{ name = \"x-tier\", value = \"web\" }], remove = \"x-debug\" }\n\
             response = { set = [{ name = \"x-frame-options\", value = \"DENY\" }], remove = \"server\" }\n"
                .into(),
        ),
        Peer::WeirCookie => pool(format!("[pool.web.session]\ntype = \"cookie\"\nkey_file = \"{}\"\n", dir.join(KEY_FILE).display())),
        Peer::WeirSource => pool("[pool.web.session]\ntype = \"source\"\n".into()),
        Peer::WeirMaglev => {
            Features { pool_keys: "\nbalance = \"maglev\"", pool_tables: "[pool.web.hash]\nkey = \"path\"\nload_bound = 0\n".into(), ..Features::default() }
        }
        Peer::WeirRate => rate(""),
        Peer::WeirRatePerHeader => rate("per = \"header:user-agent\""),
        Peer::WeirRatePerRoute => listener(
            "[[listener.web.route]]\nname = \"all\"\npath = \"/b\"\npool = \"web\"\n\
             [[listener.web.rate_limit]]\nrequests_per_second = 1000000\nper = \"all\"\nroute = \"all\"\n"
                .into(),
        ),
        Peer::WeirAtOnce => listener("[[listener.web.rate_limit]]\nrequests_at_once = 1000000\n".into()),
        Peer::WeirBreaker => pool("[pool.web.breaker]\nconnections_max = 1000000\nrequests_max = 1000000\nretries_max = 1000000\n".into()),
        Peer::WeirAdaptive => pool("[pool.web.adaptive]\nmin = 1000\n".into()),
        _ => Features::default(),
    }
}

/// Routes of every kind that look at the request and pass it over, but for the last.
fn twenty_routes() -> String {
    let mut conditions: Vec<String> = (1..=8).map(|n| format!("host = \"host-{n}.example\"")).collect();
    conditions.extend((1..=6).map(|n| format!("path = \"/area-{n}/\"")));
    conditions.extend(["host = \"*.other.example\"".into(), "method = \"PUT\"".into(), "path_exact = \"/b\"".into()]);
    conditions.extend([
        "header = [{ name = \"x-beta\", value = \"1\" }]".into(),
        "source = \"10.0.0.0/8\"".into(),
        "path = \"/b/\"".into(),
    ]);
    conditions.iter().map(|condition| format!("[[listener.web.route]]\n{condition}\npool = \"web\"\n")).collect()
}

/// Debian ships the stream module apart; elsewhere it may be compiled in.
fn nginx_stream_module() -> String {
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    if Path::new(module).exists() { format!("load_module {module};") } else { String::new() }
}

/// Where a program of this name is; the bare name when nowhere.
pub(crate) fn on_path(name: &str) -> PathBuf {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")];
    std::env::split_paths(&folders).chain(sbin).map(|f| f.join(name)).find(|p| p.is_file()).unwrap_or_else(|| name.into())
}

/// The chain with its key, as all peers read it.
const CERTIFICATE: &str = "bench.pem";

/// What signs the cookies of sessions.
const KEY_FILE: &str = "session.keys";

fn write_certificate(dir: &Path) -> Result<()> {
    let made = rcgen::generate_simple_self_signed(["bench.example".to_owned()])?;
    Ok(std::fs::write(dir.join(CERTIFICATE), made.cert.pem() + &made.signing_key.serialize_pem())?)
}

/// Replaces each `{{key}}`.
pub(crate) fn fill(template: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(template.to_owned(), |text, (key, value)| text.replace(&format!("{{{{{key}}}}}"), value))
}

/// A proxy serves when a request is answered with 200 (HTTP), or a connection stays open (TCP).
fn wait_until_serving(process: &mut Process, mode: Mode, address: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + START_DEADLINE;
    loop {
        process.check_alive()?;
        let serving = match mode {
            Mode::Http => client::fetch(address, "bench.example", "/healthz").map(drop),
            Mode::Https => client::fetch_secure(address, "bench.example", "/healthz").map(drop),
            // What begins with HTTP/2 alone is asked by the load; a socket for datagrams is open when it is bound.
            Mode::Tcp | Mode::Http2 | Mode::Grpc => client::stays_open(address),
            Mode::Udp => is_bound(address),
        };
        match serving {
            Ok(()) => return Ok(()),
            Err(e) if Instant::now() > deadline => bail!("it did not serve in {} s: {e:#}", START_DEADLINE.as_secs()),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Whether somebody has bound this address for datagrams.
fn is_bound(address: SocketAddr) -> Result<()> {
    match std::net::UdpSocket::bind(address) {
        Ok(_) => bail!("nobody listens on {address}"),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_template_is_filled() {
        let job =
            Job { mode: Mode::Http, listen_port: 1, api_port: 2, origins: [loopback(3), loopback(4)], access_log: true, forwarded: true };
        for peer in Peer::value_variants().iter().copied() {
            for mode in [Mode::Http, Mode::Https, Mode::Http2, Mode::Grpc, Mode::Tcp, Mode::Udp] {
                let job = Job { mode, ..job.clone() };
                let Some(template) = peer.template(mode) else { continue };
                let text = fill(template, &peer.values(&job, Path::new("/tmp")));
                assert!(!text.contains("{{"), "{peer} {mode:?}: {text}");
                if matches!(peer, weir!()) {
                    weir_config::parse(&text, "weir.toml").unwrap_or_else(|e| panic!("{mode:?}: {e:?}"));
                }
            }
        }
    }
}
