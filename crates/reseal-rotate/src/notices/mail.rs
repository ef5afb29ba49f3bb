//! Mail (RFC 5321, 5322): one message on one new connection, with TLS wherever it leaves this machine with a password.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use reseal_crypto::SecretBytes;

use super::{LIMIT, NoticeError};
use crate::plan::MailServer;
use crate::scrub::Known;

/// A mail server and how it is logged in to.
#[derive(Clone)]
pub(super) struct Mailer {
    host: String,
    port: u16,
    tls: Tls,
    login: Option<(String, SecretBytes)>,
    from: Mailbox,
    subject: Option<String>,
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailer").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Mailer {
    /// A server of the plan; `password` is what its `password` names.
    pub(super) fn new(
        server: &MailServer,
        password: Option<SecretBytes>,
        (from, subject): (Option<&str>, Option<&str>),
        directory: &Path,
    ) -> Result<Self, NoticeError> {
        let unusable = |what: String| NoticeError::Unusable(what);
        let (host, port, is_wrapped) = address(&server.url)
            .ok_or_else(|| unusable("the mail server's address is not smtp://HOST:PORT".into()))?;
        let from = from.map_or_else(|| format!("reseal@{}", name_of_domain(&host)), str::to_owned);
        let from = from.parse().map_err(|_| unusable("`from` is no mail address".into()))?;
        let login = server.user.clone().zip(password);
        let ca = server.ca.as_ref().map(|ca| directory.join(ca));
        let tls = tls(&host, is_wrapped, login.is_some(), ca.as_deref())?;
        Ok(Self { host, port, tls, login, from, subject: subject.map(str::to_owned) })
    }

    /// Sends one message.
    pub(super) async fn send(&self, to: &Mailbox, heading: &str, text: String) -> Result<(), NoticeError> {
        let failed = |why: String| NoticeError::Mail { host: format!("{}:{}", self.host, self.port), why };
        let domain = self.from.email.domain().to_owned();
        let mut message = Message::builder()
            .from(self.from.clone())
            .to(to.clone())
            .message_id(None)
            .subject(self.subject.as_deref().unwrap_or(heading))
            .header(ContentType::TEXT_PLAIN)
            .body(text)
            .map_err(|error| failed(error.to_string()))?;
        // RFC 3834: nobody's absence note answers it.
        let generated = HeaderName::new_from_ascii_str("Auto-Submitted");
        message.headers_mut().insert_raw(HeaderValue::new(generated, "auto-generated".into()));
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&self.host)
            .port(self.port)
            .tls(self.tls.clone())
            .hello_name(ClientId::Domain(domain))
            .timeout(Some(LIMIT));
        let mut known = Known::default();
        if let Some((user, password)) = &self.login {
            known.add(password);
            // EXPOSE: the login is what the password is for; the library's copy is not wiped.
            let password = password.expose_str().ok_or_else(|| failed("its password is no text".into()))?;
            transport = transport.credentials(Credentials::new(user.clone(), password.to_owned()));
        }
        let sent = transport.build().send(message).await;
        sent.map(drop).map_err(|error| failed(known.scrub(in_full(&error).as_bytes())))
    }
}

/// Host and port, and whether TLS comes first.
fn address(url: &str) -> Option<(String, u16, bool)> {
    let (scheme, rest) = url.split_once("://")?;
    let (is_wrapped, usual) = match scheme {
        "smtp" => (false, 587),
        "smtps" => (true, 465),
        _ => return None,
    };
    let authority = rest.split('/').next().filter(|authority| !authority.is_empty())?;
    let is_bare = authority.ends_with(']') || !authority.contains(':');
    let (host, port) = match authority.rsplit_once(':').filter(|_| !is_bare) {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, usual),
    };
    Some((host.trim_matches(['[', ']']).to_owned(), port, is_wrapped))
}

/// A password leaves this machine through TLS only; a mail without a login takes TLS where it is offered.
fn tls(host: &str, is_wrapped: bool, has_password: bool, ca: Option<&Path>) -> Result<Tls, NoticeError> {
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if is_here && !is_wrapped && ca.is_none() {
        return Ok(Tls::None);
    }
    let unusable = |why: String| NoticeError::Unusable(format!("no TLS with the mail server: {why}"));
    let mut parameters = TlsParameters::builder(host.to_owned());
    if let Some(ca) = ca {
        let pem = std::fs::read(ca).map_err(|error| unusable(format!("{}: {error}", ca.display())))?;
        let ca = Certificate::from_pem(&pem).map_err(|error| unusable(in_full(&error)))?;
        parameters = parameters.add_root_certificate(ca);
    }
    let parameters = parameters.build_rustls().map_err(|error| unusable(in_full(&error)))?;
    Ok(match (is_wrapped, has_password || ca.is_some()) {
        (true, _) => Tls::Wrapper(parameters),
        (false, true) => Tls::Required(parameters),
        (false, false) => Tls::Opportunistic(parameters),
    })
}

