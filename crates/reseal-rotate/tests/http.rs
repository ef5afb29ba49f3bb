//! Requests to servers that answer, redirect, hang, say too much, or are someone else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reseal_crypto::secret::SecretBytes;
use reseal_rotate::http::{Http, HttpError, Request, Url};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A server that gives one answer to every request; its port, and how many connections it took.
async fn server(answer: String) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (port, taken) = (listener.local_addr().expect("it is bound").port(), Arc::new(AtomicUsize::new(0)));
    let counter = taken.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(answer_one(stream, answer.clone()));
        }
    });
    (port, taken)
}

/// Answers with what it was asked where the answer says `ECHO`, and never where it is empty.
async fn answer_one(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: String) {
    let mut asked = vec![0; 16 << 10];
    let length = stream.read(&mut asked).await.unwrap_or_default();
    if answer.is_empty() {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let asked = String::from_utf8_lossy(&asked[..length]).into_owned();
    let answer = if answer == "ECHO" { ok(&asked) } else { answer };
    // Who hangs up early has read enough.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn url(scheme: &str, port: u16) -> Url {
    Url::parse(&format!("{scheme}://localhost:{port}/path?query")).expect("a URL")
}

fn http() -> Http {
    Http::trusting(RootCertStore::empty()).expect("TLS").limit(Duration::from_secs(2))
}

#[tokio::test]
async fn a_request_says_what_it_must_and_no_more() {
    let (port, _) = server("ECHO".into()).await;
    let request = Request::post(url("http", port), SecretBytes::copy_from(b"body"))
        .header("X-Signature", SecretBytes::copy_from(b"abc"));
    let answer = http().send(&request).await.unwrap();
    let said = answer.body.expose_str().unwrap().to_owned();
    assert_eq!(answer.status, 200);
    assert!(said.starts_with("POST /path?query HTTP/1.1\r\n") && said.ends_with("\r\n\r\nbody"), "{said}");
    for header in
        [format!("host: localhost:{port}\r\n"), "x-signature: abc\r\n".into(), "connection: close\r\n".into()]
    {
        assert!(said.contains(&header), "{header} in {said}");
    }
    let broken = Request::get(url("http", port)).header("X-Signature", SecretBytes::copy_from(b"a\r\nb: c"));
    assert!(matches!(http().send(&broken).await, Err(HttpError::Header)));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_takes_nothing_elsewhere() {
    let (elsewhere, taken) = server(ok("the signature was here")).await;
    let moved =
        format!("HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:{elsewhere}/\r\nContent-Length: 0\r\n\r\n");
    let (port, _) = server(moved).await;
    let answer = http().send(&Request::post(url("http", port), SecretBytes::default())).await.unwrap();
    assert_eq!((answer.status, taken.load(Ordering::SeqCst)), (307, 0));
}

#[tokio::test]
async fn what_gives_no_answer_is_told_in_time() {
    let (silent, _) = server(String::new()).await;
    let begin = Instant::now();
    let error =
        http().limit(Duration::from_millis(300)).send(&Request::get(url("http", silent))).await.unwrap_err();
    assert!(
        matches!(error, HttpError::TimedOut { .. }) && begin.elapsed() < Duration::from_secs(5),
        "{error}"
    );
    let (rude, _) = server("SSH-2.0-OpenSSH\r\n\r\n".into()).await;
    let error = http().send(&Request::get(url("http", rude))).await.unwrap_err();
    assert!(matches!(error, HttpError::Broken { .. }), "{error}");
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
    let (cut, _) = server(cut.into()).await;
    let error = http().send(&Request::get(url("http", cut))).await.unwrap_err();
    assert!(matches!(error, HttpError::Broken { .. }), "{error}");
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let error = http().send(&Request::get(url("http", free))).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect { .. }), "{error}");
    assert!(!error.to_string().contains("path"), "{error}");
}

#[tokio::test]
async fn a_long_answer_is_cut() {
    let (port, _) = server(ok(&"x".repeat(1 << 20))).await;
    let answer = http().send(&Request::get(url("http", port))).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 64 << 10));
}

#[tokio::test]
async fn certificates_count() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer_one(stream, ok("hello")).await;
            }
        }
    });
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let trusting = Http::trusting(roots).unwrap();
    assert_eq!(trusting.send(&Request::get(url("https", port))).await.unwrap().status, 200);
    let other_name = Url::parse(&format!("https://127.0.0.1:{port}/")).unwrap();
    let error = trusting.send(&Request::get(other_name)).await.unwrap_err();
    assert!(matches!(error, HttpError::Tls { .. }), "another name: {error}");
    let error = http().send(&Request::get(url("https", port))).await.unwrap_err();
    assert!(matches!(error, HttpError::Tls { .. }), "another root: {error}");
}
