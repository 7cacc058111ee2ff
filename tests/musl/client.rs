//! A client whose C library is musl: reads names, one a line, resolves each by that library and connects to every
//! address once; prints the name and what came of it. One file, compiled by itself: see `xtask/src/product.rs`.

use std::io::{self, BufRead as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

fn main() -> io::Result<()> {
    for name in io::stdin().lock().lines() {
        let name = name?;
        match (name.as_str(), 443).to_socket_addrs() {
            Ok(addresses) => {
                let words: Vec<String> = addresses.map(connect).collect();
                println!("{name} {}", words.join(" "));
            }
            Err(error) => println!("{name} {}", error.to_string().replace(' ', "_")),
        }
    }
    Ok(())
}

fn connect(to: SocketAddr) -> String {
    match TcpStream::connect_timeout(&to, Duration::from_secs(10)) {
        Ok(_) => "connected".into(),
        Err(error) if error.raw_os_error() == Some(1) => "refused".into(),
        Err(error) => error.to_string().replace(' ', "_"),
    }
}
