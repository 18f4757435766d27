//! Whether a role of the PKI engine can sign what the mesh asks for. Pure.

use serde::Deserialize;

use super::config::VaultConfig;
use crate::identity::{PeerIdentity, ProxyIdentity, WorkloadIdentity};
use crate::key::LeafKeyAlgorithm;
use crate::validity::LeafValidity;

/// What matters here of a role. Servers of different versions have different fields; those that are missing have the
/// engine's defaults.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Role {
    allow_any_name: bool,
    allow_bare_domains: bool,
    allow_glob_domains: bool,
    allow_subdomains: bool,
    allowed_domains: Vec<String>,
    allowed_domains_template: bool,
    allowed_uri_sans: Vec<String>,
    allowed_uri_sans_template: bool,
    client_flag: bool,
    ext_key_usage: Vec<String>,
    generate_lease: bool,
    issuer_ref: String,
    key_bits: u64,
    key_type: String,
    key_usage: Vec<String>,
    max_ttl: u64,
    no_store: bool,
    require_cn: bool,
    server_flag: bool,
    use_csr_sans: bool,
}

impl Default for Role {
    fn default() -> Self {
        Self {
            allow_any_name: false,
            allow_bare_domains: false,
            allow_glob_domains: false,
            allow_subdomains: false,
            allowed_domains: Vec::new(),
            allowed_domains_template: false,
            allowed_uri_sans: Vec::new(),
            allowed_uri_sans_template: false,
            client_flag: true,
            ext_key_usage: Vec::new(),
            generate_lease: false,
            issuer_ref: "default".to_owned(),
            key_bits: 0,
            key_type: "rsa".to_owned(),
            key_usage: vec!["DigitalSignature".to_owned()],
            max_ttl: 0,
            no_store: false,
            require_cn: true,
            server_flag: true,
            use_csr_sans: true,
        }
    }
}

impl Role {
    /// Name of the issuer that the role signs with.
    pub(super) fn issuer(&self) -> &str {
        if self.issuer_ref.is_empty() { "default" } else { &self.issuer_ref }
    }

    /// Why the role cannot sign for the mesh, each with the remedy.
    pub(super) fn problems(&self, config: &VaultConfig) -> Vec<String> {
        let mut problems = Vec::new();
        if self.require_cn {
            problems
                .push("require_cn is true, and mesh certificates have no common name; set require_cn=false".to_owned());
        }
        problems.extend(self.key_problem(config.leaf_key));
        problems.extend(self.usage_problem());
        problems.extend(self.name_problems(config));
        let shortest = LeafValidity::MIN.as_duration().as_secs();
        if self.max_ttl != 0 && self.max_ttl < shortest {
            problems.push(format!(
                "max_ttl is {}s, and certificates of less than {shortest}s cannot be renewed in time; raise max_ttl",
                self.max_ttl
            ));
        }
        problems
    }

