//! What a stranger learns of a server with runs on it: nothing.

use crate::house::{House, SOON, signalbox};

const CANARIES: [&str; 2] = ["canary-in-the-title-7c1d", "canary-in-the-prompt-93ab"];

pub(crate) async fn a_stranger_learns_nothing_of_what_runs() {
    let house = House::open().await;
    let [title, prompt] = CANARIES;
    let over = house.start_titled(&format!("Say {prompt}."), title).await;
    let live = house.start_titled(&format!("{prompt}\nscenario: loop"), title).await;
    house.until_at_work(live, 1).await;
    house.until_ended(over, SOON).await;
    // Whoever may see them does.
    assert!(house.browser.page("/").await.contains(title));
    assert!(house.page(live).await.body.contains(prompt));

    let mut visit = signalbox(&["incognito", house.origin()]);
    visit.args(CANARIES.map(|canary| format!("--canary={canary}"))).env_clear();
    let visited = tokio::task::spawn_blocking(move || visit.output().unwrap()).await.unwrap();
    let told = String::from_utf8_lossy(&visited.stdout);
    assert_eq!(visited.status.code(), Some(0), "{told}{}", String::from_utf8_lossy(&visited.stderr));
    for run in [over, live] {
        assert!(!house.page(run).await.is_unconfirmed(), "nor can a stranger stop anything");
    }
    assert!(house.page(live).await.is("running"));
}
