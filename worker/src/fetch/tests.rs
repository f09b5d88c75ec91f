use std::convert::Infallible;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::put;
use axum_server::tls_rustls::RustlsConfig;
use framewright_crds::aijob::OutputRole;
use rcgen::CertifiedKey;

use super::*;

const SHORT: Duration = Duration::from_secs(1);
/// More than the buffers of both ends hold.
const BYTES: usize = 64 << 20;

/// What a store does with an upload, once it has begun to read it.
#[derive(Clone, Copy)]
enum Manner {
    /// Takes it with pauses of this length, one in each 2 MiB.
    Slow(Duration),
    TakesNothing,
    NeverAnswers,
}

#[tokio::test]
async fn an_upload_may_take_longer_than_its_answer() {
    let start = Instant::now();
    let sent = upload_to(Manner::Slow(SHORT / 10)).await;
    assert!(sent.is_ok(), "{sent:?} after {:?}", start.elapsed());
    assert!(start.elapsed() > 2 * SHORT, "it was fast");
}

#[tokio::test]
async fn an_upload_that_stands_still_is_given_up() {
    let sent = upload_to(Manner::TakesNothing).await;
    assert!(matches!(sent, Err(StoreError::Stalled(SHORT))), "{sent:?}");
    let sent = upload_to(Manner::NeverAnswers).await;
    assert!(matches!(sent, Err(StoreError::NoAnswer(SHORT))), "{sent:?}");
}

async fn upload_to(manner: Manner) -> Result<(), StoreError> {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (pem, key) = (cert.pem(), signing_key.serialize_pem());
    let tls = RustlsConfig::from_pem(pem.clone().into_bytes(), key.into_bytes());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let routes = Router::new().route("/", put(take)).with_state(manner);
    let server = axum_server::from_tcp_rustls(listener, tls.await.expect("TLS")).expect("a server");
    let serving = tokio::spawn(server.serve(routes.into_make_service()));

    let file = tempfile::NamedTempFile::new().expect("a file");
    file.as_file().set_len(BYTES as u64).expect("its size");
    let output = OutputFile {
        name: "video".to_owned(),
        role: OutputRole::Result,
        digest: String::new(),
        bytes: BYTES as i64,
        media_type: "video/mp4".to_owned(),
        facts: Vec::new(),
    };
    let store = Store {
        idle: SHORT,
        answer: SHORT,
        ..Store::new(Trust::Text(pem))
    };
    let url = format!("https://localhost:{port}/");
    let sent = store.put(&url, &output, file.path()).await;
    serving.abort();
    sent
}

async fn take(State(manner): State<Manner>, body: Body) -> Result<StatusCode, Infallible> {
    let mut pieces = body.into_data_stream();
    let mut taken = 0;
    while let Some(Ok(piece)) = pieces.next().await {
        if matches!(manner, Manner::TakesNothing) {
            std::future::pending::<()>().await;
        }
        let before = taken >> 21;
        taken += piece.len();
        if let Manner::Slow(pause) = manner
            && taken >> 21 > before
        {
            tokio::time::sleep(pause).await;
        }
    }
    if matches!(manner, Manner::NeverAnswers) {
        std::future::pending::<()>().await;
    }
    Ok(StatusCode::CREATED)
}
