//! The certificate of the federation listener.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file cannot be read, or is not PEM.
    #[error("federation.certificate_file = {path:?}: {reason}; it has to hold the certificate and its chain as PEM")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The private key file cannot be read, or is not PEM.
    #[error("federation.private_key_file = {path:?}: {reason}; it has to hold one unencrypted private key as PEM")]
    PrivateKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// They cannot be used together.
    #[error("federation.certificate_file and federation.private_key_file cannot be used: {0}")]
    Mismatch(#[source] rustls::Error),
}

/// A certificate and its key, which can be read again while the server runs.
#[derive(Clone)]
pub struct Certificate {
    chain_file: PathBuf,
    key_file: PathBuf,
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Certificate {
    /// Reads both files. The process needs a default provider of cryptography.
    pub fn load(certificate_file: PathBuf, private_key_file: PathBuf) -> Result<Self, TlsError> {
        let current = Arc::new(RwLock::new(read(&certificate_file, &private_key_file)?));
        Ok(Self { chain_file: certificate_file, key_file: private_key_file, current })
    }

    /// Reads both files again; after an error the old certificate stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        let fresh = read(&self.chain_file, &self.key_file)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// What accepts a connection with the certificate as it is now.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn read(certificate_file: &PathBuf, private_key_file: &PathBuf) -> Result<Arc<ServerConfig>, TlsError> {
    let certificate_error = |reason: String| TlsError::Certificate { path: certificate_file.clone(), reason };
    let chain = CertificateDer::pem_file_iter(certificate_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| certificate_error(error.to_string()))?;
    if chain.is_empty() {
        return Err(certificate_error("there is no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(private_key_file)
        .map_err(|error| TlsError::PrivateKey { path: private_key_file.clone(), reason: error.to_string() })?;
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).map_err(TlsError::Mismatch)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
