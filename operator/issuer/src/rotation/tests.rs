//! Single situations, by name.

use std::collections::{BTreeMap, BTreeSet};

use time::{Duration, OffsetDateTime};

use super::*;

fn now() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::days(20_000)
}

fn name(name: &str) -> RootName {
    RootName::new("osm-system", name)
}

fn set(names: &[&str]) -> BTreeSet<RootName> {
    names.iter().map(|one| name(one)).collect()
}

fn root(role: Role, age: i64) -> Root {
    Root {
        role,
        created: now() - Duration::days(age),
        availability: Availability::Usable { not_before: now() - Duration::days(age) },
        standing: Standing::Good,
        waived: BTreeSet::new(),
    }
}

/// `a` is old, `b` new.
fn roots(a: Role, b: Role) -> Roots {
    Roots::from([(name("a"), root(a, 20)), (name("b"), root(b, 10))])
}

fn record(signing: &str, trusted: &[&str]) -> Record {
    Record { signing: Some(name(signing)), trusted: set(trusted) }
}

fn proxy(node: &str) -> Participant {
    Participant::Proxy(format!("shop/web/{node}").into())
}

fn evidence(holdings: &[(Participant, Holding)]) -> Evidence {
    let holdings = holdings.iter().map(|(participant, holding)| (participant.clone(), holding.clone().into()));
    Evidence { holdings: holdings.collect(), ..Evidence::default() }
}

fn holds(trusts: &[&str], shows: &[&str]) -> Holding {
    Holding::settled(set(trusts), set(shows))
}

fn ask(roots: &Roots, record: &Record, evidence: &Evidence) -> Plan {
    plan(roots, record, evidence, now())
}

#[test]
fn the_first_root_is_in_force_at_once() {
    let roots = Roots::from([(name("a"), root(Role::Active, 1))]);
    let plan = ask(&roots, &Record::default(), &Evidence::default());
    assert_eq!((plan.step, plan.record), (Some(Step::Begin), record("a", &["a"])));
    let plan = ask(&roots, &record("a", &["a"]), &Evidence::default());
    assert!(plan.is_complete());
    assert_eq!(plan.reports[&name("a")].state, RootState::Active);
}

#[test]
fn a_rotation_goes_through_osms_states() {
    use Role::{Active, Inactive, Passive};
    let state = |plan: &Plan, root: &str| plan.reports[&name(root)].state;
    // Passive: trusted at once, in rollout until everyone says so.
    let plan = ask(&roots(Active, Passive), &record("a", &["a"]), &evidence(&[(proxy("1"), holds(&["a"], &["a"]))]));
    assert_eq!(plan.step, Some(Step::Trust(name("b"))));
    let half = evidence(&[(proxy("1"), holds(&["a", "b"], &["a"])), (proxy("2"), holds(&["a"], &["a"]))]);
    let plan = ask(&roots(Active, Passive), &record("a", &["a", "b"]), &half);
    assert_eq!((state(&plan, "a"), state(&plan, "b")), (RootState::Active, RootState::ValidatingRollout));
    assert_eq!((plan.reports[&name("b")].acknowledged, plan.reports[&name("b")].targeted), (1, 2));
    // The new one is to sign: waits for the second proxy, and says so on both.
    let plan = ask(&roots(Passive, Active), &record("a", &["a", "b"]), &half);
    let wait = Wait::Trust { participant: proxy("2"), root: name("b") };
    assert_eq!(plan.step, None);
    assert_eq!(plan.reports[&name("a")].waits, std::slice::from_ref(&wait));
    assert_eq!(plan.reports[&name("b")].waits, std::slice::from_ref(&wait));
    assert_eq!(wait.to_string(), "proxy shop/web/2 does not trust osm-system/b yet");
    let both = evidence(&[(proxy("1"), holds(&["a", "b"], &["a"])), (proxy("2"), holds(&["a", "b"], &["a"]))]);
    let plan = ask(&roots(Passive, Active), &record("a", &["a", "b"]), &both);
    assert_eq!((plan.step, plan.record), (Some(Step::Sign(name("b"))), record("b", &["a", "b"])));
    // Certificates are replaced one after the other.
    let half = evidence(&[(proxy("1"), holds(&["a", "b"], &["b"])), (proxy("2"), holds(&["a", "b"], &["a"]))]);
    let plan = ask(&roots(Inactive, Active), &record("b", &["a", "b"]), &half);
    assert_eq!((state(&plan, "a"), state(&plan, "b")), (RootState::IssuingRollback, RootState::IssuingRollout));
    assert_eq!(plan.reports[&name("a")].waits, [Wait::Certificate { participant: proxy("2"), root: name("a") }]);
    let both = evidence(&[(proxy("1"), holds(&["a", "b"], &["b"])), (proxy("2"), holds(&["a", "b"], &["b"]))]);
    let plan = ask(&roots(Inactive, Active), &record("b", &["a", "b"]), &both);
    assert_eq!((plan.step, plan.record), (Some(Step::Retire(name("a"))), record("b", &["b"])));
    let half = evidence(&[(proxy("1"), holds(&["b"], &["b"])), (proxy("2"), holds(&["a", "b"], &["b"]))]);
    let plan = ask(&roots(Inactive, Active), &record("b", &["b"]), &half);
    assert_eq!((state(&plan, "a"), state(&plan, "b")), (RootState::ValidatingRollback, RootState::Active));
    let plan = ask(&roots(Inactive, Active), &record("b", &["b"]), &evidence(&[(proxy("1"), holds(&["b"], &["b"]))]));
    assert_eq!(state(&plan, "a"), RootState::Inactive);
    assert!(plan.is_complete());
}

