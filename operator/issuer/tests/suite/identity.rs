//! Identities: names to certificates and back, and every certificate that must not pass.

use osm_issuer::{
    ControlPlaneIdentity, IdentityError, IdentityField, IngressGatewayIdentity, PeerIdentity, ProxyIdentity,
    StoreConfig, TrustDomain, WorkloadIdentity,
};
use proptest::prelude::*;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};

use crate::support;
use crate::support::{trust_domain, workload};

/// A self-signed certificate with these names; reading an identity does not look at the signature.
fn certificate(names: Vec<SanType>) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names;
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

fn read(names: Vec<SanType>) -> Result<PeerIdentity, IdentityError> {
    PeerIdentity::from_certificate(&certificate(names), &[trust_domain()])
}

fn names_of(identity: &PeerIdentity) -> Vec<SanType> {
    let names = identity.subject_names();
    names.dns().iter().map(|name| dns(name)).chain([uri(names.uri())]).collect()
}

#[test]
fn names_are_written_as_documented() {
    let identity = workload("bookstore", "book.store-v1");
    assert_eq!(identity.uri(), "spiffe://mesh.example/ns/bookstore/sa/book.store-v1");
    assert_eq!(identity.subject_names().dns(), ["book.store-v1.bookstore.mesh.example"]);
    let identity = support::proxy("bookstore", "book.store", "pod-1.vm");
    assert_eq!(identity.uri(), "spiffe://mesh.example/ns/bookstore/sa/book.store/proxy/pod-1.vm");
    assert!(identity.subject_names().dns().is_empty());
    let identity = support::control_plane();
    assert_eq!(identity.uri(), "spiffe://mesh.example/ns/osm-system/control-plane/osm-controller");
    assert_eq!(identity.subject_names().dns(), ["osm-controller.osm-system.svc", "ads.mesh.example"]);
}

/// Issues a certificate and reads it back.
async fn check_round_trip(identity: &PeerIdentity) {
    let (store, _) = support::store(StoreConfig::default());
    let leaf = store.certificate(identity).await.unwrap();
    let der = &leaf.material().certificate_chain()[0];
    let trust_domain = identity.trust_domain().clone();
    assert_eq!(PeerIdentity::from_certificate(der, &[trust_domain]).as_ref(), Ok(identity));
}

/// A name of exactly `length` characters, with dots so that no label is too long.
fn dotted(length: usize) -> String {
    (1..=length).map(|position| if position % 50 == 0 && position != length { '.' } else { 'x' }).collect()
}

#[tokio::test]
async fn long_and_dotted_names_are_issued_and_read_back() {
    let label = "n".repeat(63);
    for service_account in ["a", "a.b.c", "0", "1.2.3.4x", &dotted(63), &dotted(253)] {
        for namespace in ["n", "7", &label] {
            check_round_trip(&workload(namespace, service_account)).await;
            check_round_trip(&support::proxy(namespace, service_account, "n.o_D-e")).await;
            check_round_trip(&support::proxy(namespace, service_account, &"x".repeat(300))).await;
        }
    }
    let domain = TrustDomain::new(&dotted(253)).unwrap();
    let longest = WorkloadIdentity::new(domain, &label, &dotted(253)).unwrap();
    check_round_trip(&PeerIdentity::Workload(longest)).await;
    check_round_trip(&support::control_plane()).await;
}

#[track_caller]
fn check_invalid<T: std::fmt::Debug>(result: Result<T, IdentityError>, field: IdentityField, value: &str) {
    match result {
        Err(IdentityError::InvalidName { field: blamed, value: quoted, .. }) => {
            assert_eq!((blamed, quoted.as_str()), (field, value));
        }
        other => panic!("{value:?}: {other:?}"),
    }
}

#[test]
fn trust_domains_that_are_not_dns_names_are_refused() {
    let (long_label, long) = ("x".repeat(64), dotted(254));
    for value in [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "A.b",
        "a_b",
        "a b",
        "a/b",
        "-a",
        "a-",
        "ü",
        "a:1",
        "*.a",
        "svc",
        &long_label,
        &long,
        // Look like addresses.
        "::1",
        "fd00::1",
        "[fd00::1]",
        "2001:db8::",
        "::ffff:10.0.0.1",
        "10.0.0.1",
        "1.2",
        "mesh.7",
    ] {
        check_invalid(TrustDomain::new(value), IdentityField::TrustDomain, value);
    }
    for value in ["cluster.local", "a", "1a", "7.mesh", "a--b"] {
        assert_eq!(TrustDomain::new(value).unwrap().as_str(), value);
    }
}

