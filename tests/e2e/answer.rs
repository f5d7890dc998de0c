//! A run that simply goes well.

use crate::house::{House, SOON, until};
use crate::kernel;

pub(crate) async fn a_run_answers_and_leaves_nothing_behind() {
    let house = House::open().await;
    let run = house.start("What is a lease?").await;
    let page = house.until_ended(run, SOON).await;
    let row = house.row(run).await;
    assert_eq!((page.outcome(), page.data("wish")), ("succeeded", "run"), "{row:?}");
    assert!(!page.data("confirmed").is_empty());
    assert_eq!((row.end_step.as_deref(), row.exit_code), (Some("by_itself"), Some(0)));

    // Its figures are those of its own result.
    let events = house.events(run).await;
    let last: serde_json::Value = serde_json::from_str(&events.last().unwrap().payload).unwrap();
    assert_eq!(page.data("cost-usd").parse().ok(), last["total_cost_usd"].as_f64());
    assert_eq!((row.cost_usd, row.turns), (last["total_cost_usd"].as_f64(), last["num_turns"].as_i64()));
    assert!(row.tokens_in > Some(0) && row.tokens_out > Some(0) && row.model.is_some(), "{row:?}");

    // The gate has metered the same, from what the model API said.
    until("metered", SOON, async || house.row(run).await.metered_usd.is_some()).await;
    let row = house.row(run).await;
    let apart = row.metered_usd.zip(row.cost_usd).map(|(metered, said)| (metered - said).abs());
    assert!(apart.is_some_and(|apart| apart < 1e-6) && !row.metered_partly, "{row:?}");

    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("init", "result"));
    assert!(kinds.contains(&"assistant"), "{kinds:?}");
    let answer = last["result"].as_str().unwrap();
    let words: String = answer.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == ' ').collect();
    assert!(words.len() > 3 && page.body.contains(&words), "{words:?}");

    house.until_clear().await;
    assert!(kernel::of_container(&row.container.unwrap()).is_empty());
    let folder = house.work_dir().join("box/runs").join(run.to_string());
    until("rid of its folder", SOON, async || !folder.exists()).await;
}
