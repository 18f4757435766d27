//! The plan against a mesh that delivers, acknowledges, disconnects and restarts as it likes: nobody ever shows a
//! certificate to somebody who does not trust its root, and every rotation ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use time::OffsetDateTime;

use super::*;

const ROOTS: [&str; 3] = ["a", "b", "c"];

fn name(index: usize) -> RootName {
    RootName::new("osm-system", ROOTS[index])
}

/// One proxy, as it is and as the control plane knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Proxy {
    connection: Connection,
    trusts: BTreeSet<RootName>,
    shows: RootName,
    /// Sent and not taken over yet.
    bundles: VecDeque<(u64, BTreeSet<RootName>)>,
    certificates: VecDeque<(u64, RootName)>,
    /// Up to which epoch it has taken over everything, and told so.
    applied: u64,
    acknowledged: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Connection {
    /// Everyone's requests reach it, and its reach everyone.
    Open,
    /// As above; it has lost the control plane and is expected back.
    Lost,
    /// It is not waited for any more, and what it can do is its own business until it is back and in step.
    GivenUp,
    /// It is back, but has not caught up.
    CatchingUp,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    roles: Vec<Option<Role>>,
    /// Survives a restart, as do proxies and files.
    record: Record,
    proxies: Vec<Proxy>,
    files: BTreeSet<RootName>,
    /// Whether the files hold what the record says.
    files_settled: bool,
    epoch: u64,
    /// Of the process: what was published, by epoch.
    bundles: Vec<(u64, BTreeSet<RootName>)>,
    certificates: Vec<(u64, RootName)>,
}

#[derive(Debug, Clone, Copy)]
enum Action {
    SetRole(usize, Option<Role>),
    Bundle(usize),
    Certificate(usize),
    Acknowledge(usize),
    Disconnect(usize),
    GiveUp(usize),
    Reconnect(usize),
    SettleFiles,
    Plan,
    Restart,
}

impl World {
    fn new(proxies: usize) -> Self {
        let mut world = Self {
            roles: vec![Some(Role::Active), None, None],
            record: Record::default(),
            proxies: Vec::new(),
            files: BTreeSet::new(),
            files_settled: true,
            epoch: 0,
            bundles: Vec::new(),
            certificates: Vec::new(),
        };
        world.record = Record::initial(&world.roots());
        world.files = world.record.trusted.clone();
        world.publish();
        world.proxies = (0..proxies).map(|_| world.fresh_proxy()).collect();
        world
    }

    fn fresh_proxy(&self) -> Proxy {
        Proxy {
            connection: Connection::Open,
            trusts: self.record.trusted.clone(),
            shows: self.record.signing.clone().unwrap(),
            bundles: VecDeque::new(),
            certificates: VecDeque::new(),
            applied: self.epoch,
            acknowledged: Some(self.epoch),
        }
    }