#[test]
fn namespaces_service_accounts_services_and_nodes_are_checked() {
    let domain = trust_domain;
    let long_label = "x".repeat(64);
    for value in ["", "a.b", "A", "-a", "a-", "::1", "fd00::1", "a/b", &long_label] {
        check_invalid(WorkloadIdentity::new(domain(), value, "sa"), IdentityField::Namespace, value);
        check_invalid(ControlPlaneIdentity::new(domain(), value, "svc"), IdentityField::Namespace, value);
        check_invalid(ControlPlaneIdentity::new(domain(), "ns", value), IdentityField::Service, value);
    }
    let long = dotted(254);
    for value in ["", ".a", "a.", "a..b", "A", "::1", "fd00::1", "10.0.0.1", "a/proxy/b", "a%2fb", &long_label, &long] {
        check_invalid(WorkloadIdentity::new(domain(), "ns", value), IdentityField::ServiceAccount, value);
    }
    let long = "x".repeat(301);
    for value in ["", ".", "..", "a/b", "a b", "a%41", "fd00::1", "~", "\u{fc}", &long] {
        let workload = support::workload_identity("ns", "sa");
        check_invalid(ProxyIdentity::new(workload, value), IdentityField::Node, value);
    }
}

#[test]
fn uris_of_other_shapes_are_refused() {
    for text in [
        "https://mesh.example/ns/a/sa/b",
        "SPIFFE://mesh.example/ns/a/sa/b",
        "spiffe:/mesh.example/ns/a/sa/b",
        "spiffe://mesh.example",
        "spiffe://mesh.example/",
        "spiffe://mesh.example/ns/a/sa",
        "spiffe://mesh.example/ns/a/sa/",
        "spiffe://mesh.example/ns/a/sa/b/",
        "spiffe://mesh.example//ns/a/sa/b",
        "spiffe://mesh.example/ns/a/sa/b/proxy",
        "spiffe://mesh.example/ns/a/sa/b/proxy/",
        "spiffe://mesh.example/ns/a/sa/b/proxy/c/d",
        "spiffe://mesh.example/ns/a/control-plane/",
        "spiffe://mesh.example/ns/a/gateway/b",
        "spiffe://mesh.example/ingress-gateway/a/b",
        "spiffe://mesh.example/NS/a/sa/b",
        "spiffe://mesh.example/a/b",
        "spiffe://mesh.example:443/ns/a/sa/b",
        "spiffe://user@mesh.example/ns/a/sa/b",
        "spiffe://Mesh.example/ns/a/sa/b",
        "spiffe://[fd00::1]/ns/a/sa/b",
        "spiffe://mesh.example/ns/a/sa/b?x=y",
        "spiffe://mesh.example/ns/a/sa/b#x",
        "spiffe://mesh.example/ns/a/sa/../sa/b",
        "spiffe://mesh.example/ns/a/sa/%62",
        "",
    ] {
        assert!(PeerIdentity::from_uri(text).is_err(), "{text:?}");
    }
}

#[test]
fn certificates_with_other_names_than_those_of_one_identity_are_refused() {
    let (mine, other) = (workload("bookstore", "bookstore"), workload("bookthief", "bookthief"));
    let names = names_of(&mine);
    assert_eq!(read(names.clone()).as_ref(), Ok(&mine));
    // The order of names carries no meaning.
    assert_eq!(read(names.iter().rev().cloned().collect()).as_ref(), Ok(&mine));

    assert_eq!(read(vec![]), Err(IdentityError::NoSubjectAlternativeNames));
    let both = [names_of(&mine), names_of(&other)].concat();
    assert_eq!(read(both), Err(IdentityError::UriCount { count: 2 }));
    assert_eq!(read(vec![dns("bookstore.bookstore.mesh.example")]), Err(IdentityError::UriCount { count: 0 }));
    let stranger = [names.clone(), vec![SanType::IpAddress([10, 0, 0, 1].into())]].concat();
    assert!(matches!(read(stranger), Err(IdentityError::UnexpectedName(_))));
    let mail = [names.clone(), vec![SanType::Rfc822Name("a@b".try_into().unwrap())]].concat();
    assert!(matches!(read(mail), Err(IdentityError::UnexpectedName(_))));
    for wrong_dns in [
        vec![],
        vec![dns("bookthief.bookthief.mesh.example")],
        vec![dns("BOOKSTORE.bookstore.mesh.example")],
        vec![dns("bookstore.bookstore.mesh.example"), dns("bookthief.bookthief.mesh.example")],
        vec![dns("bookstore.bookstore.mesh.example"), dns("bookstore.bookstore.mesh.example")],
        vec![dns("*.bookstore.mesh.example")],
    ] {
        let names = [wrong_dns, vec![uri(&mine.uri())]].concat();
        assert!(matches!(read(names.clone()), Err(IdentityError::DnsNames { .. })), "{names:?}");
    }
    let foreign = WorkloadIdentity::new(TrustDomain::new("other.example").unwrap(), "a", "b").unwrap();
    assert_eq!(
        read(names_of(&PeerIdentity::Workload(foreign))),
        Err(IdentityError::ForeignTrustDomain {
            found: "other.example".to_owned(),
            accepted: vec!["mesh.example".to_owned()],
        })
    );
    let der = certificate(names);
    assert!(PeerIdentity::from_certificate(&der, &[]).is_err(), "no trust domain accepted");
    for cut in [0, 1, der.len() / 2, der.len() - 1] {
        let result = PeerIdentity::from_certificate(&der[..cut], &[trust_domain()]);
        assert!(matches!(result, Err(IdentityError::Malformed(_))), "{cut}");
    }
    let longer = [der, vec![0]].concat();
    let result = PeerIdentity::from_certificate(&longer, &[trust_domain()]);
    assert!(matches!(result, Err(IdentityError::Malformed(_))));
}

