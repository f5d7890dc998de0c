//! Agents: what the superuser may say of them.

use crate::app::TestApp;

#[tokio::test]
async fn an_agents_ladder_is_changed_within_bounds_and_noted() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let path = "/agents/claude-code/ladder";
    let page = ada.get(path).await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains(r#"name="sigint" type="text""#) && page.body.contains(r#"value="10""#));
    let fields =
        |sigint: &'static str| [("sigint", sigint), ("sigterm", "1"), ("sigkill", "0.5"), ("linger", "60")];
    let refused = ada.post(path, &fields("121")).await;
    assert_eq!(refused.status, 422);
    assert!(refused.body.contains("After SIGINT: from 0 to 120 seconds."), "{}", refused.body);
    assert!(refused.body.contains(r#"value="121""#), "what was typed isn't lost");
    assert_eq!(ada.post(path, &fields("2.5")).await.status, 303);
    let kept: (i64, i64, i64, i64) =
        sqlx::query_as("select sigint_ms, sigterm_ms, sigkill_ms, linger_ms from agents")
            .fetch_one(app.sql())
            .await
            .unwrap();
    assert_eq!(kept, (2500, 1000, 500, 60_000));
    assert!(ada.get("/agents").await.body.contains("SIGINT 2"));
    assert!(ada.get("/audit").await.body.contains("claude-code: 2500, 1000, 500, 60000 ms"));
    assert_eq!(ada.post("/agents/nobody/ladder", &fields("1")).await.status, 404);
}

#[tokio::test]
async fn an_agents_patience_is_changed_within_bounds_and_noted() {
    let app = TestApp::start().await;
    let ada = app.superuser().await;
    let path = "/agents/claude-code/patience";
    let page = ada.get(path).await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains(r#"name="quiet" type="text""#) && page.body.contains(r#"value="30""#));
    assert!(!page.body.contains("checked"), "nothing is stopped by itself unless somebody says so");
    let fields = |quiet: &'static str| {
        [
            ("quiet", quiet),
            ("call", "60"),
            ("limited", "5"),
            ("same_calls", "4"),
            ("errors", "3"),
            ("stops", "yes"),
        ]
    };
    let refused = ada.post(path, &fields("0.5")).await;
    assert_eq!(refused.status, 422);
    assert!(refused.body.contains("Without output: from 1 to 1,440 minutes."), "{}", refused.body);
    let audit = ada.get("/audit").await;
    assert!(
        audit.body.contains("Without output: from 1 to 1,440 minutes."),
        "refused in the page's own words"
    );
    assert!(
        refused.body.contains(r#"value="0.5""#) && refused.body.contains("checked"),
        "what was typed isn't lost"
    );
    assert_eq!(ada.post(path, &fields("2.5")).await.status, 303);
    let kept: (i64, i64, i64, i64, i64, bool) =
        sqlx::query_as("select quiet_s, call_s, limited_s, same_calls, errors, stops_stuck from agents")
            .fetch_one(app.sql())
            .await
            .unwrap();
    assert_eq!(kept, (150, 3600, 300, 4, 3, true));
    assert!(
        ada.get("/agents")
            .await
            .body
            .contains("after 2 min without output, 1 h in a tool call; then stopped")
    );
    let audit = ada.get("/audit").await;
    assert!(audit.body.contains("claude-code: 150, 3600, 300 s; 4 calls, 3 errors; stops what is stuck"));
    assert_eq!(ada.post("/agents/nobody/patience", &fields("1")).await.status, 404);
    for out_of_bounds in ["update agents set quiet_s = 59", "update agents set same_calls = 2"] {
        assert!(sqlx::query(out_of_bounds).execute(app.sql()).await.is_err(), "{out_of_bounds}");
    }
}
