//! Whose end of a connection it is, and what proves whose the other end is.

use crate::errors::{Error, Result};
use pyo3::prelude::*;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::version::TLS13;
use rustls::{
    ClientConnection, Connection, DigitallySignedStruct, DistinguishedName, Error as TlsError, PeerIncompatible,
    ServerConnection, SignatureScheme,
};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// A certificate and its key, ready for connections in both directions.
#[pyclass(frozen, module = "quorate._kernel")]
pub struct TlsKeys {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl TlsKeys {
    pub fn open(&self, dials: bool) -> Result<Connection> {
        let opened = if dials {
            // An address instead of a name, so that none is sent: the certificate alone says who it is.
            let nameless = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
            ClientConnection::new(self.client.clone(), nameless).map(Connection::from)
        } else {
            ServerConnection::new(self.server.clone()).map(Connection::from)
        };
        opened.map_err(|error| Error::invalid(format!("tls: {error}")))
    }

    #[cfg(test)]
    pub fn settings(&self) -> (ClientConfig, ServerConfig) {
        ((*self.client).clone(), (*self.server).clone())
    }
}

#[pymethods]
impl TlsKeys {
    #[new]
    fn new(key: &[u8], certificate: &[u8]) -> PyResult<Self> {
        Ok(make_keys(key, certificate).map_err(|error| {
            Error::invalid(format!(
                "tls: found a key or certificate that cannot be used ({error}), expected ECDSA P-256 and X.509 version 3"
            ))
        })?)
    }
}

pub fn make_keys(key: &[u8], certificate: &[u8]) -> std::result::Result<TlsKeys, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let holder = Arc::new(AnyHolder { algorithms: provider.signature_verification_algorithms });
    let chain = vec![CertificateDer::from(certificate.to_vec())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_vec()));
    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(holder.clone())
        .with_client_auth_cert(chain.clone(), key.clone_key())?;
    client.resumption = Resumption::disabled();
    client.enable_sni = false;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(holder)
        .with_single_cert(chain, key)?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok(TlsKeys { client: Arc::new(client), server: Arc::new(server) })
}

/// Accepts every certificate of a peer that proves to hold its key. Whose it is, the transport decides by its fingerprint.
#[derive(Debug)]
struct AnyHolder {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyHolder {
    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }
}

/// No connection gets here: only TLS 1.3 is spoken.
fn refuse_tls12() -> std::result::Result<HandshakeSignatureValid, TlsError> {
    Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
}

impl ServerCertVerifier for AnyHolder {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        self.verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for AnyHolder {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> std::result::Result<ClientCertVerified, TlsError> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        self.verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