#[test]
fn no_kind_of_certificate_passes_as_another() {
    // The names of one kind beside the URI of another, with everything equal that can be.
    let workload = workload("osm-system", "osm-controller");
    let proxy = support::proxy("osm-system", "osm-controller", "osm-controller");
    let control_plane = support::control_plane();
    let gateway = support::gateway(&["osm-controller.osm-system.mesh.example"]);
    let kinds = [&workload, &proxy, &control_plane, &gateway];
    for shape in [&workload, &proxy, &control_plane] {
        let others = kinds
            .into_iter()
            .filter(|other| *other != shape && other.subject_names().dns() != shape.subject_names().dns());
        for other in others {
            let dns_of_other = other.subject_names().dns().iter().map(|name| dns(name)).collect::<Vec<_>>();
            let names = [dns_of_other, vec![uri(&shape.uri())]].concat();
            assert!(read(names).is_err());
        }
        assert_eq!(read(names_of(shape)).as_ref(), Ok(shape));
    }
    // A gateway may have any DNS name, and is known by its URI.
    assert_eq!(read(names_of(&gateway)).as_ref(), Ok(&gateway));
    assert!(!gateway.uri().starts_with("spiffe://mesh.example/ns/"), "not where workloads are looked for");
}

#[test]
fn a_gateway_has_dns_names_that_can_be_in_a_certificate() {
    let new = |secret: &str, names: &[&str]| {
        IngressGatewayIdentity::new(trust_domain(), "ingress", secret, names.iter().copied())
    };
    new("gateway.tls", &["shop.example", "a"]).unwrap();
    for (secret, names) in [
        ("gateway", vec![]),
        ("gateway", vec![""]),
        ("gateway", vec!["*.example"]),
        ("gateway", vec!["Shop.example"]),
        ("gateway", vec!["spiffe://mesh.example/ns/a/sa/b"]),
        ("gateway", vec!["shop.example", "10.0.0.1"]),
        ("a/b", vec!["shop.example"]),
        ("", vec!["shop.example"]),
    ] {
        assert!(matches!(new(secret, &names), Err(IdentityError::InvalidName { .. })), "{secret} {names:?}");
    }
    let names = ["spiffe://mesh.example/ingress-gateway/ingress/gateway/more"].map(uri).to_vec();
    assert!(matches!(read(names), Err(IdentityError::UnknownShape { .. })));
    let nameless = ["spiffe://mesh.example/ingress-gateway/ingress/gateway"].map(uri).to_vec();
    assert!(matches!(read(nameless), Err(IdentityError::InvalidName { .. })));
}

fn label() -> impl Strategy<Value = String> {
    "[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?"
}

fn any_identity() -> impl Strategy<Value = PeerIdentity> {
    let domain =
        prop::collection::vec(label(), 0..3).prop_map(|labels| [labels, vec!["td".to_owned()]].concat().join("."));
    let account = prop::collection::vec(label(), 1..4).prop_map(|labels| labels.join("."));
    // A dotted number is refused as an address.
    let account = account.prop_filter("not an address", |name| name.parse::<std::net::IpAddr>().is_err());
    (domain, label(), account, "[A-Za-z0-9_.-]{3,20}[a-z]", 0..3).prop_map(
        |(domain, namespace, account, node, kind)| {
            let domain = TrustDomain::new(&domain).unwrap();
            match kind {
                0 => PeerIdentity::Workload(WorkloadIdentity::new(domain, &namespace, &account).unwrap()),
                1 => {
                    let workload = WorkloadIdentity::new(domain, &namespace, &account).unwrap();
                    PeerIdentity::Proxy(ProxyIdentity::new(workload, &node).unwrap())
                }
                _ => PeerIdentity::ControlPlane(ControlPlaneIdentity::new(domain, &namespace, &namespace).unwrap()),
            }
        },
    )
}

proptest! {
    #[test]
    fn a_uri_reads_back_to_the_identity_that_wrote_it(identity in any_identity()) {
        let read = PeerIdentity::from_uri(&identity.uri());
        prop_assert_eq!(read.as_ref(), Ok(&identity));
    }

    #[test]
    fn different_identities_share_no_name(one in any_identity(), other in any_identity()) {
        prop_assume!(one != other);
        prop_assert_ne!(one.uri(), other.uri());
        let (PeerIdentity::Workload(one), PeerIdentity::Workload(other)) = (one, other) else { return Ok(()) };
        prop_assert!(one.trust_domain() != other.trust_domain() || one.dns_name() != other.dns_name());
    }

    #[test]
    fn any_text_is_refused_or_written_back_unchanged(text in "(spiffe://)?[a-z./%~A]{0,12}(/ns/[a-z.]{0,4})?(/sa/[a-z./]{0,6})?(/proxy/[a-z.]{0,3})?") {
        if let Ok(identity) = PeerIdentity::from_uri(&text) {
            prop_assert_eq!(identity.uri(), text);
        }
    }
}
