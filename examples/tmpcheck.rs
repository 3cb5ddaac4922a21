//! tmp
use clap::Parser;
#[derive(Parser)]
struct A {
    #[command(flatten)]
    a: weir::cli::check::CheckArgs,
}
fn main() -> std::process::ExitCode {
    weir::cli::check::run(&A::parse().a, &weir::config::Loaded::check)
}
