//! Names, streets and ids of people in the shape in which they are compared.
//!
//! `name_key(text)`: small Latin letters, words between single blanks, without titles; `ae`, `oe` and `ue` are `a`, `o` and `u`, so that
//! Müller, Mueller and Muller are one. `street_key(text)`: the same of a street without its number, its usual words abbreviated.
//! `house_number(text)`: the first number of an address, with the letter behind it. `id_key(text)`: its letters and digits.
//! `nickname(name)`: the name that a familiar form stands for, or the name itself. `short_name(a, b)`: whether one is the other's initial, or its
//! first words. `soundex(name)`: American Soundex (Russell 1918; as the National Archives have it). What says nothing is null.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, BooleanArray, StringViewBuilder},
        datatypes::DataType,
    },
    logical_expr::ScalarUDF,
};

use super::{arity, cast, stateless};

pub(super) fn udfs() -> Vec<ScalarUDF> {
    vec![
        of_text("name_key", |text, out| name_key(text, &[], out)),
        of_text("street_key", |text, out| name_key(text, STREET_WORDS, out)),
        of_text("house_number", house_number),
        of_text("id_key", id_key),
        of_text("nickname", |name, out| out.push_str(nickname(name))),
        of_text("soundex", soundex),
        stateless("short_name", DataType::Boolean, |args| {
            arity("short_name", args, 2)?;
            let (a, b) = (cast(&args[0], &DataType::Utf8View)?, cast(&args[1], &DataType::Utf8View)?);
            let pairs = a.as_string_view().iter().zip(b.as_string_view());
            Ok(Arc::new(pairs.map(|(a, b)| Some(short_name(a?, b?))).collect::<BooleanArray>()))
        }),
    ]
}

/// A function from a text to a text, null where it writes none.
pub(super) fn of_text(name: &'static str, write: impl Fn(&str, &mut String) + Send + Sync + 'static) -> ScalarUDF {
    stateless(name, DataType::Utf8View, move |args| {
        arity(name, args, 1)?;
        let texts = cast(&args[0], &DataType::Utf8View)?;
        let texts = texts.as_string_view();
        let mut keys = StringViewBuilder::with_capacity(texts.len());
        let mut key = String::new();
        for text in texts {
            key.clear();
            if let Some(text) = text {
                // Nobody's name is longer, and what is compared must not cost what somebody once put into a field.
                write(&text[..text.floor_char_boundary(LONGEST)], &mut key);
            }
            match key.as_str() {
                "" => keys.append_null(),
                key => keys.append_value(key),
            }
        }
        Ok(Arc::new(keys.finish()) as ArrayRef)
    })
}

const LONGEST: usize = 200;

const TITLES: [&str; 14] =
    ["mr", "mrs", "ms", "miss", "mister", "dr", "prof", "herr", "frau", "mme", "monsieur", "madame", "sir", "dipl"];

/// What words of a street are, in the form of their ends or of their own.
const STREET_WORDS: &[(&str, &str)] = &[
    ("strasse", "str"),
    ("street", "st"),
    ("straat", "str"),
    ("avenue", "ave"),
    ("boulevard", "blvd"),
    ("crescent", "cres"),
    ("circuit", "cct"),
    ("drive", "dr"),
    ("place", "pl"),
    ("close", "cl"),
    ("court", "ct"),
    ("road", "rd"),
    ("lane", "ln"),
    ("square", "sq"),
    ("platz", "pl"),
    ("gatan", "g"),
];

fn name_key(text: &str, words: &[(&str, &str)], out: &mut String) {
    let latin;
    let text = match text.is_ascii() {
        true => text,
        false => {
            latin = deunicode::deunicode(text);
            &latin
        }
    };
    let mut word = String::new();
    for letter in text.chars().chain([' ']) {
        match letter {
            'a'..='z' => word.push(letter),
            'A'..='Z' => word.push(letter.to_ascii_lowercase()),
            // O'Brien is one word.
            '\'' | '`' => {}
            _ => {
                finish(&mut word, words, out);
                word.clear();
            }
        }
    }
}

