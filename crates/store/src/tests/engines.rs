//! What both engines must take: every statement, every step of the schema, and nothing newer.

use sqlx::Executor;
use sqlx::SqlSafeStr;

use super::*;

on_both! {
    prepare_all,
    a_fresh_schema_is_a_migrated_one,
    programs_that_start_together_make_one_schema,
    a_newer_schema_is_refused,
    a_nul_in_a_text_is_replaced,
}

async fn prepare_all(house: House) {
    for (name, statement) in sql::ALL {
        let prepared = match &house.store.write {
            Db::Sqlite(pool) => {
                let mut connection = pool.acquire().await.unwrap();
                connection.prepare(statement.into_sql_str()).await.map(drop)
            }
            Db::Postgres(pool, _) => {
                let mut connection = pool.acquire().await.unwrap();
                connection.prepare(statement.into_sql_str()).await.map(drop)
            }
        };
        if let Err(error) = prepared {
            panic!("{name}: {error}");
        }
    }
}

/// Every table, column, index and constraint.
async fn schema(store: &Store) -> Vec<String> {
    match store.read() {
        Db::Sqlite(pool) => sqlx::query_scalar(
            "SELECT name || ': ' || sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name",
        )
        .fetch_all(pool)
        .await
        .unwrap(),
        Db::Postgres(pool, _) => sqlx::query_scalar(
            "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable
                FROM information_schema.columns WHERE table_schema = 'public'
            UNION SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
            UNION SELECT conrelid::regclass::text || ' ' || pg_get_constraintdef(oid)
                FROM pg_constraint WHERE connamespace = 'public'::regnamespace
            ORDER BY 1",
        )
        .fetch_all(pool)
        .await
        .unwrap(),
    }
}

async fn a_fresh_schema_is_a_migrated_one(house: House) {
    let wanted = schema(&house.store).await;
    assert!(wanted.len() > 20, "{wanted:?}");
    for older in 0..migrate::STEPS.len() {
        let place = house.place.another();
        let db = match place.location() {
            Location::File(dir) => {
                let options =
                    SqliteConnectOptions::new().filename(dir.join(FILE)).create_if_missing(true);
                Db::Sqlite(sqlx::SqlitePool::connect_with(options).await.unwrap())
            }
            Location::Postgres(url) => url.parse::<Server>().unwrap().pool(),
        };
        migrate::migrate(&db, &migrate::STEPS[..older]).await.unwrap();
        db.close().await;
        let migrated = House::at(place).await;
        assert_eq!(schema(&migrated.store).await, wanted, "from schema {older}");
    }
}

async fn programs_that_start_together_make_one_schema(house: House) {
    let place = house.place.another();
    let (first, second, third) = tokio::join!(
        Store::open_at(place.location()),
        Store::open_at(place.location()),
        Store::open_at(place.location()),
    );
    for store in [first, second, third] {
        assert_eq!(schema(&store.unwrap()).await, schema(&house.store).await);
    }
}

async fn a_newer_schema_is_refused(house: House) {
    let mut change = house.store.change().await.unwrap();
    change.tx.run(sql::SET_META, args!["schema", 99]).await.unwrap();
    change.commit().await.unwrap();
    house.store.close().await;
    let error = Store::open_at(house.place.location()).await.unwrap_err();
    let newest = i64::try_from(migrate::STEPS.len()).unwrap();
    let is_told = matches!(error, StoreError::Newer { found: 99, known } if known == newest);
    assert!(is_told, "{error}");
}

async fn a_nul_in_a_text_is_replaced(house: House) {
    let named = NewUser { name: "a\0b".to_owned(), ..alice() };
    house.store.add_user(&named, &event(Action::UserAdded)).await.unwrap();
    let kept = house.store.user_by_id(named.id).await.unwrap().unwrap();
    assert_eq!(kept.name, "a\u{fffd}b");
    assert!(house.store.user_by_name("a\0b").await.unwrap().is_some(), "asked the same way");
}
