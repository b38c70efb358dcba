//! gRPC through us: clients and servers of tonic and of grpcio (Python), each with each, over HTTP/2 on both sides.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::client::Grpc as Client;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::http::{Request as HttpRequest, Response as HttpResponse};
use tonic::codegen::tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::codegen::tokio_stream::{self, StreamExt};
use tonic::codegen::{Service, tokio_stream::Stream};
use tonic::server::{Grpc as Server, NamedService};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::service_fn;

use crate::rig::{LONG, Site, Weir, http_site, wait_until};

/// Debian's, which has the module that `scripts/test` installs.
const PYTHON: &str = "/usr/bin/python3";

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/grpc_peer.py")
}

/// Messages are bytes.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; from.remaining()];
        from.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<Vec<u8>, Status>> + Send>>;

/// The service of `grpc_peer.py` once more.
#[derive(Clone, Copy)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl Service<HttpRequest<Body>> for Echo {
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        Box::pin(async move {
            let mut server = Server::new(Raw);
            Ok(match request.uri().path() {
                "/test.Echo/Unary" => {
                    let unary = service_fn(|request: Request<Vec<u8>>| async move {
                        let mut response = Response::new([b"unary ", request.get_ref().as_slice()].concat());
                        // tonic has no trailers of one's own for answers that are good; grpcio's are looked at.
                        response.metadata_mut().insert("x-head", "before".parse().expect("ASCII"));
                        Ok::<_, Status>(response)
                    });
                    server.unary(unary, request).await
                }
                "/test.Echo/ServerStream" => {
                    let stream = service_fn(|request: Request<Vec<u8>>| async move {
                        let count: u32 = String::from_utf8_lossy(request.get_ref()).parse().unwrap_or(0);
                        let messages: Messages = Box::pin(tokio_stream::iter((0..count).map(|number| Ok(number.to_string().into_bytes()))));
                        Ok::<_, Status>(Response::new(messages))
                    });
                    server.server_streaming(stream, request).await
                }
                "/test.Echo/ClientStream" => {
                    let sum = service_fn(|request: Request<Streaming<Vec<u8>>>| async move {
                        let (mut messages, mut count, mut total) = (request.into_inner(), 0, 0);
                        while let Some(message) = messages.message().await? {
                            (count, total) = (count + 1, total + message.len());
                        }
                        Ok::<_, Status>(Response::new(format!("{count} {total}").into_bytes()))
                    });
                    server.client_streaming(sum, request).await
                }
                "/test.Echo/Both" => {
                    let echo = service_fn(|request: Request<Streaming<Vec<u8>>>| async move {
                        let echoes = request.into_inner().map(|message| message.map(|message| [b"echo ", message.as_slice()].concat()));
                        let messages: Messages = Box::pin(echoes);
                        Ok::<_, Status>(Response::new(messages))
                    });
                    server.streaming(echo, request).await
                }
                "/test.Echo/Fail" => {
                    let fail =
                        service_fn(|_: Request<Vec<u8>>| async { Err::<Response<Vec<u8>>, _>(Status::invalid_argument("not this")) });
                    server.unary(fail, request).await
                }
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A server of either kind.
enum Peer {
    Tonic,
    Python(Child),
}

impl Peer {
    fn tonic(address: SocketAddr) -> Peer {
        // It serves as long as the tests run.
        std::thread::spawn(move || runtime().block_on(tonic::transport::Server::builder().add_service(Echo).serve(address)));
        Peer::Tonic
    }

    fn python(address: SocketAddr) -> Peer {
        let mut python = Command::new(PYTHON);
        python.arg(script()).args(["serve", &address.to_string()]);
        Peer::Python(python.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("starting python"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Peer::Python(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A server of tonic, as long as the tests run.
pub(crate) fn serve(address: SocketAddr) -> impl Sized {
    Peer::tonic(address)
}

/// One call that streams both ways: what is said goes out, what comes back is heard, until nobody says anything more.
pub(crate) fn both_ways(
    address: SocketAddr,
    scheme: &str,
    said: mpsc::UnboundedReceiver<Vec<u8>>,
    heard: &std::sync::mpsc::Sender<Vec<u8>>,
) {
    runtime().block_on(async {
        let origin = format!("{scheme}://{address}").parse().expect("a URI");
        let channel = Endpoint::from_shared(format!("http://{address}")).expect("a URI").origin(origin);
        let channel = channel.connect().await.expect("a connection");
        let mut client = Client::new(channel);
        client.ready().await.expect("it is ready");
        let messages = UnboundedReceiverStream::new(said);
        let echoes: Response<Streaming<Vec<u8>>> =
            client.streaming(Request::new(messages), path("/test.Echo/Both"), Raw).await.expect("a call");
        let mut echoes = echoes.into_inner();
        while let Some(echo) = echoes.message().await.expect("the call goes on") {
            if heard.send(echo).is_err() {
                return;
            }
        }
    });
}

fn path(name: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(name)
}

async fn call_everything(address: SocketAddr, trailer: bool) -> Result<(), Status> {
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("a URI").timeout(Duration::from_secs(20));
    let channel: Channel = channel.connect().await.expect("a connection");
    let mut client = Client::new(channel);
    let ready = |client: Client<Channel>| async move {
        let mut client = client;
        client.ready().await.expect("it is ready");
        client
    };
    client = ready(client).await;
    let answer: Response<Vec<u8>> = client.unary(Request::new(b"x".to_vec()), path("/test.Echo/Unary"), Raw).await?;
    assert_eq!(answer.get_ref(), b"unary x");
    assert!(answer.metadata().get(if trailer { "x-trailer" } else { "x-head" }).is_some());
    client = ready(client).await;
    let large = vec![b'y'; 1_000_000];
    let answer: Response<Vec<u8>> = client.unary(Request::new(large.clone()), path("/test.Echo/Unary"), Raw).await?;
    assert!(answer.get_ref()[6..] == large);
    client = ready(client).await;
    let answers: Response<Streaming<Vec<u8>>> =
        client.server_streaming(Request::new(b"500".to_vec()), path("/test.Echo/ServerStream"), Raw).await?;
    let answers: Vec<Vec<u8>> = answers.into_inner().collect::<Result<_, _>>().await?;
    assert_eq!(answers, (0..500).map(|number| number.to_string().into_bytes()).collect::<Vec<_>>());
    client = ready(client).await;
    let requests = tokio_stream::iter((0..500).map(|_| vec![b'z'; 1000]));
    let sum: Response<Vec<u8>> = client.client_streaming(Request::new(requests), path("/test.Echo/ClientStream"), Raw).await?;
    assert_eq!(sum.get_ref(), b"500 500000");
    // Each message waits for the echo of the one before: both ways at once, or not at all.
    client = ready(client).await;
    let (say, said) = mpsc::unbounded_channel();
    say.send(b"0".to_vec()).expect("it is taken");
    let echoes: Response<Streaming<Vec<u8>>> =
        client.streaming(Request::new(UnboundedReceiverStream::new(said)), path("/test.Echo/Both"), Raw).await?;
    let mut echoes = echoes.into_inner();
    for number in 0..100 {
        assert_eq!(echoes.message().await?, Some(format!("echo {number}").into_bytes()));
        say.send((number + 1).to_string().into_bytes()).expect("it is taken");
    }
    drop(say);
    assert_eq!(echoes.message().await?, Some(b"echo 100".to_vec()));
    assert_eq!(echoes.message().await?, None);
    client = ready(client).await;
    let refused: Result<Response<Vec<u8>>, Status> = client.unary(Request::new(Vec::new()), path("/test.Echo/Fail"), Raw).await;
    let status = refused.expect_err("it fails");
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "not this"));
    client = ready(client).await;
    let none: Result<Response<Vec<u8>>, Status> = client.unary(Request::new(Vec::new()), path("/test.Echo/None"), Raw).await;
    assert_eq!(none.expect_err("there is none").code(), Code::Unimplemented);
    Ok(())
}

fn python_calls(how: &str, address: SocketAddr) {
    let output = Command::new(PYTHON).arg(script()).args([how, &address.to_string()]).stdin(Stdio::null()).output();
    let output = output.expect("starting python");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.trim() == "ok", "{out}{err}");
}

#[test]
fn every_kind_of_call_passes_between_every_kind_of_peer() {
    let site = Site::new();
    let (of_tonic, of_python) = (site.address(), site.address());
    let _peers = (Peer::tonic(of_tonic), Peer::python(of_python));
    let (to_tonic, to_python) = (site.address(), site.address());
    let text = [("tonic", to_tonic, of_tonic), ("python", to_python, of_python)]
        .map(|(name, listen, endpoint)| http_site(name, listen, &[endpoint], "upstream_protocol = \"h2\"\nejection = false"))
        .concat();
    let _weir = Weir::start(&site, &text);
    for address in [of_tonic, of_python] {
        wait_until("a server to listen", LONG, || std::net::TcpStream::connect(address).is_ok());
    }
    let runtime = runtime();
    for (address, trailer) in [(to_tonic, false), (to_python, true)] {
        runtime.block_on(call_everything(address, trailer)).unwrap_or_else(|status| panic!("{address}: {status}"));
    }
    python_calls("call", to_python);
    python_calls("call-other", to_tonic);
}

#[test]
fn health_is_asked_in_grpc() {
    let site = Site::new();
    let (well, mute) = (site.address(), site.address());
    let _peers = (Peer::python(well), Peer::tonic(mute));
    let cases = [
        ("whole", well, "", ""),
        ("named", well, "service = \"shop\"", ""),
        ("ill", well, "service = \"ill\"", "it says NOT_SERVING"),
        ("unknown", well, "service = \"unknown\"", "gRPC status 5: it does not know the service \"unknown\""),
        ("mute", mute, "", "gRPC status 12: it has no grpc.health.v1.Health"),
    ];
    let text: String = cases
        .iter()
        .map(|(name, endpoint, service, _)| {
            let health = format!("[pool.{name}.health]\ntype = \"grpc\"\ninterval = \"100ms\"\nrise = 1\nfall = 1\n{service}\n");
            http_site(name, site.address(), &[*endpoint], &format!("upstream_protocol = \"h2\"\n{health}"))
        })
        .collect();
    let weir = Weir::start(&site, &text);
    for (name, endpoint, _, reason) in cases {
        let status = || weir.endpoint(name, endpoint);
        if reason.is_empty() {
            wait_until(&format!("{name} to be healthy"), LONG, || status()["health"] == "healthy");
        } else {
            let told = || status()["evidence"].as_str().is_some_and(|evidence| evidence.contains(reason));
            wait_until(&format!("{name}: {reason}"), LONG, || status()["health"] == "unhealthy" && told());
        }
    }
}
