//! A place from which nothing can leak: namespaces of its own that end with the process that runs in them.
//!
//! A data-path test needs network namespaces, mounts, addresses and many processes. Cleaning up after it would have to
//! cope with every way a run can end, `SIGKILL` included. So the work is done by a child that is the first process of a new
//! PID namespace, with its own network, mount, IPC and host-name namespaces, and, without root, a user namespace. When
//! it ends, or when the process that started it does, the kernel kills everything inside and drops every link, rule and mount.
//! The host's own network namespace and `/run/netns` are never touched.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

/// Everything a run writes goes below this directory, which is memory of the sandbox alone.
pub const STATE_DIRECTORY: &str = "/run/osm";

/// No test may hang a run: one that takes longer than this has failed.
const TEST_LIMIT: Duration = Duration::from_secs(15 * 60);
const MARKER: &str = "OSM_SANDBOX";
const TOOLS: [&str; 8] =
    ["unshare", "setpriv", "nsenter", "mount", "ip", "iptables-restore", "iptables-save", "ip6tables-restore"];

/// Which side of [`enter`] the caller is on.
#[derive(Debug)]
pub enum Side {
    /// In the sandbox, which is prepared: go on with the work.
    Inside,
    /// The work was done in the sandbox and ended so: report it and leave.
    Outside(ExitStatus),
}

/// Runs this program again, with the same arguments, in a new sandbox, unless this already is that run.
///
/// Call it first thing in `main`. The child is killed when the calling *thread* ends.
///
/// # Errors
/// A tool or a permission is missing; the message names it.
pub fn enter() -> Result<Side> {
    if is_inside() {
        prepare()?;
        return Ok(Side::Inside);
    }
    let status = command_inside(std::env::args_os().skip(1))?.status().context("starting the sandbox")?;
    Ok(Side::Outside(status))
}

/// Whether this process is the first one of a sandbox.
pub fn is_inside() -> bool {
    std::env::var_os(MARKER).is_some() && std::process::id() == 1
}

/// Runs `body` in a sandbox of its own; what [`sandbox_test!`](crate::sandbox_test) expands to.
///
/// `test` is the full path of the test function, crate name included. The test binary is run again for this one test.
///
/// # Errors
/// The sandbox cannot be had, or the test failed in it.
pub fn run_test(test: &str, body: impl Future<Output = Result<()>>) -> Result<()> {
    if is_inside() {
        prepare()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        return runtime.block_on(async {
            let ended = tokio::time::timeout(TEST_LIMIT, body).await;
            ended.unwrap_or_else(|_| bail!("{test} has not ended within {TEST_LIMIT:?}"))
        });
    }
    let name = test.split_once("::").map_or(test, |(_, name)| name);
    let arguments = [name, "--exact", "--nocapture", "--include-ignored"].map(OsString::from);
    let output = command_inside(arguments)?.output().context("starting the sandbox")?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{test} failed in its sandbox ({}):\n{text}", output.status);
    // A wrong name would select no test at all, and that run would succeed.
    ensure!(text.contains("test result: ok. 1 passed"), "{test} did not run in its sandbox:\n{text}");
    Ok(())
}

