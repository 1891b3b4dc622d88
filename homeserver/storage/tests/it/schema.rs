//! Both databases have the same tables.

use crate::stage::on_each_database;

#[tokio::test]
async fn tables_and_columns_are_the_same_in_both() {
    let seen = std::cell::RefCell::new(Vec::new());
    on_each_database(async |stage| {
        let sql = match stage.storage.backend() {
            "SQLite" => {
                "SELECT m.name || '.' || c.name || CASE WHEN c.\"notnull\" = 1 OR c.pk > 0 THEN '' ELSE '?' END
                    FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table'"
            }
            _ => {
                "SELECT table_name || '.' || column_name || CASE WHEN is_nullable = 'NO' THEN '' ELSE '?' END
                    FROM information_schema.columns WHERE table_schema = current_schema()"
            }
        };
        let indexes = match stage.storage.backend() {
            "SQLite" => "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL",
            _ => {
                "SELECT indexname::TEXT FROM pg_indexes WHERE schemaname = current_schema()
                    AND indexname NOT LIKE '%_pkey' AND indexname NOT LIKE '%_key'"
            }
        };
        let mut names = stage.query(sql).await;
        names.extend(stage.query(indexes).await);
        names.retain(|name| !name.starts_with("_sqlx") && !name.starts_with("sqlite_"));
        names.sort();
        assert!(names.contains(&"events.json".to_owned()) && names.contains(&"log_room".to_owned()), "{names:?}");
        assert!(names.contains(&"events.reason?".to_owned()), "{names:?}");
        seen.borrow_mut().push(names);
    })
    .await;
    let seen = seen.into_inner();
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:#?}");
}
