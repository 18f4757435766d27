//! The redirect rules against a real kernel: who ends up at the proxy, and who does not.
//!
//! The "proxy" is an application that says which of its ports it was reached on, run as the proxy's user.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use osm_intercept::{
    InterceptConfig, InterceptError, IpRanges, Ipv6Outcome, LocalProxyMode, NetworkNamespace, Port, rules,
};
use osm_testkit::apps::{ControlClient, Target, TryRequest};
use osm_testkit::{APPLICATION_UID, Fabric, PROXY_UID, Pod, Process, ProcessSpec, Uid, sandbox, sandbox_test};

const LIMIT: Duration = Duration::from_secs(20);

/// An application of ours in a pod, as a given user.
struct Running {
    control: ControlClient,
    _process: Process,
}

async fn run(pod: &Pod, uid: Uid, name: &str, arguments: &[&str]) -> Result<Running> {
    let socket = pod.directory(name, uid)?.join("control.sock");
    let program = sandbox::install_program(Path::new(env!("CARGO_BIN_EXE_osm-bookstore")))?;
    let spec = ProcessSpec::new(format!("{}-{name}", pod.name()), program)
        .arguments(arguments)
        .arguments(["--control".into(), socket.as_os_str().to_owned()])
        .uid(uid);
    let process = pod.spawn(&spec)?;
    let control = ControlClient::new(socket);
    control.ready(LIMIT).await.with_context(|| process.log())?;
    Ok(Running { control, _process: process })
}

async fn echo(pod: &Pod, uid: Uid, name: &str, listen: &str) -> Result<Running> {
    run(pod, uid, name, &["tcp-echo", "--listen", listen, "--name", name]).await
}

/// Who answers on `address`: the echo's name, or the kind of failure.
async fn who(client: &Running, address: SocketAddr) -> Result<String> {
    let target = Target::Tcp { address: address.to_string(), greeting: false, send: "x".to_owned() };
    let report = client.control.attempt(&TryRequest::new(target, 1)).await?;
    if let Some((kind, _)) = report.failures.first_key_value() {
        return Ok(format!("{kind:?}"));
    }
    let answer = report.last_body.split_once(": ").context("an answer of an echo")?;
    Ok(answer.0.to_owned())
}

/// A pod with a proxy that accepts both directions and an application, another pod with a server, and clients.
struct Scene {
    pod: Pod,
    other: Pod,
    application: Running,
    proxy: Running,
    outsider: Running,
    _echoes: Vec<Running>,
}

async fn scene() -> Result<Scene> {
    let fabric = Fabric::create().await?;
    let pod = fabric.add_pod("meshed").await?;
    let other = fabric.add_pod("other").await?;
    let echoes = vec![
        echo(&pod, PROXY_UID, "outbound", "[::]:15001").await?,
        echo(&pod, PROXY_UID, "inbound", "[::]:15003").await?,
        echo(&pod, PROXY_UID, "metrics", "[::]:15010").await?,
        echo(&pod, APPLICATION_UID, "local", "[::]:8080").await?,
        echo(&other, APPLICATION_UID, "remote", "[::]:8080").await?,
        echo(&other, APPLICATION_UID, "remote-2", "[::]:8081").await?,
    ];
    let application = run(&pod, APPLICATION_UID, "client", &["client"]).await?;
    let proxy = run(&pod, PROXY_UID, "proxy-client", &["client"]).await?;
    let outsider = run(&other, APPLICATION_UID, "outsider", &["client"]).await?;
    Ok(Scene { pod, other, application, proxy, outsider, _echoes: echoes })
}

impl Scene {
    fn families(&self) -> [(IpAddr, IpAddr, IpAddr); 2] {
        [
            (self.pod.ipv4().into(), self.other.ipv4().into(), "127.0.0.1".parse().expect("an address")),
            (self.pod.ipv6().into(), self.other.ipv6().into(), "::1".parse().expect("an address")),
        ]
    }