    fn roots(&self) -> Roots {
        let at = |seconds: usize| OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds as i64);
        let mut roots = Roots::new();
        for (index, role) in self.roles.iter().enumerate() {
            // An object that is deleted while it is in force is inactive.
            let in_force = self.record.trusted.contains(&name(index));
            let role = role.or(in_force.then_some(Role::Inactive));
            let Some(role) = role else { continue };
            let availability = Availability::Usable { not_before: at(0) };
            let root =
                Root { role, created: at(index), availability, standing: Standing::Good, waived: BTreeSet::new() };
            roots.insert(name(index), root);
        }
        roots
    }

    fn publish(&mut self) {
        self.epoch += 1;
        let signing = self.record.signing.clone().unwrap();
        if self.bundles.last().map(|(_, bundle)| bundle) != Some(&self.record.trusted) {
            self.bundles.push((self.epoch, self.record.trusted.clone()));
            let message = (self.epoch, self.record.trusted.clone());
            self.connected().for_each(|proxy| proxy.bundles.push_back(message.clone()));
            self.files_settled = false;
        }
        if self.certificates.last().map(|(_, root)| root) != Some(&signing) {
            self.certificates.push((self.epoch, signing.clone()));
            let message = (self.epoch, signing);
            self.connected().for_each(|proxy| proxy.certificates.push_back(message.clone()));
        }
    }

    fn connected(&mut self) -> impl Iterator<Item = &mut Proxy> {
        let connected = |proxy: &&mut Proxy| matches!(proxy.connection, Connection::Open | Connection::CatchingUp);
        self.proxies.iter_mut().filter(connected)
    }

    /// What the control plane knows, as the operator gathers it.
    fn evidence(&self) -> Evidence {
        let mut evidence = Evidence::default();
        let (mut bundles, mut certificates) = (History::default(), History::default());
        self.bundles.iter().for_each(|(epoch, bundle)| bundles.publish(*epoch, bundle.clone()));
        self.certificates.iter().for_each(|(epoch, root)| certificates.publish(*epoch, root.clone()));
        for (index, proxy) in self.proxies.iter().enumerate() {
            let participant = Participant::Proxy(Arc::from(format!("shop/web/{index}")));
            match proxy.connection {
                Connection::GivenUp => {}
                Connection::Lost => {
                    let until = OffsetDateTime::UNIX_EPOCH + time::Duration::days(1);
                    let absent = evidence.absent.get_or_insert(Absent { count: 0, names: Vec::new(), until });
                    absent.count += 1;
                }
                Connection::Open | Connection::CatchingUp => {
                    let holding = Self::holding(proxy.acknowledged, &bundles, &certificates);
                    evidence.holdings.insert(participant, holding.into());
                }
            }
        }
        let files = if self.files_settled {
            self.record.trusted.clone()
        } else {
            self.files.intersection(&self.record.trusted).cloned().collect()
        };
        evidence.holdings.insert(Participant::TrustBundles, Holding::settled(files, BTreeSet::new()).into());
        let server = BTreeSet::from([self.record.signing.clone().unwrap()]);
        let server = Holding::settled(self.record.trusted.clone(), server);
        evidence.holdings.insert(Participant::ControlPlane("0".into()), server.into());
        evidence
    }

    fn holding(
        acknowledged: Option<u64>,
        bundles: &History<BTreeSet<RootName>>,
        certificates: &History<RootName>,
    ) -> Holding {
        let held = acknowledged.and_then(|epoch| Some((bundles.held_since(epoch)?, certificates.held_since(epoch)?)));
        let Some((bundles, shown)) = held else { return Holding::Unknown };
        let bundles: Vec<&BTreeSet<RootName>> = bundles.collect();
        let may_trust: BTreeSet<RootName> = bundles.iter().flat_map(|bundle| bundle.iter().cloned()).collect();
        let everywhere = |root: &&RootName| bundles.iter().all(|bundle| bundle.contains(*root));
        let trusts = may_trust.iter().filter(everywhere).cloned().collect();
        let connected_with = BTreeSet::new();
        Holding::Known { trusts, may_trust, may_show: shown.cloned().collect(), connected_with }
    }

    fn plan(&self) -> Plan {
        plan(&self.roots(), &self.record, &self.evidence(), OffsetDateTime::UNIX_EPOCH)
    }

    /// Whether anything came of it.
    fn act(&mut self, action: Action) -> bool {
        let before = self.clone();
        match action {
            Action::SetRole(root, role) => self.roles[root] = role,
            Action::Bundle(index) => {
                if let Some((_, bundle)) = self.proxies[index].bundles.pop_front() {
                    self.proxies[index].trusts = bundle;
                }
            }
            Action::Certificate(index) => {
                if let Some((_, root)) = self.proxies[index].certificates.pop_front() {
                    self.proxies[index].shows = root;
                }
            }
            Action::Acknowledge(index) => self.acknowledge(index),
            Action::Disconnect(index) => {
                let proxy = &mut self.proxies[index];
                if matches!(proxy.connection, Connection::Open) {
                    proxy.connection = Connection::Lost;
                }
                if matches!(proxy.connection, Connection::CatchingUp) {
                    proxy.connection = Connection::GivenUp;
                }
                proxy.bundles.clear();
                proxy.certificates.clear();
                proxy.acknowledged = None;
            }
            Action::GiveUp(index) => {
                let proxy = &mut self.proxies[index];
                if proxy.connection == Connection::Lost {
                    proxy.connection = Connection::GivenUp;
                }
            }
            Action::Reconnect(index) => self.reconnect(index),
            Action::SettleFiles => {
                self.files = self.record.trusted.clone();
                self.files_settled = true;
            }
            Action::Plan => {
                let plan = self.plan();
                if plan.step.is_some() {
                    self.record = plan.record;
                    self.publish();
                }
            }
            Action::Restart => {
                for index in 0..self.proxies.len() {
                    self.act(Action::Disconnect(index));
                }
                (self.bundles, self.certificates) = (Vec::new(), Vec::new());
                self.publish();
                // What the files held before is not known any more.
                self.files_settled = false;
            }
        }
        *self != before
    }

    fn acknowledge(&mut self, index: usize) {
        let epoch = self.epoch;
        let proxy = &mut self.proxies[index];
        if !matches!(proxy.connection, Connection::Open | Connection::CatchingUp) {
            return;
        }
        // Everything before the oldest message that it has not taken over.
        let pending = [proxy.bundles.front().map(|sent| sent.0), proxy.certificates.front().map(|sent| sent.0)];
        let applied = pending.into_iter().flatten().min().map_or(epoch, |oldest| oldest - 1);
        // While catching up it has acknowledged nothing of this stream before the first messages.
        if proxy.bundles.is_empty() && proxy.certificates.is_empty() || proxy.acknowledged.is_some() {
            proxy.applied = applied;
            proxy.acknowledged = Some(applied);
        }
        if proxy.acknowledged == Some(epoch) {
            proxy.connection = Connection::Open;
        }
    }

    fn reconnect(&mut self, index: usize) {
        let bundle = self.bundles.last().cloned().unwrap();
        let certificate = self.certificates.last().cloned().unwrap();
        let proxy = &mut self.proxies[index];
        match proxy.connection {
            Connection::Open | Connection::CatchingUp => return,
            // In step with the others as far as anybody knows, and counted as such.
            Connection::Lost => proxy.connection = Connection::Open,
            Connection::GivenUp => proxy.connection = Connection::CatchingUp,
        }
        proxy.acknowledged = None;
        proxy.bundles.push_back(bundle);
        proxy.certificates.push_back(certificate);
    }

    /// Whoever takes part verifies whoever takes part.
    fn check(&self) {
        let taking_part =
            || self.proxies.iter().filter(|proxy| matches!(proxy.connection, Connection::Open | Connection::Lost));
        for client in taking_part() {
            for server in taking_part() {
                assert!(client.trusts.contains(&server.shows), "{client:?}\ndoes not trust\n{server:?}\n{self:#?}");
            }
        }
        let signing = self.record.signing.as_ref().unwrap();
        assert!(self.record.trusted.contains(signing), "{self:#?}");
        assert!(self.files.contains(signing), "proxies could not verify the control plane: {self:#?}");
    }

    /// How many steps are left to what the roles say.
    fn distance(&self) -> usize {
        let wanted: BTreeSet<RootName> = (0..ROOTS.len())
            .filter(|index| matches!(self.roles[*index], Some(Role::Active | Role::Passive)))
            .map(name)
            .collect();
        let active = (0..ROOTS.len()).filter(|index| self.roles[*index] == Some(Role::Active)).map(name);
        let signs = active.into_iter().any(|root| self.record.signing == Some(root));
        wanted.symmetric_difference(&self.record.trusted).count() + usize::from(!signs)
    }

    /// Lets everything that is under way come to its end; at most one step after the other.
    fn settle(&mut self) {
        let mut steps = 0;
        loop {
            for index in 0..self.proxies.len() {
                self.act(Action::Reconnect(index));
                while self.act(Action::Bundle(index)) {}
                while self.act(Action::Certificate(index)) {}
                self.act(Action::Acknowledge(index));
            }
            self.act(Action::SettleFiles);
            self.check();
            let before = self.distance();
            if !self.act(Action::Plan) {
                break;
            }
            assert!(self.distance() < before, "a step leads nowhere: {self:#?}");
            steps += 1;
            assert!(steps <= 2 * ROOTS.len() + 1, "it does not end: {self:#?}");
        }
        assert_eq!(self.distance(), 0, "{:#?}\n{self:#?}", self.plan());
        assert!(self.plan().is_complete(), "{:#?}\n{self:#?}", self.plan());
        for proxy in &self.proxies {
            assert_eq!((&proxy.trusts, Some(&proxy.shows)), (&self.record.trusted, self.record.signing.as_ref()));
        }
        for (name, root) in self.plan().reports {
            let expected = match self.roles.iter().zip(ROOTS).find(|(_, known)| *known == name.name()).unwrap().0 {
                Some(Role::Active) if self.record.signing.as_ref() == Some(&name) => RootState::Active,
                Some(Role::Active | Role::Passive) => RootState::ValidatingRollout,
                Some(Role::Inactive) | None => RootState::Inactive,
            };
            assert_eq!(root.state, expected, "{name}: {self:#?}");
            assert_eq!((root.acknowledged, root.targeted), (self.proxies.len(), self.proxies.len()));
        }
    }
}