    /// What works and could be better.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if !self.no_store {
            remarks.push(
                "no_store is false: the engine keeps a copy of every certificate, and grows with each renewal"
                    .to_owned(),
            );
        }
        if self.use_csr_sans {
            remarks.push(
                "use_csr_sans is true: the engine takes names from requests and not from their parameters, where the \
                 server's policies could restrict them; set use_csr_sans=false"
                    .to_owned(),
            );
        }
        if self.generate_lease {
            remarks.push("generate_lease is true: the server keeps a lease for every certificate".to_owned());
        }
        remarks
    }

    fn key_problem(&self, key: LeafKeyAlgorithm) -> Option<String> {
        let (kind, bits) = match key {
            LeafKeyAlgorithm::EcdsaP256 => ("ec", 256),
            LeafKeyAlgorithm::Rsa(size) => ("rsa", u64::from(size.bits())),
        };
        // 0 bits mean the smallest that the engine accepts.
        let fits = self.key_type == "any" || (self.key_type == kind && self.key_bits <= bits);
        (!fits).then(|| {
            format!(
                "it wants keys of type {} with {} bits, and the mesh has {kind} with {bits}; set key_type=any",
                self.key_type, self.key_bits
            )
        })
    }

    fn usage_problem(&self) -> Option<String> {
        let has = |usages: &[String], name: &str| usages.iter().any(|usage| same_usage(usage, name));
        let mut missing = Vec::new();
        if !self.server_flag && !has(&self.ext_key_usage, "ServerAuth") {
            missing.push("server_flag=true");
        }
        if !self.client_flag && !has(&self.ext_key_usage, "ClientAuth") {
            missing.push("client_flag=true");
        }
        if !self.key_usage.is_empty() && !has(&self.key_usage, "DigitalSignature") {
            missing.push("key_usage=DigitalSignature");
        }
        (!missing.is_empty())
            .then(|| format!("its certificates do not serve both ends of mutual TLS; set {}", missing.join(", ")))
    }

    fn name_problems(&self, config: &VaultConfig) -> Vec<String> {
        let trust_domain = config.control_plane.trust_domain();
        let names: Vec<_> = samples(config).iter().map(PeerIdentity::subject_names).collect();
        let dns: Vec<_> = names.iter().flat_map(|names| names.dns()).filter(|name| !self.allows_dns(name)).collect();
        let uris: Vec<_> = names.iter().map(|names| names.uri()).filter(|uri| !self.allows_uri(uri)).collect();
        let mut problems = Vec::new();
        if let Some(example) = dns.first() {
            problems.push(format!(
                "it does not allow DNS names such as {example}; set allow_subdomains=true and \
                 allowed_domains={trust_domain},svc (or allow_any_name=true)"
            ));
        }
        if let Some(example) = uris.first() {
            problems.push(format!(
                "it does not allow URI names such as {example}; set allowed_uri_sans=spiffe://{trust_domain}/*"
            ));
        }
        problems
    }

    fn allows_dns(&self, name: &str) -> bool {
        self.allow_any_name
            || self.allowed_domains.iter().any(|domain| {
                // What a template becomes depends on the token; the server decides.
                (self.allowed_domains_template && domain.contains("{{"))
                    || (self.allow_bare_domains && name.eq_ignore_ascii_case(domain))
                    || (self.allow_subdomains && is_subdomain(name, domain))
                    || (self.allow_glob_domains && domain.contains('*') && matches_glob(domain, name))
            })
    }

    fn allows_uri(&self, uri: &str) -> bool {
        self.allowed_uri_sans
            .iter()
            .any(|pattern| (self.allowed_uri_sans_template && pattern.contains("{{")) || matches_glob(pattern, uri))
    }
}

/// One identity of each kind, as the mesh will ask for them.
fn samples(config: &VaultConfig) -> Vec<PeerIdentity> {
    let control_plane = &config.control_plane;
    let mut samples = vec![PeerIdentity::ControlPlane(control_plane.clone())];
    if let Ok(workload) = WorkloadIdentity::new(control_plane.trust_domain().clone(), "namespace", "service-account") {
        samples.push(PeerIdentity::Workload(workload.clone()));
        samples.extend(ProxyIdentity::new(workload, "pod.uid").map(PeerIdentity::Proxy));
    }
    samples
}

