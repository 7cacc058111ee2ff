//! TLS to a sink's other end: its certificate must be by an authority that the host trusts, or the one that the sink names.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use super::socket::{Progress, Socket};
use crate::config::sinks::authority;

/// A connection, with or without TLS.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Connects, and where `tls` says so, has the other end show who it is; with how far what is written has come.
pub async fn connect(
    host: &str,
    port: u16,
    tls: bool,
    ca: Option<&Path>,
) -> Result<(Box<dyn Stream>, Progress)> {
    let stream = TcpStream::connect((host, port))
        .await
        .with_context(|| format!("connect to {}", authority(host, port)))?;
    let (stream, progress) = Socket::new(stream)?;
    if !tls {
        return Ok((Box::new(stream), progress));
    }
    let connector = TlsConnector::from(Arc::new(config(ca)?));
    let name = ServerName::try_from(host.to_owned()).with_context(|| format!("{host} is no name for TLS"))?;
    let stream = connector
        .connect(name, stream)
        .await
        .with_context(|| format!("TLS with {}", authority(host, port)))?;
    Ok((Box::new(stream), progress))
}

/// Whether the certificates that the other end is trusted by can be read.
pub fn check(ca: Option<&Path>) -> Result<()> {
    config(ca).map(drop)
}

fn config(ca: Option<&Path>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in
                CertificateDer::pem_file_iter(path).with_context(|| format!("read {}", path.display()))?
            {
                roots.add(certificate.with_context(|| format!("read {}", path.display()))?)?;
            }
            ensure!(!roots.is_empty(), "{} holds no certificate", path.display());
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            ensure!(
                !roots.is_empty(),
                "this host trusts no authority: install ca-certificates, or name one (ca)"
            );
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
