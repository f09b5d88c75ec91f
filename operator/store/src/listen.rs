//! Listens on every address of the machine, whichever family a cluster has.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// Connections that may wait to be taken.
const WAITING: i32 = 1024;

/// A listener for IPv6 that takes IPv4, too, and for IPv4 alone where there is no IPv6. It does not block.
///
/// # Errors
/// The system's own, such as a port that is in use.
pub fn everywhere(port: u16) -> io::Result<TcpListener> {
    both(port).or_else(|_| {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    })
}

fn both(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    // A setting of the machine decides otherwise.
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(WAITING)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn both_families_get_in() {
        let listener = everywhere(0).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("IPv4");
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("IPv6");
        }
        everywhere(port).expect_err("the port is in use");
    }
}
