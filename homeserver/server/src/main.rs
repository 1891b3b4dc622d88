//! `nudge`.

use std::process::ExitCode;

/// Memory that long polls and caches give back is reused with less waste than by the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    homeserver_server::cli::run()
}
