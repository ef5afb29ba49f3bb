//! A mail server and a web hook that keep what they are told, or never answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// What was told in one conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// User and password that a mail came with.
    pub login: Option<(String, String)>,
    /// Who got the mail, or the path of the request.
    pub to: String,
    /// The mail with its headers, or the body of the request.
    pub text: String,
}

/// Somebody who is told things, on a port of this machine.
#[derive(Debug, Clone)]
pub struct Listener {
    address: SocketAddr,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Listener {
    /// A mail server.
    pub fn mail() -> Self {
        Self::serve(mail)
    }

    /// A web hook that answers 200.
    pub fn hook() -> Self {
        Self::serve(|stream, keep| request(stream, "200 OK", keep))
    }

    /// A web hook that answers 500.
    pub fn refusing_hook() -> Self {
        Self::serve(|stream, keep| request(stream, "500 Internal Server Error", keep))
    }

    /// Takes connections and says nothing.
    pub fn silent() -> Self {
        // Until the other side gives up.
        Self::serve(|mut stream, _| stream.read_to_end(&mut Vec::new()).ok().map(drop))
    }

    /// Host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was told so far.
    pub fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is told is kept before it is acknowledged: whoever is told that it was taken finds it here.
    fn serve(talk: impl Fn(TcpStream, &dyn Fn(Told)) -> Option<()> + Send + Copy + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = told.clone();
        // Ends with the test process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heard = heard.clone();
                std::thread::spawn(move || {
                    let keep = |told| heard.lock().unwrap_or_else(PoisonError::into_inner).push(told);
                    // A conversation that ends early told nothing.
                    let _ = talk(stream, &keep);
                });
            }
        });
        Self { address, told }
    }
}

/// One conversation of SMTP, with a login if the other side wants one.
fn mail(stream: TcpStream, keep: &dyn Fn(Told)) -> Option<()> {
    let mut out = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream).lines();
    let mut told = Told::default();
    let mut say = move |line: &str| out.write_all(format!("{line}\r\n").as_bytes()).ok();
    say("220 mail.test")?;
    loop {
        let line = lines.next()?.ok()?;
        let word = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        match word.as_str() {
            "EHLO" => {
                say("250-mail.test")?;
                say("250-AUTH PLAIN")?;
                say("250 8BITMIME")?;
            }
            "AUTH" => {
                let packed = BASE64_STANDARD.decode(line.rsplit(' ').next()?).ok()?;
                let mut parts = packed.split(|byte| *byte == 0).skip(1);
                let mut text = || String::from_utf8(parts.next()?.to_vec()).ok();
                told.login = text().zip(text());
                say("235 welcome")?;
            }
            "RCPT" => {
                told.to = line.split(['<', '>']).nth(1)?.to_owned();
                say("250 ok")?;
            }
            "DATA" => {
                say("354 go on")?;
                loop {
                    let line = lines.next()?.ok()?;
                    if line == "." {
                        break;
                    }
                    told.text.push_str(line.strip_prefix('.').unwrap_or(&line));
                    told.text.push('\n');
                }
                keep(std::mem::take(&mut told));
                say("250 taken")?;
            }
            "QUIT" => return say("221 bye"),
            _ => say("250 ok")?,
        }
    }
}

/// One request of HTTP.
fn request(mut stream: TcpStream, answer: &str, keep: &dyn Fn(Told)) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let to = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok()?;
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    keep(Told { login: None, to, text: String::from_utf8(body).ok()? });
    stream.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes()).ok()
}
