//! The server process that was announced when a connection was made.
//!
//! The driver tells it only to the server, in a request to cancel (`CancelRequest` of the protocol). Such a request is
//! made here and read instead of sent; where the connection goes through TLS, through one that does nothing.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio_postgres::Client;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// What tells a request to cancel, and one for TLS.
const CANCEL_REQUEST: i32 = 80_877_102;
const SSL_REQUEST: i32 = 80_877_103;

/// The id of the process; `None` if the driver asks for something else.
pub(super) async fn announced_process(client: &Client) -> Option<i32> {
    let (near, far) = duplex(64);
    let token = client.cancel_token();
    tokio::join!(token.cancel_query_raw(near, NoTransform), read_process(far)).1
}

async fn read_process(mut far: DuplexStream) -> Option<i32> {
    let mut code = read_code(&mut far).await?;
    if code == SSL_REQUEST {
        far.write_all(b"S").await.ok()?;
        code = read_code(&mut far).await?;
    }
    if code == CANCEL_REQUEST { far.read_i32().await.ok() } else { None }
}

async fn read_code(far: &mut DuplexStream) -> Option<i32> {
    let _length = far.read_i32().await.ok()?;
    far.read_i32().await.ok()
}

/// TLS whose records are the bytes themselves.
struct NoTransform;

impl TlsConnect<DuplexStream> for NoTransform {
    type Stream = Untransformed;
    type Error = io::Error;
    type Future = Ready<io::Result<Untransformed>>;

    fn connect(self, stream: DuplexStream) -> Self::Future {
        ready(Ok(Untransformed(stream)))
    }
}

struct Untransformed(DuplexStream);

impl TlsStream for Untransformed {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Untransformed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Untransformed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