fn finish(word: &mut String, words: &[(&str, &str)], out: &mut String) {
    if word.is_empty() || (words.is_empty() && TITLES.contains(&word.as_str())) {
        return;
    }
    if let Some((long, short)) = words.iter().find(|(long, _)| word.ends_with(long)) {
        word.truncate(word.len() - long.len());
        word.push_str(short);
    }
    if !out.is_empty() {
        out.push(' ');
    }
    let mut before = ' ';
    for letter in word.chars() {
        if letter != 'e' || !matches!(before, 'a' | 'o' | 'u') {
            out.push(letter);
        }
        before = letter;
    }
}

fn house_number(text: &str, out: &mut String) {
    let Some(from) = text.find(|c: char| c.is_ascii_digit()) else { return };
    let rest = &text[from..];
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    out.push_str(rest[..digits].trim_start_matches('0'));
    let mut behind = rest[digits..].trim_start().chars();
    if let Some(letter) = behind.next().filter(char::is_ascii_alphabetic)
        && !behind.next().is_some_and(char::is_alphanumeric)
    {
        out.push(letter.to_ascii_lowercase());
    }
}

fn id_key(text: &str, out: &mut String) {
    out.extend(text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()));
    let first = out.as_bytes().first().copied();
    if out.len() > 1 && out.bytes().all(|b| Some(b) == first) {
        out.clear();
    }
}

fn short_name(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let Some(rest) = long.strip_prefix(short) else { return false };
    short.len() == 1 || rest.starts_with(' ')
}

fn soundex(name: &str, out: &mut String) {
    let code = |letter: char| match letter {
        'b' | 'f' | 'p' | 'v' => '1',
        'c' | 'g' | 'j' | 'k' | 'q' | 's' | 'x' | 'z' => '2',
        'd' | 't' => '3',
        'l' => '4',
        'm' | 'n' => '5',
        'r' => '6',
        _ => '0',
    };
    let mut letters = name.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase());
    let Some(first) = letters.next() else { return };
    out.push(first);
    let mut last = code(first);
    for letter in letters {
        let this = code(letter);
        if this != '0' && this != last {
            out.push(this);
        }
        if !matches!(letter, 'h' | 'w') {
            last = this;
        }
        if out.len() == 4 {
            return;
        }
    }
    while out.len() < 4 {
        out.push('0');
    }
}

/// Familiar forms by the name that they stand for, in the shape of `name_key`. A form that stands for several names is in none.
const NICKNAMES: &[(&str, &[&str])] = &[
    ("alexander", &["alex", "sascha", "sandy"]),
    ("andreas", &["andi", "andy"]),
    ("anthony", &["tony"]),
    ("benjamin", &["ben", "benny", "benji"]),
    ("catherine", &["cathy", "kate", "katie", "kathy", "katherine", "kathryn"]),
    ("charles", &["charlie", "chuck"]),
    ("christina", &["tina", "christine"]),
    ("christopher", &["christoph", "kit"]),
    ("daniel", &["dan", "danny"]),
    ("david", &["dave", "davey"]),
    ("deborah", &["debbie", "deb", "debra"]),
    ("dorothy", &["dot", "dottie"]),
    ("edward", &["ed", "eddie", "ted", "teddy", "ned"]),
    ("elisabeth", &["elizabeth", "liz", "lizzie", "beth", "betty", "lisbeth", "eliza", "lilli"]),
    ("eleanor", &["ellie", "nell"]),
    ("francis", &["frank", "franky"]),
    ("frederick", &["fred", "freddie", "friedrich", "fritz"]),
    ("gregory", &["greg"]),
    ("hans", &["johannes", "hannes"]),
    ("henry", &["harry", "hank"]),
    ("jacquline", &["jackie"]),
    ("james", &["jim", "jimmy", "jamie"]),
    ("jennifer", &["jenny", "jen"]),
    ("jessica", &["jess", "jessie"]),
    ("john", &["jack", "johnny", "jon"]),
    ("jonathan", &["jonny"]),
    ("josef", &["joseph", "jo", "sepp"]),
    ("joshua", &["josh"]),
    ("kenneth", &["ken", "kenny"]),
    ("lawrence", &["larry", "laurence"]),
    ("margaret", &["maggie", "meg", "peggy", "margarete", "gretel"]),
    ("mathew", &["matthew", "matt"]),
    ("michal", &["mike", "mick", "mickey", "micha"]),
    ("nicholas", &["nick", "nicky", "nicolas", "klaus", "nikolaus"]),
    ("pamela", &["pam"]),
    ("patrick", &["paddy"]),
    ("peter", &["pete"]),
    ("philip", &["phil", "phillip", "philipp"]),
    ("rebecca", &["becky", "becca"]),
    ("richard", &["dick", "rick", "ricky", "rich", "richie"]),
    ("robert", &["bob", "bobby", "rob", "robbie", "bert"]),
    ("ronald", &["ron", "ronnie"]),
    ("samul", &["sam", "sammy"]),
    ("stephan", &["stefan", "stephen", "steven", "steve", "steffen"]),
    ("susan", &["su", "susie", "susanne", "suzanne"]),
    ("theresa", &["terri", "tess", "tracy", "resi"]),
    ("thomas", &["tom", "tommy"]),
    ("timothy", &["tim", "timmy"]),
    ("victoria", &["vicky", "tori"]),
    ("william", &["bill", "billy", "will", "willie", "willy", "wilhelm"]),
    ("zachary", &["zach", "zack"]),
];

