//! The page says what the doors do.

use complement_tests_coverage::{NO_REASON, page, served, specified};

#[test]
fn the_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/spec-coverage.md");
    let page = page();
    if std::env::var_os("NUDGE_TEST_UPDATE").is_some() {
        std::fs::write(path, &page).expect("the page can be written");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(!page.contains(NO_REASON), "say in REASONS why it is not served, or serve it: {page}");
    assert!(written == page, "docs/spec-coverage.md is out of date: run this test with NUDGE_TEST_UPDATE=1");
}

#[test]
fn the_list_is_whole_and_the_tables_are_not_empty() {
    assert_eq!(specified().len(), 200);
    assert!(served().contains(&("GET".to_owned(), "/_matrix/client/v3/sync".to_owned())));
    assert!(served().contains(&("PUT".to_owned(), "/_matrix/federation/v1/send/{}".to_owned())));
}
