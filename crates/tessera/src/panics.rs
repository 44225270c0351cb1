//! Panics that are none of ours.
//!
//! Whoever reads the results may stop, as `head` does: then there is nobody left to tell. And what reads files of others' making is a
//! library that may panic over a damaged one: that is an error like another, which names what to do.

use std::sync::OnceLock;

/// Parts of the paths of libraries that read files.
const READERS: [&str; 5] = ["/parquet-", "/arrow-ipc-", "/calamine-", "/zip-", "/quick-xml-"];

/// What the first of them said that panicked.
static GAVE_UP: OnceLock<String> = OnceLock::new();

/// Takes over what is said of panics.
pub fn install() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        // The signal that ends other programs then would also end ours when a connection closes.
        if said.starts_with("failed printing to stdout") && said.contains("Broken pipe") {
            std::process::exit(0);
        }
        if panic.location().is_some_and(|place| of_a_reader(place.file())) {
            tracing::debug!("the reader of a file gave up: {said}");
            GAVE_UP.get_or_init(|| said.to_owned());
            return;
        }
        others(panic);
    }));
}

fn of_a_reader(path: &str) -> bool {
    let path = path.replace('\\', "/");
    READERS.iter().any(|part| path.contains(part))
}

/// What the reader of a file said when it gave up, if one did.
pub fn reader_gave_up() -> Option<&'static str> {
    GAVE_UP.get().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_of_files_are_known_by_their_place() {
        assert!(of_a_reader("/root/.cargo/registry/src/index/arrow-ipc-59.3.2/src/convert.rs"));
        assert!(of_a_reader("C:\\cargo\\registry\\src\\index\\parquet-59.3.2\\src\\x.rs"));
        assert!(!of_a_reader("crates/tessera-engine/src/source/parquet.rs"));
    }
}