/// Declares tests that run in a sandbox each, so that they may run at the same time and cannot leave anything behind.
///
/// ```
/// osm_testkit::sandbox_test! {
///     /// Two pods reach each other.
///     async fn pods_reach_each_other() -> anyhow::Result<()> {
///         let fabric = osm_testkit::Fabric::create().await?;
///         let client = fabric.add_pod("client").await?;
///         let server = fabric.add_pod("server").await?;
///         assert_ne!(client.ipv4(), server.ipv4());
///         Ok(())
///     }
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! sandbox_test {
    ($($(#[$attribute:meta])* async fn $name:ident() -> $result:ty $body:block)+) => {$(
        $(#[$attribute])*
        #[test]
        fn $name() {
            let outcome: $result =
                $crate::sandbox::run_test(concat!(module_path!(), "::", stringify!($name)), async move $body);
            if let Err(error) = outcome {
                panic!("{error:?}");
            }
        }
    )+};
}

/// Makes a program that only its owner can reach (a build below `/root`, say) executable by every user of the sandbox.
///
/// # Errors
/// There is no such file, or it cannot be mounted.
pub fn install_program(path: &Path) -> Result<PathBuf> {
    ensure!(is_inside(), "programs are installed inside the sandbox only");
    let source = fs::canonicalize(path).with_context(|| format!("there is no program {}", path.display()))?;
    // Under its own path, so that versions stay apart and processes keep their names.
    let target = Path::new(STATE_DIRECTORY).join("bin").join(source.strip_prefix("/")?);
    if !target.exists() {
        fs::create_dir_all(target.parent().context("a file is in a directory")?)?;
        fs::write(&target, "").with_context(|| format!("creating {}", target.display()))?;
        run("mount", [OsStr::new("--bind"), source.as_os_str(), target.as_os_str()])?;
    }
    Ok(target)
}

/// Runs a program to its end and returns what it printed.
///
/// # Errors
/// It cannot be started or fails; the message holds its words.
pub(crate) fn run(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
    run_with_input(program, arguments, "")
}

/// Like [`run`], with text on standard input.
pub(crate) fn run_with_input(
    program: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    input: &str,
) -> Result<String> {
    use std::io::Write as _;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let shown = format!("{command:?}");
    let mut child = command.spawn().with_context(|| format!("starting {shown}"))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that ends without reading says why on standard error, which is reported below.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("waiting for {shown}"))?;
    if !output.status.success() {
        bail!("{shown} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command line that runs this program with `arguments` in a new sandbox.
fn command_inside(arguments: impl IntoIterator<Item = OsString>) -> Result<Command> {
    let path = search_path();
    require_tools(&path)?;
    let mut unshare: Vec<&str> =
        vec!["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--ipc", "--uts"];
    if !rustix::process::geteuid().is_root() {
        require_user_ids(&path)?;
        unshare.extend(["--user", "--map-root-user", "--map-auto"]);
    }
    probe(&unshare, &path)?;
    // Dies with this thread, and its child, the first process inside, dies with it.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).args(&unshare).arg("--");
    command.arg(std::env::current_exe().context("finding this program")?).args(arguments);
    command.env(MARKER, "1").env("PATH", path).env("TMPDIR", Path::new(STATE_DIRECTORY).join("tmp"));
    Ok(command)
}

/// Administration tools live in `sbin`, which is not on every user's PATH.
fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

fn is_installed(program: &str, path: &OsStr) -> bool {
    std::env::split_paths(path).any(|directory| directory.join(program).is_file())
}

fn require_tools(path: &OsStr) -> Result<()> {
    let missing: Vec<&str> = TOOLS.into_iter().filter(|tool| !is_installed(tool, path)).collect();
    ensure!(
        missing.is_empty(),
        "missing programs: {}; on Debian install the packages util-linux, mount, iproute2 and iptables (hack/setup does it)",
        missing.join(", ")
    );
    Ok(())
}

/// Without root, the proxy and the application need user ids of their own, which only `newuidmap` can give.
fn require_user_ids(path: &OsStr) -> Result<()> {
    ensure!(
        is_installed("newuidmap", path) && is_installed("newgidmap", path),
        "without root the programs newuidmap and newgidmap are needed, so that the proxy can have a user id of its own: \
         install the Debian package uidmap, or run as root"
    );
    Ok(())
}

fn probe(unshare: &[&str], path: &OsStr) -> Result<()> {
    let output = Command::new(unshare[0])
        .args(&unshare[1..])
        .args(["--", "true"])
        .env("PATH", path)
        .output()
        .context("starting unshare")?;
    ensure!(
        output.status.success(),
        "this machine does not let this user create the namespaces that the run needs: {}. \
         As root in a container, the container needs the capability SYS_ADMIN. Without root, these must allow it: a range for this \
         user in /etc/subuid and /etc/subgid, and the sysctls user.max_user_namespaces, kernel.unprivileged_userns_clone and \
         kernel.apparmor_restrict_unprivileged_userns",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Private memory for everything that is written, and the sandbox's own names instead of the host's.
fn prepare() -> Result<()> {
    let state = Path::new(STATE_DIRECTORY);
    if state.is_dir() {
        return Ok(());
    }
    run("mount", ["-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"])?;
    fs::create_dir("/run/netns")?;
    fs::create_dir(state)?;
    for name in ["bin", "log", "pod"] {
        fs::create_dir(state.join(name))?;
    }
    let temporary = state.join("tmp");
    fs::create_dir(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o1777))?;
    // One hosts file for all pods, as cluster DNS is one for all; and no name server that could be asked instead.
    fs::write(state.join("hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
    fs::write(state.join("resolv.conf"), "")?;
    for (name, target) in [("hosts", "/etc/hosts"), ("resolv.conf", "/etc/resolv.conf")] {
        if let Ok(target) = fs::canonicalize(target) {
            run("mount", [OsStr::new("--bind"), state.join(name).as_os_str(), target.as_os_str()])?;
        }
    }
    run("hostname", ["node"]).or_else(|_| fs::write("/proc/sys/kernel/hostname", "node").map(|()| String::new()))?;
    run("ip", ["link", "set", "lo", "up"])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_tools_are_named_with_the_remedy() {
        let error = require_tools(OsStr::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.contains("unshare, setpriv, nsenter") && error.contains("iproute2"), "{error}");
        let error = require_user_ids(OsStr::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.contains("uidmap"), "{error}");
    }

    #[test]
    fn a_refusal_of_the_kernel_is_explained() {
        let error = probe(&["unshare", "--no-such-namespace"], &search_path()).unwrap_err().to_string();
        assert!(error.contains("no-such-namespace") && error.contains("/etc/subuid"), "{error}");
    }

    #[test]
    fn outside_a_sandbox_nothing_is_installed() {
        assert!(install_program(Path::new("/bin/true")).unwrap_err().to_string().contains("inside the sandbox"));
    }
}
