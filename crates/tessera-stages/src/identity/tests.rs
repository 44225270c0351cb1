//! The stage by itself: who is one person, what keeps apart, which keys persist, and that what was kept gives what all gives.

use super::*;
use crate::testing::{self, Given};

const HEADER: &str = "customer_id,email,phone,first_name,last_name,birth_date,postal_code,city,address,country,signup_at,consent_profiling\n";

/// Accounts: key, then what they say.
fn given<'a>(
    tables: &'a [(&'a str, &'a str)],
    previous: &'a [(&'a str, &'a str)],
    project: &'a str,
    looks_at: &'a [(&'a str, &'a str)],
) -> Given<'a> {
    Given { project, as_of: "2025-04-01", sources: &[("customers", HEADER)], tables, previous, looks_at }
}

const PROJECT: &str = "[sources.customers]\nurl = \"c.csv\"\n[segmentation]\npopulation = \"customers\"\n";

const IDS: &str = "customer_id | account_key\nA | a\nB | b\nC | c\nD | d";

const PEOPLE: &str = "
    account_key | email           | phone           | first_name | last_name | birth_date | postal_code | signup_at           | consent_profiling
    a           | Anna@b.example  | +49 171 2345678 | Anna       | Müller    | 1980-01-02 | 10115       | 2024-01-01T00:00:00 | true
    b           | anna@b.example  |                 | Ann        | Mueller   | 1980-01-02 | 10115       | 2024-06-01T00:00:00 | false
    c           | anna@b.example  |                 | Hugo       | Müller    | 2010-05-06 | 10115       | 2024-02-01T00:00:00 | true
    d           | d@e.example     | +49 171 2345678 | Zoe        | Stone     | 1960-09-09 | 99998       | 2024-03-01T00:00:00 | true";