#[test]
fn everyone_else_is_waited_for_as_proxies_are() {
    let roots = roots(Role::Passive, Role::Active);
    for participant in [Participant::TrustBundles, Participant::Webhooks, Participant::IngressGateway] {
        let plan = ask(&roots, &record("a", &["a", "b"]), &evidence(&[(participant.clone(), holds(&["a"], &[]))]));
        assert_eq!(plan.step, None, "{participant}");
    }
    let retiring = self::roots(Role::Inactive, Role::Active);
    let server = Participant::ControlPlane("osm-controller-1".into());
    let plan = ask(&retiring, &record("b", &["a", "b"]), &evidence(&[(server.clone(), holds(&["a", "b"], &["a"]))]));
    assert_eq!(plan.reports[&name("a")].waits, [Wait::Certificate { participant: server, root: name("a") }]);
}

#[test]
fn who_is_unknown_holds_every_step_until_it_is_waived() {
    let mut roots = roots(Role::Passive, Role::Active);
    let silent = evidence(&[(proxy("1"), Holding::Unknown), (proxy("2"), holds(&["a", "b"], &["a"]))]);
    assert_eq!(ask(&roots, &record("a", &["a", "b"]), &silent).step, None);
    roots.get_mut(&name("b")).unwrap().waived.insert("shop/web/1".into());
    assert_eq!(ask(&roots, &record("a", &["a", "b"]), &silent).step, Some(Step::Sign(name("b"))));
    // A waiver is for that proxy alone.
    let both = evidence(&[(proxy("1"), Holding::Unknown), (proxy("2"), Holding::Unknown)]);
    assert_eq!(ask(&roots, &record("a", &["a", "b"]), &both).step, None);
}

#[test]
fn who_was_there_a_moment_ago_is_waited_for_until_the_time_is_over() {
    let roots = roots(Role::Passive, Role::Active);
    let mut evidence = evidence(&[(proxy("1"), holds(&["a", "b"], &["a"]))]);
    let until = now() + Duration::seconds(30);
    evidence.absent = Some(Absent { count: 2, names: vec!["shop/web/2".into()], until });
    let held = ask(&roots, &record("a", &["a", "b"]), &evidence);
    assert_eq!(held.step, None);
    let wait = held.reports[&name("b")].waits[0].to_string();
    assert!(wait.starts_with("2 proxies (shop/web/2) are expected back until 2024-10-04T00:00:30Z"), "{wait}");
    assert_eq!(plan(&roots, &record("a", &["a", "b"]), &evidence, until).step, Some(Step::Sign(name("b"))));
}

