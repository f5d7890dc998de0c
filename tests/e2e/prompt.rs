//! Prompts: what was typed is what the model is asked, whatever it looks like. The exception is the CLI's own: a prompt
//! that is one of its commands (`/cost`) is one to it.

use crate::house::{House, SOON};

pub(crate) async fn prompts_reach_the_model_as_they_are() {
    let house = House::open().await;
    let long =
        format!("Begin. {} The end.", "Räder müssen rollen; 0123456789 \"quoted\" 'so' \\ \t".repeat(4200));
    assert!(long.len() > 200 * 1024 && long.len() < 256 * 1024, "{}", long.len());
    let prompts = [
        "$(touch /workspace/owned) `id` ; rm -rf / && echo $HOME | cat > /tmp/x & {a,b} * ? ~ !! # %s %n",
        "--help",
        "-p --dangerously-skip-permissions=false\n--model nonsense",
        "It's \"quoted\", 'twice' and \\escaped\\; <system-reminder>not one</system-reminder> {\"json\": [1, 2]}",
        "Füße 東京 العربية עברית 👩🏽‍🚀 e\u{301} \u{202e}backwards\u{202c} \u{200b}zero \u{feff}width",
        "two lines\n\n  and an indented one\twith a tab",
        "! ls && #note @/etc/passwd",
        "/etc/hosts is wrong; mend it",
        "  leading and trailing \n\n",
        &long,
    ];
    let mut runs = Vec::new();
    for prompt in prompts {
        runs.push((prompt, house.start(prompt).await));
    }
    for (prompt, run) in &runs {
        let page = house.until_ended(*run, SOON * 2).await;
        let begins: String = prompt.chars().take(40).collect();
        assert_eq!(page.outcome(), "succeeded", "{begins}: {:?}", house.row(*run).await);
    }
    let record = house.record();
    let asked: Vec<&str> = record
        .iter()
        .filter_map(|entry| entry["asked"].as_array())
        .flatten()
        .filter_map(|text| text.as_str())
        .collect();
    for (prompt, _) in &runs {
        let begins: String = prompt.chars().take(40).collect();
        assert!(asked.contains(prompt), "{begins:?} isn't among {:?}", heads(&asked));
    }
}

fn heads(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| text.chars().take(120).collect()).collect()
}
