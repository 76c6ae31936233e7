//! The command line: from arguments and environment to what is to be done.

use crate::{
    command::{ClientFlags, Command, Operation},
    exit::{EXIT_CODES, Exit},
    flags::ServeFlags,
    prepare::{Preparation, PrepareCommand},
    serve::Config,
};
use clap::{
    ArgMatches, Args as _, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, error::ContextKind,
    error::ContextValue, parser::ValueSource,
};
use std::{ffi::OsString, fmt, process::ExitCode};

/// What a command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// To be a coordinator.
    Serve(Box<Config>),
    /// To ask one.
    Operate(Box<Operation>),
    /// To prepare a place for one.
    Prepare(Box<Preparation>),
}

/// A command line that is not carried out: a wrong one, or one that asked for help.
#[derive(Debug)]
pub struct Refused(Why);

#[derive(Debug)]
enum Why {
    ByClap(Box<clap::Error>),
    Usage(String),
}

/// The coordinator of incremental static regeneration. Without a command it serves
#[derive(Debug, Parser)]
#[command(
    name = "leasehold",
    version,
    max_term_width = 110,
    override_usage = "leasehold [serve] [SETTINGS]\n       leasehold COMMAND [OPTIONS]",
    after_help = format!("The settings of the coordinator: leasehold --help\n\n{EXIT_CODES}")
)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run the coordinator. Every setting is a flag, or a variable LEASEHOLD_*
    Serve(Box<ServeFlags>),
    #[command(flatten)]
    Operate(Box<Command>),
    #[command(flatten)]
    Prepare(Box<PrepareCommand>),
}

/// Reads a command line, the program's name first, and the environment.
///
/// # Errors
/// [`Refused`], also where help or the version was asked for; [`Refused::report`] settles it.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, Refused> {
    let args = with_command(args.into_iter().collect());
    let program = args.first().cloned().unwrap_or_default();
    let by_clap = |error| Refused(Why::ByClap(Box::new(error)));
    let matches = command().try_get_matches_from(args).map_err(by_clap)?;
    refuse_without_effect(&matches)?;
    let cli = Cli::from_arg_matches(&matches).map_err(by_clap)?;
    Ok(match cli.action {
        Action::Serve(flags) => {
            let mut config = flags.into_config()?;
            config.program = program;
            Invocation::Serve(Box::new(config))
        }
        Action::Operate(command) => Invocation::Operate(Box::new(Operation::new(*command))),
        Action::Prepare(command) => Invocation::Prepare(Box::new(command.into_preparation()?)),
    })
}

/// Refuses a flag that would seem to narrow down what a command reaches, and does not. Variables are set for
/// other commands too, so they do not count.
fn refuse_without_effect(matches: &ArgMatches) -> Result<(), Refused> {
    let Some((command, matches)) = matches.subcommand() else { return Ok(()) };
    let (what, matches) = matches.subcommand().unwrap_or(("", matches));
    let given = |flag| {
        matches!(command, "invalidate" | "watch")
            && matches.value_source(flag) == Some(ValueSource::CommandLine)
    };
    if what == "all" && given("tenant") {
        let message = "`invalidate all` reaches every tenant, so --tenant is not for it";
        return Err(Refused::usage(format!("{message}; did you mean `invalidate tenant`?")));
    }
    if what != "deployment" && given("deployment") {
        let name = if what.is_empty() { command.to_owned() } else { format!("{command} {what}") };
        let instead = if command == "invalidate" { "; did you mean `invalidate deployment`?" } else { "" };
        let message = format!("`{name}` reaches every release, so --deployment is not for it");
        return Err(Refused::usage(message + instead));
    }
    Ok(())
}

fn command() -> clap::Command {
    // What a variable is set to may be long, or nobody's business.
    fn hide_values(command: clap::Command) -> clap::Command {
        command.mut_args(|arg| arg.hide_env_values(true)).mut_subcommands(hide_values)
    }
    let command = hide_values(Cli::command());
    let serve = command.find_subcommand("serve").map(|serve| serve.clone().render_help().to_string());
    let settings = serve.as_deref().and_then(|help| help.split_once("Where:\n"));
    let settings = settings.map(|(_, settings)| settings.trim_end()).unwrap_or_default();
    let title = "Settings of the coordinator, by flag or by variable, with what is allowed and the default:";
    command.after_long_help(format!("{EXIT_CODES}\n\n{title}\n\nWhere:\n{settings}"))
}

