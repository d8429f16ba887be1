//! The commands: one file each. They read the command line, the configuration and the board, call the rest, and turn
//! how it went into an exit code.

mod add;
mod args;
mod demo;
mod error;
mod init;
mod run;
mod run_plan;
mod status;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use args::{Cli, Command};
use error::CliError;

/// Runs the program with these arguments, the first of which is its name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let done = match cli.command {
        Command::Init => init::init(),
        Command::Add(args) => add::add(&args),
        Command::Status(args) => status::status(&args),
        Command::Run(args) => run::run(&args),
        Command::Demo => demo::demo(),
        Command::AgentExec { story } => return crate::executor::main(&story),
    };
    done.unwrap_or_else(|error| error.report())
}

/// Help and version go to standard output and are what was asked for; everything else is a usage error.
fn refuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            crate::report::data(&error.render().to_string());
            ExitCode::from(error::SUCCESS)
        }
        _ => {
            crate::report::people(&error.render().to_string());
            ExitCode::from(error::USAGE)
        }
    }
}

fn working_directory() -> Result<PathBuf, CliError> {
    std::env::current_dir()
        .map_err(|error| CliError::new(format!("the current directory cannot be used: {error}")))
}
