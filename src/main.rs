//! The `firstline` program: see [`firstline::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    firstline::cli::main()
}
