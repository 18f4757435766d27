//! etcd and an API server, without nodes.

mod place;

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};

use self::place::Place;
use crate::certificates::Authority;
use crate::control_plane::{ControlPlane, ControllerManager, Endpoints, Layout};
use crate::daemon::Daemon;
use crate::kubeconfig::{self, Credentials};
use crate::kubectl::Kubectl;
use crate::probe::Probe;
use crate::tools::{KubernetesVersion, Prepared, Tool};
use crate::wait;

const SERVICE_RANGES: &str = "10.96.0.0/16,fd00:96::/112";

/// Whether Kubernetes' controllers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Controllers {
    /// Objects stay as they are written: no default ServiceAccounts, no Pods of Deployments, namespaces are never gone.
    #[default]
    None,
    /// The controller manager runs. It has no nodes.
    Running,
}

/// How to start an [`ApiServer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiServerOptions {
    /// Which Kubernetes.
    pub version: KubernetesVersion,
    /// Whether its controllers run.
    pub controllers: Controllers,
}

impl Default for ApiServerOptions {
    fn default() -> Self {
        Self { version: KubernetesVersion::NEWEST, controllers: Controllers::None }
    }
}

/// A real API server with its etcd, on a loopback address of its own, so that any number run at the same time. No kubelet, no
/// scheduler. Everything ends and is removed when this is dropped, or when this process ends.
///
/// It calls webhooks at `https://127.0.0.1:PORT`, signs tokens for any audience (TokenRequest) and checks them (TokenReview),
/// enforces RBAC, and writes a line for each request into its audit log.
pub struct ApiServer {
    version: KubernetesVersion,
    programs: Prepared,
    control_plane: ControlPlane,
    authority: Authority,
    probe: Probe,
    kubectl: Kubectl,
    kubeconfig: PathBuf,
    api_server: Mutex<Option<Daemon>>,
    // In this order they end: who uses etcd, etcd, the folder.
    _controllers: Option<Daemon>,
    etcd: Mutex<Daemon>,
    place: Place,
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = formatter.debug_struct("ApiServer");
        fields.field("version", &self.version).field("url", &self.url()).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Starts one, and waits until it is ready: about six seconds when Kubernetes is in the cache.
    ///
    /// # Errors
    /// Kubernetes cannot be built, or a program ends instead of starting; the message holds its last words.
    pub async fn start(version: KubernetesVersion) -> Result<Self> {
        Self::start_with(ApiServerOptions { version, ..ApiServerOptions::default() }).await
    }

    /// Starts one as `options` say.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn start_with(options: ApiServerOptions) -> Result<Self> {
        let prepared = tokio::task::spawn_blocking(move || Tool::Kubernetes(options.version).prepare());
        let programs = prepared.await.context("preparing does not panic")??;
        let place = Place::find()?;
        let folder = place.folder();
        let authority = Authority::create(folder)?;
        let control_plane = ControlPlane::lay_out(
            &authority,
            &Layout {
                folder,
                address: IpAddr::V4(place.address()),
                etcd: place.address(),
                service_ranges: SERVICE_RANGES,
                service_addresses: &[],
                endpoints: Endpoints::None,
            },
        )?;
        let administrator = ControlPlane::administrator(&authority)?;
        let probe = Probe::new(control_plane.socket(), authority.pem(), &administrator)?;
        let kubeconfig = folder.join("kubeconfig");
        kubeconfig::write(
            &kubeconfig,
            &control_plane.url(),
            authority.pem(),
            &Credentials::Certificate(administrator),
        )?;

