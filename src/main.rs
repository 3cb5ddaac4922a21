//! The `weir` binary: see [`weir::cli`].

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // The allocator asks for huge pages, of which one small buffer in each makes 2 MiB resident: an idle connection holds twice as much
    // with them. Where the kernel has none to give, there is nothing to switch off.
    let _ = nix::sys::prctl::set_thp_disable(true);
    weir::cli::main()
}
