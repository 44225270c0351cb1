//! The same in plain text, for mail and chat: forty lines of 78 columns at most.

use crate::{
    Facts,
    facts::EntryKind,
    number::{clean, count, date, in_unit, title},
    words::{cause, freshness, headlines, moved, segment_name, untold, verdict},
};

const WIDTH: usize = 78;
const LINES: usize = 40;

/// The plain text of a night.
pub fn text(facts: &Facts) -> String {
    let night = &facts.night;
    let mut lines = vec![fit(&format!("{}, night of {}", clean(&night.project, 40), date(&night.as_of)))];
    lines.push("=".repeat(lines[0].chars().count()));
    let said: Vec<String> = verdict(facts).iter().map(|sentence| sentence.text()).collect();
    lines.extend(wrap(&said.join(" "), "", 5));
    lines.push(String::new());
    for row in headlines(facts) {
        let unit = facts.unit(EntryKind::Kpi, &row.kpi);
        let value = match &row.value {
            Some(value) => in_unit(value.value, unit, &night.currency),
            None => untold(&row.state, night.k),
        };
        let moved = moved(row, unit, &night.currency).unwrap_or_default();
        lines.push(fit(&format!("{:<28} {value:>14}  {moved:>14}", clean(&title(&row.kpi), 28))));
    }
    let mut found: Vec<String> = Vec::new();
    for kpi in headlines(facts) {
        let of =
            facts.causes.iter().filter(|row| row.kpi == kpi.kpi && row.segment.is_none() && row.rank.is_some()).take(2);
        for row in of {
            found.extend(wrap(&format!("{}: {}", title(&kpi.kpi), cause(facts, row).text()), "- ", 3));
        }
    }
    found.truncate(9);
    section(&mut lines, "Why", found);
    let sizes = facts.segments().into_iter().map(|id| {
        let row = facts.kpi("customers", Some(id));
        let size = match row.map(|row| (&row.value, &row.state)) {
            Some((Some(value), _)) => count(value.value),
            Some((None, state)) => crate::words::untold_short(state).to_owned(),
            None => "–".to_owned(),
        };
        fit(&format!("{size:>13}  {id:>3} {}", segment_name(facts, id).unwrap_or_default()))
    });
    let sizes: Vec<String> = sizes.collect();
    let room = LINES.saturating_sub(lines.len() + 6);
    let more = sizes.len().saturating_sub(room);
    let mut shown: Vec<String> = sizes.into_iter().take(if more > 0 { room.saturating_sub(1) } else { room }).collect();
    if more > 0 {
        shown.push(format!("               and {} more", more + 1));
    }
    section(&mut lines, "Segments", shown);
    lines.push(String::new());
    lines.extend(wrap(freshness(facts).text().trim(), "", 2));
    lines.push(fit(&format!("Snapshot {}", clean(&night.snapshot_id, 60))));
    lines.truncate(LINES);
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn section(lines: &mut Vec<String>, name: &str, body: Vec<String>) {
    if !body.is_empty() {
        lines.push(String::new());
        lines.push(name.to_owned());
        lines.extend(body);
    }
}

fn fit(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    let short: String = line.chars().take(WIDTH - 1).collect();
    format!("{}…", short.trim_end())
}

/// Lines of a text, the first one behind a mark and the others indented as far; no more than so many.
fn wrap(text: &str, mark: &str, most: usize) -> Vec<String> {
    let indent = " ".repeat(mark.chars().count());
    let mut lines: Vec<String> = Vec::new();
    let mut line = mark.to_owned();
    let mut empty = true;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let longer = line.chars().count() + usize::from(!empty) + word.chars().count();
        if longer > WIDTH && !empty {
            lines.push(std::mem::replace(&mut line, indent.clone()));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line);
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            let kept: String = last.chars().take(WIDTH - 2).collect();
            *last = format!("{kept} …");
        }
    }
    lines.iter().map(|line| fit(line)).collect()
}
