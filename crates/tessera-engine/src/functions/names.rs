//! Names, streets and ids of people in the shape in which they are compared.
//!
//! `name_key(text)`: small Latin letters, words between single blanks, without titles; `ae`, `oe` and `ue` are `a`, `o` and `u`, so that
//! Müller, Mueller and Muller are one. `street_key(text)`: the same of a street without its number, its usual words abbreviated.
//! `house_number(text)`: the first number of an address, with the letter behind it. `id_key(text)`: its letters and digits.
//! `familiar_names(a, b)`: whether one name is a familiar form of the other, or both of a third. `short_name(a, b)`: whether one is the other's
//! initial, or its first words. `swapped_names(given, family, given, family)`: whether the one's given name is the other's family name, where
//! at least one such pair is known and neither differs. `soundex(name)`: American Soundex (Russell 1918; as the National Archives have it). What says nothing is null.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, BooleanArray, StringViewBuilder},
        datatypes::DataType,
    },
    common::Result,
    logical_expr::ScalarUDF,
};

use super::{arity, cast, similarity::jaro_winkler, stateless};

pub(super) fn udfs() -> Vec<ScalarUDF> {
    vec![
        of_text("name_key", |text, out| name_key(text, &[], out)),
        of_text("street_key", |text, out| name_key(text, STREET_WORDS, out)),
        of_text("house_number", house_number),
        of_text("id_key", id_key),
        of_text("soundex", soundex),
        of_pair("short_name", short_name),
        of_pair("familiar_names", familiar_names),
        stateless("swapped_names", DataType::Boolean, |args| {
            arity("swapped_names", args, 4)?;
            let args = args.iter().map(|arg| cast(arg, &DataType::Utf8View)).collect::<Result<Vec<_>>>()?;
            let all: Vec<_> = args.iter().map(|arg| arg.as_string_view()).collect();
            let at = |of: usize, row: usize| all[of].is_valid(row).then(|| all[of].value(row));
            let rows = (0..all[0].len()).map(|row| Some(swapped_names([0, 1, 2, 3].map(|of| at(of, row)))));
            Ok(Arc::new(rows.collect::<BooleanArray>()))
        }),
    ]
}

