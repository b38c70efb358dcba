//! Why a request or session ended, in one word that goes to the log, the metrics and the client's answer.

/// How an exchange ended. [`Cause::Ok`] is the good end; each other one says whose fault it was and what the client is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Cause {
    /// The whole response was relayed.
    Ok,
    /// The client's request broke the framing rules (400).
    BadRequest,
    /// The request was larger than a bound on its head (431).
    HeadTooLarge,
    /// The request body was larger than `body_bytes_max` (413).
    BodyTooLarge,
    /// The request head did not come in time (408).
    HeadTimeout,
    /// The client stopped sending or reading in the middle (408, or the connection is cut).
    ClientIdle,
    /// The client closed in the middle.
    ClientClosed,
    /// No route matched and the listener has no pool (404).
    NoRoute,
    /// No endpoint was available within the queue timeout (503).
    NoEndpoint,
    /// Too many requests wait already (503).
    QueueFull,
    /// No endpoint accepted a connection (503).
    ConnectFailed,
    /// No endpoint accepted a connection in time (504).
    ConnectTimeout,
    /// The endpoint closed or reset a fresh connection before its response was complete (502).
    EndpointClosed,
    /// The endpoint closed a kept-alive connection while we sent on it, and the request may not be repeated (502).
    ReusedClosed,
    /// The endpoint's answer broke the framing rules (502).
    BadResponse,
    /// No response head in time (504).
    FirstByteTimeout,
    /// The endpoint stopped in the middle of its response (504, or the connection is cut).
    EndpointIdle,
    /// The exchange took longer than `total` (504, or the connection is cut).
    TotalTimeout,
    /// A tunnel or session ended because nothing moved.
    TunnelIdle,
    /// Cut at the end of a drain.
    Drained,
    /// A limit of this process was hit, such as file descriptors (503).
    Overload,
    /// More requests than a rate limit allows (429).
    RateLimited,
    /// The client's address may not connect to the listener. The connection is closed without an answer.
    Denied,
    /// No session under TLS could be agreed on with an endpoint, or its certificate is not to be believed (502).
    TlsFailed,
    /// A trusted proxy did not announce its client as the PROXY protocol has it. The connection is closed without an answer.
    Announcement,
    /// The endpoint of the client's session is not there, and the pool says that no other will do (503).
    SessionGone,
    /// A fixed bound of the pool was reached (503).
    CircuitOpen,
    /// The bound of the pool that follows its latency was reached (503).
    Shed,
    /// Nobody was at the endpoint's address any more while its answer was awaited (502).
    EndpointGone,
}

/// Who is to blame for an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nobody.
    Nobody,
    /// The client.
    Client,
    /// The endpoint.
    Endpoint,
    /// This node or its configuration.
    Us,
}

impl Cause {
    /// How many there are.
    pub const COUNT: usize = 29;

    /// All of them, in order.
    pub const ALL: [Cause; Cause::COUNT] = [
        Cause::Ok,
        Cause::BadRequest,
        Cause::HeadTooLarge,
        Cause::BodyTooLarge,
        Cause::HeadTimeout,
        Cause::ClientIdle,
        Cause::ClientClosed,
        Cause::NoRoute,
        Cause::NoEndpoint,
        Cause::QueueFull,
        Cause::ConnectFailed,
        Cause::ConnectTimeout,
        Cause::EndpointClosed,
        Cause::ReusedClosed,
        Cause::BadResponse,
        Cause::FirstByteTimeout,
        Cause::EndpointIdle,
        Cause::TotalTimeout,
        Cause::TunnelIdle,
        Cause::Drained,
        Cause::Overload,
        Cause::RateLimited,
        Cause::Denied,
        Cause::TlsFailed,
        Cause::Announcement,
        Cause::SessionGone,
        Cause::CircuitOpen,
        Cause::Shed,
        Cause::EndpointGone,
    ];

    /// The word used in logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Cause::Ok => "ok",
            Cause::BadRequest => "bad-request",
            Cause::HeadTooLarge => "head-too-large",
            Cause::BodyTooLarge => "body-too-large",
            Cause::HeadTimeout => "head-timeout",
            Cause::ClientIdle => "client-idle",
            Cause::ClientClosed => "client-closed",
            Cause::NoRoute => "no-route",
            Cause::NoEndpoint => "no-endpoint",
            Cause::QueueFull => "queue-full",
            Cause::ConnectFailed => "connect-failed",
            Cause::ConnectTimeout => "connect-timeout",
            Cause::EndpointClosed => "endpoint-closed",
            Cause::ReusedClosed => "reused-closed",
            Cause::BadResponse => "bad-response",
            Cause::FirstByteTimeout => "first-byte-timeout",
            Cause::EndpointIdle => "endpoint-idle",
            Cause::TotalTimeout => "total-timeout",
            Cause::TunnelIdle => "tunnel-idle",
            Cause::Drained => "drained",
            Cause::Overload => "overload",
            Cause::RateLimited => "rate-limited",
            Cause::Denied => "denied",
            Cause::TlsFailed => "tls-failed",
            Cause::Announcement => "bad-announcement",
            Cause::SessionGone => "session-gone",
            Cause::CircuitOpen => "circuit-open",
            Cause::Shed => "shed",
            Cause::EndpointGone => "endpoint-gone",
        }
    }

    /// The status that tells the client, where an answer can still be sent.
    pub fn status(self) -> u16 {
        match self {
            Cause::Ok => 200,
            Cause::BadRequest | Cause::ClientClosed | Cause::Announcement => 400,
            Cause::NoRoute => 404,
            Cause::HeadTimeout | Cause::ClientIdle => 408,
            Cause::BodyTooLarge => 413,
            Cause::HeadTooLarge => 431,
            Cause::RateLimited => 429,
            Cause::Denied => 403,
            Cause::EndpointClosed | Cause::ReusedClosed | Cause::BadResponse | Cause::TlsFailed | Cause::EndpointGone => 502,
            Cause::NoEndpoint
            | Cause::QueueFull
            | Cause::ConnectFailed
            | Cause::Drained
            | Cause::Overload
            | Cause::SessionGone
            | Cause::CircuitOpen
            | Cause::Shed => 503,
            Cause::ConnectTimeout | Cause::FirstByteTimeout | Cause::EndpointIdle | Cause::TotalTimeout | Cause::TunnelIdle => 504,
        }
    }

    /// Whose fault it was.
    pub fn fault(self) -> Fault {
        match self {
            Cause::Ok | Cause::TunnelIdle => Fault::Nobody,
            Cause::BadRequest
            | Cause::HeadTooLarge
            | Cause::BodyTooLarge
            | Cause::HeadTimeout
            | Cause::ClientIdle
            | Cause::ClientClosed
            | Cause::RateLimited
            | Cause::Denied
            | Cause::Announcement => Fault::Client,
            Cause::ConnectFailed
            | Cause::TlsFailed
            | Cause::ConnectTimeout
            | Cause::EndpointClosed
            | Cause::EndpointGone
            | Cause::ReusedClosed
            | Cause::BadResponse
            | Cause::FirstByteTimeout
            | Cause::EndpointIdle
            | Cause::TotalTimeout => Fault::Endpoint,
            Cause::NoRoute
            | Cause::NoEndpoint
            | Cause::QueueFull
            | Cause::Drained
            | Cause::Overload
            | Cause::SessionGone
            | Cause::CircuitOpen
            | Cause::Shed => Fault::Us,
        }
    }
}
