//! A first mapping of a file, from the names of its columns and what they look like. Whoever uses it looks at it.

use tessera_contract::{Entity, names, table::Kind};

use super::looks::Look;

/// What a file may be.
#[derive(Debug, Clone)]
pub struct Guess {
    /// What it is mapped to.
    pub entity: Entity,
    /// Canonical column, and the file's column.
    pub columns: Vec<(String, String)>,
    /// Required columns that no column of the file looks like.
    pub missing: Vec<&'static str>,
    /// The signs of its numbers.
    pub signs: (char, Option<char>),
    /// The formats of its dates, and those that fit as well.
    pub dates: Vec<(&'static str, Option<&'static str>)>,
    /// The file's columns that nothing is made of.
    pub unused: Vec<String>,
    /// Those among them that have a canonical name, and do not look like it.
    pub misnamed: Vec<String>,
}

/// The entity of which most columns are found, none of the required ones missing, if there is such.
#[must_use]
pub fn guess(looks: &[Look]) -> Option<Guess> {
    let all: Vec<Guess> = names::entities().map(|entity| of(entity, looks)).collect();
    let better = |a: &&Guess, b: &&Guess| (b.missing.len(), a.columns.len()).cmp(&(a.missing.len(), b.columns.len()));
    // Of equals, the first.
    let best = all.iter().rev().max_by(better)?;
    (!best.columns.is_empty()).then(|| best.clone())
}

fn of(entity: Entity, looks: &[Look]) -> Guess {
    let mut columns: Vec<(String, String)> = Vec::new();
    let taken = |columns: &[(String, String)], name: &str| columns.iter().any(|(_, from)| from == name);
    // What has its own name goes before what may be meant, and what is needed may be what cannot be read yet.
    for (exactly, read) in [(true, true), (false, true), (false, false)] {
        for column in entity.columns().iter().filter(|c| read || c.required || c.name == "total") {
            if columns.iter().any(|(name, _)| name == column.name) {
                continue;
            }
            let known: Vec<String> =
                names::of(entity, column.name).take(if exactly { 1 } else { usize::MAX }).collect();
            let fits = |look: &&Look| !look.objects && (!read || look.known == 0 || fits(column.kind, look));
            let found = known.iter().find_map(|name| {
                let mut named =
                    looks.iter().filter(|look| names::plain(&look.name) == *name && !taken(&columns, &look.name));
                named.find(fits)
            });
            if let Some(look) = found {
                columns.push((column.name.to_owned(), look.name.clone()));
            }
        }
    }
    // E-mail addresses are, whatever they are called.
    if entity == Entity::Customers
        && !columns.iter().any(|(name, _)| name == "email")
        && let Some(look) = looks.iter().find(|look| look.emails && !taken(&columns, &look.name))
    {
        columns.push(("email".to_owned(), look.name.clone()));
    }
    let order = |name: &str| entity.columns().iter().position(|c| c.name == name);
    columns.sort_by_key(|(name, _)| order(name));
    let has = |name: &str| columns.iter().any(|(column, _)| column == name);
    let missing = entity.columns().iter().filter(|c| c.required && !has(c.name) && !c.instead.is_some_and(has));
    let missing = missing.map(|c| c.name).collect();

    let mapped = |kinds: fn(Kind) -> bool| {
        columns.iter().filter_map(move |(name, from)| {
            let kind = entity.column(name)?.kind;
            looks.iter().find(|look| look.name == *from && look.is_text() && look.known > 0).filter(|_| kinds(kind))
        })
    };
    let numbers: Vec<&Look> = mapped(is_number).collect();
    let signs = super::looks::SIGNS.into_iter().find(|signs| numbers.iter().all(|look| look.numbers.contains(signs)));
    let mut dates = Vec::new();
    for look in mapped(|kind| matches!(kind, Kind::Instant | Kind::Date)) {
        let Some(format) = look.dates.first().filter(|format| !format.is_empty()) else { continue };
        let other = look.dates.get(1).filter(|other| other.len() == format.len()).copied();
        if !dates.contains(&(*format, other)) {
            dates.push((*format, other));
        }
    }
    // A column of a canonical name is taken by that name, unless somebody says otherwise.
    let misnamed = looks.iter().filter(|look| entity.column(&look.name).is_some() && !taken(&columns, &look.name));
    let misnamed = misnamed.map(|look| look.name.clone()).collect();
    let unused = looks.iter().filter(|look| !taken(&columns, &look.name)).map(|look| look.name.clone()).collect();
    Guess { entity, columns, missing, signs: signs.unwrap_or(('.', None)), dates, unused, misnamed }
}

