//! What exports call the canonical columns: letters and digits alone, lower case.

use crate::Entity;

/// By canonical column, the names that sources give it.
type Called = &'static [(&'static str, &'static [&'static str])];

/// The entities in the order in which a file is taken for one, with the names of their columns.
const NAMES: &[(Entity, Called)] = &[
    (
        Entity::Transactions,
        &[
            (
                "order_id",
                &[
                    "order",
                    "orderno",
                    "ordernumber",
                    "ordernr",
                    "invoice",
                    "invoiceno",
                    "invoiceid",
                    "receipt",
                    "receiptid",
                    "basket",
                    "basketid",
                    "transactionid",
                    "transaction",
                    "saleid",
                    "beleg",
                    "belegnr",
                    "belegnummer",
                    "bestellung",
                    "bestellnr",
                    "bestellnummer",
                    "auftrag",
                    "auftragsnr",
                    "auftragsnummer",
                    "rechnung",
                    "rechnungsnr",
                    "bon",
                    "bonnr",
                ],
            ),
            ("line_id", &["line", "lineno", "item", "itemno", "position", "pos", "orderitemid"]),
            (
                "customer_id",
                &[
                    "customer",
                    "customerno",
                    "customernumber",
                    "customernr",
                    "cust",
                    "custid",
                    "custno",
                    "client",
                    "clientid",
                    "user",
                    "userid",
                    "household",
                    "householdid",
                    "member",
                    "memberid",
                    "account",
                    "accountid",
                    "buyer",
                    "buyerid",
                    "kunde",
                    "kundenr",
                    "kundennr",
                    "kundennummer",
                    "kundenid",
                    "contactid",
                    "id",
                ],
            ),
            (
                "ordered_at",
                &[
                    "date",
                    "time",
                    "datetime",
                    "timestamp",
                    "orderdate",
                    "ordertime",
                    "orderedon",
                    "invoicedate",
                    "purchasedate",
                    "purchasedat",
                    "purchasetimestamp",
                    "orderpurchasetimestamp",
                    "transactiondate",
                    "transactiontimestamp",
                    "transactiontime",
                    "saledate",
                    "createdat",
                    "created",
                    "day",
                    "datum",
                    "bestelldatum",
                    "belegdatum",
                    "rechnungsdatum",
                    "kaufdatum",
                    "ts",
                ],
            ),
            (
                "product_id",
                &[
                    "product",
                    "productcode",
                    "productno",
                    "sku",
                    "stockcode",
                    "article",
                    "articleid",
                    "articleno",
                    "artikel",
                    "artikelnr",
                    "artikelnummer",
                    "itemid",
                    "itemcode",
                    "upc",
                    "ean",
                    "asin",
                ],
            ),
            (
                "category",
                &["productcategory", "department", "group", "productgroup", "warengruppe", "kategorie", "sparte"],
            ),
            (
                "quantity",
                &[
                    "qty",
                    "units",
                    "unit",
                    "pieces",
                    "number",
                    "count",
                    "amountofitems",
                    "menge",
                    "anzahl",
                    "stueck",
                    "stück",
                ],
            ),
            (
                "unit_price",
                &[
                    "price",
                    "unitprice",
                    "itemprice",
                    "priceperunit",
                    "preis",
                    "einzelpreis",
                    "stueckpreis",
                    "stückpreis",
                ],
            ),
            ("discount", &["discountrate", "discountshare", "rabatt", "rabattsatz"]),
            ("unit_cost", &["cost", "costprice", "einkaufspreis", "kosten"]),
            ("channel", &["saleschannel", "kanal", "vertriebskanal"]),
            ("is_return", &["return", "returned", "isreturned", "retoure", "storno", "refund", "isrefund"]),
            (
                "total",
                &[
                    "amount",
                    "value",
                    "linetotal",
                    "sales",
                    "salesvalue",
                    "saleamount",
                    "revenue",
                    "turnover",
                    "spend",
                    "totalprice",
                    "totalamount",
                    "payment",
                    "paymentvalue",
                    "dollars",
                    "betrag",
                    "summe",
                    "umsatz",
                    "gesamt",
                    "gesamtpreis",
                    "gesamtbetrag",
                ],
            ),
        ],
    ),
    (
        Entity::CampaignContacts,
        &[
            ("campaign_id", &["campaign", "campaignname", "campaignno", "kampagne", "kampagnenr"]),
            (
                "customer_id",
                &[
                    "customer",
                    "custid",
                    "client",
                    "clientid",
                    "user",
                    "userid",
                    "household",
                    "householdid",
                    "contactid",
                    "kunde",
                    "kundennr",
                    "kundennummer",
                ],
            ),
            (
                "contacted_at",
                &[
                    "contactdate",
                    "sentat",
                    "sent",
                    "senddate",
                    "date",
                    "startdate",
                    "kontaktdatum",
                    "versanddatum",
                    "datum",
                ],
            ),
            ("channel", &["contact", "medium", "kanal"]),
            ("group", &["testgroup", "treatment", "arm", "segment", "gruppe"]),
            ("cost", &["contactcost", "kosten"]),
            ("responded_at", &["responsedate", "response", "openedat", "redemptiondate", "reaktion", "antwort"]),
            ("converted_at", &["conversiondate", "conversion", "purchasedat", "kauf"]),
            ("converted_amount", &["conversionvalue", "spend", "betrag"]),
        ],
    ),
    (
        Entity::Interactions,
        &[
            (
                "customer_id",
                &[
                    "customer",
                    "custid",
                    "client",
                    "clientid",
                    "user",
                    "userid",
                    "visitorid",
                    "visitor",
                    "contactid",
                    "kunde",
                    "kundennr",
                    "kundennummer",
                ],
            ),
            (
                "occurred_at",
                &[
                    "date",
                    "time",
                    "timestamp",
                    "eventtime",
                    "eventdate",
                    "createdat",
                    "visitedat",
                    "datum",
                    "zeit",
                    "ts",
                ],
            ),
            ("kind", &["event", "eventtype", "eventname", "type", "action", "activity", "ereignis", "art"]),
            ("channel", &["source", "medium", "device", "kanal"]),
            ("count", &["hits", "visits", "events", "anzahl"]),
        ],
    ),
    (
        Entity::SurveyResponses,
        &[
            (
                "customer_id",
                &[
                    "customer",
                    "custid",
                    "client",
                    "user",
                    "userid",
                    "respondent",
                    "respondentid",
                    "kunde",
                    "kundennr",
                    "kundennummer",
                ],
            ),
            ("answered_at", &["date", "submittedat", "responsedate", "timestamp", "answerdate", "datum"]),
            ("instrument", &["survey", "question", "item", "questionid", "umfrage", "frage"]),
            ("score", &["rating", "answer", "value", "points", "nps", "csat", "note", "bewertung", "punkte"]),
            ("text", &["comment", "feedback", "remark", "kommentar"]),
        ],
    ),
    (
        Entity::MarketingCosts,
        &[
            ("spent_on", &["date", "day", "datum", "tag"]),
            ("channel", &["campaign", "source", "medium", "platform", "network", "kanal", "plattform", "kampagne"]),
            ("amount", &["cost", "costs", "spend", "amountspent", "budget", "betrag", "kosten", "ausgaben"]),
        ],
    ),
    (
        Entity::Customers,
        &[
            (
                "customer_id",
                &[
                    "customer",
                    "customerno",
                    "customernumber",
                    "customernr",
                    "cust",
                    "custid",
                    "custno",
                    "client",
                    "clientid",
                    "user",
                    "userid",
                    "household",
                    "householdid",
                    "member",
                    "memberid",
                    "account",
                    "accountid",
                    "kunde",
                    "kundenr",
                    "kundennr",
                    "kundennummer",
                    "kundenid",
                    "contactid",
                    "id",
                    "recid",
                ],
            ),
            ("email", &["mail", "emailaddress", "emailadresse", "mailadresse"]),
            ("phone", &["telephone", "tel", "phonenumber", "mobile", "telefon", "telefonnummer", "handy"]),
            ("first_name", &["firstname", "givenname", "forename", "vorname"]),
            ("last_name", &["lastname", "surname", "familyname", "nachname", "name"]),
            ("birth_date", &["birthdate", "dateofbirth", "dob", "birthday", "geburtsdatum", "geboren"]),
            ("gender", &["sex", "geschlecht"]),
            ("income", &["yearlyincome", "annualincome", "einkommen"]),
            ("education", &["bildung", "ausbildung", "schulabschluss"]),
            ("occupation", &["job", "profession", "beruf"]),
            ("country", &["countrycode", "land", "nation"]),
            ("region", &["state", "province", "county", "bundesland"]),
            ("city", &["town", "ort", "stadt", "suburb"]),
            ("postal_code", &["postcode", "zip", "zipcode", "plz", "postleitzahl"]),
            ("address", &["street", "streetaddress", "addressline1", "address1", "strasse", "anschrift"]),
            ("national_id", &["socsecid", "ssn", "socialsecurity", "nationalid", "taxid", "loyaltycard", "loyaltyid"]),
            (
                "signup_at",
                &[
                    "signup",
                    "signupdate",
                    "registered",
                    "registeredat",
                    "registrationdate",
                    "joined",
                    "joindate",
                    "createdat",
                    "customersince",
                    "dtcustomer",
                    "enrolled",
                    "angemeldet",
                    "registriert",
                    "kundeseit",
                ],
            ),
            ("updated_at", &["updated", "modified", "modifiedat", "lastchange", "geaendert", "geändert"]),
            ("acquisition_channel", &["source", "channel", "referrer", "kanal", "quelle"]),
            ("acquisition_cost", &["cac", "cost"]),
            ("consent_marketing", &["optin", "newsletter", "marketingoptin", "einwilligung"]),
            ("consent_profiling", &["profiling", "profilingoptin"]),
        ],
    ),
];