/// A function of two texts, null where one is.
fn of_pair(name: &'static str, of: fn(&str, &str) -> bool) -> ScalarUDF {
    stateless(name, DataType::Boolean, move |args| {
        arity(name, args, 2)?;
        let (a, b) = (cast(&args[0], &DataType::Utf8View)?, cast(&args[1], &DataType::Utf8View)?);
        let pairs = a.as_string_view().iter().zip(b.as_string_view());
        Ok(Arc::new(pairs.map(|(a, b)| Some(of(a?, b?))).collect::<BooleanArray>()))
    })
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

/// Names with their familiar forms, in the shape of `name_key`. A form may stand in several lines; names of one line are one person's.
const FAMILIAR: &[&str] = &[
    "alexander alex sascha sandy lex xander sandro alec",
    "alexandra alex sandra sascha sandy alexa lexi lexie",
    "andreas andi andy",
    "andrea andi andy",
    "angelika angela geli angie angi",
    "anna anne ann anni annie nanni annika",
    "annette netti",
    "anthony tony antonio anton toni",
    "antonia toni tonia",
    "barbara barbel babsi babs barb barbie",
    "beatrice beatrix bea trixi trixie",
    "benedikt benedict bene ben",
    "benjamin ben benny benni benji",
    "bernhard bernd bernard berni",
    "birgit birgitta biggi gitti",
    "brigitte gitti biggi",
    "carolin caroline karoline karolin carolina caro karo lina",
    "catherine cathy kate katie kathy katherine kathryn kat cat cathrin",
    "charles charlie chuck charly",
    "charlotte lotte lotti charlie charly",
    "christian chris",
    "christina christine tina chris chrissi chrissy christl christel christiane",
    "christopher christoph chris kit topher stoffel",
    "cornelia conny conni nelly nele nelli",
    "cornelius conny conni",
    "cornelis cees kees",
    "daniel dan danny dani",
    "daniela dani danny ela",
    "david dave davey",
    "deborah debbie deb debra",
    "dominik domi nik",
    "dorothea dorothy doro thea dora dot dottie",
    "edward eduard ed eddie eddi ted teddy ned edi",
    "edeltraud traudl edel",
    "eleanor eleonore eleonora ellie nell nora elli lore",
    "elisabeth elizabeth liz lizzie beth betty lisbeth eliza lilli lisa liesel lisl liesl liese elli ella elsa else betti sissi sisi lis lily lise bess",
    "emilia emmi emilie emily mila milli emmy",
    "eva evi evita",
    "ferdinand ferdi ferdl",
    "florian flo flori",
    "francis frank franky francesco franco cesco",
    "francisco paco pancho",
    "franz franzl franzi",
    "franziska franzi ziska fanny sissi fanni francisca",
    "frederick fred freddie friedrich fritz frederik freddy fiete fredi",
    "friederike rike fritzi riki frieda",
    "gabriel gabi gabe",
    "gabriele gabi gaby gabriela",
    "george georg schorsch georgie schorschi",
    "gerhard gerd gert gerdi",
    "gertrud gertraud traudl trudi gerti trude",
    "giovanni gianni vanni nino",
    "giuseppe beppe peppe pino",
    "gregory greg gregor",
    "hannelore hanni lore hanne",
    "hans johannes hannes johann hansi hanno jan jo jojo",
    "heinrich heini heinz heiner hendrik henk hinnerk",
    "helena helene lena leni hella",
    "henriette jette henni",
    "henry harry hank henri",
    "hildegard hilde hilda",
    "hubert hubi bert",
    "ingeborg inge",
    "ingrid inge",
    "irmgard irmi irma",
    "isabella isabel isabelle isi izzy bella isa",
    "jacob jakob jake kobi",
    "jacquline jackie jacky",
    "james jim jimmy jamie jimmi",
    "jennifer jenny jen jenni",
    "jessica jess jessie jessi",
    "joachim jochen achim jo",
    "johanna hanna hanni hannah jo joanna hanne",
    "john jack johnny jon",
    "jonathan jonny jon",
    "josef joseph jo sepp pepi seppi jupp pepe",
    "jose pepe",
    "josephine josefine josi josie fine fina josefina",
    "joshua josh",
    "julia juliane juliana jule juli",
    "karl carl kalle charly carlo",
    "katharina kathi kathy kati katja katrin kathrin kathe catharina katarina kat",
    "kenneth ken kenny",
    "konrad conrad conny konny conni",
    "kristina kristin kris krissi tina christina",
    "lawrence larry laurence",
    "leonhard leonard leo",
    "leopold leo poldi",
    "lieselotte liselotte lilo lotte liesel",
    "louis ludwig lutz luggi",
    "louise luise lu luisa",
    "lukas lucas luki luke",
    "magdalena lena leni magda madlen lene",
    "manfred manni mani fred",
    "manul manu",
    "manula manu ela",
    "margaret maggie meg peggy margarete gretel grete greta gretchen rita margarethe margarita",
    "maria mia mitzi marie ria mimi mariechen",
    "marianne nanni mari",
    "marlene leni lena",
    "martina tina",
    "mathew matthew matt",
    "matthias mathias matze matthi hias matz matti",
    "maximilian max maxi maxim",
    "melanie mel melli meli",
    "michal mike mick mickey micha michi michel mischa mitch mikhail",
    "michala michi micha ela",
    "monika monica moni nika",
    "nicholas nick nicky nicolas klaus nikolaus niko nico nik nikolas niki",
    "nicole nicki nicky niki nico",
    "niklas nik niklaus",
    "oliver olli oli ollie",
    "pamela pam",
    "patricia pat patty tricia trish patti",
    "patrick paddy pat rick",
    "peter pete piet",
    "philip phil phillip philipp",
    "raphal rafal raf rafi raffi",
    "rebecca rebekka becky becca bekki",
    "regina gina",
    "reinhard reini hardy",
    "renate reni renata",
    "richard dick rick ricky rich richie",
    "robert bob bobby rob robbie bert robbi",
    "roland rolli",
    "ronald ron ronnie",
    "rosemarie rosi romy rosa",
    "rudiger rudi",
    "rudolf rudi rolf rudolph",
    "sabine bine biene",
    "samul sam sammy",
    "samantha sam sammy",
    "sebastian basti bastian seb wastl",
    "siegfried sigi siggi",
    "sigrid sigi siggi",
    "silvia sylvia silvi silvie sylvie",
    "simone simona moni simi",
    "sophia sophie sofia sofie",
    "stephan stefan stephen steven steve steffen steff stef stevie",
    "stephanie stefanie steffi steffy stef steph fanny stefani",
    "susan su susie susanne suzanne susanna susi sanne sanna suse",
    "tatjana tatiana tanja tanya",
    "theodor theo teddy theodore",
    "theresa therese teresa terri tess tracy resi tessa resl",
    "thomas tom tommy tommi thomi",
    "thorsten torsten totti",
    "timothy tim timmy timo timotheus",
    "tobias tobi toby",
    "ulrich uli ulli",
    "ulrike uli ulli rike",
    "ursula uschi ulla ursel uli",
    "valentin vali valli",
    "valentina vali valli tina",
    "veronika veronica vroni roni",
    "victor viktor vic",
    "victoria viktoria vicky tori vicki viki",
    "vincent vinzenz vinz vince",
    "waltraud traudl traudi wally",
    "walter walli",
    "wilhelm willi willy will",
    "wilhelmus wim",
    "william bill billy will willie willy wilhelm liam",
    "wolfgang wolfi wolf wolle",
    "zachary zach zack",
    "aleksandr sasha shura aleks",
    "aleksandra sasha ola",
    "anastasia nastya stasia",
    "dmitri dima",
    "ekaterina katya",
    "elena lena",
    "evgeni zhenya",
    "grzegorz grzes",
    "guadalupe lupe",
    "ignacio nacho",
    "ivan vanya",
    "katarzyna kasia",
    "luigi gigi gino",
    "malgorzata gosia",
    "natalia natasha natalie",
    "olga olya",
    "pavel pasha",
    "salvatore toto turi",
    "tomasz tomek",
    "vladimir vova volodya",
    "yuri yura",
];

/// The lines in which a name stands.
static LINES: LazyLock<HashMap<&str, Vec<usize>>> = LazyLock::new(|| {
    let mut lines: HashMap<&str, Vec<usize>> = HashMap::new();
    for (line, names) in FAMILIAR.iter().enumerate() {
        names.split(' ').for_each(|name| lines.entry(name).or_default().push(line));
    }
    lines
});

fn familiar_names(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    // A form that nobody listed: Chris and Christian, Kathi and Katharina.
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if shortened(short, long) {
        return true;
    }
    let (Some(of_a), Some(of_b)) = (LINES.get(a), LINES.get(b)) else { return false };
    of_a.iter().any(|line| of_b.contains(line))
}

/// Whether a name is the beginning of another, or that with an `i` behind it. The endings by which a woman's name is made of a man's are none.
fn shortened(short: &str, long: &str) -> bool {
    const HERS: [&str; 15] = [
        "ina", "ine", "nie", "etta", "ette", "otta", "otte", "ella", "elle", "iana", "iane", "dora", "nora", "nore",
        "rina",
    ];
    // Where bytes are letters, any of them may be cut off.
    if !short.is_ascii() || !long.is_ascii() {
        return false;
    }
    if short.len() >= 3
        && let Some(rest) = long.strip_prefix(short)
    {
        return rest.len() >= 3 && !HERS.contains(&rest);
    }
    let Some(stem) = short.strip_suffix('i') else { return false };
    // Steffi is of Stefanie.
    let single = match stem.as_bytes() {
        [rest @ .., a, b] if a == b => &stem[..rest.len() + 1],
        _ => stem,
    };
    // Of three letters, many names begin so.
    stem.len() >= 4 && long.len() > short.len() && (long.starts_with(stem) || long.starts_with(single))
}

/// How alike names are that are one but for a slip.
const ALIKE: f64 = 0.92;

fn swapped_names([given, family, other_given, other_family]: [Option<&str>; 4]) -> bool {
    let alike = |a: Option<&str>, b: Option<&str>| Some(jaro_winkler(a?, b?) >= ALIKE);
    match (alike(given, other_family), alike(family, other_given)) {
        (Some(one), Some(other)) => one && other,
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => false,
    }
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
        for (a, b) in
            [("bob", "robert"), ("robert", "bob"), ("kate", "cathy"), ("alex", "alexandra"), ("xaver", "xaver")]
        {
            assert!(familiar_names(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("chris", "christian"),
            ("max", "maximilian"),
            ("steffi", "stefanie"),
            ("kathi", "katharina"),
            ("tobi", "tobias"),
        ] {
            assert!(familiar_names(a, b) && familiar_names(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("alexander", "alexandra"),
            ("paul", "paula"),
            ("jan", "janina"),
            ("simon", "simone"),
            ("bob", "bill"),
            ("lena", "lea"),
            ("leo", "leonie"),
            ("carl", "carlotta"),
            ("anni", "andreas"),
            ("mari", "martin"),
            ("充i", "充kolaus"),
        ] {
            assert!(!familiar_names(a, b), "{a} {b}");
        }
        for line in FAMILIAR {
            let mut names: Vec<_> = line.split(' ').collect();
            assert!(
                names.iter().all(|name| of(|t, out| name_key(t, &[], out), name) == **name),
                "in the shape of name_key: {line}"
            );
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), line.split(' ').count(), "{line}");
        }
    }

    #[test]
    fn swapped_names_need_a_pair_that_is_known() {
        let swapped = |of: [&str; 4]| swapped_names(of.map(|name| (!name.is_empty()).then_some(name)));
        assert!(swapped(["anna", "schmidt", "schmidt", "anna"]) && swapped(["anna", "schmidt", "schmitt", "ana"]));
        assert!(swapped(["schmidt", "", "anna", "schmidt"]) && swapped(["anna", "schmidt", "schmidt", ""]));
        assert!(!swapped(["anna", "schmidt", "schmidt", "paul"]) && !swapped(["anna", "", "paul", ""]));
    }
}
