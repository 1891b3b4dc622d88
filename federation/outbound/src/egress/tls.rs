//! Whom we believe: the certificate authorities of the operating system, and those that the operator adds.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::EgressError;

pub(super) fn client_config(extra_pem: &[Vec<u8>]) -> Result<ClientConfig, EgressError> {
    let mut roots = system_roots();
    for (index, pem) in extra_pem.iter().enumerate() {
        add(&mut roots, pem).map_err(|reason| EgressError::Certificate { index, reason })?;
    }
    // The provider is named, so that nothing depends on which one the process has installed as its default.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| EgressError::Client(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a certificate authority of the system cannot be read");
    }
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        tracing::warn!("the system has no certificate authorities; other servers cannot be verified");
    }
    tracing::debug!(added, ignored, "certificate authorities of the system");
    roots
}

fn add(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), String> {
    let mut any = false;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
        any = true;
    }
    if any { Ok(()) } else { Err("it holds no certificate in PEM".to_owned()) }
}
