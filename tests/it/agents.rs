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