fn action(proxies: usize) -> impl Strategy<Value = Action> {
    let role = prop_oneof![Just(None), Just(Some(Role::Active)), Just(Some(Role::Passive)), Just(Some(Role::Inactive))];
    prop_oneof![
        3 => (0..ROOTS.len(), role).prop_map(|(root, role)| Action::SetRole(root, role)),
        4 => (0..proxies).prop_map(Action::Bundle),
        4 => (0..proxies).prop_map(Action::Certificate),
        6 => (0..proxies).prop_map(Action::Acknowledge),
        1 => (0..proxies).prop_map(Action::Disconnect),
        1 => (0..proxies).prop_map(Action::GiveUp),
        2 => (0..proxies).prop_map(Action::Reconnect),
        3 => Just(Action::SettleFiles),
        6 => Just(Action::Plan),
        1 => Just(Action::Restart),
    ]
}

/// Roles that are a step of a rotation.
fn roles() -> impl Strategy<Value = Vec<Option<Role>>> {
    let role =
        || prop_oneof![Just(None), Just(Some(Role::Active)), Just(Some(Role::Passive)), Just(Some(Role::Inactive))];
    proptest::collection::vec(role(), ROOTS.len()).prop_filter("no step of a rotation", |roles| {
        let by_name: BTreeMap<RootName, Role> =
            roles.iter().enumerate().filter_map(|(index, role)| Some((name(index), (*role)?))).collect();
        check_roles(&by_name).is_ok()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Whatever is edited, delivered, lost and restarted in whatever order.
    #[test]
    fn nobody_meets_a_certificate_that_it_does_not_trust_and_every_rotation_ends(
        actions in proptest::collection::vec(action(3), 1..120),
        last in roles(),
    ) {
        let mut world = World::new(3);
        for action in actions {
            world.act(action);
            world.check();
        }
        world.roles = last;
        world.settle();
    }
}

/// Every interleaving of deliveries, acknowledgements, steps and edits of a whole rotation and back, for two proxies.
#[test]
fn every_interleaving_of_a_rotation_is_safe() {
    use Role::{Active, Inactive, Passive};
    let script: [[Option<Role>; 3]; 9] = [
        [Some(Active), Some(Passive), None],
        [Some(Active), Some(Active), None],
        [Some(Passive), Some(Active), None],
        // Back before it has come far, or after it has.
        [Some(Active), Some(Passive), None],
        [Some(Passive), Some(Active), None],
        [Some(Inactive), Some(Active), None],
        // Once more the first, while some were told already not to trust it.
        [Some(Passive), Some(Active), None],
        [Some(Active), Some(Passive), None],
        [Some(Active), Some(Inactive), None],
    ];
    let mut seen: BTreeSet<(usize, World)> = BTreeSet::new();
    let mut open = vec![(0, World::new(2))];
    let mut ends = 0;
    while let Some((position, world)) = open.pop() {
        if !seen.insert((position, world.clone())) {
            continue;
        }
        let mut moved = false;
        let mut actions: Vec<Action> = vec![Action::Plan];
        for index in 0..world.proxies.len() {
            actions.extend([Action::Bundle(index), Action::Certificate(index)]);
            // An acknowledgement is always for the newest that was taken over; earlier ones say less.
            actions.push(Action::Acknowledge(index));
        }
        if !world.files_settled {
            actions.push(Action::SettleFiles);
        }
        for action in actions {
            let mut next = world.clone();
            if next.act(action) {
                next.check();
                moved = true;
                open.push((position, next));
            }
        }
        if let Some(roles) = script.get(position) {
            let mut next = world.clone();
            next.roles = roles.to_vec();
            // Edits while messages are under way, but not arbitrarily many: the plan is asked once between two.
            next.act(Action::Plan);
            next.check();
            moved = true;
            open.push((position + 1, next));
        }
        if !moved {
            ends += 1;
            assert_eq!(world.record.signing, Some(name(0)));
            assert_eq!(world.record.trusted, BTreeSet::from([name(0)]));
        }
    }
    assert!(ends > 0 && seen.len() > 1_000, "{ends} ends of {} states", seen.len());
}
