//! One HTTP request on one new connection: for health checks, signed requests and web hooks.
//!
//! No redirects are followed (they could take a signature elsewhere), no proxies are used, no connection is kept.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request as HyperRequest, Uri};
use hyper_util::rt::TokioIo;
use reseal_crypto::secret::{SecretBytes, reserve_wiping};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How much of an answer's body is kept.
const BODY_MAX: usize = 64 << 10;

/// What kept a request from being answered. Names the host, never the path: the address of a web hook is a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The URL cannot be used.
    #[error("not a URL to send requests to: {0}")]
    Url(&'static str),
    /// A header cannot be sent.
    #[error("a header that cannot be sent")]
    Header,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
    /// Nothing accepts there.
    #[error("{host} does not accept connections: {source}")]
    Connect {
        /// Host and port.
        host: String,
        /// Why.
        source: std::io::Error,
    },
    /// The other side does not prove who it is, or does not speak TLS.
    #[error("no TLS with {host}: {source}")]
    Tls {
        /// Host and port.
        host: String,
        /// Why.
        source: std::io::Error,
    },
    /// The other side does not speak HTTP, or hung up.
    #[error("no answer from {host}: {source}")]
    Broken {
        /// Host and port.
        host: String,
        /// Why.
        source: hyper::Error,
    },
    /// It took too long.
    #[error("no answer from {host} within {} s", limit.as_secs_f32())]
    TimedOut {
        /// Host and port.
        host: String,
        /// How long it had.
        limit: Duration,
    },
}

/// Where to, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    uri: Uri,
    host: String,
    port: u16,
    is_tls: bool,
}

impl Url {
    /// An `http` or `https` URL with a host and without user and password.
    ///
    /// # Errors
    ///
    /// [`HttpError::Url`] for everything else.
    pub fn parse(text: &str) -> Result<Self, HttpError> {
        let uri: Uri = text.parse().map_err(|_| HttpError::Url("it cannot be parsed"))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(HttpError::Url("it begins with neither http:// nor https://")),
        };
        let authority = uri.authority().ok_or(HttpError::Url("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(HttpError::Url("it holds a user or a password"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Self { uri, host, port, is_tls })
    }

    /// Whether nobody on the way can read what is sent there: by TLS, or on this machine.
    pub fn is_private(&self) -> bool {
        let is_here = |host: &str| {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        };
        self.is_tls || is_here(&self.host)
    }

    /// Host and port: what may be shown.
    pub fn host(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Url").field("host", &self.host).finish_non_exhaustive()
    }
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    url: Url,
    method: Method,
    headers: Vec<(String, SecretBytes)>,
    body: SecretBytes,
}

impl Request {
    /// Asks.
    pub fn get(url: Url) -> Self {
        Self { url, method: Method::GET, headers: Vec::new(), body: SecretBytes::default() }
    }

    /// Sends a body.
    pub fn post(url: Url, body: SecretBytes) -> Self {
        Self { url, method: Method::POST, headers: Vec::new(), body }
    }

    /// With one more header; its value counts as secret.
    pub fn header(mut self, name: &str, value: SecretBytes) -> Self {
        self.headers.push((name.to_owned(), value));
        self
    }

    fn build(&self) -> Result<HyperRequest<Full<Bytes>>, HttpError> {
        let path = self.url.uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.url.uri.authority().map_or("", |authority| authority.as_str());
        // EXPOSE: the request is what the value is for; hyper's buffers are not wiped.
        let body = Full::new(Bytes::copy_from_slice(self.body.expose()));
        let builder = HyperRequest::builder().method(self.method.clone()).uri(path).header(HOST, authority);
        let builder = builder.header(USER_AGENT, "reseal").header(CONNECTION, "close");
        let mut request = builder.body(body).map_err(|_| HttpError::Header)?;
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HttpError::Header)?;
            let mut value = HeaderValue::from_bytes(value.expose()).map_err(|_| HttpError::Header)?;
            value.set_sensitive(true);
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    /// The first 64 KiB of the body; may hold secrets.
    pub body: SecretBytes,
}

/// Sends requests.
#[derive(Clone)]
pub struct Http {
    tls: Arc<ClientConfig>,
    limit: Duration,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Http {
    /// Trusts the roots of the system; gives every request 5 s from connecting to the end of the body.
    ///
    /// # Errors
    ///
    /// [`HttpError::Setup`].
    pub fn new() -> Result<Self, HttpError> {
        let mut roots = RootCertStore::empty();
        // A root that this library cannot use is one root less; without any, https fails with a reason.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::trusting(roots)
    }

    /// Trusts these roots only.
    ///
    /// # Errors
    ///
    /// [`HttpError::Setup`].
    pub fn trusting(roots: RootCertStore) -> Result<Self, HttpError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(HttpError::Setup)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(config), limit: Duration::from_secs(5) })
    }

    /// The same with another limit of time.
    pub fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Sends a request on a new connection; every status is an answer, also 3xx and 5xx.
    ///
    /// # Errors
    ///
    /// [`HttpError`] if there is no answer.
    pub async fn send(&self, request: &Request) -> Result<Answer, HttpError> {
        let timed_out = |_| HttpError::TimedOut { host: request.url.host(), limit: self.limit };
        timeout(self.limit, self.send_unbounded(request)).await.map_err(timed_out)?
    }

    async fn send_unbounded(&self, request: &Request) -> Result<Answer, HttpError> {
        let url = &request.url;
        let built = request.build()?;
        let stream = TcpStream::connect((url.host.as_str(), url.port))
            .await
            .map_err(|source| HttpError::Connect { host: url.host(), source })?;
        let exchanged = if url.is_tls {
            let name = ServerName::try_from(url.host.clone())
                .map_err(|_| HttpError::Url("its host cannot stand in a certificate"))?;
            let stream = TlsConnector::from(self.tls.clone())
                .connect(name, stream)
                .await
                .map_err(|source| HttpError::Tls { host: url.host(), source })?;
            exchange(stream, built).await
        } else {
            exchange(stream, built).await
        };
        exchanged.map_err(|source| HttpError::Broken { host: url.host(), source })
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: HyperRequest<Full<Bytes>>,
) -> Result<Answer, hyper::Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let talk = async move {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let (mut incoming, mut body) = (response.into_body(), Vec::new());
        while let Some(frame) = incoming.frame().await {
            if let Ok(data) = frame?.into_data() {
                let kept = &data[..data.len().min(BODY_MAX - body.len())];
                reserve_wiping(&mut body, kept.len());
                body.extend_from_slice(kept);
            }
            if body.len() == BODY_MAX {
                break;
            }
        }
        Ok(Answer { status, body: SecretBytes::new(body) })
    };
    // The connection only carries the exchange: what ends it is told there too.
    let (answer, _) = tokio::join!(talk, connection);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        assert_eq!(Url::parse("https://api.example.com/a?b").unwrap().host(), "api.example.com:443");
        assert_eq!(Url::parse("http://[::1]:8000").unwrap().host(), "::1:8000");
        for (url, is_private) in [
            ("https://hooks.example.com/a", true),
            ("http://127.0.0.1:8000/a", true),
            ("http://hooks.example.com/a", false),
        ] {
            assert_eq!(Url::parse(url).unwrap().is_private(), is_private, "{url}");
        }
        for wrong in ["", "/health", "ftp://host/", "http:///x", "http://user:hunter2@host/"] {
            let error = Url::parse(wrong).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(
            !format!("{:?}", Url::parse("https://hooks.example/T0/hunter2").unwrap()).contains("hunter2")
        );
    }
}