#[test]
fn a_leaf_in_use_and_a_root_that_is_not_valid_yet_hold_their_steps() {
    let mut retiring = evidence(&[(proxy("1"), holds(&["a", "b"], &["b"]))]);
    let until = now() + Duration::hours(3);
    retiring.leaves.insert(name("a"), until);
    let inactive = roots(Role::Inactive, Role::Active);
    let held = ask(&inactive, &record("b", &["a", "b"]), &retiring);
    assert_eq!(held.reports[&name("a")].waits, [Wait::Leaf { root: name("a"), until }]);
    assert_eq!(plan(&inactive, &record("b", &["a", "b"]), &retiring, until).step, Some(Step::Retire(name("a"))));

    let mut roots = roots(Role::Passive, Role::Active);
    let from = now() + Duration::minutes(4);
    roots.get_mut(&name("b")).unwrap().availability = Availability::Usable { not_before: from };
    let held = ask(&roots, &record("a", &["a", "b"]), &Evidence::default());
    assert_eq!(held.reports[&name("b")].waits, [Wait::Validity { root: name("b"), from }]);
    assert_eq!(plan(&roots, &record("a", &["a", "b"]), &Evidence::default(), from).step, Some(Step::Sign(name("b"))));
}

#[test]
fn a_root_stays_while_a_proxy_reaches_the_control_plane_with_its_certificate() {
    let (trusts, shows) = (set(&["a", "b"]), set(&["b"]));
    let connected_with = set(&["a"]);
    let holding = Holding::Known { may_trust: trusts.clone(), trusts, may_show: shows, connected_with };
    let plan =
        ask(&roots(Role::Inactive, Role::Active), &record("b", &["a", "b"]), &evidence(&[(proxy("1"), holding)]));
    assert_eq!(plan.step, None);
    let wait = plan.reports[&name("a")].waits[0].to_string();
    assert_eq!(wait, "proxy shop/web/1 still uses a certificate of osm-system/a");
    // Its peers see the new one already.
    assert_eq!(plan.reports[&name("b")].state, RootState::Active);
}

#[test]
fn a_root_that_cannot_be_used_never_takes_the_place_of_one_that_can() {
    let mut roots = roots(Role::Passive, Role::Active);
    roots.get_mut(&name("b")).unwrap().availability = Availability::Unusable;
    let held = ask(&roots, &record("a", &["a"]), &Evidence::default());
    assert_eq!((held.step, held.record), (None, record("a", &["a"])));
    assert_eq!(held.reports[&name("b")].state, RootState::Error);
    assert_eq!(held.reports[&name("b")].waits, [Wait::Provider { root: name("b") }]);
    // One that breaks while it is in force stays in force.
    let mut roots = self::roots(Role::Active, Role::Passive);
    roots.get_mut(&name("a")).unwrap().availability = Availability::Unusable;
    let held = ask(&roots, &record("a", &["a", "b"]), &Evidence::default());
    assert_eq!((held.step, held.record), (None, record("a", &["a", "b"])));
}

#[test]
fn wrong_roles_hold_everything_and_say_why() {
    let mut three = roots(Role::Passive, Role::Active);
    three.insert(name("c"), root(Role::Passive, 1));
    let everyone = evidence(&[(proxy("1"), holds(&["a", "b"], &["a"]))]);
    let held = ask(&three, &record("a", &["a", "b"]), &everyone);
    assert_eq!((held.step, held.record), (None, record("a", &["a", "b"])));
    let error = held.roles.unwrap_err();
    assert_eq!(error, InadmissibleRoles::TooMany(vec![name("a"), name("b"), name("c")]));
    let none = roots(Role::Inactive, Role::Inactive);
    let held = ask(&none, &record("a", &["a", "b"]), &everyone);
    assert_eq!((held.step, held.roles), (None, Err(InadmissibleRoles::NoneActive)));
}

#[test]
fn of_two_active_roots_the_one_that_signs_goes_on() {
    let everyone = evidence(&[(proxy("1"), holds(&["a", "b"], &["b"]))]);
    for signing in ["a", "b"] {
        let plan = ask(&roots(Role::Active, Role::Active), &record(signing, &["a", "b"]), &everyone);
        assert_eq!(plan.step, None, "{signing}");
    }
}

