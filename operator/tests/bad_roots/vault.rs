//! A double of a Vault server by plain HTTP: what is asked of its PKI engine, with answers that no real server gives when told to.
//! A double, because a real one cannot be made to sign for another name or key than it is asked for. Real ones sign in the tests
//! of `osm-issuer`, and in those beside an API server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// Whom certificates of [`Answers::OtherName`] are for.
pub(crate) const STRANGER: &str = "spiffe://cluster.local/ns/elsewhere/sa/stranger";

/// What the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// As a real one does.
    Good,
    /// A page.
    Garbage,
    /// Half an answer.
    Cut,
    /// Nothing.
    Silent,
    /// Good ones, but certificates are for [`STRANGER`].
    OtherName,
    /// Good ones, but certificates are for another key.
    OtherKey,
}

/// See the module.
pub(crate) struct Vault {
    address: SocketAddr,
    answers: Arc<Mutex<Answers>>,
}

struct Engine {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
    /// Longest life of a certificate.
    longest: Duration,
}

impl Vault {
    /// A server whose certificates live that long at the most.
    pub(crate) fn start(longest: Duration) -> Self {
        let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        params.distinguished_name.push(DnType::CommonName, "root of the double");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap().pem();
        let engine = Arc::new(Engine { certificate, issuer: Issuer::new(params, key), longest });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::new(Mutex::new(Answers::Good));
        let given = Arc::clone(&answers);
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().flatten() {
                let answers = *given.lock().unwrap();
                match answers {
                    Answers::Silent => held.push(stream),
                    _ => {
                        let engine = Arc::clone(&engine);
                        // A client that goes away is no concern of the server.
                        std::thread::spawn(move || engine.serve(&stream, answers));
                    }
                }
            }
        });
        Self { address, answers }
    }

    /// From the next request on.
    pub(crate) fn set(&self, answers: Answers) {
        *self.answers.lock().unwrap() = answers;
    }

    /// The provider of a MeshRootCertificate, with its token in a Secret `token`.
    pub(crate) fn provider(&self) -> String {
        format!(
            "vault: {{ host: 127.0.0.1, port: {}, protocol: http, role: mesh, token: {{ secretKeyRef: {{ name: token, \
             namespace: osm-system, key: token }} }} }}",
            self.address.port()
        )
    }
}

impl Engine {
    fn serve(&self, mut stream: &TcpStream, answers: Answers) -> std::io::Result<()> {
        let (path, body) = request(stream)?;
        let (code, answer) = match answers {
            Answers::Garbage => (200, "<html></html>".to_owned()),
            _ => match self.answer(&path, &body, answers) {
                Some(data) => (200, envelope(&data).to_string()),
                None => (404, json!({ "errors": ["no handler for route"] }).to_string()),
            },
        };
        let sent = if answers == Answers::Cut { &answer[..answer.len() / 2] } else { &answer };
        write!(stream, "HTTP/1.1 {code} Told\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{sent}", answer.len())
    }

    fn answer(&self, path: &str, body: &Value, answers: Answers) -> Option<Value> {
        match path.strip_prefix("/v1/")? {
            "auth/token/lookup-self" => {
                Some(json!({ "ttl": 0, "creation_ttl": 0, "expire_time": null, "renewable": false }))
            }
            "pki/roles/mesh" => Some(json!({
                "allow_any_name": true, "allowed_uri_sans": ["spiffe://cluster.local/*"], "key_type": "any",
                "require_cn": false, "use_csr_sans": false, "no_store": true,
            })),
            "pki/issuer/default/json" => Some(json!({
                "certificate": self.certificate, "ca_chain": [self.certificate], "issuer_id": "1", "issuer_name": "root",
            })),
            "pki/sign/mesh" => Some(json!({
                "certificate": self.sign(body, answers), "issuing_ca": self.certificate, "ca_chain": [self.certificate],
                "serial_number": "1", "expiration": 0,
            })),
            _ => None,
        }
    }

    fn sign(&self, body: &Value, answers: Answers) -> String {
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let uri = if answers == Answers::OtherName { STRANGER.to_owned() } else { text("uri_sans") };
        let mut params = CertificateParams::default();
        let names = text("alt_names");
        let names = names.split(',').filter(|name| !name.is_empty());
        params.subject_alt_names = names.map(|name| SanType::DnsName(name.try_into().unwrap())).collect();
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().unwrap()));
        let asked = Duration::from_secs(text("ttl").trim_end_matches('s').parse().unwrap());
        params.not_before = OffsetDateTime::now_utc() - Duration::from_secs(30);
        params.not_after = OffsetDateTime::now_utc() + asked.min(self.longest);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let request = CertificateSigningRequestParams::from_pem(&text("csr")).unwrap();
        let signed = match answers {
            Answers::OtherKey => params.signed_by(&KeyPair::generate().unwrap(), &self.issuer),
            _ => params.signed_by(&request.public_key, &self.issuer),
        };
        signed.unwrap().pem()
    }
}

fn envelope(data: &Value) -> Value {
    json!({
        "request_id": "1", "lease_id": "", "lease_duration": 0, "renewable": false, "data": data, "auth": null,
        "warnings": null, "wrap_info": null,
    })
}

/// Path and body of a request.
fn request(stream: &TcpStream) -> std::io::Result<(String, Value)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or_default();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((path, serde_json::from_slice(&body).unwrap_or_default()))
}