fn is_number(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Integer | Kind::Small | Kind::Float | Kind::Money | Kind::Price | Kind::Quantity | Kind::Fraction
    )
}

fn fits(kind: Kind, look: &Look) -> bool {
    match kind {
        Kind::Instant | Kind::Date => look.is_date(),
        Kind::Boolean => look.distinct <= 3,
        Kind::Fraction => look.is_number() && look.most.is_none_or(|most| most <= 1.0),
        Kind::Text | Kind::TextList => true,
        kind => !is_number(kind) || look.is_number(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::looks::looks, *};
    use crate::testing;

    async fn guessed(text: &str) -> String {
        let (engine, frame) = testing::raw(text).await;
        let header = text.lines().next().expect("a header");
        let names: Vec<String> = header.split([';', ',']).map(str::to_owned).collect();
        let Some(found) = guess(&looks(&engine, &frame, &names).await.expect("looks")) else {
            return "none".to_owned();
        };
        let columns: Vec<_> = found.columns.iter().map(|(name, from)| format!("{name}={from}")).collect();
        format!(
            "{} {} missing {:?} signs {:?} dates {:?} unused {:?}",
            found.entity,
            columns.join(" "),
            found.missing,
            found.signs,
            found.dates,
            found.unused
        )
    }

    #[tokio::test]
    async fn files_are_taken_for_what_their_columns_say() {
        let orders = "Beleg-Nr;Kundennummer;Datum;Artikel;Menge;Einzelpreis;Filiale\n1;7;03.02.2025;A;1;1.234,50;Ulm\n2;8;13.02.2025;B;2;3,00;Köln\n";
        let uk = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country\n1,A,x,1,2009-12-01 07:45:00,6.95,13085.0,UK\n";
        let people = "id,Vorname,Nachname,mail,PLZ,Geburtsdatum\n1,Ann,Au,a@b.example,89073,01/02/1980\n2,Bob,Be,b@b.example,50667,03/04/1981\n";
        let ads = "Tag;Plattform;Kosten\n2025-01-01;search;1.200,00\n2025-01-02;social;3,50\n";
        let paid = "household_id,sales_value,transaction_timestamp\n1,3.5,2017-01-28 19:06:53\n";
        let mut all = Vec::new();
        for text in [orders, uk, people, ads, paid, "a,b\n1,2\nx,y\n"] {
            all.push(guessed(text).await);
        }
        insta::assert_snapshot!(all.join("\n"), @r#"
        transactions order_id=Beleg-Nr customer_id=Kundennummer ordered_at=Datum product_id=Artikel quantity=Menge unit_price=Einzelpreis missing [] signs (',', Some('.')) dates [("%d.%m.%Y", None)] unused ["Filiale"]
        transactions order_id=Invoice customer_id=Customer ID ordered_at=InvoiceDate product_id=StockCode quantity=Quantity unit_price=Price missing [] signs ('.', None) dates [] unused ["Description", "Country"]
        customers customer_id=id email=mail first_name=Vorname last_name=Nachname birth_date=Geburtsdatum postal_code=PLZ missing [] signs ('.', None) dates [("%d/%m/%Y", Some("%m/%d/%Y"))] unused []
        marketing_costs spent_on=Tag channel=Plattform amount=Kosten missing [] signs (',', Some('.')) dates [] unused []
        transactions customer_id=household_id ordered_at=transaction_timestamp total=sales_value missing [] signs ('.', None) dates [] unused []
        none
        "#);
    }
}
