//! `docs/ARCHITECTURE.md` names paths of the repository: each must be there.

use std::{fs, path::Path};

/// The folders at the top of the repository that the page names paths of.
const ROOMS: [&str; 4] = ["homeserver/", "federation/", "complement-tests/", "docs/"];

/// Fewer would mean that we no longer understand how the page is written.
const PATHS_MIN: usize = 30;

#[test]
fn each_path_that_the_architecture_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/ARCHITECTURE.md")).unwrap();
    let named: Vec<&str> = page.lines().flat_map(quoted).filter(|text| is_path(text)).collect();
    assert!(named.len() >= PATHS_MIN, "only {} paths were found", named.len());
    let missing: Vec<&&str> = named.iter().filter(|path| !root.join(path).exists()).collect();
    assert!(missing.is_empty(), "named, but not there: {missing:?}");
}

/// What stands between backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn is_path(text: &str) -> bool {
    ROOMS.iter().any(|room| text.starts_with(room)) && !text.contains(' ')
}
