//! The `vox` command; see the library of this crate.

fn main() -> std::process::ExitCode {
    vox_cli::main()
}
