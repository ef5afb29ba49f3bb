//! Certificates for a private server that speaks TLS.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::error::SandboxError;
use crate::postgres::write_private;
use crate::user::ServerUser;

/// Makes an authority and a certificate for `localhost` and 127.0.0.1 signed by it, and returns the settings that use it.
pub(crate) fn install(directory: &Path, user: ServerUser) -> Result<Vec<(String, String)>, SandboxError> {
    let made = certificates().map_err(|error| SandboxError::Certificate(error.to_string()))?;
    let path = |name: &str| directory.join(name);
    write_private(&path("ca.pem"), made.authority.as_bytes(), user)?;
    write_private(&path("server.pem"), made.certificate.as_bytes(), user)?;
    write_private(&path("server.key"), made.key.as_bytes(), user)?;
    let setting = |name: &str, value: &Path| (name.to_owned(), value.to_string_lossy().into_owned());
    Ok(vec![
        setting("ssl", Path::new("on")),
        setting("ssl_cert_file", &path("server.pem")),
        setting("ssl_key_file", &path("server.key")),
    ])
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