#[tokio::test]
async fn one_person_is_one_customer_and_a_family_is_not() {
    let tables = [("account_ids", IDS), ("clean_customers", PEOPLE)];
    let looks_at = [
        ("identity", "customer_id customer_key event evidence accounts since"),
        ("identity_pairs", "left_key right_key rule contradiction decision reason"),
        ("golden_records", "customer_key accounts email phone first_name last_name signup_at consent_profiling"),
    ];
    insta::assert_snapshot!(testing::check(&STAGE, given(&tables, &[], PROJECT, &looks_at)).await, @r"
    identity
    customer_id | customer_key | event       | evidence                | since      | accounts
    A           | a            | born        | declared id             | 2025-04-01 | 2
    B           | a            | merged_into | the same e-mail address | 2025-04-01 | 2
    C           | c            | born        | declared id             | 2025-04-01 | 1
    D           | d            | born        | declared id             | 2025-04-01 | 1

    identity_pairs
    left_key | right_key | rule                    | contradiction                           | decision | reason
    a        | b         | the same e-mail address |                                         | same     | the same e-mail address
    a        | c         | the same e-mail address | other given names, other dates of birth | held     | other given names, other dates of birth
    b        | c         | the same e-mail address | other given names, other dates of birth | held     | other given names, other dates of birth

    golden_records
    customer_key | accounts | email          | phone           | first_name | last_name | signup_at            | consent_profiling
    a            | 2        | anna@b.example | +49 171 2345678 | Ann        | Mueller   | 2024-01-01T00:00:00Z | false
    ");
}

#[tokio::test]
async fn without_matching_everybody_is_one() {
    let tables = [("account_ids", IDS), ("clean_customers", PEOPLE)];
    let looks_at = [("accounts", ""), ("identity_pairs", "left_key"), ("golden_records", "customer_key")];
    let project = format!("{PROJECT}[identity]\nenabled = false\n");
    insta::assert_snapshot!(testing::check(&STAGE, given(&tables, &[], &project, &looks_at)).await, @r"
    accounts
    account_key | customer_key
    a           | a
    b           | b
    c           | c
    d           | d

    identity_pairs
    left_key

    golden_records
    customer_key
    ");
}

/// Yesterday b was d's, whose key is older, and did more: it keeps it, and a, whom it belongs to today, has that.
#[tokio::test]
async fn keys_persist_over_merges_and_splits() {
    let tables = [
        ("account_ids", IDS),
        ("clean_customers", PEOPLE),
        ("clean_transactions", "account_key | order_id\nb | 1\nb | 2\nd | 3"),
    ];
    let previous = [
        (
            "identity",
            "customer_id | account_key | customer_key | event | evidence | since | customer_since | accounts
            A | a | a | born        | declared id | 2025-02-01 | 2025-02-01 | 1
            B | b | d | merged_into | made up     | 2025-01-01 | 2025-01-01 | 2
            D | d | d | born        | declared id | 2025-01-01 | 2025-01-01 | 2",
        ),
        ("identity_pairs", "left_key"),
        ("identity_model", "parameter"),
        ("clean_customers", PEOPLE),
    ];
    let looks_at = [("identity", "customer_id account_key customer_key event evidence since customer_since accounts")];
    insta::assert_snapshot!(testing::check(&STAGE, given(&tables, &previous, PROJECT, &looks_at)).await, @r"
    identity
    customer_id | account_key | customer_key     | event       | evidence                  | since      | customer_since | accounts
    A           | a           | d                | merged_into | the same e-mail address   | 2025-04-01 | 2025-01-01     | 2
    B           | b           | d                | merged_into | made up                   | 2025-01-01 | 2025-01-01     | 2
    C           | c           | c                | born        | declared id               | 2025-04-01 | 2025-04-01     | 1
    D           | d           | 3nfvpdz5p42hsm2y | split_from  | no longer the same person | 2025-04-01 | 2025-04-01     | 1
    ");
}

#[tokio::test]
async fn an_entry_that_cannot_be_planned_is_told_with_its_place() {
    for (entry, place) in [
        ("[identity.fields.email]\nexpression = \"email_kee(email)\"\n", "identity.fields.email.expression"),
        ("[identity.blocks]\nemail = { expression = \"email || nobody\" }\n", "identity.blocks.email.expression"),
        ("[identity.golden]\nemail = \"min(emale)\"\n", "identity.golden.email"),
        ("[identity.golden]\nemale = \"min(email)\"\n", "identity.golden.emale"),
    ] {
        let project = format!("{PROJECT}{entry}");
        let tables = [("account_ids", IDS), ("clean_customers", PEOPLE)];
        let told = testing::check(&STAGE, given(&tables, &[], &project, &[("accounts", "")])).await;
        assert!(told.contains(place), "{place}: {told}");
    }
}

/// `c` was one with `d`, who has its key; it comes back, and is somebody else.
#[tokio::test]
async fn an_account_that_comes_back_takes_nobodys_key() {
    let tables = [("account_ids", IDS), ("clean_customers", PEOPLE)];
    let previous = [
        (
            "identity",
            "customer_id | account_key | customer_key | event | evidence | since | customer_since | accounts
            D | d | c | merged_into | made up | 2025-01-01 | 2025-01-01 | 1",
        ),
        ("identity_pairs", "left_key"),
        ("identity_model", "parameter"),
        ("clean_customers", PEOPLE),
    ];
    let looks_at = [("identity", "customer_id customer_key event accounts")];
    let told = testing::check(&STAGE, given(&tables, &previous, PROJECT, &looks_at)).await;
    let key = |id: &str| {
        let line = told.lines().find(|l| l.starts_with(&format!("{id} "))).unwrap_or_default();
        line.split('|').nth(1).unwrap_or_default().trim().to_owned()
    };
    // D stays what it was.
    assert!(!told.contains("D |"), "{told}");
    assert!(key("C").len() == 16 && key("A") == key("B"), "{told}");
}

/// What keeps people apart does so without family names, without any match, and whatever stands for no id.
#[tokio::test]
async fn contradictions_hold_where_little_is_known() {
    let people = "
        account_key | email       | first_name | birth_date | national_id
        a           | x@y.example | Anna       | 1980-01-02 | n/a
        b           | x@y.example | Hugo       | 1980-01-02 | N/A
        c           | x@y.example | Daniela    |            | none
        d           | x@y.example | Daniel     |            |";
    let project = format!("{PROJECT}[identity.blocks.city_address]\nenabled = false\n");
    let header = "customer_id,email,first_name,birth_date,national_id\n";
    let given = Given {
        project: &project,
        as_of: "2025-04-01",
        sources: &[("customers", header)],
        tables: &[("account_ids", IDS), ("clean_customers", people)],
        previous: &[],
        looks_at: &[("accounts", "")],
    };
    insta::assert_snapshot!(testing::check(&STAGE, given).await, @r"
    accounts
    account_key | customer_key
    a           | a
    b           | b
    c           | c
    d           | d
    ");
}
