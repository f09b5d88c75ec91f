//! Connections on which the other end takes what is sent, or that end. hyper waits for a receiver for ever.

use std::future::{Future, Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready as once_ready};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::pace::Pace;

/// Makes connections that end when their receiver is too slow for as long as `window`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) window: Duration,
}

impl<Service> Accept<TcpStream, Service> for Patience {
    type Stream = Connection;
    type Service = Service;
    type Future = Ready<io::Result<(Connection, Service)>>;

    fn accept(&self, stream: TcpStream, service: Service) -> Self::Future {
        // A watch stream's small messages are to go out at once. Without this they only go out later.
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            stream,
            window: self.window,
            pace: Pace::new(self.window),
            waits_since: None,
            limit: Box::pin(sleep(self.window)),
        };
        ready(Ok((connection, service)))
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    window: Duration,
    pace: Pace,
    waits_since: Option<Instant>,
    limit: Pin<Box<Sleep>>,
}

impl Connection {
    fn written(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                let since = self.waits_since.take();
                let waited = since.map_or(Duration::ZERO, |since| since.elapsed());
                if self.pace.is_kept(waited, bytes as u64) {
                    Poll::Ready(Ok(bytes))
                } else {
                    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                }
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                if self.waits_since.is_none() {
                    let now = Instant::now();
                    self.waits_since = Some(now);
                    self.limit.as_mut().reset(now + self.window);
                }
                once_ready!(self.limit.as_mut().poll(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}