#[test]
fn a_compromised_root_goes_at_once_and_another_signs() {
    let mut roots = roots(Role::Active, Role::Passive);
    roots.get_mut(&name("a")).unwrap().standing = Standing::Compromised;
    // Nobody trusts the other yet: traffic breaks, as whoever asked for it was told.
    let everyone = evidence(&[(proxy("1"), holds(&["a"], &["a"])), (proxy("2"), Holding::Unknown)]);
    let plan = ask(&roots, &record("a", &["a"]), &everyone);
    assert_eq!((plan.step, plan.record), (Some(Step::Remove(name("a"))), record("b", &["b"])));
    // It does not come back whatever its role is.
    let plan = ask(&roots, &record("b", &["b"]), &everyone);
    assert_eq!((plan.step.clone(), &plan.record), (None, &record("b", &["b"])));
    assert!(plan.is_complete(), "{plan:?}");
    // The only root cannot go.
    let mut alone = Roots::from([(name("a"), root(Role::Active, 1))]);
    alone.get_mut(&name("a")).unwrap().standing = Standing::Compromised;
    let plan = ask(&alone, &record("a", &["a"]), &everyone);
    assert_eq!(plan.step, None);
    assert_eq!(plan.reports[&name("a")].waits, [Wait::Successor { root: name("a") }]);
}

#[test]
fn osms_rules_for_roles() {
    use Role::{Active, Inactive, Passive};
    let roles = |roles: &[(&str, Role)]| -> BTreeMap<RootName, Role> {
        roles.iter().map(|(one, role)| (name(one), *role)).collect()
    };
    let create = |before: &[(&str, Role)], role| admissible(&roles(before), &RoleChange::Create(name("new"), role));
    let update =
        |before: &[(&str, Role)], of: &str, role| admissible(&roles(before), &RoleChange::Update(name(of), role));
    assert_eq!(create(&[], Active), Ok(()));
    assert_eq!(create(&[("a", Active)], Passive), Ok(()));
    assert_eq!(create(&[("a", Active), ("b", Passive)], Inactive), Ok(()));
    assert!(matches!(create(&[("a", Active)], Active), Err(InadmissibleRoles::RoleTaken { .. })));
    assert!(matches!(create(&[("a", Active), ("b", Active)], Passive), Err(InadmissibleRoles::TooMany(_))));
    assert_eq!(update(&[("a", Active), ("b", Passive)], "b", Active), Ok(()));
    assert_eq!(update(&[("a", Active), ("b", Active)], "a", Passive), Ok(()));
    assert_eq!(update(&[("a", Passive), ("b", Active)], "a", Inactive), Ok(()));
    assert_eq!(update(&[("a", Inactive), ("b", Active)], "a", Passive), Ok(()));
    assert!(matches!(update(&[("a", Active)], "a", Passive), Err(InadmissibleRoles::NoneActive)));
    assert!(matches!(
        update(&[("a", Active), ("b", Passive)], "a", Passive),
        Err(InadmissibleRoles::BothPassive { .. })
    ));
    assert!(matches!(
        update(&[("a", Active), ("b", Active)], "a", Inactive),
        Err(InadmissibleRoles::SkipsPassive { from: "active", to: "inactive", .. })
    ));
    assert!(matches!(
        update(&[("a", Inactive), ("b", Active)], "a", Active),
        Err(InadmissibleRoles::SkipsPassive { from: "inactive", to: "active", .. })
    ));
    assert!(matches!(
        update(&[("a", Active), ("b", Passive), ("c", Inactive)], "c", Passive),
        Err(InadmissibleRoles::TooMany(_))
    ));
    // Other fields can be mended while roles are wrong.
    assert_eq!(update(&[("a", Passive), ("b", Passive)], "a", Passive), Ok(()));
}

#[test]
fn what_may_be_on_its_way_is_all_that_came_after_the_acknowledged() {
    let mut history = History::default();
    history.publish(3, 'a');
    history.publish(5, 'b');
    history.publish(6, 'b');
    history.publish(9, 'a');
    let held = |history: &History<char>, epoch| Some(history.held_since(epoch)?.collect::<String>());
    assert_eq!(held(&history, 2), None);
    assert_eq!(held(&history, 4).as_deref(), Some("aba"));
    assert_eq!(held(&history, 8).as_deref(), Some("ba"));
    assert_eq!(held(&history, 9).as_deref(), Some("a"));
    history.forget_before(8);
    assert_eq!((history.len(), held(&history, 4), held(&history, 8).as_deref()), (2, None, Some("ba")));
    assert_eq!((history.current(), history.is_empty()), (Some(&'a'), false));
}
