use std::collections::BTreeSet;

use regex::Regex;

use super::*;

fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let pages = [("console", CONSOLE_HTML), ("frame", FRAME_HTML), ("demo", DEMO_HTML), ("loader", LOADER_JS)];
    pages.into_iter().chain(ASSETS.iter().map(|(name, _, text)| (*name, *text)))
}

#[test]
fn no_file_parses_text_as_html_or_runs_it() {
    for (name, text) in all() {
        for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
            assert!(!text.contains(word), "{name} uses {word}");
        }
    }
}

#[test]
fn pages_have_no_inline_scripts_or_styles_and_nothing_from_elsewhere() {
    let inline = Regex::new(
        r#"(?i)<script(?:\s[^>]*)?>\s*[^<\s]|\son\w+\s*=|\sstyle\s*=|<style|<[a-z][^>]*(?:src|href)\s*=\s*"https?:"#,
    )
    .unwrap();
    for (name, page) in [("console", CONSOLE_HTML), ("frame", FRAME_HTML), ("demo", DEMO_HTML)] {
        assert!(!inline.is_match(page), "{name}: {:?}", inline.find(page));
    }
}

#[test]
fn every_file_that_a_page_or_module_names_is_there() {
    let imports = Regex::new(r#"from "\./([\w.-]+)"|/(?:console|widget)/assets/([\w.-]+)"#).unwrap();
    for (name, text) in all() {
        for found in imports.captures_iter(text) {
            let wanted = found.get(1).or(found.get(2)).expect("one of both").as_str();
            assert!(asset(wanted).is_some(), "{name} names {wanted}");
        }
    }
}

fn words(name: &str) -> BTreeSet<String> {
    let keys = Regex::new(r"(?m)(?:^\s+|[,}] )(\w+): [\x22{]").unwrap();
    let plurals = ["one", "few", "many", "other"];
    let text = asset(name).expect("it is there").body;
    keys.captures_iter(text).map(|found| found[1].to_string()).filter(|key| !plurals.contains(&key.as_str())).collect()
}

#[test]
fn the_console_says_everything_in_both_languages() {
    let (en, ru) = (words("words-en.js"), words("words-ru.js"));
    assert!(en.len() > 150, "{en:?}");
    assert_eq!(en, ru);
}

#[test]
fn every_word_that_the_console_says_is_in_the_dictionary() {
    let said = Regex::new(r#"\bt\("(\w+)""#).unwrap();
    let mut known = words("words-en.js");
    // A key of its own and also a plural form.
    known.insert("other".to_string());
    for (name, text) in all() {
        for found in said.captures_iter(text) {
            assert!(known.contains(&found[1]), "{name} says {:?}", &found[1]);
        }
    }
}