/// A name as names are compared: letters and digits, lower case.
#[must_use]
pub fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The entities that a file may be, in the order in which it is taken for one.
pub fn entities() -> impl Iterator<Item = Entity> {
    NAMES.iter().map(|(entity, _)| *entity)
}

/// Names that a source may give a canonical column, [`plain`], the likeliest first.
pub fn of(entity: Entity, column: &str) -> impl Iterator<Item = String> {
    let known = NAMES.iter().filter(move |(of, _)| *of == entity).flat_map(|(_, columns)| *columns);
    let known = known.filter(move |(name, _)| *name == column).flat_map(|(_, names)| *names);
    std::iter::once(plain(column)).chain(known.map(|name| (*name).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_of_a_canonical_column() {
        for (entity, columns) in NAMES {
            for (column, names) in *columns {
                assert!(entity.column(column).is_some(), "{entity} has no {column}");
                names.iter().for_each(|name| assert_eq!(plain(name), *name));
            }
            let missing = entity.columns().iter().find(|c| !columns.iter().any(|(name, _)| *name == c.name));
            assert!(missing.is_none(), "{entity}: {missing:?}");
        }
        assert_eq!(entities().count(), Entity::ALL.len());
        assert_eq!(plain("Customer ID"), "customerid");
    }
}
