use super::*;

fn problem(text: &str) -> String {
    Project::load("tessera.toml", text, &[]).expect_err("must be refused").to_string()
}

#[test]
fn defaults_are_a_valid_project() {
    let project = Project::load("tessera.toml", "", &[]).expect("defaults");
    assert_eq!(project.segmentation.features.len(), 14);
    assert!(project.sources.is_empty());
}

#[test]
fn a_project_overrides_one_key_of_an_entry_and_keeps_the_rest() {
    let text = "[features.frequency]\nexpression = \"count(*) FILTER (WHERE purchase)\"\n";
    let project = Project::load("tessera.toml", text, &[]).expect("valid");
    assert_eq!(project.features["frequency"].expression, "count(*) FILTER (WHERE purchase)");
    assert_eq!(project.features["frequency"].unit, "orders");
}

#[test]
fn passwords_in_urls_are_refused_and_not_repeated() {
    for text in [
        "[lake]\nurl = \"s3://key:hunter2@bucket/lake\"\n",
        "[sources.customers]\nurl = \"https://u:hunter2@shop.example/customers.csv\"\n",
    ] {
        let told = problem(text);
        assert!(told.contains("carries a password") && !told.contains("hunter2"), "{told}");
    }
    for url in ["abfss://box@account.dfs.core.windows.net/lake", "data/a:b@c.csv", "s3://bucket/a:b@c.csv"] {
        Project::load("tessera.toml", &format!("[lake]\nurl = \"{url}\"\n"), &[]).expect(url);
    }
}

#[test]
fn misspelt_keys_name_place_and_neighbour() {
    assert_eq!(
        problem("[project]\nname = \"x\"\ntimezon = \"UTC\"\n"),
        "tessera.toml:3:1: unknown key `project.timezon`; did you mean `timezone`?"
    );
    assert_eq!(
        problem("[sources.transaction]\nurl = \"x.csv\"\n"),
        "tessera.toml:1:10: unknown entity `transaction`; did you mean `transactions`?"
    );
    assert_eq!(
        problem("[sources.transactions]\nurl = \"x.csv\"\ncolumns = { order_ide = \"a\" }\n"),
        "tessera.toml:3:13: unknown column `order_ide`; did you mean `order_id`? A column of your own needs another name"
    );
    assert_eq!(
        problem("[sources.transactions.shop]\nurl = \"x.csv\"\nencodin = \"utf-8\"\n"),
        "tessera.toml:3:1: unknown key `sources.transactions.shop.encodin`; did you mean `encoding`?"
    );
}

#[test]
fn values_of_the_wrong_type_name_the_place() {
    let text = problem("[segmentation]\nmin_k = \"four\"\n");
    assert!(text.starts_with("tessera.toml:2:9: segmentation.min_k: "), "{text}");
    let text = problem("[project]\ntimezone = \"Europe/Atlantis\"\n");
    assert!(text.starts_with("tessera.toml:2:12: ") && text.contains("unknown time zone"), "{text}");
    let text = problem("[project\n");
    assert!(text.starts_with("tessera.toml:1:"), "{text}");
}

#[test]
fn flags_beat_the_file() {
    let flag = "engine.partitions=7".parse().expect("an override");
    let project = Project::load("t", "[engine]\npartitions = 3\n", &[flag]).expect("valid");
    assert_eq!(project.engine.partitions, 7);
    let flag: Override = "engine.partition=7".parse().expect("an override");
    let error = Project::load("t", "", &[flag]).expect_err("unknown").to_string();
    assert_eq!(error, "--set engine.partition=7: unknown key `engine.partition`; did you mean `partitions`?");
}

#[test]
fn the_engine_and_the_places_do_not_change_the_hash() {
    let hash = |text: &str| Project::load("t", text, &[]).expect("valid").hash();
    assert_eq!(hash(""), hash("[engine]\npartitions = 7\n[lake]\nurl = \"elsewhere\"\n"));
    assert_ne!(hash(""), hash("[segmentation]\nseed = 43\n"));
}

#[test]
fn sizes() {
    assert_eq!(parse_bytes("4GiB"), Some(4 << 30));
    assert_eq!(parse_bytes("0"), Some(0));
    assert_eq!(parse_bytes("1.5 MB"), Some(1_500_000));
    assert_eq!(parse_bytes("lots"), None);
}