fn name_of_domain(host: &str) -> &str {
    if host.parse::<IpAddr>().is_ok() { "localhost" } else { host }
}

fn in_full(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words.push_str(&format!(": {cause_words}"));
        }
        source = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::ServerConfig;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let is = |url, host: &str, port, wrapped| {
            assert_eq!(address(url), Some((host.to_owned(), port, wrapped)), "{url}");
        };
        is("smtp://mail.example.com", "mail.example.com", 587, false);
        is("smtp://localhost:25", "localhost", 25, false);
        is("smtps://mail.example.com/", "mail.example.com", 465, true);
        is("smtp://[::1]:2525", "::1", 2525, false);
        is("smtp://[::1]", "::1", 587, false);
        assert_eq!([address("http://a"), address("smtp://"), address("smtp://a:b")], [None, None, None]);
    }

    #[test]
    fn a_password_leaves_the_machine_through_tls_only() {
        let needs = |host, has_password| tls(host, false, has_password, None).unwrap();
        assert!(matches!(needs("mail.example.com", true), Tls::Required(_)));
        assert!(matches!(needs("mail.example.com", false), Tls::Opportunistic(_)));
        assert!(matches!(needs("127.0.0.1", true), Tls::None));
        assert!(matches!(tls("mail.example.com", true, false, None).unwrap(), Tls::Wrapper(_)));
    }

    /// Talks SMTP until the other side wants TLS, or to the end; every line that it heard goes to `heard`.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        stream: S,
        (mode, offers): (&str, &str),
        heard: &UnboundedSender<(String, String)>,
    ) -> Option<S> {
        let mut stream = BufReader::new(stream);
        let (mut line, mut is_text) = (String::new(), false);
        loop {
            line.clear();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            heard.send((mode.to_owned(), line.trim_end().to_owned())).ok()?;
            let answer = match line.split_whitespace().next().unwrap_or_default() {
                "." => "250 taken",
                _ if is_text => continue,
                "EHLO" => offers,
                "AUTH" => "235 welcome",
                "DATA" => "354 go on",
                "STARTTLS" => "220 go on",
                _ => "250 ok",
            };
            is_text = answer.starts_with("354");
            stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
            if line.starts_with("STARTTLS") {
                return Some(stream.into_inner());
            }
        }
    }

    /// A mail server with a certificate of its own; what it hears, and the certificate as a file.
    async fn server(
        plain: &'static str,
    ) -> (String, tempfile::NamedTempFile, UnboundedReceiver<(String, String)>) {
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
        let url = format!("smtp://localhost:{}", listener.local_addr().unwrap().port());
        let (heard, hears) = unbounded_channel();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.ok()?;
            stream.write_all(b"220 mail.test\r\n").await.ok()?;
            let stream = talk(stream, ("plain", plain), &heard).await?;
            talk(acceptor.accept(stream).await.ok()?, ("tls", "250 AUTH PLAIN"), &heard).await;
            Some(())
        });
        let ca = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), made.cert.pem()).unwrap();
        (url, ca, hears)
    }

    async fn send(url: String, ca: &Path) -> Result<(), NoticeError> {
        let server = MailServer { url, ca: Some(ca.to_owned()), user: Some("reseal".into()), password: None };
        let password = SecretBytes::copy_from(b"canary-password");
        let mailer = Mailer::new(&server, Some(password), (None, None), Path::new("/")).unwrap();
        mailer.send(&"ops@example.com".parse().unwrap(), "a heading", "words\n".into()).await
    }

    #[tokio::test]
    async fn the_login_and_the_mail_go_through_tls() {
        let (url, ca, mut hears) = server("250-mail.test\r\n250 STARTTLS").await;
        send(url, ca.path()).await.unwrap();
        let mut all = Vec::new();
        while let Ok(line) = hears.try_recv() {
            all.push(line);
        }
        let by = |mode: &str, word: &str| all.iter().any(|(how, line)| how == mode && line.starts_with(word));
        for word in ["AUTH", "MAIL", "Subject: a heading", "Auto-Submitted: auto-generated"] {
            assert!(by("tls", word) && !by("plain", word), "{word}: {all:?}");
        }
    }

    #[tokio::test]
    async fn without_tls_there_is_no_login() {
        let (url, ca, mut hears) = server("250-mail.test\r\n250 AUTH PLAIN").await;
        let error = send(url, ca.path()).await.unwrap_err().to_string();
        assert!(!error.contains("canary"), "{error}");
        while let Ok((_, line)) = hears.try_recv() {
            assert!(!line.starts_with("AUTH"), "{line}");
        }
    }

    #[tokio::test]
    async fn a_certificate_of_another_is_refused() {
        let (url, _, mut hears) = server("250-mail.test\r\n250 STARTTLS").await;
        let (_, other, _) = server("").await;
        let error = send(url, other.path()).await.unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
        while let Ok((how, _)) = hears.try_recv() {
            assert_eq!(how, "plain");
        }
    }
}