fn is_subdomain(name: &str, domain: &str) -> bool {
    let domain = domain.trim_start_matches("*.").to_ascii_lowercase();
    name.to_ascii_lowercase().strip_suffix(&domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// `*` stands for any characters, as many as there are.
fn matches_glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The engine accepts names of usages in any case, and with a prefix.
fn same_usage(given: &str, name: &str) -> bool {
    given.trim().trim_start_matches("ExtKeyUsage").trim_start_matches("KeyUsage").eq_ignore_ascii_case(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;
    use crate::error::Blame;
    use crate::identity::{ControlPlaneIdentity, TrustDomain};
    use crate::key::RsaKeySize;
    use crate::secret::Credential;
    use crate::vault::{VaultAuth, VaultProtocol};

    fn config() -> VaultConfig {
        let domain = TrustDomain::new("mesh.example").unwrap();
        VaultConfig {
            host: "vault.example".to_owned(),
            port: 8200,
            protocol: VaultProtocol::PlainHttp,
            namespace: None,
            mount: "pki".to_owned(),
            role: "osm".to_owned(),
            auth: VaultAuth::Token { token: Credential::new("t".to_owned()), origin: Blame::Process },
            timeout: VaultConfig::DEFAULT_TIMEOUT,
            control_plane: ControlPlaneIdentity::new(domain, "osm-system", "osm-controller").unwrap(),
            leaf_key: LeafKeyAlgorithm::EcdsaP256,
        }
    }

    fn good() -> Role {
        Role {
            allow_subdomains: true,
            allowed_domains: vec!["mesh.example".to_owned(), "svc".to_owned()],
            allowed_uri_sans: vec!["spiffe://mesh.example/*".to_owned()],
            key_type: "any".to_owned(),
            require_cn: false,
            use_csr_sans: false,
            ..Role::default()
        }
    }

    #[test]
    fn a_role_as_documented_has_no_problem() {
        assert_eq!(good().problems(&config()), Vec::<String>::new());
    }

    #[test]
    fn each_problem_is_named_with_its_remedy() {
        let domains = |domains: &[&str]| domains.iter().map(|&domain| domain.to_owned()).collect();
        let cases = [
            (Role { require_cn: true, ..good() }, "set require_cn=false"),
            (Role { key_type: "rsa".to_owned(), key_bits: 2048, ..good() }, "set key_type=any"),
            (Role { key_type: "ec".to_owned(), key_bits: 384, ..good() }, "set key_type=any"),
            (Role { server_flag: false, ..good() }, "set server_flag=true"),
            (Role { client_flag: false, ..good() }, "set client_flag=true"),
            (Role { key_usage: domains(&["KeyAgreement"]), ..good() }, "key_usage=DigitalSignature"),
            (
                Role { allowed_domains: domains(&["mesh.example"]), ..good() },
                "osm-controller.osm-system.svc; set allow",
            ),
            (Role { allowed_domains: domains(&["svc"]), ..good() }, "ads.mesh.example"),
            (Role { allow_subdomains: false, ..good() }, "allow_subdomains=true"),
            (Role { allowed_uri_sans: Vec::new(), ..good() }, "set allowed_uri_sans=spiffe://mesh.example/*"),
            (Role { allowed_uri_sans: domains(&["spiffe://mesh.example/ns/*/sa/*"]), ..good() }, "control-plane"),
            (Role { max_ttl: 300, ..good() }, "raise max_ttl"),
        ];
        for (role, remedy) in cases {
            let problems = role.problems(&config());
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].contains(remedy), "{problems:?} names {remedy}");
        }
    }

    #[test]
    fn what_the_engine_would_accept_is_no_problem() {
        let any_name = Role { allow_any_name: true, allow_subdomains: false, allowed_domains: Vec::new(), ..good() };
        let globs = vec!["*.mesh.example".to_owned(), "osm-*.svc".to_owned()];
        let globs = Role { allow_glob_domains: true, allow_subdomains: false, allowed_domains: globs, ..good() };
        let usages = vec!["serverauth".to_owned(), "ExtKeyUsageClientAuth".to_owned()];
        let usages = Role { server_flag: false, client_flag: false, ext_key_usage: usages, ..good() };
        let template = vec!["{{identity.entity.name}}".to_owned()];
        let template = Role { allowed_domains_template: true, allowed_domains: template, ..good() };
        for role in [any_name, globs, usages, template, Role { key_type: "ec".to_owned(), ..good() }] {
            assert_eq!(role.problems(&config()), Vec::<String>::new());
        }
        let rsa = VaultConfig { leaf_key: LeafKeyAlgorithm::Rsa(RsaKeySize::Bits3072), ..config() };
        let role = Role { key_type: "rsa".to_owned(), key_bits: 2048, ..good() };
        assert_eq!(role.problems(&rsa), Vec::<String>::new());
    }

    #[test]
    fn a_role_of_an_unknown_version_has_the_defaults_of_the_engine() {
        let role: Role = serde_json::from_str(r#"{"allow_any_name": true, "new_field": 1}"#).unwrap();
        assert_eq!(role, Role { allow_any_name: true, ..Role::default() });
        assert_eq!(role.issuer(), "default");
        assert_eq!(role.problems(&config()).len(), 3, "{:?}", role.problems(&config()));
    }

    #[test]
    fn globs_match_whole_names() {
        for (pattern, text, matches) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "anything", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("*.example", "x.example", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches_glob(pattern, text), matches, "{pattern} {text}");
        }
        assert!(is_subdomain("A.mesh.Example", "Mesh.example"));
        assert!(!is_subdomain("mesh.example", "mesh.example"));
        assert!(!is_subdomain("otherMesh.example", "mesh.example"));
    }
}