fn nickname(name: &str) -> &str {
    let mut forms = NICKNAMES.iter().flat_map(|(full, forms)| forms.iter().map(move |form| (*form, *full)));
    forms.find(|(form, _)| *form == name).map_or(name, |(_, full)| full)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(write: impl Fn(&str, &mut String), text: &str) -> String {
        let mut out = String::new();
        write(text, &mut out);
        out
    }

    #[test]
    fn names_are_one_however_they_are_written() {
        let name = |text: &str| of(|t, out| name_key(t, &[], out), text);
        for text in ["Müller", " MUELLER ", "Muller", "Dr. Müller"] {
            assert_eq!(name(text), "muller", "{text}");
        }
        assert_eq!(name("O'Brien"), "obrien");
        assert_eq!(name("Anna-Maria  de la Cruz"), "anna maria de la cruz");
        assert_eq!(name("Иванов"), "ivanov");
        assert_eq!(name(" - 12 "), "");
    }

    #[test]
    fn streets_without_numbers() {
        let street = |text: &str| of(|t, out| name_key(t, STREET_WORDS, out), text);
        assert_eq!(street("Hauptstraße 12a"), "hauptstr a");
        assert_eq!(street("12 Main Street"), street("Main St. 12"));
        let house = |text: &str| of(house_number, text);
        assert_eq!(
            (house("Hauptstr. 012 b"), house("12 Main Street"), house("Am Hof")),
            ("12b".into(), "12".into(), String::new())
        );
    }

    #[test]
    fn ids_and_what_is_none() {
        assert_eq!(of(id_key, "ab-12 3"), "AB123");
        assert_eq!(of(id_key, "000-000"), "");
    }

    /// The examples of the National Archives.
    #[test]
    fn soundex_of_the_archives() {
        for (name, code) in [
            ("washington", "w252"),
            ("lee", "l000"),
            ("gutierrez", "g362"),
            ("pfister", "p236"),
            ("jackson", "j250"),
            ("tymczak", "t522"),
            ("vandeusen", "v532"),
            ("ashcraft", "a261"),
        ] {
            assert_eq!(of(soundex, name), code, "{name}");
        }
    }

    #[test]
    fn short_and_familiar_names() {
        assert!(short_name("a", "anna") && short_name("anna maria", "anna") && !short_name("ann", "anna"));
        assert_eq!((nickname("bob"), nickname("robert"), nickname("xaver")), ("robert", "robert", "xaver"));
        let mut all: Vec<_> = NICKNAMES.iter().flat_map(|(full, forms)| forms.iter().chain([full])).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "a form stands for one name");
        assert!(all.iter().all(|name| of(|t, out| name_key(t, &[], out), name) == ***name), "in the shape of name_key");
    }
}
