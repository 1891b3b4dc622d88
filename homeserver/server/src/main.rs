//! `nudge`.

use std::process::ExitCode;

/// Memory that long polls and caches give back is reused with less waste than by the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator asks the system for pages of 2 MiB, of which each may hold a few bytes only.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    homeserver_server::cli::run()
}
