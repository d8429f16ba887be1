//! Parses, calls the library, exits with its code; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    ai_sdlc::main()
}