    async fn expect(&self, client: &Running, ip: IpAddr, port: u16, expected: &str) -> Result<()> {
        let address = SocketAddr::new(ip, port);
        let answered = who(client, address).await?;
        ensure!(answered == expected, "{address}: expected {expected}, but it was {answered}");
        Ok(())
    }
}

fn port(number: u16) -> Port {
    Port::try_from(number).expect("a port")
}

/// The packet filter's rules, without comments and counters.
async fn saved(pod: &Pod) -> Result<String> {
    let mut text = String::new();
    for program in ["iptables-save", "ip6tables-save"] {
        let output = pod.run(&ProcessSpec::new(program, program), LIMIT).await?;
        ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.starts_with('#')) {
            text.push_str(line.split(" [").next().unwrap_or(line));
            text.push('\n');
        }
    }
    Ok(text)
}

sandbox_test! {
    /// Every line of the table of rules, for IPv4 and IPv6.
    async fn who_is_redirected_and_who_is_not() -> Result<()> {
        let scene = scene().await?;
        for (own, other, _) in scene.families() {
            scene.expect(&scene.application, other, 8080, "remote").await?;
            scene.expect(&scene.outsider, own, 8080, "local").await?;
        }
        let applied = scene.pod.intercept(&InterceptConfig::default())?;
        ensure!(applied.ipv6 == Ipv6Outcome::Applied, "{applied}");
        for (own, other, loopback) in scene.families() {
            scene.expect(&scene.application, other, 8080, "outbound").await?;
            // Whether anybody listens there is the proxy's to find out.
            scene.expect(&scene.application, other, 4711, "outbound").await?;
            scene.expect(&scene.proxy, other, 8080, "remote").await?;
            scene.expect(&scene.application, loopback, 8080, "local").await?;
            scene.expect(&scene.application, own, 8080, "local").await?;
            scene.expect(&scene.proxy, loopback, 8080, "local").await?;
            // The application called itself through its Service, and the proxy's connection comes in like any other.
            scene.expect(&scene.proxy, own, 8080, "inbound").await?;
            scene.expect(&scene.outsider, own, 8080, "inbound").await?;
            scene.expect(&scene.outsider, own, 4711, "inbound").await?;
            scene.expect(&scene.outsider, own, 15010, "metrics").await?;
            scene.expect(&scene.outsider, own, 15901, "ConnectionRefused").await?;
        }
        scene.pod.remove_interception()?;
        for (own, other, _) in scene.families() {
            scene.expect(&scene.application, other, 8080, "remote").await?;
            scene.expect(&scene.outsider, own, 8080, "local").await?;
        }
        Ok(())
    }

    /// Exclusions, more of them than the kernel takes in one rule, and inclusions, which lose against exclusions.
    async fn exclusions_and_inclusions() -> Result<()> {
        let scene = scene().await?;
        let mut config = InterceptConfig::default();
        config.outbound_port_exclusions.extend((8050..=8080).map(port));
        config.inbound_port_exclusions.extend((8050..=8080).map(port));
        scene.pod.intercept(&config)?;
        for (own, other, _) in scene.families() {
            scene.expect(&scene.application, other, 8080, "remote").await?;
            scene.expect(&scene.application, other, 8081, "outbound").await?;
            scene.expect(&scene.outsider, own, 8080, "local").await?;
            scene.expect(&scene.outsider, own, 8081, "inbound").await?;
        }
        let excluded = IpRanges::parse(["10.244.0.0/16", "fd00:244::/64"])?;
        scene.pod.intercept(&InterceptConfig { outbound_range_exclusions: excluded.clone(), ..Default::default() })?;
        for (_, other, _) in scene.families() {
            scene.expect(&scene.application, other, 8080, "remote").await?;
        }
        scene.expect(&scene.application, "192.0.2.1".parse()?, 80, "outbound").await?;
        scene.expect(&scene.application, "2001:db8::1".parse()?, 80, "outbound").await?;
        let included = IpRanges::parse(["10.0.0.0/8"])?;
        scene.pod.intercept(&InterceptConfig { outbound_range_inclusions: included.clone(), ..Default::default() })?;
        let [(_, ipv4, _), (_, ipv6, _)] = scene.families();
        scene.expect(&scene.application, ipv4, 8080, "outbound").await?;
        scene.expect(&scene.application, ipv6, 8080, "remote").await?;
        scene.expect(&scene.application, "192.0.2.1".parse()?, 80, "Unreachable").await?;
        scene.pod.intercept(&InterceptConfig {
            outbound_range_inclusions: included,
            outbound_range_exclusions: excluded,
            ..Default::default()
        })?;
        scene.expect(&scene.application, ipv4, 8080, "remote").await?;
        let interface = InterceptConfig { interface_exclusions: ["eth0".parse()?].into(), ..Default::default() };
        scene.pod.intercept(&interface)?;
        for (own, other, _) in scene.families() {
            scene.expect(&scene.application, other, 8080, "remote").await?;
            scene.expect(&scene.outsider, own, 8080, "local").await?;
        }
        Ok(())
    }

    /// In PodIP mode the proxy reaches an application that listens on the pod's address alone; and the proxy's user can be another.
    async fn pod_ip_mode_and_another_proxy_user() -> Result<()> {
        let scene = scene().await?;
        let _only_there = [
            echo(&scene.pod, APPLICATION_UID, "only-v4", &format!("{}:9090", scene.pod.ipv4())).await?,
            echo(&scene.pod, APPLICATION_UID, "only-v6", &format!("[{}]:9090", scene.pod.ipv6())).await?,
        ];
        let mode = LocalProxyMode::PodIp { ipv4: Some(scene.pod.ipv4()), ipv6: Some(scene.pod.ipv6()) };
        scene.expect(&scene.proxy, "127.0.0.1".parse()?, 9090, "ConnectionRefused").await?;
        scene.pod.intercept(&InterceptConfig { local_proxy_mode: mode, ..Default::default() })?;
        scene.expect(&scene.proxy, "127.0.0.1".parse()?, 9090, "only-v4").await?;
        scene.expect(&scene.proxy, "::1".parse()?, 9090, "only-v6").await?;
        scene.expect(&scene.application, "127.0.0.1".parse()?, 9090, "ConnectionRefused").await?;
        scene.pod.intercept(&InterceptConfig { proxy_uid: APPLICATION_UID.try_into()?, ..Default::default() })?;
        for (_, other, _) in scene.families() {
            scene.expect(&scene.application, other, 8080, "remote").await?;
            scene.expect(&scene.proxy, other, 8080, "outbound").await?;
        }
        Ok(())
    }

    /// Twice is once, whatever was configured before, and removal takes out exactly what was put in.
    async fn applying_twice_is_once_and_removal_leaves_the_rest() -> Result<()> {
        let fabric = Fabric::create().await?;
        let pod = fabric.add_pod("pod").await?;
        let foreign = ProcessSpec::new("foreign", "iptables")
            .arguments(["-t", "nat", "-A", "OUTPUT", "-p", "tcp", "--dport", "1", "-j", "ACCEPT"]);
        ensure!(pod.run(&foreign, LIMIT).await?.status.success());
        let namespace = NetworkNamespace::At(pod.namespace());
        let mode = LocalProxyMode::PodIp { ipv4: Some(pod.ipv4()), ipv6: Some(pod.ipv6()) };
        let big = InterceptConfig {
            local_proxy_mode: mode,
            outbound_port_exclusions: (1..=40).map(port).collect(),
            ..Default::default()
        };
        namespace.apply(&rules(&big))?;
        namespace.remove()?;
        let empty = saved(&pod).await?;
        ensure!(!empty.contains("OSM_") && empty.contains("--dport 1 -j ACCEPT"), "{empty}");
        ensure!(!namespace.is_intercepted()?);
        namespace.apply(&rules(&InterceptConfig::default()))?;
        let once = saved(&pod).await?;
        ensure!(namespace.is_intercepted()? && once.contains("OSM_PROXY_OUT_REDIRECT"), "{once}");
        namespace.apply(&rules(&InterceptConfig::default()))?;
        ensure!(saved(&pod).await? == once);
        namespace.apply(&rules(&big))?;
        let with_big = saved(&pod).await?;
        ensure!(with_big.matches("openservicemesh.io/intercept").count() == 2, "{with_big}");
        namespace.apply(&rules(&big))?;
        ensure!(saved(&pod).await? == with_big);
        namespace.apply(&rules(&InterceptConfig::default()))?;
        ensure!(saved(&pod).await? == once);
        namespace.remove()?;
        namespace.remove()?;
        ensure!(saved(&pod).await? == empty);
        Ok(())
    }

    /// Without the IPv6 tools an IPv6 address would be a way around the mesh: refused, with IPv4 untouched. Without an address it is none.
    async fn missing_ipv6_tools_matter_only_where_ipv6_is() -> Result<()> {
        let fabric = Fabric::create().await?;
        let pod = fabric.add_pod("pod").await?;
        hide_ipv6_tools().await?;
        let namespace = NetworkNamespace::At(pod.namespace());
        match namespace.apply(&rules(&InterceptConfig::default())) {
            Err(InterceptError::Ipv6Unprotected { address, reason }) => {
                ensure!(address.starts_with(&pod.ipv6().to_string()), "{address}");
                ensure!(reason.contains("ip6tables-save was not found"), "{reason}");
            }
            other => bail!("expected a refusal, but {other:?}"),
        }
        ensure!(!namespace.is_intercepted()?, "a refused application must change nothing");
        let remove = ProcessSpec::new("ip", "ip").arguments(["-6", "addr", "flush", "dev", "eth0"]);
        ensure!(pod.run(&remove, LIMIT).await?.status.success());
        let applied = namespace.apply(&rules(&InterceptConfig::default()))?;
        ensure!(matches!(applied.ipv6, Ipv6Outcome::Absent(_)), "{applied:?}");
        ensure!(applied.to_string().contains("IPv6 is not in use here"), "{applied}");
        ensure!(namespace.is_intercepted()?);
        namespace.remove()?;
        ensure!(!namespace.is_intercepted()?);
        Ok(())
    }

    /// Without NET_ADMIN the error says so.
    async fn a_missing_capability_is_named() -> Result<()> {
        let fabric = Fabric::create().await?;
        let pod = fabric.add_pod("pod").await?;
        let namespace = NetworkNamespace::At(pod.namespace());
        // A thread's bounding set limits what the programs that it starts may do, root or not.
        let outcome = std::thread::spawn(move || -> Result<_> {
            rustix::thread::remove_capability_from_bounding_set(rustix::thread::CapabilitySet::NET_ADMIN)?;
            Ok(namespace.apply(&rules(&InterceptConfig::default())))
        });
        match outcome.join().expect("the thread does not panic")? {
            Err(error @ InterceptError::NotPermitted { .. }) => {
                ensure!(error.to_string().contains("NET_ADMIN"), "{error}");
            }
            other => bail!("expected a refusal, but {other:?}"),
        }
        Ok(())
    }
}

/// Takes the tools away in this sandbox alone: a layer over the directory, from which they are deleted.
async fn hide_ipv6_tools() -> Result<()> {
    for name in ["upper", "work"] {
        std::fs::create_dir(format!("/run/osm/tmp/{name}"))?;
    }
    let options = "lowerdir=/usr/sbin,upperdir=/run/osm/tmp/upper,workdir=/run/osm/tmp/work";
    let mount = ProcessSpec::new("mount", "mount").arguments(["-t", "overlay", "-o", options, "overlay", "/usr/sbin"]);
    let output = Process::run(None, &mount, LIMIT).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for tool in ["ip6tables-save", "ip6tables-restore", "ip6tables"] {
        std::fs::remove_file(format!("/usr/sbin/{tool}"))?;
    }
    Ok(())
}
