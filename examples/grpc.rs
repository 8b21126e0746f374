//! gRPC in the mesh with tonic, client and server: a bidirectional stream through both stacks, trailers included.
//!
//! ```text
//! cargo run --example grpc --features grpc
//! ```

use std::{convert::Infallible, error::Error, path::Path};

use bytes::{Buf, BufMut};
use http::{Request, Response, uri::PathAndQuery};
use mesh::{Mesh, ServerBody};
use tokio_stream::StreamExt;
use tonic::{
    Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

const METHOD: &str = "/demo.Shout/Louder";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let state = Path::new("target/mesh-examples");
    let workloads = state.join("workloads");
    std::fs::create_dir_all(&workloads)?;
    let join = |name: &'static str| {
        Mesh::builder()
            .workload(mesh::Workload::new("default", name).with_labels([("app", name)].into_iter().collect()))
            .config_path(concat!(env!("CARGO_MANIFEST_DIR"), "/greeter.yaml"))
            .config_path(&workloads)
            .development_identity(state.join("ca"))
            .start()
    };

    let server = join("shout").await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    server.register(&workloads, listener.local_addr()?)?;
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(listener, tower::service_fn(shout)).await });

    // What generated code does with a channel, with `mesh.client()` in the channel's place.
    let mesh = join("whisper").await?;
    let mut grpc = tonic::client::Grpc::with_origin(mesh.client(), http::Uri::from_static("http://shout:9090"));
    grpc.ready().await?;
    let words = tokio_stream::iter(["hello", "from", "the", "mesh"].map(String::from));
    let answers = grpc.streaming(tonic::Request::new(words), PathAndQuery::from_static(METHOD), Text).await?;
    let mut answers: Streaming<String> = answers.into_inner();
    while let Some(answer) = answers.next().await {
        println!("{}", answer?);
    }
    Ok(())
}

/// What a generated server does: choose the method by the path.
async fn shout(request: Request<ServerBody>) -> Result<Response<tonic::body::Body>, Infallible> {
    if request.uri().path() != METHOD {
        return Ok(Status::unimplemented("only Louder").into_http());
    }
    let louder = tower::service_fn(async |words: tonic::Request<Streaming<String>>| {
        let louder = words.into_inner().map(|word| word.map(|word| word.to_uppercase()));
        Ok::<_, Status>(tonic::Response::new(louder))
    });
    Ok(tonic::server::Grpc::new(Text).streaming(louder, request).await)
}

/// Messages as plain text, so that this example needs no protobuf; yours has prost's codec here.
#[derive(Clone, Copy, Debug)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Text
    }
    fn decoder(&mut self) -> Self {
        Text
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;
    fn encode(&mut self, word: String, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(word.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        String::from_utf8(bytes.into()).map(Some).map_err(|_| Status::internal("not UTF-8"))
    }
}