        let start = |name: &str, arguments: &[String]| {
            Daemon::start(name, &programs.folder().join(name), arguments, &folder.join(format!("{name}.log")))
        };
        let etcd = start("etcd", &control_plane.etcd_arguments())?;
        // It waits for etcd by itself.
        let api_server = start("kube-apiserver", &control_plane.api_server_arguments())?;
        let controllers = match options.controllers {
            Controllers::None => None,
            Controllers::Running => {
                let manager =
                    ControllerManager { kubeconfig: &kubeconfig, bind: IpAddr::V4(place.address()), pod_ranges: None };
                Some(start("kube-controller-manager", &control_plane.controller_manager_arguments(&manager))?)
            }
        };
        let kubectl = Kubectl::new(programs.folder().join("kubectl"), kubeconfig.clone(), folder);
        let server = Self {
            version: options.version,
            programs,
            control_plane,
            authority,
            probe,
            kubectl,
            kubeconfig,
            api_server: Mutex::new(Some(api_server)),
            _controllers: controllers,
            etcd: Mutex::new(etcd),
            place,
        };
        server.wait_ready().await?;
        Ok(server)
    }

    /// Which Kubernetes it is.
    pub fn version(&self) -> KubernetesVersion {
        self.version
    }

    /// Where it listens, such as `https://127.66.3.1:6443`.
    pub fn url(&self) -> String {
        self.control_plane.url()
    }

    /// The certificate that verifies it, as PEM.
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// A kubeconfig of whoever may do everything.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A new kubeconfig of `user`, by client certificate, in `group` if one is given. It has the rights that RBAC gives it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let pair = self.authority.client(user, group)?;
        self.write_kubeconfig(&Credentials::Certificate(pair))
    }

    /// A new kubeconfig of a ServiceAccount that exists, by a token that lasts a day, as its pods would have.
    ///
    /// # Errors
    /// There is no such ServiceAccount.
    pub async fn kubeconfig_for_service_account(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let arguments = ["create", "token", "--namespace", namespace, name, "--duration=24h"];
        let token = self.kubectl.output(&arguments).await?;
        self.write_kubeconfig(&Credentials::Token(token.trim().to_owned()))
    }

    /// The audit log: a line of JSON (`audit.k8s.io/v1` Event, level Metadata) for each request that was answered.
    pub fn audit_log(&self) -> PathBuf {
        ControlPlane::audit_log(self.place.folder())
    }

    /// kubectl, as whoever may do everything.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// Runs `kubectl arguments…` to its end, whether good or bad.
    ///
    /// # Errors
    /// It cannot be started or does not end.
    pub async fn run_kubectl(&self, arguments: &[&str]) -> Result<Output> {
        self.kubectl.run(arguments).await
    }

    /// The body of the answer to a GET, such as `/readyz` or `/metrics`, asked by whoever may do everything.
    ///
    /// # Errors
    /// No answer, or another status than 200.
    pub async fn get(&self, path: &str) -> Result<String> {
        let (probe, path) = (self.probe.clone(), path.to_owned());
        tokio::task::spawn_blocking(move || probe.get(&path)).await.context("asking does not panic")?
    }

    /// Kills the API server, as an outage does: connections end at once, new ones are refused. What it stored stays.
    ///
    /// # Errors
    /// It does not run.
    pub fn stop_api_server(&self) -> Result<()> {
        let running = self.api_server.lock().unwrap_or_else(PoisonError::into_inner).take();
        running.context("the API server is stopped already")?.kill()
    }

    /// Starts it again at the same address, and waits until it is ready.
    ///
    /// # Errors
    /// It runs, or it does not become ready.
    pub async fn start_api_server(&self) -> Result<()> {
        let name = "kube-apiserver";
        let log = self.place.folder().join(format!("{name}.log"));
        {
            let mut running = self.api_server.lock().unwrap_or_else(PoisonError::into_inner);
            ensure!(running.is_none(), "the API server runs already");
            let program = self.programs.folder().join(name);
            *running = Some(Daemon::start(name, &program, &self.control_plane.api_server_arguments(), &log)?);
        }
        self.wait_ready().await
    }

    async fn wait_ready(&self) -> Result<()> {
        let ready = wait::until("the API server is ready", wait::LIMIT, {
            let probe = self.probe.clone();
            move || probe.get("/readyz")
        });
        // A program that ended is a better answer than a time limit.
        let dead = async {
            let mut ticks = tokio::time::interval(std::time::Duration::from_millis(100));
            loop {
                ticks.tick().await;
                if let Some(api_server) = self.api_server.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                    api_server.require_alive()?;
                }
                self.etcd.lock().unwrap_or_else(PoisonError::into_inner).require_alive()?;
            }
            #[allow(unreachable_code, reason = "gives the block its type")]
            anyhow::Ok(())
        };
        tokio::select! {
            ready = ready => ready.map(|_| ()),
            dead = dead => dead,
        }
    }

    fn write_kubeconfig(&self, credentials: &Credentials) -> Result<PathBuf> {
        let folder = self.place.folder().join("kubeconfigs");
        fs::create_dir_all(&folder)?;
        let path = (1..).map(|number| folder.join(number.to_string())).find(|path| !path.exists());
        let path = path.context("numbers do not end")?;
        kubeconfig::write(&path, &self.url(), self.ca_pem(), credentials)?;
        Ok(path)
    }
}