/// Puts the command first: `serve` where there is none, and behind it the options that every client's command
/// takes.
fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let shared = ClientFlags::augment_args(clap::Command::new("shared"));
    let long = |arg: &clap::Arg, name: &str| {
        arg.get_long().is_some_and(|long| name.strip_prefix("--") == Some(long))
    };
    let mut at = 1;
    while let Some(word) = args.get(at).map(|word| word.to_string_lossy().into_owned()) {
        if !word.starts_with('-') {
            let command = args.remove(at);
            args.insert(1, command);
            return args;
        }
        if at == 1 && matches!(word.as_str(), "-h" | "--help" | "-V" | "--version") {
            return args;
        }
        let (name, has_value) = word.split_once('=').map_or((word.as_str(), false), |(name, _)| (name, true));
        let Some(flag) = shared.get_arguments().find(|arg| long(arg, name)) else { break };
        at += if flag.get_action().takes_values() && !has_value { 2 } else { 1 };
    }
    args.insert(1.min(args.len()), "serve".into());
    args
}

/// The environment variable of a flag, named without its dashes.
pub(crate) fn variable(flag: &str) -> String {
    format!("LEASEHOLD_{}", flag.replace('-', "_").to_uppercase())
}

impl Refused {
    pub(crate) fn usage(message: String) -> Self {
        Self(Why::Usage(message))
    }

    /// Says why on stderr, or what was asked for on stdout.
    pub fn report(&self) -> ExitCode {
        match &self.0 {
            Why::ByClap(error) => {
                // A pipe that nobody reads any more is no reason to fail.
                let _ = error.print();
                if let Some(variable) = self.variable() {
                    eprintln!("The value may also come from the environment: {variable}");
                }
                ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8))
            }
            Why::Usage(message) => {
                eprintln!("error: {message}");
                Exit::Usage.into()
            }
        }
    }

    /// The variable of the flag whose value is wrong.
    fn variable(&self) -> Option<String> {
        let Why::ByClap(error) = &self.0 else { return None };
        let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
        let name = flag.strip_prefix("--")?.split([' ', '=']).next()?;
        let is_value = error.get(ContextKind::InvalidValue).is_some();
        let known = command().get_subcommands().any(|command| {
            command.get_arguments().any(|arg| arg.get_long() == Some(name) && arg.get_env().is_some())
        });
        (is_value && known).then(|| variable(name))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Why::ByClap(error) => error.fmt(f),
            Why::Usage(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(line: &str) -> String {
        let args = line.split_whitespace().map(OsString::from).collect();
        with_command(args).iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves() {
        let table = [
            ("leasehold", "leasehold serve"),
            ("leasehold --data-dir x", "leasehold serve --data-dir x"),
            ("leasehold --log debug", "leasehold serve --log debug"),
            ("leasehold serve --listen x", "leasehold serve --listen x"),
            ("leasehold --json lookup k", "leasehold lookup --json k"),
            (
                "leasehold --endpoint e --tenant=t lease acquire k",
                "leasehold lease --endpoint e --tenant=t acquire k",
            ),
            ("leasehold --help", "leasehold --help"),
            ("leasehold -V", "leasehold -V"),
            ("leasehold help lookup", "leasehold help lookup"),
            ("leasehold looukp", "leasehold looukp"),
        ];
        for (line, expected) in table {
            assert_eq!(normal(line), expected);
        }
    }

    #[test]
    fn every_setting_has_the_variable_of_its_name() {
        let command = command();
        let serve = command.find_subcommand("serve").unwrap();
        let flags: Vec<_> = serve.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg))).collect();
        for (flag, arg) in &flags {
            let expected = variable(flag);
            assert_eq!(
                arg.get_env().map(|env| env.to_string_lossy()),
                Some(expected.as_str().into()),
                "--{flag}"
            );
            assert!(arg.get_help().is_some() && arg.get_help_heading().is_some(), "--{flag}");
        }
        assert!(flags.len() > 30);
    }

    #[test]
    fn every_setting_with_limits_tells_them_in_its_help() {
        let serve = command().find_subcommand("serve").unwrap().clone();
        let mut limited = 0;
        for arg in serve.get_arguments().filter(|arg| arg.get_action().takes_values()) {
            let (flag, help) = (arg.get_long().unwrap(), arg.get_help().unwrap().to_string());
            let wrong = serve.clone().try_get_matches_from(["serve", &format!("--{flag}=!")]);
            let Some(refused) = wrong.err().map(|error| error.to_string()) else { continue };
            let allowed =
                refused.split_once("allowed: ").and_then(|(_, rest)| rest.split(['\n', '(']).next());
            if let Some(range) = allowed.filter(|range| range.contains(" to ")) {
                assert!(help.ends_with(range.trim()), "--{flag} allows {range}, but says: {help}");
                limited += 1;
            }
        }
        assert!(limited > 25);
    }
}
