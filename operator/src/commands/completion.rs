//! `osm-operator completion`: what a shell needs to complete our command line.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

const HELP: &str = "\
Examples:
  source <(osm-operator completion bash)
  osm-operator completion zsh > \"${fpath[1]}/_osm-operator\"

Exit codes: 0 printed.";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Carries the command out for the command line that `C` is.
pub(crate) fn run<C: CommandFactory>(args: &CompletionArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut C::command(), "osm-operator", &mut script);
    crate::print(&String::from_utf8_lossy(&script), ExitCode::SUCCESS)
}
