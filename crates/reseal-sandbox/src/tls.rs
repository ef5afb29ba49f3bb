//! Certificates for a private server that speaks TLS.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::error::SandboxError;
use crate::private::write_private;
use crate::user::ServerUser;

/// The files of a server that speaks TLS, in PEM.
pub(crate) struct Files {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Makes an authority and a certificate for `localhost` and 127.0.0.1 signed by it: `ca.pem`, `server.pem` and
/// `server.key` in the directory.
pub(crate) fn install(directory: &Path, user: ServerUser) -> Result<Files, SandboxError> {
    let made = certificates().map_err(|error| SandboxError::Certificate(error.to_string()))?;
    let write = |name: &str, pem: &str| {
        let path = directory.join(name);
        write_private(&path, pem.as_bytes(), user).map(|()| path)
    };
    Ok(Files {
        authority: write("ca.pem", &made.authority)?,
        certificate: write("server.pem", &made.certificate)?,
        key: write("server.key", &made.key)?,
    })
}

struct Certificates {
    authority: String,
    certificate: String,
    key: String,
}

fn certificates() -> Result<Certificates, rcgen::Error> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.distinguished_name.push(DnType::CommonName, "reseal sandbox authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate()?;
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut server = CertificateParams::new(names)?;
    server.distinguished_name.push(DnType::CommonName, "reseal sandbox server");
    let certificate = server.signed_by(&key, &issuer)?;
    Ok(Certificates {
        authority: authority_certificate.pem(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}
